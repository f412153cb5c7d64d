"""The `Objective` type: the goal of a search and its budgets. Selection reads validation accuracy only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from invact.fronts.points import Point, Winner
from invact.measures import MEASURES, Costs, in_full
from invact.statistics.fronts.uncertainty import DIGITS
from invact.validation import Frozen, validate

__all__ = ["Direction", "Objective"]

Direction = Literal["maximize", "minimize"]

Budget = Annotated[int, Field(strict=True, gt=0)]
RealBudget = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]


class Objective(Frozen):
    """The goal of a search and its budgets.

    Attributes:
        kind: the goal. `accuracy`: the highest accuracy within the budgets; `pareto`: the front of accuracy
            and cost; `cost`: the lowest cost with an accuracy of at least `min_accuracy`; `weighted`: the
            largest accuracy * (cost / target) ** exponent (MnasNet: Tan et al., 2019, arXiv:1807.11626).
        cost: the measure of `invact.measures.MEASURES` that is the cost.
        max_macs: budget of multiply-accumulates for one image.
        max_params: budget of parameters.
        max_activation_bytes: budget of peak activation memory for one image, in bytes.
        max_bytes_moved: budget of bytes read and written for one image.
        max_latency_ms: budget of the median time of one inference, in milliseconds.
        min_accuracy: with kind `cost`, the required validation accuracy, a fraction.
        target: with kind `weighted`, the cost at which the weighted value equals the accuracy.
        exponent: with kind `weighted`, the exponent. At -0.07, doubling the cost must raise the accuracy by a
            relative 5 % to keep the weighted value.

    Example:
        >>> Objective(kind="weighted", target=1_000_000).values(0.9, {"macs": 1_000_000})
        (0.9,)
    """

    kind: Literal["accuracy", "pareto", "cost", "weighted"] = "accuracy"
    cost: Literal["macs", "params", "activation_bytes", "bytes_moved", "latency_ms"] = "macs"
    max_macs: Budget | None = None
    max_params: Budget | None = None
    max_activation_bytes: Budget | None = None
    max_bytes_moved: Budget | None = None
    max_latency_ms: RealBudget | None = None
    min_accuracy: Annotated[float, Field(strict=True, gt=0, le=1)] | None = None
    target: RealBudget | None = None
    exponent: Annotated[float, Field(strict=True, lt=0, allow_inf_nan=False)] = -0.07

    @model_validator(mode="after")
    def _belongs_to_its_kind(self) -> Objective:
        for key, kind in {"min_accuracy": "cost", "target": "weighted"}.items():
            value = getattr(self, key)
            if self.kind == kind and value is None:
                raise ValueError(f'{key}: missing key. Allowed: a number, required with kind = "{kind}"')
            if self.kind != kind and value is not None:
                raise ValueError(f'{key}: received {value!r}. Allowed: only with kind = "{kind}"')
        if self.kind != "weighted" and "exponent" in self.model_fields_set:
            raise ValueError(f'exponent: received {self.exponent!r}. Allowed: only with kind = "weighted"')
        if self.kind == "accuracy" and "cost" in self.model_fields_set:
            raise ValueError(f'cost: received {self.cost!r}. Allowed: only with a kind other than "accuracy"')
        return self

    @property
    def budgets(self) -> dict[str, float]:
        """The budgets that are set, by measure.

        Example:
            >>> Objective(max_params=10).budgets
            {'params': 10}
        """
        limits = {name: getattr(self, f"max_{name}") for name in MEASURES}
        return {name: limit for name, limit in limits.items() if limit is not None}

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that the search uses: those with a budget, and the cost if it is optimised."""
        decisive = {*self.budgets, *([] if self.kind == "accuracy" else [self.cost])}
        return tuple(name for name in MEASURES if name in decisive)

    @property
    def timed(self) -> bool:
        """Whether the search uses a measure that must be timed before training."""
        return any(not MEASURES[name].counted for name in self.measures)

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The direction of optimisation for each number that `values` returns.

        Example:
            >>> Objective(kind="pareto").directions
            ('maximize', 'minimize')
        """
        if self.kind == "pareto":
            return ("maximize", "minimize")
        return ("minimize",) if self.kind == "cost" else ("maximize",)

    def values(self, accuracy: float, costs: Costs) -> tuple[float, ...]:
        """Return the numbers to optimise.

        Args:
            accuracy: validation accuracy, the mean over the seeds, a fraction.
            costs: costs of the network by measure; `cost` must be one of them.
        """
        match self.kind:
            case "accuracy":
                return (accuracy,)
            case "pareto":
                return (accuracy, float(costs[self.cost]))
            case "cost":
                return (float(costs[self.cost]),)
            case "weighted":
                assert self.target is not None
                # A cost of 0 would give an infinite value, so the cost is at least 1 (or `target`).
                least = min(1.0, self.target)
                return (accuracy * (max(costs[self.cost], least) / self.target) ** self.exponent,)

    def slack(self, costs: Costs) -> dict[str, float]:
        """Return the unused part of each budget, 1 - cost / budget; it is negative over the budget.

        A measure that is missing in `costs` has no slack. Latency is missing if a network is over a counted
        budget, because it is then not timed.

        Example:
            >>> Objective(max_macs=100, max_params=10).slack({"macs": 150, "params": 5})
            {'macs': -0.5, 'params': 0.5}
        """
        return {name: 1 - costs[name] / budget for name, budget in self.budgets.items() if name in costs}

    def overrun(self, costs: Costs) -> float:
        """Return the largest relative excess over a budget; it is at most 0 within all budgets.

        Example:
            >>> Objective(max_macs=100, max_params=10).overrun({"macs": 150, "params": 5})
            0.5
        """
        return max((-slack for slack in self.slack(costs).values()), default=0.0)

    def shortfall(self, accuracy: float) -> float:
        """Return how far the accuracy is below `min_accuracy`; at most 0 if it is reached or not set."""
        return 0.0 if self.min_accuracy is None else self.min_accuracy - accuracy

    def violation(self, accuracy: float, costs: Costs) -> float:
        """Return by how much a result misses the budgets or `min_accuracy`; 0 if it is feasible."""
        return max(self.overrun(costs), self.shortfall(accuracy), 0.0)

    def key(self, accuracy: float, costs: Costs) -> tuple[float, ...]:
        """Return a sorting key, best first: feasible before infeasible, then by value, then by lowest cost.

        A Pareto search has no single best result; its key puts the highest accuracy first.

        Example:
            >>> found = [(0.9, {"macs": 150}), (0.8, {"macs": 90}), (0.8, {"macs": 80})]
            >>> min(found, key=lambda result: Objective(max_macs=100).key(*result))
            (0.8, {'macs': 80})
        """
        signed = (
            -value if direction == "maximize" else value
            for direction, value in zip(self.directions, self.values(accuracy, costs), strict=True)
        )
        return (self.violation(accuracy, costs), *signed, -accuracy, costs[self.cost])

    @property
    def goal(self) -> str:
        """What the winner is, in words.

        Example:
            >>> Objective(kind="cost", min_accuracy=0.975).goal
            'fewest MACs with at least 97.5% validation accuracy'
        """
        match self.kind:
            case "accuracy":
                return "highest validation accuracy"
            case "pareto":
                return "most accurate point of the front"
            case "cost":
                assert self.min_accuracy is not None
                least = f"{100 * self.min_accuracy:g}%"
                return f"fewest {MEASURES[self.cost].label} with at least {least} validation accuracy"
            case "weighted":
                assert self.target is not None
                ratio = f"{MEASURES[self.cost].label} / {self.target:,.10g}"
                return f"largest validation accuracy x ({ratio})^{self.exponent:g}"

    def winner(self, points: Iterable[Point]) -> Winner:
        """Choose the best configuration, by the mean accuracy over its seeds.

        Of equal configurations, the one with the lowest cost wins, then the one with the lowest trial number.

        Args:
            points: the configurations that finished, in any order; each has a value of `cost`.

        Returns:
            The winner. It has no point, and a reason, if no configuration is within the budgets and reaches
            `min_accuracy`.

        Example:
            >>> small, large = (Point(n, "a", f"relu {n}", n, 1, 1, n / 10, None, 1, "r") for n in (8, 9))
            >>> Objective(kind="cost", min_accuracy=0.75).winner([large, small]).point.label
            'relu 8'
            >>> print(Objective(kind="cost", min_accuracy=0.95).winner([large, small]))
            no winner: no finished configuration has at least 95% validation accuracy (the highest is 90.00%)
        """
        # Rounded as in the front: means over seeds that are equal may differ in the last digits.
        results = [(round(point.accuracy, DIGITS), _costs(point), point) for point in points]
        if not results:
            return Winner(self.goal, reason="no configuration finished on all its seeds")
        accuracy, costs, best = min(
            results, key=lambda each: (*self.key(*each[:2]), each[2].trial, each[2].config)
        )
        if self.overrun(costs) > 0:
            limits = ", ".join(in_full(name, budget) for name, budget in self.budgets.items())
            return Winner(self.goal, reason=f"no finished configuration is within {limits}")
        if self.shortfall(accuracy) > 0:
            assert self.min_accuracy is not None
            highest = max(accuracy for accuracy, *_ in results)
            needed = (
                f"at least {100 * self.min_accuracy:g}% validation accuracy (the highest is {highest:.2%})"
            )
            return Winner(self.goal, reason=f"no finished configuration has {needed}")
        # The first number that is optimised; only a front optimises two.
        return Winner(self.goal, best, self.values(accuracy, costs)[0])

    @classmethod
    def recorded(cls, values: Mapping[str, Any], source: str) -> Objective:
        """Read an objective from a record, which names every key, also those of other kinds.

        Args:
            values: the keys of the objective and their values.
            source: where the values come from; a message starts with it.

        Raises:
            InputError: the values are not those of an objective.

        Example:
            >>> front = Objective(kind="pareto")
            >>> Objective.recorded(front.model_dump(), "record") == front
            True
        """
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        given = {name: value for name, value in values.items() if value != defaults.get(name)}
        return validate(cls, given, source)


def _costs(point: Point) -> dict[str, float]:
    known = {name: getattr(point, name) for name in MEASURES}
    return {name: cost for name, cost in known.items() if cost is not None}
