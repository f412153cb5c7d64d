"""A coordinator records the decisions of a race in the order of arrivals, and a restart repeats them."""

from dataclasses import replace

import pytest
from stand_in import StandIn

from invact.config import Config
from invact.execution.agenda import Ended, Trial
from invact.execution.coordinator import Coordinator
from invact.execution.display.progress import Progress
from invact.execution.race import Race
from invact.execution.workers.engine import JobDone
from invact.tracking.decisions import Decision
from invact.tracking.record import Record
from invact.tracking.store import open_store
from invact.training.results import Epoch, Scores, Status, TrialResult

CONFIG = Config(filters=3, depth=1, epochs=4)


class Best:
    """A referee: a trial goes on if it is the best so far at its epoch."""

    rungs = (1, 2)

    def decide(self, earlier, trial, epoch, accuracy) -> Decision:
        goes_on = all(one.accuracy < accuracy for one in earlier if one.epoch == epoch)
        return Decision(len(earlier), trial.number, epoch, accuracy, None, goes_on)


class Workers(StandIn):
    """Each job has the accuracy of its number of filters in hundredths."""

    def __init__(self, slots: int = 1, on_answer=lambda event, goes_on: None, restarts: int = 0) -> None:
        super().__init__(None, None)
        self.slots, self._on_answer, self._restarts = slots, on_answer, restarts
        self.jobs, self.answers = [], []

    def result_of(self, job) -> TrialResult:
        return whole(job.config, job.seed)

    def submit(self, job, worker) -> None:
        self.jobs.append(job)
        super().submit(job, worker)

    def answer(self, event, goes_on) -> None:
        self._on_answer(event, goes_on)
        self.answers.append((event.epoch.number, goes_on))
        if self._restarts:
            self._restarts -= 1
            self._train(event.key, 0)
        else:
            super().answer(event, goes_on)

    def next_event(self, timeout=None):
        assert self._events, "the coordinator waits, and nothing trains"
        return super().next_event(timeout)


def whole(config: Config, seed: int) -> TrialResult:
    scores = Scores(config.filters / 100, 1.0)
    epochs = tuple(Epoch(number, scores, scores, 0.1) for number in range(1, config.epochs + 1))
    given = {"train": scores, "validation": scores, "test": scores, "model": b"a model"}
    return TrialResult(config, seed, Status.FINISHED, None, epochs, **given)


@pytest.fixture
def record(tmp_path, quick_stores) -> Record:
    with open_store(tmp_path).record("a", "sweep", "1") as record:
        yield record


def trial(number: int, filters: int, seeds: tuple[int, ...] = (0,)) -> Trial:
    config = CONFIG.model_copy(update={"filters": filters})
    known = {"macs": float(filters)}
    return Trial(number, config, seeds, f"trial {number}", {"filters": filters}, known, race=len(seeds) > 1)


def raced(engine: Workers, record: Record, trials: list[Trial], progress: Progress | None = None) -> list:
    """Propose the trials that the record does not have; return those that ended, with status and epochs."""
    table, (decisions, begun) = record.table(), record.race()
    known = {*table["trial"], *begun["trial"]}
    queue, ended = (one for one in trials if one.number not in known), []
    Coordinator(
        *(record, progress or Progress(), lambda: engine, table),
        [one for one in trials if one.number in known],
        race=Race(record, Best(), decisions),
        measure="macs",
    ).run(
        lambda: next(queue, None),
        lambda one, runs: ended.append((one.number, [(run.status.value, run.epochs) for run in runs])),
    )
    return ended


FOUR = [trial(0, 5), trial(1, 3), trial(2, 9), trial(3, 7)]
ORDER = [(0, 1, True), (0, 2, True), (1, 1, False), (2, 1, True), (2, 2, True), (3, 1, False)]
"""Trial, epoch and decision of the arrivals of four trials, one after the other."""


def decided(record: Record) -> list[tuple[int, int, bool]]:
    decisions, _ = record.race()
    assert [one.order for one in decisions] == list(range(len(decisions)))
    return [(one.trial, one.epoch, one.goes_on) for one in decisions]


def test_a_decision_is_recorded_before_it_is_carried_out(record) -> None:
    seen = []

    def on_answer(event, goes_on) -> None:
        decisions, _ = record.race()
        seen.append((decisions[-1].epoch, decisions[-1].accuracy, decisions[-1].goes_on))
        assert seen[-1] == (event.epoch.number, event.epoch.validation.accuracy, goes_on)

    ended = raced(Workers(on_answer=on_answer), record, FOUR)
    assert ended == [
        (0, [("FINISHED", 4)]),
        (1, [("PRUNED", 1)]),
        (2, [("FINISHED", 4)]),
        (3, [("PRUNED", 1)]),
    ]
    assert len(seen) == 6
    assert decided(record) == ORDER
    table = record.table()
    assert table["status"].tolist() == ["FINISHED", "PRUNED", "FINISHED", "PRUNED"]
    assert table["epochs"].tolist() == [4, 1, 4, 1]
    assert table["test_accuracy"].isna().tolist() == [False, True, False, True]
    runs = {run.info.run_id: run.info.status for run in record._search()}
    assert {runs[run_id] for run_id in table["run_id"]} == {"FINISHED"}, "a pruned run has come to its end"
    client = record._runs.client
    curve = client.get_metric_history(table["run_id"][1], "validation/accuracy")
    assert [(point.step, point.value) for point in curve] == [(1, 0.03)]
    assert [record.has_model(run_id) for run_id in table["run_id"]] == [True, False, True, False]


def test_runs_at_the_same_time_are_ordered_by_their_arrival(record) -> None:
    raced(Workers(slots=4), record, FOUR)
    assert decided(record) == [
        *((0, 1, True), (1, 1, False), (2, 1, True), (3, 1, False)),
        *((0, 2, True), (2, 2, True)),
    ]


def test_a_run_that_starts_again_on_another_worker_meets_the_same_decision(record) -> None:
    engine = Workers(restarts=1)
    assert raced(engine, record, FOUR[:2]) == [(0, [("FINISHED", 4)]), (1, [("PRUNED", 1)])]
    assert engine.answers == [(1, True), (1, True), (2, True), (1, False)]
    assert decided(record) == ORDER[:3]


@pytest.mark.parametrize("stop", range(6))
def test_a_continued_session_repeats_the_decisions_of_the_record(tmp_path, quick_stores, stop: int) -> None:
    """The session is killed after each decision, before the worker has its answer."""

    def on_answer(event, goes_on) -> None:
        if len(engine.answers) == stop:
            raise KeyboardInterrupt

    engine = Workers(on_answer=on_answer)
    with pytest.raises(KeyboardInterrupt), open_store(tmp_path).record("a", "sweep", "1") as record:
        raced(engine, record, FOUR)
    assert decided(record) == ORDER[: stop + 1]
    again = Workers()
    with open_store(tmp_path).record("a", "sweep", "1") as record:
        before = set(record.table()["run_id"])
        _, begun = record.race()
        assert begun["trial"].tolist() == [ORDER[stop][0]], "the trial that was killed at the rung"
        raced(again, record, FOUR)
        assert decided(record) == ORDER
        table = record.table()
        assert table["status"].tolist() == ["FINISHED", "PRUNED", "FINISHED", "PRUNED"]
        assert before < set(table["run_id"])
    assert len(again.jobs) == 4 - len(before)


def test_a_pruned_trial_is_never_trained_again(record) -> None:
    first = raced(Workers(), record, FOUR)
    assert raced(None, record, FOUR) == first


SEEDS = (4, 2, 6)
RACERS = [trial(0, 5, SEEDS), trial(1, 3, SEEDS), trial(2, 9, SEEDS), trial(3, 7, SEEDS)]


def later_is_worse(rungs: int):
    """A referee that stops nothing at the first epochs."""

    class Late(Best):
        def decide(self, earlier, trial, epoch, accuracy) -> Decision:
            decision = super().decide(earlier, trial, epoch, accuracy)
            return decision if epoch > rungs else replace(decision, goes_on=True)

    return Late


def test_only_configurations_in_the_race_get_more_seeds(record, monkeypatch) -> None:
    monkeypatch.setattr(f"{__name__}.Best", later_is_worse(rungs=1))
    engine = Workers(slots=2)
    ended = dict(raced(engine, record, RACERS))
    finished, skipped = ("FINISHED", 4), ("PRUNED", 0)
    assert ended[0] == [finished] * 3
    assert ended[1] == [("PRUNED", 2), skipped, skipped]
    assert ended[2] == [finished] * 3
    trained = [(job.config.filters, job.seed) for job in engine.jobs]
    assert len(trained) == len(set(trained))
    assert all((filters, 4) in trained for filters in (5, 3, 9, 7))
    assert {filters for filters, seed in trained if seed != 4} == {5, 9}
    assert all(job.rungs == (Best.rungs if job.seed == 4 else ()) for job in engine.jobs)
    assert record.summaries[1] == {Status.PRUNED: 3}


def test_a_trial_that_is_out_at_the_end_of_its_first_seed_is_pruned_and_its_run_is_finished(
    record, monkeypatch
) -> None:
    monkeypatch.setattr(f"{__name__}.Best", later_is_worse(rungs=2))
    ended = dict(raced(Workers(), record, RACERS[:2]))
    assert ended == {0: [("FINISHED", 4)] * 3, 1: [("FINISHED", 4), ("PRUNED", 0), ("PRUNED", 0)]}
    assert decided(record)[-1] == (1, 4, False)
    assert record.summaries[1] == {Status.FINISHED: 1, Status.PRUNED: 2}
    table = record.table()
    assert not record.has_model(table[table["trial"] == 1]["run_id"].iloc[0])
    # The next session finds the same, although the table alone does not say why.
    assert dict(raced(None, record, RACERS[:2])) == ended


def test_a_first_seed_that_diverged_ends_the_race_of_its_trial(record) -> None:
    class Diverges(Workers):
        def submit(self, job, worker) -> None:
            super().submit(job, worker)
            job, result = self._open[job.key]
            self._events.clear()
            self._events.append(JobDone(job.key, replace(result, status=Status.DIVERGED, error="loss nan")))

    engine = Diverges()
    assert raced(engine, record, RACERS[:1]) == [(0, [("DIVERGED", 4), ("PRUNED", 0), ("PRUNED", 0)])]
    assert len(engine.jobs) == 1


class Told(Progress):
    """Notes what the coordinator tells."""

    def __init__(self) -> None:
        self.lines, self.count = [], 0

    def ended(self, key, result) -> None:
        self.count += 1

    def skipped(self, runs) -> None:
        self.count += runs

    def pruned(self, label, accuracy, macs, epoch, *, number=None) -> None:
        self.lines.append((number, label, accuracy, macs, epoch))


def test_each_run_counts_once_and_each_pruned_trial_has_a_line(record) -> None:
    told = Told()
    raced(Workers(), record, RACERS, told)
    assert told.count == 4 * 3
    assert told.lines == [(1, "trial 1", 0.03, 3.0, 1), (3, "trial 3", 0.07, 7.0, 1)]


def test_the_end_of_a_run_of_another_seed_is_not_judged() -> None:
    last = Decision(0, 0, 4, 0.1, None, False)
    race = Race(None, Best(), [last])
    runs = {(0, seed): Ended("a", Status.FINISHED, epochs=4) for seed in SEEDS}
    judged = race.judged({0: RACERS[0]}, runs)
    assert [judged[0, seed].goes_on for seed in SEEDS] == [False, True, True]
    assert race.judged({}, runs) == runs
