"""Checks of Welch's test: spread of the arms, single runs, a permutation test, the smallest margin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy import special

from invact.errors import InputError
from invact.statistics.comparison.inference import RESOLUTION, checked, welch
from invact.statistics.intervals import check_confidence

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Diagnostics",
    "Permutation",
    "Residuals",
    "diagnose",
    "normal_envelope",
    "permutation",
    "spread_ratio",
]

Floats: TypeAlias = "NDArray[np.float64]"

EXACT = 20_000
"""Largest number of ways to divide the runs into two arms for which all of them are enumerated."""
RESAMPLES = 9_999
"""Divisions drawn if there are more. With the observed one, p values are multiples of 1e-4."""


@dataclass(frozen=True)
class Permutation:
    """Result of a permutation test of non-inferiority.

    Attributes:
        p_value: p value of H0: the accuracies of the treatment + margin have the distribution of the control,
            or a lower one.
        exact: whether all divisions of the runs were enumerated. Otherwise they were drawn with a fixed seed.
    """

    p_value: float
    exact: bool


@dataclass(frozen=True)
class Residuals:
    """Accuracies of one arm minus their mean, for a QQ plot.

    Attributes:
        order: indices of the runs by ascending accuracy, shape (n,).
        ordered: residuals in this order, as fractions; shape (n,).
        quantiles: medians of normal order statistics, shape (n,).
    """

    order: tuple[int, ...]
    ordered: tuple[float, ...]
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class Diagnostics:
    """Checks of the assumptions of Welch's test of non-inferiority.

    Attributes:
        runs: number of runs of the control and of the treatment.
        spread_ratio: standard deviation of the treatment divided by that of the control; None if the control
            has no spread.
        spread_interval: confidence interval of spread_ratio at 1 - 2 alpha; None if an arm has no spread.
        left_out: p values of the test when one run is left out: for each run of the treatment, then for each
            run of the control. Empty if an arm has only two runs.
        worst: arm (`control` or `treatment`) and index of the run whose removal gives the largest p value;
            None if left_out is empty.
        permutation: result of a test that does not assume normal noise.
        smallest_margin: smallest margin, as a fraction, above which the test is significant at alpha; 0 if
            the whole interval of the difference is above 0.
        control: residuals of the control.
        treatment: residuals of the treatment.
    """

    runs: tuple[int, int]
    spread_ratio: float | None
    spread_interval: tuple[float, float] | None
    left_out: tuple[float, ...]
    worst: tuple[str, int] | None
    permutation: Permutation
    smallest_margin: float
    control: Residuals
    treatment: Residuals


def diagnose(
    control: ArrayLike, treatment: ArrayLike, margin: float, alpha: float, floor: float = 0.0
) -> Diagnostics:
    """Check the assumptions of Welch's test of two independent arms. The result changes no verdict.

    Args:
        control: accuracies of the control, as fractions; shape (n_C,), two or more.
        treatment: accuracies of the treatment, as fractions; shape (n_T,), two or more.
        margin: non-inferiority margin, in [0, 1), as a fraction; 0 tests superiority.
        alpha: one-sided level, in (0, 0.5).
        floor: smallest standard deviation of an arm, as in `welch`; the ratio of the spreads does not use it.

    Raises:
        InputError: as `welch`, or an alpha outside its range.

    Source: Filliben, Technometrics 17, 1975 (quantiles); see `spread_ratio` and `permutation`.

    Example:
        >>> found = diagnose([0.90, 0.91, 0.92, 0.90], [0.90, 0.912, 0.919, 0.901], margin=0.03, alpha=0.05)
        >>> found.permutation.p_value < 0.05, found.worst, round(found.smallest_margin, 4)
        (True, ('control', 1), 0.0124)
    """
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha: received {alpha!r}. Allowed: (0, 0.5)")
    old, new = checked(control, "control"), checked(treatment, "treatment")
    test = welch(new, old, margin, floor)
    left_out: tuple[float, ...] = ()
    worst = None
    if min(test.runs) > 2:
        without = [welch(np.delete(new, run), old, margin, floor) for run in range(len(new))]
        without += [welch(new, np.delete(old, run), margin, floor) for run in range(len(old))]
        left_out = tuple(one.p_value for one in without)
        most = int(np.argmax(left_out))
        worst = ("treatment", most) if most < len(new) else ("control", most - len(new))
    ratio, interval = spread_ratio(old, new, 1 - 2 * alpha)
    return Diagnostics(
        runs=(len(old), len(new)),
        spread_ratio=ratio,
        spread_interval=interval,
        left_out=left_out,
        worst=worst,
        permutation=permutation(old, new, margin, floor),
        smallest_margin=max(0.0, -test.interval(alpha)[0]),
        control=_residuals(old),
        treatment=_residuals(new),
    )


def spread_ratio(
    control: ArrayLike, treatment: ArrayLike, confidence: float = 0.95
) -> tuple[float | None, tuple[float, float] | None]:
    """Compute the ratio of the standard deviations of two independent arms, treatment / control.

    The ratio of the sample variances divided by that of the true variances has an F distribution with n_T - 1
    and n_C - 1 degrees of freedom. The ends of the interval are therefore the ratio divided by the square
    roots of two quantiles of F. It assumes normal noise, and it stays sensitive to this with many runs.

    Args:
        control: as for `diagnose`.
        treatment: as for `diagnose`.
        confidence: two-sided confidence level, in (0, 1).

    Returns:
        The ratio, or None if the control has no spread; and its interval, or None if an arm has no spread.

    Raises:
        InputError: as `diagnose`; `confidence` is out of range.

    Source: Snedecor and Cochran, Statistical Methods, 8th ed., 1989, chapter 6.

    Example:
        >>> ratio, (low, high) = spread_ratio([0.90, 0.91, 0.92, 0.90], [0.90, 0.912, 0.919, 0.901])
        >>> round(ratio, 2), round(low, 2), round(high, 2)
        (0.95, 0.24, 3.75)
    """
    check_confidence(confidence)
    old, new = checked(control, "control"), checked(treatment, "treatment")
    if np.ptp(old) <= RESOLUTION:
        return None, None
    if np.ptp(new) <= RESOLUTION:
        return 0.0, None
    ratio = float(new.std(ddof=1) / old.std(ddof=1))
    low, high = (
        ratio / math.sqrt(special.fdtri(len(new) - 1, len(old) - 1, (1 + sign * confidence) / 2))
        for sign in (1, -1)
    )
    return ratio, (low, high)


def permutation(control: ArrayLike, treatment: ArrayLike, margin: float, floor: float = 0.0) -> Permutation:
    """Test non-inferiority by dividing all runs into two arms of the same sizes in other ways.

    The statistic is Welch's t, see `welch`, after the margin is added to each accuracy of the treatment. The
    p value is the share of all divisions whose statistic is at least as large as the observed one. The
    observed division counts, so the p value is never 0. With more than 20,000 divisions, 9,999 are drawn with
    a fixed seed.

    If both arms have the same distribution except for the margin, the error is at most the level for any
    number of runs. If the spreads differ, it approaches the level as the numbers of runs grow, because the
    difference is divided by its own standard error. With few runs, it is then close to the level in arms of
    the same size, but clearly above it if the smaller arm has the larger spread.

    Args:
        control: as for `diagnose`.
        treatment: as for `diagnose`.
        margin: as for `diagnose`.
        floor: as for `diagnose`.

    Raises:
        InputError: as `welch`.

    Source: Janssen, Statistics and Probability Letters 36, 1997; `scipy.stats.permutation_test`. For drawn
    divisions: Phipson and Smyth, Statistical Applications in Genetics and Molecular Biology 9, 2010.

    Example:
        >>> permutation([0.90, 0.91, 0.92], [0.91, 0.90, 0.93], margin=0.05)
        Permutation(p_value=0.05, exact=True)
    """
    old, new = checked(control, "control"), checked(treatment, "treatment")
    welch(new, old, margin, floor)  # checks margin and floor
    # Integer multiples of the resolution have sums without rounding, so equal means compare as equal. The
    # first accuracy is subtracted, because a smaller number leaves more digits for the spread.
    first = np.rint(old[0] / RESOLUTION)
    arms = tuple(np.rint(arm / RESOLUTION) - first for arm in (new + margin, old))
    smallest = (floor / RESOLUTION) ** 2

    def angle(ours: Floats, theirs: Floats, axis: int = -1) -> Floats:
        # The angle with the tangent t orders divisions as t does. It is also defined without any spread.
        # Rounding makes divisions equal that differ only by the order in which numbers are added.
        parts = [np.maximum(arm.var(axis=axis, ddof=1), smallest) / arm.shape[axis] for arm in (ours, theirs)]
        difference = ours.mean(axis=axis) - theirs.mean(axis=axis)
        found: Floats = np.round(np.arctan2(difference, np.sqrt(parts[0] + parts[1])), 10)
        return found

    from scipy import stats  # Here, because it takes a second, and most commands do not need it.

    exact = math.comb(len(old) + len(new), len(new)) <= EXACT
    result = stats.permutation_test(
        arms,
        angle,
        permutation_type="independent",
        vectorized=True,
        alternative="greater",
        n_resamples=np.inf if exact else RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return Permutation(float(result.pvalue), exact)


def _residuals(accuracies: Floats) -> Residuals:
    from scipy import stats

    quantiles, ordered = stats.probplot(accuracies - accuracies.mean(), fit=False)
    return Residuals(
        order=tuple(np.argsort(accuracies, kind="stable").tolist()),
        ordered=tuple(ordered.tolist()),
        quantiles=tuple(quantiles.tolist()),
    )


@lru_cache(maxsize=64)
def normal_envelope(n: int, confidence: float = 0.95, draws: int = 40_000) -> tuple[Floats, Floats]:
    """Compute the band of a QQ plot that contains a whole normal sample with a given confidence.

    The sample is standardised as (x - mean) / sd with its own mean and sd, as a QQ plot shows it. For each
    point the same share of the draws is outside its limits. This share is chosen so that the share
    `confidence` of the draws is within all limits.

    Args:
        n: sample size, two or more.
        confidence: probability that all n points of a normal sample are within the band, in (0, 1).
        draws: number of normal samples, drawn with a fixed seed; the mirror image of each is used too.

    Returns:
        Lower and upper limits, shape (n,), read-only.

    Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 4.2.4.

    Example:
        >>> low, high = normal_envelope(8)
        >>> [round(float(limits[0]), 1) for limits in (low, high)]
        [-2.3, -0.8]
    """
    check_confidence(confidence)
    if n < 2:
        raise InputError(f"n: received {n!r}. Allowed: 2 or more")
    drawn = np.sort(np.random.default_rng(0).standard_normal((draws, n)), axis=1)
    drawn = (drawn - drawn.mean(axis=1, keepdims=True)) / drawn.std(axis=1, ddof=1, keepdims=True)
    drawn = np.concatenate([drawn, -drawn[:, ::-1]])
    # The depth of a draw: each point has a rank among the same points of all draws; the depth is the smallest
    # distance of a rank from an end. A small depth means an extreme draw.
    ranks = np.argsort(np.argsort(drawn, axis=0), axis=0)
    depth = np.sort(np.minimum(ranks, len(drawn) - 1 - ranks).min(axis=1))
    cut = depth[math.floor((1 - confidence) * len(drawn))]
    columns = np.sort(drawn, axis=0)
    low, high = columns[cut], columns[-1 - cut]
    low.flags.writeable = high.flags.writeable = False
    return low, high
