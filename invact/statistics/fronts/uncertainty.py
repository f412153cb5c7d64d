"""Fronts with uncertainty: a bootstrap over training seeds, and the optimism that selection causes."""
# Each resample selects configurations by its own validation accuracies and reports the test accuracies of the
# same seeds. In this way the uncertainty includes the effect of selecting by chance.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from invact.errors import InputError
from invact.statistics.intervals import check_confidence, t_quantile

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["DIGITS", "Candidates", "UncertainFront", "attainment", "front_bootstrap"]

DIGITS = 12
"""Decimals to which a mean accuracy is rounded, so that rounding errors do not rank equal means."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Configurations of one arm, all trained with the same seeds.

    Args:
        validation: validation accuracy, shape (configurations, seeds). Selection uses only this accuracy.
        test: test accuracy, shape (configurations, seeds).
        cost: shape (configurations,), positive, in any unit, for example MACs or milliseconds.

    Raises:
        InputError: shapes differ, there are fewer than two seeds ("insufficient"), or a value is missing.
            Give a failed run the accuracy of chance level, or leave out its configuration with all its runs.
    """

    validation: Floats
    test: Floats
    cost: Floats

    def __init__(self, validation: ArrayLike, test: ArrayLike, cost: ArrayLike) -> None:
        seen, scored, costs = (np.array(values, dtype=float) for values in (validation, test, cost))
        if seen.ndim != 2 or seen.shape != scored.shape or costs.shape != seen.shape[:1] or not len(costs):
            shapes = f"{seen.shape}, {scored.shape}, {costs.shape}"
            allowed = "(configurations, seeds) twice, then (configurations,)"
            raise InputError(f"validation, test, cost: received shapes {shapes}. Allowed: {allowed}")
        if seen.shape[1] < 2:
            raise InputError(f"seeds: insufficient: received {seen.shape[1]}. Allowed: 2 or more")
        for name, values in (("validation", seen), ("test", scored)):
            # NaN fails this comparison too.
            if not ((values >= 0) & (values <= 1)).all():
                raise InputError(f"{name}: received a value that is not an accuracy. Allowed: [0, 1]")
        if not (np.isfinite(costs) & (costs > 0)).all():
            raise InputError("cost: received a value that is not a positive number. Allowed: finite, above 0")
        for name, values in (("validation", seen), ("test", scored), ("cost", costs)):
            values.flags.writeable = False
            object.__setattr__(self, name, values)


@dataclass(frozen=True)
class UncertainFront:
    """Front of test accuracy over budgets, with its uncertainty.

    Attributes:
        budgets: costs, ascending.
        attained: test accuracy of the configuration that validation selects within each budget.
        low: lower limit of `attained`, for each budget alone (pointwise).
        high: upper limit of `attained`, for each budget alone.
        p_non_dominated: for each configuration, in the order received: share of the resamples whose front
            (validation accuracy and cost) contains it.
        optimism: for each budget, validation minus test accuracy of the selected configuration, mean over the
            resamples.
        baseline: for each budget, mean of validation minus test accuracy over all configurations within it.
            The difference `optimism` - `baseline` is the part that selection causes.
    """

    budgets: tuple[float, ...]
    attained: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    p_non_dominated: tuple[float, ...]
    optimism: tuple[float, ...]
    baseline: tuple[float, ...]


def front_bootstrap(
    candidates: Candidates,
    budgets: ArrayLike | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> UncertainFront:
    """Bootstrap a front over its seeds.

    A resample draws the seeds with replacement. It uses the same seeds for all configurations, so the result
    is valid for any correlation between configurations. The band is attained -+ t se. For S seeds, t has
    S - 1 degrees of freedom, and se is the standard deviation over the resamples times sqrt(S / (S - 1)). For
    a single configuration the band is the t interval of its mean; a percentile interval would be too narrow
    with few seeds.

    Args:
        candidates: accuracies and costs.
        budgets: shape (budgets,), none below the cheapest configuration; all costs unless given.
        resamples: number of resamples, 100 or more.
        confidence: two-sided confidence level of the pointwise band.
        seed: seed of the resampling.

    Raises:
        InputError: an argument is out of range.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993; Hesterberg, The American
    Statistician 69, 2015 (few observations).

    Example:
        >>> seen = [[0.80, 0.81, 0.82], [0.90, 0.89, 0.91], [0.70, 0.71, 0.69]]
        >>> front = front_bootstrap(Candidates(seen, seen, [100, 200, 300]))
        >>> front.p_non_dominated, [round(value, 2) for value in front.attained]
        ((1.0, 1.0, 0.0), [0.81, 0.9, 0.9])
    """
    limits = common_budgets(budgets, candidates)
    seeds = candidates.test.shape[1]
    chosen = Selection(candidates, resample(seeds, resamples, confidence, seed), limits)
    attained = Selection(candidates, whole(seeds), limits).test[0]
    half = t_quantile(seeds - 1, confidence) * standard_error(chosen.test, seeds)
    shift = (candidates.validation - candidates.test).mean(axis=1)
    affordable = candidates.cost <= limits[:, None]
    return UncertainFront(
        budgets=tuple(limits.tolist()),
        attained=tuple(attained.tolist()),
        low=tuple((attained - half).tolist()),
        high=tuple((attained + half).tolist()),
        p_non_dominated=tuple(chosen.non_dominated.mean(axis=0).tolist()),
        optimism=tuple((chosen.validation - chosen.test).mean(axis=0).tolist()),
        baseline=tuple((affordable @ shift / affordable.sum(axis=1)).tolist()),
    )


def attainment(
    candidates: Candidates, budgets: ArrayLike, levels: ArrayLike, resamples: int = 10_000, seed: int = 0
) -> Floats:
    """Compute the empirical attainment function: how often a resampled front reaches an accuracy in a budget.

    Args:
        candidates: accuracies and costs.
        budgets: shape (budgets,), none below the cheapest configuration.
        levels: test accuracies, shape (levels,).
        resamples: number of resamples, 100 or more.
        seed: seed of the resampling.

    Returns:
        Shares of the resamples, shape (budgets, levels), with the budgets in ascending order.

    Raises:
        InputError: an argument is out of range.

    Source: Grunert da Fonseca, Fonseca and Hall, Evolutionary Multi-Criterion Optimization, 2001.

    Example:
        >>> seen = [[0.80, 0.81, 0.82], [0.90, 0.89, 0.91]]
        >>> attainment(Candidates(seen, seen, [100, 200]), [100, 200], [0.5, 0.85]).tolist()
        [[1.0, 0.0], [1.0, 1.0]]
    """
    limits = common_budgets(budgets, candidates)
    weights = resample(candidates.test.shape[1], resamples, 0.95, seed)
    # Sorting once needs less memory than a comparison of all resamples, budgets and levels.
    ordered = np.sort(Selection(candidates, weights, limits).test, axis=0)
    below = [np.searchsorted(column, np.asarray(levels, dtype=float)) for column in ordered.T]
    return np.asarray(1 - np.array(below) / len(ordered))


class Selection:
    """Accuracies of what validation selects in each resample and budget, shape (resamples, budgets)."""

    def __init__(self, candidates: Candidates, weights: Floats, budgets: Floats) -> None:
        order = np.argsort(candidates.cost, kind="stable")
        cost = candidates.cost[order]
        validation, test = (weights @ of[order].T for of in (candidates.validation, candidates.test))
        validation = validation.round(DIGITS)
        # Index of the most accurate configuration among each one and all cheaper ones, cheapest first.
        record = np.maximum.accumulate(validation, axis=1)
        new = np.ones(validation.shape, dtype=bool)
        new[:, 1:] = validation[:, 1:] > record[:, :-1]
        holder = np.maximum.accumulate(np.where(new, np.arange(len(cost)), 0), axis=1)
        chosen = holder[:, np.searchsorted(cost, budgets, side="right") - 1]
        self.validation = np.take_along_axis(validation, chosen, axis=1)
        self.test = np.take_along_axis(test, chosen, axis=1)
        # Once all configurations of one cost are compared, the most accurate one so far is on the front.
        last = np.append(np.diff(cost) > 0, True)
        ranked = np.zeros(validation.shape, dtype=bool)
        np.put_along_axis(ranked, holder[:, last], True, axis=1)
        self.non_dominated = np.empty_like(ranked)
        self.non_dominated[:, order] = ranked


def resample(seeds: int, resamples: int, confidence: float, seed: int) -> Floats:
    """Draw resamples; the result is the share of each seed in each resample, shape (resamples, seeds)."""
    check_confidence(confidence)
    if resamples < 100:
        raise InputError(f"resamples: received {resamples!r}. Allowed: 100 or more")
    drawn = np.random.default_rng(seed).multinomial(seeds, np.full(seeds, 1 / seeds), resamples)
    return np.asarray(drawn / seeds)


def whole(seeds: int) -> Floats:
    """Equal shares of all seeds, which give the mean of the data; shape (1, seeds)."""
    return np.full((1, seeds), 1 / seeds)


def standard_error(drawn: Floats, seeds: int) -> Floats:
    """Standard error of each column of drawn, shape (resamples, ...), with the factor sqrt(S / (S - 1))."""
    return np.asarray(drawn.std(axis=0) * np.sqrt(seeds / (seeds - 1)))


def common_budgets(budgets: ArrayLike | None, *arms: Candidates) -> Floats:
    """The given budgets, or the costs of all arms, ascending; every arm has a configuration within each."""
    cheapest = max(float(arm.cost.min()) for arm in arms)
    if budgets is None:
        known = np.concatenate([arm.cost for arm in arms])
        return np.unique(known[known >= cheapest])
    limits = np.unique(np.asarray(budgets, dtype=float))
    if not limits.size or not (np.isfinite(limits) & (limits >= cheapest)).all():
        raise InputError(f"budgets: received {limits.tolist()}. Allowed: {cheapest:g} or more, finite")
    return limits
