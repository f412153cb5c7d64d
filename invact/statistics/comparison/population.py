"""Two scopes of a difference in accuracy: this test set, and the population its images were drawn from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from invact.errors import InputError
from invact.statistics.intervals import check_confidence, t_quantile

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Scope", "Scopes", "population_interval", "scopes"]


@dataclass(frozen=True)
class Scope:
    """Uncertainty of the mean difference within one scope.

    Attributes:
        se: standard error of the mean, in accuracy fractions.
        df: degrees of freedom of the variance estimate from which se is computed.
        interval: confidence interval, mean -+ t * se.
    """

    se: float
    df: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Scopes:
    """Difference in accuracy, treatment - control, in two scopes.

    Attributes:
        mean: mean over seeds and items, in accuracy fractions.
        seeds: scope of new seeds on exactly these test items.
        population: scope of new seeds and new items from the population that the items were drawn from.
        seed_variance: estimated variance between seeds of the mean over items. It may be negative.
        item_variance: estimated variance between items of the mean over seeds. It may be negative.
        cell_variance: remaining variance, within one seed and item.
    """

    mean: float
    seeds: Scope
    population: Scope
    seed_variance: float
    item_variance: float
    cell_variance: float


def scopes(control: ArrayLike, treatment: ArrayLike, confidence: float = 0.95) -> Scopes:
    """Compute intervals of the difference in accuracy for this test set and for the population of images.

    d_ij = treatment - control for seed i of S and item j of N. The model has crossed random effects,
    d_ij = mu + a_i + b_j + e_ij. The mean squares of the two-way analysis of variance are

        MS_S = N sum_i (d_i. - d..)^2 / (S - 1)            expected: N var(a) + var(e)
        MS_I = S sum_j (d_.j - d..)^2 / (N - 1)            expected: S var(b) + var(e)
        MS_E = sum_ij (d_ij - d_i. - d_.j + d..)^2 / ((S - 1)(N - 1))        var(e)

    Over seeds and items, the mean has the variance Var(d..) = var(a) / S + var(b) / N + var(e) / (S N). Its
    unbiased estimate is (MS_S + MS_I - MS_E) / (S N), with Satterthwaite's degrees of freedom. The result is
    never below MS_S / (S N), the value for var(b) = 0. For this test set alone the items do not vary; the
    variance is MS_S / (S N), with S - 1 degrees of freedom.

    Args:
        control: whether each item was classified correctly; shape (seeds, items), bool or 0 and 1. Keep a
            failed run, with the items that it classified correctly.
        treatment: the same for the treatment, with the same seeds and items in the same order; shape (seeds,
            items).
        confidence: two-sided confidence level.

    Raises:
        InputError: shapes differ, fewer than two seeds ("insufficient") or items, or a value is missing.

    Source: Searle, Casella and McCulloch, Variance Components, 1992, chapter 4; Satterthwaite, Biometrics
    Bulletin 2, 1946; Owen, Annals of Applied Statistics 1, 2007 (crossed data; its pigeonhole bootstrap
    counts var(e) three times).

    Example:
        >>> control = [[1, 1, 0, 0, 1, 0], [1, 0, 1, 0, 1, 0], [1, 1, 0, 0, 1, 1]]
        >>> treatment = [[1, 1, 1, 0, 1, 1], [1, 1, 1, 0, 1, 0], [1, 1, 1, 0, 0, 1]]
        >>> found = scopes(control, treatment)
        >>> round(found.mean, 3), round(found.seeds.se, 3), round(found.population.se, 3)
        (0.167, 0.096, 0.129)
    """
    check_confidence(confidence)
    old, new = _correct(control, "control"), _correct(treatment, "treatment")
    if old.shape != new.shape:
        raise InputError(f"treatment: received shape {new.shape}. Allowed: {old.shape}, as for the control")
    differences = new - old
    seeds, items = differences.shape
    mean = float(differences.mean())
    between_seeds, between_items, rest = (float(values) for values in mean_squares(differences))
    total, df = (
        float(values) for values in population_variance(between_seeds, between_items, rest, seeds, items)
    )
    return Scopes(
        mean=mean,
        seeds=_scope(mean, between_seeds / (seeds * items), seeds - 1, confidence),
        population=_scope(mean, total, df, confidence),
        seed_variance=(between_seeds - rest) / items,
        item_variance=(between_items - rest) / seeds,
        cell_variance=rest,
    )


def population_interval(found: Scopes, estimate: float, interval: tuple[float, float]) -> tuple[float, float]:
    """Convert the adjusted interval of a test that may stop early to the population of images.

    The interval after a stop is valid for this test set. h is the distance of an end from the estimate.
    H_seeds and H_population are half the widths of the two intervals in `found`, which are for a fixed number
    of seeds. The end moves to

        estimate -+ sqrt(h^2 + H_population^2 - H_seeds^2).

    The difference H_population^2 - H_seeds^2 is the part of the items; if it is negative, 0 is used. If the
    adjustment for stopping changes nothing, h = H_seeds and the result is the two-way interval. If the items
    add nothing, the result is the adjusted interval. Adding squared distances is the method of variance
    estimates recovery (MOVER). Here the part of the items comes from the two-way interval; its own quantile
    times its own standard error would give a coverage that is 1 % too high.

    Args:
        found: result of `scopes` for the same seeds and the same confidence as the interval.
        estimate: estimate of the difference after the stop, in accuracy fractions.
        interval: adjusted interval for this test set. An end may be infinite.

    Raises:
        InputError: a value is not a number.

    Source: Zou and Donner, Statistics in Medicine 27, 2008.

    Example:
        >>> control = [[1, 1, 0, 0, 1, 0], [1, 0, 1, 0, 1, 0], [1, 1, 0, 0, 1, 1]]
        >>> treatment = [[1, 1, 1, 0, 1, 1], [1, 1, 1, 0, 1, 0], [1, 1, 1, 0, 0, 1]]
        >>> low, high = population_interval(scopes(control, treatment), 0.15, (-0.28, 0.56))
        >>> round(low, 2), round(high, 2)
        (-0.43, 0.72)
    """
    low, high = interval
    if any(math.isnan(value) for value in (low, estimate, high)):
        raise InputError(f"interval: received {interval!r} about {estimate!r}. Allowed: numbers")
    seeds, population = (
        (scope.interval[1] - scope.interval[0]) / 2 for scope in (found.seeds, found.population)
    )
    items = math.sqrt(max(population**2 - seeds**2, 0.0))
    # The interval of an e-process is the intersection of all intervals so far, so the mean may be outside it.
    middle = min(max(estimate, low), high)
    return middle - math.hypot(middle - low, items), middle + math.hypot(high - middle, items)


def mean_squares(differences: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """MS_S, MS_I and MS_E of differences of shape (..., seeds, items)."""
    seeds, items = differences.shape[-2:]
    by_seed, by_item = differences.mean(axis=-1), differences.mean(axis=-2)
    mean = by_seed.mean(axis=-1)
    of_seeds = items * np.square(by_seed - mean[..., None]).sum(axis=-1)
    of_items = seeds * np.square(by_item - mean[..., None]).sum(axis=-1)
    # Differences are at most 1 in size, so the cancellation in this sum of squares is harmless.
    total = np.square(differences).sum(axis=(-2, -1)) - seeds * items * mean**2
    rest = np.maximum(total - of_seeds - of_items, 0)
    return of_seeds / (seeds - 1), of_items / (items - 1), rest / ((seeds - 1) * (items - 1))


def population_variance(
    between_seeds: ArrayLike, between_items: ArrayLike, rest: ArrayLike, seeds: int, items: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variance of the mean over seeds and items, and its degrees of freedom, from the mean squares."""
    a, b, e = (np.asarray(values, dtype=float) for values in (between_seeds, between_items, rest))
    total = np.maximum(a + b - e, a)
    weight = a**2 / (seeds - 1) + b**2 / (items - 1) + e**2 / ((seeds - 1) * (items - 1))
    # Without any spread the interval is a point for any degrees of freedom.
    df = np.where(weight > 0, total**2 / np.where(weight > 0, weight, 1), seeds - 1)
    return total / (seeds * items), np.maximum(df, 1)


def _scope(mean: float, variance: float, df: float, confidence: float) -> Scope:
    se = float(np.sqrt(variance))
    half = t_quantile(df, confidence) * se
    return Scope(se, df, (mean - half, mean + half))


def _correct(values: ArrayLike, name: str) -> NDArray[np.float64]:
    correct = np.asarray(values)
    if correct.ndim != 2:
        raise InputError(f"{name}: received shape {correct.shape}. Allowed: (seeds, items)")
    seeds, items = correct.shape
    if seeds < 2 or items < 2:
        raise InputError(
            f"{name}: insufficient: received {seeds} seeds and {items} items. Allowed: 2 or more of each"
        )
    if not np.isin(correct, (0, 1)).all():
        raise InputError(
            f"{name}: received a value that is not a bool. Allowed: True (correct) and False (wrong)"
        )
    return correct.astype(float)
