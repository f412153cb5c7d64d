import io
import json
import math
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invact.config import Config
from invact.cost.count import Cost, LayerCost
from invact.data.dataset import load
from invact.errors import EnvironmentFault, InputError
from invact.tracking.provenance import commit, versions
from invact.tracking.record import Record
from invact.tracking.store import Store, open_store
from invact.tracking.table import COLUMNS, current
from invact.training.results import Epoch, Scores, Status, TrialResult

COST = Cost(
    (
        LayerCost("conv", "Conv2D", (None, 8, 8, 16), 9_007_199_254, 160, 16, 0),
        LayerCost("dense", "Dense", (None, 10), 10_240, 10_250, 10, 0),
    )
)
BITS = np.random.default_rng(0).random(1_803) < 0.9


def a_result(
    config: Config, seed: int = 0, status: Status = Status.FINISHED, **values: object
) -> TrialResult:
    given = {
        "cost": COST,
        "train": Scores(0.1 + seed, 0.3),
        "validation": Scores(0.7, 1 / 3),
        "test": Scores(0.6, math.pi),
        "seconds": 1.25,
        "images_per_second": 1e4 / 3,
        "correct": np.packbits(BITS).tobytes(),
    }
    return TrialResult(config, seed, status, **(given | values))


def an_epoch(number: int) -> Epoch:
    return Epoch(number, Scores(number / 10, 2.0 - number / 10), Scores(number / 20, 2.0), 0.5)


def write(
    record: Record, trial: int, config: Config, seed: int = 0, seeds: int = 1, **values: object
) -> tuple[str, TrialResult]:
    run_id = record.start(trial, config, seed, seeds, f"arm {trial}", {"filters": config.filters})
    result = a_result(config, seed, **values)
    record.finish(run_id, result)
    return run_id, result


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    open_store(folder)
    return folder / "mlflow.db"


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    # The tables take two seconds to make.
    folder = tmp_path / "store"
    folder.mkdir()
    with closing(sqlite3.connect(template)) as source, closing(sqlite3.connect(folder / "mlflow.db")) as copy:
        source.backup(copy)
    return folder


@pytest.fixture
def store(folder: Path) -> Store:
    return open_store(folder)


@pytest.fixture
def record(store: Store) -> Iterator[Record]:
    record = store.record("mine", "sweep", "abc123")
    yield record
    with suppress(EnvironmentFault):
        record.close()


def test_a_result_is_read_back_bit_for_bit(store, record):
    config = Config(filters=(8, 12), activation=("inverse", "relu"), learning_rate=0.1 + 0.2)
    varied = {"filters": 8, "rate": 0.1 + 0.2, "whole": 2.0, "arm": "inverse", "wide": True}
    run_id = record.start(3, config, 2**32 - 1, 1, "inverse 8", varied)
    for number in (1, 2):
        record.epoch(run_id, an_epoch(number))
    result = a_result(config, 2**32 - 1)
    record.finish(run_id, result, {"overrun": -0.25, "latency_ms": 0.75})
    table = store.latest("mine").table()
    (row,) = table.to_dict("records")
    assert tuple(table.columns) == (*COLUMNS, *(f"param.{name}" for name in varied), "config_json")
    assert row["run_id"] == run_id
    assert (row["trial"], row["seed"], row["label"]) == (3, 2**32 - 1, "inverse 8")
    assert (row["status"], row["error"]) == ("FINISHED", "")
    assert row["config"] == config.digest()
    assert Config.model_validate_json(row["config_json"]) == config
    assert [row[name] for name in ("macs", "params", "filters")] == [9_007_209_494, 10_410, 26]
    for split in ("train", "validation", "test"):
        assert Scores(row[f"{split}_accuracy"], row[f"{split}_loss"]) == getattr(result, split)
    assert (row["seconds"], row["images_per_second"], row["overrun"]) == (1.25, 1e4 / 3, -0.25)
    for name, value in varied.items():
        assert row[f"param.{name}"] == value
        assert type(row[f"param.{name}"]) is type(value)
    np.testing.assert_array_equal(record.correct(run_id, BITS.size), BITS)


def test_mlflow_shows_the_curves_the_params_and_the_cost_by_layer(store, record):
    config = Config(model="mine.nets:tall", options={"width": 3, "deep": False}, filters=32)
    run_id = record.start(0, config, 7, 1, "wide", {"filters": 32})
    for number in (1, 2, 3):
        record.epoch(run_id, an_epoch(number))
    record.finish(run_id, a_result(config, 7))
    client = store.runs.client
    history = client.get_metric_history(run_id, "validation/accuracy")
    assert [(point.step, point.value) for point in history] == [(1, 0.05), (2, 0.1), (3, 3 / 20)]
    run = client.get_run(run_id)
    shown = {
        "filters": "32",
        "param.filters": "32",
        "seed": "7",
        "options.width": "3",
        "options.deep": "false",
    }
    assert shown.items() <= run.data.params.items()
    assert run.data.tags["mlflow.parentRunId"] == record.run_id
    assert run.info.run_name == "0 wide"
    table = pd.read_csv(io.BytesIO(store.runs.read(run_id, "cost.csv")))
    assert table["macs"].sum() == COST.macs
    assert list(table["name"]) == ["conv", "dense"]


def test_the_data_set_is_a_reference_not_its_arrays(store):
    data = load("digits")
    with store.record("mine", "sweep", "abc", data=data) as record:
        run_id, _ = write(record, 0, Config())
    import mlflow.data

    for each in (record.run_id, run_id):
        (found,) = store.runs.client.get_run(each).inputs.dataset_inputs
        assert (found.dataset.name, found.dataset.digest) == ("digits", data.digest)
        assert json.loads(found.dataset.profile)["train"] == data.train_count
        assert mlflow.data.get_source(found.dataset).to_dict()["tags"]["split_seed"] == 0


def test_seeds_are_grandchildren_and_only_the_page_of_their_parent_has_means(store, record):
    config = Config()
    runs = [write(record, 4, config, seed, 2, test=Scores(0.25 + seed / 2, 1.0))[0] for seed in (0, 1)]
    record.finish_trial(4)
    client = store.runs.client
    (parent,) = {client.get_run(run_id).data.tags["mlflow.parentRunId"] for run_id in runs}
    child = client.get_run(parent)
    assert child.data.tags["mlflow.parentRunId"] == record.run_id
    assert child.data.metrics["test/accuracy"] == 0.5
    assert child.data.metrics["cost/macs"] == COST.macs
    assert (child.info.status, child.data.tags["invact.status"]) == ("FINISHED", "FINISHED")
    table = record.table()
    assert list(table["test_accuracy"]) == [0.25, 0.75]
    assert list(table["seed"]) == [0, 1]


@pytest.mark.parametrize(
    ("statuses", "expected", "mlflow"),
    [
        ([Status.FINISHED, Status.DIVERGED], "DIVERGED", "FINISHED"),
        ([Status.FINISHED, Status.FAILED], "FAILED", "FAILED"),
        ([Status.OVER_BUDGET, Status.OVER_BUDGET], "OVER_BUDGET", "FINISHED"),
    ],
)
def test_a_trial_is_as_good_as_its_worst_seed(store, record, statuses, expected, mlflow):
    for seed, status in enumerate(statuses):
        write(record, 0, Config(), seed, 2, status=status)
    record.finish_trial(0)
    runs = store.runs.search([record.experiment], f"tags.`mlflow.parentRunId` = '{record.run_id}'")
    assert [(run.data.tags["invact.status"], run.info.status) for run in runs] == [(expected, mlflow)]


def test_every_way_to_end_has_its_row_and_what_was_not_measured_is_missing(store, record):
    config = Config()
    nothing = {"train": None, "validation": None, "test": None, "correct": b""}
    run_id = record.start(0, config, 0, 1, "", {})
    record.finish(run_id, a_result(config, status=Status.OVER_BUDGET, **nothing), {"overrun": 0.5})
    infinite = {
        "train": Scores(0.1, math.inf),
        "validation": Scores(0.1, math.nan),
        "test": Scores(0.1, -math.inf),
    }
    write(record, 1, config, status=Status.DIVERGED, error="loss inf", **infinite)
    write(record, 2, config, status=Status.FAILED, error="out of memory", cost=None, **nothing)
    record.start(3, config, 0, 1, "killed", {})
    record.close()
    table = store.latest("mine").table().set_index("trial")
    assert list(table["status"]) == ["OVER_BUDGET", "DIVERGED", "FAILED"]
    assert list(table["error"]) == ["", "loss inf", "out of memory"]
    assert table.loc[0, "overrun"] == 0.5
    assert table.loc[0, "macs"] == COST.macs
    assert table.loc[1, ["train_loss", "validation_loss", "test_loss"]].isna().all()
    assert table.loc[1, "test_accuracy"] == 0.1
    assert table.loc[2, ["macs", "params", "filters", "test_accuracy"]].isna().all()
    assert table["macs"].dropna().astype(int).tolist() == [COST.macs, COST.macs]
    with pytest.raises(InputError, match=r"has no file 'correct\.npy'"):
        record.correct(run_id, 8)


def test_a_failed_run_has_a_row_until_it_is_tried_again(record):
    config = Config()
    write(record, 0, config, status=Status.FAILED, error="no memory")
    assert list(record.table()["status"]) == ["FAILED"]
    again, _ = write(record, 0, config)
    write(record, 0, config, status=Status.FAILED)
    table = record.table()
    assert list(table["status"]) == ["FINISHED"]
    assert list(table["run_id"]) == [again]


def test_conditional_parameters_keep_their_type(record):
    for trial, varied in enumerate([{"a": 1}, {"b": True}, {"a": 3}]):
        record.finish(record.start(trial, Config(), 0, 1, "", varied), a_result(Config()))
    table = record.table()
    assert list(table["param.a"]) == [1, None, 3]
    assert [type(value) for value in table["param.a"]] == [int, type(None), int]
    assert list(table["param.b"]) == [None, True, None]


def test_an_empty_table_has_its_columns(record):
    table = record.table()
    assert tuple(table.columns) == (*COLUMNS, "config_json")
    assert table.empty


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.integers(0, 2), st.sampled_from(["FINISHED", "FAILED", "KILLED", "RUNNING"])
        )
    )
)
def test_one_run_counts_for_each_trial_and_seed(values):
    from types import SimpleNamespace as Some

    runs = [
        Some(
            info=Some(status=status, start_time=moment, number=moment),
            data=Some(tags={"invact.trial": str(trial), "invact.seed": str(seed)}),
        )
        for moment, (trial, seed, status) in enumerate(values)
    ]
    expected = {}
    for wanted in ("FAILED", "FINISHED"):
        for moment, (trial, seed, status) in enumerate(values):
            if status == wanted:
                expected[trial, seed] = moment
    assert [run.info.number for run in current(reversed(runs))] == [expected[key] for key in sorted(expected)]


def test_models_files_and_summaries(store, tmp_path):
    with store.record("mine", "claim", "abc", {"claim.toml": "margin = 0.01\n"}, {"margin": 0.01}) as record:
        kept, _ = write(record, 0, Config(), model=b"PK\3\4 kept")
        later, _ = write(record, 1, Config())
        with pytest.raises(InputError, match=r"has no file 'model\.keras'"):
            record.model(later)
        record.log_model(later, b"PK\3\4 later")
        (tmp_path / "front").mkdir()
        (tmp_path / "front" / "front.csv").write_text("macs,accuracy\n1,0.5\n")
        record.log_folder(tmp_path / "front", "front")
        record.summarize({"front/size": 1.0}, {"verdict": "NON_INFERIOR"})
    assert record.model(kept) == b"PK\3\4 kept"
    assert record.model(later) == b"PK\3\4 later"
    assert store.runs.read(record.run_id, "claim.toml") == b"margin = 0.01\n"
    run = store.runs.client.get_run(record.run_id)
    assert (run.data.tags["verdict"], run.data.metrics["front/size"]) == ("NON_INFERIOR", 1.0)
    front = store.folder / "artifacts" / "mine" / record.run_id / "artifacts" / "front" / "front.csv"
    assert front.read_text() == "macs,accuracy\n1,0.5\n"


def test_another_number_of_test_images_is_refused(record):
    run_id, _ = write(record, 0, Config())
    with pytest.raises(InputError, match="count: received 1792"):
        record.correct(run_id, 1_800 - 8)


def test_what_computed_a_number_is_written_with_it(store, record):
    run_id, _ = write(record, 0, Config())
    for each in (record.run_id, run_id):
        tags = store.runs.client.get_run(each).data.tags
        assert {f"version.{name}": version for name, version in versions().items()}.items() <= tags.items()
    assert tags["version.python"] == sys.version.split()[0]


def test_the_commit_is_that_of_the_working_tree(tmp_path):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)
        return done.stdout.decode().strip()

    assert commit(tmp_path) is None
    git("init", "--quiet")
    assert commit(tmp_path) is None
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "--quiet", "-m", "one")
    assert commit(tmp_path) == (git("rev-parse", "HEAD"), False)
    (tmp_path / "a").write_text("2")
    assert commit(tmp_path) == (git("rev-parse", "HEAD"), True)


def test_a_record_is_continued_and_settings_that_changed_are_seen(store):
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
    assert len(children) == 1, "the trial's run is the same in both sessions"
    other = store.record("mine", "sweep", "abd")
    assert (other.resumed, other.run_id == first.run_id) == (False, False)
    other.close()


def test_more_than_a_hundred_params_are_kept(store):
    params = {f"p{number}": number for number in range(250)}
    with store.record("mine", "sweep", "abc", params=params) as record:
        found = store.runs.client.get_run(record.run_id).data.params
    assert found == {key: str(value) for key, value in params.items()}


def test_a_configuration_too_long_for_a_tag_is_refused_rather_than_cut(record):
    config = Config(model="a.b:c", options={"text": "x" * 9_000})
    with pytest.raises(InputError, match=r"config: received 9\d\d\d characters of JSON. Allowed: 8000"):
        record.start(0, config, 0, 1, "", {})


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (ValueError(), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_how_a_record_ends(store, error, status):
    try:
        with store.record("mine", "sweep", "abc") as record:
            running = record.start(0, Config(), 0, 2, "", {})
            if error:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    client = store.runs.client
    assert client.get_run(record.run_id).info.status == status
    run = client.get_run(running)
    assert run.info.status == "KILLED"
    assert client.get_run(run.data.tags["mlflow.parentRunId"]).info.status == "KILLED"
    assert record.table().empty


WRITER = """
import sys, time
from pathlib import Path
from invact.config import Config
from invact.training.results import Scores, Status, TrialResult
from invact.tracking.store import open_store
record = open_store(Path(sys.argv[1])).record("mine", "sweep", "abc")
record.finish(record.start(0, Config(), 0, 1, "", {}), TrialResult(Config(), 0, Status.FINISHED))
record.start(1, Config(), 0, 1, "", {})
print("ready", flush=True)
time.sleep(60)
"""


def test_a_killed_writer_leaves_its_results_and_nothing_else(folder, store):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        with pytest.raises(EnvironmentFault, match=rf"sweep mine is being run by process {writer.pid} on "):
            store.record("mine", "sweep", "abc")
        store.record("mine", "sweep", "other").close()
        assert len(store.latest("mine").table()) == 0, "the newest of the name is the other"
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    finally:
        writer.kill()
        writer.communicate()
    with store.record("mine", "sweep", "abc") as record:
        assert record.resumed
        assert list(record.table()["trial"]) == [0]
        runs = store.runs.search([record.experiment], f"tags.`mlflow.parentRunId` = '{record.run_id}'")
        assert sorted(run.info.status for run in runs) == ["FINISHED", "KILLED"]


def clone(folder: Path, run_id: str, count: int) -> None:
    """Copy a run in the database, with a seed of its own for each copy."""
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
    small = Store(replace(store.runs, page=500), folder)
    assert list(small.latest("mine").table()["seed"]) == list(range(1_081))


def test_the_list_of_records(store):
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


def test_an_empty_store_says_so(store):
    assert store.records() == []
    with pytest.raises(InputError, match="has no records"):
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
    with pytest.raises(
        EnvironmentFault, match=r"experiment 'mine' was deleted\. To have it back: mlflow exp"
    ):
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
def test_folders_of_any_name(folder, name):
    moved = folder.rename(folder.with_name(name))
    with open_store(moved).record("mine", "sweep", "abc", {"a.toml": "text"}) as record:
        run_id, _ = write(record, 0, Config(), model=b"bytes")
    assert record.model(run_id) == b"bytes"
    assert (moved / "artifacts" / "mine" / run_id / "artifacts" / "model.keras").is_file()
    assert sorted(path.name for path in moved.parent.iterdir()) == [name]


@pytest.mark.parametrize("name", ["50%", "what?", "a\0b"])
def test_folders_that_mlflow_would_take_for_others_are_refused(tmp_path, name):
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
def test_a_store_that_cannot_be_opened_is_one_line(tmp_path, make, caplog):
    with pytest.raises(EnvironmentFault) as caught:
        open_store(make(tmp_path / "store"))
    assert "\n" not in str(caught.value)
    assert not caplog.records


@pytest.mark.parametrize(
    ("revision", "expected"), [("ffffffffffff", "made by a newer MLflow"), ("451aebb31d03", "out-of-date")]
)
def test_a_database_of_another_mlflow_is_left_alone(folder, revision, expected):
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
        connection.commit()
    with pytest.raises(EnvironmentFault, match=expected):
        open_store(folder)


def test_a_full_disk_is_one_line(record, capfd):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(EnvironmentFault) as caught:
            write(record, 0, Config())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert "\n" not in str(caught.value)
    assert "mlflow.db: " in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert record.table().empty
    write(record, 1, Config())
    assert list(record.table()["trial"]) == [1]


@pytest.mark.parametrize(
    "uri", ["file:///tmp/x", "mlruns", "sqlite://", "http:", "ftp://x", "http://x:port", ""]
)
def test_addresses_that_are_none(uri):
    with pytest.raises(InputError, match="tracking_uri: received"):
        open_store(tracking_uri=uri)
    with pytest.raises(InputError, match="Allowed: one of them"):
        open_store(Path("x"), tracking_uri=uri)


def test_a_server_out_of_reach_is_told_at_once():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(EnvironmentFault, match="no server answers"):
            open_store(tracking_uri=f"http://127.0.0.1:{closed.getsockname()[1]}")


def test_a_port_that_is_taken_or_is_none(store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(EnvironmentFault, match="Port 0 takes any free one"):
            store.ui(taken.getsockname()[1])
    with pytest.raises(InputError, match="port: received 70000"):
        store.ui(70_000)


@pytest.mark.slow
def test_the_pages_show_what_was_recorded_and_take_what_is_sent(store, folder):
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
        # The same by way of the server: everything that a folder's store does.
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


def test_loading_invact_does_not_load_mlflow():
    names = ("store", "record", "table", "ui", "lock", "provenance")
    modules = ", ".join(["invact", *(f"invact.tracking.{name}" for name in names)])
    code = (
        f"import sys, {modules}; assert not {{'mlflow', 'tensorflow', 'keras', 'optuna'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
