"""A paired t test that may stop early: group-sequential looks, with inference adjusted for having stopped."""

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
    """What to do after the pairs so far."""

    NON_INFERIOR = "NON_INFERIOR"
    """Stop: the treatment loses less than the margin."""
    INFERIOR = "INFERIOR"
    """Stop: the treatment loses more than the margin."""
    FUTILE = "FUTILE"
    """Stop: non-inferiority is unlikely to be shown; inferiority is not shown either."""
    NOT_SHOWN = "NOT_SHOWN"
    """The last look is past, and neither could be shown."""
    CONTINUE = "CONTINUE"
    """More pairs are needed."""


@dataclass(frozen=True)
class Stops:
    """Where each of several series of pairs stops.

    Attributes:
        look: index of the look, shape (R,); -1 where the series goes on.
        crossed: whether it stopped for non-inferiority, shape (R,).
        t: of the mean against -margin at that look, shape (R,); of no meaning where the series goes on.
        sd: of its differences, shape (R,).
        mean: of its differences, shape (R,).
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
    """Apply the stopping rule to many series at once; the rule is that of `group_sequential`.

    Args:
        differences: shape (R, n), in the order of the pairs; looks beyond n are not taken.
        margin: as for `group_sequential`; so are the others.
        alpha: see there.
        looks: see there.
        futility: see there.

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
    ends[:, -1] = True  # where a series that goes on is found
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
    """As `non_inferiority` has it: without any spread, the sign."""
    spread = sd > 0
    sign = np.where(np.abs(distance) <= RESOLUTION, 0.0, np.copysign(math.inf, distance))
    return np.where(spread, distance / np.where(spread, sd / math.sqrt(n), 1.0), sign)


@dataclass(frozen=True)
class Look:
    """One look that was taken.

    Attributes:
        n: pairs.
        mean: of the differences so far. No estimate: it is biased by the stop.
        p_value: nominal, one-sided, of H0: mean <= -margin.
        level: what it has to be below.
    """

    n: int
    mean: float
    p_value: float
    level: float


@dataclass(frozen=True)
class Sequential:
    """Outcome of a group-sequential non-inferiority test.

    Attributes:
        decision: what follows.
        n: pairs used: those of the look at which it stopped, else of the latest look taken, or 0.
        taken: the looks, in order.
        p_value: of H0: mean <= -margin, adjusted for the looks; below alpha exactly when NON_INFERIOR. None
            while going on, like the next three.
        p_inferior: of H0: mean >= -margin, adjusted.
        estimate: of the mean difference, median-unbiased.
        interval: of the mean difference, adjusted, two-sided at 1 - 2 alpha. Its lower end is above -margin
            exactly when p_value < alpha; its upper end below -margin exactly when p_inferior < alpha.
        margin: the loss that still counts as equal.
        alpha: one-sided level.
        looks: pairs at the looks that were planned.
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
    """Test, look by look, whether the treatment loses less than `margin` to the control.

    It stops for non-inferiority when the nominal p value is below the look's level (`nominal_levels`). It
    stops for futility when the mean is at or below -margin, from the second look to the last but one. That
    rule is not binding: the levels are calibrated without it, so that one may go on with `futility=False`.

    After a stop the p value, the estimate and the interval follow the stage-wise ordering (`stagewise_p`).
    Each reading takes futility the way that is valid whether or not it was obeyed: as not binding for the
    p value and the lower end, as binding for the other two. Pairs after the stop are not used.

    Args:
        differences: accuracy of the treatment minus that of the control, as fractions, in the order planned;
            shape (n,), two or more.
        margin: in [0, 1), as a fraction; 0 tests superiority.
        alpha: one-sided level, in (0, 0.5).
        looks: pairs at each look, at least two looks, increasing.
        futility: whether to stop for futility.

    Raises:
        InputError: more differences than the last look, or an argument that is not as described.

    Example:
        >>> group_sequential([0.001, -0.0005, 0.0004, 0.001, -0.001], margin=0.005).decision
        <Decision.NON_INFERIOR: 'NON_INFERIOR'>
        >>> group_sequential([0.001, -0.004, 0.003], margin=0.005).decision
        <Decision.CONTINUE: 'CONTINUE'>
    """
    looks = tuple(looks)
    levels = nominal_levels(looks, alpha)
    one_sided(differences, margin, alpha)  # refuses what is no series of differences
    values = np.asarray(differences, dtype=float)
    if len(values) > looks[-1]:
        raise InputError(f"differences: received {len(values)}. Allowed: {looks[-1]}, the last look, at most")
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
    """(theta + margin) / sd at which the p value of H0: mean <= theta, which grows with it, is `level`."""
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
