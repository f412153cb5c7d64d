"""Every state of a record leads to a complete one, whatever a killed process has left behind."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invact.config import Config
from invact.execution.agenda import (
    Candidate,
    Ended,
    Refusal,
    Trial,
    agenda_of,
    best,
    candidate_of,
    left_race,
)
from invact.training.results import Scores, Status

SEEDS = (3, 5)
OVER = Refusal(Status.OVER_BUDGET)
UNBUILT = Refusal(Status.FAILED, error="ValueError: too small")


def a_trial(number: int = 0, refusal: Refusal | None = None, seeds: tuple[int, ...] = SEEDS) -> Trial:
    return Trial(number, Config(), seeds, "relu", {}, {"macs": 100.0}, refusal)


def states():
    """All records of one trial with two seeds: each run, its tries, and the summary of an earlier session."""
    statuses = [None, Status.FINISHED, Status.DIVERGED, Status.FAILED]
    for refusal in (None, OVER, UNBUILT):
        usual = statuses if refusal is None else [None, refusal.status]
        for first, second in itertools.product(usual, repeat=2):
            for tries in itertools.product((0, 1, 2, 3), repeat=2):
                runs = {
                    (0, seed): Ended(f"run {seed}", status, tries=tried)
                    for seed, status, tried in zip(SEEDS, (first, second), tries, strict=True)
                    if status is not None
                }
                counts = Counter(run.status for run in runs.values())
                for summary in ({}, {0: dict(counts)}, {0: {Status.FAILED: 1}}):
                    yield refusal, runs, summary


def done(trial, runs, summaries, attempts, outcome):
    """Do what the agenda names, one action at a time, and return how often each was done."""
    runs, summaries, actions = dict(runs), dict(summaries), Counter()
    while True:
        agenda = agenda_of([trial], runs, summaries, attempts)
        for key in (*agenda.train, *agenda.refuse)[:1]:
            status = trial.refusal.status if key in agenda.refuse else outcome
            tries = runs[key].tries if key in runs else 0
            runs[key] = Ended("new", status, tries=tries + 1)
            actions["train" if key in agenda.train else "refuse", key] += 1
        for number in agenda.summarize:
            summaries[number] = dict(Counter(run.status for run in runs.values()))
            actions["summarize", number] += 1
        if agenda.complete:
            return runs, summaries, actions
        assert sum(actions.values()) < 20, "the agenda never ends"


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("outcome", [Status.FINISHED, Status.FAILED])
def test_every_state_of_a_record_becomes_complete(attempts: int, outcome: Status) -> None:
    seen = 0
    for refusal, runs, summaries in states():
        seen += 1
        trial = a_trial(refusal=refusal)
        ended, counts, actions = done(trial, runs, summaries, attempts, outcome)
        assert set(ended) == {(0, seed) for seed in SEEDS}
        for key, run in runs.items():
            if run.status is not Status.FAILED:
                assert ended[key] == run, "a run that counts is never repeated"
        assert counts[0] == dict(Counter(run.status for run in ended.values()))
        assert actions["summarize", 0] <= 1
        if refusal:
            assert {run.status for run in ended.values()} == {refusal.status}
            assert not any(kind == "train" for kind, _ in actions)
        else:
            assert all(times <= attempts for (kind, _), times in actions.items() if kind == "train")
        again = agenda_of([trial], ended, counts, attempts)
        assert (again.train, again.refuse, again.summarize, again.complete) == ((), (), (), (0,))
    assert seen > 500


RACERS = (3, 5, 7)


def race_states():
    """All records of one trial that races with three seeds: each run, and whether the first one goes on."""
    statuses = [None, *set(Status) - {Status.OVER_BUDGET}]
    for each in itertools.product(statuses, repeat=3):
        for goes_on in (True, False) if each[0] is Status.FINISHED else (True,):
            yield {
                (0, seed): Ended(f"run {seed}", status, goes_on=goes_on or seed != 3)
                for seed, status in zip(RACERS, each, strict=True)
                if status is not None
            }


@pytest.mark.parametrize("outcome", [Status.FINISHED, Status.PRUNED, Status.DIVERGED, Status.FAILED])
@pytest.mark.parametrize("wins", [True, False])
def test_a_trial_that_races_trains_its_first_seed_alone(outcome: Status, wins: bool) -> None:
    trial = replace(a_trial(seeds=RACERS), race=True)
    for before in race_states():
        runs, summaries, trained, refused = dict(before), {}, [], []
        while not (agenda := agenda_of([trial], runs, summaries)).complete:
            assert not (agenda.train and agenda.refuse)
            if (first := (0, RACERS[0])) in agenda.train:
                assert agenda.train == (first,), "the other seeds wait for the first one"
            for key in agenda.train[:1]:
                runs[key] = Ended("new", outcome, tries=1, goes_on=wins or key != first)
                trained.append(key)
            for key in agenda.refuse[:1]:
                runs[key] = Ended("new", Status.PRUNED, tries=1)
                refused.append(key)
            for number in agenda.summarize:
                summaries[number] = dict(Counter(run.status for run in runs.values()))
            assert len(trained) + len(refused) <= 6, "the agenda never ends"
        assert set(runs) == {(0, seed) for seed in RACERS}
        for key, run in before.items():
            if run.status is not Status.FAILED:
                assert runs[key] == run, "a run that counts is never repeated"
        last = runs[first]
        out = last.status in (Status.PRUNED, Status.DIVERGED) or not last.goes_on
        assert left_race(trial, runs) == out
        # A run that failed is tried again, unless its trial has left the race; then it is refused.
        again = {key for key in runs if key not in before or before[key].status is Status.FAILED} - {first}
        assert set(refused if out else trained) - {first} == again
        assert not (set(trained if out else refused) - {first})


def test_a_trial_that_races_and_is_over_budget_is_refused_at_once() -> None:
    trial = replace(a_trial(refusal=OVER, seeds=RACERS), race=True)
    assert agenda_of([trial], {}, {}).refuse == tuple((0, seed) for seed in RACERS)


def test_a_trial_that_has_left_the_race_is_no_candidate() -> None:
    trial, run = replace(a_trial(), race=True), a_run(0.5)
    assert candidate_of(trial, {(0, 3): run}, "macs") is not None
    assert candidate_of(trial, {(0, 3): replace(run, goes_on=False)}, "macs") is None
    assert candidate_of(trial, {(0, 3): replace(run, status=Status.PRUNED)}, "macs") is None


def test_one_seed_needs_no_summary() -> None:
    trial = a_trial(seeds=(3,))
    assert agenda_of([trial], {(0, 3): Ended("a", Status.FINISHED)}, {}).complete == (0,)


def test_a_run_of_another_trial_changes_nothing() -> None:
    runs = {(1, seed): Ended("a", Status.FINISHED) for seed in SEEDS}
    assert agenda_of([a_trial()], runs, {}).train == ((0, 3), (0, 5))


def a_run(accuracy: float, status: Status = Status.FINISHED) -> Ended:
    return Ended("a", status, Scores(accuracy, 1.0))


def test_a_candidate_has_the_mean_over_the_seeds_that_ended() -> None:
    trial, key = a_trial(), (0, 3)
    assert candidate_of(trial, {}, "macs") is None
    assert candidate_of(trial, {key: a_run(0.5)}, "macs") == Candidate(key, 0.5, 100.0)
    both = {key: a_run(0.5), (0, 5): a_run(0.75)}
    assert candidate_of(trial, both, "macs") == Candidate(key, 0.625, 100.0)
    assert candidate_of(trial, both | {(0, 5): a_run(0.75, Status.DIVERGED)}, "macs") is None
    assert candidate_of(trial, both | {(0, 5): a_run(float("nan"))}, "macs") is None
    assert candidate_of(replace(trial, known={}), both, "macs") is None


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), max_size=8), st.randoms())
def test_the_best_of_the_best_is_the_front_in_any_order(pairs, random) -> None:
    every = [Candidate((number, 0), gain / 4, cost) for number, (gain, cost) in enumerate(pairs)]
    expected = [
        one
        for one in every
        if not any(
            other.accuracy >= one.accuracy
            and other.cost <= one.cost
            and ((other.accuracy, -other.cost) != (one.accuracy, -one.cost) or other.key < one.key)
            for other in every
        )
    ]
    assert list(best(every)) == expected
    front: tuple[Candidate, ...] = ()
    random.shuffle(every)
    for one in every:
        front = best((*front, one))
    assert list(front) == expected
