"""Local equivalence ratio: the treatment's width at the accuracy that the control has at its own width."""
# Only the treatment has a curve here, and the cubic is needed only where this curve passes the control's
# accuracy. Therefore the arms need not have curves of one shape, as the models of `equivalence` assume.
#
# Simpler curves fail when the data are precise, because their bias does not shrink with more runs. A
# quadratic follows a saturating curve less closely, a power law does not fit curves of another family, and a
# linear interpolation between two widths lies below each curve that levels off.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from invact.errors import InputError
from invact.statistics.comparison.inference import RESOLUTION, checked
from invact.statistics.intervals import check_confidence, t_quantile

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["LEAST_WIDTHS", "LocalRatio", "fits_cubic", "local_ratio"]

DEGREE = 3
LEAST_WIDTHS = 5
"""Different widths. With five, each leverage is below 1, because four other widths determine the cubic."""
LARGEST_CONDITION = 1e3
"""Largest condition number of the powers. Evenly spread widths have 7; (2, 3, 4, 5, 100) have 58."""
POINTS = 401
"""Points of the grid over the curve's range. Between two of them, each line is taken as straight."""


@dataclass(frozen=True)
class LocalRatio:
    """A local equivalence ratio; each end of its interval may be open.

    Attributes:
        estimate: width at which the fitted curve rises through the control's mean, divided by the control's
            width; None if there is none in the curve's range. If there are two, it is the larger one.
        low: lower end of the interval: up to this ratio, the treatment is significantly less accurate than
            the control. None if the end is open: it lies outside the curve's range.
        high: upper end of the interval: from this ratio on, the treatment is significantly more accurate.
            None if the end is open.
        below: whether the treatment is significantly less accurate at all widths of the curve.
        reasons: why something is not identified, in words; empty if both ends and the estimate are found.
        level: mean accuracy of the control at its own width.
        level_interval: confidence interval of the level, from Student's t.
        control_width: the control's width, or its MACs.
        confidence: two-sided confidence level.
        widths: a grid over the curve's range, ascending, evenly spaced in log2; for a figure.
        fit: fitted accuracy at each width of the grid.
        band: pointwise confidence interval of the curve at each width of the grid.
    """

    estimate: float | None
    low: float | None
    high: float | None
    below: bool
    reasons: tuple[str, ...]
    level: float
    level_interval: tuple[float, float]
    control_width: float
    confidence: float
    widths: tuple[float, ...]
    fit: tuple[float, ...]
    band: tuple[tuple[float, float], ...]

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """Lower and upper end of the ratio; None for an open end."""
        return self.low, self.high

    @property
    def identifiable(self) -> bool:
        """Whether both ends of the interval are found."""
        return self.low is not None and self.high is not None

    @property
    def above_one(self) -> bool:
        """Whether the treatment is shown to need more than the control has."""
        if self.below:
            return self.widths[-1] >= self.control_width
        return self.low is not None and self.low > 1


def local_ratio(
    widths: ArrayLike,
    accuracies: ArrayLike,
    control_width: float,
    control_accuracies: ArrayLike,
    confidence: float = 0.95,
    floor: float = 0.0,
) -> LocalRatio:
    """Estimate the ratio of the treatment's width, at the control's accuracy, to the control's own width.

    A cubic in x = log2(width) is fitted to all runs of the treatment by ordinary least squares. Let f(x) be
    the fitted accuracy, b(x) the row (1, x, x^2, x^3), B the matrix of these rows, e_i the residual of run i
    and h_i its leverage. With the HC3 covariance, the runs may have another spread at each width:

        s_i^2 = max(e_i^2 / (1 - h_i)^2, floor^2)
        V_f(x) = b(x) (B'B)^-1 B' diag(s_i^2) B (B'B)^-1 b(x)'

    The n_c runs of the control have the mean m and the standard deviation s, which is at least `floor`. So
    V_m = s^2 / n_c. The difference f(x) - m has the variance V = V_f + V_m and Satterthwaite's degrees of
    freedom

        df = V^2 / (V_f^2 / (n - 4) + V_m^2 / (n_c - 1)).

    The interval holds every ratio at which the t test of f(x) = m does not reject. If these ratios have
    gaps, the interval spans the gaps. It begins where the curve stops being significantly below m, and it
    ends where the curve starts to stay significantly above m. An end outside the curve's range is open.

    A cubic can rise through m twice. The estimate is then the larger of the two widths, so the ambiguity
    never makes the treatment look cheaper.

    Args:
        widths: shape (n,), positive, filters or MACs of the treatment; five or more different ones.
        accuracies: shape (n,), accuracies of the treatment as fractions, one for each run.
        control_width: positive, in the unit of `widths`.
        control_accuracies: shape (n_c,), accuracies of the control as fractions; two or more.
        confidence: two-sided confidence level.
        floor: smallest standard deviation of a run, as a fraction; half an image is 0.5 / images.

    Raises:
        InputError: shapes differ, a width is not positive, there are fewer than five different widths or they
            are too unevenly spaced, an accuracy is not in [0, 1], the control has fewer than two runs, or
            `confidence` or `floor` is out of range.

    Source: MacKinnon and White, Journal of Econometrics 29, 1985 (HC3); Long and Ervin, The American
    Statistician 54, 2000 (its use in small samples); Satterthwaite, Biometrics Bulletin 2, 1946; Fieller,
    Journal of the Royal Statistical Society B 16, 1954 (an interval as the ratios that a test keeps).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> width = np.repeat([2, 3, 4, 5, 6, 8, 11, 16], 4)
        >>> accuracy = 0.92 - 0.2 / width + rng.normal(0, 0.001, 32)
        >>> found = local_ratio(width, accuracy, 8, 0.92 - 0.2 / 5 + rng.normal(0, 0.001, 8))
        >>> round(found.estimate, 2), [round(end, 2) for end in found.interval]
        (0.63, [0.62, 0.64])
    """
    check_confidence(confidence)
    if not 0 <= floor < 1:
        raise InputError(f"floor: received {floor!r}. Allowed: a fraction in [0, 1), such as 0.5 / images")
    x, y, centre, half = _data(widths, accuracies, control_width)
    control = checked(control_accuracies, "control_accuracies")
    # Without any spread, rounding errors would look like significant differences.
    least = max(floor, RESOLUTION)
    level = float(control.mean())
    v_level = max(float(control.var(ddof=1)), least**2) / len(control)
    df_level, df_curve = len(control) - 1, len(y) - DEGREE - 1
    inverse, leverage = influence(x)
    squares = spread(x, y, inverse, leverage, least)

    grid = np.linspace(-1, 1, POINTS)
    weights = powers(grid) @ inverse
    fit, v_curve = weights @ y, weights**2 @ squares
    gap = fit - level
    gap[np.abs(gap) <= RESOLUTION] = 0
    half_gap = half_width(v_curve, df_curve, v_level, df_level, confidence)
    lower, upper = gap - half_gap, gap + half_gap
    below = bool((upper < 0).all())
    half_fit = t_quantile(df_curve, confidence) * np.sqrt(v_curve)
    half_level = t_quantile(df_level, confidence) * float(np.sqrt(v_level))
    ends = (
        _rise(grid, gap, last=True),
        _rise(grid, upper, last=False) if upper[0] < 0 else None,
        _rise(grid, lower, last=True) if lower[-1] > 0 else None,
    )
    estimate, low, high = (None if at is None else float(2 ** (centre + half * at)) for at in ends)
    return LocalRatio(
        estimate=estimate,
        low=low,
        high=high,
        below=below,
        reasons=_reasons(estimate, low, high, above=bool((lower > 0).all()), below=below),
        level=level,
        level_interval=(level - half_level, level + half_level),
        control_width=float(control_width),
        confidence=confidence,
        widths=tuple((control_width * 2 ** (centre + half * grid)).tolist()),
        fit=tuple(fit.tolist()),
        band=tuple(zip((fit - half_fit).tolist(), (fit + half_fit).tolist(), strict=True)),
    )


def _data(
    widths: ArrayLike, accuracies: ArrayLike, control_width: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float]:
    """Positions of the runs in [-1, 1], their accuracies, and the middle and half length of the curve.

    The last two are in octaves above the control's width, so nothing depends on the unit of the widths.
    """
    raw = np.asarray(widths, dtype=float)
    if raw.ndim != 1 or raw.shape != np.shape(accuracies):
        shapes = f"{raw.shape} and {np.shape(accuracies)}"
        raise InputError(f"widths, accuracies: received shapes {shapes}. Allowed: equal shapes, (n,)")
    if not (np.isfinite(raw) & (raw > 0)).all():
        raise InputError("widths: received a value that is not a positive number. Allowed: above 0")
    if not (np.isfinite(control_width) and control_width > 0):
        raise InputError(f"control_width: received {control_width!r}. Allowed: a number above 0")
    if (count := len(np.unique(raw))) < LEAST_WIDTHS:
        raise InputError(f"widths: received {count} different widths. Allowed: five or more")
    if not fits_cubic(raw):
        raise InputError(
            "widths: received widths that are too unevenly spaced for a cubic. Allowed: five or more that are"
            " spread over the curve"
        )
    y = checked(accuracies, "accuracies")
    low, high = np.log2(raw.min() / control_width), np.log2(raw.max() / control_width)
    return _positions(raw), y, float(low + high) / 2, float(high - low) / 2


def _positions(widths: NDArray[np.float64]) -> NDArray[np.float64]:
    octaves = np.log2(widths)
    low, high = octaves.min(), octaves.max()
    return np.asarray((2 * octaves - low - high) / (high - low))


def fits_cubic(widths: ArrayLike) -> bool:
    """Whether a cubic can be fitted to these positive widths: five or more different ones, spread out.

    Example:
        >>> fits_cubic([2, 3, 4, 6, 8]), fits_cubic([2, 61, 62, 63, 64])
        (True, False)
    """
    different = np.unique(np.asarray(widths, dtype=float))
    if len(different) < LEAST_WIDTHS:
        return False
    # The condition number depends little on the number of runs of each width.
    return bool(np.linalg.cond(powers(_positions(different))) <= LARGEST_CONDITION)


def powers(x: NDArray[np.float64], degree: int = DEGREE) -> NDArray[np.float64]:
    """Powers 0 to `degree` of positions of shape (n,), shape (n, degree + 1)."""
    return np.vander(x, degree + 1, increasing=True)


def influence(
    x: NDArray[np.float64], degree: int = DEGREE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The matrix that gives coefficients from accuracies, shape (degree + 1, n), and the leverages, (n,)."""
    design = powers(x, degree)
    inverse = np.linalg.pinv(design).astype(np.float64)
    return inverse, np.asarray((design * inverse.T).sum(axis=1))


def spread(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    inverse: NDArray[np.float64],
    leverage: NDArray[np.float64],
    floor: float,
) -> NDArray[np.float64]:
    """HC3's estimate of the variance of each run, at least floor^2; y has shape (n,) or (n, m)."""
    residual = y - powers(x, len(inverse) - 1) @ (inverse @ y)
    # Each run has its own lower bound, because the runs of one width may agree by chance while those of other
    # widths do not.
    return np.maximum(np.square(residual.T / (1 - leverage)).T, floor**2)


def half_width(
    v_curve: NDArray[np.float64],
    df_curve: int,
    v_level: NDArray[np.float64] | float,
    df_level: int,
    confidence: float,
) -> NDArray[np.float64]:
    """Half the interval of a difference of two means, by Satterthwaite, for arrays of positive variances."""
    total = v_curve + v_level
    share = v_curve / total
    df = 1 / (share**2 / df_curve + (1 - share) ** 2 / df_level)
    return np.asarray(special.stdtrit(df, (1 + confidence) / 2) * np.sqrt(total))


def _rise(grid: NDArray[np.float64], values: NDArray[np.float64], last: bool) -> float | None:
    """The first or last place where values on the grid rise through 0; None if there is none."""
    found = np.flatnonzero((values[:-1] < 0) & (values[1:] >= 0))
    if not len(found):
        return None
    at = found[-1 if last else 0] + np.arange(2)
    return float(np.interp(0, values[at], grid[at]))


def _reasons(
    estimate: float | None,
    low: float | None,
    high: float | None,
    *,
    above: bool,
    below: bool,
) -> tuple[str, ...]:
    reasons = []
    if above:
        reasons.append(
            "both ends are open: the treatment is significantly above the control's mean at all its widths;"
            " the curve needs smaller widths"
        )
    elif below:
        reasons.append(
            "both ends are open: the treatment is significantly below the control's mean at all its widths;"
            " the curve needs larger widths"
        )
    else:
        if low is None:
            reasons.append(
                "the lower end is open: at its smallest width, the treatment is not significantly below the"
                " control's mean; the curve needs smaller widths or more runs"
            )
        if high is None:
            reasons.append(
                "the upper end is open: at its largest width, the treatment is not significantly above the"
                " control's mean; the curve needs larger widths or more runs"
            )
    if estimate is None:
        reasons.append("there is no estimate: the fitted curve does not rise through the control's mean")
    return tuple(reasons)
