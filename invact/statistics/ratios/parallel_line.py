"""Parallel-line assay: how much of the standard does one unit of a test preparation replace?"""
# In invact the preparations are two arms, the doses are their widths or MACs, and the responses are their
# accuracies. The terms are those of a bioassay, so that a published assay can be used as a test.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from invact.errors import InputError
from invact.statistics.intervals import check_confidence, t_quantile
from invact.statistics.ratios.observations import (
    block_columns,
    cell_columns,
    check_doses,
    check_numbers,
    estimates,
    observations,
    residual,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "AnovaRow",
    "Fieller",
    "ParallelLine",
    "fieller",
    "multiple_assay",
    "parallel_line",
]

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
    """The comparison of one test preparation with the standard in a parallel-line assay.

    The slope, g, variance, df and anova belong to the whole assay. They are the same for each of its test
    preparations.

    Attributes:
        potency: number of doses of the standard that have the effect of one dose of the test preparation;
            NaN if the common slope is exactly 0.
        interval: Fieller's interval of the potency; (0, inf) if g >= 1.
        g: relative uncertainty of the common slope, see `Fieller`.
        slope: common slope, response per unit of ln(dose).
        slope_ratio: slope of the test preparation divided by the slope of the standard, each fitted alone;
            NaN if the slope of the standard is exactly 0.
        slope_interval: Fieller's interval of slope_ratio at 90 %. If it lies within given bounds, the slopes
            are equivalent at 5 %.
        variance: residual mean square, within treatments (and blocks).
        df: degrees of freedom of the variance.
        anova: rows Blocks, Preparations, Regression, Non-parallelism, Non-linearity, Residual, Total. The
            sums of squares are sequential: each source is added to those before it. There is no row Blocks
            without blocks, and no row Non-linearity if no preparation has more than two doses.
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

    @property
    def p_linearity(self) -> float | None:
        """P value of the deviation from linearity; None if it cannot be tested, as with two doses."""
        return {row.source: row.p_value for row in self.anova}.get("Non-linearity")


def parallel_line(
    doses: ArrayLike,
    responses: ArrayLike,
    test: ArrayLike,
    blocks: ArrayLike | None = None,
    confidence: float = 0.95,
) -> ParallelLine:
    """Estimate the relative potency from log-linear responses of two preparations.

    This is `multiple_assay` with one test preparation.

    Args:
        doses: as for `multiple_assay`.
        responses: shape (n,), one for each training.
        test: shape (n,), True for the test preparation, False for the standard.
        blocks: shape (n,), labels of the blocks; None for a completely randomised design.
        confidence: two-sided confidence level of the interval of the potency.

    Raises:
        InputError: as `multiple_assay`; `test` has a value that is not a bool.

    Source: as `multiple_assay`.

    Example:
        >>> dose = [1, 2, 4] * 4
        >>> test = [False] * 6 + [True] * 6
        >>> response = [0.10, 0.20, 0.31, 0.11, 0.19, 0.30, 0.20, 0.31, 0.40, 0.20, 0.29, 0.40]
        >>> fit = parallel_line(dose, response, test)
        >>> round(fit.potency, 2), [round(end, 2) for end in fit.interval], fit.g < 0.1
        (1.98, [1.82, 2.16], True)
    """
    data = observations(doses, responses, test, least=2)
    names = np.where(data.test, "test", "standard")
    return multiple_assay(data.doses, data.responses, names, "standard", blocks, confidence)["test"]


def multiple_assay(
    doses: ArrayLike,
    responses: ArrayLike,
    preparations: ArrayLike,
    standard: str,
    blocks: ArrayLike | None = None,
    confidence: float = 0.95,
) -> dict[str, ParallelLine]:
    """Estimate the potency of each test preparation relative to one standard.

    The model is response = a + sum_p d_p z_p + b x + block, with x = ln(dose), z_p = 1 for the test
    preparation p and 0 for all others, and a block effect if blocks are given. The potency of p is
    exp(d_p / b). All preparations have the common slope b, and Fieller's intervals use the mean square
    within treatments and blocks of the whole assay. The doses of the preparations may differ, and they need
    not be equally spaced or equally replicated.

    Two doses of each preparation are enough for the potency. Linearity cannot be tested with them, so that
    the validity of the assay rests on the tests of regression and parallelism alone.

    Args:
        doses: shape (n,), positive, in one unit for all preparations.
        responses: shape (n,), one for each training.
        preparations: shape (n,), the names of the preparations, as text.
        standard: name of the standard. All other preparations are test preparations.
        blocks: shape (n,), labels of the blocks; None for a completely randomised design.
        confidence: two-sided confidence level of each interval of a potency. It holds for each interval
            alone, not for all of them together.

    Returns:
        The comparison of each test preparation with the standard, by name, in the order of the data.

    Raises:
        InputError: shapes differ, a dose is not positive, a response is not finite (a failed run must have a
            value and must not be dropped), a preparation has fewer than two doses, no dose is replicated,
            blocks are confounded with preparations, a name is not text, or the standard or a test
            preparation is missing.

    Source: Finney, Statistical Method in Biological Assay, 3rd ed., 1978; European Pharmacopoeia, chapter
    5.3, section 3.2.

    Example:
        >>> name = ["S"] * 4 + ["T"] * 4 + ["U"] * 4
        >>> response = [0.10, 0.20, 0.11, 0.19, 0.20, 0.30, 0.20, 0.30, 0.15, 0.25, 0.15, 0.24]
        >>> fits = multiple_assay([1, 2] * 6, response, name, standard="S")
        >>> {name: round(fit.potency, 2) for name, fit in fits.items()}, fits["T"].p_linearity
        ({'T': 2.07, 'U': 1.41}, None)
    """
    check_confidence(confidence)
    labels = np.asarray(preparations)
    dose, y = check_numbers(doses, responses, labels, "preparations")
    present = dict.fromkeys(labels.tolist())
    if not all(isinstance(name, str) for name in present):
        raise InputError("preparations: received a name that is not text. Allowed: a str for each response")
    if standard not in present or len(present) < 2:
        raise InputError(
            f"preparations: received {list(present)}. Allowed: the standard {standard!r} and others"
        )
    tests = [name for name in present if name != standard]
    for name in present:
        check_doses(dose[labels == name], name, 2)
    x, z = np.log(dose), np.column_stack([labels == name for name in tests])

    grand = block_columns(blocks, len(y))
    both = np.column_stack([grand, z])
    parallel = np.column_stack([both, x])
    separate = np.column_stack([parallel, z * x[:, None]])
    saturated = np.column_stack([grand, cell_columns(z @ np.arange(1, len(tests) + 1), dose)])
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
        if before[1] > after[1]
    ]
    rows.append(AnovaRow("Residual", df, float(sum_left), None, None))
    rows.append(AnovaRow("Total", len(y) - 1, float(rest[0][0]), None, None))

    effects, spread = estimates(parallel, y)
    alone, alone_spread = estimates(separate, y)
    found = {}
    for index, name in enumerate(tests):
        pair = [grand.shape[1] + index, parallel.shape[1] - 1]
        covariance = variance * spread[np.ix_(pair, pair)]
        potency = _ratio(effects[pair], covariance, df, confidence)
        # The last coefficients are the differences between each slope and the slope of the standard.
        mix = np.zeros((2, separate.shape[1]))
        mix[:, parallel.shape[1] - 1], mix[0, parallel.shape[1] + index] = 1, 1
        covariance = variance * mix @ alone_spread @ mix.T
        slopes = _ratio(mix @ alone, covariance, df, 1 - 2 * SLOPE_ALPHA)
        # A slope near 0 gives potencies that no float can hold; they become 0 or inf.
        with np.errstate(over="ignore"):
            relative, low, high = np.exp([potency.ratio, *potency.interval]).tolist()
        found[name] = ParallelLine(
            potency=relative,
            interval=(low, high),
            g=potency.g,
            slope=float(effects[-1]),
            slope_ratio=slopes.ratio,
            slope_interval=slopes.interval,
            variance=variance,
            df=df,
            anova=tuple(rows),
        )
    return found


def _ratio(pair: NDArray[np.float64], covariance: ArrayLike, df: int, confidence: float) -> Fieller:
    u, v = pair.tolist()
    if v == 0:
        return Fieller(np.nan, (-np.inf, np.inf), np.inf)
    return fieller(u, v, covariance, df, confidence)


def _tested(source: str, df: int, sum_of_squares: float, variance: float, error_df: int) -> AnovaRow:
    sum_of_squares = max(sum_of_squares, 0.0)
    f = sum_of_squares / df / variance if variance > 0 else np.inf
    return AnovaRow(source, df, sum_of_squares, float(f), float(special.fdtrc(df, error_df, f)))
