"""Fronts with uncertainty: resamples of training seeds and images, and the optimism that selection causes."""
# Each resample selects configurations by its own validation accuracies and reports the test accuracies of the
# same seeds. In this way the uncertainty includes the effect of selecting by chance.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from invact.errors import InputError
from invact.statistics.fronts.dominance import best_so_far
from invact.statistics.fronts.probability import front_probability
from invact.statistics.intervals import check_confidence

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["DIGITS", "Candidates", "UncertainFront", "attainment", "front_bootstrap"]

MOST_DF = 1e6
"""Degrees of freedom at which Student's t is a normal distribution."""

DIGITS = 12
"""Decimals to which a mean accuracy is rounded, so that rounding errors do not rank equal means."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Configurations of one arm, all trained with the same seeds.

    Args:
        validation: validation accuracy, shape (configurations, seeds). Selection uses only this accuracy.
        test: test accuracy, shape (configurations, seeds).
        cost: shape (configurations,), positive, in any unit, for example MACs or milliseconds.
        validation_images: root of the noise of the validation images, shape (configurations, any), see
            `invact.statistics.fronts.noise.image_root`. Configurations with the same columns share images.
            Without it, the noise of the images is left out.
        test_images: the same for the test images.

    Raises:
        InputError: shapes differ, there are fewer than two seeds ("insufficient"), or a value is missing.
            Give a failed run the accuracy of chance level, or leave out its configuration with all its runs.
    """

    validation: Floats
    test: Floats
    cost: Floats
    validation_images: Floats
    test_images: Floats

    def __init__(
        self,
        validation: ArrayLike,
        test: ArrayLike,
        cost: ArrayLike,
        validation_images: ArrayLike | None = None,
        test_images: ArrayLike | None = None,
    ) -> None:
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
        roots = []
        for name, root in (("validation_images", validation_images), ("test_images", test_images)):
            values = np.zeros((len(costs), 0)) if root is None else np.array(root, dtype=float)
            if values.ndim != 2 or len(values) != len(costs) or not np.isfinite(values).all():
                raise InputError(
                    f"{name}: received shape {values.shape}. Allowed: ({len(costs)}, any), finite numbers"
                )
            roots.append(values)
        for name, values in zip(
            ("validation", "test", "cost", "validation_images", "test_images"),
            (seen, scored, costs, *roots),
            strict=True,
        ):
            values.flags.writeable = False
            object.__setattr__(self, name, values)

    def only(self, mask: NDArray[np.bool_]) -> Candidates:
        """Return some of the configurations, which still share their images with the others.

        Example:
            >>> arm = Candidates([[0.8, 0.9], [0.7, 0.8]], [[0.8, 0.9], [0.7, 0.8]], [100, 200])
            >>> arm.only(np.array([False, True])).cost.tolist()
            [200.0]
        """
        parts = (self.validation, self.test, self.cost, self.validation_images, self.test_images)
        return Candidates(*(part[mask] for part in parts))


@dataclass(frozen=True)
class UncertainFront:
    """Front of test accuracy over budgets, with its uncertainty.

    Attributes:
        budgets: costs, ascending.
        attained: test accuracy of the configuration that validation selects within each budget.
        low: lower limit of `attained`, for each budget alone (pointwise).
        high: upper limit of `attained`, for each budget alone.
        p_non_dominated: for each configuration, in the order received: probability that the front of the true
            accuracies contains it, see `front_probability`. It reads validation accuracies only.
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
    """Resample a front over its seeds and images.

    A resample draws the seeds with replacement. It uses the same seeds for all configurations, so the result
    is valid for any correlation between configurations. It also draws the noise of the images, which is the
    same for all configurations too. The band is attained -+ t se. For S seeds, se is the standard deviation
    over the resamples, with the part of the seeds times sqrt(S / (S - 1)). If the seeds alone give the
    standard error s, then t has (S - 1) (se / s)^4 degrees of freedom (Welch and Satterthwaite), because the
    noise of the images is known much better. For a single configuration and no noise of images the band is
    the t interval of its mean; a percentile interval would be too narrow with few seeds.

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
    drawn = resample(candidates, resamples, confidence, seed)
    chosen = Selection(candidates.cost, *drawn, limits)
    attained = Selection(candidates.cost, *means(candidates), limits).test[0]
    seeds_only = resample(candidates, resamples, confidence, seed, images=False)
    se, df = standard_error(
        chosen.test, Selection(candidates.cost, *seeds_only, limits).test, candidates.test.shape[1]
    )
    half = special.stdtrit(df, (1 + confidence) / 2) * se
    shift = (candidates.validation - candidates.test).mean(axis=1)
    affordable = candidates.cost <= limits[:, None]
    return UncertainFront(
        budgets=tuple(limits.tolist()),
        attained=tuple(attained.tolist()),
        low=tuple((attained - half).tolist()),
        high=tuple((attained + half).tolist()),
        p_non_dominated=tuple(
            front_probability(
                candidates.validation,
                candidates.cost,
                candidates.validation_images,
                draws=resamples,
                seed=seed,
            ).tolist()
        ),
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
    drawn = resample(candidates, resamples, 0.95, seed)
    # Sorting once needs less memory than a comparison of all resamples, budgets and levels.
    ordered = np.sort(Selection(candidates.cost, *drawn, limits).test, axis=0)
    below = [np.searchsorted(column, np.asarray(levels, dtype=float)) for column in ordered.T]
    return np.asarray(1 - np.array(below) / len(ordered))


class Selection:
    """Accuracies of what validation selects in each resample and budget, shape (resamples, budgets)."""

    def __init__(self, cost: Floats, validation: Floats, test: Floats, budgets: Floats) -> None:
        order = np.argsort(cost, kind="stable")
        best = best_so_far(validation[:, order].round(DIGITS))
        last = np.searchsorted(cost[order], budgets, side="right") - 1
        chosen = order[best[:, last]]
        self.validation = np.take_along_axis(validation, chosen, axis=1)
        self.test = np.take_along_axis(test, chosen, axis=1)


def resample(
    candidates: Candidates, resamples: int, confidence: float, seed: int, *, images: bool = True
) -> tuple[Floats, Floats]:
    """Draw mean validation and test accuracies, each of shape (resamples, configurations).

    Two arms with the same seed and the same columns of their noise get the same seeds and images. The noise
    of the images is multiplied by sqrt((S - 1) / S), because the mean over S resampled seeds varies by this
    factor too little, and `standard_error` divides by it.
    """
    check_confidence(confidence)
    if resamples < 100:
        raise InputError(f"resamples: received {resamples!r}. Allowed: 100 or more")
    seeds = candidates.test.shape[1]
    weights = np.random.default_rng(seed).multinomial(seeds, np.full(seeds, 1 / seeds), resamples) / seeds
    drawn = []
    for number, (scores, root) in enumerate(
        (
            (candidates.validation, candidates.validation_images),
            (candidates.test, candidates.test_images),
        )
    ):
        mean = weights @ scores.T
        if images and root.size:
            noise = np.random.default_rng([seed, 2 + number]).standard_normal((resamples, root.shape[1]))
            mean += np.sqrt((seeds - 1) / seeds) * noise @ root.T
        drawn.append(mean)
    return drawn[0], drawn[1]


def means(candidates: Candidates) -> tuple[Floats, Floats]:
    """The mean validation and test accuracies of the data, each of shape (1, configurations)."""
    return candidates.validation.mean(axis=1)[None], candidates.test.mean(axis=1)[None]


def standard_error(drawn: Floats, seeds_only: Floats, seeds: int) -> tuple[Floats, Floats]:
    """Standard error of each column of `drawn`, shape (resamples, ...), and its degrees of freedom.

    Args:
        drawn: resamples of seeds and images.
        seeds_only: the same resamples without the noise of the images.
        seeds: number of seeds, S; the factor sqrt(S / (S - 1)) is included.
    """
    se, part = (of.std(axis=0) * np.sqrt(seeds / (seeds - 1)) for of in (drawn, seeds_only))
    with np.errstate(divide="ignore", invalid="ignore"):
        df = (seeds - 1) * np.where(se > part, (se / part) ** 4, 1.0)
    return np.asarray(se), np.minimum(df, MOST_DF)


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
