"""The configurations of a front: points that finished, points that are excluded, and the winner."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from invact.measures import in_full
from invact.text import plain
from invact.training.results import Status

__all__ = ["Apart", "Point", "Winner"]


@dataclass(frozen=True)
class Point:
    """A configuration that finished on all its seeds.

    Attributes:
        trial: number of the trial that proposed the configuration.
        config: digest of the configuration.
        label: name of the configuration in tables and figures.
        macs: multiply-accumulates for one image.
        params: number of parameters.
        filters: number of filters over all layers.
        accuracy: validation accuracy, mean over the seeds. It selects the front.
        test_accuracy: test accuracy, mean over the seeds; None if it was not measured.
        seeds: number of seeds.
        run_id: MLflow run of the first seed.
        values: the parameters that the sweep varies.
        p_non_dominated: probability of being on the true front; None with one seed, or without all runs.
        activation_bytes: peak memory of the activations, in bytes; None if it was not measured.
        bytes_moved: bytes that one inference reads and writes; None if it was not measured.
        latency_ms: time of one inference in milliseconds; None if it was not measured.
        measure: name of the measure on the cost axis of the front.
    """

    trial: int
    config: str
    label: str
    macs: int
    params: int
    filters: int
    accuracy: float
    test_accuracy: float | None
    seeds: int
    run_id: str
    values: Mapping[str, Any] = field(default_factory=dict, hash=False)
    p_non_dominated: float | None = None
    activation_bytes: int | None = None
    bytes_moved: int | None = None
    latency_ms: float | None = None
    measure: str = "macs"

    @property
    def cost(self) -> float:
        """Value of the configuration on the cost axis of the front.

        Example:
            >>> Point(0, "a", "relu 8", 100, 10, 8, 0.9, None, 1, "r", measure="params").cost
            10
        """
        cost: float = getattr(self, self.measure)
        return cost

    def __repr__(self) -> str:
        """Give label, trial, cost and validation accuracy.

        Example:
            >>> Point(3, "a", "relu 8", 950, 10, 8, 0.9, None, 1, "r")
            Point('relu 8', trial 3: 950 MACs, 90.00%)
        """
        cost = in_full(self.measure, self.cost)
        return f"Point({self.label!r}, trial {self.trial}: {cost}, {self.accuracy:.2%})"


@dataclass(frozen=True)
class Apart:
    """A configuration that is excluded from the comparison, with the reason.

    Attributes:
        status: reason for the exclusion, OVER_BUDGET, DIVERGED, FAILED or PRUNED on at least one seed.
        macs: multiply-accumulates for one image; None if the model was never built. The same holds for
            `params` and `filters`. The other fields are those of `Point`.
    """

    trial: int
    config: str
    label: str
    status: Status
    macs: int | None
    params: int | None
    filters: int | None
    seeds: int
    run_id: str
    values: Mapping[str, Any] = field(default_factory=dict, hash=False)
    activation_bytes: int | None = None
    bytes_moved: int | None = None
    latency_ms: float | None = None
    measure: str = "macs"

    @property
    def cost(self) -> float | None:
        """Value of the configuration on the cost axis of the front; None if it was not measured."""
        cost: float | None = getattr(self, self.measure)
        return cost

    def __repr__(self) -> str:
        return f"Apart({self.label!r}, trial {self.trial}: {self.status})"


@dataclass(frozen=True)
class Winner:
    """The configuration that a sweep's objective asks for.

    Attributes:
        goal: what the objective asks for, in words.
        point: the configuration; None if none qualifies.
        value: the number that the objective optimises: a validation accuracy, a cost or a weighted value.
        reason: why no configuration qualifies; empty if one does.

    Example:
        >>> point = Point(3, "a", "relu 8", 950, 10, 8, 0.9, None, 1, "r")
        >>> print(Winner("highest validation accuracy", point))
        winner: relu 8 (trial 3), highest validation accuracy: 90.00%, 950 MACs
        >>> print(Winner("highest validation accuracy", reason="no configuration finished"))
        no winner: no configuration finished
    """

    goal: str
    point: Point | None = None
    value: float | None = None
    reason: str = ""

    def __repr__(self) -> str:
        return f"Winner({str(self)!r})"

    def __str__(self) -> str:
        """Name the winner in one line, or say why there is none."""
        if self.point is None:
            return f"no winner: {self.reason}"
        one = self.point
        told = [f"{one.accuracy:.2%}", in_full(one.measure, one.cost)]
        if self.value is not None and not any(map(math.isclose, (one.accuracy, one.cost), [self.value] * 2)):
            told.append(f"value {self.value:.4f}")
        return f"winner: {plain(one.label)} (trial {one.trial}), {self.goal}: {', '.join(told)}"
