"""The Optuna driver, which uses an in-memory study through ask and tell.

The study is not stored. On resume it is rebuilt from the recorded results, so it always agrees with the
record.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
import optuna
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from invact.config import Scalar
from invact.search.drivers import LEARNING, Outcome, Proposal
from invact.search.drivers.ledger import Key, Ledger, proposal_key, sampler_seed, startup
from invact.search.objectives import Objective
from invact.spaces.space import SearchSpace, Values
from invact.training.results import Status

__all__ = ["OptunaDriver", "make"]

_REPLAYED = ("nsga2", "nsga3", "cmaes", "qmc")
"""Samplers that build their state (generation, distribution, position in the sequence) while proposing."""

_READS_PRUNED = ("tpe", "random", "qmc", "grid")
"""Samplers that read trials of the state PRUNED, or no results at all. NSGA, the Gaussian process and CMA-ES
read only the state COMPLETE; they are told that a pruned trial has the worst accuracy measured so far."""

_PATIENCE = 50
"""Duplicates to accept from a sampler before a random configuration replaces its proposal."""

_GP_PATIENCE = 2
"""`_PATIENCE` of the Gaussian process, which needs a second for each proposal and repeats it."""


class _Grid(BruteForceSampler):
    """Proposes every configuration once, in random order. Unlike `GridSampler` it supports conditions."""

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        # The base class calls `Study.stop` at the end, which raises outside of `Study.optimize`.
        pass


def _sampler(name: str, seed: int, stream: int, trials: int) -> BaseSampler:
    first = startup(trials)
    makers: dict[str, Callable[[], BaseSampler]] = {
        "tpe": lambda: TPESampler(seed=seed, n_startup_trials=first),
        "nsga2": lambda: NSGAIISampler(seed=seed, population_size=first),
        "nsga3": lambda: NSGAIIISampler(seed=seed, population_size=first),
        "random": lambda: RandomSampler(seed=seed),
        # The sequence continues on resume, so its seed never changes. Parameters that are not part of the
        # sequence are drawn at random.
        "qmc": lambda: QMCSampler(
            seed=stream,
            scramble=True,
            independent_sampler=RandomSampler(seed=seed),
            warn_asynchronous_seeding=False,
            warn_independent_sampling=False,
        ),
        "grid": lambda: _Grid(seed=seed),
        "gp": lambda: GPSampler(seed=seed, n_startup_trials=first, warn_independent_sampling=False),
        # CMA-ES does not support choices and conditional parameters, so they are drawn at random.
        "cmaes": lambda: CmaEsSampler(seed=seed, n_startup_trials=1, warn_independent_sampling=False),
    }
    return makers[name]()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide Optuna's log messages and warnings for a block, and restore the user's settings afterwards."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


class OptunaDriver:
    """A `Driver` that uses one Optuna sampler; see `invact.search.drivers.make_driver`."""

    def __init__(
        self,
        sampler: str,
        space: SearchSpace,
        objective: Objective,
        seed: int,
        trials: int,
        enqueue: Sequence[Values] = (),
    ) -> None:
        self._sampler = sampler
        self._space = space
        self._objective = objective
        self._seed = seed
        self._trials = trials
        self._ledger = Ledger(space, seed, trials, enqueue)
        self._learned: list[tuple[Values, Outcome]] = []
        self._known: list[tuple[Values, Outcome]] = []
        self._pending: dict[int, optuna.Trial] = {}
        self._results: dict[Key, Outcome] = {}
        self._lowest: float | None = None
        self._highest: dict[str, float] = {}
        self._study: optuna.Study | None = None

    def learn(self, values: Values, outcome: Outcome) -> None:
        """Receive a result of another search."""
        assert self._study is None, "learn comes before the first ask"
        # A grid would leave the configuration out, and a sequence would go on behind it.
        if self._sampler in LEARNING["optuna"]:
            self._learned.append((self._space.check(values, "learned result"), outcome))

    def know(self, values: Values, outcome: Outcome, epochs: int | None = None) -> None:
        """Receive a result of an earlier session."""
        assert self._study is None, "know comes before the first ask"
        self._known.append((self._space.check(values, "known result"), outcome))

    def ask(self) -> Proposal | None:
        """Propose a configuration; None if there is none now."""
        with _quiet():
            study = self._study = self._study or self._begin()
            if self._ledger.exhausted:
                return None
            values = self._ledger.dequeue()
            patience = _GP_PATIENCE if self._sampler == "gp" else _PATIENCE
            for _ in range(patience if values is None else 0):
                trial, proposed = self._draw(study)
                if proposal_key(proposed) not in self._ledger:
                    return self._propose(trial, proposed)
                self._repeat(study, trial, proposed)
            values = values or self._ledger.unseen()
            if values is None:
                return None
            study.enqueue_trial(dict(values))
            return self._propose(*self._draw(study))

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Receive the result of a pending proposal."""
        assert self._study is not None
        with _quiet():
            self._results[proposal_key(proposal.values)] = outcome
            self._finish(self._study, self._pending.pop(proposal.number), outcome)

    def _draw(self, study: optuna.Study) -> tuple[optuna.Trial, dict[str, Scalar]]:
        # On matrices this small, several threads triple the time of a fit and slow down running trainings.
        # If all results are equal the fit divides 0 by 0, and then continues correctly.
        single = threadpool_limits(1) if self._sampler == "gp" else nullcontext()
        with single, np.errstate(invalid="ignore"):
            trial = study.ask()
            if self._sampler in _REPLAYED:
                # Optuna computes this lazily, and never for an enqueued trial, which would then belong to no
                # generation.
                _ = trial.relative_params
            return trial, self._space.suggest(trial)

    def _repeat(self, study: optuna.Study, trial: optuna.Trial, values: Values) -> None:
        """Withdraw a trial whose configuration was proposed before.

        TPE would propose the same configuration again, so it gets the known result once more. The other
        samplers propose something else by themselves and ignore failed trials.
        """
        outcome = self._results.get(proposal_key(values)) if self._sampler == "tpe" else None
        if outcome is None:
            study.tell(trial, state=TrialState.FAIL)
        else:
            self._finish(study, trial, outcome)

    def _propose(self, trial: optuna.Trial, values: Values) -> Proposal:
        proposal = self._ledger.propose(values)
        self._pending[proposal.number] = trial
        return proposal

    def _begin(self) -> optuna.Study:
        # A resumed sampler must not repeat the random numbers of the first session.
        seed = sampler_seed(self._seed, len(self._known))
        directions = ("maximize",) if self._sampler == "cmaes" else self._objective.directions
        study = optuna.create_study(
            directions=directions,
            sampler=_sampler(self._sampler, seed, sampler_seed(self._seed), self._trials),
        )
        if self._sampler not in _REPLAYED:
            # The worst accuracy is then known when the first pruned trial is told.
            self._known.sort(key=lambda known: known[1].status is Status.PRUNED)
        for values, outcome in self._known:
            self._ledger.record(proposal_key(values))
            self._results[proposal_key(values)] = outcome
        for values, outcome in (*self._learned, *self._known):
            if self._sampler in _REPLAYED:
                study.enqueue_trial(dict(values))
                trial, _ = self._draw(study)
                self._finish(study, trial, outcome)
            else:
                study.add_trial(self._frozen(values, outcome))
        return study

    def _frozen(self, values: Values, outcome: Outcome) -> FrozenTrial:
        fixed = optuna.trial.FixedTrial(dict(values))
        self._space.suggest(fixed)
        state = self._state(outcome)
        numbers, constraints = (None, {}) if state is TrialState.FAIL else self._measure(outcome)
        return optuna.trial.create_trial(
            state=state,
            values=numbers if state is TrialState.COMPLETE else None,
            params=fixed.params,
            distributions=fixed.distributions,
            constraints=constraints,
            intermediate_values=self._reported(outcome) if state is TrialState.PRUNED else {},
        )

    def _finish(self, study: optuna.Study, trial: optuna.Trial, outcome: Outcome) -> None:
        state = self._state(outcome)
        if state is TrialState.FAIL:
            study.tell(trial, state=state)
            return
        numbers, constraints = self._measure(outcome)
        for key, value in constraints.items():
            trial.set_constraint(key, value)
        if state is TrialState.PRUNED:
            for epoch, value in self._reported(outcome).items():
                trial.report(value, epoch)
            study.tell(trial, state=state)
        else:
            study.tell(trial, numbers)

    def _state(self, outcome: Outcome) -> TrialState:
        if outcome.status is Status.FAILED:
            return TrialState.FAIL
        # Before the first accuracy there is no worst one, so those that cannot read the trial do without it.
        pruned = self._sampler in _READS_PRUNED or self._lowest is None
        return TrialState.PRUNED if pruned and outcome.status is Status.PRUNED else TrialState.COMPLETE

    def _reported(self, outcome: Outcome) -> dict[int, float]:
        """The value at the rung of a pruned trial, by epoch; Optuna takes none with several objectives.

        TPE puts pruned trials behind complete ones. It ranks them by their last epoch, then by this value.
        """
        if len(self._objective.directions) > 1 or outcome.accuracy is None or outcome.epochs is None:
            return {}
        (value,) = self._objective.values(outcome.accuracy, outcome.costs)
        return {outcome.epochs: value}

    def _measure(self, outcome: Outcome) -> tuple[list[float], dict[str, float]]:
        """Convert a result to the objective's values and constraints (feasible if at most 0).

        A configuration over budget is reported as COMPLETE with a violated constraint. NSGA and the Gaussian
        process ignore every other state, and TPE ranks by the constraint before the state. Such a trial needs
        all values. TPE and NSGA never compare them with the values of a feasible trial, but the Gaussian
        process fits them. Therefore a value that was not measured is the worst measured value so far: it is
        pessimistic and has the scale of the others, whereas a 0 would hide their differences. The accuracy of
        a pruned trial at its rung is no result, so it counts as not measured.
        """
        # A diverged training counts as accuracy 0, whatever it measured before.
        accuracy = 0.0 if outcome.status is Status.DIVERGED else outcome.accuracy
        if accuracy is None or outcome.status is Status.PRUNED:
            accuracy = self._lowest or 0.0
        elif outcome.status is Status.FINISHED:
            self._lowest = accuracy if self._lowest is None else min(self._lowest, accuracy)
        objective = self._objective
        costs = {name: outcome.costs.get(name, self._highest.get(name, 0.0)) for name in objective.measures}
        self._highest |= {
            name: max(cost, self._highest.get(name, cost)) for name, cost in outcome.costs.items()
        }
        shortfall = objective.shortfall(accuracy)
        if self._sampler == "cmaes":
            # CMA-ES reads only ranks and no constraints: any scale works if feasible is above infeasible.
            if (violation := max(objective.overrun(costs), shortfall)) > 0:
                return [-violation], {}
            value = objective.values(accuracy, costs)[0]
            return [value if objective.directions == ("maximize",) else 1 / (1 + value)], {}
        constraints = {f"max_{name}": -slack for name, slack in objective.slack(costs).items()}
        if objective.min_accuracy is not None and self._state(outcome) is not TrialState.PRUNED:
            constraints["min_accuracy"] = shortfall
        return list(objective.values(accuracy, costs)), constraints


def make(
    sampler: str,
    space: SearchSpace,
    objective: Objective,
    seed: int,
    trials: int,
    enqueue: Sequence[Values],
    epochs: int | None,
) -> OptunaDriver:
    """Make the driver for `invact.search.drivers.make_driver`; `epochs` is unused by these samplers."""
    return OptunaDriver(sampler, space, objective, seed, trials, enqueue)
