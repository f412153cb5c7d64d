"""Asynchronous successive halving: a training stops early if too many that came as far are better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from invact.errors import InputError

__all__ = ["Arrival", "SuccessiveHalving"]


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

    Attributes:
        epochs: epochs of a whole training.
        first: epoch of the first rung.
        eta: each rung is `eta` times as late as the one before, and about one of `eta` trainings goes on.
        slack: difference of accuracy, a fraction, that one epoch may show by chance; used only with costs.

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

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs at whose end is decided; never the last epoch."""
        rungs = [self.first]
        while rungs[-1] < self.epochs:
            rungs.append(rungs[-1] * self.eta)
        return tuple(rungs[:-1])

    def goes_on(self, earlier: Sequence[Arrival], new: Arrival) -> bool:
        """Return whether the training of the new arrival goes on."""
        if new.epoch not in self.rungs:
            return True
        if not math.isfinite(new.accuracy):
            return False
        left = [each for each in earlier if each.epoch == new.epoch and math.isfinite(each.accuracy)]
        quota = max(1, (len(left) + 1) // self.eta)
        lower = 0
        # One front after another is taken away, until the new arrival is on the front.
        while lower < quota and any(self._beats(each, new) for each in left):
            front = [one for one in left if not any(self._beats(other, one) for other in left)]
            lower += len(front)
            left = [one for one in left if one not in front]
        return lower < quota

    def _beats(self, one: Arrival, other: Arrival) -> bool:
        if one.cost is None or other.cost is None:
            return one.accuracy > other.accuracy
        better = one.cost < other.cost or one.accuracy > other.accuracy
        return one.cost <= other.cost and one.accuracy >= other.accuracy + self.slack and better
