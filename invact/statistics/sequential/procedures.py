"""One interface to the methods that test a series of pairs: fixed, group-sequential and anytime-valid."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from invact.errors import InputError
from invact.statistics.comparison.inference import one_sided
from invact.statistics.sequential.anytime import anytime
from invact.statistics.sequential.boundaries import LOOKS, check_looks, nominal_levels
from invact.statistics.sequential.group_sequential import Decision, Look, group_sequential

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Method", "Procedure", "ProcedureResult"]


class Method(StrEnum):
    """Method: at which numbers of pairs the test looks at the data."""

    SEQUENTIAL = "sequential"
    """At a few planned looks, with boundaries that keep the total type I error."""
    FIXED = "fixed"
    """Once, after all pairs."""
    ANYTIME = "anytime"
    """After every pair, with an e-process."""


@dataclass(frozen=True)
class ProcedureResult:
    """Result of a procedure for the pairs so far.

    Attributes:
        decision: decision after the pairs so far; CONTINUE while more pairs are needed.
        n: number of pairs used, up to the stop.
        taken: results of the looks so far, in order; `anytime` gives only the latest look.
        p_value: p value of H0: mean <= -margin, adjusted for the looks. It is below alpha exactly if the
            decision is NON_INFERIOR. This and the next three are None while the decision is CONTINUE.
        p_inferior: adjusted p value of H0: mean >= -margin.
        estimate: estimate of the mean difference: median-unbiased for `sequential`, otherwise the mean.
        interval: adjusted confidence interval of the mean difference, two-sided at 1 - 2 alpha.
        margin: non-inferiority margin: the largest loss of accuracy that still counts as equal, as a
            fraction; 0 in a test of superiority.
    """

    decision: Decision
    n: int
    taken: tuple[Look, ...]
    p_value: float | None
    p_inferior: float | None
    estimate: float | None
    interval: tuple[float, float] | None
    margin: float

    @property
    def shown(self) -> bool:
        """Whether non-inferiority is shown (superiority, if the margin is 0)."""
        return self.decision is Decision.NON_INFERIOR

    @property
    def ended(self) -> bool:
        """Whether no more pairs are needed."""
        return self.decision is not Decision.CONTINUE


@dataclass(frozen=True)
class Procedure:
    """Test that is fixed beforehand: method, level and looks.

    Attributes:
        method: at which numbers of pairs the test looks at the data.
        alpha: one-sided level of the whole procedure, in (0, 0.5).
        looks: number of pairs at each look; the last is the maximum. `fixed` and `anytime` have exactly one.
        futility: whether `sequential` stops if success is unlikely; the rule is not binding.

    Raises:
        InputError: a value is out of range.

    Example:
        >>> rule = Procedure()
        >>> rule.next(0), rule.next(5), rule.next(15)
        (5, 7, None)
        >>> rule.test([0.001, -0.0005, 0.0004, 0.001, -0.001], margin=0.005).decision
        <Decision.NON_INFERIOR: 'NON_INFERIOR'>
    """

    method: Method = Method.SEQUENTIAL
    alpha: float = 0.05
    looks: tuple[int, ...] = LOOKS
    futility: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 0.5:
            raise InputError(f"alpha: received {self.alpha!r}. Allowed: (0, 0.5)")
        if self.method is Method.SEQUENTIAL:
            check_looks(self.looks)
        elif len(self.looks) != 1 or self.looks[0] < 2:
            raise InputError(f"looks: received {list(self.looks)}. Allowed: one number of pairs, 2 or more")

    @property
    def most(self) -> int:
        """Maximum number of pairs."""
        return self.looks[-1]

    def next(self, n: int) -> int | None:
        """Number of pairs of the first look after n pairs; None if there is no further look."""
        if self.method is Method.ANYTIME:
            return max(2, n + 1) if n < self.most else None
        return next((look for look in self.looks if look > n), None)

    def levels(self) -> tuple[float, ...]:
        """Nominal one-sided level of each look."""
        if self.method is Method.SEQUENTIAL:
            return nominal_levels(self.looks, self.alpha)
        return (self.alpha,)

    def test(self, differences: ArrayLike, margin: float) -> ProcedureResult:
        """Test H0: mean <= -margin on the pairs so far, in the planned order.

        Args:
            differences: treatment - control, as fractions; shape (n,), two or more. Differences after the
                stop or after the last look are not used.
            margin: non-inferiority margin, in [0, 1), as a fraction; 0 tests superiority.

        Raises:
            InputError: as `non_inferiority`.
        """
        values = np.asarray(differences, dtype=float)[: self.most]
        if self.method is Method.SEQUENTIAL:
            found = group_sequential(values, margin, self.alpha, self.looks, self.futility)
            return ProcedureResult(
                found.decision,
                found.n,
                found.taken,
                found.p_value,
                found.p_inferior,
                found.estimate,
                found.interval,
                found.margin,
            )
        if self.method is Method.FIXED:
            return self._fixed(values, margin)
        return self._anytime(values, margin)

    def holds(self, differences: ArrayLike, margin: float, like: ProcedureResult) -> bool:
        """Whether the test is also significant on a part of the pairs of a result.

        `sequential` and `fixed` use the nominal level of the look at which the result stopped.

        Args:
            differences: differences of the remaining pairs.
            margin: as for `test`.
            like: result on all pairs, which has ended.
        """
        values = np.asarray(differences, dtype=float)
        if len(values) < 2:
            return False
        if self.method is Method.ANYTIME:
            return anytime(values, margin, self.alpha).decision is Decision.NON_INFERIOR
        return one_sided(values, margin, self.alpha).p_value < like.taken[-1].level

    def _fixed(self, values: np.ndarray, margin: float) -> ProcedureResult:
        test = one_sided(values, margin, self.alpha)
        if test.n < self.most:
            return ProcedureResult(Decision.CONTINUE, 0, (), None, None, None, None, margin)
        decision = Decision.NOT_SHOWN
        if test.p_value < self.alpha:
            decision = Decision.NON_INFERIOR
        elif test.p_inferior < self.alpha:
            decision = Decision.INFERIOR
        look = Look(test.n, test.mean, test.p_value, self.alpha)
        return ProcedureResult(
            decision, test.n, (look,), test.p_value, test.p_inferior, test.mean, test.interval, margin
        )

    def _anytime(self, values: np.ndarray, margin: float) -> ProcedureResult:
        found = anytime(values, margin, self.alpha)
        mean = float(values[: found.n].mean())
        decision = found.decision
        if decision is Decision.CONTINUE and found.n == self.most:
            decision = Decision.NOT_SHOWN
        look = Look(found.n, mean, found.p_value, self.alpha)
        if decision is Decision.CONTINUE:
            return ProcedureResult(decision, found.n, (look,), None, None, None, None, margin)
        return ProcedureResult(
            decision, found.n, (look,), found.p_value, found.p_inferior, mean, found.interval, margin
        )
