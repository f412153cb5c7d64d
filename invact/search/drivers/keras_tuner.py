"""The Keras Tuner driver, which uses the oracles of Keras Tuner without a `Tuner` and without files.

`import keras_tuner` loads TensorFlow, so only this module imports it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner import oracles
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from invact.search.drivers import LEARNING, Outcome, Proposal
from invact.search.drivers.ledger import Key, Ledger, proposal_key, sampler_seed, startup
from invact.search.objectives import Objective
from invact.spaces.space import SearchSpace, Values
from invact.training.results import Status

__all__ = ["KerasTunerDriver", "make", "scores"]

_REPLAYED = ("grid", "hyperband")
"""Oracles with a fixed plan. On resume they propose the same trials again and are told the known results."""

_AUGMENTATION = 0.05
"""Weight of the sum in the augmented Chebyshev norm, as in ParEGO."""


def scores(objective: Objective, outcomes: Sequence[Outcome], weight: float) -> list[float]:
    """Return one score to maximise for each result: feasible in [0, 1], infeasible in (-1, 0).

    Each value of the objective is scaled to a loss in [0, 1] over the feasible results. With two values, the
    score is 1 minus their augmented Chebyshev norm (max(w l) + 0.05 sum(w l)) / 1.05 (ParEGO: Knowles, 2006,
    doi:10.1109/TEVC.2005.851274). An infeasible result with violation v scores -v / (1 + v), so that a
    smaller violation has a better score. A diverged or pruned training scores 0, as the worst feasible one.

    Args:
        objective: gives the values, directions and violations.
        outcomes: results with status FINISHED, PRUNED, DIVERGED or OVER_BUDGET.
        weight: weight of the first value, in [0, 1]; the second value has weight 1 - `weight`.

    Example:
        >>> found = [Outcome(Status.FINISHED, {"macs": 10}, 0.9), Outcome(Status.FINISHED, {"macs": 5}, 0.5)]
        >>> scores(Objective(), [*found, Outcome(Status.OVER_BUDGET, {"macs": 99})], 1.0)
        [1.0, 0.0, -0.5]
    """
    result = [0.0] * len(outcomes)
    losses: dict[int, list[float]] = {}
    for index, outcome in enumerate(outcomes):
        # An accuracy that was not measured must not count as a violation of `min_accuracy`. At its rung, a
        # pruned training had not come to its end.
        accuracy = 1.0 if outcome.status is Status.PRUNED or outcome.accuracy is None else outcome.accuracy
        violation = objective.violation(accuracy, outcome.costs)
        if violation > 0:
            result[index] = -violation / (1 + violation)
        elif outcome.status is Status.OVER_BUDGET:
            result[index] = -0.5
        elif outcome.status is Status.FINISHED:
            values = objective.values(accuracy, outcome.costs)
            losses[index] = [
                -value if direction == "maximize" else value
                for value, direction in zip(values, objective.directions, strict=True)
            ]
    if not losses:
        return result
    table = np.array(list(losses.values()))
    span = np.ptp(table, axis=0)
    scaled = (table - table.min(axis=0)) / np.where(span > 0, span, 1.0)
    weighted = scaled * np.array([weight, 1 - weight] if table.shape[1] == 2 else [1.0])
    norm = (weighted.max(axis=1) + _AUGMENTATION * weighted.sum(axis=1)) / (1 + _AUGMENTATION)
    for index, loss in zip(losses, norm, strict=True):
        result[index] = float(1 - loss)
    return result


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide warnings that a user cannot act on: old `threading` names, and fits that stop early."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(currentThread|getName)", category=DeprecationWarning)
        warnings.filterwarnings("ignore", module="sklearn.gaussian_process")
        yield


class _Steered:
    """Mix-in for an oracle: it proposes `given`, leaves scoring to the driver, and writes no files."""

    given: Values | None = None

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        if self.given is None:
            response: dict[str, Any] = super().populate_space(trial_id)  # type: ignore[misc]
            return response
        values, self.given = self.given, None
        return {"status": "RUNNING", "values": dict(values)}

    def score_trial(self, trial: Any) -> None:
        trial.score, trial.best_step = 0.0, 0

    def save(self) -> None:
        pass

    def _save_trial(self, trial: Any) -> None:
        pass


def _oracle(sampler: str, trials: int, epochs: int | None, common: dict[str, Any]) -> Any:
    bases: dict[str, tuple[type, dict[str, Any]]] = {
        "random": (oracles.RandomSearchOracle, {"max_trials": None}),
        "bayesian": (
            oracles.BayesianOptimizationOracle,
            {"max_trials": None, "num_initial_points": startup(trials)},
        ),
        "hyperband": (oracles.HyperbandOracle, {"max_epochs": epochs, "hyperband_iterations": None}),
        "grid": (oracles.GridSearchOracle, {"max_trials": None}),
    }
    base, options = bases[sampler]
    return type(f"Steered{base.__name__}", (_Steered, base), {})(**options, **common)


class KerasTunerDriver:
    """A `Driver` that uses one Keras Tuner oracle; see `invact.search.drivers.make_driver`."""

    def __init__(
        self,
        sampler: str,
        space: SearchSpace,
        objective: Objective,
        seed: int,
        trials: int,
        enqueue: Sequence[Values] = (),
        epochs: int | None = None,
    ) -> None:
        self._sampler = sampler
        self._space = space
        self._objective = objective
        self._seed = seed
        self._trials = trials
        self._epochs = epochs if sampler == "hyperband" else None
        self._ledger = Ledger(space, seed, trials, enqueue)
        self._learned: list[tuple[Values, Outcome]] = []
        self._known: list[tuple[Values, Outcome, int | None]] = []
        self._results: dict[Key, Outcome] = {}
        self._scored: dict[str, Outcome] = {}
        self._pending: dict[int, Any] = {}
        self._oracle: Any = None

    def learn(self, values: Values, outcome: Outcome) -> None:
        """Receive a result of another search."""
        assert self._oracle is None, "learn comes before the first ask"
        if self._sampler in LEARNING["keras_tuner"]:
            self._learned.append((self._space.check(values, "learned result"), outcome))

    def know(self, values: Values, outcome: Outcome, epochs: int | None = None) -> None:
        """Receive a result of an earlier session."""
        assert self._oracle is None, "know comes before the first ask"
        checked = self._space.check(values, "known result")
        self._known.append((checked, outcome, epochs if self._sampler == "hyperband" else None))

    def ask(self) -> Proposal | None:
        """Propose a configuration; None if there is none now."""
        with _quiet():
            if self._oracle is None:
                self._begin()
            if self._ledger.exhausted:
                return None
            if (values := self._ledger.dequeue(self._epochs)) is not None:
                trial = None if self._sampler in _REPLAYED else self._trial(values)
                return self._propose(trial, values, self._epochs)
            self._rescore()
            return self._plan() if self._sampler in _REPLAYED else self._draw()

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Receive the result of a pending proposal."""
        self._results[proposal_key(proposal.values, proposal.epochs)] = outcome
        trial = self._pending.pop(proposal.number)
        with _quiet():
            if trial is not None:
                self._end(trial, outcome)

    def _begin(self) -> None:
        space = self._space
        if self._sampler == "grid":
            # Keras Tuner uses only ten points of a logarithmic range; a grid needs all points and no scale.
            plain = (
                replace(p, domain=replace(p.domain, log=False)) if getattr(p.domain, "log", False) else p  # type: ignore[type-var]
                for p in space.parameters
            )
            space = replace(space, parameters=tuple(plain))
        hp = keras_tuner.HyperParameters()
        space.hyperparameters(hp)
        # A resumed plan must repeat its proposals; a resumed random sampler must not repeat its draws.
        known = 0 if self._sampler in _REPLAYED else len(self._known)
        common = {
            "objective": keras_tuner.Objective("score", "max"),
            "hyperparameters": hp,
            "seed": sampler_seed(self._seed, known),
            # By default three failures in a row end a search, but the coordinator handles failures.
            "max_consecutive_failed_trials": sys.maxsize,
        }
        self._oracle = _oracle(self._sampler, self._trials, self._epochs, common)
        self._oracle.verbose = 0
        for values, outcome in self._learned:
            self._end(self._trial(values), outcome)
        for values, outcome, epochs in self._known:
            key = proposal_key(values, epochs)
            self._ledger.record(key)
            self._results[key] = outcome
            if self._sampler not in _REPLAYED:
                self._end(self._trial(values), outcome)

    def _trial(self, values: Values | None = None) -> Any:
        """Create a trial with its own tuner name, because an oracle allows one open trial for each name."""
        if values is not None:
            # Keras Tuner would draw missing values without a seed, so inactive parameters get their defaults.
            defaults = {entry.name: entry.default for entry in self._oracle.hyperparameters.space}
            self._oracle.given = {**defaults, **values}
        # On matrices this small, several threads triple the time of a fit and slow down running trainings.
        single = threadpool_limits(1) if self._sampler == "bayesian" else nullcontext()
        with single:
            return self._oracle.create_trial(f"tuner{len(self._oracle.start_order)}")

    def _end(self, trial: Any, outcome: Outcome | None) -> None:
        if outcome is None or outcome.status is Status.FAILED:
            trial.status = "FAILED"  # Oracles ignore failed trials.
        else:
            # OVER_BUDGET is a result, with a score below every feasible score. A failure is ignored.
            trial.status = "COMPLETED"
            self._scored[trial.trial_id] = outcome
        self._oracle.end_trial(trial)

    def _rescore(self) -> None:
        weight = float(np.random.default_rng([self._seed, self._ledger.count]).uniform())
        marks = scores(self._objective, list(self._scored.values()), weight)
        for trial_id, mark in zip(self._scored, marks, strict=True):
            self._oracle.trials[trial_id].score = mark

    def _propose(self, trial: Any, values: Values, epochs: int | None = None) -> Proposal:
        proposal = self._ledger.propose(values, epochs)
        self._pending[proposal.number] = trial
        return proposal

    def _draw(self) -> Proposal | None:
        trial = self._trial()
        if trial.status == "RUNNING":
            values = self._space.hyperparameters(trial.hyperparameters)
            if proposal_key(values) not in self._ledger:
                return self._propose(trial, values)
            self._end(trial, None)
        # Random search stops after 20 duplicates, and the Gaussian process does not check for duplicates.
        values_left = self._ledger.unseen()
        return None if values_left is None else self._propose(self._trial(values_left), values_left)

    def _plan(self) -> Proposal | None:
        while (trial := self._trial()).status == "RUNNING":
            hp = trial.hyperparameters
            values = self._space.hyperparameters(hp)
            epochs = hp.values.get("tuner/epochs")
            key = proposal_key(values, epochs)
            if self._sampler == "grid":
                # The order of a grid does not depend on results, but the oracle waits for each result.
                trial.status = "COMPLETED"
                self._oracle.end_trial(trial)
                if key not in self._ledger:
                    return self._propose(None, values)
            elif (outcome := self._result(values, key)) is not None:
                self._end(trial, outcome)
                self._rescore()
            elif key in self._ledger:  # It was enqueued and is still pending.
                self._end(trial, None)
            else:
                return self._propose(trial, values, epochs)
        return None

    def _result(self, values: Values, key: Key) -> Outcome | None:
        if key in self._results:
            return self._results[key]
        # The cost does not depend on the epochs, so a promoted trial would be over budget too.
        return next(
            (
                outcome
                for (known, _), outcome in self._results.items()
                if known == key[0] and outcome.status is Status.OVER_BUDGET
            ),
            None,
        )


def make(
    sampler: str,
    space: SearchSpace,
    objective: Objective,
    seed: int,
    trials: int,
    enqueue: Sequence[Values],
    epochs: int | None,
) -> KerasTunerDriver:
    """Make the driver for `invact.search.drivers.make_driver`."""
    return KerasTunerDriver(sampler, space, objective, seed, trials, enqueue, epochs)
