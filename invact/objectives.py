"""Objectives: what a search looks for, under which budget. Selection reads validation accuracy only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from invact.config import Frozen

__all__ = ["Direction", "Objective"]

Direction = Literal["maximize", "minimize"]

Budget = Annotated[int, Field(strict=True, gt=0)]


class Objective(Frozen):
    """What a search looks for.

    Attributes:
        kind: `accuracy`: the most accurate within the budget; `pareto`: the front of accuracy and MACs;
            `macs`: the cheapest that reaches `min_accuracy`; `weighted`: the largest
            accuracy * (MACs / target_macs) ** exponent (MnasNet: Tan et al., 2019, arXiv:1807.11626).
        max_macs: budget of multiply-accumulates for one image.
        max_params: budget of parameters.
        min_accuracy: what `macs` must reach, a fraction.
        target_macs: MACs at which `weighted` is the accuracy itself.
        exponent: of `weighted`; -0.07 there trades a doubling of the cost for 5 % of the accuracy.

    Example:
        >>> Objective(kind="weighted", target_macs=1_000_000).values(0.9, 1_000_000)
        (0.9,)
    """

    kind: Literal["accuracy", "pareto", "macs", "weighted"] = "accuracy"
    max_macs: Budget | None = None
    max_params: Budget | None = None
    min_accuracy: Annotated[float, Field(strict=True, gt=0, le=1)] | None = None
    target_macs: Budget | None = None
    exponent: Annotated[float, Field(strict=True, lt=0, allow_inf_nan=False)] = -0.07

    @model_validator(mode="after")
    def _belongs_to_its_kind(self) -> Objective:
        for key, kind in {"min_accuracy": "macs", "target_macs": "weighted"}.items():
            value = getattr(self, key)
            if self.kind == kind and value is None:
                raise ValueError(f'{key}: missing key. Allowed: a number with kind = "{kind}"')
            if self.kind != kind and value is not None:
                raise ValueError(f'{key}: received {value!r}. Allowed: with kind = "{kind}" only')
        if self.kind != "weighted" and "exponent" in self.model_fields_set:
            raise ValueError(f'exponent: received {self.exponent!r}. Allowed: with kind = "weighted" only')
        return self

    @property
    def directions(self) -> tuple[Direction, ...]:
        """One direction for each of `values`.

        Example:
            >>> Objective(kind="pareto").directions
            ('maximize', 'minimize')
        """
        if self.kind == "pareto":
            return ("maximize", "minimize")
        return ("minimize",) if self.kind == "macs" else ("maximize",)

    def values(self, accuracy: float, macs: int) -> tuple[float, ...]:
        """Return what is optimised.

        Args:
            accuracy: validation accuracy, the mean over the seeds, a fraction.
            macs: multiply-accumulates for one image.
        """
        match self.kind:
            case "accuracy":
                return (accuracy,)
            case "pareto":
                return (accuracy, float(macs))
            case "macs":
                return (float(macs),)
            case "weighted":
                assert self.target_macs is not None
                return (accuracy * (max(macs, 1) / self.target_macs) ** self.exponent,)

    def overrun(self, macs: int, params: int) -> float:
        """Return the relative excess over the budget, the larger of both; at most 0 within it.

        Example:
            >>> Objective(max_macs=100, max_params=10).overrun(macs=150, params=5)
            0.5
        """
        budgets = ((macs, self.max_macs), (params, self.max_params))
        return max((cost / budget - 1 for cost, budget in budgets if budget is not None), default=0.0)

    def shortfall(self, accuracy: float) -> float:
        """Return what is missing to `min_accuracy`; at most 0 when it is reached or not asked for."""
        return 0.0 if self.min_accuracy is None else self.min_accuracy - accuracy

    def violation(self, accuracy: float, macs: int, params: int) -> float:
        """Return by how much a result misses what was asked for; 0 when it is feasible."""
        return max(self.overrun(macs, params), self.shortfall(accuracy), 0.0)

    def key(self, accuracy: float, macs: int, params: int) -> tuple[float, ...]:
        """Return a sorting key, best first: the feasible ones, then the best values, then the fewest MACs.

        A Pareto search has no single best: its key names the most accurate.

        Example:
            >>> found = [(0.9, 150, 5), (0.8, 90, 5), (0.8, 80, 5)]
            >>> min(found, key=lambda result: Objective(max_macs=100).key(*result))
            (0.8, 80, 5)
        """
        signed = (
            -value if direction == "maximize" else value
            for direction, value in zip(self.directions, self.values(accuracy, macs), strict=True)
        )
        return (self.violation(accuracy, macs, params), *signed, -accuracy, macs)
