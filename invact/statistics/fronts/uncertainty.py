"""Fronts with uncertainty: the cost is given, accuracy is noisy, and selection flatters."""
# Every resample selects on its own validation accuracies and is scored on the test accuracies of the same
# seeds, so that the luck of selection is part of the uncertainty.

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
"""Decimals of a mean accuracy: what is finer is rounding, and must not decide between equals."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """The configurations of one arm, each trained on the same seeds.

    Args:
        validation: accuracy, shape (configurations, seeds). Selection reads this.
        test: accuracy, shape (configurations, seeds).
        cost: shape (configurations,), positive, in any measure: MACs, milliseconds.

    Raises:
        InputError: shapes differ, there are fewer than two seeds ("insufficient"), or a value is missing: a
            failed run counts at chance level, or its configuration is left out whole.
    """

    validation: Floats
    test: Floats
    cost: Floats

    def __init__(self, validation: ArrayLike, test: ArrayLike, cost: ArrayLike) -> None:
        seen, scored, costs = (np.array(values, dtype=float) for values in (validation, test, cost))
        if seen.ndim != 2 or seen.shape != scored.shape or costs.shape != seen.shape[:1] or not len(costs):
            shapes = f"{seen.shape}, {scored.shape}, {costs.shape}"
            allowed = "two of (configurations, seeds), one of (configurations,)"
            raise InputError(f"validation, test, cost: received shapes {shapes}. Allowed: {allowed}")
        if seen.shape[1] < 2:
            raise InputError(f"seeds: insufficient: received {seen.shape[1]}. Allowed: 2 or more")
        for name, values in (("validation", seen), ("test", scored)):
            # NaN fails this too.
            if not ((values >= 0) & (values <= 1)).all():
                raise InputError(f"{name}: received a value that is no accuracy. Allowed: [0, 1]")
        if not (np.isfinite(costs) & (costs > 0)).all():
            raise InputError("cost: received a value that is not a positive number")
        for name, values in (("validation", seen), ("test", scored), ("cost", costs)):
            values.flags.writeable = False
            object.__setattr__(self, name, values)


@dataclass(frozen=True)
class UncertainFront:
    """A front of test accuracy over budgets.

    Attributes:
        budgets: costs, ascending.
        attained: test accuracy of the configuration that validation selects within each budget.
        low: pointwise lower limit of `attained`.
        high: pointwise upper limit.
        p_non_dominated: of each configuration, as received: share of the resamples whose front (validation
            accuracy against cost) has it.
        optimism: at each budget, validation minus test accuracy of what was selected, mean of the resamples.
        baseline: at each budget, validation minus test accuracy of all configurations within it, selected or
            not. What `optimism` exceeds this by is how far selection flatters.
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

    A resample draws the seeds with replacement, the same for all configurations: valid at any correlation
    between them. The band is attained -+ t se, with t of S - 1 degrees of freedom for S seeds and se the
    standard deviation over the resamples times sqrt(S / (S - 1)): for a single configuration it is the t
    interval of its mean, which percentiles of few seeds fall short of.

    Args:
        candidates: accuracies and costs.
        budgets: shape (budgets,), none below the cheapest configuration; the costs of all unless given.
        resamples: 100 or more.
        confidence: of the pointwise band, two-sided.
        seed: of the resampling.

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
    """Empirical attainment function: how often a resampled front reaches an accuracy within a budget.

    Args:
        candidates: accuracies and costs.
        budgets: shape (budgets,), none below the cheapest configuration.
        levels: test accuracies, shape (levels,).
        resamples: 100 or more.
        seed: of the resampling.

    Returns:
        Shares of the resamples, shape (budgets, levels), in the ascending order of the budgets.

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
    # Sorted once, a search gives the share below each level without a cube of comparisons.
    ordered = np.sort(Selection(candidates, weights, limits).test, axis=0)
    below = [np.searchsorted(column, np.asarray(levels, dtype=float)) for column in ordered.T]
    return np.asarray(1 - np.array(below) / len(ordered))


class Selection:
    """What validation selects in each resample and budget: accuracies of shape (resamples, budgets)."""

    def __init__(self, candidates: Candidates, weights: Floats, budgets: Floats) -> None:
        order = np.argsort(candidates.cost, kind="stable")
        cost = candidates.cost[order]
        validation, test = (weights @ of[order].T for of in (candidates.validation, candidates.test))
        validation = validation.round(DIGITS)
        # The holder of the record among the configurations up to each one, cheapest first.
        record = np.maximum.accumulate(validation, axis=1)
        new = np.ones(validation.shape, dtype=bool)
        new[:, 1:] = validation[:, 1:] > record[:, :-1]
        holder = np.maximum.accumulate(np.where(new, np.arange(len(cost)), 0), axis=1)
        chosen = holder[:, np.searchsorted(cost, budgets, side="right") - 1]
        self.validation = np.take_along_axis(validation, chosen, axis=1)
        self.test = np.take_along_axis(test, chosen, axis=1)
        # Who holds it once all of the same cost have been seen is on the front.
        last = np.append(np.diff(cost) > 0, True)
        ranked = np.zeros(validation.shape, dtype=bool)
        np.put_along_axis(ranked, holder[:, last], True, axis=1)
        self.non_dominated = np.empty_like(ranked)
        self.non_dominated[:, order] = ranked


def resample(seeds: int, resamples: int, confidence: float, seed: int) -> Floats:
    """Share of each seed in each resample, shape (resamples, seeds)."""
    check_confidence(confidence)
    if resamples < 100:
        raise InputError(f"resamples: received {resamples!r}. Allowed: 100 or more")
    drawn = np.random.default_rng(seed).multinomial(seeds, np.full(seeds, 1 / seeds), resamples)
    return np.asarray(drawn / seeds)


def whole(seeds: int) -> Floats:
    """The data as they are: equal shares, shape (1, seeds)."""
    return np.full((1, seeds), 1 / seeds)


def standard_error(drawn: Floats, seeds: int) -> Floats:
    """Of each column of drawn, shape (resamples, ...), without the bootstrap's factor of (S - 1) / S."""
    return np.asarray(drawn.std(axis=0) * np.sqrt(seeds / (seeds - 1)))


def common_budgets(budgets: ArrayLike | None, *arms: Candidates) -> Floats:
    """The budgets given, or the costs of all arms, ascending, within which every arm has a configuration."""
    cheapest = max(float(arm.cost.min()) for arm in arms)
    if budgets is None:
        known = np.concatenate([arm.cost for arm in arms])
        return np.unique(known[known >= cheapest])
    limits = np.unique(np.asarray(budgets, dtype=float))
    if not limits.size or not (np.isfinite(limits) & (limits >= cheapest)).all():
        raise InputError(f"budgets: received {limits.tolist()}. Allowed: {cheapest:g} or more, finite")
    return limits
