import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special, stats

from invact.errors import InputError
from invact.statistics.comparison.population import image_variance
from invact.statistics.fronts.noise import LARGEST, binomial_root, image_root, seed_noise

hits = st.tuples(st.just(2), st.integers(2, 5), st.integers(2, 8)).flatmap(
    lambda shape: arrays.arrays(bool, shape)
)


@given(hits)
def test_the_variance_of_a_difference_is_that_of_the_comparison_of_two_arms(answers):
    root = image_root(answers)
    covariance = root @ root.T
    difference = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    # Negative parts are set to 0, so the variance is never below the other estimate.
    assert difference >= float(image_variance(answers[0], answers[1])) - 1e-12


def test_a_known_covariance():
    # Each image has a hit probability of its own for each configuration, and the seeds draw from it.
    rng = np.random.default_rng(0)
    hard = rng.random(4_000)
    p = np.stack([0.9 - 0.5 * hard, 0.8 - 0.5 * hard, rng.uniform(0.2, 0.9, 4_000)])
    root = image_root(rng.random((3, 3, 4_000)) < p[:, None])
    assert root @ root.T == pytest.approx(np.cov(p) / 4_000, abs=1.2e-6)
    # Without the correction for few runs, the variances would be two to four times as large.
    assert np.diag(root @ root.T) == pytest.approx(np.var(p, axis=1) / 4_000, rel=0.25)


def test_one_run_cannot_tell_images_from_chance():
    answers = np.random.default_rng(0).random((2, 1, 500)) < 0.8
    root = image_root(answers)
    assert root @ root.T == pytest.approx(np.cov(answers[:, 0]) / 500)


def test_the_number_of_images_alone_gives_binomial_noise():
    root = binomial_root([0.5, 0.9], 400)
    expected = [stats.binom.var(400, p) / 400**2 for p in (0.5, 0.9)]
    assert root @ root.T == pytest.approx(np.diag(expected))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (0, 3, 5)])
def test_bad_hits_are_refused(shape):
    with pytest.raises(InputError, match="hits: received shape"):
        image_root(np.zeros(shape, dtype=bool))


def test_equal_variances_are_pooled():
    scores = 0.9 + np.array([[0.0, 0.01, 0.02], [0.03, 0.02, 0.01], [0.05, 0.05, 0.07]])
    found = seed_noise(scores)
    assert found.variance == pytest.approx([scores.var(axis=1, ddof=1).mean()] * 3)
    assert found.df.tolist() == [6.0] * 3


@pytest.mark.parametrize("d0", [4, 20])
def test_variances_that_differ_are_moved_towards_each_other(d0):
    rng = np.random.default_rng(0)
    true = 0.002**2 * d0 / rng.chisquare(d0, 4_000)
    scores = 0.9 + np.sqrt(true)[:, None] * rng.standard_normal((4_000, 4))
    found = seed_noise(scores)
    assert found.df - 3 == pytest.approx(np.full(4_000, d0), rel=0.25)
    # The combined variances are unbiased for the precision, and closer to the truth than the sample's.
    own = scores.var(axis=1, ddof=1)
    assert np.mean(true / found.variance) == pytest.approx(1 + 2 / (d0 + 1), rel=0.1)
    errors = [np.mean((np.log(one) - np.log(true)) ** 2) for one in (found.variance, own)]
    assert errors[0] < 0.6 * errors[1]
    # The combined value is a weighted mean of the sample variance and of one common value.
    common = (found.variance * found.df - 3 * own) / (found.df - 3)
    assert common == pytest.approx(np.full(4_000, common[0]))
    logs = np.log(own) - special.digamma(1.5) + math.log(1.5)
    assert np.log(common[0]) == pytest.approx(
        logs.mean() + special.digamma((found.df[0] - 3) / 2) - math.log((found.df[0] - 3) / 2), abs=0.01
    )


def test_a_common_effect_of_the_seed_is_a_correlation():
    rng = np.random.default_rng(0)
    common = rng.normal(0, 0.01, (1, 40))
    for share, expected in ((0.0, 0.0), (0.5, 0.5)):
        own = rng.normal(0, 0.01, (200, 40))
        scores = 0.8 + math.sqrt(share) * common + math.sqrt(1 - share) * own
        assert seed_noise(scores).correlation == pytest.approx(expected, abs=0.12)
    assert seed_noise(0.8 + np.repeat(common, 3, axis=0)).correlation == LARGEST


@pytest.mark.parametrize("scores", [np.full((3, 4), 0.5), [[0.5, 0.6]], [[0.5, 0.6], [0.5, 0.5]]])
def test_few_or_equal_runs(scores):
    found = seed_noise(scores)
    assert np.isfinite(found.variance).all()
    assert found.variance == pytest.approx([np.mean(np.var(scores, axis=1, ddof=1))] * len(scores))
