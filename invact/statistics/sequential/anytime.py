"""A paired t test that may stop after any pair: e-process, p value and confidence sequence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy import optimize, special

from invact.errors import InputError
from invact.statistics.comparison.inference import RESOLUTION, one_sided
from invact.statistics.sequential.group_sequential import Decision

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["SCALE", "Anytime", "anytime", "e_values"]

Floats: TypeAlias = "NDArray[np.float64]"

SCALE = 1.0
"""Default of the expected distance of the mean from -margin, in standard deviations."""


def e_values(differences: ArrayLike, margin: float, scale: float = SCALE) -> Floats:
    """Compute the e-process against H0: mean <= -margin after each pair.

    An e-process measures the evidence against H0. Under H0 it ever reaches 1 / alpha with a probability of at
    most alpha, so a test may look at it after each pair.

    x are the n differences plus the margin. With w = sum(x) / sqrt(n sum(x^2)) and
    rho = n scale^2 / (1 + n scale^2), the e-value is

        2 T_n(sqrt(n rho) w / sqrt(1 - rho w^2)) / (sqrt(1 + n scale^2) (1 - rho w^2)^(n / 2)),

    where T_n is the distribution function of Student's t with n degrees of freedom. It is the likelihood
    ratio of the t statistic (the right-Haar ratio, which does not depend on the variance) between
    mean / sd = delta and 0, averaged over delta ~ |N(0, scale^2)|.

    For normal differences with mean -margin the process is a martingale with mean 1 (in the filtration of the
    t statistics), so it ever reaches 1 / alpha with probability alpha at most. The e-value increases with t,
    and a smaller mean lowers all t of a series. So the test is valid for all of H0.

    Args:
        differences: shape (..., n), in order.
        margin: non-inferiority margin, as a fraction.
        scale: scale of the mixture, in standard deviations of the differences; positive.

    Returns:
        E-values after 1, 2, ... n pairs; shape (..., n).

    Raises:
        InputError: the scale is not positive.

    Source: Lai, Annals of Statistics 4, 1976; Perez-Ortiz, Lardy, de Heide, Gruenwald, Annals of Statistics
    52, 2024 (arXiv:2208.07610); Wang and Ramdas, 2024 (arXiv:2310.03722).

    Example:
        >>> e_values([0.001, -0.0005, 0.0004, 0.001, -0.001], margin=0.005).round(1).tolist()
        [1.5, 3.0, 7.3, 20.1, 54.3]
    """
    if not 0 < scale < math.inf:
        raise InputError(f"scale: received {scale!r}. Allowed: a positive number")
    x = np.asarray(differences, dtype=float) + margin
    x = np.where(np.abs(x) <= RESOLUTION, 0.0, x)
    n = np.arange(1, x.shape[-1] + 1)
    squares = n * np.cumsum(x**2, axis=-1)
    # If all differences equal -margin, there is no evidence in either direction: the e-value is 1.
    cosine = np.cumsum(x, axis=-1) / np.sqrt(np.where(squares > 0, squares, 1.0))
    return np.where(squares > 0, np.exp(_log_e(np.clip(cosine, -1, 1), n, scale)), 1.0)


def _log_e(cosine: ArrayLike, n: ArrayLike, scale: float) -> Floats:
    pairs, w = np.asarray(n), np.asarray(cosine)
    rho = pairs * scale**2 / (1 + pairs * scale**2)
    rest = 1 - rho * w**2
    tail = special.stdtr(pairs, np.sqrt(pairs * rho / rest) * w)
    return np.asarray(
        np.log(2 * tail) - np.log1p(pairs * scale**2) / 2 - pairs / 2 * np.log(rest), dtype=float
    )


@lru_cache(maxsize=1024)
def _reach(n: int, alpha: float, scale: float) -> float:
    """Half-width of the confidence sequence at n, in standard errors: the t with an e-value of 1 / alpha."""

    def excess(cosine: float) -> float:
        return float(_log_e(cosine, n, scale)) + math.log(alpha)

    # With few pairs the e-value cannot reach 1 / alpha for any mean.
    if n < 2 or excess(1.0) <= 0:
        return math.inf
    cosine = float(optimize.brentq(excess, -1.0, 1.0, xtol=1e-13))
    return math.sqrt(n - 1) * cosine / math.sqrt(1 - cosine**2)


@dataclass(frozen=True)
class Anytime:
    """Outcome of the non-inferiority test that may stop after any pair.

    Attributes:
        decision: NON_INFERIOR, INFERIOR or CONTINUE.
        n: number of pairs used: up to the pair at which the test stopped, or all.
        e_value: e-value against H0: mean <= -margin, at n.
        e_inferior: e-value against H0: mean >= -margin, at n.
        p_value: p value of H0: mean <= -margin, valid at any time: 1 / (largest e-value so far), at most 1.
        p_inferior: the same for H0: mean >= -margin.
        interval: confidence sequence of the mean at n: the intersection of all intervals so far. It is valid
            at 1 - 2 alpha for all n together. Infinite until there are enough pairs.
        margin: non-inferiority margin: the largest loss of accuracy that still counts as equal.
        alpha: one-sided level of the test.
    """

    decision: Decision
    n: int
    e_value: float
    e_inferior: float
    p_value: float
    p_inferior: float
    interval: tuple[float, float]
    margin: float
    alpha: float


def anytime(differences: ArrayLike, margin: float, alpha: float = 0.05, scale: float = SCALE) -> Anytime:
    """Test after each pair whether the treatment loses less than `margin`; no looks need to be planned.

    The test stops at the first pair at which one of the two e-values is 1 / alpha or more (`e_values`).

    Args:
        differences: accuracy of the treatment minus that of the control, as fractions, in the planned order;
            shape (n,), two or more.
        margin: in [0, 1), as a fraction; 0 tests superiority.
        alpha: one-sided level, in (0, 0.5).
        scale: expected (mean + margin) / sd. It must be fixed beforehand; it changes the power, but not the
            validity of the test.

    Raises:
        InputError: as `non_inferiority` and `e_values`.

    Example:
        >>> result = anytime([0.001, -0.0005, 0.0004, 0.001, -0.001], margin=0.005)
        >>> result.decision, result.n
        (<Decision.NON_INFERIOR: 'NON_INFERIOR'>, 4)
    """
    one_sided(differences, margin, alpha)  # checks the arguments
    values = np.asarray(differences, dtype=float)
    above = e_values(values, margin, scale)
    below = e_values(-values, -margin, scale)
    hits = np.flatnonzero(np.maximum(above, below) >= 1 / alpha)
    n = int(hits[0]) + 1 if len(hits) else len(values)
    decision = Decision.CONTINUE
    if len(hits):
        decision = Decision.NON_INFERIOR if above[n - 1] >= 1 / alpha else Decision.INFERIOR
    return Anytime(
        decision=decision,
        n=n,
        e_value=float(above[n - 1]),
        e_inferior=float(below[n - 1]),
        p_value=min(1.0, 1 / float(above[:n].max())),
        p_inferior=min(1.0, 1 / float(below[:n].max())),
        interval=_sequence(values[:n], alpha, scale),
        margin=float(margin),
        alpha=float(alpha),
    )


def _sequence(values: Floats, alpha: float, scale: float) -> tuple[float, float]:
    low, high = -math.inf, math.inf
    for n in range(2, len(values) + 1):
        reach = _reach(n, alpha, scale)
        if reach < math.inf:
            mean, error = float(values[:n].mean()), float(values[:n].std(ddof=1)) / math.sqrt(n)
            low, high = max(low, mean - reach * error), min(high, mean + reach * error)
    return low, high
