"""Paired tests of whether the treatment is as accurate as the control, against a margin fixed beforehand."""
# A difference that is not significant is not evidence of equality. Therefore the null hypothesis is always
# that the treatment is worse than the control by the margin or more.

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
"""Smaller differences of accuracies are rounding errors: an accuracy is a count out of 1e9 images at most."""


@dataclass(frozen=True)
class NonInferiority:
    """Result of a paired one-sided t test against a margin.

    Attributes:
        n: number of pairs.
        mean: mean of the differences treatment - control, in accuracy fractions.
        sd: standard deviation of the differences, with n - 1 degrees of freedom.
        t: test statistic (mean + margin) / (sd / sqrt(n)).
        p_value: p value of H0: mean <= -margin (inferior). A small value is evidence of non-inferiority.
        p_inferior: p value of the opposite H0: mean >= -margin. A small value is evidence of a loss of more
            than the margin.
        interval: two-sided confidence interval of the mean at 1 - 2 alpha. Its lower end is above -margin
            exactly when p_value < alpha; its upper end is below -margin exactly when p_inferior < alpha.
        margin: non-inferiority margin: the largest loss of accuracy that still counts as equal, as a
            fraction; 0 in a test of superiority.
        alpha: one-sided level of the test.
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
    """Test whether the treatment loses less accuracy than `margin` against the control, seed by seed.

    d are the n paired differences. t = (mean(d) + margin) / (sd(d) / sqrt(n)) is compared with Student's t
    with n - 1 degrees of freedom; H0: mean <= -margin is rejected if t is large.

    If all differences are equal (except for rounding), the result depends only on their sign relative to the
    margin: above -margin, p_value is 0 and p_inferior is 1; below -margin, p_value is 1 and p_inferior is 0.
    Exactly at -margin both are 1, because the boundary belongs to both null hypotheses.

    Args:
        differences: accuracy of the treatment minus that of the control, as fractions; shape (n,), one
            for each seed.
        margin: in (0, 1), as a fraction.
        alpha: one-sided level, in (0, 0.5).

    Raises:
        InputError: fewer than two differences ("insufficient"), a difference that is not a finite number in
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
    """Test whether the treatment is better than the control, as `non_inferiority` with a margin of 0.

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
    """Test H0: mean <= -margin, where the margin may also be 0; for non-inferiority and superiority."""
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
    """Result of two one-sided tests (TOST).

    Attributes:
        t_lower: test statistic against the lower bound, -margin.
        p_lower: p value of H0: mean <= -margin.
        t_upper: test statistic against the upper bound, +margin.
        p_upper: p value of H0: mean >= +margin.
        p_value: larger of the two p values. If it is below alpha, the arms are equivalent.
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
    """t, the p value of H0: mean <= bound, and the p value of H0: mean >= bound."""
    distance = mean - bound
    if sd == 0:
        if abs(distance) <= RESOLUTION:
            return 0.0, 1.0, 1.0
        return math.copysign(math.inf, distance), float(distance < 0), float(distance > 0)
    t = distance / (sd / math.sqrt(n))
    # The lower tail at -t equals the upper tail at t and avoids the cancellation in 1 - P.
    return t, float(special.stdtr(n - 1, -t)), float(special.stdtr(n - 1, t))


def _summary(differences: ArrayLike) -> tuple[NDArray[np.float64], float, float]:
    values = np.asarray(differences, dtype=float)
    if values.ndim != 1:
        raise InputError(f"differences: received shape {values.shape}. Allowed: (n,), one for each seed")
    if len(values) < 2:
        raise InputError(f"differences: insufficient: received {len(values)}. Allowed: 2 or more pairs")
    # NaN fails this comparison too. The usual mistake is percent instead of fractions.
    if not (np.abs(values) <= 1).all():
        raise InputError(
            "differences: received a value that is not a difference of two fractions. Allowed: [-1, 1]"
        )
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
    """Adjust p values by Holm's method, which keeps the family-wise error at alpha.

    The k-th smallest of m p values is multiplied by m - k + 1. Then the results are made monotone and limited
    to 1. Reject the hypotheses whose adjusted p value is below alpha.

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
    # statsmodels' multipletests runs a full garbage collection at each call: 130 ms for three values.
    order = np.argsort(values, kind="stable")
    stepped = np.arange(len(values), 0, -1) * values[order]
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return adjusted
