"""A sweep whose record is complete is only read; whatever is missing or old is written by a session."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from killed import Killed, killed_at

from invact.reports.front import file_names, write_front
from invact.sweeps.complete import find_complete
from invact.sweeps.file import load_sweep
from invact.sweeps.recorded import find_sweep, pareto_front
from invact.sweeps.run import SweepResult, run_sweep
from invact.tracking.store import open_store

PARETO = "objective = { kind = 'pareto' }"


@pytest.fixture
def path(write) -> Path:
    return write(more=PARETO)


def files(run_id: str = "") -> Path:
    """The folder of the files of a run, by default of the sweep's."""
    record = find_sweep("tiny", None, None, None)
    return record._runs._folder(run_id or record.run_id)


def state() -> tuple[str, bytes, dict[str, str]]:
    (info,) = open_store(read_only=True).records("tiny")
    record = find_sweep("tiny", None, None, None)
    return info.status, record.read("front/front.json"), record.tags


def test_a_complete_sweep_is_only_read(run, path, monkeypatch, forbid_engines) -> None:
    first = run(path, trials=3)
    before = state()
    forbid_engines()
    monkeypatch.setattr("invact.process.quiet.load_tensorflow", lambda: pytest.fail("TensorFlow was loaded"))
    with killed_at(0):
        again = run(path, trials=3)
    assert (again.front, again.run_id, again.time) == (first.front, first.run_id, first.time)
    assert again.time.startswith("time: 3 trainings")
    pd.testing.assert_frame_equal(again.table, first.table)
    assert state() == before


def lose(front) -> None:
    (files() / "front" / "front.html").unlink()


def outdate(front) -> None:
    at = files() / "front" / "front.json"
    at.write_text(at.read_text().replace(f'"hypervolume": {front.hypervolume}', '"hypervolume": 1.0'))


def age(front) -> None:
    at = files() / "front" / "front.json"
    at.write_text(json.dumps(json.loads(at.read_text()) | {"versions": {"invact": "0.0.1"}}))


def unsettle(front) -> None:
    (files() / "settings.json").unlink()


@pytest.mark.parametrize("damage", [lose, outdate, age, unsettle])
def test_what_is_missing_or_old_is_written_again(run, path, damage) -> None:
    front = run(path, trials=2).front
    expected = {at.name: at.read_bytes() for at in (files() / "front").iterdir()}
    damage(front)
    assert run(path, trials=2).front == front
    assert {at.name: at.read_bytes() for at in (files() / "front").iterdir()} == expected
    assert (files() / "settings.json").exists()
    assert find_complete(load_sweep(path, {"trials": 2}), None, None) is not None


def test_a_network_of_the_front_that_was_lost_is_stored_again(run, path, trained) -> None:
    front = run(path, trials=2).front
    lost = files(front.points[0].run_id) / "model.keras"
    lost.unlink()
    del trained[:]
    run(path, trials=2)
    assert [config for config, _ in trained] == [front.points[0].config]
    assert lost.exists()


def test_a_run_that_was_deleted_is_trained_again(run, path, trained) -> None:
    deleted = run(path, trials=2).table["run_id"][1]
    open_store().runs.delete(deleted)
    del trained[:]
    table = run(path, trials=2).table
    assert len(table) == len(trained) + 1 == 2
    assert deleted not in set(table["run_id"])


def test_more_trials_and_another_budget_are_trained(run, path, trained) -> None:
    run(path, trials=1)
    assert len(run(path, trials=2).table) == len(trained) == 2
    assert json.loads(state()[1]) == json.loads((files() / "front" / "front.json").read_bytes())
    assert len(json.loads(state()[1])["front"] + json.loads(state()[1])["dominated"]) == 2
    other = run(path, trials=2, objective__max_macs=100_000)
    assert (len(other.table), len(find_sweep("tiny", None, None, None).table())) == (2, 2)


def test_a_session_that_was_killed_after_its_last_run_writes_the_front(stand_in, path, folder) -> None:
    def swept(trials: int, store: Path) -> SweepResult:
        return run_sweep(load_sweep(path, {"trials": trials}), store=store, show=False)

    swept(1, folder / "one")
    shutil.copytree(folder / "one", folder / "two")
    with killed_at(None) as done:
        whole = swept(2, folder / "two")
    # The last writes are those of the front, the winner, the counts, the status and the lease.
    for write in range(done.total() - 8, done.total(), 2):
        store = folder / f"killed-{write}"
        shutil.copytree(folder / "one", store)
        with killed_at(write), pytest.raises(Killed):
            swept(2, store)
        with killed_at(None):
            again = swept(2, store)
        record = find_sweep("tiny", None, store, None)
        stored = json.loads(record.read("front/front.json"))
        points = stored["front"] + stored["dominated"]
        assert len(points) == len(again.table) == 2, write
        assert record.tags["winner"] == str(whole.front.winner), write
        assert again.front == pareto_front("tiny", store=store), write
        assert [one.status for one in open_store(store, read_only=True).records()] == ["FINISHED"], write


def test_the_names_of_the_files_are_those_that_are_written(run, write, folder) -> None:
    front = run(write(more=f"seeds = [0, 1, 2]\n{PARETO}"), trials=4).front
    assert {at.name for at in write_front(front, folder / "out")} == set(file_names(front))
