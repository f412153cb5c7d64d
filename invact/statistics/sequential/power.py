"""Planning of a claim from its pilot: the margin, the power, and the number of runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy import special, stats

from invact.errors import InputError
from invact.statistics.comparison.inference import check_margin, welch
from invact.statistics.sequential.boundaries import ALPHA

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["MarginPlan", "plan_margin", "planning_spread", "power", "sample_size"]


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


def plan_margin(
    control: ArrayLike, placebo: ArrayLike, cap: float = 0.003, level: float = 0.95, floor: float = 0.0
) -> MarginPlan:
    """Calculate the margin from a pilot of control and placebo: min(cap, half the lower bound of the gain).

    With this margin, a non-inferior treatment keeps at least half of the gain that the control is shown to
    have over a smaller network. If this gain is not shown to be above 0, a treatment that is "as good as the
    control" might be no better than the placebo, and no claim is allowed.

    Args:
        control: accuracies of the control, as fractions; shape (n,).
        placebo: accuracies of the placebo, as fractions; shape (m,).
        cap: largest allowed margin, in (0, 1), as a fraction: 0.003 is 0.3 points.
        level: level of the one-sided confidence bound, in (0.5, 1).
        floor: smallest standard deviation of an arm, see `welch`.

    Raises:
        InputError: as `welch`; a cap or a level outside its range.

    Source: ICH E10, 2000; FDA, Non-Inferiority Clinical Trials, 2016 (the fixed-margin method, M2 = M1 / 2).

    Example:
        >>> round(plan_margin([0.91, 0.91, 0.90], [0.89, 0.89, 0.90], cap=0.01).margin, 4)
        0.0016
        >>> plan_margin([0.90, 0.91], [0.91, 0.90]).assay_sensitivity
        False
    """
    if not 0 < cap < 1:
        raise InputError(f"cap: received {cap!r}. Allowed: a fraction in (0, 1), such as 0.003")
    if not 0.5 < level < 1:
        raise InputError(f"level: received {level!r}. Allowed: (0.5, 1)")
    test = welch(control, placebo, 0.0, floor)
    bound = test.interval(1 - level)[0]
    return MarginPlan(max(0.0, min(cap, bound / 2)), bound > 0, bound, test.difference)


def power(n: int, sd: float, margin: float, truth: float = 0.0, alpha: float = ALPHA) -> float:
    """Compute the power of one non-inferiority t test of two independent arms with n runs each.

    It comes from the noncentral t distribution with 2 n - 2 degrees of freedom and the noncentrality
    (truth + margin) sqrt(n / 2) / sd.

    Args:
        n: number of runs of each arm, two or more.
        sd: standard deviation of the accuracy of an arm, positive. If the arms differ, the root of the mean
            of the two variances.
        margin: non-inferiority margin, in (0, 1), as a fraction.
        truth: true difference, treatment - control.
        alpha: one-sided level, in (0, 0.5).

    Raises:
        InputError: an argument is not as described.

    Example:
        >>> round(power(9, sd=0.002, margin=0.003), 2)
        0.85
    """
    effect = _effect(sd, margin, truth, alpha)
    if n < 2:
        raise InputError(f"n: received {n!r}. Allowed: 2 or more")
    df = 2 * n - 2
    return float(stats.nct.sf(-special.stdtrit(df, alpha), df, effect * math.sqrt(n / 2)))


def sample_size(
    sd: float, margin: float, truth: float = 0.0, alpha: float = ALPHA, target: float = 0.8
) -> int:
    """Compute the smallest number of runs of each arm with a power of `target` or more.

    Args:
        sd: as for `power`.
        margin: as for `power`.
        truth: as for `power`, above -margin.
        alpha: as for `power`.
        target: required power, in (alpha, 1).

    Raises:
        InputError: an argument is not as described, or more than a million runs would be needed.

    Example:
        >>> sample_size(sd=0.002, margin=0.003)
        9
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
                f"sd: received {sd!r}, which needs more than a million runs at margin {margin!r}"
            )
    low = enough // 2
    while enough - low > 1:
        middle = (low + enough) // 2
        low, enough = (low, middle) if power(middle, sd, margin, truth, alpha) >= target else (middle, enough)
    return enough


def planning_spread(spread: float, margin: float) -> float:
    """The standard deviation that a plan uses: that of an arm, but above 0, because power needs a spread.

    Example:
        >>> planning_spread(0.002, 0.003), planning_spread(0.0, 0.01)
        (0.002, 0.0001)
    """
    return max(spread, margin / 100)


def _effect(sd: float, margin: float, truth: float, alpha: float) -> float:
    if not 0 < sd < math.inf:
        raise InputError(f"sd: received {sd!r}. Allowed: a positive number")
    check_margin(margin)
    if not -1 <= truth <= 1:
        raise InputError(f"truth: received {truth!r}. Allowed: [-1, 1]")
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha: received {alpha!r}. Allowed: (0, 0.5)")
    return (truth + margin) / sd
