"""The noise of measured accuracies: the part of the images of a split, and the part of the seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from invact.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["SeedNoise", "binomial_root", "image_root", "seed_noise"]

FLOOR = 0.01
"""Smallest variance of a configuration that enters the fit of the variances, as a share of their median."""

LARGEST = 0.95
"""Largest correlation between configurations; a correlation of 1 would leave nothing to compare."""


def image_root(hits: ArrayLike) -> Floats:
    """Estimate the noise of mean accuracies that comes from the choice of the images.

    All networks are measured on the same images. If one configuration has mean correctness p_j on image j
    (over its runs), and another one has q_j, then with N images the errors of their accuracies have the
    covariance Cov_j(p, q) / N. The variance of one configuration is Var_j(p) / N, less the part of Var_j(p)
    that comes from having few runs: with S runs, that part has the expectation Var(e) / S, where Var(e) is
    the variance of a run on an image that is neither common to the image nor common to the run. It is
    estimated as in `invact.statistics.comparison.population.image_variance`. A single run does not show
    it, so its variance stays as it is. Negative eigenvalues are set to 0.

    Args:
        hits: whether each run classified each image correctly; bool, shape (configurations, runs, images).

    Returns:
        The root R of the covariance of the errors, shape (configurations, configurations), in fractions: with
        standard normal z, R z has this covariance.

    Raises:
        InputError: the shape is wrong, or there are fewer than two images.

    Example:
        >>> root = image_root([[[True, False, True, False]], [[True, False, True, False]]])
        >>> (root @ root.T).round(4).tolist()
        [[0.0833, 0.0833], [0.0833, 0.0833]]
    """
    correct = np.asarray(hits)
    if correct.ndim != 3 or correct.shape[2] < 2 or not correct.size:
        raise InputError(
            f"hits: received shape {correct.shape}. Allowed: (configurations, runs, images), 2 images or more"
        )
    _, runs, images = correct.shape
    share = correct.mean(axis=1)
    centred = share - share.mean(axis=1, keepdims=True)
    covariance = centred @ centred.T / (images - 1)
    if runs > 1:
        on_an_image = runs / (runs - 1) * (share * (1 - share)).mean(axis=1)
        whole = correct.mean(axis=2).var(axis=1, ddof=1)
        covariance -= np.diag(images / (images - 1) * (on_an_image - whole) / runs)
    return _root(covariance / images)


def binomial_root(accuracy: ArrayLike, images: int) -> Floats:
    """Noise of mean accuracies from the number of images alone, as independent binomial shares.

    This overestimates the noise of a difference, because networks tend to fail on the same images.

    Args:
        accuracy: mean accuracies, shape (configurations,).
        images: number of images.

    Returns:
        The root as in `image_root`.

    Example:
        >>> binomial_root([0.9], 100).round(3).tolist()
        [[0.03]]
    """
    p = np.asarray(accuracy, dtype=float)
    return np.diag(np.sqrt(p * (1 - p) / images))


@dataclass(frozen=True)
class SeedNoise:
    """Variances of single runs, after the seeds of all configurations are combined.

    Attributes:
        variance: variance of a run for each configuration, in the squared unit of the accuracies.
        df: degrees of freedom of each variance.
        correlation: correlation between two configurations that are trained with the same seed.
    """

    variance: Floats
    df: Floats
    correlation: float


def seed_noise(accuracy: ArrayLike) -> SeedNoise:
    """Estimate the variance of each configuration's runs from its own runs and those of all others.

    A few seeds say little about one variance. The variances of the configurations are taken as draws from a
    scaled inverse chi-square distribution, whose d0 degrees of freedom and scale s0^2 are fitted to all of
    them. The variance of a configuration with sample variance s^2 from d = S - 1 degrees of freedom is then
    (d0 s0^2 + d s^2) / (d0 + d), with d0 + d degrees of freedom. If the sample variances differ no more than
    by chance, d0 is infinite: all configurations have their mean variance, with the degrees of freedom of all
    of them. The correlation is the mean over all pairs of configurations, and not below 0.

    Args:
        accuracy: shape (configurations, seeds), with the same seeds, 2 or more for each configuration; nan
            where a configuration has no run.

    Source: Smyth, Statistical Applications in Genetics and Molecular Biology 3, 2004, section 6.2.

    Example:
        >>> seed_noise([[0.1, 0.2, 0.3], [0.3, 0.5, 0.4]]).df.tolist()
        [4.0, 4.0]
        >>> seed_noise([[0.1, 0.2, 0.3], [0.3, 0.5, np.nan]]).df.tolist()
        [3.0, 3.0]
    """
    scores = np.asarray(accuracy, dtype=float)
    known = np.isfinite(scores)
    own, d = np.nanvar(scores, axis=1, ddof=1), known.sum(axis=1) - 1
    prior_df, prior = _prior(own, d)
    if np.isinf(prior_df):
        variance, df = np.full(len(own), np.average(own, weights=d)), np.full(len(own), float(d.sum()))
    else:
        variance, df = (prior_df * prior + d * own) / (prior_df + d), prior_df + d
    correlation = 0.0
    # Each pair of configurations has as many degrees of freedom as seeds in common, less one.
    common = np.maximum(known.astype(int) @ known.T - 1, 0)
    pairs = common.sum() - np.trace(common)
    if pairs and own.any():
        deviations = (scores - np.nanmean(scores, axis=1, keepdims=True)) / np.sqrt(variance)[:, None]
        deviations = np.where(known, deviations, 0)
        products = (deviations.sum(axis=0) ** 2).sum() - (deviations**2).sum()
        correlation = float(np.clip(products / pairs, 0, LARGEST))
    return SeedNoise(variance, df, correlation)


def _prior(variances: Floats, d: NDArray[np.int_]) -> tuple[float, float]:
    """Degrees of freedom and scale of the distribution of the variances, by the method of moments."""
    positive = variances > 0
    if positive.sum() < 2:
        return np.inf, 0.0
    halves = d[positive] / 2
    floor = FLOOR * float(np.median(variances[positive]))
    logs = np.log(np.maximum(variances[positive], floor)) - special.digamma(halves) + np.log(halves)
    excess = float(logs.var(ddof=1) - special.polygamma(1, halves).mean())
    if excess <= 0:
        return np.inf, 0.0
    # The trigamma function is inverted by Newton's method, which converges from this start.
    half = 0.5 + 1 / excess
    for _ in range(50):
        now = special.polygamma(1, half)
        half += now * (1 - now / excess) / special.polygamma(2, half)
    scale = np.exp(logs.mean() + special.digamma(half) - np.log(half))
    return 2 * float(half), float(scale)


def _root(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T)
