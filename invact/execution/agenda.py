"""The `Agenda`: what is left to do for the trials of a record, a pure function of the runs that have ended.

A first start, a continued session and a repair after a kill ask the same function, and every action that it
names may be repeated without harm.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from invact.statistics.fronts.dominance import non_dominated
from invact.statistics.fronts.uncertainty import DIGITS
from invact.training.results import Scores, Status, TrialResult

if TYPE_CHECKING:
    import pandas as pd

    from invact.config import Config, Scalar
    from invact.cost.count import Cost

__all__ = [
    "Agenda",
    "Candidate",
    "Ended",
    "Key",
    "Recalled",
    "Refusal",
    "Trial",
    "agenda_of",
    "best",
    "candidate_of",
    "done_of",
    "ended_runs",
    "left_race",
    "same_numbers",
]

Key: TypeAlias = tuple[int, int]
"""A run: the number of its trial, and its seed."""


@dataclass(frozen=True)
class Refusal:
    """Why a trial is not trained.

    Attributes:
        status: the status of its runs: OVER_BUDGET, FAILED, or PRUNED for the seeds that a race leaves out.
        cost: the cost of the network by layer; None if it could not be built.
        error: one line that describes why the network could not be built.
    """

    status: Status
    cost: Cost | None = None
    error: str = ""


@dataclass(frozen=True)
class Trial:
    """One configuration and the seeds it is trained with.

    Attributes:
        number: position in the order of proposals, from 0.
        config: the configuration: network and recipe.
        seeds: the training seeds.
        label: a short name for tables and pictures.
        values: the parameters that distinguish the trial from the other trials.
        known: values that are known before training, by column of the table of runs; see `Gate.known`.
        refusal: why the trial is not trained; None if it is trained.
        race: whether the trial races: its first seed is trained alone, and the other seeds follow only if the
            trial is still in the race then.
    """

    number: int
    config: Config
    seeds: tuple[int, ...]
    label: str
    values: Mapping[str, Scalar]
    known: Mapping[str, float] = field(default_factory=dict)
    refusal: Refusal | None = None
    race: bool = False


@dataclass(frozen=True)
class Ended:
    """A run that has ended.

    Attributes:
        run_id: id of the run in MLflow.
        status: how it ended.
        validation: scores on the validation split; None if they were not measured.
        test: scores on the test set; None if they were not measured.
        tries: how often this session has tried the run; 0 if an earlier session ended it.
        epochs: number of epochs that were trained.
        goes_on: False if the trial of a finished run left the race at the end of the run.
        taken: whether this session took the run over from another record.
    """

    run_id: str
    status: Status
    validation: Scores | None = None
    test: Scores | None = None
    tries: int = 0
    epochs: int = 0
    goes_on: bool = True
    taken: bool = False


@dataclass(frozen=True)
class Recalled:
    """A finished run of another record, which is taken over instead of a training.

    Attributes:
        result: the result of the run, without its network.
        origin: the record that the run is from, in words.
        tags: the tags that say where the run is from.
        network: reads the `.keras` archive of the run; empty if it is not stored.
    """

    result: TrialResult
    origin: str
    tags: Mapping[str, str]
    network: Callable[[], bytes]


@dataclass(frozen=True)
class Agenda:
    """What is left to do for some trials.

    Attributes:
        train: the runs to train.
        refuse: the runs to record without training.
        summarize: the trials whose summary is missing or old.
        complete: the trials for which nothing is left.
    """

    train: tuple[Key, ...]
    refuse: tuple[Key, ...]
    summarize: tuple[int, ...]
    complete: tuple[int, ...]


def agenda_of(
    trials: Iterable[Trial],
    runs: Mapping[Key, Ended],
    summaries: Mapping[int, Mapping[Status, int]],
    attempts: int = 1,
) -> Agenda:
    """Find what is left to do.

    A run is settled when it has ended with any status except FAILED, or when this session has tried it
    `attempts` times. A trial with several seeds has a summary, which counts its runs by status. The summary
    is due when all seeds are settled. A trial that races trains its first seed alone; the runs of its other
    seeds are to be refused if the trial has left the race, see `left_race`.

    Args:
        trials: the trials.
        runs: the runs that have ended, of these and of other trials.
        summaries: the counts in the stored summaries, by trial.
        attempts: how often one session tries a run that fails.

    Example:
        >>> from invact.config import Config
        >>> trial = Trial(0, Config(), (0, 1), "relu", {})
        >>> agenda_of([trial], {(0, 0): Ended("a", Status.FINISHED)}, {})
        Agenda(train=((0, 1),), refuse=(), summarize=(), complete=())
        >>> runs = {(0, 0): Ended("a", Status.FINISHED), (0, 1): Ended("b", Status.DIVERGED)}
        >>> agenda_of([trial], runs, {})
        Agenda(train=(), refuse=(), summarize=(0,), complete=())
        >>> agenda_of([trial], runs, {0: {Status.FINISHED: 1, Status.DIVERGED: 1}}).complete
        (0,)
    """
    train: list[Key] = []
    refuse: list[Key] = []
    summarize: list[int] = []
    complete: list[int] = []
    counts: dict[int, Counter[Status]] = {}
    for (number, _), run in runs.items():
        counts.setdefault(number, Counter())[run.status] += 1
    for trial in trials:
        # A refusal is certain, so it is written once, whatever the status is.
        most = 1 if trial.refusal else attempts
        left = [
            (trial.number, seed) for seed in trial.seeds if not _settled(runs.get((trial.number, seed)), most)
        ]
        if left:
            alone = trial.race and not trial.refusal and left[0][1] == trial.seeds[0]
            refused = trial.refusal or left_race(trial, runs)
            (refuse if refused else train).extend(left[:1] if alone else left)
        elif len(trial.seeds) > 1 and dict(summaries.get(trial.number, {})) != counts[trial.number]:
            summarize.append(trial.number)
        else:
            complete.append(trial.number)
    return Agenda(tuple(train), tuple(refuse), tuple(summarize), tuple(complete))


def left_race(trial: Trial, runs: Mapping[Key, Ended]) -> bool:
    """Return whether a trial has left the race, so that its other seeds are not trained.

    It has if its first seed was pruned or diverged, or if a finished first seed was too bad to go on.
    """
    first = runs.get((trial.number, trial.seeds[0]))
    return (
        trial.race
        and first is not None
        and (first.status in (Status.PRUNED, Status.DIVERGED) or not first.goes_on)
    )


def _settled(run: Ended | None, attempts: int) -> bool:
    return run is not None and (run.status is not Status.FAILED or run.tries >= attempts)


@dataclass(frozen=True)
class Candidate:
    """A trial that competes for a place on the front.

    Attributes:
        key: the run that represents the trial: the one with its smallest seed.
        accuracy: validation accuracy, mean over the seeds.
        cost: the cost of the network.
    """

    key: Key
    accuracy: float
    cost: float


def candidate_of(trial: Trial, runs: Mapping[Key, Ended], measure: str) -> Candidate | None:
    """Return the candidate for the front that a trial is, by its runs that have ended so far.

    It is None if no run has ended, if one has ended without an accuracy, if the trial has left the race, or
    if the cost is unknown.

    Args:
        trial: the trial.
        runs: the runs that have ended.
        measure: the measure of the cost.
    """
    cost = trial.known.get(measure)
    ended = [runs[trial.number, seed] for seed in trial.seeds if (trial.number, seed) in runs]
    if (
        cost is None
        or not ended
        or left_race(trial, runs)
        or any(run.status is not Status.FINISHED for run in ended)
    ):
        return None
    accuracies = [math.nan if run.validation is None else run.validation.accuracy for run in ended]
    mean = math.fsum(accuracies) / len(accuracies)
    return Candidate((trial.number, min(trial.seeds)), mean, cost) if math.isfinite(mean) else None


def best(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Return the candidates that no other dominates; of equal ones, that of the first trial.

    Example:
        >>> [one.cost for one in best([Candidate((0, 0), 0.9, 10), Candidate((1, 0), 0.9, 20)])]
        [10]
    """
    every = sorted(candidates, key=lambda one: one.key)
    mask = non_dominated(np.round([one.accuracy for one in every], DIGITS), [one.cost for one in every])
    return tuple(one for one, keep in zip(every, mask, strict=True) if keep)


def same_numbers(result: TrialResult, ended: Ended) -> bool:
    """Return whether a training has repeated the numbers of a recorded run to the bit."""
    return (result.status, result.validation, result.test) == (ended.status, ended.validation, ended.test)


def ended_runs(table: pd.DataFrame) -> dict[Key, Ended]:
    """Return the runs of a table, by trial and seed."""
    if not len(table):
        return {}
    columns = ("trial", "seed", "run_id", "status", *_SCORES)
    rows = zip(*(table[name].tolist() for name in columns), table["epochs"].fillna(0).tolist(), strict=True)
    return {
        (trial, seed): Ended(
            run_id, Status(status), _scores(*scores[:2]), _scores(*scores[2:]), epochs=epochs
        )
        for trial, seed, run_id, status, *scores, epochs in rows
    }


def done_of(trials: Iterable[Trial], runs: Mapping[Key, Ended]) -> int:
    """Count the runs of trials that have ended and did not fail."""
    keys = ((trial.number, seed) for trial in trials for seed in trial.seeds)
    return sum(key in runs and runs[key].status is not Status.FAILED for key in keys)


_SCORES = ("validation_accuracy", "validation_loss", "test_accuracy", "test_loss")


def _scores(accuracy: float, loss: float) -> Scores | None:
    return None if np.isnan(accuracy) else Scores(accuracy, loss)
