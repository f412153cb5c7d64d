"""The contract suite of procedures: what every test of two series of runs must do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import pytest

from invact.statistics.sequential.procedure import Decision

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from invact.statistics.sequential.procedure import Outcome

__all__ = ["MARGIN", "ArmsTest", "ProcedureContract", "arms"]

MARGIN = 0.005
"""The non-inferiority margin of the tests, as a fraction."""

_MOST = 1000
_CASES = 6


class ArmsTest(Protocol):
    """The part of `invact.statistics.sequential.procedure.Procedure` that a claim uses."""

    @property
    def alpha(self) -> float:
        """The one-sided level of the whole procedure."""

    @property
    def most(self) -> int:
        """The largest number of runs of each arm."""

    def next(self, n: int) -> int | None:
        """Return how many runs the first look after n runs needs; None when there is no further look."""

    def test(
        self, treatment: ArrayLike, other: ArrayLike, margin: float = 0.0, floor: float = 0.0
    ) -> Outcome:
        """Test H0: mean of treatment - mean of other <= -margin on the runs so far."""


def arms(difference: float, sd: float, seed: int, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return n accuracies of the treatment and of the other arm from normal distributions; shapes (n,).

    Example:
        >>> [one.tolist() for one in arms(0.25, 0.0, seed=0, n=2)]
        [[0.75, 0.75], [0.5, 0.5]]
    """
    rng = np.random.default_rng(seed)
    return rng.normal(0.5 + difference, sd, n), rng.normal(0.5, sd, n)


class ProcedureContract:
    """What every procedure promises; subclass it as `Test...` and set `procedure`.

    A procedure asks for more runs until it ends, at `most` runs of each arm at the latest. Its decision,
    p-value, estimate and interval agree with each other. Runs after the stop change nothing. A treatment that
    is better is shown to be non-inferior, and one that is worse than the margin is shown to be inferior.

    Attributes:
        procedure: a `Procedure`, or an object with the same methods.

    Example:
        >>> from invact.statistics.sequential.procedure import Procedure
        >>> class TestTen(ProcedureContract):
        ...     procedure = Procedure(looks=(10,))
        >>> TestTen().test_swapped_arms_change_the_decision()
        >>> print(*[name for name in dir(TestTen) if name.startswith("test")])
        test_runs_are_requested_until_the_last_look test_swapped_arms_change_the_decision test_the_parts_agree
    """

    procedure: ArmsTest | None = None

    def follow(
        self, treatment: NDArray[np.float64], other: NDArray[np.float64], margin: float = MARGIN
    ) -> Outcome:
        """Take as many runs as the procedure asks for, until it ends, and return its last result.

        Args:
            treatment: accuracies as fractions; shape (n,), at least `most` of them.
            other: accuracies of the other arm; the same.
            margin: as a fraction.
        """
        procedure, n = self._given(), 0
        for _ in range(_MOST):
            following = procedure.next(n)
            assert following is not None, f"{n} runs, no further look and no end"
            assert n < following <= procedure.most
            n = following
            result = procedure.test(treatment[:n], other[:n], margin)
            if result.ended:
                return result
        raise AssertionError(f"no end after {_MOST} looks")

    def check(
        self, treatment: NDArray[np.float64], other: NDArray[np.float64], margin: float = MARGIN
    ) -> None:
        """Assert all that a result promises on one pair of series; for tests with series of your own.

        Args:
            treatment: accuracies as fractions; shape (n,), more than `most` of them.
            other: accuracies of the other arm; the same.
            margin: as a fraction.
        """
        procedure = self._given()
        result = self.follow(treatment, other, margin)
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
        assert low <= result.estimate <= high
        assert result.shown == (low > -margin)
        assert (result.decision is Decision.INFERIOR) == (high < -margin)
        assert procedure.test(treatment, other, margin) == result, "runs after the stop changed the result"

    @pytest.mark.parametrize("margin", [0.0, MARGIN])
    def test_the_parts_agree(self, margin: float) -> None:
        """The decision, the p-value, the estimate and the interval say the same; see `check`."""
        rng = np.random.default_rng(7)
        for seed in range(_CASES):
            difference, sd = rng.uniform(-0.02, 0.02), rng.uniform(0.0005, 0.01)
            self.check(*arms(difference, sd, seed, self._given().most + 5), margin)

    def test_runs_are_requested_until_the_last_look(self) -> None:
        """A procedure that goes on has no p-value yet."""
        procedure = self._given()
        assert procedure.next(procedure.most) is None
        assert procedure.next(procedure.most - 1) == procedure.most
        result = procedure.test(*arms(-MARGIN, 0.01, 3, 2), MARGIN)
        assert not result.ended
        assert (result.p_value, result.p_inferior) == (None, None)

    def test_swapped_arms_change_the_decision(self) -> None:
        """Differences are treatment - other arm."""
        better, worse = arms(0.01, 0.001, 0, self._given().most)
        assert self.follow(better, worse).decision is Decision.NON_INFERIOR
        assert self.follow(worse, better).decision is Decision.INFERIOR

    def _given(self) -> ArmsTest:
        if self.procedure is None:
            raise NotImplementedError(f"{type(self).__name__}: set `procedure`")
        return self.procedure
