"""Parallel-line assay: how much of the standard does one unit of the test preparation replace?"""
# Here the preparations are two arms, the doses their widths or MACs, the responses their accuracies; the
# mathematics is that of any bioassay, so a published one can be fed straight in.

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
"""One-sided level of the equivalence test of the slopes: their ratio has an interval at 1 - 2 x 5 %."""


@dataclass(frozen=True)
class Fieller:
    """A ratio of two estimates with Fieller's interval.

    Attributes:
        ratio: numerator / denominator.
        interval: all ratios that the test of numerator - ratio * denominator = 0 does not reject;
            (-inf, inf) where that set is unbounded.
        g: squared half-width of the denominator's interval, over the squared denominator. At 1 and above
            the denominator may be 0 and the set is unbounded; near 0 the delta method would do.
    """

    ratio: float
    interval: tuple[float, float]
    g: float


def fieller(
    numerator: float, denominator: float, covariance: ArrayLike, df: int, confidence: float = 0.95
) -> Fieller:
    """Bound the ratio of two normal estimates.

    The interval holds each rho with (u - rho v)^2 <= t^2 (V11 - 2 rho V12 + rho^2 V22), t the quantile of
    Student's t at (1 + confidence) / 2; g = t^2 V22 / v^2.

    Args:
        numerator: u.
        denominator: v.
        covariance: V, the estimated covariance of (u, v); shape (2, 2).
        df: degrees of freedom of the variance estimate in V.
        confidence: two-sided, in (0, 1).

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
        raise InputError("fieller: received values that are no two estimates with covariance and df >= 1")
    if denominator == 0:
        raise InputError("fieller: denominator: received 0. Allowed: another number")
    low, high, g = limits(
        np.float64(numerator), np.float64(denominator), spread, t_quantile(df, confidence) ** 2
    )
    return Fieller(numerator / denominator, (float(low), float(high)), float(g))


def limits(
    u: ArrayLike, v: ArrayLike, spread: ArrayLike, t_squared: float
) -> tuple[NDArray[np.float64], ...]:
    """Fieller's low and high ends and g, for arrays: u and v of shape (...), spread (..., 2, 2)."""
    u, v, spread = (np.asarray(values, dtype=float) for values in (u, v, spread))
    # The set is quadratic in rho: square * rho^2 - 2 * linear * rho + constant <= 0.
    square = v**2 - t_squared * spread[..., 1, 1]
    linear = u * v - t_squared * spread[..., 0, 1]
    constant = u**2 - t_squared * spread[..., 0, 0]
    bounded = square > 0
    safe = np.where(bounded, square, 1.0)
    # Rounding may bring the discriminant, 0 without any spread, below 0.
    root = np.sqrt(np.maximum(linear**2 - square * constant, 0))
    low = np.where(bounded, (linear - root) / safe, -np.inf)
    high = np.where(bounded, (linear + root) / safe, np.inf)
    return low, high, t_squared * spread[..., 1, 1] / v**2


@dataclass(frozen=True)
class AnovaRow:
    """One line of the analysis of variance; F and p are against the residual, None where there is none."""

    source: str
    df: int
    sum_of_squares: float
    f: float | None
    p_value: float | None


@dataclass(frozen=True)
class ParallelLine:
    """A parallel-line assay.

    Attributes:
        potency: doses of the standard that one dose of the test preparation is worth.
        interval: Fieller's, of the potency; (0, inf) where g >= 1.
        g: of the common slope, see `Fieller`.
        slope: common slope, response per unit of ln(dose).
        slope_ratio: slope of the test preparation over that of the standard, each fitted on its own.
        slope_interval: Fieller's at 90 %: inside bounds, the slopes are equivalent at 5 %.
        variance: residual mean square, within treatments (and blocks).
        df: its degrees of freedom.
        anova: Blocks (where there are any), Preparations, Regression, Non-parallelism, Non-linearity,
            Residual, Total; sums of squares in this order, each given those before it.
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

    With x = ln(dose), z = 1 for the test preparation and 0 for the standard, and blocks where given,
    response = a + d z + b x + block, potency = exp(d / b). Fieller's interval uses the mean square within
    treatments and blocks. Doses need neither be equal nor equally spaced nor equally replicated.

    Args:
        doses: shape (n,), positive, in one unit for both preparations.
        responses: shape (n,), one for each training.
        test: shape (n,), True for the test preparation, False for the standard.
        blocks: shape (n,), labels of the blocks; None for a completely randomised design.
        confidence: of the potency's interval, two-sided.

    Raises:
        InputError: shapes differ, a dose is not positive, a response is not finite (a failed run must be
            given its value, not dropped), a preparation has fewer than three doses, nothing is replicated,
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
        raise InputError("blocks: received blocks that cannot be told from preparations or doses")

    chain = [np.ones((len(y), 1)), grand, both, parallel, separate, saturated]
    rest = [residual(design, y) for design in chain]
    sum_left, df = rest[-1]
    if df < 1:
        raise InputError("responses: received no replicates. Allowed: two or more at some dose")
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
    # The test preparation's slope is the standard's plus their difference.
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
    """The constant, and one column for each block but the first."""
    if blocks is None:
        return np.ones((n, 1))
    labels = np.asarray(blocks)
    if labels.shape != (n,):
        raise InputError(f"blocks: received shape {labels.shape}. Allowed: ({n},), one for each response")
    _, index = np.unique(labels, return_inverse=True)
    return np.column_stack([np.ones(n), np.eye(index.max() + 1)[index][:, 1:]])


def residual(design: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Residual sum of squares of y, shape (n,) or (n, m), and its degrees of freedom."""
    left, singular, _ = np.linalg.svd(design, full_matrices=False)
    rank = int((singular > singular[0] * len(y) * np.finfo(float).eps).sum())
    basis = left[:, :rank]
    return np.square(y - basis @ (basis.T @ y)).sum(axis=0), len(y) - rank


def estimates(
    design: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least-squares coefficients for y, shape (n,) or (n, m), and their covariance for a variance of 1."""
    inverse = np.linalg.pinv(design)
    return inverse @ y, inverse @ inverse.T


@dataclass(frozen=True)
class Observations:
    """Checked doses and responses of two preparations, all of shape (n,)."""

    doses: NDArray[np.float64]
    responses: NDArray[np.float64]
    test: NDArray[np.bool_]

    def cell_columns(self) -> NDArray[np.float64]:
        """One column for each (preparation, dose)."""
        _, index = np.unique(np.column_stack([self.test, self.doses]), axis=0, return_inverse=True)
        return np.eye(index.max() + 1)[index.ravel()]


def observations(doses: ArrayLike, responses: ArrayLike, test: ArrayLike) -> Observations:
    """Check doses, responses and preparations.

    Raises:
        InputError: see `parallel_line`.
    """
    x, y, z = np.asarray(doses, dtype=float), np.asarray(responses, dtype=float), np.asarray(test)
    if x.ndim != 1 or not x.shape == y.shape == z.shape:
        shapes = f"{x.shape}, {y.shape} and {z.shape}"
        raise InputError(f"doses, responses, test: received shapes {shapes}. Allowed: equal, (n,)")
    if not (np.isfinite(x) & (x > 0)).all():
        raise InputError("doses: received a value that is not a positive number")
    if not np.isfinite(y).all():
        raise InputError(
            "responses: received a value that is not finite. A failed run counts at chance level"
        )
    if not np.isin(z, (0, 1)).all():
        raise InputError("test: received another value. Allowed: True (test) and False (standard)")
    z = z.astype(bool)
    for name, arm in (("standard", ~z), ("test", z)):
        if (count := len(np.unique(x[arm]))) < 3:
            raise InputError(f"doses: {name}: received {count} different. Allowed: three or more")
    return Observations(x, y, z)
