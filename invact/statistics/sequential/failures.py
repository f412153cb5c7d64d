"""Failed runs: which runs count as failed, how they are replaced, and what they allow to conclude."""
# No test of the mean over all runs can bound the chance of a collapse with fewer than hundreds of runs. The
# question is therefore split in two: the accuracy of the runs that train, and the chance that a run fails.

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from invact.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ALLOWED",
    "FENCE",
    "FIRST",
    "Arm",
    "Runs",
    "failure_bound",
    "fence",
    "runs_needed",
]

FENCE = 4.0
"""A run has failed if it is more than this many margins below the median of its arm's first runs."""
FIRST = 6
"""Number of first runs that fix the fence of an arm that has no earlier runs."""
ALLOWED = 2
"""An arm may have this many failed runs; the next one ends the tests that need the arm."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Accuracies of one network, in the order of the seeds.

    Args:
        validation: validation accuracies as fractions, shape (n,); NaN for a run that diverged.
        test: test accuracies as fractions, shape (n,); the validation accuracies unless given.

    Raises:
        InputError: the shapes differ.

    Example:
        >>> len(Runs([0.9, 0.1], [0.91, 0.1]))
        2
    """

    validation: NDArray[np.float64]
    test: NDArray[np.float64]

    def __init__(self, validation: ArrayLike = (), test: ArrayLike | None = None) -> None:
        seen = np.asarray(validation, dtype=float)
        unseen = seen if test is None else np.asarray(test, dtype=float)
        if seen.ndim != 1 or seen.shape != unseen.shape:
            shapes = f"{seen.shape} and {unseen.shape}"
            raise InputError(f"validation, test: received shapes {shapes}. Allowed: equal shapes, (n,)")
        object.__setattr__(self, "validation", seen)
        object.__setattr__(self, "test", unseen)

    def __len__(self) -> int:
        return len(self.validation)


def fence(validation: ArrayLike, margin: float) -> float:
    """Compute the validation accuracy below which a run has failed: median - 4 margins.

    The fence is relative to the arm itself. Therefore an arm that is merely weaker does not fail.

    Args:
        validation: validation accuracies of the arm's first runs, as fractions; shape (n,). NaN (diverged)
            counts as lowest.
        margin: non-inferiority margin, as a fraction.

    Example:
        >>> round(fence([0.90, 0.91, 0.10], margin=0.005), 3)
        0.88
    """
    values = np.asarray(validation, dtype=float)
    # A claim that is simulated computes this thousands of times: NumPy's median takes ten times as long.
    return float(statistics.median(np.where(np.isnan(values), -1.0, values).tolist())) - FENCE * margin


@dataclass(frozen=True, eq=False)
class Arm:
    """One network in a step of a claim, with its failed runs.

    Attributes:
        runs: the runs of the step, in the order of the seeds.
        margin: non-inferiority margin, as a fraction; it sets the fence.
        earlier: the runs of the same network in the pilot or the screen; none unless given.
        first: number of first runs, the earlier ones included, whose median sets the fence. Until they exist,
            only runs that diverged have failed.

    Example:
        >>> arm = Arm(Runs([0.91, 0.10, 0.90]), margin=0.005, earlier=Runs([0.90, 0.91, 0.92, 0.90]), first=4)
        >>> arm.trained.tolist(), arm.failures, arm.wanted(3)
        ([0.91, 0.9], 1, 4)
    """

    runs: Runs
    margin: float
    earlier: Runs = Runs()
    first: int = FIRST

    @cached_property
    def fence(self) -> float | None:
        """The validation accuracy below which a run has failed; None before the first runs exist."""
        seen = np.concatenate([self.earlier.validation, self.runs.validation])[: self.first]
        return None if len(seen) < self.first else fence(seen, self.margin)

    @cached_property
    def failed(self) -> NDArray[np.bool_]:
        """Whether each run of the step has failed, shape (n,)."""
        return _below(self.runs.validation, self.fence)

    @cached_property
    def trained(self) -> NDArray[np.float64]:
        """Test accuracies of the runs of the step that have not failed, in order."""
        return self.runs.test[~self.failed]

    @cached_property
    def validated(self) -> NDArray[np.float64]:
        """Validation accuracies of the same runs as `trained`."""
        return self.runs.validation[~self.failed]

    @cached_property
    def failures(self) -> int:
        """Number of failed runs, those of the earlier step included.

        If most of the first runs collapse, so does their median, and the fence finds no failed run. Therefore
        the runs below the fence of all runs together are counted too, and the larger number is taken.
        """
        every = np.concatenate([self.earlier.validation, self.runs.validation])
        fixed = int(_below(every, self.fence).sum())
        if self.fence is None or len(every) <= self.first:
            return fixed
        return max(fixed, int(_below(every, fence(every, self.margin)).sum()))

    @property
    def total(self) -> int:
        """Number of runs, those of the earlier step included."""
        return len(self.runs) + len(self.earlier)

    @property
    def ended(self) -> bool:
        """Whether more runs have failed than are allowed."""
        return self.failures > ALLOWED

    def wanted(self, n: int) -> int:
        """Number of runs of the step that are needed for n runs that train, as far as is known."""
        return len(self.runs) + max(0, n - len(self.trained))


def _below(validation: NDArray[np.float64], least: float | None) -> NDArray[np.bool_]:
    diverged = np.isnan(validation)
    return diverged if least is None else diverged | (validation < least)


def runs_needed(failures: int) -> int:
    """Number of runs that a claim needs with this many failed runs: 10 + 6 failures.

    With at most two failures allowed, a network whose runs fail with a probability of 0.30 passes with a
    probability of 0.050.

    Example:
        >>> [runs_needed(failures) for failures in range(3)]
        [10, 16, 22]
    """
    return 10 + 6 * failures


def failure_bound(failures: int, runs: int, confidence: float = 0.95) -> float:
    """Compute the upper Clopper-Pearson bound of the probability that a run fails.

    Args:
        failures: number of failed runs.
        runs: number of runs.
        confidence: one-sided confidence level, in (0, 1).

    Raises:
        InputError: an argument is out of range.

    Source: Clopper and Pearson, Biometrika 26, 1934.

    Example:
        >>> round(failure_bound(0, 10), 3), round(failure_bound(3, 3), 3)
        (0.259, 1.0)
    """
    if not 0 <= failures <= runs or not 0 < confidence < 1:
        raise InputError(
            f"failures: received {failures!r} of {runs!r} runs at confidence {confidence!r}. Allowed: at "
            "most as many failures as runs, and a confidence in (0, 1)"
        )
    if failures == runs:
        return 1.0
    return float(special.betaincinv(failures + 1, runs - failures, confidence))
