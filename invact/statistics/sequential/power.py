"""Planning of a confirmation from a pilot: margin, power, number of pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special, stats

from invact.errors import InputError
from invact.statistics.comparison.inference import non_inferiority
from invact.statistics.sequential.boundaries import LOOKS, critical, futility_bounds, nominal_levels
from invact.statistics.sequential.crossing import t_exits

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "MarginPlan",
    "SequentialPower",
    "expected_pairs",
    "plan_margin",
    "power",
    "sample_size",
    "sd_upper",
    "tost_power",
]


@dataclass(frozen=True)
class MarginPlan:
    """Margin, and whether the task has assay sensitivity.

    Assay sensitivity: the task can show that the control is better than a smaller network (the placebo).

    Attributes:
        margin: non-inferiority margin: the largest loss of accuracy that counts as equal, as a fraction; 0
            without assay sensitivity.
        assay_sensitivity: whether `bound` is above 0.
        bound: lower confidence bound of the gain of the control over the placebo.
        gain: mean gain of the control over the placebo.
    """

    margin: float
    assay_sensitivity: bool
    bound: float
    gain: float


def plan_margin(gains: ArrayLike, cap: float = 0.003, level: float = 0.95) -> MarginPlan:
    """Calculate the margin from a pilot of control and placebo: min(cap, half the lower bound of the gain).

    With this margin, a non-inferior treatment keeps at least half of the gain that the control is shown to
    have over a smaller network. If this gain is not shown to be above 0, a treatment that is "as good as the
    control" might be no better than the placebo, and no claim is allowed.

    Args:
        gains: accuracy of the control minus accuracy of the placebo, one for each pilot seed; shape (n,).
        cap: largest allowed margin, in (0, 1), as a fraction: 0.003 is 0.3 points.
        level: level of the one-sided confidence bound, in (0.5, 1).

    Raises:
        InputError: as `non_inferiority`; a cap or a level outside its range.

    Source: ICH E10, 2000; FDA, Non-Inferiority Clinical Trials, 2016 (the fixed-margin method, M2 = M1 / 2).

    Example:
        >>> plan_margin([0.004, 0.005, 0.006, 0.005]).margin, plan_margin([0.01, -0.01]).assay_sensitivity
        (0.0020..., False)
    """
    if not 0 < cap < 1:
        raise InputError(f"cap: received {cap!r}. Allowed: a fraction in (0, 1), such as 0.003")
    if not 0.5 < level < 1:
        raise InputError(f"level: received {level!r}. Allowed: (0.5, 1)")
    test = non_inferiority(gains, cap, 1 - level)
    bound = test.interval[0]
    return MarginPlan(max(0.0, min(cap, bound / 2)), bound > 0, bound, test.mean)


def sd_upper(sd: float, n: int, level: float = 0.8) -> float:
    """Upper confidence limit of a standard deviation, sd sqrt((n - 1) / chi2_(n - 1, 1 - level)).

    The standard deviation of a pilot is too small about as often as it is too large. A plan that uses it
    directly has too little power in about half of the cases.

    Args:
        sd: standard deviation of n normal values, with n - 1 degrees of freedom; not negative.
        n: number of values, two or more.
        level: confidence level, in (0, 1).

    Raises:
        InputError: an argument is not as described.

    Source: Browne, Statistics in Medicine 14, 1995.

    Example:
        >>> round(sd_upper(1.0, 8), 3)
        1.353
    """
    if not 0 <= sd < math.inf:
        raise InputError(f"sd: received {sd!r}. Allowed: 0 or more")
    _check_pairs(n)
    if not 0 < level < 1:
        raise InputError(f"level: received {level!r}. Allowed: (0, 1)")
    return float(sd * math.sqrt((n - 1) / stats.chi2.ppf(1 - level, n - 1)))


def power(n: int, sd: float, margin: float, truth: float = 0.0, alpha: float = 0.05) -> float:
    """Compute the power of the paired non-inferiority t test.

    It comes from the noncentral t distribution with noncentrality (truth + margin) sqrt(n) / sd.

    Args:
        n: number of pairs, two or more.
        sd: standard deviation of the paired differences, positive. It is the standard deviation of an arm
            times sqrt(2 (1 - correlation)).
        margin: non-inferiority margin, in (0, 1), as a fraction.
        truth: true mean difference, treatment - control.
        alpha: one-sided level, in (0, 0.5).

    Raises:
        InputError: an argument is not as described.

    Example:
        >>> round(power(8, sd=0.003, margin=0.003), 3)
        0.815
    """
    effect = _effect(sd, margin, truth, alpha)
    _check_pairs(n)
    return float(stats.nct.sf(-special.stdtrit(n - 1, alpha), n - 1, effect * math.sqrt(n)))


def sample_size(
    sd: float, margin: float, truth: float = 0.0, alpha: float = 0.05, target: float = 0.8
) -> int:
    """Compute the smallest number of pairs with a power of `target` or more.

    Args:
        sd: as for `power`.
        margin: as for `power`.
        truth: as for `power`, above -margin.
        alpha: as for `power`.
        target: required power, in (alpha, 1).

    Raises:
        InputError: an argument is not as described, or more than a million pairs would be needed.

    Example:
        >>> sample_size(sd=0.003, margin=0.003)
        8
    """
    effect = _effect(sd, margin, truth, alpha)
    if effect <= 0:
        raise InputError(f"truth: received {truth!r}. Allowed: above -margin, {-margin!r}")
    if not alpha < target < 1:
        raise InputError(f"target: received {target!r}. Allowed: in (alpha, 1)")
    enough = 2
    while power(enough, sd, margin, truth, alpha) < target:
        enough *= 2
        if enough > 2**20:
            raise InputError(
                f"sd: received {sd!r}, which needs more than a million pairs at margin {margin!r}"
            )
    low = enough // 2
    while enough - low > 1:
        middle = (low + enough) // 2
        low, enough = (low, middle) if power(middle, sd, margin, truth, alpha) >= target else (middle, enough)
    return enough


def tost_power(n: int, sd: float, margin: float, truth: float = 0.0, alpha: float = 0.05) -> float:
    """Compute the exact power of the two one-sided t tests (TOST) on two independent groups of size n.

    For a given pooled standard deviation s, both tests reject if the difference is in
    (-margin + t s sqrt(2/n), margin - t s sqrt(2/n)). The power is the normal probability of this interval,
    averaged over s. It equals the difference of two of Owen's Q functions.

    Args:
        n: number of observations in each group, two or more.
        sd: standard deviation of the observations, positive.
        margin: equivalence margin, positive, in the unit of sd.
        truth: true difference of the group means.
        alpha: level of each test, in (0, 0.5).

    Raises:
        InputError: an argument is not as described.

    Source: Owen, Biometrika 52, 1965; Phillips, J. Pharmacokinetics and Biopharmaceutics 18, 1990.

    Example:
        >>> round(tost_power(15, sd=18, margin=19.2, truth=-4), 5)
        0.69339
    """
    _check_pairs(n)
    _check_level(alpha)
    for name, value in (("sd", sd), ("margin", margin)):
        if not 0 < value < math.inf:
            raise InputError(f"{name}: received {value!r}. Allowed: a positive number")
    freedom = 2 * n - 2
    error, t = sd * math.sqrt(2 / n), -float(special.stdtrit(freedom, alpha))
    # s / sd is distributed like chi / sqrt(freedom). Above `last` the interval is empty: no test rejects.
    last = margin / (t * error)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    low, high = stats.chi2.isf([1 - 1e-15, 1e-15], freedom)
    first, end = math.sqrt(low / freedom), min(last, math.sqrt(high / freedom))
    if end <= first:
        return 0.0
    ratio = first + (end - first) * (nodes + 1) / 2
    inside = special.ndtr((margin - truth) / error - t * ratio) - special.ndtr(
        (-margin - truth) / error + t * ratio
    )
    density = stats.chi.pdf(ratio * math.sqrt(freedom), freedom) * math.sqrt(freedom)
    return float(weights @ (inside * density) * (end - first) / 2)


@dataclass(frozen=True)
class SequentialPower:
    """Expected results of a group-sequential test.

    Attributes:
        power: probability of showing non-inferiority.
        futile: probability of stopping for futility.
        pairs: expected number of pairs.
        stops: probability of ending at each look, shape (K,).
    """

    power: float
    futile: float
    pairs: float
    stops: tuple[float, ...]


def expected_pairs(
    sd: float,
    margin: float,
    truth: float = 0.0,
    alpha: float = 0.05,
    looks: Sequence[int] = LOOKS,
    futility: bool = True,
) -> SequentialPower:
    """Compute the power and the expected number of pairs of `group_sequential`, by integration.

    Args:
        sd: as for `power`.
        margin: as for `power`.
        truth: as for `power`.
        alpha: as for `power`.
        looks: as for `group_sequential`.
        futility: as for `group_sequential`.

    Raises:
        InputError: an argument is not as described.

    Example:
        >>> plan = expected_pairs(sd=0.003, margin=0.003)
        >>> round(plan.power, 2), round(plan.pairs, 1)
        (0.97, 10.1)
    """
    effect = _effect(sd, margin, truth, alpha)
    looks = tuple(looks)
    bounds = critical(nominal_levels(looks, alpha), looks)
    exits = t_exits(bounds, looks, futility_bounds(looks, futility), effect)
    ends = np.add(exits.upper, exits.lower)
    ends[-1] += 1 - ends.sum()
    return SequentialPower(
        power=min(1.0, sum(exits.upper)),
        futile=sum(exits.lower),
        pairs=float(ends @ np.array(looks)),
        stops=tuple(float(end) for end in ends),
    )


def _effect(sd: float, margin: float, truth: float, alpha: float) -> float:
    if not 0 < sd < math.inf:
        raise InputError(f"sd: received {sd!r}. Allowed: a positive number")
    if not 0 < margin < 1:
        raise InputError(f"margin: received {margin!r}. Allowed: a fraction in (0, 1), such as 0.003")
    if not -1 <= truth <= 1:
        raise InputError(f"truth: received {truth!r}. Allowed: [-1, 1]")
    _check_level(alpha)
    return (truth + margin) / sd


def _check_level(alpha: float) -> None:
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha: received {alpha!r}. Allowed: (0, 0.5)")


def _check_pairs(n: int) -> None:
    if n < 2:
        raise InputError(f"n: received {n!r}. Allowed: 2 or more")
