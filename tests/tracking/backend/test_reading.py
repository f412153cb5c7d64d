"""What is read without MLflow is what MLflow reads."""

import math
from pathlib import Path

import pytest
from recording import a_result, write

from invact.config import Config
from invact.errors import EnvironmentFault, InputError
from invact.tracking.backend.reading import StoredRuns
from invact.tracking.store import Store, open_store
from invact.tracking.table import ROOT, tagged
from invact.training.results import Status


@pytest.fixture
def filled(store: Store) -> Store:
    """Two sweeps and a claim, with a failed run, a run that has no value, a running run and a deleted one."""
    for name, kind in (("mine", "sweep"), ("mine", "claim"), ("other", "sweep")):
        with store.record(
            name, kind, "abc", {"settings.json": "{}"}, {"trials": 3}, driver="optuna"
        ) as record:
            write(record, 0, Config(), 0, 1)
            run_id = record.start(1, Config(filters=3), 5, 1, "it's a 'label'", {"filters": 3})
            record.finish(run_id, a_result(Config(filters=3), 5), {"overrun": math.nan})
    record.start(2, Config(filters=4), 0, 1, "running", {})
    store.runs.client.delete_run(run_id)
    return store


def same(ours, theirs) -> None:
    assert [run.info.run_id for run in ours] == [run.info.run_id for run in theirs]
    for one, other in zip(ours, theirs, strict=True):
        for name in vars(one.info):
            assert getattr(one.info, name) == getattr(other.info, name), name
        assert one.data.tags == other.data.tags
        assert one.data.params == other.data.params
        assert {key: repr(value) for key, value in one.data.metrics.items()} == {
            key: repr(value) for key, value in other.data.metrics.items()
        }


def test_params_are_left_out_on_request(filled: Store, folder: Path) -> None:
    runs = StoredRuns(folder / "mlflow.db", lambda: filled.runs)
    query = "tags.`invact.seed` != ''"
    whole, part = (runs.search(list(runs.experiments()), query, params=params) for params in (True, False))
    assert whole
    assert any(run.data.params for run in whole)
    assert [(run.info, run.data.tags, run.data.metrics, {}) for run in whole] == [
        (run.info, run.data.tags, run.data.metrics, run.data.params) for run in part
    ]


def test_runs_are_those_of_mlflow(filled: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = StoredRuns(folder / "mlflow.db", lambda: filled.runs)
    assert runs.readable()
    assert runs.uri == filled.uri
    for deleted in (False, True):
        names = runs.experiments(deleted=deleted)
        assert names == filled.runs.experiments(deleted=deleted)
        (parent, *_) = filled.runs.search(list(names), "tags.`invact.kind` = 'sweep'")
        for query in (
            "tags.`invact.kind` != ''",
            "tags.`invact.kind` != '' and tags.`invact.identity` = 'abc'",
            tagged(ROOT, parent.info.run_id),
            f"{tagged(ROOT, parent.info.run_id)} and attributes.status = 'RUNNING'",
            "attributes.status != 'FINISHED' and tags.`invact.seed` = '5'",
            "tags.`none` = 'x'",
        ):
            found = runs.search(list(names), query, deleted=deleted)
            same(found, filled.runs.search(list(names), query, deleted=deleted))
            assert len(found) == len({run.info.run_id for run in found})
    assert runs.search([], "tags.`invact.kind` != ''") == []
    assert runs.tags(parent.info.run_id) == filled.runs.tags(parent.info.run_id)
    with pytest.raises(ValueError, match="query: received"):
        runs.search(["1"], "metrics.x > 1")
    every = "attributes.status != ''"
    whole = runs.search(list(names), every)
    monkeypatch.setattr("invact.tracking.backend.reading._MOST", 2)
    assert runs.search(list(names), every) == whole
    assert len(whole) > 4


def test_files_and_tables_are_those_of_mlflow(filled: Store, folder: Path) -> None:
    runs = StoredRuns(folder / "mlflow.db", lambda: filled.runs)
    (parent, *_) = runs.search(list(runs.experiments()), "tags.`invact.kind` = 'claim'")
    run_id = parent.info.run_id
    (folder / "deep").mkdir()
    (folder / "deep" / "mine.txt").touch()
    filled.runs.keep_folder(run_id, folder / "deep", "deep")
    for name in ("settings.json", "none.json", "deep/none.json", "deep/mine.txt"):
        assert runs.has(run_id, name) == filled.runs.has(run_id, name), name
    assert runs.read(run_id, "settings.json") == filled.runs.read(run_id, "settings.json") == b"{}"
    for each in (runs, filled.runs):
        with pytest.raises(InputError, match=rf"^run {run_id}: has no file 'none\.json' in file://"):
            each.read(run_id, "none.json")


def test_a_reader_of_a_folder_gets_the_same_tables_and_can_write_with_mlflow(
    filled: Store, folder: Path
) -> None:
    reader = open_store(folder, read_only=True)
    assert isinstance(reader.runs, StoredRuns)
    assert [vars(one) for one in reader.records()] == [vars(one) for one in filled.records()]
    record = reader.latest("mine", "sweep")
    assert record.table().equals(filled.latest("mine", "sweep").table())
    assert Status.FINISHED in set(record.table()["status"])
    record.keep({"later.json": b"1"})
    assert filled.latest("mine", "sweep").read("later.json") == b"1"
    for store in (reader, filled):
        with pytest.raises(
            InputError, match=r"^name: received 'mime'; did you mean 'mine'\? Allowed: mine, other$"
        ):
            store.latest("mime")


def test_what_is_no_database_is_left_to_mlflow(folder: Path) -> None:
    (folder / "garbage.db").write_bytes(b"not a database" * 100)
    for name in ("garbage.db", "missing.db"):
        runs = StoredRuns(folder / name, lambda: pytest.fail("MLflow was opened"))
        assert not runs.readable()
        with pytest.raises(EnvironmentFault) as fault:
            runs.experiments()
        assert "\n" not in str(fault.value)
    assert not (folder / "missing.db").exists()
