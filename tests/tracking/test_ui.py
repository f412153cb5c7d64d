import json
import math
import socket
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from recording import BITS, COST, write

from invact.config import Config
from invact.errors import EnvironmentFault, InputError
from invact.tracking.store import open_store
from invact.training.results import Scores


def test_a_taken_port_and_an_invalid_port_are_refused(store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(EnvironmentFault, match="Use port 0 for any free port"):
            store.ui(taken.getsockname()[1])
    with pytest.raises(InputError, match="port: received 70000"):
        store.ui(70_000)


@pytest.mark.slow
def test_the_server_shows_the_files_of_a_store_that_was_moved(store, folder):
    with store.record("mine", "sweep", "abc", {"a.toml": "text"}) as record:
        write(record, 0, Config())
    moved = folder.rename(folder.with_name("moved"))
    with open_store(moved, read_only=True).ui(0) as server:
        command = Path(f"/proc/{server.process.pid}/cmdline").read_text()
        assert "mlflow" in command
        assert "sqlite" not in command, "every user of the machine can see the arguments"
        address = f"{server.url}/get-artifact?run_id={record.run_id}&path=a.toml"
        with urllib.request.urlopen(address, timeout=20) as answer:
            assert answer.read() == b"text"


@pytest.mark.slow
def test_the_server_shows_records_and_accepts_new_ones(store, folder):
    with store.record("mine", "sweep", "abc") as record:
        run_id, _ = write(record, 0, Config())
    with store.ui(0) as server:
        assert server.url.startswith("http://127.0.0.1:")

        def get(path: str) -> bytes:
            with urllib.request.urlopen(f"{server.url}/{path}", timeout=20) as answer:
                return answer.read()

        assert b"<title>MLflow</title>" in get("")
        run = json.loads(get(f"api/2.0/mlflow/runs/get?run_id={run_id}"))["run"]
        assert {"key": "test/accuracy", "value": 0.6} in [
            {key: metric[key] for key in ("key", "value")} for metric in run["data"]["metrics"]
        ]
        assert get(f"get-artifact?run_id={run_id}&path=cost.csv").startswith(b"name,kind,output_shape,macs")
        # A store with the address of the server supports the same operations as a store in a folder.
        remote = open_store(tracking_uri=server.url)
        with remote.record("far", "claim", "abc", {"a.toml": "text"}) as record:
            run_id, _ = write(record, 0, Config(), test=Scores(0.1 + 0.2, math.inf))
            (row,) = record.table().to_dict("records")
            assert (row["test_accuracy"], row["macs"]) == (0.1 + 0.2, COST.macs)
            assert math.isnan(row["test_loss"])
            np.testing.assert_array_equal(record.correct(run_id, BITS.size), BITS)
        assert remote.latest("far").run_id == record.run_id
        with pytest.raises(InputError, match="which has its own pages"):
            remote.ui()
    assert server.process.poll() is not None
    assert store.latest("far").table()["run_id"].tolist() == [run_id]
