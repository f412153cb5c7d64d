"""The procedure: Welch's t test at planned numbers of runs, which may stop early."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from invact.errors import InputError
from invact.statistics.comparison.inference import Welch, welch
from invact.statistics.sequential.boundaries import (
    ALPHA,
    LOOKS,
    check_looks,
    futility_bounds,
    nominal_levels,
    prepare,
    repeated_p,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Decision", "Look", "Outcome", "Procedure"]


class Decision(StrEnum):
    """Decision after the runs so far."""

    NON_INFERIOR = "NON_INFERIOR"
    """Stop: the treatment is shown to lose less than the margin."""
    INFERIOR = "INFERIOR"
    """Stop: the treatment is shown to lose more than the margin."""
    FUTILE = "FUTILE"
    """Stop: non-inferiority is unlikely to be shown, and inferiority is not shown."""
    NOT_SHOWN = "NOT_SHOWN"
    """The last look was taken; neither non-inferiority nor inferiority is shown."""
    CONTINUE = "CONTINUE"
    """Continue: more runs are needed."""


@dataclass(frozen=True)
class Look:
    """Result of one look.

    Attributes:
        n: number of runs of each arm.
        difference: mean difference treatment - other arm, as a fraction.
        p_value: nominal p value of H0: true difference <= -margin.
        level: nominal level of this look; a smaller p value stops the test.
    """

    n: int
    difference: float
    p_value: float
    level: float


@dataclass(frozen=True)
class Outcome:
    """Result of a procedure for the runs so far.

    Attributes:
        decision: decision after the runs so far; CONTINUE while more runs are needed.
        n: number of runs of each arm at the latest look; 0 before the first look.
        taken: results of the looks so far, in order.
        estimate: difference of the means at the latest look, as a fraction. After an early stop it tends to
            be too far from -margin; the interval allows for this. None before the first look.
        interval: repeated confidence interval of the difference. Its error on each side is the nominal level
            of the look, so the intervals of all looks contain the true difference together with a probability
            of at least 1 - 2 alpha. None before the first look.
        p_value: repeated p value of H0: true difference <= -margin; None while the decision is CONTINUE. It
            is below alpha exactly if the decision is NON_INFERIOR.
        p_inferior: repeated p value of the opposite H0: true difference >= -margin; None as above.
        margin: non-inferiority margin, as a fraction; 0 in a test of superiority.
    """

    decision: Decision
    n: int
    taken: tuple[Look, ...]
    estimate: float | None
    interval: tuple[float, float] | None
    p_value: float | None
    p_inferior: float | None
    margin: float

    @property
    def shown(self) -> bool:
        """Whether non-inferiority is shown (superiority, if the margin is 0)."""
        return self.decision is Decision.NON_INFERIOR

    @property
    def ended(self) -> bool:
        """Whether no more runs are needed."""
        return self.decision is not Decision.CONTINUE


@dataclass(frozen=True)
class Procedure:
    """Test that is fixed beforehand: its level and its looks. With one look it is a fixed-sample test.

    Attributes:
        looks: number of runs of each arm at each look; the last is the maximum.
        alpha: total one-sided error of all looks together, in (0, 0.5).
        futility: whether the test stops where success is unlikely: the difference is at or below -margin at a
            look that is neither the first nor the last. The levels do not use this rule, so the error is also
            kept if the test continues.

    Raises:
        InputError: a value is out of range.

    Example:
        >>> rule = Procedure()
        >>> rule.next(0), rule.next(6), rule.next(18)
        (6, 7, None)
        >>> runs = [0.910, 0.912, 0.911, 0.909, 0.910, 0.911]
        >>> rule.test(runs, runs, margin=0.01).decision
        <Decision.NON_INFERIOR: 'NON_INFERIOR'>
    """

    looks: tuple[int, ...] = LOOKS
    alpha: float = ALPHA
    futility: bool = True

    def __post_init__(self) -> None:
        check_looks(self.looks)
        if not 0 < self.alpha < 0.5:
            raise InputError(f"alpha: received {self.alpha!r}. Allowed: (0, 0.5)")

    @property
    def most(self) -> int:
        """Largest number of runs of each arm."""
        return self.looks[-1]

    def next(self, n: int) -> int | None:
        """Number of runs of each arm at the first look after n runs; None if there is no further look."""
        return next((look for look in self.looks if look > n), None)

    def levels(self) -> tuple[float, ...]:
        """Nominal one-sided level of each look."""
        return nominal_levels(self.looks, self.alpha)

    def prepare(self) -> None:
        """Begin to compute in a thread what `test` needs; see `invact.statistics.sequential.boundaries`."""
        prepare(self.looks, self.alpha)

    def test(
        self, treatment: ArrayLike, other: ArrayLike, margin: float = 0.0, floor: float = 0.0
    ) -> Outcome:
        """Test H0: true difference <= -margin on the runs so far, at each look that they reach.

        The test stops for non-inferiority if the nominal p value of a look is below its level, for
        inferiority if the p value of the opposite hypothesis is, and for futility as described above. Runs
        after the stop are not used.

        Args:
            treatment: accuracies of the treatment, as fractions, in the planned order; shape (n_T,).
            other: accuracies of the other arm, as fractions, in the planned order; shape (n_O,).
            margin: non-inferiority margin, in [0, 1), as a fraction; 0 tests superiority.
            floor: smallest standard deviation of an arm, see `welch`.

        Raises:
            InputError: as `welch`.

        Source: Jennison and Turnbull, Group Sequential Methods, 2000, chapters 4 and 9.
        """
        ours, theirs = np.asarray(treatment, dtype=float), np.asarray(other, dtype=float)
        reached = [n for n in self.looks if n <= min(len(ours), len(theirs))]
        taken: list[Look] = []
        decision, found, level = Decision.CONTINUE, None, self.alpha
        futile = futility_bounds(self.looks, self.futility)
        for n, level, bound in zip(reached, self.levels(), futile, strict=False):
            found = welch(ours[:n], theirs[:n], margin, floor)
            taken.append(Look(n, found.difference, found.p_value, level))
            decision = self._decide(found, n, level, bound)
            if decision is not Decision.CONTINUE:
                break
        if found is None:
            return Outcome(decision, 0, (), None, None, None, None, float(margin))
        ended = decision is not Decision.CONTINUE
        return Outcome(
            decision,
            taken[-1].n,
            tuple(taken),
            found.difference,
            found.interval(level),
            self._repeated(found.p_value, len(taken)) if ended else None,
            self._repeated(found.p_inferior, len(taken)) if ended else None,
            float(margin),
        )

    def _decide(self, found: Welch, n: int, level: float, futile: float) -> Decision:
        if found.p_value < level:
            return Decision.NON_INFERIOR
        if found.p_inferior < level:
            return Decision.INFERIOR
        if n == self.most:
            return Decision.NOT_SHOWN
        if found.t <= futile:
            return Decision.FUTILE
        return Decision.CONTINUE

    def _repeated(self, p_value: float, look: int) -> float:
        return repeated_p(p_value, look - 1, self.looks, self.alpha)
