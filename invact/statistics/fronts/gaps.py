"""Gaps between two fronts, at all budgets at once: does the front of one arm dominate the other front?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from invact.errors import InputError
from invact.statistics.fronts.uncertainty import (
    Candidates,
    Selection,
    common_budgets,
    means,
    resample,
    standard_error,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["FrontGap", "front_gap"]

DRAWS = 10_000
"""Number of normal draws for the critical value; its Monte Carlo error is then below 1 %."""


@dataclass(frozen=True)
class FrontGap:
    """Gap between two fronts, treatment - control, over budgets.

    Attributes:
        budgets: costs, ascending.
        gap: difference in attained test accuracy at each budget.
        low: lower limits of the simultaneous band, which contains the gaps at all budgets together with the
            given confidence.
        high: upper limits of the simultaneous band.
        margin: non-inferiority margin: the largest loss of accuracy that still counts as equal.
        dominates: whether the treatment is non-inferior at all budgets (low > -margin) and better at one
            budget at least (low > 0).
        dominated: whether the control dominates in this sense: high < margin at all budgets, and high < 0 at
            one budget at least.
    """

    budgets: tuple[float, ...]
    gap: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    margin: float
    dominates: bool
    dominated: bool


def front_gap(
    control: Candidates,
    treatment: Candidates,
    margin: float,
    budgets: ArrayLike | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> FrontGap:
    """Compare the fronts of two arms at all budgets at once.

    A resample draws the same seeds and the same noise of the images for both arms. The band is gap -+ c se,
    with se and its degrees of freedom as in `front_bootstrap`. c is the quantile of the largest |Z| over the
    budgets, where Z is normal with the correlations of the resampled gaps. This quantile is converted to the
    quantile of Student's t, with the degrees of freedom of each budget, that has the same tail probability.
    With few seeds, correlations are overestimated; therefore each r^2 is
    first adjusted to 1 - (1 - r^2) (S - 1) / (S - 2). Both errors of `dominates` are one-sided, so their
    level is (1 - confidence) / 2.

    Args:
        control: configurations of the control.
        treatment: configurations of the treatment, with the same seeds in the same order.
        margin: non-inferiority margin, in (0, 1), as a fraction.
        budgets: shape (budgets,); both arms need a configuration within each. All costs unless given.
        resamples: number of resamples, 100 or more.
        confidence: two-sided confidence level of the simultaneous band.
        seed: seed of the resampling.

    Raises:
        InputError: the arms differ in the number of seeds, there are fewer than three seeds ("insufficient"),
            or an argument is out of range.

    Source: Hothorn, Bretz and Westfall, Biometrical Journal 50, 2008 (simultaneous inference by max-t).

    Example:
        >>> control = Candidates([[0.80, 0.81, 0.82]], [[0.80, 0.81, 0.82]], [100])
        >>> treatment = Candidates([[0.90, 0.92, 0.91]], [[0.90, 0.92, 0.91]], [90])
        >>> front_gap(control, treatment, margin=0.005).dominates
        True
    """
    seeds = control.test.shape[1]
    if treatment.test.shape[1] != seeds:
        raise InputError(
            f"treatment: received {treatment.test.shape[1]} seeds. Allowed: {seeds}, as for the control"
        )
    if seeds < 3:
        raise InputError(f"seeds: insufficient: received {seeds}. Allowed: 3 or more")
    if not 0 < margin < 1:
        raise InputError(f"margin: received {margin!r}. Allowed: a fraction in (0, 1), such as 0.005")
    limits = common_budgets(budgets, control, treatment)
    both = (control, treatment)

    def gaps(images: bool) -> NDArray[np.float64]:
        old, new = (
            Selection(arm.cost, *resample(arm, resamples, confidence, seed, images=images), limits).test
            for arm in both
        )
        return np.asarray(new - old)

    drawn = gaps(images=True)
    old, new = (Selection(arm.cost, *means(arm), limits).test[0] for arm in both)
    gap = new - old
    se, df = standard_error(drawn, gaps(images=False), seeds)
    half = special.stdtrit(df, 1 - _tail(drawn, seeds, confidence, seed)) * se
    low, high = gap - half, gap + half
    return FrontGap(
        budgets=tuple(limits.tolist()),
        gap=tuple(gap.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        margin=float(margin),
        dominates=bool((low > -margin).all() and (low > 0).any()),
        dominated=bool((high < margin).all() and (high < 0).any()),
    )


def _tail(drawn: NDArray[np.float64], seeds: int, confidence: float, seed: int) -> float:
    """Tail probability of one side of the simultaneous band; drawn has shape (resamples, budgets)."""
    # A budget whose gap does not vary (except for rounding) has no correlation, and its band is a point.
    moving = drawn[:, drawn.std(axis=0) > 1e-12]
    if not moving.size:
        return 0.5
    r = np.atleast_2d(np.corrcoef(moving, rowvar=False))
    r = np.sign(r) * np.sqrt(np.maximum(1 - (1 - r**2) * (seeds - 1) / (seeds - 2), 0))
    # After the adjustment the matrix may have negative eigenvalues. Setting them to 0 makes it a valid
    # correlation matrix that is close to it.
    values, vectors = np.linalg.eigh(r)
    root = vectors * np.sqrt(np.maximum(values, 0))
    root /= np.linalg.norm(root, axis=1, keepdims=True)
    z = np.random.default_rng([seed, 1]).standard_normal((DRAWS, len(r))) @ root.T
    return float(special.ndtr(-np.quantile(np.abs(z).max(axis=1), confidence)))
