"""Is the treatment as accurate as the control? Paired tests against a margin that was fixed beforehand."""
# A difference that is not significant is no evidence of equality, so the hypothesis to reject is always the
# unwanted one: that the treatment is worse than the control by the margin or more.

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from invact.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Equivalence",
    "NonInferiority",
    "equivalence",
    "holm",
    "non_inferiority",
    "one_sided",
    "superiority",
]

RESOLUTION = 1e-12
"""Accuracy below which a difference is rounding: an accuracy is a count over at most some 1e9 images."""


@dataclass(frozen=True)
class NonInferiority:
    """A paired one-sided t test against a margin.

    Attributes:
        n: pairs.
        mean: of the differences treatment - control, in accuracy fractions.
        sd: their standard deviation, with n - 1.
        t: (mean + margin) / (sd / sqrt(n)).
        p_value: of H0: mean <= -margin (inferior). Small is evidence of non-inferiority.
        p_inferior: of the opposite H0: mean >= -margin. Small is evidence of inferiority beyond the margin.
        interval: two-sided interval of the mean at 1 - 2 alpha: its lower end is above -margin exactly when
            p_value < alpha, its upper end below -margin exactly when p_inferior < alpha.
        margin: the loss of accuracy that still counts as equal, as a fraction; 0 for superiority.
        alpha: one-sided level.
    """

    n: int
    mean: float
    sd: float
    t: float
    p_value: float
    p_inferior: float
    interval: tuple[float, float]
    margin: float
    alpha: float


def non_inferiority(differences: ArrayLike, margin: float, alpha: float = 0.05) -> NonInferiority:
    """Test whether the treatment loses less than `margin` to the control, seed by seed.

    With d the n paired differences, t = (mean(d) + margin) / (sd(d) / sqrt(n)) is compared with Student's t
    of n - 1 degrees of freedom; H0: mean <= -margin is rejected for large t.

    Without any spread (all differences equal to within rounding) the answer is the sign: p_value is 0 and
    p_inferior 1 above -margin, the reverse below it. On -margin itself both are 1, because the boundary
    belongs to both null hypotheses.

    Args:
        differences: accuracy of the treatment minus that of the control, as fractions; shape (n,), one
            for each seed.
        margin: in (0, 1), as a fraction.
        alpha: one-sided level, in (0, 0.5).

    Raises:
        InputError: fewer than two differences ("insufficient"), one that is not a finite number in
            [-1, 1], or a margin or an alpha outside its range.

    Source: Wellek, Testing Statistical Hypotheses of Equivalence and Noninferiority, 2nd ed., 2010.

    Example:
        >>> test = non_inferiority([-0.002, 0.001, -0.001, 0.0, 0.002], margin=0.005)
        >>> test.p_value < 0.01, test.interval[0] > -0.005
        (True, True)
    """
    _check(margin)
    return one_sided(differences, margin, alpha)


def superiority(differences: ArrayLike, alpha: float = 0.05) -> NonInferiority:
    """Test whether the treatment is better than the control: `non_inferiority` with a margin of 0.

    Args:
        differences: as for `non_inferiority`; shape (n,).
        alpha: one-sided level, in (0, 0.5).

    Raises:
        InputError: as `non_inferiority`.

    Example:
        >>> superiority([0.002, 0.001, 0.003]).p_value < 0.05
        True
    """
    return one_sided(differences, 0.0, alpha)


def one_sided(differences: ArrayLike, margin: float, alpha: float) -> NonInferiority:
    """Test H0: mean <= -margin, where 0 is allowed too: the tests that serve either purpose call this."""
    values, mean, sd = _summary(differences)
    if margin != 0:
        _check(margin)
    _check_level(alpha)
    t, p_value, p_inferior = _against(mean, sd, len(values), -margin)
    half = float(special.stdtrit(len(values) - 1, 1 - alpha)) * sd / math.sqrt(len(values))
    return NonInferiority(
        n=len(values),
        mean=mean,
        sd=sd,
        t=t,
        p_value=p_value,
        p_inferior=p_inferior,
        interval=(mean - half, mean + half),
        margin=float(margin),
        alpha=float(alpha),
    )


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests.

    Attributes:
        t_lower: against the lower bound, -margin.
        p_lower: of H0: mean <= -margin.
        t_upper: against the upper bound, +margin.
        p_upper: of H0: mean >= +margin.
        p_value: the larger of the two; below alpha, the arms are equivalent.
    """

    t_lower: float
    p_lower: float
    t_upper: float
    p_upper: float
    p_value: float


def equivalence(differences: ArrayLike, margin: float) -> Equivalence:
    """Test whether treatment and control differ by less than `margin` in either direction (TOST).

    Args:
        differences: as for `non_inferiority`; shape (n,).
        margin: in (0, 1), as a fraction.

    Raises:
        InputError: as `non_inferiority`.

    Source: Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15, 1987; Lakens, Social Psychological and
    Personality Science 8, 2017.

    Example:
        >>> equivalence([-0.002, 0.001, -0.001, 0.0, 0.002], margin=0.005).p_value < 0.01
        True
    """
    values, mean, sd = _summary(differences)
    _check(margin)
    return _two_one_sided(mean, sd, len(values), margin)


def _two_one_sided(mean: float, sd: float, n: int, margin: float) -> Equivalence:
    t_lower, p_lower, _ = _against(mean, sd, n, -margin)
    t_upper, _, p_upper = _against(mean, sd, n, margin)
    return Equivalence(t_lower, p_lower, t_upper, p_upper, max(p_lower, p_upper))


def _against(mean: float, sd: float, n: int, bound: float) -> tuple[float, float, float]:
    """t, p of H0: mean <= bound, and p of H0: mean >= bound."""
    distance = mean - bound
    if sd == 0:
        if abs(distance) <= RESOLUTION:
            return 0.0, 1.0, 1.0
        return math.copysign(math.inf, distance), float(distance < 0), float(distance > 0)
    t = distance / (sd / math.sqrt(n))
    # The lower tail at -t is the upper tail at t, without the cancellation of 1 - P.
    return t, float(special.stdtr(n - 1, -t)), float(special.stdtr(n - 1, t))


def _summary(differences: ArrayLike) -> tuple[NDArray[np.float64], float, float]:
    values = np.asarray(differences, dtype=float)
    if values.ndim != 1:
        raise InputError(f"differences: received shape {values.shape}. Allowed: (n,), one for each seed")
    if len(values) < 2:
        raise InputError(f"differences: insufficient: received {len(values)}. Allowed: 2 or more pairs")
    # NaN fails this too. Percent instead of fractions is the likely mistake.
    if not (np.abs(values) <= 1).all():
        raise InputError("differences: received a value that is no accuracy difference. Allowed: [-1, 1]")
    mean = float(values.mean())
    sd = 0.0 if np.ptp(values) <= RESOLUTION else float(values.std(ddof=1))
    return values, mean, sd


def _check(margin: float) -> None:
    if not 0 < margin < 1:
        raise InputError(f"margin: received {margin!r}. Allowed: a fraction in (0, 1), such as 0.005")


def _check_level(alpha: float) -> None:
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha: received {alpha!r}. Allowed: (0, 0.5)")


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p values so that rejecting those below alpha keeps the family-wise error at alpha.

    The k-th smallest of m is multiplied by m - k + 1; the result is made monotone and cut at 1.

    Args:
        p_values: shape (m,), in [0, 1].

    Returns:
        Adjusted p values, shape (m,), in the order received.

    Raises:
        InputError: a value is not in [0, 1].

    Source: Holm, Scandinavian Journal of Statistics 6, 1979.

    Example:
        >>> holm([0.03, 0.01, 0.02]).tolist()
        [0.04, 0.03, 0.04]
    """
    values = np.asarray(p_values, dtype=float)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"p values: received {values.tolist()}. Allowed: a sequence of values in [0, 1]")
    # Not statsmodels' multipletests, which collects all garbage on each call: 130 ms for three values.
    order = np.argsort(values, kind="stable")
    stepped = np.arange(len(values), 0, -1) * values[order]
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return adjusted
