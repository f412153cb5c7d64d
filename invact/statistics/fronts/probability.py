"""The probability of being on the true front, given noisy accuracies of all configurations."""
# Resampling the data would count the noise twice: the best of many measured accuracies is too high already,
# and a resample takes the best of many again. The model below expects this, and moves accuracies towards
# their trend as far as the noise demands.

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from invact.errors import InputError
from invact.statistics.fronts.dominance import non_dominated_draws
from invact.statistics.fronts.noise import seed_noise

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["contenders", "front_probability", "true_accuracies"]

BEHIND = 4.0
"""A configuration is left out if a cheaper one leads by more standard errors of the difference than this."""

SPREADS = 2.0 ** np.arange(-7, 2)
"""Standard deviations of the configurations around their trend that are tried, as shares of their spread."""

BENDS = ((0.0, 1.0), *((height, length) for height in (0.25, 1.0, 4.0) for length in (0.3, 1.0)))
"""Heights (as shares of the spread) and lengths (as shares of the costs' range) of the trend's bends."""

POOR, SLAB, PASSES = np.exp(-1.0), 2.0, 3
"""Odds that a configuration is a poor one, far below the trend; the spread of these; passes to find them."""

FLAT = 1e3
"""Variance of the level and the slope of the trend, in squared spreads; so large that any is possible."""

EXACT, DIGITS = 1e-20, 12
"""Variances below this are rounding errors; and the decimals to which exact accuracies are compared."""

REPEATS = 2
"""How many variances of the runs are drawn for each set of parameters of the trend."""


def front_probability(
    accuracy: ArrayLike, cost: ArrayLike, images: ArrayLike | None = None, draws: int = 10_000, seed: int = 0
) -> Floats:
    """Compute the probability that each configuration is on the true front.

    The true accuracy of a configuration is its mean over all seeds and all images of the same kind. The front
    of the true accuracies is the true front. Let y be the mean accuracies over the S seeds. The model is

        y = mu + e,    e ~ N(0, R R' + D C D / S),
        mu = a + b x + g(x) + d,    x = log cost,

    where R is the root of the noise of the images, D the standard deviations of single runs (`seed_noise`;
    each variance has a scaled inverse chi-square distribution), C their correlations, a and b any numbers, g
    a Gaussian process with a squared exponential covariance, and d_i ~ N(0, t^2) the part of each
    configuration. A poor configuration, far below the trend, has a d_i of larger spread; the residual of
    leaving it out tells whether it is one. The parameters of g and t come from a grid and are weighted by the
    likelihood of y and by a prior that is flat in t^2. `draws` vectors mu are drawn from the posterior
    distribution, and the share of them with a configuration on their front is its probability.

    A configuration that is far below a cheaper one has probability 0 and is no part of the model.

    Args:
        accuracy: shape (configurations, seeds), with the same seeds, 2 or more.
        cost: shape (configurations,), positive.
        images: root of the noise of the images, shape (configurations, any), see
            `invact.statistics.fronts.noise.image_root`. Without it, the images count as all images there are.
        draws: number of draws.
        seed: seed of the draws.

    Returns:
        Probabilities, shape (configurations,).

    Raises:
        InputError: there are fewer than two seeds ("insufficient").

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, sections 2.7 and 5.4.

    Example:
        >>> seen = [[0.80, 0.81, 0.82], [0.90, 0.89, 0.91], [0.70, 0.71, 0.69]]
        >>> front_probability(seen, [1, 2, 3]).tolist()
        [1.0, 1.0, 0.0]
    """
    costs = np.asarray(cost, dtype=float)
    found = np.zeros(len(costs))
    chosen, drawn = true_accuracies(accuracy, costs, images, draws, seed)
    found[chosen] = non_dominated_draws(drawn, costs[chosen]).mean(axis=0)
    return found


def true_accuracies(
    accuracy: ArrayLike, cost: ArrayLike, images: ArrayLike | None = None, draws: int = 10_000, seed: int = 0
) -> tuple[NDArray[np.intp], Floats]:
    """Draw the true accuracies of the configurations from the model of `front_probability`.

    Returns:
        The numbers of the configurations that are part of the model, and their true accuracies, shape
        (draws, those configurations).

    Raises:
        InputError: there are fewer than two seeds of a configuration ("insufficient").

    Example:
        >>> chosen, drawn = true_accuracies([[0.80, 0.81], [0.90, 0.89], [0.7, 0.69]], [1, 2, 3], draws=500)
        >>> chosen.tolist(), drawn.shape, drawn.mean(axis=0).round(2).tolist()
        ([0, 1], (500, 2), [0.8, 0.9])
    """
    scores, costs = np.asarray(accuracy, dtype=float), np.asarray(cost, dtype=float)
    known = np.isfinite(scores)
    seeds = known.sum(axis=1)
    if seeds.min(initial=scores.shape[1]) < 2:
        few = min(seeds.min(initial=2), scores.shape[1])
        raise InputError(f"seeds: insufficient: received {few}. Allowed: 2 or more")
    root = np.zeros((len(costs), 1)) if images is None else np.asarray(images, dtype=float)
    mean, noise = np.nanmean(scores, axis=1), seed_noise(scores)
    variance = noise.variance / seeds + (root**2).sum(axis=1)
    chosen = np.flatnonzero(contenders(mean, costs, variance))
    if variance.max() < EXACT:
        return np.arange(len(costs)), mean.round(DIGITS)[None]
    # Two means share the luck of the seeds that both have.
    shared = known[chosen].astype(int) @ known[chosen].T
    shared = shared / np.sqrt(np.outer(seeds[chosen], seeds[chosen]))
    # Means that are equal by chance must not look like an exact trend.
    unit = float(np.sqrt(max(mean[chosen].var(), variance[chosen].mean())))
    rng = np.random.default_rng(seed)
    grid = [(spread, *bend) for spread in SPREADS for bend in BENDS] * REPEATS
    spread, height, length = np.array(grid).T
    x = np.log(costs[chosen])
    x = (x - x.mean()) / max(float(np.ptp(x)), 1e-9)
    apart = (x[:, None] - x) ** 2
    trend = height[:, None, None] ** 2 * np.exp(-apart / (2 * length[:, None, None] ** 2))
    trend += FLAT * (1 + 4 * np.outer(x, x))
    df = noise.df[chosen]
    sd = (
        np.sqrt(noise.variance[chosen] * df / rng.chisquare(df, (len(grid), len(chosen))) / seeds[chosen])
        / unit
    )
    alike = noise.correlation * shared + (1 - noise.correlation) * np.eye(len(chosen))
    errors = sd[:, :, None] * sd[:, None, :] * alike
    errors += root[chosen] @ root[chosen].T / unit**2 + 1e-8 * np.eye(len(chosen))
    y = (mean[chosen] - mean[chosen].mean()) / unit
    own, prior = _own(y, trend + errors, spread**2)
    total = trend + errors + _diagonal(own)
    factor = np.linalg.cholesky(total)
    white = np.linalg.solve(factor, np.broadcast_to(y[:, None], (len(grid), len(y), 1)))[:, :, 0]
    likelihood = -(white**2).sum(axis=1) / 2 - np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
    # A grid of equal ratios is denser where t is small; the weight t^2 makes the prior flat in t^2.
    weight = likelihood + prior + 2 * np.log(spread)
    weight = np.exp(weight - weight.max())
    times = rng.multinomial(draws, weight / weight.sum())
    used = np.flatnonzero(times)
    gain = np.swapaxes(np.linalg.solve(total[used], errors[used]), 1, 2)
    centre = y - gain @ y
    values, vectors = np.linalg.eigh(errors[used] - gain @ errors[used])
    roots = vectors * np.sqrt(np.maximum(values, 0))[:, None, :]
    drawn = [
        middle + rng.standard_normal((count, len(y))) @ part.T
        for middle, part, count in zip(centre, roots, times[used], strict=True)
    ]
    return chosen, mean[chosen].mean() + unit * np.concatenate(drawn)


def contenders(mean: Floats, cost: Floats, variance: Floats) -> NDArray[np.bool_]:
    """Mark the configurations that can be on the front: no cheaper one leads by far.

    Args:
        mean: measured accuracies, shape (n,).
        cost: shape (n,).
        variance: variances of `mean`, shape (n,).

    Example:
        >>> contenders(np.array([0.9, 0.5, 0.89]), np.array([1, 2, 3]), np.full(3, 1e-4)).tolist()
        [True, False, True]
    """
    lead = mean[:, None] - mean
    far = lead > BEHIND * np.sqrt(variance[:, None] + variance)
    return np.asarray((far & (cost[:, None] <= cost)).sum(axis=0) == 0)


def _own(y: Floats, shared: Floats, ordinary: Floats) -> tuple[Floats, Floats]:
    """Variances of the configurations' own parts, shape (parameters, n), and the log prior of these."""
    count, n = len(ordinary), len(y)
    poor = np.zeros((count, n), dtype=bool)
    small = ordinary[:, None]
    for _ in range(PASSES):
        own = np.where(poor, SLAB**2, small)
        inverse = np.linalg.inv(shared + _diagonal(own))
        precision = np.diagonal(inverse, axis1=1, axis2=2)
        residual = (inverse @ y) / precision
        rest = 1 / precision - own
        plain, wide = (-(residual**2) / (rest + one) / 2 - np.log(rest + one) / 2 for one in (small, SLAB**2))
        # The density of the poor ones is that of half a normal distribution, below the trend.
        poor = (residual < 0) & (wide + np.log(2 * POOR) > plain) & (small < SLAB**2 / 4)
    return np.where(poor, SLAB**2, small), poor.sum(axis=1) * np.log(2 * POOR)


def _diagonal(values: Floats) -> Floats:
    return values[:, :, None] * np.eye(values.shape[1])
