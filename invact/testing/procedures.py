"""The contract suite of procedures: what every test of a series of pairs must do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import pytest

from invact.statistics.sequential.group_sequential import Decision

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from invact.statistics.sequential.procedures import ProcedureResult

__all__ = ["MARGIN", "PairsTest", "ProcedureContract", "series"]

MARGIN = 0.005
"""The non-inferiority margin of the tests, as a fraction."""

_MOST = 1000
_CASES = 6


class PairsTest(Protocol):
    """The part of `invact.statistics.sequential.procedures.Procedure` that a claim uses."""

    @property
    def alpha(self) -> float:
        """The one-sided level of the whole procedure."""

    @property
    def most(self) -> int:
        """The largest number of pairs."""

    def next(self, n: int) -> int | None:
        """Return how many pairs the first look after n pairs needs; None when there is no further look."""

    def test(self, differences: ArrayLike, margin: float) -> ProcedureResult:
        """Test H0: mean <= -margin on the pairs so far."""

    def holds(self, differences: ArrayLike, margin: float, like: ProcedureResult) -> bool:
        """Return whether the test also rejects on a part of the pairs that a result used."""


def series(mean: float, sd: float, seed: int, n: int) -> NDArray[np.float64]:
    """Return n differences between treatment and control from a normal distribution; shape (n,).

    Example:
        >>> series(0.01, 0.0, seed=0, n=2).tolist()
        [0.01, 0.01]
    """
    return np.random.default_rng(seed).normal(mean, sd, n)


class ProcedureContract:
    """What every procedure promises; subclass it as `Test...` and set `procedure`.

    A procedure asks for more pairs until it ends, at `most` pairs at the latest. Its decision, p-value,
    estimate and interval agree with each other. Pairs after the stop change nothing. A treatment that is
    better is shown to be non-inferior, and one that is worse than the margin is shown to be inferior.

    Attributes:
        procedure: a `Procedure`, or an object with the same methods.
        interval_agrees: whether the interval contains the estimate, and lies above -margin exactly when the
            p-value is below alpha. Both can fail if the interval is the intersection of intervals at several
            numbers of pairs, as that of an anytime-valid test; such a procedure sets it to False.

    Example:
        >>> from invact.statistics.sequential.procedures import Method, Procedure
        >>> class TestTen(ProcedureContract):
        ...     procedure = Procedure(Method.FIXED, looks=(10,))
        >>> TestTen().test_swapped_arms_change_the_decision()
        >>> print(*[name for name in dir(TestTen) if name.startswith("test")])
        test_a_part_of_the_pairs_is_tested_at_the_level_of_the_stop
        test_pairs_are_requested_until_the_last_look
        test_swapped_arms_change_the_decision
        test_the_parts_of_a_result_agree
    """

    procedure: PairsTest | None = None
    interval_agrees: bool = True

    def follow(self, differences: NDArray[np.float64], margin: float = MARGIN) -> ProcedureResult:
        """Take as many pairs as the procedure asks for, until it ends, and return its last result.

        Args:
            differences: treatment - control, as fractions; shape (n,), at least `most` of them.
            margin: as a fraction.
        """
        procedure, n = self._given(), 0
        for _ in range(_MOST):
            following = procedure.next(n)
            assert following is not None, f"{n} pairs, no further look and no end"
            assert n < following <= procedure.most
            n = following
            result = procedure.test(differences[:n], margin)
            if result.ended:
                return result
        raise AssertionError(f"no end after {_MOST} looks")

    def check(self, differences: NDArray[np.float64], margin: float = MARGIN) -> None:
        """Assert all that a result promises on one series; for tests with series of your own.

        Args:
            differences: treatment - control, as fractions; shape (n,), more than `most` of them.
            margin: as a fraction.
        """
        procedure = self._given()
        result = self.follow(differences, margin)
        assert result.n == result.taken[-1].n <= procedure.most
        assert result.margin == margin
        assert result.p_value is not None
        assert result.p_inferior is not None
        assert result.estimate is not None
        assert result.interval is not None
        assert 0 <= result.p_value <= 1
        assert 0 <= result.p_inferior <= 1
        assert result.shown == (result.p_value < procedure.alpha)
        low, high = result.interval
        if self.interval_agrees:
            assert low <= result.estimate <= high
            assert result.shown == (low > -margin)
            assert (result.decision is Decision.INFERIOR) == (high < -margin and not result.shown)
        assert procedure.test(differences, margin) == result, "pairs after the stop changed the result"

    @pytest.mark.parametrize("margin", [0.0, MARGIN])
    def test_the_parts_of_a_result_agree(self, margin: float) -> None:
        """The decision, the p-value, the estimate and the interval say the same; see `check`."""
        rng = np.random.default_rng(7)
        for seed in range(_CASES):
            mean, sd = rng.uniform(-0.02, 0.02), rng.uniform(0.0005, 0.01)
            self.check(series(mean, sd, seed, self._given().most + 5), margin)

    def test_pairs_are_requested_until_the_last_look(self) -> None:
        """A procedure that goes on has no p-value yet."""
        procedure = self._given()
        assert procedure.next(procedure.most) is None
        assert procedure.next(procedure.most - 1) == procedure.most
        result = procedure.test(series(-MARGIN, 0.01, 3, 2), MARGIN)
        assert not result.ended
        given = (result.p_value, result.p_inferior, result.estimate, result.interval)
        assert given == (None, None, None, None)

    def test_swapped_arms_change_the_decision(self) -> None:
        """Differences are treatment - control."""
        values = series(0.01, 0.001, 0, self._given().most)
        assert self.follow(values).decision is Decision.NON_INFERIOR
        assert self.follow(-values).decision is Decision.INFERIOR

    def test_a_part_of_the_pairs_is_tested_at_the_level_of_the_stop(self) -> None:
        """`holds` rejects on the same pairs, not on much worse ones, and not on a single pair."""
        procedure = self._given()
        values = series(0.0, 0.002, 1, procedure.most)
        result = self.follow(values)
        used = values[: result.n]
        assert result.shown
        assert procedure.holds(used, MARGIN, result)
        assert not procedure.holds(used - 0.02, MARGIN, result)
        assert not procedure.holds(used[:1], MARGIN, result)

    def _given(self) -> PairsTest:
        if self.procedure is None:
            raise NotImplementedError(f"{type(self).__name__}: set `procedure`")
        return self.procedure
