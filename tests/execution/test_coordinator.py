import re
from dataclasses import replace

import pytest

from invact.config import Config
from invact.execution.coordinator import Coordinator, Trial
from invact.execution.engine import EpochDone, JobDone
from invact.execution.progress import BarProgress, LineProgress, Progress, make_progress, outcome
from invact.tracking.record import Record
from invact.tracking.store import open_store
from invact.training.results import Epoch, Scores, Status, TrialResult

SCORES = Scores(0.5, 1.0)
CONFIG = Config(filters=3, depth=1, epochs=3)


def an_epoch(number: int) -> Epoch:
    return Epoch(number, Scores(number / 10, 1.0), Scores(number / 20, 2.0), 0.1)


def a_result(config: Config = CONFIG, seed: int = 0, status: Status = Status.FINISHED) -> TrialResult:
    epochs = tuple(map(an_epoch, (1, 2, 3)))
    scores = {"train": SCORES, "validation": epochs[-1].validation, "test": SCORES}
    return TrialResult(config, seed, status, None, epochs, **scores, model=b"a model")


class Script:
    """An engine without workers; a function returns the events of each job."""

    def __init__(self, slots, events) -> None:
        self.slots, self._events = slots, events
        self._queue, self._open = [], set()
        self.most = 0

    @property
    def pending(self) -> int:
        return len(self._open)

    def submit(self, job) -> None:
        self._open.add(job.key)
        self.most = max(self.most, self.pending)
        self._queue += self._events(job)

    def next_event(self, timeout=None):
        event = self._queue.pop(0)
        if isinstance(event, JobDone):
            self._open.remove(event.key)
        return event


@pytest.fixture
def record(tmp_path, quick_stores) -> Record:
    with open_store(tmp_path).record("a", "sweep", "1") as record:
        yield record


def coordinate(engine: Script, record: Record, trials: list[Trial]) -> list[tuple[int, list[int]]]:
    queue, ended = iter(trials), []
    Coordinator(engine, record, Progress()).run(
        lambda: next(queue, None),
        lambda trial, runs: ended.append((trial.number, sorted(run.seed for run in runs))),
    )
    return ended


def finished(job) -> list[object]:
    return [
        *(EpochDone(job.key, an_epoch(number)) for number in (1, 2, 3)),
        JobDone(job.key, replace(a_result(job.config), seed=job.seed)),
    ]


def trial(number: int, seeds: tuple[int, ...] = (0,), recorded: tuple[int, ...] = ()) -> Trial:
    return Trial(number, CONFIG, seeds, f"trial {number}", {"filters": 3}, frozenset(recorded))


def test_as_many_jobs_as_workers_are_pending(record) -> None:
    engine = Script(3, finished)
    assert coordinate(engine, record, [trial(number) for number in range(7)]) == [(n, [0]) for n in range(7)]
    assert engine.most == 3
    assert record.table()["status"].tolist() == ["FINISHED"] * 7


def test_a_trial_ends_when_all_its_seeds_have(record) -> None:
    ended = coordinate(Script(2, finished), record, [trial(0, (0, 1, 2)), trial(1, (0, 1, 2))])
    assert ended == [(0, [0, 1, 2]), (1, [0, 1, 2])]


def test_recorded_seeds_are_not_trained(record) -> None:
    assert coordinate(Script(2, finished), record, [trial(0, (4, 5, 6), recorded=(5,))]) == [(0, [4, 6])]
    assert record.table()["seed"].tolist() == [4, 6]


def history(record: Record, key: str) -> list[tuple[int, float]]:
    client = record._runs.client
    (run_id,) = record.table()["run_id"]
    return [(metric.step, metric.value) for metric in client.get_metric_history(run_id, key)]


@pytest.mark.parametrize("order", ["in order", "late", "twice", "lost", "after"])
def test_each_epoch_is_recorded_once_in_any_order_of_events(record, order: str) -> None:
    def events(job) -> list[object]:
        one, two, three, end = finished(job)
        return {
            "in order": [one, two, three, end],
            "late": [one, end, two, three],
            "twice": [one, two, one, two, three, end],  # as after the replacement of a worker
            "lost": [end],
            "after": [one, two, end, None, three],
        }[order]

    engine = Script(1, events)
    coordinate(engine, record, [trial(0)])
    assert history(record, "validation/accuracy") == [(1, 0.05), (2, 0.1), (3, 0.15)]


def test_the_coordinator_does_not_record_models(record) -> None:
    coordinate(Script(1, finished), record, [trial(0)])
    client = record._runs.client
    (run_id,) = record.table()["run_id"]
    assert "model.keras" not in [file.path for file in client.list_artifacts(run_id)]


def test_a_failed_run_ends_its_trial_and_other_trials_continue(record) -> None:
    def events(job) -> list[object]:
        if job.seed == 1:
            return [JobDone(job.key, TrialResult(job.config, 1, Status.FAILED, error="ValueError: x"))]
        return finished(job)

    assert coordinate(Script(2, events), record, [trial(0, (0, 1)), trial(1)]) == [(0, [0, 1]), (1, [0])]
    assert record.table()["status"].tolist() == ["FINISHED", "FAILED", "FINISHED"]


# Progress


def test_lines_with_counts_go_to_standard_error(capsys) -> None:
    with LineProgress(total=4, done=1) as progress:
        progress.started("a", "relu", 3)
        progress.epoch("a", an_epoch(1))
        progress.ended("a", a_result(seed=7))
        progress.refused("big", "1,234,567 MACs", 2)
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert re.fullmatch(r"\[2/4\] relu, seed 7: FINISHED, validation 15\.00%, 0\.0 s \(\d+ s left\)", first)
    assert second == "[4/4] big: OVER_BUDGET, 1,234,567 MACs (0 s left)"


def test_bars_leave_a_line_for_each_run(capsys) -> None:
    with BarProgress(total=2) as progress:
        progress.message("[bold] is no markup")
        for key in "ab":
            progress.started(key, f"net [{key}]", 3)
            progress.epoch(key, an_epoch(1))
        progress.ended("a", a_result())
        progress.ended("b", replace(a_result(), status=Status.FAILED, error="ValueError: x"))
        progress.refused("big", "10 MACs", 1)
    out, err = capsys.readouterr()
    assert out == ""
    for line in (
        "[bold] is no markup",
        "net [a], seed 0: FINISHED",
        "net [b], seed 0: FAILED: ValueError: x",
    ):
        assert line in err


def test_hidden_progress_prints_nothing(capsys) -> None:
    with make_progress(1, show=False) as progress:
        progress.message("x")
        progress.started("a", "x", 1)
        progress.epoch("a", an_epoch(1))
        progress.ended("a", a_result())
        progress.refused("x", "1 MACs", 1)
    assert capsys.readouterr() == ("", "")


def test_a_pipe_gets_lines_and_a_terminal_gets_bars(monkeypatch) -> None:
    assert isinstance(make_progress(1), LineProgress)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert isinstance(make_progress(1), BarProgress)


def test_an_outcome_shows_all_known_values() -> None:
    assert outcome(TrialResult(CONFIG, 0, Status.FAILED, error="OSError: gone")) == "FAILED: OSError: gone"
    assert outcome(replace(a_result(), status=Status.DIVERGED)).startswith("DIVERGED, validation 15.00%")
