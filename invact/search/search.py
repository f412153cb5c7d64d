"""The `Search` class, which connects a driver, the budget gate and the coordinator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from invact.config import Config, Scalar
from invact.execution.coordinator import Trial
from invact.measures import MEASURES
from invact.search.drivers import Outcome, Proposal, make_driver
from invact.statistics.fronts.dominance import non_dominated
from invact.tracking.stored import config_of
from invact.training.results import Status

if TYPE_CHECKING:
    import pandas as pd

    from invact.execution.coordinator import Coordinator, Run
    from invact.measures import Costs
    from invact.search.gate import Gate
    from invact.search.objectives import Objective
    from invact.spaces.space import SearchSpace, Values
    from invact.tracking.record import Record

__all__ = ["Search"]


class Search:
    """A running search: it asks a driver for configurations, has them trained and reports their results.

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
    ) -> None:
        self._space = space
        self._objective = objective
        self._gate = gate
        self._sampler = sampler
        self._trials = trials
        self._seeds = seeds
        self._driver = make_driver(
            *(driver, sampler, space, objective),
            seed=seed,
            trials=trials,
            enqueue=enqueue,
            epochs=_longest(space),
        )
        self._proposals: dict[int, Proposal] = {}
        self._scores: list[tuple[float, float]] = []
        self._next = 0
        self._started = 0

    @property
    def started(self) -> int:
        """Number of trials that have begun, including those of earlier sessions."""
        return self._started

    def resume(self, table: pd.DataFrame) -> list[Trial]:
        """Tell the driver all recorded results, and return the trials with missing or failed seeds."""
        self._started = table["trial"].nunique()
        self._next = int(table["trial"].max()) + 1 if self._started else 0
        trials = [self._recorded(rows) for _, rows in table.groupby("trial")]
        for trial in trials:
            if len(trial.recorded) == len(trial.seeds):
                self._know(trial, table)
        return [
            replace(trial, known=self._gate.known(trial.config, self._gate.costs(trial.config)[1]))
            for trial in trials
            if len(trial.recorded) < len(trial.seeds)
        ]

    def run(self, coordinator: Coordinator, record: Record, unfinished: Sequence[Trial]) -> None:
        """Finish the unfinished trials, then run new ones until the sweep has all its trials."""
        if unfinished:
            again = iter(unfinished)
            coordinator.run(lambda: next(again, None), lambda _, runs: _keep_models(record, runs))
            table = record.table()
            for trial in unfinished:
                self._know(trial, table)

        def on_end(trial: Trial, runs: Sequence[Run]) -> None:
            outcome = _outcome([_facts(run) for run in runs])
            self._driver.tell(self._proposals.pop(trial.number), outcome)
            if self._advances(outcome):
                _keep_models(record, runs)

        coordinator.run(lambda: self._propose(coordinator), on_end)

    def _propose(self, coordinator: Coordinator) -> Trial | None:
        """Ask the driver until a proposal is within the budgets; None if there is none."""
        while self._started < self._trials and (proposal := self._driver.ask()) is not None:
            rung = {} if proposal.epochs is None else {"epochs": proposal.epochs}
            config = self._space.config(proposal.values, **rung)
            values = self._varied(proposal.values) | rung
            trial = Trial(self._next, config, self._seeds, _label(values), values)
            self._next += 1
            self._started += 1
            cost, costs = self._gate.costs(config)
            trial = replace(trial, known=self._gate.known(config, costs))
            if self._objective.overrun(costs) <= 0:
                self._proposals[trial.number] = proposal
                return trial
            coordinator.refuse(trial, cost)
            self._driver.tell(proposal, Outcome(Status.OVER_BUDGET, costs))
        return None

    def _varied(self, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
        return {name: value for name, value in values.items() if self._space[name].domain.size > 1}

    def _recorded(self, rows: pd.DataFrame) -> Trial:
        first = rows.iloc[0]
        config = config_of(first["run_id"], first["config_json"])
        ended = rows.loc[rows["status"] != Status.FAILED, "seed"]
        params = first.filter(like="param.").dropna()
        # pandas returns NumPy scalars; spaces and drivers accept only Python types.
        values = {
            str(name)[6:]: getattr(value, "item", lambda v=value: v)() for name, value in params.items()
        }
        return Trial(int(first["trial"]), config, self._seeds, first["label"], values, frozenset(ended))

    def _know(self, trial: Trial, table: pd.DataFrame) -> None:
        rows = table[table["trial"] == trial.number]
        columns = rows[["status", "validation_accuracy", *MEASURES]].itertuples(index=False, name=None)
        outcome = _outcome(
            [
                (status, accuracy, _measured(dict(zip(MEASURES, costs, strict=True))))
                for status, accuracy, *costs in columns
            ]
        )
        values, epochs = dict(trial.values), None
        if self._sampler == "hyperband":
            values.pop("epochs")
            epochs = trial.config.epochs
        self._driver.know(self._space.check(values, f"trial {trial.number}"), outcome, epochs)
        self._advances(outcome)

    def _advances(self, outcome: Outcome) -> bool:
        """Return whether a trial is on the front of all finished trials so far.

        Every trial on the final front was on the front when it finished. Keeping the models of these trials
        therefore keeps all models of the final front.
        """
        if outcome.status is not Status.FINISHED or outcome.accuracy is None:
            return False
        self._scores.append((outcome.accuracy, outcome.costs[self._objective.cost]))
        accuracy, cost = zip(*self._scores, strict=True)
        return bool(non_dominated(accuracy, cost)[-1])


def _outcome(rows: Sequence[tuple[Status, float | None, Costs]]) -> Outcome:
    """Combine the runs of a trial; each row is (status, validation accuracy, costs) of one run."""
    statuses, accuracies, costs = zip(*rows, strict=True)
    # A failed run may have no costs, but another run of the same network has them.
    known = max(costs, key=len)
    for worst in (Status.FAILED, Status.DIVERGED, Status.OVER_BUDGET):
        if worst in statuses:
            return Outcome(worst, known)
    return Outcome(Status.FINISHED, known, sum(accuracies) / len(accuracies))


def _measured(costs: Mapping[str, Any]) -> Costs:
    """Return the measures that a row of the table has, as Python numbers."""
    import pandas as pd

    return {name: float(cost) for name, cost in costs.items() if pd.notna(cost)}


def _facts(run: Run) -> tuple[Status, float | None, Costs]:
    result = run.result
    assert result is not None
    costs = {name: value for name, value in run.trial.known.items() if name in MEASURES}
    return result.status, result.validation.accuracy if result.validation else None, costs


def _keep_models(record: Record, runs: Sequence[Run]) -> None:
    for run in runs:
        if run.result is not None and run.result.status is Status.FINISHED:
            record.log_model(run.run_id, run.result.model)


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
    return ", ".join(["/".join(arms)] * bool(arms) + others)


def _longest(space: SearchSpace) -> int:
    epochs = [p.domain.values()[-1] for p in space.parameters if p.name == "epochs" and p.domain.size > 0]
    return int(max(epochs, default=Config().epochs))
