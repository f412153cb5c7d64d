import math
import os
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from recording import write

from invact.config import Config
from invact.errors import EnvironmentFault, InputError
from invact.tracking.provenance import versions
from invact.tracking.store import Store, open_store
from invact.training.results import Status


def test_a_record_is_continued_and_changed_settings_are_stored(store):
    with store.record("mine", "sweep", "abc", params={"trials": 2, "seeds": (0, 1)}) as first:
        write(first, 0, Config(), 0, 2)
    assert not first.resumed
    with store.record("mine", "sweep", "abc", params={"trials": 4, "seeds": (0, 1), "extra": "x"}) as second:
        assert second.resumed
        assert second.run_id == first.run_id
        assert store.runs.client.get_run(second.run_id).info.status == "RUNNING"
        write(second, 0, Config(), 1, 2)
        second.finish_trial(0)
    run = store.runs.client.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"trials": "2", "seeds": "[0, 1]", "extra": "x"}
    assert run.data.tags["now.trials"] == "4"
    assert "now.seeds" not in run.data.tags
    assert list(second.table()["seed"]) == [0, 1]
    children = store.runs.search([second.experiment], f"tags.`mlflow.parentRunId` = '{first.run_id}'")
    assert len(children) == 1, "the trial has the same parent run in both sessions"
    other = store.record("mine", "sweep", "abd")
    assert (other.resumed, other.run_id == first.run_id) == (False, False)
    other.close()


def test_each_run_keeps_the_versions_of_its_session(store, monkeypatch, capfd):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    with store.record("mine", "sweep", "abc") as first:
        write(first, 0, Config(), 0, 1)
    assert capfd.readouterr().err == ""
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    changed = versions() | {"tensorflow": "2.99.0"}
    monkeypatch.setattr("invact.tracking.provenance.versions", lambda: changed)
    for _ in range(2):
        with store.record("mine", "sweep", "new", earlier=["none", "abc"]) as second:
            write(second, 1, Config(), 0, 1)
        assert second.run_id == first.run_id
    tensorflow = versions()["tensorflow"]
    assert capfd.readouterr().err == (
        "invact: warning: sweep mine continues under other versions or variables, which may change last "
        f"digits: tensorflow {tensorflow} -> 2.99.0, TF_ENABLE_ONEDNN_OPTS 0 -> unset, NVIDIA_TF32_OVERRIDE "
        "unset -> 1. Each run keeps its own\n"
    )
    # Newest first: two runs of the second session and of the third, and one of the first.
    runs = store.runs.search([first.experiment], f"tags.`invact.root` = '{first.run_id}'")
    kept = [
        (run.data.tags["version.tensorflow"], "environment.TF_ENABLE_ONEDNN_OPTS" in run.data.tags)
        for run in runs
    ]
    assert kept == [("2.99.0", False)] * 2 + [(tensorflow, True)]
    assert first.tags["invact.identity"] == "abc"


def clone(folder: Path, run_id: str, count: int) -> None:
    """Copy a run in the database; each copy has its own seed."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        for table, only in {
            "runs": "1",
            "tags": "key LIKE 'invact.%'",
            "latest_metrics": "key = 'test/loss'",
        }.items():
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            (where, marks) = f"run_uuid = ? AND {only}", ", ".join("?" * len(columns))
            copies = [
                {**dict(zip(columns, row, strict=True)), "run_uuid": f"{number:032x}"}
                for row in connection.execute(f"SELECT * FROM {table} WHERE {where}", [run_id]).fetchall()
                for number in range(1, count + 1)
            ]
            for copy in copies:
                if copy.get("key") == "invact.seed":
                    copy["value"] = str(int(copy["run_uuid"], 16))
            connection.executemany(
                f"INSERT INTO {table} VALUES ({marks})", [list(copy.values()) for copy in copies]
            )
        connection.commit()


def test_more_runs_than_a_page_are_all_read(folder, store, record):
    run_id, _ = write(record, 0, Config())
    clone(folder, run_id, 1_080)
    table = record.table()
    assert list(table["seed"]) == list(range(1_081))
    assert (table["test_loss"] == math.pi).all()
    small = Store(replace(store.runs.opened(), page=500), folder)
    assert list(small.latest("mine").table()["seed"]) == list(range(1_081))


def test_records_are_listed_with_their_counts(store):
    with store.record("mine", "sweep", "abc", driver="optuna") as record:
        write(record, 0, Config())
        write(record, 1, Config(), status=Status.OVER_BUDGET)
        write(record, 2, Config(), 0, 2)
        write(record, 2, Config(), 1, 2)
        record.finish_trial(2)
    store.record("mine", "sweep", "abd", driver="keras_tuner").close("KILLED")
    store.record("other", "claim", "abe").close("FAILED")
    records = store.records()
    assert [(each.name, each.kind, each.driver, each.status) for each in records] == [
        ("other", "claim", "", "FAILED"),
        ("mine", "sweep", "keras_tuner", "KILLED"),
        ("mine", "sweep", "optuna", "FINISHED"),
    ]
    assert records[-1].counts == {Status.FINISHED: 3, Status.OVER_BUDGET: 1}
    assert records[-1].run_id == record.run_id
    assert abs(records[0].started.timestamp() - time.time()) < 60
    assert store.records("other") == records[:1]
    with store.record("other", "claim", "abe") as running:
        write(running, 0, Config())
        (info,) = store.records("other")
        assert (info.status, info.counts) == ("RUNNING", {Status.FINISHED: 1})
    assert store.records("nobody") == []
    assert store.latest("mine").run_id == records[1].run_id
    assert store.latest("mine", "sweep", "optuna").run_id == record.run_id
    with pytest.raises(InputError, match="received 'mime'; did you mean 'mine'"):
        store.latest("mime")
    with pytest.raises(InputError, match="received 'mine', which has no claim"):
        store.latest("mine", "claim")


def test_an_empty_store_is_reported(store):
    assert store.records() == []
    with pytest.raises(InputError, match="has no records yet"):
        store.latest("mine")


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a\0b", "a\nb", "x" * 300, "", "a'b", "Default"])
def test_bad_names_are_refused(store, name):
    with pytest.raises(InputError, match="name: received"):
        store.record(name, "sweep", "abc")
    with pytest.raises(InputError, match="name: received"):
        store.latest(name)
    assert sorted(path.name for path in store.folder.iterdir() if not path.name.startswith("mlflow.db")) == [
        "locks"
    ]


def test_a_bad_identity_is_refused(store):
    with pytest.raises(InputError, match="identity: received"):
        store.record("mine", "sweep", "' or ''='")


def test_a_deleted_experiment_is_explained(store, record):
    record.close()
    store.runs.client.delete_experiment(record.experiment)
    with pytest.raises(EnvironmentFault, match=r"experiment 'mine' was deleted\. To restore it: mlflow exp"):
        store.record("mine", "sweep", "abc123")


def test_reading_does_not_wait_for_writing(folder, store):
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_default_store_is_in_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    folder.rename("mlruns")
    store = open_store()
    assert store.folder == folder.parent / "mlruns"
    assert store.uri == f"sqlite:///{folder.parent}/mlruns/mlflow.db"
    assert open_store(tracking_uri="sqlite:///mlruns/mlflow.db").uri == store.uri


@pytest.mark.parametrize("name", ["with space", "a#b", "ü'&"])
def test_a_store_folder_can_have_any_name(folder, name):
    moved = folder.rename(folder.with_name(name))
    with open_store(moved).record("mine", "sweep", "abc", {"a.toml": "text"}) as record:
        run_id, _ = write(record, 0, Config(), model=b"bytes")
    assert record.model(run_id) == b"bytes"
    assert (moved / "artifacts" / "mine" / run_id / "artifacts" / "model.keras").is_file()
    assert sorted(path.name for path in moved.parent.iterdir()) == [name]


@pytest.mark.parametrize("name", ["50%", "what?", "a\0b"])
def test_folders_whose_address_mlflow_would_change_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="Allowed: a path without"):
        open_store(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def corrupt(path: Path) -> Path:
    path.mkdir()
    (path / "mlflow.db").write_bytes(b"not a database, " * 1_000)
    return path


def in_place(path: Path) -> Path:
    path.write_text("a file")
    return path


def directory(path: Path) -> Path:
    (path / "mlflow.db").mkdir(parents=True)
    return path


@pytest.mark.parametrize("make", [corrupt, in_place, directory, lambda path: Path("/proc/invact")])
def test_a_store_that_cannot_be_opened_is_reported_in_one_line(tmp_path, make, caplog):
    with pytest.raises(EnvironmentFault) as caught:
        open_store(make(tmp_path / "store"))
    assert "\n" not in str(caught.value)
    assert not caplog.records


def test_a_database_of_a_newer_mlflow_is_read_and_not_written(folder, store):
    store.record("mine", "sweep", "abc").close()
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        connection.commit()
    assert [one.name for one in open_store(folder, read_only=True).records()] == ["mine"]
    with pytest.raises(EnvironmentFault, match="made by a newer MLflow"):
        open_store(folder)
    with pytest.raises(EnvironmentFault, match="made by a newer MLflow"):
        open_store(folder, read_only=True).ui(0)


@pytest.mark.parametrize(
    "uri", ["file:///tmp/x", "mlruns", "sqlite://", "http:", "ftp://x", "http://x:port", ""]
)
def test_invalid_addresses_are_refused(uri):
    with pytest.raises(InputError, match="tracking_uri: received"):
        open_store(tracking_uri=uri)
    with pytest.raises(InputError, match="Allowed: one of them"):
        open_store(Path("x"), tracking_uri=uri)


def test_an_unreachable_server_is_reported_at_once():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(EnvironmentFault, match="no server answers"):
            open_store(tracking_uri=f"http://127.0.0.1:{closed.getsockname()[1]}")


def test_loading_invact_does_not_load_mlflow():
    names = ("store", "record", "stored", "table", "ui", "provenance")
    names = (*names, *(f"backend.{name}" for name in ("opening", "places", "lock", "reading")))
    modules = ", ".join(["invact", *(f"invact.tracking.{name}" for name in names)])
    code = (
        f"import sys, {modules}; assert not {{'mlflow', 'tensorflow', 'keras', 'optuna'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
