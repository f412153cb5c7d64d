"""Boundaries of group-sequential tests, for the normal and the t statistic, and the stage-wise p value."""
# Bounds for a normal statistic are not valid for a t statistic: with 5 pairs, t crosses them far too often.

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy import optimize, special

from invact.errors import InputError
from invact.statistics.sequential.crossing import normal_exits, t_exits, t_tail

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "LOOKS",
    "check_looks",
    "critical",
    "futility_bounds",
    "nominal_levels",
    "spending_bounds",
    "stagewise_p",
    "wang_tsiatis",
]

Floats: TypeAlias = "NDArray[np.float64]"

LOOKS = (5, 7, 9, 12, 15)
"""Default looks of the sequential test, in pairs."""


def wang_tsiatis(information: ArrayLike, alpha: float, shape: float, sides: int = 2) -> Floats:
    """Compute bounds z_k = c (I_k / I_K)^(shape - 1/2) with a total type I error of alpha.

    shape 1/2 gives Pocock's bounds, shape 0 gives O'Brien and Fleming's.

    Args:
        information: information at each look, increasing and positive; shape (K,).
        alpha: total type I error, of both sides together if sides is 2.
        shape: how early the error is spent; at 0 most of it is spent late.
        sides: 1 or 2.

    Returns:
        Bounds on z, or on its absolute value if sides is 2; shape (K,).

    Source: Wang and Tsiatis, Biometrics 43, 1987.

    Example:
        >>> wang_tsiatis([1, 2, 3, 4, 5], 0.05, 0.5).round(3).tolist()
        [2.413, 2.413, 2.413, 2.413, 2.413]
    """
    values = np.asarray(information, dtype=float)
    form = (values / values[-1]) ** (shape - 0.5)

    def excess(constant: float) -> float:
        bounds = constant * form
        return sides * sum(normal_exits(bounds, values, -bounds if sides == 2 else None).upper) - alpha

    return np.asarray(float(optimize.brentq(excess, 0.1, 8.0)) * form)


def spending_bounds(information: ArrayLike, alpha: float) -> Floats:
    """Compute one-sided bounds on z that spend the error as 2 - 2 Phi(z_(alpha/2) / sqrt(I / I_K)).

    Returns:
        Bounds, shape (K,).

    Source: Lan and DeMets, Biometrika 70, 1983 (the spending function that is close to O'Brien and Fleming's
    bounds).

    Example:
        >>> spending_bounds([1, 2], 0.025).round(3).tolist()
        [2.963, 1.969]
    """
    values = np.asarray(information, dtype=float)
    spent = 2 * special.ndtr(special.ndtri(alpha / 2) / np.sqrt(values / values[-1]))
    bounds: list[float] = []
    for look, target in enumerate(spent, start=1):

        def excess(bound: float, look: int = look, target: float = target) -> float:
            return sum(normal_exits([*bounds, bound], values[:look]).upper) - target

        # A bound above 8.5 has the same effect as no look.
        bounds.append(float(optimize.brentq(excess, 0.0, 8.5)) if excess(8.5) < 0 else 8.5)
    return np.array(bounds)


@lru_cache(maxsize=64)
def nominal_levels(
    looks: tuple[int, ...] = LOOKS, alpha: float = 0.05, shape: tuple[float, ...] | None = None
) -> tuple[float, ...]:
    """Compute the nominal levels: the p value below which a t test stops at each look.

    The total one-sided type I error is alpha.

    The levels are a constant c times a given shape. c is chosen so that the sequence of *t statistics*
    crosses a bound with probability alpha. By default the shape comes from normal theory with Lan and DeMets'
    spending.

    Args:
        looks: number of pairs at each look; at least two looks, increasing, the first with 2 pairs or more.
        alpha: total one-sided type I error, in (0, 0.5).
        shape: another shape, one positive number for each look; equal numbers correspond to Pocock's bounds.

    Raises:
        InputError: an argument is not as described.

    Source: Jennison and Turnbull, Group Sequential Methods, 2000, sections 4.4 (significance levels in place
    of bounds) and 7.2 (spending). The constant c removes the error of that approximation.

    Example:
        >>> [round(level, 4) for level in nominal_levels((5, 10), 0.05, shape=(1.0, 1.0))]
        [0.0291, 0.0291]
    """
    check_looks(looks)
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha: received {alpha!r}. Allowed: (0, 0.5)")
    if shape is None:
        shape = tuple(special.ndtr(-spending_bounds(looks, alpha)))
    elif len(shape) != len(looks) or not all(0 < value < math.inf for value in shape):
        raise InputError(
            f"shape: received {shape!r}. Allowed: {len(looks)} positive numbers, one for each look"
        )
    form = np.asarray(shape, dtype=float)

    def excess(constant: float) -> float:
        return sum(t_exits(critical(constant * form, looks), looks).upper) - alpha

    # The solution is between the Bonferroni correction, which spends too little, and the constant that gives
    # one look the level alpha, which spends too much.
    constant = optimize.brentq(excess, alpha / form.sum(), alpha / form.max(), xtol=1e-12)
    return tuple(float(level) for level in constant * form)


def check_looks(looks: Sequence[int]) -> None:
    """Raise InputError unless the looks are two or more increasing numbers of pairs, the first at least 2.

    Example:
        >>> check_looks((5, 7, 9))
    """
    whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in looks)
    increasing = whole and all(a < b for a, b in itertools.pairwise(looks))
    if len(looks) < 2 or not increasing or looks[0] < 2:
        raise InputError(
            f"looks: received {list(looks)}. Allowed: two or more increasing numbers of pairs, each 2 or more"
        )


def critical(levels: ArrayLike, looks: Sequence[int]) -> Floats:
    """Convert nominal one-sided p values to bounds on t.

    Example:
        >>> critical([0.05, 0.05], (5, 10)).round(3).tolist()
        [2.132, 1.833]
    """
    return np.asarray(-special.stdtrit(np.asarray(looks) - 1, np.asarray(levels, dtype=float)))


def futility_bounds(looks: Sequence[int], futility: bool = True) -> Floats:
    """Compute the bounds on t at or below which the test stops for futility.

    The bound is 0 at all looks except the first and the last, where it is -inf. Without futility all bounds
    are -inf. At t = 0 the mean is -margin, so non-inferiority could be shown only against the trend of the
    data.

    Example:
        >>> futility_bounds((5, 7, 9)).tolist()
        [-inf, 0.0, -inf]
    """
    bounds = np.full(len(looks), -math.inf)
    if futility:
        bounds[1:-1] = 0.0
    return bounds


def stagewise_p(
    t: ArrayLike,
    look: int,
    shift: float = 0.0,
    alpha: float = 0.05,
    looks: Sequence[int] = LOOKS,
    futility: bool = False,
) -> Floats:
    """Compute the p value after a stop at a look with statistic t, by stage-wise ordering.

    In this ordering an earlier stop for non-inferiority is more extreme than any later outcome, and at the
    same look a larger t is more extreme than a smaller one. For H0: mean <= -margin (shift 0) the p value is
    exact if the differences d are normal. For H0: mean <= theta the bounds of the earlier looks move: m^2 is
    the mean of (d - theta)^2, shift = (theta + margin) / m, and a bound at the angle phi moves to
    phi - arcsin(shift cos(phi)). The only approximation is that all earlier looks use m^2 of the stop; at the
    first look there is none.

    Args:
        t: statistics against theta at the look of the stop, shape (R,).
        look: index of this look.
        shift: distance of theta from -margin, divided by the root mean square of the differences about theta.
        alpha: one-sided level of the design.
        looks: number of pairs at each look of the design.
        futility: whether the futility rule is treated as binding. False is valid whether or not the rule is
            followed.

    Returns:
        P values, shape (R,).

    Source: Fairbanks and Madsen, Biometrika 69, 1982; Tsiatis, Rosner, Mehta, Biometrics 40, 1984.

    Example:
        >>> stagewise_p([2.132], look=0).round(4).tolist()
        [0.05]
    """
    looks = tuple(looks)
    root = np.sqrt(np.asarray(looks) - 1)

    def moved(bounds: Floats) -> Floats:
        angles = np.arctan(bounds / root)
        moved = angles - np.arcsin(np.clip(shift * np.cos(angles), -1, 1))
        return np.asarray(root * np.tan(np.clip(moved, -math.pi / 2, math.pi / 2)))[:look]

    upper = moved(critical(nominal_levels(looks, alpha), looks))
    lower = moved(futility_bounds(looks, futility))
    earlier, now = t_tail(t, upper, looks[: look + 1], lower)
    return np.minimum(earlier + now, 1.0)
