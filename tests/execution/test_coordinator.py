from dataclasses import replace

import pytest

from invact.config import Config
from invact.execution.agenda import Refusal, Trial
from invact.execution.coordinator import Coordinator
from invact.execution.display.progress import Progress
from invact.execution.schedule import Worker
from invact.execution.workers.engine import EpochDone, JobDone
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
        self._queue, self._open = [], {}
        self.most = 0

    @property
    def pending(self) -> int:
        return len(self._open)

    def workers(self) -> tuple[Worker, ...]:
        trains = dict(self._open.values())
        return tuple(Worker(name, trains.get(name, "")) for name in map(str, range(self.slots)))

    def submit(self, job, worker) -> None:
        assert all(worker != busy for busy, _ in self._open.values())
        self._open[job.key] = (worker, job.config.digest())
        self.most = max(self.most, self.pending)
        self._queue += self._events(job)

    def next_event(self, timeout=None):
        event = self._queue.pop(0)
        if isinstance(event, JobDone):
            del self._open[event.key]
        return event


@pytest.fixture
def record(tmp_path, quick_stores) -> Record:
    with open_store(tmp_path).record("a", "sweep", "1") as record:
        yield record


def coordinate(
    engine: Script, record: Record, trials: list[Trial], *, ahead: int = 1, **options: object
) -> list[tuple[int, list[str]]]:
    """Propose the trials that the record does not have; return the trials that ended, with their statuses."""
    table = record.table()
    known = set(table["trial"])
    queue, ended = (trial for trial in trials if trial.number not in known), []
    recorded = [trial for trial in trials if trial.number in known]
    Coordinator(record, Progress(), lambda: engine, table, recorded, **options).run(
        lambda: next(queue, None),
        lambda trial, runs: ended.append((trial.number, [run.status.value for run in runs])),
        ahead=ahead,
    )
    return ended


def finished(job) -> list[object]:
    return [
        *(EpochDone(job.key, an_epoch(number)) for number in (1, 2, 3)),
        JobDone(job.key, replace(a_result(job.config), seed=job.seed)),
    ]


def trial(number: int, seeds: tuple[int, ...] = (0,), **values: object) -> Trial:
    return Trial(number, CONFIG, seeds, f"trial {number}", {"filters": 3}, **values)


def test_as_many_jobs_as_workers_are_pending(record) -> None:
    engine = Script(3, finished)
    trials = [trial(number) for number in range(7)]
    assert coordinate(engine, record, trials) == [(n, ["FINISHED"]) for n in range(7)]
    assert engine.most == 3
    assert record.table()["status"].tolist() == ["FINISHED"] * 7


def test_a_trial_ends_when_all_its_seeds_have(record) -> None:
    trials = [trial(0, (0, 1, 2)), trial(1, (0, 1, 2))]
    assert coordinate(Script(2, finished), record, trials) == [(0, ["FINISHED"] * 3), (1, ["FINISHED"] * 3)]
    assert record.summaries == {0: {Status.FINISHED: 3}, 1: {Status.FINISHED: 3}}


def test_only_missing_seeds_are_trained(record) -> None:
    coordinate(Script(2, finished), record, [trial(0, (5,))])
    assert coordinate(Script(2, finished), record, [trial(0, (4, 5, 6))]) == [(0, ["FINISHED"] * 3)]
    table = record.table()
    assert sorted(table["seed"]) == [4, 5, 6]
    assert len(record._runs.search([record.experiment], "tags.`invact.seed` != ''")) == 3
    # Nothing is left, so no engine is needed.
    assert coordinate(None, record, [trial(0, (4, 5, 6))]) == [(0, ["FINISHED"] * 3)]


def test_refused_trials_are_recorded_and_not_trained(record) -> None:
    over = Refusal(Status.OVER_BUDGET)
    unbuilt = Refusal(Status.FAILED, error="model 'my:net': RuntimeError: too small")
    known = {"macs": 200.0, "slack_macs": -1.0, "overrun": 1.0}
    trials = [
        trial(0, (0, 1), refusal=over, known=known),
        trial(1, (0, 1), refusal=unbuilt),
        trial(2, (0, 1)),
    ]
    engine = Script(2, finished)
    assert coordinate(engine, record, trials) == [
        (0, ["OVER_BUDGET"] * 2),
        (1, ["FAILED"] * 2),
        (2, ["FINISHED"] * 2),
    ]
    table = record.table()
    assert table["status"].tolist() == ["OVER_BUDGET"] * 2 + ["FAILED"] * 2 + ["FINISHED"] * 2
    assert table["error"][2] == "model 'my:net': RuntimeError: too small"
    assert table["overrun"][0] == 1.0


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


def scored(accuracies: dict[tuple[int, int], float]):
    """Let the runs have these validation accuracies, in the order in which they start."""
    queue = iter(accuracies.values())

    def events(job) -> list[object]:
        result = replace(a_result(job.config), seed=job.seed, validation=Scores(next(queue), 1.0))
        return [JobDone(job.key, replace(result, model=f"model {job.seed}".encode()))]

    return events


def stored_models(record: Record) -> set[tuple[int, int]]:
    table = record.table()
    return {(row.trial, row.seed) for row in table.itertuples() if record.has_model(row.run_id)}


def costing(number: int, macs: float, seeds: tuple[int, ...] = (0,)) -> Trial:
    return trial(number, seeds, known={"macs": macs})


@pytest.mark.parametrize(
    ("trials", "accuracies", "expected"),
    [
        # Every point of the front so far has a network; a dominated trial has none.
        ([costing(0, 10), costing(1, 20), costing(2, 5)], [0.5, 0.4, 0.5], {(0, 0), (2, 0)}),
        # The first seed was on the front when it ended.
        ([costing(0, 10), costing(1, 10, (0, 1))], [0.5, 0.6, 0.2], {(0, 0), (1, 0)}),
        # The mean puts the second trial on the front; its first seed alone was not.
        ([costing(0, 10), costing(1, 10, (0, 1))], [0.5, 0.4, 0.9], {(0, 0), (1, 0)}),
    ],
)
def test_the_networks_of_the_front_are_recorded(record, trials, accuracies, expected) -> None:
    coordinate(Script(1, scored(dict(enumerate(accuracies)))), record, trials, measure="macs")
    assert stored_models(record) == expected


def test_without_a_measure_no_network_is_asked_for_or_recorded(record) -> None:
    jobs = []
    engine = Script(1, lambda job: jobs.append(job) or finished(job))
    coordinate(engine, record, [costing(0, 10)])
    assert [job.keep_model for job in jobs] == [False]
    assert stored_models(record) == set()


def test_a_lost_network_of_the_front_is_trained_again(record, monkeypatch) -> None:
    trials = [costing(0, 10, (3, 4)), costing(1, 20, (3, 4))]
    with monkeypatch.context() as patch:
        patch.setattr(Record, "log_model", lambda *arguments: None)
        patch.setattr("invact.tracking.record.MODEL", "lost.keras")
        coordinate(Script(1, scored(dict.fromkeys(range(4), 0.5))), record, trials, measure="macs")
    assert stored_models(record) == set()
    again = []
    engine = Script(1, lambda job: again.append(job) or scored({0: 0.5})(job))
    coordinate(engine, record, trials, measure="macs")
    assert [(job.seed, job.keep_model) for job in again] == [(3, True)]
    assert stored_models(record) == {(0, 3)}
    assert len(record.table()) == 4, "the new training is no new run"
    coordinate(None, record, trials, measure="macs")


def test_a_network_with_other_numbers_is_not_recorded(record, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("invact.tracking.record.MODEL", "lost.keras")
        coordinate(Script(1, scored({0: 0.5})), record, [costing(0, 10)], measure="macs")
    coordinate(Script(1, scored({0: 0.5 + 1e-12})), record, [costing(0, 10)], measure="macs")
    assert stored_models(record) == set()


def test_a_failed_run_ends_its_trial_and_other_trials_continue(record) -> None:
    def events(job) -> list[object]:
        if job.seed == 1:
            return [JobDone(job.key, TrialResult(job.config, 1, Status.FAILED, error="ValueError: x"))]
        return finished(job)

    trials = [trial(0, (0, 1)), trial(1)]
    expected = [(0, ["FINISHED", "FAILED"]), (1, ["FINISHED"])]
    assert coordinate(Script(2, events), record, trials) == expected
    assert record.table()["status"].tolist() == ["FINISHED", "FAILED", "FINISHED"]
    # The next session tries it again, and again only once.
    jobs = []
    engine = Script(2, lambda job: jobs.append(job.seed) or events(job))
    assert sorted(coordinate(engine, record, trials)) == expected
    assert jobs == [1]
    assert record.replaced()[0][:2] == ("trial 0", 1)


def test_a_run_that_fails_is_tried_as_often_as_asked(record) -> None:
    tries = []

    def events(job) -> list[object]:
        tries.append(job.seed)
        if len(tries) < 3:
            return [JobDone(job.key, TrialResult(job.config, job.seed, Status.FAILED, error="OSError: x"))]
        return finished(job)

    assert coordinate(Script(1, events), record, [trial(0)], attempts=3) == [(0, ["FINISHED"])]
    assert tries == [0, 0, 0]
    assert [error for *_, error, _ in record.replaced()] == ["OSError: x"] * 2


def sized(number: int, filters: int, macs: float, seeds: tuple[int, ...] = (0,)) -> Trial:
    config = CONFIG.model_copy(update={"filters": filters})
    return Trial(number, config, seeds, f"trial {number}", {"filters": filters}, {"macs": macs})


def test_the_longest_of_the_trials_that_wait_comes_first_and_numbers_do_not_change(record) -> None:
    trials = [sized(number, 3 + number, macs) for number, macs in enumerate([1e6, 3e6, 2e6, 9e6, 4e6])]
    jobs = []
    engine = Script(1, lambda job: jobs.append(job.config.filters - 3) or finished(job))
    coordinate(engine, record, trials, ahead=3)
    # Three wait at once: 0, 1, 2; then 0, 2, 3; then 0, 2, 4; then 0 and 2.
    assert jobs == [1, 3, 4, 2, 0]
    table = record.table()
    assert table["trial"].tolist() == [0, 1, 2, 3, 4]
    assert table["param.filters"].tolist() == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("ahead", [1, 2, 9])
def test_every_worker_has_work_while_a_trial_is_left(record, ahead: int) -> None:
    engine = Script(4, finished)
    ended = coordinate(engine, record, [trial(0, (0,)), *map(trial, range(1, 7))], ahead=ahead)
    assert sorted(ended) == [(number, ["FINISHED"]) for number in range(7)]
    assert engine.most == 4


def test_the_workers_of_a_continued_session_all_get_work(record) -> None:
    recorded = [trial(0, (0, 1))]
    coordinate(Script(1, finished), record, [trial(0, (0,))])
    engine = Script(3, finished)
    assert len(coordinate(engine, record, [*recorded, trial(1), trial(2)])) == 3
    assert engine.most == 3


def test_a_worker_goes_on_with_the_seeds_of_its_configuration(record) -> None:
    trials = [sized(0, 3, 1e6, (0, 1, 2)), sized(1, 4, 9e5, (0, 1, 2))]
    places = []

    class Held(Script):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            self.held = {}

        def workers(self):
            return tuple(replace(each, held=self.held.get(each.address, ())) for each in super().workers())

        def submit(self, job, worker):
            places.append((job.config.filters, worker))
            self.held[worker] = (job.config.digest(),)
            super().submit(job, worker)

    coordinate(Held(2, finished), record, trials, ahead=4)
    assert set(places[:-1]) == {(3, "0"), (4, "1")}
    assert len(places) == 6


def test_a_worker_gets_work_before_the_result_is_written(record, monkeypatch) -> None:
    seen = []
    finish, start = Record.finish, Record.start
    engine = Script(1, lambda job: seen.append(f"submit {job.seed}") or finished(job))
    monkeypatch.setattr(
        Record,
        "finish",
        lambda self, run, result, *a: seen.append(f"finish {result.seed}") or finish(self, run, result, *a),
    )
    monkeypatch.setattr(
        Record,
        "start",
        lambda self, n, c, seed, *a: seen.append(f"start {seed}") or start(self, n, c, seed, *a),
    )
    coordinate(engine, record, [trial(0), Trial(1, CONFIG, (1,), "one", {})])
    assert seen == ["submit 0", "start 0", "submit 1", "start 1", "finish 0", "finish 1"]
