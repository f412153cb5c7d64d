import numpy as np
import pytest
from scipy import stats

from benchmarks.true_fronts import KINDS, Setting, bins, bootstrap_share, draw, supposed
from invact.errors import InputError
from invact.statistics.fronts.dominance import non_dominated, non_dominated_draws
from invact.statistics.fronts.probability import contenders, front_probability

EDGES = (0, 0.1, 0.4, 0.8, 0.95, 1)


def with_mean(means, sd, seeds=40, seed=0):
    """Accuracies with exactly these means and this standard deviation over the seeds."""
    noise = np.random.default_rng(seed).standard_normal((len(means), seeds))
    # Rows that are orthogonal to the mean and to each other have no correlation.
    basis = np.linalg.qr(np.column_stack([np.ones(seeds), noise.T]))[0][:, 1:].T
    return np.array(means)[:, None] + sd * np.sqrt(seeds - 1) * basis


def test_two_configurations_have_the_probability_of_their_difference():
    for gap in (-0.0004, 0.0, 0.0004, 0.001):
        found = front_probability(with_mean([0.9, 0.9 + gap], 0.002), [100, 200], draws=40_000)
        se = 0.002 * np.sqrt(2 / 40)
        assert found[0] == 1
        assert found[1] == pytest.approx(stats.norm.cdf(gap / se), abs=0.02)


def test_noise_of_the_images_that_differs_makes_p_less_certain_and_common_noise_does_not():
    scores = with_mean([0.9, 0.9015], 0.002)
    own = np.diag([0.001, 0.001])
    common = np.array([[0.01], [0.01]])
    exact, wider, same = (
        front_probability(scores, [1, 2], root, draws=40_000)[1] for root in (None, own, common)
    )
    se = 0.002 * np.sqrt(2 / 40)
    assert exact == pytest.approx(stats.norm.cdf(0.0015 / se), abs=0.01)
    assert wider == pytest.approx(stats.norm.cdf(0.0015 / np.hypot(se, 0.001 * np.sqrt(2))), abs=0.02)
    assert same == pytest.approx(exact, abs=0.01)


def test_more_seeds_do_not_remove_the_noise_of_the_images():
    scores = with_mean([0.9, 0.9015], 0.002, seeds=400)
    assert front_probability(scores, [1, 2])[1] > 0.999
    found = front_probability(scores, [1, 2], np.diag([0.001, 0.001]), draws=40_000)[1]
    assert found == pytest.approx(stats.norm.cdf(0.0015 / (0.001 * np.sqrt(2))), abs=0.02)


def test_few_seeds_do_not_give_steps():
    rng = np.random.default_rng(0)
    found = front_probability(0.9 + rng.normal(0, 0.003, (12, 3)), np.arange(1, 13))
    between = found[(found > 0.01) & (found < 0.99)]
    assert len(between) > 5
    assert not np.isclose(between[:, None] * 27, np.arange(28), atol=0.02).any(axis=1).all()


def test_without_noise_the_front_is_certain():
    means = np.array([0.7, 0.9, 0.8, 0.9, 0.95])
    cost = np.array([1, 2, 3, 4, 5])
    found = front_probability(np.repeat(means[:, None], 3, axis=1), cost)
    assert found.tolist() == non_dominated(means, cost).tolist()


def test_equal_means_are_decided_by_noise_alone():
    found = front_probability(with_mean([0.9] * 2, 0.01), [1, 2], draws=20_000)
    assert found.tolist() == [1.0, pytest.approx(0.5, abs=0.02)]


def test_a_configuration_far_below_does_not_change_the_others():
    scores = with_mean([0.9, 0.901, 0.902], 0.003)
    apart = front_probability(scores, [1, 2, 3])
    together = front_probability(np.vstack([scores, with_mean([0.5], 0.003)]), [1, 2, 3, 4])
    assert together[3] == 0
    assert together[:3] == pytest.approx(apart, abs=0.05)


def test_one_seed_is_refused():
    with pytest.raises(InputError, match="insufficient"):
        front_probability([[0.9], [0.8]], [1, 2])


def test_contenders_are_not_far_behind_a_cheaper_one():
    mean, cost = np.array([0.9, 0.95, 0.5, 0.94]), np.array([1, 2, 2, 3])
    assert contenders(mean, cost, np.full(4, 1e-4)).tolist() == [True, True, False, True]
    assert contenders(mean, cost, np.zeros(4)).tolist() == [True, True, False, False]


def test_many_draws_have_the_fronts_of_single_ones():
    rng = np.random.default_rng(0)
    accuracy, cost = rng.integers(0, 5, (50, 8)) / 4, rng.integers(1, 5, 8).astype(float)
    expected = [non_dominated(one, cost) for one in accuracy]
    assert non_dominated_draws(accuracy, cost).tolist() == np.array(expected).tolist()


@pytest.fixture(scope="module")
def worlds():
    rng = np.random.default_rng(1)
    return [draw(rng, Setting(kind, own=0.1, images=800)) for kind in KINDS for _ in range(14)]


def differences(worlds, method):
    """Share that is truly on the front minus P, by bin of P, and the number of configurations."""
    found = bins(
        np.concatenate([method(w) for w in worlds]), np.concatenate([w.on_front for w in worlds]), EDGES
    )
    assert min(count for count, _, _ in found) > 60
    return np.array([share - p for _, p, share in found])


def test_p_is_right_in_worlds_whose_front_is_known(worlds):
    assert np.abs(differences(worlds, lambda world: supposed(world, draws=400))).max() < 0.06


def test_a_share_of_resampled_seeds_is_not(worlds):
    found = differences(worlds, lambda world: bootstrap_share(world, 200))
    assert found[:2].min() > 0.1
    assert found[-1] < -0.03
