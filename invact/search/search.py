"""The `Search`, which asks a driver for trials, checks their budgets, and reports how they ended."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.arms import arm_text
from invact.config import Scalar
from invact.errors import BuildError, one_line
from invact.execution.agenda import Refusal, Trial
from invact.measures import MEASURES
from invact.search.drivers import Outcome, Proposal, make_driver
from invact.statistics.fronts.dominance import non_dominated
from invact.statistics.fronts.uncertainty import DIGITS
from invact.tracking.stored import config_of
from invact.training.results import Status

if TYPE_CHECKING:
    import pandas as pd

    from invact.execution.agenda import Ended
    from invact.search.gate import Gate
    from invact.search.objectives import Objective
    from invact.spaces.space import SearchSpace, Values

__all__ = ["Search"]

AHEAD = 32
"""How many trials of a grid wait for a worker, so that the longest of them comes first."""

KNOWN = (*MEASURES, *(f"slack_{name}" for name in MEASURES), "overrun", "width_slack")
"""The columns of the table of runs that `Gate.known` returns."""


class Search:
    """A search: it asks a driver for configurations, checks their budgets, and reports their results.

    Args:
        space: the search space.
        objective: the goal of the search and its budgets.
        gate: computes the cost of a configuration before training.
        driver: a key of `DRIVERS`.
        sampler: one of the driver's samplers.
        seed: the seed of the sampler.
        trials: total number of configurations, including those over budget.
        seeds: the training seeds of each configuration.
        enqueue: configurations to try first.
        race: whether a pruner decides which configurations are trained with all their seeds.

    Raises:
        InputError: the driver cannot search this space.
        EnvironmentFault: the optional package of the sampler is not installed.
    """

    def __init__(
        self,
        space: SearchSpace,
        objective: Objective,
        gate: Gate,
        *,
        driver: str,
        sampler: str,
        seed: int,
        trials: int,
        seeds: tuple[int, ...],
        enqueue: Sequence[Values] = (),
        race: bool = False,
    ) -> None:
        self._space = space
        self._objective = objective
        self._gate = gate
        self._sampler = sampler
        self._trials = trials
        self._seeds = seeds
        self._race = race and len(seeds) > 1
        self._driver = make_driver(
            *(driver, sampler, space, objective),
            seed=seed,
            trials=trials,
            enqueue=enqueue,
            epochs=space.longest,
        )
        self._proposals: dict[int, Proposal] = {}
        # The best key so far, and with a front its accuracies and costs.
        self._best: tuple[float, ...] | None = None
        self._front: list[tuple[float, float]] = []
        # Trials of earlier sessions. The driver learns their outcomes together, before it proposes more.
        self._earlier: dict[int, tuple[Trial, Outcome]] = {}
        self._incomplete: set[int] = set()
        self._known: frozenset[int] = frozenset()
        self._numbers: Iterator[int] = itertools.count()
        self._started = 0

    def learn(self, values: Values, outcome: Outcome) -> None:
        """Tell the driver a result of another search, before `resume`; it is no trial of this search."""
        self._driver.learn(values, outcome)

    def resume(self, table: pd.DataFrame) -> list[Trial]:
        """Return the trials of a table of runs, complete or not; it may be called for several tables."""
        # Plain rows, because pandas needs two milliseconds for each group.
        groups: dict[int, list[dict[str, Any]]] = {}
        for row in table.to_dict("records"):
            known = {str(name): value for name, value in row.items() if not _missing(value)}
            groups.setdefault(row["trial"], []).append(known)
        trials = [self._recorded(rows) for _, rows in sorted(groups.items())]
        self._incomplete |= groups.keys()
        # A session that was interrupted may have left out numbers, because the longest training comes first.
        self._known |= groups.keys()
        self._numbers = itertools.filterfalse(self._known.__contains__, itertools.count())
        self._started = len(self._known)
        return trials

    def propose(self) -> Trial | None:
        """Ask the driver for the next trial; None if there is none, or if recorded trials are incomplete."""
        if self._incomplete or self._started >= self._trials:
            return None
        proposal = self._driver.ask()
        if proposal is None:
            return None
        rung = {} if proposal.epochs is None else {"epochs": proposal.epochs}
        values = self._varied(proposal.values) | rung
        config = self._space.config(proposal.values, **rung)
        trial = self._judged(
            Trial(next(self._numbers), config, self._seeds, _label(values), values, race=self._race)
        )
        self._proposals[trial.number] = proposal
        self._started += 1
        return trial

    def on_end(self, trial: Trial, runs: Sequence[Ended]) -> bool:
        """Tell the driver how a trial ended; return whether it is the best so far, or on the front so far."""
        outcome = _outcome(trial, runs)
        leads = all(run.status is Status.FINISHED for run in runs) and self._leads(outcome)
        if trial.number in self._proposals:
            self._driver.tell(self._proposals.pop(trial.number), outcome)
            return leads
        self._earlier[trial.number] = (trial, outcome)
        self._incomplete.discard(trial.number)
        if not self._incomplete:
            for _, known in sorted(self._earlier.items()):
                self._know(*known)
            self._earlier.clear()
        return leads

    @property
    def ahead(self) -> int:
        """How many trials may be proposed before a worker is free: many if no proposal reads a result."""
        return AHEAD if self._sampler == "grid" else 1

    @property
    def mark(self) -> str:
        """What the line of a trial says if `on_end` returns True, by the kind of the objective."""
        return "on the front" if self._objective.kind == "pareto" else "new best"

    def _leads(self, outcome: Outcome) -> bool:
        goal = self._objective
        if outcome.status is not Status.FINISHED or outcome.accuracy is None:
            return False
        if goal.violation(outcome.accuracy, outcome.costs) > 0:
            return False
        if goal.kind == "pareto":
            points = [*self._front, (float(np.round(outcome.accuracy, DIGITS)), outcome.costs[goal.cost])]
            mask = non_dominated(*zip(*points, strict=True))
            self._front = [point for point, keep in zip(points, mask, strict=True) if keep]
            return bool(mask[-1])
        key = goal.key(outcome.accuracy, outcome.costs)
        if self._best is not None and key >= self._best:
            return False
        self._best = key
        return True

    def _judged(self, trial: Trial) -> Trial:
        """Add what is known before training, and the reason if the trial is not trained."""
        try:
            cost, costs = self._gate.costs(trial.config)
        except BuildError as error:
            return replace(trial, refusal=Refusal(Status.FAILED, error=one_line(error)))
        over = self._objective.overrun(costs) > 0
        return replace(
            trial,
            known=self._gate.known(trial.config, costs),
            refusal=Refusal(Status.OVER_BUDGET, cost) if over else None,
        )

    def _varied(self, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
        return {name: value for name, value in values.items() if self._space[name].domain.size > 1}

    def _recorded(self, rows: Sequence[Mapping[str, Any]]) -> Trial:
        first = rows[0]
        config = config_of(first["run_id"], first["config_json"])
        values = {name[6:]: _plain(value) for name, value in first.items() if name.startswith("param.")}
        trial = Trial(int(first["trial"]), config, self._seeds, first["label"], values, race=self._race)
        # A run whose network could not be built has no costs.
        counted = next((row for row in rows if self._objective.cost in row), None)
        if counted is None:
            return self._judged(trial)
        known = {name: _plain(counted[name]) for name in KNOWN if name in counted}
        trial = replace(trial, known=known)
        if Status.OVER_BUDGET in {row["status"] for row in rows} and len(rows) < len(self._seeds):
            # The record decides, because a network that is timed again may be faster.
            return replace(trial, refusal=Refusal(Status.OVER_BUDGET, self._gate.count(config)))
        return trial

    def _know(self, trial: Trial, outcome: Outcome) -> None:
        values, epochs = dict(trial.values), None
        if self._sampler == "hyperband":
            values.pop("epochs")
            epochs = trial.config.epochs
        self._driver.know(self._space.check(values, f"trial {trial.number}"), outcome, epochs)


def _outcome(trial: Trial, runs: Sequence[Ended]) -> Outcome:
    costs = {name: value for name, value in trial.known.items() if name in MEASURES}
    statuses = {run.status for run in runs}
    for worst in (Status.FAILED, Status.DIVERGED, Status.OVER_BUDGET):
        if worst in statuses:
            return Outcome(worst, costs)
    first = runs[0]
    if first.status is Status.PRUNED:
        accuracy = None if first.validation is None else first.validation.accuracy
        return Outcome(Status.PRUNED, costs, accuracy, first.epochs)
    # A trial that left the race at the end of its first seed has the accuracy of this seed.
    finished = [run for run in runs if run.status is Status.FINISHED]
    accuracies = [run.validation.accuracy for run in finished if run.validation]
    return Outcome(Status.FINISHED, costs, sum(accuracies) / len(finished))


def _missing(value: Any) -> bool:
    # NaN and pandas.NA are the values that do not equal themselves.
    plain = _plain(value)
    return plain is None or (plain == plain) is not True


def _plain(value: Any) -> Any:
    # pandas returns NumPy scalars; spaces and drivers accept only Python types.
    return value.item() if isinstance(value, np.generic) else value


def _label(values: Mapping[str, Scalar]) -> str:
    """Name a trial in a few words: its arms, then the other parameters.

    Example:
        >>> _label({"activation.1": "inverse", "activation.2": "relu", "filters": 8})
        'inverse/relu, filters 8'
    """
    arms = [str(value) for name, value in values.items() if name.split(".")[0] == "activation"]
    others = [
        f"{name.replace('_', ' ')} {value:.3g}"
        if isinstance(value, float)
        else f"{name.replace('_', ' ')} {value}"
        for name, value in values.items()
        if name.split(".")[0] != "activation"
    ]
    return ", ".join([arm_text(arms)] * bool(arms) + others)
