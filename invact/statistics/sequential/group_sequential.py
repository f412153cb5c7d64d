"""A paired t test with planned looks that may stop early, with results adjusted for the stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy import optimize, special

from invact.errors import InputError
from invact.statistics.comparison.inference import RESOLUTION, one_sided
from invact.statistics.sequential.boundaries import (
    LOOKS,
    critical,
    futility_bounds,
    nominal_levels,
    stagewise_p,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Decision",
    "Look",
    "Sequential",
    "Stops",
    "group_sequential",
    "stops",
]

Floats: TypeAlias = "NDArray[np.float64]"


class Decision(StrEnum):
    """Decision after the pairs so far."""

    NON_INFERIOR = "NON_INFERIOR"
    """Stop: the treatment is shown to lose less than the margin."""
    INFERIOR = "INFERIOR"
    """Stop: the treatment is shown to lose more than the margin."""
    FUTILE = "FUTILE"
    """Stop: non-inferiority is unlikely to be shown, and inferiority is not shown."""
    NOT_SHOWN = "NOT_SHOWN"
    """The last look was taken; neither non-inferiority nor inferiority is shown."""
    CONTINUE = "CONTINUE"
    """Continue: more pairs are needed."""


@dataclass(frozen=True)
class Stops:
    """Results of the stopping rule for several series of pairs.

    Attributes:
        look: index of the look at which the series stopped, shape (R,); -1 if it has not stopped.
        crossed: whether the series stopped for non-inferiority, shape (R,).
        t: t statistic of the mean against -margin at this look, shape (R,); undefined if the series has not
            stopped.
        sd: standard deviation of the differences up to this look, shape (R,).
        mean: mean of the differences up to this look, shape (R,).
    """

    look: NDArray[np.int_]
    crossed: NDArray[np.bool_]
    t: Floats
    sd: Floats
    mean: Floats


def stops(
    differences: ArrayLike,
    margin: float,
    alpha: float = 0.05,
    looks: Sequence[int] = LOOKS,
    futility: bool = True,
) -> Stops:
    """Apply the stopping rule of `group_sequential` to many series at once.

    Args:
        differences: shape (R, n), in the order of the pairs; looks beyond n are not taken.
        margin: as for `group_sequential`.
        alpha: as for `group_sequential`.
        looks: as for `group_sequential`.
        futility: as for `group_sequential`.

    Raises:
        InputError: alpha or looks are not as described.

    Example:
        >>> stops([[0.001, -0.001] * 4, [-0.02, -0.021] * 4], margin=0.005).look.tolist()
        [0, 1]
    """
    looks = tuple(looks)
    bounds = critical(nominal_levels(looks, alpha), looks)
    values = np.asarray(differences, dtype=float)
    taken = [n for n in looks if n <= values.shape[1]]
    rows = np.arange(len(values))
    mean, sd, t = (np.full((len(values), len(taken) + 1), np.nan) for _ in range(3))
    ends = np.zeros((len(values), len(taken) + 1), dtype=bool)
    ends[:, -1] = True  # the last column marks a series that has not stopped
    crossed = np.zeros_like(ends)
    for index, n in enumerate(taken):
        part = values[:, :n]
        mean[:, index] = part.mean(axis=1)
        sd[:, index] = np.where(np.ptp(part, axis=1) <= RESOLUTION, 0.0, part.std(axis=1, ddof=1))
        t[:, index] = _t(mean[:, index] + margin, sd[:, index], n)
        crossed[:, index] = t[:, index] > bounds[index]
        ends[:, index] = crossed[:, index] | (t[:, index] <= futility_bounds(looks, futility)[index])
        if n == looks[-1]:
            ends[:, index] = True
    first = ends.argmax(axis=1)
    return Stops(
        look=np.where(first < len(taken), first, -1),
        crossed=crossed[rows, first],
        t=t[rows, first],
        sd=sd[rows, first],
        mean=mean[rows, first],
    )


def _t(distance: Floats, sd: Floats, n: int) -> Floats:
    """Compute t as in `non_inferiority`: without spread it is infinite with the sign of distance, or 0."""
    spread = sd > 0
    sign = np.where(np.abs(distance) <= RESOLUTION, 0.0, np.copysign(math.inf, distance))
    return np.where(spread, distance / np.where(spread, sd / math.sqrt(n), 1.0), sign)


@dataclass(frozen=True)
class Look:
    """Test result at one look.

    Attributes:
        n: number of pairs.
        mean: mean of the differences so far. Do not use it as an estimate: the stop makes it biased.
        p_value: nominal one-sided p value of H0: mean <= -margin.
        level: nominal level; the test stops if p_value is below it.
    """

    n: int
    mean: float
    p_value: float
    level: float


@dataclass(frozen=True)
class Sequential:
    """Outcome of a group-sequential non-inferiority test.

    Attributes:
        decision: decision after the pairs so far.
        n: number of pairs used: up to the look at which the test stopped, or else up to the latest look; 0
            before the first look.
        taken: results of the looks so far, in order.
        p_value: p value of H0: mean <= -margin, adjusted for the looks. It is below alpha exactly if the
            decision is NON_INFERIOR. This and the next three are None while the decision is CONTINUE.
        p_inferior: adjusted p value of H0: mean >= -margin.
        estimate: median-unbiased estimate of the mean difference.
        interval: adjusted confidence interval of the mean difference, two-sided at 1 - 2 alpha. Its lower end
            is above -margin exactly when p_value < alpha; its upper end is below -margin exactly when
            p_inferior < alpha.
        margin: non-inferiority margin: the largest loss of accuracy that still counts as equal.
        alpha: one-sided level of the test.
        looks: planned number of pairs at each look.
    """

    decision: Decision
    n: int
    taken: tuple[Look, ...]
    p_value: float | None
    p_inferior: float | None
    estimate: float | None
    interval: tuple[float, float] | None
    margin: float
    alpha: float
    looks: tuple[int, ...]


def group_sequential(
    differences: ArrayLike,
    margin: float,
    alpha: float = 0.05,
    looks: Sequence[int] = LOOKS,
    futility: bool = True,
) -> Sequential:
    """Test at planned looks whether the treatment loses less than `margin` against the control.

    The test stops for non-inferiority if the nominal p value is below the level of the look
    (`nominal_levels`). It stops for futility if the mean is at or below -margin, at all looks except the
    first and the last. The futility rule is not binding: the levels are calculated without it, so the error
    is also kept if the test continues with `futility=False`.

    After a stop, the p values, the estimate and the interval use the stage-wise ordering (`stagewise_p`).
    p_value and the lower end treat futility as not binding; p_inferior, the estimate and the upper end treat
    it as binding. In this way each result is valid whether or not the rule was followed. Pairs after the stop
    are not used.

    Args:
        differences: accuracy of the treatment minus that of the control, as fractions, in the planned order;
            shape (n,), two or more.
        margin: non-inferiority margin, in [0, 1), as a fraction; 0 tests superiority.
        alpha: one-sided level, in (0, 0.5).
        looks: number of pairs at each look; at least two looks, increasing.
        futility: whether to stop for futility.

    Raises:
        InputError: more differences than the last look uses, or an argument that is not as described.

    Example:
        >>> group_sequential([0.001, -0.0005, 0.0004, 0.001, -0.001], margin=0.005).decision
        <Decision.NON_INFERIOR: 'NON_INFERIOR'>
        >>> group_sequential([0.001, -0.004, 0.003], margin=0.005).decision
        <Decision.CONTINUE: 'CONTINUE'>
    """
    looks = tuple(looks)
    levels = nominal_levels(looks, alpha)
    one_sided(differences, margin, alpha)  # checks the arguments
    values = np.asarray(differences, dtype=float)
    if len(values) > looks[-1]:
        raise InputError(f"differences: received {len(values)}. Allowed: at most {looks[-1]}, the last look")
    stop = stops(values[None], margin, alpha, looks, futility)
    look = int(stop.look[0])
    reached = [n for n in looks if n <= len(values)] if look < 0 else looks[: look + 1]
    tests = [one_sided(values[:n], margin, alpha) for n in reached]
    taken = tuple(
        Look(test.n, test.mean, test.p_value, level) for test, level in zip(tests, levels, strict=False)
    )
    plan = (float(margin), float(alpha), looks)
    if look < 0:
        n = taken[-1].n if taken else 0
        return Sequential(Decision.CONTINUE, n, taken, None, None, None, None, *plan)
    t, sd, mean = float(stop.t[0]), float(stop.sd[0]), float(stop.mean[0])
    p_value = float(stagewise_p([t], look, 0.0, alpha, looks)[0])
    p_inferior = 1 - float(stagewise_p([t], look, 0.0, alpha, looks, futility)[0])
    estimate, interval = mean, (mean, mean)
    if sd > 0:

        def limit(level: float, binding: bool) -> float:
            return _theta_at(level, t, look, alpha, looks, binding) * sd - margin

        estimate = limit(0.5, futility)
        interval = (limit(alpha, False), limit(1 - alpha, futility))
    decision = Decision.FUTILE if look < len(looks) - 1 else Decision.NOT_SHOWN
    if stop.crossed[0]:
        decision = Decision.NON_INFERIOR
    elif p_inferior < alpha:
        decision = Decision.INFERIOR
    return Sequential(decision, reached[-1], taken, p_value, p_inferior, estimate, interval, *plan)


def _theta_at(
    level: float, t: float, look: int, alpha: float, looks: tuple[int, ...], futility: bool
) -> float:
    """The (theta + margin) / sd at which the p value of H0: mean <= theta equals `level`."""
    root = math.sqrt(looks[look])

    def excess(theta: float) -> float:
        away = t / root - theta
        shift = theta / math.hypot(math.sqrt(1 - 1 / looks[look]), away)
        return float(stagewise_p([away * root], look, shift, alpha, looks, futility)[0]) - level

    fixed = (t + float(special.stdtrit(looks[look] - 1, level))) / root
    low, high, step = fixed, fixed, 0.5 / root
    while excess(low) > 0:
        low, step = low - step, 2 * step
    step = 0.5 / root
    while excess(high) < 0:
        high, step = high + step, 2 * step
    return fixed if low == high else float(optimize.brentq(excess, low, high, xtol=1e-7))
