"""The finished runs of a store that another sweep can take over."""

import dataclasses

import pytest
from recording import a_result, an_epoch, write

from invact.config import Config
from invact.sweeps.reuse import Origin, finished_runs, sources_in
from invact.tracking.provenance import CODE, NO_CODE
from invact.tracking.reader import RecordReader
from invact.tracking.store import Store, open_store
from invact.tracking.table import TAKEN
from invact.training.results import Status

pytestmark = pytest.mark.usefixtures("quick_stores")

Found = dict[tuple[str, int, str], Origin]
RELU, INVERSE = Config(epochs=2), Config(epochs=2, activation="inverse")


@pytest.fixture(params=["sql", "mlflow"])
def reading(request, tmp_path):
    """Open the store of the folder to read it, by SQL or by MLflow."""

    def opened() -> Store:
        return open_store(tmp_path, read_only=request.param == "sql")

    return opened


def record(folder, digits, name="one", kind="sweep", **options):
    options = {"data": digits, "params": {"imports": []}} | options
    return open_store(folder).record(name, kind, "1", **options)


def finished(opened: Store, data: str, apart: str = "", config: str = "") -> Found:
    return finished_runs(opened, sources_in(opened, apart), data, config)


def units(found: Found) -> set[tuple[str, int]]:
    return {key[:2] for key in found}


def test_results_of_sweeps_and_confirmations_are_found_and_read_back(tmp_path, digits, reading) -> None:
    with record(tmp_path, digits) as one:
        run_id = one.start(0, RELU, 3, 1, "relu", {})
        one.curve(run_id, [an_epoch(1), an_epoch(2)])
        result = a_result(RELU, 3, epochs=(an_epoch(1), an_epoch(2)), model=b"a network")
        one.finish(run_id, result)
        write(one, 1, INVERSE, 0, status=Status.DIVERGED, error="the loss was nan")
        for number, status in enumerate((Status.FAILED, Status.OVER_BUDGET), 2):
            write(one, number, Config(filters=number), 0, status=status)
        one.start(9, Config(filters=9), 0, 1, "running", {})
    with record(tmp_path, digits, "two", "confirmation") as two:
        write(two, 0, RELU, 4)
    with record(tmp_path, digits, "three", "claim") as three:
        write(three, 0, RELU, 5)
    opened = reading()
    found = finished(opened, digits.digest)
    assert units(found) == {(RELU.digest(), 3), (INVERSE.digest(), 0), (RELU.digest(), 4)}
    origin = found[RELU.digest(), 3, NO_CODE]
    assert (origin.record.run_id, origin.run_id) == (one.run_id, run_id)
    assert found[RELU.digest(), 4, NO_CODE].record.kind == "confirmation"
    assert units(finished(opened, digits.digest, config=INVERSE.digest())) == {(INVERSE.digest(), 0)}
    reader = RecordReader(opened.runs, origin.record.experiment, origin.record.run_id)
    assert reader.result(run_id, RELU, 3) == dataclasses.replace(result, cost=None, model=b"")
    assert reader.model(run_id) == b"a network"
    assert units(finished(opened, digits.digest, apart=one.run_id)) == {(RELU.digest(), 4)}
    assert finished(opened, "0123") == {}


def test_only_runs_under_the_same_versions_and_variables_are_found(
    tmp_path, digits, reading, monkeypatch
) -> None:
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    with record(tmp_path, digits) as one:
        write(one, 0, RELU)
    opened = reading()
    assert len(finished(opened, digits.digest)) == 1
    with monkeypatch.context() as patch:
        patch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
        assert finished(opened, digits.digest) == {}
        with record(tmp_path, digits, "two") as two:
            write(two, 0, INVERSE)
        assert units(finished(opened, digits.digest)) == {(INVERSE.digest(), 0)}
    assert units(finished(opened, digits.digest)) == {(RELU.digest(), 0)}
    one._runs.log(next(iter(finished(opened, digits.digest).values())).run_id, tags={"version.keras": "0"})
    assert finished(opened, digits.digest) == {}


def test_the_code_of_a_run_is_part_of_its_key(tmp_path, digits, reading, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_arms.py").write_text("VALUE = 1\n")
    with record(tmp_path, digits, imports=("my_arms",)) as one:
        assert one.code(RELU) not in (NO_CODE, one.code(Config(model="no_module:build")))
        write(one, 0, RELU)
        write(one, 1, Config(model="no_module:build"))
    assert {*finished(reading(), digits.digest)} == {(RELU.digest(), 0, one.code(RELU))}


@pytest.mark.parametrize(("imports", "expected"), [([], {NO_CODE}), (["my_arms"], set())])
def test_a_run_without_a_hash_has_no_code_if_its_record_says_so(
    tmp_path, digits, reading, monkeypatch, imports, expected
) -> None:
    monkeypatch.setattr("invact.tracking.record.CODE", "not.yet")
    with record(tmp_path, digits, params={"imports": imports}) as one:
        write(one, 0, RELU)
    assert {key[2] for key in finished(reading(), digits.digest)} == expected


def test_the_trained_run_is_found_before_its_copies(tmp_path, digits, reading) -> None:
    with record(tmp_path, digits, "two") as two:
        copy = two.start(0, RELU, 0, 1, "relu", {}, {TAKEN: "another"})
        two.finish(copy, a_result(RELU))
    found = finished(reading(), digits.digest)
    assert [one.run_id for one in found.values()] == [copy]
    with record(tmp_path, digits) as one:
        run_id, _ = write(one, 0, RELU)
    found = finished(reading(), digits.digest)
    assert [one.run_id for one in found.values()] == [run_id]
    assert CODE in two._runs.tags(copy)
