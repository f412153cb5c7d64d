"""When may one look early? Boundaries of group-sequential tests, for the normal and for the t statistic."""
# A t statistic is not a normal one: with 5 pairs it crosses a normal bound far too often.

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
"""Pairs at which the sequential test looks, unless told."""


def wang_tsiatis(information: ArrayLike, alpha: float, shape: float, sides: int = 2) -> Floats:
    """Bounds z_k = c (I_k / I_K)^(shape - 1/2) of total error alpha: Pocock's at 1/2, O'Brien-Fleming's at 0.

    Args:
        information: increasing and positive; shape (K,).
        alpha: total type I error, over both sides if sides is 2.
        shape: how early the error is spent; late at 0.
        sides: 1 or 2.

    Returns:
        Bounds on z (on its absolute value if sides is 2), shape (K,).

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
    """One-sided bounds on z that spend the error as 2 - 2 Phi(z_(alpha/2) / sqrt(I / I_K)).

    Returns:
        Bounds, shape (K,).

    Source: Lan and DeMets, Biometrika 70, 1983: the spending that resembles O'Brien and Fleming's bounds.

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

        # Past 8.5 nothing can be told from no look at all.
        bounds.append(float(optimize.brentq(excess, 0.0, 8.5)) if excess(8.5) < 0 else 8.5)
    return np.array(bounds)


@lru_cache(maxsize=64)
def nominal_levels(
    looks: tuple[int, ...] = LOOKS, alpha: float = 0.05, shape: tuple[float, ...] | None = None
) -> tuple[float, ...]:
    """One-sided p values below which a t test may stop at each look, for a total type I error of alpha.

    The levels are c times a given shape; one constant c is found such that the sequence of *t statistics*
    crosses with probability alpha. The shape is that of the normal theory with Lan and DeMets' spending.

    Args:
        looks: pairs at each look: at least two looks, increasing, from 2 pairs on.
        alpha: total one-sided type I error, in (0, 0.5).
        shape: positive, one for each look, if another is wanted: equal values are like Pocock's.

    Raises:
        InputError: an argument is not as described.

    Source: Jennison and Turnbull, Group Sequential Methods, 2000, sections 4.4 (significance levels in place
    of bounds) and 7.2 (spending). Here the constant removes what that approximation leaves.

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
        raise InputError(f"shape: received {shape!r}. Allowed: {len(looks)} positive numbers, one a look")
    form = np.asarray(shape, dtype=float)

    def excess(constant: float) -> float:
        return sum(t_exits(critical(constant * form, looks), looks).upper) - alpha

    # Bonferroni spends too little; alpha at any one of the looks too much.
    constant = optimize.brentq(excess, alpha / form.sum(), alpha / form.max(), xtol=1e-12)
    return tuple(float(level) for level in constant * form)


def check_looks(looks: Sequence[int]) -> None:
    """Refuse looks that are no plan.

    Example:
        >>> check_looks((5, 7, 9))
    """
    whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in looks)
    increasing = whole and all(a < b for a, b in itertools.pairwise(looks))
    if len(looks) < 2 or not increasing or looks[0] < 2:
        raise InputError(f"looks: received {list(looks)}. Allowed: two or more, increasing, from 2 pairs on")


def critical(levels: ArrayLike, looks: Sequence[int]) -> Floats:
    """Turn nominal one-sided p values into bounds on t.

    Example:
        >>> critical([0.05, 0.05], (5, 10)).round(3).tolist()
        [2.132, 1.833]
    """
    return np.asarray(-special.stdtrit(np.asarray(looks) - 1, np.asarray(levels, dtype=float)))


def futility_bounds(looks: Sequence[int], futility: bool = True) -> Floats:
    """Bounds on t at or below which to stop for futility: 0 from the second look to the last but one.

    A t of 0 is a mean of -margin: the claim would have to be won against the trend. Elsewhere, or without
    futility, -inf.

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
    """P value of having stopped at a look with t, by stage-wise ordering.

    An earlier stop for non-inferiority is more extreme than any later outcome, and a larger t more extreme
    than a smaller one at the same look. The p value of H0: mean <= -margin (shift 0) is exact for normal
    differences d. For H0: mean <= theta the bounds of earlier looks move: with m^2 the mean of
    (d - theta)^2 and shift = (theta + margin) / m, a bound at the angle phi moves to
    phi - arcsin(shift cos(phi)). m^2 is all that is known of the variance under that hypothesis; it is taken
    from the stop for all looks, which is the one approximation. At the first look there is none.

    Args:
        t: statistics against theta at the look of the stop, shape (R,).
        look: its index.
        shift: of theta from -margin, in root mean squares about theta.
        alpha: of the design.
        looks: of the design.
        futility: whether the futility rule is taken as binding. False is valid whether or not it is obeyed.

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
