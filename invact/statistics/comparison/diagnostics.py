"""What a paired t test rests on: spread, single seeds, symmetry instead of normality, the margin."""

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
"""Pairs up to which all 2^n assignments of signs are enumerated."""
RESAMPLES = 99_999
"""Assignments drawn beyond that; with the one observed, p values are multiples of 1e-5."""


@dataclass(frozen=True)
class SignFlip:
    """A sign-flip test at the shifted null hypothesis.

    Attributes:
        p_value: of H0: differences are symmetric about -margin, or about something lower.
        exact: whether every assignment of signs was enumerated. If not, they were drawn, with a fixed seed.
    """

    p_value: float
    exact: bool


@dataclass(frozen=True)
class Diagnostics:
    """What the paired non-inferiority t test rests on.

    Attributes:
        n: pairs.
        spread_ratio: standard deviation of the treatment over that of the control; None where the control
            has no spread.
        spread_interval: of it, at 1 - 2 alpha; None with fewer than three pairs, or an arm without spread.
        left_out: p value of the non-inferiority test without each pair in turn, shape (n,); empty with two
            pairs.
        worst: index of the pair without which the p value is largest; None with two pairs.
        sign_flip: the test that needs symmetry, but no normality.
        smallest_margin: the test holds at alpha for every margin above this, as a fraction; 0 where the
            whole interval of the difference is above 0.
        order: indices of the pairs by ascending difference, shape (n,).
        ordered: the differences in that order, shape (n,).
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
    """Examine the fixed-n paired non-inferiority test of two arms. It decides nothing.

    Args:
        control: accuracy of the control as fractions, one for each seed; shape (n,), two or more.
        treatment: of the treatment, with the same seeds in the same order; shape (n,).
        margin: in (0, 1), as a fraction.
        alpha: one-sided level, in (0, 0.5).

    Raises:
        InputError: shapes differ, fewer than two pairs ("insufficient"), a value that is no accuracy in
            [0, 1], or a margin or an alpha outside its range.

    Source: Filliben, Technometrics 17, 1975 (the quantiles); see `spread_ratio` and `sign_flip`.

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
    """Ratio of the standard deviations of two paired arms, treatment over control, and its interval.

    Var(T) = k^2 Var(C) is the same as no correlation between T - k C and T + k C, which Pearson's test
    judges with n - 2 degrees of freedom, whatever the correlation r of the pairs. Inverted, with F the ratio
    of the sample variances and K = 1 + 2 (1 - r^2) t^2 / (n - 2), the interval of k^2 is
    F (K -+ sqrt(K^2 - 1)). It presumes normal noise.

    Args:
        control: as for `diagnose`, and so is treatment.
        treatment: see there.
        confidence: two-sided, in (0, 1).

    Returns:
        The ratio, None where the control has no spread; and its interval, None with fewer than three pairs
        or where either has none.

    Raises:
        InputError: as `diagnose`, or `confidence` is out of range.

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
    # F (K -+ sqrt(K^2 - 1)) is F exp(-+ arccosh(K)), which cannot cancel.
    reach = math.acosh(1 + 2 * max(1 - r**2, 0.0) * t**2 / (len(old) - 2)) / 2
    return ratio, (ratio * math.exp(-reach), ratio * math.exp(reach))


def sign_flip(differences: ArrayLike, margin: float) -> SignFlip:
    """Test non-inferiority by flipping the signs of differences + margin; exact for symmetric noise.

    The p value is the share of all 2^n assignments of signs whose sum is as large as the one observed, itself
    included, so 2^-n at least. With more than 15 pairs 99,999 assignments are drawn, with a fixed seed.

    Args:
        differences: accuracy of the treatment minus that of the control, as fractions; shape (n,).
        margin: in (0, 1), as a fraction.

    Raises:
        InputError: as `non_inferiority`.

    Source: Fisher, The Design of Experiments, 1935, section 21; `scipy.stats.permutation_test`. For drawn
    assignments: Phipson and Smyth, Statistical Applications in Genetics and Molecular Biology 9, 2010.

    Example:
        >>> sign_flip([0.001, 0.0, -0.002, 0.002], margin=0.005)
        SignFlip(p_value=0.0625, exact=True)
    """
    non_inferiority(differences, margin)  # refuses what is no series of differences
    # Whole multiples of the resolution add up without rounding, so that ties are ties.
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
    """Band that the whole of an ordered normal sample stays within, for a QQ plot.

    The sample is taken as a QQ plot shows it, (x - mean) / sd by its own mean and sd. Each point has the same
    share of the draws outside its limits, chosen such that `confidence` of the draws are within all of them.

    Args:
        n: two or more.
        confidence: that all n points are within, in (0, 1).
        draws: normal samples, of a fixed seed; each is taken mirrored, too.

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
    # How far out a draw is: of its points' ranks among those of all draws, the one nearest to an end.
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
        # NaN fails this too.
        if not ((found >= 0) & (found <= 1)).all():
            raise InputError(f"{name}: received a value that is no accuracy. Allowed: [0, 1]")
        arms.append(found)
    old, new = arms
    if old.shape != new.shape:
        raise InputError(f"treatment: received {len(new)} seeds. Allowed: as control, {len(old)}")
    return old, new
