"""Asynchronous successive halving: which trainings stop early, by their place at an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from invact.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Arrival", "SuccessiveHalving", "noise"]


@dataclass(frozen=True)
class Arrival:
    """A training that reached an epoch.

    Attributes:
        trial: number of the trial.
        epoch: number of the epoch, from 1.
        accuracy: validation accuracy at the end of this epoch, a fraction; for a single objective its value,
            where larger is better.
        cost: cost of the network, in any measure; None for a single objective.
    """

    trial: int
    epoch: int
    accuracy: float
    cost: float | None = None


@dataclass(frozen=True)
class SuccessiveHalving:
    """Decides at a few epochs, the rungs, whether a training goes on.

    At a rung, a training competes with those that reached the same rung before it. One training beats another
    if it costs at most as much, is more accurate by at least `slack`, and is better in one of the two. The
    rank of a training is the length of the longest chain of trainings that beat each other and end with it:
    those of rank 0 are the front, those of rank 1 are the front of the rest, and so on.

    Formula:
        Of n trainings at the rung, the new one included, it stops if at least max(1, floor(n / eta)) have a
        lower rank. So a training that is on the front of its rung always goes on. Without costs, the rank
        orders by accuracy alone, and the rule is asynchronous successive halving.

    A decision depends only on the arrivals before it and on their order, so a record of the arrivals repeats
    every decision. An arrival that is not finite stops, and does not compete.

    Attributes:
        epochs: epochs of a whole training.
        first: epoch of the first rung.
        eta: each rung is `eta` times as late as the one before, and about one of `eta` trainings goes on.
        slack: difference of accuracy, a fraction, that may be chance, for example `noise(images)`; it is used
            only with costs.

    Raises:
        InputError: a number is out of range.

    Source: Li et al., A system for massively parallel hyperparameter tuning, 2020,
    https://arxiv.org/abs/1810.05934; Schmucker et al., Multi-objective asynchronous successive halving, 2021,
    https://arxiv.org/abs/2106.12639.

    Example:
        >>> rule = SuccessiveHalving(epochs=9, first=1, eta=3)
        >>> rule.rungs
        (1, 3)
        >>> earlier = [Arrival(0, 1, 0.8, 1000), Arrival(1, 1, 0.9, 2000)]
        >>> rule.goes_on(earlier, Arrival(2, 1, 0.7, 1500)), rule.goes_on(earlier, Arrival(2, 1, 0.7, 500))
        (False, True)
    """

    epochs: int
    first: int = 1
    eta: int = 3
    slack: float = 0.0

    def __post_init__(self) -> None:
        if self.first < 1:
            raise InputError(f"first: received {self.first}. Allowed: at least 1")
        if self.eta < 2:
            raise InputError(f"eta: received {self.eta}. Allowed: at least 2")
        if not 0 <= self.slack < 1:
            raise InputError(f"slack: received {self.slack}. Allowed: at least 0 and below 1")

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs at whose end is decided; never the last epoch, because there is nothing left to save."""
        rungs = [self.first]
        while rungs[-1] < self.epochs:
            rungs.append(rungs[-1] * self.eta)
        return tuple(rungs[:-1])

    def goes_on(self, earlier: Sequence[Arrival], new: Arrival) -> bool:
        """Return whether the training of the new arrival goes on.

        Args:
            earlier: the arrivals before it, at all epochs, in the order in which they came.
            new: the new arrival.
        """
        if new.epoch not in self.rungs:
            return True
        if not np.isfinite([new.accuracy, new.cost or 0.0]).all():
            return False
        peers = [each for each in earlier if each.epoch == new.epoch] + [new]
        slack = 0.0 if new.cost is None else self.slack
        accuracy = np.array([each.accuracy for each in peers])
        cost = np.array([each.cost or 0.0 for each in peers])
        finite = np.isfinite(accuracy) & np.isfinite(cost)
        quota = max(1, int(finite.sum()) // self.eta)
        return _lower_ranked(accuracy[finite], cost[finite], slack, quota) < quota


def noise(images: int) -> float:
    """Return a slack for accuracies that are measured on a number of images: their largest standard error.

    Formula:
        sqrt(p (1 - p) / images) with p = 1/2, which is 0.5 / sqrt(images). Of two accuracies of 90 %, the
        difference has a standard error of 0.42 / sqrt(images). What more slack costs and what less slack
        loses is measured in docs/performance.md.

    Example:
        >>> noise(10_000)
        0.005
    """
    return 0.5 / float(np.sqrt(images))


def _lower_ranked(accuracy: NDArray[np.float64], cost: NDArray[np.float64], slack: float, enough: int) -> int:
    """Count the points whose rank is lower than that of the last point; stop counting at `enough`."""
    last = len(accuracy) - 1
    left = np.argsort(cost, kind="stable")
    lower = 0
    while lower < enough:
        beaten = _beaten(accuracy[left], cost[left], slack)
        if not beaten[left == last][0]:
            break
        lower += len(left) - int(beaten.sum())
        left = left[beaten]
    return lower


def _beaten(accuracy: NDArray[np.float64], cost: NDArray[np.float64], slack: float) -> NDArray[np.bool_]:
    """Mark the points that another one beats; they are sorted by cost."""
    best = np.concatenate(([-np.inf], np.maximum.accumulate(accuracy)))
    cheaper = best[np.searchsorted(cost, cost, side="left")]
    same_or_cheaper = best[np.searchsorted(cost, cost, side="right")]
    needed = accuracy + slack
    return (cheaper >= needed) | ((same_or_cheaper >= needed) & (same_or_cheaper > accuracy))
