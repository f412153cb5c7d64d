"""Shared curve: one saturating curve of accuracy over width, shifted along the width for the treatment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, special

from invact.errors import InputError
from invact.statistics.intervals import check_confidence, t_quantile
from invact.statistics.ratios.observations import Observations, observations, residual
from invact.statistics.ratios.parallel_line import SLOPE_ALPHA

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["SharedCurve", "shared_curve"]

FLATTEST, STEEPEST = -3.0, 3.0
"""Limits of c. Below, the curve is a straight line in ln(x); above, it is a step: neither identifies c."""
LARGEST_CONDITION = 1e8
"""Largest condition number of the Jacobian with columns of length 1; its square leaves half the digits."""
FARTHEST = 7.0
"""Largest shift, in ln(width), up to which the profile is searched: a ratio of about 1,000."""


@dataclass(frozen=True)
class SharedCurve:
    """A fit of accuracy = A - exp(b - e^c (ln x + shift z)), with z = 1 for the treatment.

    Attributes:
        asymptote: A, the accuracy at infinite width.
        b: ln of the distance to the asymptote at x = 1.
        c: ln of the exponent of the power law.
        shift: lambda; the treatment at width x is as accurate as the control at width x exp(lambda).
        ratio: R = exp(-lambda), the width that the treatment needs divided by the width of the control.
        interval: confidence interval of R, from Student's t with n - 4 degrees of freedom on lambda.
        profile: profile interval of R: the connected set of ratios around the estimate that the F test does
            not reject; an end is 0 or inf if the set is not bounded there.
        g: squared half-width of the relative interval of the steepness, the analogue of Fieller's g.
        slope_ratio: steepness of the treatment divided by the steepness of the control at equal accuracy, in
            a model in which the arms may differ in the exponent but share A.
        slope_interval: interval of slope_ratio at 90 %. If it lies within given bounds, the shapes of the
            curves are equivalent at 5 %.
        p_lack_of_fit: p value of the F test against one mean for each (arm, width); None without replicates.
        sd: residual standard deviation, with df degrees of freedom.
        df: n - 4.
        problems: why the fit must not be used, in words; empty if it converged and is identified.
    """

    asymptote: float
    b: float
    c: float
    shift: float
    ratio: float
    interval: tuple[float, float]
    profile: tuple[float, float]
    g: float
    slope_ratio: float
    slope_interval: tuple[float, float]
    p_lack_of_fit: float | None
    sd: float
    df: int
    problems: tuple[str, ...]


def shared_curve(
    widths: ArrayLike, accuracies: ArrayLike, treatment: ArrayLike, confidence: float = 0.95
) -> SharedCurve:
    """Fit one saturating curve and the shift between two arms.

    The model is accuracy = A - exp(b - e^c (ln x + lambda z)), with z = 1 for the treatment. It is fitted by
    least squares (Levenberg-Marquardt, analytic Jacobian). The starting values are the best points of a grid
    over (c, lambda); at each point A and e^b are linear parameters.

    Args:
        widths: shape (n,), positive, filters or MACs.
        accuracies: shape (n,), one for each training.
        treatment: shape (n,), True for the treatment, False for the control.
        confidence: two-sided confidence level of the intervals of the ratio.

    Raises:
        InputError: as `observations`; fewer than six trainings.

    Source: Bates and Watts, Nonlinear Regression Analysis and Its Applications, 1988 (t and profile
    intervals); Golub and Pereyra, SIAM Journal on Numerical Analysis 10, 1973 (linear parameters).

    Example:
        >>> width = np.array([6, 9, 13, 19, 28] * 4)
        >>> treated = np.arange(20) >= 10
        >>> noise = np.random.default_rng(0).normal(0, 0.001, 20)
        >>> fit = shared_curve(width, 0.92 - 0.4 / (width * np.where(treated, 2, 1)) + noise, treated)
        >>> round(fit.ratio, 1), fit.interval[0] < 0.5 < fit.interval[1], fit.problems
        (0.5, True, ())
    """
    check_confidence(confidence)
    data = observations(widths, accuracies, treatment)
    n = len(data.responses)
    if n < 6:
        raise InputError(f"accuracies: received {n} values. Allowed: six or more")
    # With ln(x) centred, b and c are nearly uncorrelated, which makes the fit stable.
    middle = float(np.log(data.doses).mean())
    x, y, z = np.log(data.doses) - middle, data.responses, data.test.astype(float)
    fit = best_fit(x, y, z)
    problems = faults(fit)
    asymptote, b, c, shift = fit.x.tolist()
    df = n - 4
    variance = 2 * float(fit.cost) / df
    spread = variance * inverse(fit.jac)
    t = t_quantile(df, confidence)
    half = t * float(np.sqrt(spread[3, 3]))
    along = np.array([0.0, 1.0, 1.0, 0.0])
    wider = solve(x, y, z, np.append(fit.x, 0.0))
    slope_half = t_quantile(n - 5, 1 - 2 * SLOPE_ALPHA) * float(
        np.sqrt(2 * wider.cost / (n - 5) * inverse(wider.jac)[4, 4])
    )
    steeper = float(wider.x[4])
    low, high = (np.inf, -np.inf)
    if not problems:
        low, high = _profile(x, y, z, fit.x, 2 * float(fit.cost), t * float(np.sqrt(variance)))
    with np.errstate(over="ignore"):
        return SharedCurve(
            asymptote=asymptote,
            b=b + float(np.exp(c)) * middle,
            c=c,
            shift=shift,
            ratio=float(np.exp(-shift)),
            interval=(float(np.exp(-shift - half)), float(np.exp(-shift + half))),
            profile=(0.0, np.inf) if problems else (float(np.exp(-high)), float(np.exp(-low))),
            g=t**2 * float(along @ spread @ along),
            slope_ratio=float(np.exp(steeper)),
            slope_interval=(float(np.exp(steeper - slope_half)), float(np.exp(steeper + slope_half))),
            p_lack_of_fit=_lack_of_fit(data, 2 * float(fit.cost)),
            sd=float(np.sqrt(variance)),
            df=df,
            problems=problems,
        )


def starts(
    x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64], count: int = 3
) -> NDArray[np.float64]:
    """The best (A, b, c, lambda) of a grid, shape (count, 4); A and e^b come from linear least squares."""
    c, shift = (axis.ravel() for axis in np.meshgrid(np.linspace(-2, 2, 9), np.linspace(-2, 2, 17)))
    u = np.exp(-np.exp(c)[:, None] * (x + shift[:, None] * z))
    centred = u - u.mean(axis=1, keepdims=True)
    size = -(centred @ y) / np.square(centred).sum(axis=1)
    # With a negative size the curve falls with the width. A nearly flat curve is the nearest allowed one.
    size = np.maximum(size, 1e-6 * float(np.ptp(y)) + 1e-12)
    asymptote = y.mean() + size * u.mean(axis=1)
    left = np.square(y - asymptote[:, None] + size[:, None] * u).sum(axis=1)
    best = np.argsort(left, kind="stable")[:count]
    return np.column_stack([asymptote, np.log(size), c, shift])[best]


def best_fit(
    x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]
) -> optimize.OptimizeResult:
    """Fit (A, b, c, lambda) from several starts; `agreed` counts the starts that found the same minimum."""
    fits = [solve(x, y, z, point) for point in starts(x, y, z)]
    best = min(fits, key=lambda fit: float(fit.cost))
    best.agreed = sum(fit.cost <= best.cost * (1 + 1e-6) + 1e-20 for fit in fits)
    return best


def solve(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    z: NDArray[np.float64],
    start: NDArray[np.float64],
    fixed: float | None = None,
) -> optimize.OptimizeResult:
    """Fit A, b, c; lambda unless it is fixed; and the ln of the ratio of exponents if `start` has it."""

    def full(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values if fixed is None else np.append(values, fixed)

    return optimize.least_squares(
        lambda values: curve(full(values), x, z)[0] - y,
        start,
        jac=lambda values: curve(full(values), x, z)[1][:, : len(start)],
        method="lm",
        x_scale="jac",
        ftol=1e-12,
        xtol=1e-10,
        gtol=1e-12,
        max_nfev=400,
    )


def curve(
    values: NDArray[np.float64], x: NDArray[np.float64], z: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy, shape (n,), and its Jacobian, shape (n, 4 or 5), for values (A, b, c, lambda[, slope])."""
    asymptote, b, c, shift, *slope = values
    # A trial step of the solver may be extreme. Clipping keeps it finite, and the solver then rejects it.
    exponent = np.exp(np.clip(c + (slope[0] * z if slope else 0.0), -30, 10))
    power = exponent * (x + shift * z)
    below = np.exp(np.clip(b - power, -300, 100))
    columns = [np.ones_like(x), -below, below * power, below * exponent * z]
    if slope:
        columns.append(below * power * z)
    return asymptote - below, np.column_stack(columns)


def inverse(jacobian: NDArray[np.float64]) -> NDArray[np.float64]:
    """Covariance of the parameters at a residual variance of 1: (J'J)^-1."""
    pseudo = np.linalg.pinv(jacobian)
    return np.asarray(pseudo @ pseudo.T)


def faults(fit: optimize.OptimizeResult) -> tuple[str, ...]:
    """Why the result of `best_fit` must not be used, in words; empty if there is no problem."""
    length = np.linalg.norm(fit.jac, axis=0)
    degenerate = (length == 0).any()
    found = {
        "the fit did not converge": fit.status < 1,
        "the accuracy does not depend on the width": np.ptp(fit.jac[:, 1]) <= 1e-9 * abs(fit.x[0]),
        "no second start found the same minimum": fit.agreed < 2,
        "the curvature is not identified": not FLATTEST < fit.x[2] < STEEPEST,
        "the parameters are not identified": degenerate
        or np.linalg.cond(fit.jac / length) > LARGEST_CONDITION,
    }
    return tuple(words for words, failed in found.items() if failed)


def _profile(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    z: NDArray[np.float64],
    best: NDArray[np.float64],
    least: float,
    bound: float,
) -> tuple[float, float]:
    """The shifts below and above the best one at which sqrt(RSS - least) reaches `bound`."""
    shift = float(best[3])

    def beyond(candidate: float) -> float:
        # Each fit has the same start. With the last result as the start, a profile with two minima could have
        # one value when the root is bracketed and another one when it is searched.
        fit = solve(x, y, z, best[:3], fixed=candidate)
        return float(np.sqrt(max(2 * fit.cost - least, 0.0))) - bound

    def side(sign: int) -> float:
        near, step = 0.0, 0.02
        while beyond(shift + sign * step) < 0:
            near, step = step, 2 * step
            if step > FARTHEST:
                return sign * np.inf
        return float(optimize.brentq(_along(beyond, shift, sign), near, step, xtol=1e-9)) * sign + shift

    if bound == 0:
        return shift, shift
    return side(-1), side(1)


def _along(function: Callable[[float], float], origin: float, sign: int) -> Callable[[float], float]:
    return lambda distance: function(origin + sign * distance)


def _lack_of_fit(data: Observations, left: float) -> float | None:
    pure, df = residual(data.cell_columns(), data.responses)
    more = len(data.responses) - 4 - df
    if df < 1 or more < 1:
        return None
    f = max(left - float(pure), 0.0) / more / (float(pure) / df) if pure > 0 else np.inf
    return float(special.fdtrc(more, df, f))
