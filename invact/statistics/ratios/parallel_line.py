"""Parallel-line assay: how much of the standard does one unit of the test preparation replace?"""
# In invact the preparations are two arms, the doses are their widths or MACs, and the responses are their
# accuracies. The terms are those of a bioassay, so that a published assay can be used as a test.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from invact.errors import InputError
from invact.statistics.intervals import check_confidence, t_quantile

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["AnovaRow", "Fieller", "Observations", "ParallelLine", "fieller", "observations", "parallel_line"]

SLOPE_ALPHA = 0.05
"""One-sided level of the equivalence test of the slopes: the interval of their ratio is at 1 - 2 x 5 %."""


@dataclass(frozen=True)
class Fieller:
    """A ratio of two estimates with Fieller's interval.

    Attributes:
        ratio: numerator / denominator.
        interval: all ratios for which the test of numerator - ratio * denominator = 0 does not reject;
            (-inf, inf) if this set is unbounded.
        g: squared half-width of the denominator's interval, divided by the squared denominator. If g is 1 or
            more, the denominator may be 0 and the set is unbounded; if g is near 0, the simpler delta method
            gives nearly the same interval.
    """

    ratio: float
    interval: tuple[float, float]
    g: float


def fieller(
    numerator: float, denominator: float, covariance: ArrayLike, df: int, confidence: float = 0.95
) -> Fieller:
    """Compute Fieller's interval for the ratio of two normal estimates.

    The interval contains each rho with (u - rho v)^2 <= t^2 (V11 - 2 rho V12 + rho^2 V22), where t is the
    quantile of Student's t at (1 + confidence) / 2. g = t^2 V22 / v^2.

    Args:
        numerator: u.
        denominator: v.
        covariance: V, the estimated covariance of (u, v); shape (2, 2).
        df: degrees of freedom of the variance estimate in V.
        confidence: two-sided confidence level, in (0, 1).

    Raises:
        InputError: a value is not finite, the denominator is 0, or `confidence` or `df` is out of range.

    Source: Fieller, Journal of the Royal Statistical Society B 16, 1954.

    Example:
        >>> found = fieller(2.0, 4.0, [[0.01, 0], [0, 0.01]], df=30)
        >>> found.ratio, [round(end, 3) for end in found.interval], round(found.g, 4)
        (0.5, [0.444, 0.558], 0.0026)
    """
    spread = np.asarray(covariance, dtype=float)
    check_confidence(confidence)
    if spread.shape != (2, 2) or not np.isfinite([numerator, denominator, *spread.flat]).all() or df < 1:
        raise InputError(
            "fieller: received values that cannot be used. Allowed: two finite estimates, a finite covariance"
            " of shape (2, 2), and df of 1 or more"
        )
    if denominator == 0:
        raise InputError("fieller: denominator: received 0. Allowed: another number")
    low, high, g = limits(
        np.float64(numerator), np.float64(denominator), spread, t_quantile(df, confidence) ** 2
    )
    return Fieller(numerator / denominator, (float(low), float(high)), float(g))


def limits(
    u: ArrayLike, v: ArrayLike, spread: ArrayLike, t_squared: float
) -> tuple[NDArray[np.float64], ...]:
    """Lower and upper end of Fieller's interval, and g, for arrays: u and v (...), spread (..., 2, 2)."""
    u, v, spread = (np.asarray(values, dtype=float) for values in (u, v, spread))
    # The set is quadratic in rho: square * rho^2 - 2 * linear * rho + constant <= 0.
    square = v**2 - t_squared * spread[..., 1, 1]
    linear = u * v - t_squared * spread[..., 0, 1]
    constant = u**2 - t_squared * spread[..., 0, 0]
    bounded = square > 0
    safe = np.where(bounded, square, 1.0)
    # Without any spread the discriminant is 0, and rounding may make it negative.
    root = np.sqrt(np.maximum(linear**2 - square * constant, 0))
    low = np.where(bounded, (linear - root) / safe, -np.inf)
    high = np.where(bounded, (linear + root) / safe, np.inf)
    return low, high, t_squared * spread[..., 1, 1] / v**2


@dataclass(frozen=True)
class AnovaRow:
    """One row of the analysis of variance, tested against the residual; f is None if there is no test."""

    source: str
    df: int
    sum_of_squares: float
    f: float | None
    p_value: float | None


@dataclass(frozen=True)
class ParallelLine:
    """A parallel-line assay.

    Attributes:
        potency: number of doses of the standard that have the effect of one dose of the test preparation.
        interval: Fieller's interval of the potency; (0, inf) if g >= 1.
        g: relative uncertainty of the common slope, see `Fieller`.
        slope: common slope, response per unit of ln(dose).
        slope_ratio: slope of the test preparation divided by the slope of the standard, each fitted alone.
        slope_interval: Fieller's interval of slope_ratio at 90 %. If it lies within given bounds, the slopes
            are equivalent at 5 %.
        variance: residual mean square, within treatments (and blocks).
        df: degrees of freedom of the variance.
        anova: rows Blocks (if there are any), Preparations, Regression, Non-parallelism, Non-linearity,
            Residual, Total. The sums of squares are sequential: each source is added to those before it.
    """

    potency: float
    interval: tuple[float, float]
    g: float
    slope: float
    slope_ratio: float
    slope_interval: tuple[float, float]
    variance: float
    df: int
    anova: tuple[AnovaRow, ...]


def parallel_line(
    doses: ArrayLike,
    responses: ArrayLike,
    test: ArrayLike,
    blocks: ArrayLike | None = None,
    confidence: float = 0.95,
) -> ParallelLine:
    """Estimate the relative potency from log-linear responses of two preparations.

    The model is response = a + d z + b x + block, with x = ln(dose), z = 1 for the test preparation and 0 for
    the standard, and a block effect if blocks are given. The potency is exp(d / b). Fieller's interval uses
    the mean square within treatments and blocks. The doses of the preparations may differ, and they need not
    be equally spaced or equally replicated.

    Args:
        doses: shape (n,), positive, in one unit for both preparations.
        responses: shape (n,), one for each training.
        test: shape (n,), True for the test preparation, False for the standard.
        blocks: shape (n,), labels of the blocks; None for a completely randomised design.
        confidence: two-sided confidence level of the interval of the potency.

    Raises:
        InputError: shapes differ, a dose is not positive, a response is not finite (a failed run must have a
            value and must not be dropped), a preparation has fewer than three doses, no dose is replicated,
            or blocks are confounded with preparations.

    Source: Finney, Statistical Method in Biological Assay, 3rd ed., 1978; European Pharmacopoeia, chapter
    5.3, section 3.2.

    Example:
        >>> dose = [1, 2, 4] * 4
        >>> test = [False] * 6 + [True] * 6
        >>> response = [0.10, 0.20, 0.31, 0.11, 0.19, 0.30, 0.20, 0.31, 0.40, 0.20, 0.29, 0.40]
        >>> fit = parallel_line(dose, response, test)
        >>> round(fit.potency, 2), [round(end, 2) for end in fit.interval], fit.g < 0.1
        (1.98, [1.82, 2.16], True)
    """
    check_confidence(confidence)
    data = observations(doses, responses, test)
    x, y = np.log(data.doses), data.responses
    grand = _block_columns(blocks, len(y))
    both = np.column_stack([grand, data.test])
    parallel = np.column_stack([both, x])
    separate = np.column_stack([parallel, data.test * x])
    saturated = np.column_stack([grand, data.cell_columns()])
    if np.linalg.matrix_rank(separate) < separate.shape[1]:
        raise InputError("blocks: received blocks that are confounded with preparations or doses")

    chain = [np.ones((len(y), 1)), grand, both, parallel, separate, saturated]
    rest = [residual(design, y) for design in chain]
    sum_left, df = rest[-1]
    if df < 1:
        raise InputError("responses: received no replicates. Allowed: two or more at one dose at least")
    variance = float(sum_left) / df
    sources = ("Blocks", "Preparations", "Regression", "Non-parallelism", "Non-linearity")
    rows = [
        _tested(source, before[1] - after[1], float(before[0] - after[0]), variance, df)
        for source, before, after in zip(sources, rest, rest[1:], strict=False)
        if source != "Blocks" or before[1] > after[1]
    ]
    rows.append(AnovaRow("Residual", df, float(sum_left), None, None))
    rows.append(AnovaRow("Total", len(y) - 1, float(rest[0][0]), None, None))

    effects, spread = estimates(parallel, y)
    potency = fieller(effects[-2], effects[-1], variance * spread[-2:, -2:], df, confidence)
    effects, spread = estimates(separate, y)
    # The last coefficient is the difference between the two slopes.
    mix = np.zeros((2, separate.shape[1]))
    mix[:, -2], mix[0, -1] = 1, 1
    steep = mix @ effects
    slopes = fieller(steep[0], steep[1], variance * mix @ spread @ mix.T, df, 1 - 2 * SLOPE_ALPHA)
    low, high = np.exp(potency.interval)
    return ParallelLine(
        potency=float(np.exp(potency.ratio)),
        interval=(float(low), float(high)),
        g=potency.g,
        slope=float(estimates(parallel, y)[0][-1]),
        slope_ratio=slopes.ratio,
        slope_interval=slopes.interval,
        variance=variance,
        df=df,
        anova=tuple(rows),
    )


def _tested(source: str, df: int, sum_of_squares: float, variance: float, error_df: int) -> AnovaRow:
    sum_of_squares = max(sum_of_squares, 0.0)
    if df == 0:
        return AnovaRow(source, 0, 0.0, None, None)
    f = sum_of_squares / df / variance if variance > 0 else np.inf
    return AnovaRow(source, df, sum_of_squares, float(f), float(special.fdtrc(df, error_df, f)))


def _block_columns(blocks: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """A constant column, and one column for each block except the first."""
    if blocks is None:
        return np.ones((n, 1))
    labels = np.asarray(blocks)
    if labels.shape != (n,):
        raise InputError(f"blocks: received shape {labels.shape}. Allowed: ({n},), one for each response")
    _, index = np.unique(labels, return_inverse=True)
    return np.column_stack([np.ones(n), np.eye(index.max() + 1)[index][:, 1:]])


def residual(design: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Residual sum of squares of y, which has shape (n,) or (n, m), and its degrees of freedom."""
    left, singular, _ = np.linalg.svd(design, full_matrices=False)
    rank = int((singular > singular[0] * len(y) * np.finfo(float).eps).sum())
    basis = left[:, :rank]
    return np.square(y - basis @ (basis.T @ y)).sum(axis=0), len(y) - rank


def estimates(
    design: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least-squares coefficients of y, which has shape (n,) or (n, m), and their covariance at variance 1."""
    inverse = np.linalg.pinv(design)
    return inverse @ y, inverse @ inverse.T


@dataclass(frozen=True)
class Observations:
    """Checked doses and responses of two preparations; all arrays have shape (n,)."""

    doses: NDArray[np.float64]
    responses: NDArray[np.float64]
    test: NDArray[np.bool_]

    def cell_columns(self) -> NDArray[np.float64]:
        """Indicator matrix with one column for each (preparation, dose)."""
        _, index = np.unique(np.column_stack([self.test, self.doses]), axis=0, return_inverse=True)
        return np.eye(index.max() + 1)[index.ravel()]


def observations(doses: ArrayLike, responses: ArrayLike, test: ArrayLike) -> Observations:
    """Check doses, responses and preparations.

    Raises:
        InputError: as `parallel_line`.
    """
    x, y, z = np.asarray(doses, dtype=float), np.asarray(responses, dtype=float), np.asarray(test)
    if x.ndim != 1 or not x.shape == y.shape == z.shape:
        shapes = f"{x.shape}, {y.shape} and {z.shape}"
        raise InputError(f"doses, responses, test: received shapes {shapes}. Allowed: equal shapes, (n,)")
    if not (np.isfinite(x) & (x > 0)).all():
        raise InputError("doses: received a value that is not a positive number. Allowed: above 0")
    if not np.isfinite(y).all():
        raise InputError(
            "responses: received a value that is not finite. Allowed: numbers (chance level for a failed run)"
        )
    if not np.isin(z, (0, 1)).all():
        raise InputError("test: received a value that is not a bool. Allowed: True (test), False (standard)")
    z = z.astype(bool)
    for name, arm in (("standard", ~z), ("test", z)):
        if (count := len(np.unique(x[arm]))) < 3:
            raise InputError(f"doses: {name}: received {count} different doses. Allowed: three or more")
    return Observations(x, y, z)
