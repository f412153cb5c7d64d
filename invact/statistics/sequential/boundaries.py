"""Boundaries of group-sequential tests, for the normal and the t statistic, and the repeated p value."""
# Bounds for a normal statistic are not valid for a t statistic: with few runs, t crosses them far too often.

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy import special

from invact.errors import InputError
from invact.statistics.sequential.crossing import normal_exits, t_exits

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ALPHA",
    "LOOKS",
    "check_looks",
    "critical",
    "futility_bounds",
    "nominal_levels",
    "prepare",
    "repeated_p",
    "spending_bounds",
    "wang_tsiatis",
]

Floats: TypeAlias = "NDArray[np.float64]"

LOOKS = (6, 7, 8, 9, 10, 12, 15, 18)
"""Default looks of the sequential test, in runs of each arm."""
ALPHA = 0.025
"""Default total one-sided type I error."""

_ONE_AT_A_TIME = threading.RLock()
"""Held while levels are computed, so that no two threads compute the same ones."""


def _solve(function: Callable[[float], float], low: float, high: float, **options: float) -> float:
    # Here, because the import takes half a second, and a claim that is refused does not need it.
    from scipy import optimize

    return float(optimize.brentq(function, low, high, **options))


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

    return np.asarray(_solve(excess, 0.1, 8.0) * form)


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
        bounds.append(_solve(excess, 0.0, 8.5) if excess(8.5) < 0 else 8.5)
    return np.array(bounds)


def nominal_levels(
    looks: tuple[int, ...] = LOOKS, alpha: float = ALPHA, shape: tuple[float, ...] | None = None
) -> tuple[float, ...]:
    """Compute the nominal levels: the p value below which a t test stops at each look.

    The total one-sided type I error is alpha.

    The levels are a constant c times a given shape. c is chosen so that the sequence of *t statistics*
    crosses a bound with probability alpha, if all of the spread is in one of the two arms. The degrees of
    freedom of Welch's test are then fewest: n - 1. Welch's test is an approximation in all other cases. With
    the default looks its total error is 0.0233 if both arms have the same spread. It is at most 0.0259, if
    one spread is about four times the other (2,000,000 simulated series each).

    By default the shape is the square root of the normal levels of Lan and DeMets' spending: the test may
    stop early more often than with O'Brien and Fleming's bounds and less often than with Pocock's.

    Args:
        looks: number of runs of each arm at each look; one look, or increasing looks from 2 runs on.
        alpha: total one-sided type I error, in (0, 0.5).
        shape: another shape, one positive number for each look; equal numbers correspond to Pocock's bounds.

    Raises:
        InputError: an argument is not as described.

    Source: Jennison and Turnbull, Group Sequential Methods, 2000, sections 4.4 (significance levels in place
    of bounds) and 7.2 (spending). The constant c removes the error of that approximation.

    Example:
        >>> [round(level, 4) for level in nominal_levels()]
        [0.001, 0.0017, 0.0026, 0.0035, 0.0046, 0.0071, 0.0109, 0.0142]
        >>> [round(level, 4) for level in nominal_levels((5, 10), 0.05, shape=(1.0, 1.0))]
        [0.0291, 0.0291]
    """
    check_looks(looks)
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha: received {alpha!r}. Allowed: (0, 0.5)")
    if len(looks) == 1:
        return (float(alpha),)
    if shape is not None and (len(shape) != len(looks) or not all(0 < value < math.inf for value in shape)):
        raise InputError(
            f"shape: received {shape!r}. Allowed: {len(looks)} positive numbers, one for each look"
        )
    with _ONE_AT_A_TIME:
        return _levels(looks, alpha, shape)


@lru_cache(maxsize=64)
def _levels(looks: tuple[int, ...], alpha: float, shape: tuple[float, ...] | None) -> tuple[float, ...]:
    form = np.asarray(_default_shape(looks, alpha) if shape is None else shape, dtype=float)

    def excess(constant: float) -> float:
        return sum(t_exits(critical(constant * form, looks), looks).upper) - alpha

    # The solution is between the Bonferroni correction, which spends too little, and the constant that gives
    # one look the level alpha, which spends too much.
    constant = _solve(excess, alpha / form.sum(), alpha / form.max(), xtol=1e-12)
    return tuple(float(level) for level in constant * form)


def _default_shape(looks: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    return tuple(np.sqrt(special.ndtr(-spending_bounds(looks, alpha))).tolist())


def repeated_p(p_value: float, look: int, looks: tuple[int, ...] = LOOKS, alpha: float = ALPHA) -> float:
    """Compute the repeated p value: the smallest total error at which the test rejects at this look.

    The nominal levels of a test with another total error are taken as the same shape times another constant.
    The result is the total error of the constant that gives this look the level `p_value`. It is below alpha
    exactly if p_value is below the nominal level of the look. Under the null hypothesis the smallest repeated
    p value of all looks is below any a with a probability of at most a.

    Args:
        p_value: nominal p value at the look, in [0, 1].
        look: index of the look.
        looks: number of runs of each arm at each look of the design.
        alpha: total one-sided type I error of the design.

    Source: Jennison and Turnbull, Journal of the Royal Statistical Society B 51, 1989 (repeated confidence
    intervals and p values).

    Example:
        >>> level = nominal_levels()[2]
        >>> round(repeated_p(level, 2), 4), repeated_p(0.9, 0), repeated_p(1e-9, 0) < 1e-6
        (0.025, 1.0, True)
    """
    if len(looks) == 1:
        return float(p_value)
    level = nominal_levels(looks, alpha)[look]
    constant = p_value / level
    with _ONE_AT_A_TIME:
        constants, totals = _total_errors(looks, alpha)
    if constant >= constants[-1]:
        return 1.0
    if constant <= constants[0]:
        # For small levels the total is proportional to the constant.
        return float(totals[0] * constant / constants[0])
    total = float(np.exp(np.interp(math.log(constant), np.log(constants), np.log(totals))))
    # Without this, rounding could put the result on the other side of alpha than the p value of the level.
    return min(total, math.nextafter(alpha, 0)) if p_value < level else max(total, alpha)


@lru_cache(maxsize=64)
def _total_errors(looks: tuple[int, ...], alpha: float) -> tuple[Floats, Floats]:
    """Multiples of the nominal levels, and the total error of each; the multiple 1 has the error alpha."""
    levels = np.asarray(nominal_levels(looks, alpha))
    largest = 0.9 / levels.max()
    constants = np.concatenate([np.geomspace(1e-4, 1, 25)[:-1], np.geomspace(1, largest, 17)])
    totals = np.array([sum(t_exits(critical(each * levels, looks), looks).upper) for each in constants])
    totals[24] = alpha
    return constants, np.minimum(totals, 1.0)


def prepare(looks: tuple[int, ...], alpha: float) -> None:
    """Begin to compute what tests with these looks need, in a thread that uses another core.

    It takes seconds, which a claim otherwise waits for between its other preparations.

    Example:
        >>> prepare((5, 10), 0.025)
    """
    if len(looks) > 1:
        # The repeated p value needs both the levels and the total errors.
        arguments = (0.5, 0, looks, alpha)
        threading.Thread(target=repeated_p, args=arguments, name="invact-levels", daemon=True).start()


def check_looks(looks: Sequence[int]) -> None:
    """Raise InputError unless the looks are increasing numbers of runs, the first at least 2.

    Example:
        >>> check_looks((6, 7, 9))
    """
    whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in looks)
    increasing = whole and all(a < b for a, b in itertools.pairwise(looks))
    if not looks or not increasing or looks[0] < 2:
        raise InputError(
            f"looks: received {list(looks)}. Allowed: increasing numbers of runs, each 2 or more"
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
