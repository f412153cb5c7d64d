"""Checks of a paired t test: spread of the arms, single seeds, a sign-flip test, the smallest margin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy import special, stats

from invact.errors import InputError
from invact.statistics.comparison.inference import RESOLUTION, non_inferiority
from invact.statistics.intervals import check_confidence

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Diagnostics", "SignFlip", "diagnose", "normal_envelope", "sign_flip", "spread_ratio"]

Floats: TypeAlias = "NDArray[np.float64]"

EXACT = 15
"""Largest number of pairs for which all 2^n assignments of signs are enumerated."""
RESAMPLES = 99_999
"""Assignments drawn for more pairs. With the observed one, p values are multiples of 1e-5."""


@dataclass(frozen=True)
class SignFlip:
    """Result of a sign-flip test of non-inferiority.

    Attributes:
        p_value: p value of H0: the differences are symmetric about -margin or about a lower value.
        exact: whether all assignments of signs were enumerated. Otherwise they were drawn with a fixed seed.
    """

    p_value: float
    exact: bool


@dataclass(frozen=True)
class Diagnostics:
    """Checks of the assumptions of a paired non-inferiority t test.

    Attributes:
        n: number of pairs.
        spread_ratio: standard deviation of the treatment divided by that of the control; None if the control
            has no spread.
        spread_interval: confidence interval of spread_ratio at 1 - 2 alpha; None with fewer than three pairs
            or if an arm has no spread.
        left_out: p values of the non-inferiority test when one pair is left out, for each pair, shape (n,);
            empty with two pairs.
        worst: index of the pair whose removal gives the largest p value; None with two pairs.
        sign_flip: result of a test that assumes symmetry, but not normality.
        smallest_margin: smallest margin, as a fraction, above which the test is significant at alpha; 0 if
            the whole interval of the difference is above 0.
        order: indices of the pairs by ascending difference, shape (n,).
        ordered: differences in this order, shape (n,).
        quantiles: medians of normal order statistics, for a QQ plot; shape (n,).
    """

    n: int
    spread_ratio: float | None
    spread_interval: tuple[float, float] | None
    left_out: tuple[float, ...]
    worst: int | None
    sign_flip: SignFlip
    smallest_margin: float
    order: tuple[int, ...]
    ordered: tuple[float, ...]
    quantiles: tuple[float, ...]


def diagnose(control: ArrayLike, treatment: ArrayLike, margin: float, alpha: float = 0.05) -> Diagnostics:
    """Check the assumptions of the paired non-inferiority test of two arms. The result changes no verdict.

    Args:
        control: accuracies of the control as fractions, one for each seed; shape (n,), two or more.
        treatment: accuracies of the treatment, with the same seeds in the same order; shape (n,).
        margin: non-inferiority margin, in (0, 1), as a fraction.
        alpha: one-sided level, in (0, 0.5).

    Raises:
        InputError: shapes differ, fewer than two pairs ("insufficient"), an accuracy outside [0, 1], or a
            margin or an alpha outside its range.

    Source: Filliben, Technometrics 17, 1975 (quantiles); see `spread_ratio` and `sign_flip`.

    Example:
        >>> found = diagnose([0.90, 0.91, 0.92, 0.90], [0.90, 0.912, 0.919, 0.901], margin=0.005)
        >>> found.sign_flip.p_value, found.worst, round(found.smallest_margin, 5)
        (0.0625, 3, 0.00102)
    """
    old, new = _paired(control, treatment)
    differences = new - old
    test = non_inferiority(differences, margin, alpha)
    left_out: tuple[float, ...] = ()
    if test.n > 2:
        rest = [np.delete(differences, pair) for pair in range(test.n)]
        left_out = tuple(non_inferiority(some, margin, alpha).p_value for some in rest)
    ratio, interval = spread_ratio(old, new, 1 - 2 * alpha)
    quantiles, ordered = stats.probplot(differences, fit=False)
    return Diagnostics(
        n=test.n,
        spread_ratio=ratio,
        spread_interval=interval,
        left_out=left_out,
        worst=int(np.argmax(left_out)) if left_out else None,
        sign_flip=sign_flip(differences, margin),
        smallest_margin=max(0.0, -test.interval[0]),
        order=tuple(np.argsort(differences, kind="stable").tolist()),
        ordered=tuple(ordered.tolist()),
        quantiles=tuple(quantiles.tolist()),
    )


def spread_ratio(
    control: ArrayLike, treatment: ArrayLike, confidence: float = 0.95
) -> tuple[float | None, tuple[float, float] | None]:
    """Compute the ratio of the standard deviations of two paired arms, treatment / control, and its interval.

    Var(T) = k^2 Var(C) holds exactly when T - k C and T + k C are uncorrelated. Pearson's test of this
    correlation has n - 2 degrees of freedom and is valid for any correlation r of the pairs. The interval of
    k^2 contains all values that the test does not reject: F (K -+ sqrt(K^2 - 1)), where F is the ratio of the
    sample variances and K = 1 + 2 (1 - r^2) t^2 / (n - 2). It assumes normal noise.

    Args:
        control: as for `diagnose`.
        treatment: as for `diagnose`.
        confidence: two-sided confidence level, in (0, 1).

    Returns:
        The ratio, or None if the control has no spread; and its interval, or None if there are fewer than
        three pairs or an arm has no spread.

    Raises:
        InputError: as `diagnose`; `confidence` is out of range.

    Source: Pitman, Biometrika 31, 1939; Morgan, ibid.

    Example:
        >>> ratio, (low, high) = spread_ratio([0.90, 0.91, 0.92, 0.90], [0.90, 0.912, 0.919, 0.901])
        >>> round(ratio, 2), low < 1 < high
        (0.95, True)
    """
    check_confidence(confidence)
    old, new = _paired(control, treatment)
    if np.ptp(old) <= RESOLUTION:
        return None, None
    if np.ptp(new) <= RESOLUTION:
        return 0.0, None
    ratio = float(new.std(ddof=1) / old.std(ddof=1))
    if len(old) < 3:
        return ratio, None
    r = float(np.corrcoef(old, new)[0, 1])
    t = float(special.stdtrit(len(old) - 2, (1 + confidence) / 2))
    # F (K -+ sqrt(K^2 - 1)) equals F exp(-+ arccosh(K)), which has no cancellation.
    reach = math.acosh(1 + 2 * max(1 - r**2, 0.0) * t**2 / (len(old) - 2)) / 2
    return ratio, (ratio * math.exp(-reach), ratio * math.exp(reach))


def sign_flip(differences: ArrayLike, margin: float) -> SignFlip:
    """Test non-inferiority by flipping the signs of differences + margin; exact if the noise is symmetric.

    The p value is the share of all 2^n assignments of signs whose sum is at least as large as the observed
    one. The observed assignment counts, so the p value is at least 2^-n. With more than 15 pairs, 99,999
    assignments are drawn with a fixed seed.

    Args:
        differences: accuracy of the treatment minus that of the control, as fractions; shape (n,).
        margin: non-inferiority margin, in (0, 1), as a fraction.

    Raises:
        InputError: as `non_inferiority`.

    Source: Fisher, The Design of Experiments, 1935, section 21; `scipy.stats.permutation_test`. For drawn
    assignments: Phipson and Smyth, Statistical Applications in Genetics and Molecular Biology 9, 2010.

    Example:
        >>> sign_flip([0.001, 0.0, -0.002, 0.002], margin=0.005)
        SignFlip(p_value=0.0625, exact=True)
    """
    non_inferiority(differences, margin)  # checks the arguments
    # Integer multiples of the resolution add up without rounding, so equal sums compare as equal.
    shifted = np.rint((np.asarray(differences, dtype=float) + margin) / RESOLUTION)
    exact = len(shifted) <= EXACT
    result = stats.permutation_test(
        (shifted,),
        np.sum,
        permutation_type="samples",
        alternative="greater",
        n_resamples=np.inf if exact else RESAMPLES,
        batch=2**15,
        rng=np.random.default_rng(0),
    )
    return SignFlip(float(result.pvalue), exact)


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


def _paired(control: ArrayLike, treatment: ArrayLike) -> tuple[Floats, Floats]:
    arms = []
    for name, values in (("control", control), ("treatment", treatment)):
        found = np.asarray(values, dtype=float)
        if found.ndim != 1:
            raise InputError(f"{name}: received shape {found.shape}. Allowed: (n,), one for each seed")
        if len(found) < 2:
            raise InputError(f"{name}: insufficient: received {len(found)}. Allowed: 2 or more pairs")
        # NaN fails this comparison too.
        if not ((found >= 0) & (found <= 1)).all():
            raise InputError(f"{name}: received a value that is not an accuracy. Allowed: [0, 1]")
        arms.append(found)
    old, new = arms
    if old.shape != new.shape:
        raise InputError(f"treatment: received {len(new)} seeds. Allowed: {len(old)}, as for the control")
    return old, new
