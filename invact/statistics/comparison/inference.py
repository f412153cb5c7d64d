"""Welch's t test of whether the treatment is as accurate as another arm, within a margin fixed beforehand."""
# A difference that is not significant is not evidence of equality. Therefore the null hypothesis is always
# that the treatment is worse than the other arm by the margin or more.

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from invact.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["RESOLUTION", "Welch", "check_margin", "holm", "welch"]

RESOLUTION = 1e-12
"""Smaller differences of accuracies are rounding errors: an accuracy is a count out of 1e9 images at most."""


@dataclass(frozen=True)
class Welch:
    """Result of Welch's one-sided t test against a margin.

    Attributes:
        runs: number of runs of the treatment and of the other arm.
        difference: mean accuracy of the treatment - mean accuracy of the other arm, as a fraction.
        error: standard error of the difference, as a fraction.
        df: Satterthwaite's degrees of freedom of the standard error.
        t: test statistic (difference + margin) / error.
        p_value: p value of H0: true difference <= -margin. A small value is evidence of non-inferiority.
        p_inferior: p value of the opposite H0: true difference >= -margin. A small value is evidence of a
            loss of more than the margin.
        margin: non-inferiority margin: the largest loss of accuracy that still counts as equal, as a
            fraction; 0 in a test of superiority.
    """

    runs: tuple[int, int]
    difference: float
    error: float
    df: float
    t: float
    p_value: float
    p_inferior: float
    margin: float

    def interval(self, level: float) -> tuple[float, float]:
        """Confidence interval of the difference, with an error of `level` on each side.

        Its lower end is above -margin exactly when p_value < level; its upper end is below -margin exactly
        when p_inferior < level.

        Example:
            >>> test = welch([0.90, 0.91, 0.92], [0.90, 0.91, 0.92])
            >>> [round(end, 4) for end in test.interval(0.025)]
            [-0.0227, 0.0227]
        """
        half = float(special.stdtrit(self.df, 1 - level)) * self.error
        return self.difference - half, self.difference + half


def welch(treatment: ArrayLike, other: ArrayLike, margin: float = 0.0, floor: float = 0.0) -> Welch:
    """Test whether the treatment loses less accuracy than `margin` against another arm.

    The runs of the arms are independent, and their spreads may differ. With means m, standard deviations s
    (n - 1 degrees of freedom) and numbers of runs n,

        error^2 = s_T^2 / n_T + s_O^2 / n_O,        t = (m_T - m_O + margin) / error,
        df = error^4 / ((s_T^2 / n_T)^2 / (n_T - 1) + (s_O^2 / n_O)^2 / (n_O - 1)).

    Each s is at least `floor`. Accuracies are counts of images, so a few runs may be equal by chance although
    their true spread is not 0.

    If neither arm has any spread and the floor is 0, the p values are 0 or 1 by the sign of the distance from
    -margin. Exactly at -margin both are 1, because the boundary belongs to both null hypotheses.

    Args:
        treatment: accuracies of the treatment, as fractions; shape (n_T,), two or more.
        other: accuracies of the other arm, as fractions; shape (n_O,), two or more.
        margin: in [0, 1), as a fraction; 0 tests superiority.
        floor: smallest standard deviation of an arm, as a fraction; half an image is 0.5 / images.

    Raises:
        InputError: fewer than two runs of an arm ("insufficient"), an accuracy that is not a finite number in
            [0, 1], a margin outside its range, or a negative floor.

    Source: Welch, Biometrika 34, 1947; Satterthwaite, Biometrics Bulletin 2, 1946; Wellek, Testing
    Statistical Hypotheses of Equivalence and Noninferiority, 2nd ed., 2010.

    Example:
        >>> test = welch([0.910, 0.912, 0.909], [0.911, 0.911, 0.912], margin=0.005)
        >>> round(test.difference, 4), test.p_value < 0.05
        (-0.001, True)
    """
    if margin != 0:
        check_margin(margin)
    if not 0 <= floor < 1:
        raise InputError(f"floor: received {floor!r}. Allowed: a fraction in [0, 1), such as 0.5 / images")
    (m_t, v_t, n_t), (m_o, v_o, n_o) = (
        _mean(values, name, floor) for values, name in ((treatment, "treatment"), (other, "other"))
    )
    difference, square = m_t - m_o, v_t + v_o
    distance = difference + margin
    if square == 0:
        t = 0.0 if abs(distance) <= RESOLUTION else math.copysign(math.inf, distance)
        low, high = (float(t <= 0), float(t >= 0))
        return Welch((n_t, n_o), difference, 0.0, float(n_t + n_o - 2), t, low, high, float(margin))
    df = square**2 / (v_t**2 / (n_t - 1) + v_o**2 / (n_o - 1))
    error = math.sqrt(square)
    t = distance / error
    # The lower tail at -t equals the upper tail at t and avoids the cancellation in 1 - P.
    p_value, p_inferior = float(special.stdtr(df, -t)), float(special.stdtr(df, t))
    return Welch((n_t, n_o), difference, error, df, t, p_value, p_inferior, float(margin))


def _mean(values: ArrayLike, name: str, floor: float) -> tuple[float, float, int]:
    """Mean of an arm, the variance of this mean, and the number of runs."""
    accuracies = checked(values, name)
    n = len(accuracies)
    spread = accuracies.max() - accuracies.min()
    variance = 0.0 if spread <= RESOLUTION else float(accuracies.var(ddof=1))
    return float(accuracies.mean()), max(variance, floor**2) / n, n


def checked(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return the accuracies of an arm as an array of two or more fractions."""
    accuracies = np.asarray(values, dtype=float)
    if accuracies.ndim != 1:
        raise InputError(f"{name}: received shape {accuracies.shape}. Allowed: (n,), one for each run")
    if len(accuracies) < 2:
        raise InputError(f"{name}: insufficient: received {len(accuracies)} runs. Allowed: 2 or more")
    # NaN fails this comparison too. The usual mistake is percent instead of fractions.
    if not (accuracies.min() >= 0 and accuracies.max() <= 1):
        raise InputError(f"{name}: received an accuracy that is not a fraction. Allowed: [0, 1]")
    return accuracies


def check_margin(margin: float) -> None:
    """Raise InputError unless the margin is a fraction between 0 and 1."""
    if not 0 < margin < 1:
        raise InputError(f"margin: received {margin!r}. Allowed: a fraction in (0, 1), such as 0.005")


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
