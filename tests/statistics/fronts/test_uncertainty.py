import math

import numpy as np
import pytest
from helpers import SEEDS, arms, drawn, random_arm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from invact.errors import InputError
from invact.statistics.fronts.gaps import _tail, front_gap
from invact.statistics.fronts.uncertainty import Candidates, attainment, front_bootstrap

# With eighths over four seeds every mean is exact, so equal means compare as equal.
eighths = st.integers(0, 8).map(lambda k: k / 8)


def select(validation, macs, budget):
    """Select the most accurate configuration within the budget; among equals the cheapest, then the first."""
    within = [k for k in range(len(macs)) if macs[k] <= budget]
    return min(within, key=lambda k: (-validation[k], macs[k], k))


def attained_by(candidates, sample, budget):
    validation, test = (of[:, sample].mean(axis=1) for of in (candidates.validation, candidates.test))
    chosen = select(validation, candidates.cost, budget)
    return validation[chosen], test[chosen]


@settings(max_examples=30, deadline=None)
@given(arms, st.integers(0, 3))
def test_against_a_naive_bootstrap(candidates, seed):
    front = front_bootstrap(candidates, resamples=100, seed=seed)
    samples = drawn(100, seed)
    assert list(front.budgets) == sorted(set(candidates.cost))
    for number, budget in enumerate(front.budgets):
        scores = np.array([attained_by(candidates, sample, budget) for sample in samples])
        _, here = attained_by(candidates, np.arange(SEEDS), budget)
        assert front.attained[number] == pytest.approx(here)
        half = stats.t.isf(0.025, SEEDS - 1) * scores[:, 1].std() * math.sqrt(SEEDS / (SEEDS - 1))
        assert front.low[number] == pytest.approx(here - half)
        assert front.high[number] == pytest.approx(here + half)
        assert front.optimism[number] == pytest.approx((scores[:, 0] - scores[:, 1]).mean())
        within = candidates.cost <= budget
        shift = candidates.validation[within].mean() - candidates.test[within].mean()
        assert front.baseline[number] == pytest.approx(shift)


@settings(max_examples=30, deadline=None)
@given(arms, arms, st.integers(0, 3))
def test_gap_against_a_naive_bootstrap(control, treatment, seed):
    found = front_gap(control, treatment, margin=0.01, resamples=100, seed=seed)
    cheapest = max(control.cost.min(), treatment.cost.min())
    assert list(found.budgets) == sorted({m for m in (*control.cost, *treatment.cost) if m >= cheapest})

    def gaps(sample):
        return [
            attained_by(treatment, sample, budget)[1] - attained_by(control, sample, budget)[1]
            for budget in found.budgets
        ]

    here, resampled = np.array(gaps(np.arange(SEEDS))), np.array([gaps(s) for s in drawn(100, seed)])
    assert found.gap == pytest.approx(here)
    se = resampled.std(axis=0) * math.sqrt(SEEDS / (SEEDS - 1))
    low, high = here - np.array(found.low), np.array(found.high) - here
    assert low == pytest.approx(high, abs=1e-9)
    assert low[se < 1e-9] == pytest.approx(0, abs=1e-9)
    moving = se > 1e-9
    if moving.any():
        # All budgets have one critical value, between that of a single test and that of Bonferroni.
        c = (low / np.where(moving, se, 1))[moving]
        assert c == pytest.approx(c[0])
        one, all_of_them = stats.t.isf([0.025, 0.025 / moving.sum()], SEEDS - 1)
        assert 0.97 * one < c[0] < 1.05 * all_of_them


def test_one_configuration_has_the_t_interval_of_its_mean():
    arm = random_arm(macs=(100,))
    front = front_bootstrap(arm, resamples=100_000)
    expected = stats.ttest_1samp(arm.test[0], 0).confidence_interval(0.95)
    width = expected.high - expected.low
    assert front.low[0] == pytest.approx(expected.low, abs=0.01 * width)
    assert front.high[0] == pytest.approx(expected.high, abs=0.01 * width)


def test_one_budget_has_the_paired_t_interval_of_the_gap():
    control, treatment = random_arm(0, macs=(100,)), random_arm(1, macs=(100,))
    found = front_gap(control, treatment, margin=0.01, resamples=100_000)
    expected = stats.ttest_rel(treatment.test[0], control.test[0]).confidence_interval(0.95)
    width = expected.high - expected.low
    assert found.low[0] == pytest.approx(expected.low, abs=0.02 * width)
    assert found.high[0] == pytest.approx(expected.high, abs=0.02 * width)


def _critical(drawn, seeds, confidence, seed):
    return stats.t.isf(_tail(drawn, seeds, confidence, seed), seeds - 1)


@pytest.mark.parametrize("seeds", [5, 20])
@pytest.mark.parametrize("copies", [1, 3])
def test_critical_value_of_independent_and_of_equal_budgets(seeds, copies):
    # Sidak's critical value is exact for independent budgets. A copy of a budget changes nothing.
    independent = np.random.default_rng(0).normal(size=(5_000, 4))
    expected = stats.t.isf((1 - 0.95 ** (1 / 4)) / 2, seeds - 1)
    found = _critical(np.tile(independent, copies), seeds, 0.95, 0)
    assert found == pytest.approx(expected, rel=0.03)
    assert _critical(np.tile(independent[:, :1], copies), seeds, 0.95, 0) == pytest.approx(
        stats.t.isf(0.025, seeds - 1), rel=0.03
    )


def test_critical_value_of_correlated_budgets():
    r = np.array([[1, 0.9, 0.5], [0.9, 1, 0.7], [0.5, 0.7, 1]])
    drawn = np.random.default_rng(0).multivariate_normal(np.zeros(3), r, 200_000)
    found = _critical(drawn, 10_000, 0.95, 0)
    box = stats.multivariate_normal(np.zeros(3), r, seed=0)
    inside = box.cdf(np.full(3, found), lower_limit=np.full(3, -found))
    assert inside == pytest.approx(0.95, abs=0.006)


def test_the_simultaneous_band_is_wider_than_the_pointwise_one():
    control, treatment = random_arm(0), random_arm(1)
    together = front_gap(control, treatment, margin=0.01)
    alone = [front_gap(control, treatment, margin=0.01, budgets=[b]) for b in together.budgets]
    for number, one in enumerate(alone):
        assert one.gap[0] == pytest.approx(together.gap[number])
        assert together.low[number] < one.low[0] < one.high[0] < together.high[number]


def test_arms_that_vary_together_have_a_constant_gap():
    # Both fronts rise and fall with the seed. This cancels in the gap only if a resample draws the same seeds
    # for both arms.
    luck = np.random.default_rng(0).normal(0, 0.01, (3, 8))
    control = Candidates(0.8 + luck, 0.8 + luck, [100, 200, 300])
    treatment = Candidates(0.81 + luck, 0.81 + luck, [100, 200, 300])
    found = front_gap(control, treatment, margin=0.005, resamples=500)
    assert found.gap == pytest.approx([0.01] * 3)
    assert found.low == pytest.approx(found.high)
    assert found.dominates


def test_deterministic_by_seed():
    arm = random_arm()
    assert front_bootstrap(arm, seed=3) == front_bootstrap(arm, seed=3)
    assert front_bootstrap(arm, seed=3).low != front_bootstrap(arm, seed=4).low
    other = random_arm(1)
    assert front_gap(arm, other, 0.01, seed=3) == front_gap(arm, other, 0.01, seed=3)


def test_selection_never_reads_the_test_set():
    arm = random_arm(sd=0.02)
    other = Candidates(arm.validation, arm.test[::-1], arm.cost)
    assert front_bootstrap(arm).p_non_dominated == front_bootstrap(other).p_non_dominated
    # Validation prefers the first configuration. The better test accuracy of the second must not matter.
    misled = Candidates([[0.9, 0.9], [0.8, 0.8]], [[0.5, 0.5], [0.7, 0.7]], [100, 100])
    assert front_bootstrap(misled).attained == (0.5,)


def test_optimism_of_selection():
    # All configurations are equal. The validation accuracy of the best of 20 is 1.87 sd above its mean; its
    # test accuracy is not.
    rng = np.random.default_rng(0)
    seeds, sd = 50, 0.01
    accuracies = 0.8 + rng.normal(0, sd, (2, 200, 20, seeds))
    plain, optimism = [], []
    for validation, test in zip(*accuracies, strict=True):
        front = front_bootstrap(Candidates(validation, test, np.full(20, 100)), resamples=100)
        optimism.append(front.optimism[0] - front.baseline[0])
        plain.append(front.baseline[0])
    best_of_20 = stats.norm.expect(lambda z: 20 * z * stats.norm.cdf(z) ** 19, lb=-8, ub=8)
    assert best_of_20 == pytest.approx(1.867, abs=0.001)
    # A resample adds its own random error to that of the data, so the optimism is sqrt(2) times as large.
    assert np.mean(optimism) == pytest.approx(math.sqrt(2) * best_of_20 * sd / math.sqrt(seeds), rel=0.06)
    assert np.mean(plain) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("shift", "dominates"),
    [
        ([0.01, 0.01, 0.01, 0.01], True),
        ([0.0, 0.01, 0.0, 0.0], True),
        ([0.0, 0.0, 0.0, 0.0], False),
        ([0.01, 0.01, 0.01, -0.01], False),
        ([-0.01, -0.01, -0.01, -0.01], False),
    ],
)
def test_dominates_is_non_inferior_at_all_and_better_at_one(shift, dominates):
    control = random_arm(0, sd=0.001)
    noise = np.random.default_rng(9).normal(0, 0.001, (2, 4, 8)) + np.array(shift)[:, None]
    treatment = Candidates(control.validation + noise[0], control.test + noise[1], control.cost)
    found = front_gap(control, treatment, margin=0.005)
    assert found.dominates is dominates
    assert not front_gap(treatment, control, margin=0.005).dominates or shift[0] < 0


def test_swapped_arms_change_the_sign():
    control, treatment = random_arm(0), random_arm(1, better=0.01)
    found = front_gap(control, treatment, margin=0.01)
    swapped = front_gap(treatment, control, margin=0.01)
    assert min(found.gap) > 0
    assert swapped.gap == pytest.approx([-gap for gap in found.gap])
    assert swapped.low == pytest.approx([-high for high in found.high])


def test_budgets_between_configurations():
    arm = random_arm()
    front = front_bootstrap(arm, budgets=[1e9, 150, 250])
    whole = front_bootstrap(arm)
    assert front.budgets == (150, 250, 1e9)
    assert front.attained == tuple(whole.attained[k] for k in (0, 1, 3))


@settings(max_examples=30, deadline=None)
@given(arms)
def test_attainment_against_its_definition(candidates):
    budgets, levels = sorted(set(candidates.cost)), [0.0, 0.25, 0.3, 0.5, 1.0]
    found = attainment(candidates, budgets, levels, resamples=100)
    for number, budget in enumerate(budgets):
        scores = np.array([attained_by(candidates, sample, budget)[1] for sample in drawn(100, 0)])
        assert found[number] == pytest.approx([np.mean(scores >= level) for level in levels])


def test_inputs_are_copied_and_frozen():
    seen = np.full((2, 3), 0.5)
    arm = Candidates(seen, seen, [1, 2])
    seen[0, 0] = 0.9
    assert arm.validation[0, 0] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        arm.test[0, 0] = 1
    with pytest.raises(AttributeError):
        arm.cost = [1, 2]


OK = [[0.5, 0.6], [0.7, 0.8]]


@pytest.mark.parametrize(
    ("validation", "test", "macs", "message"),
    [
        ([[0.5, math.nan], [0.7, 0.8]], OK, [1, 2], "validation"),
        (OK, [[0.5, math.nan], [0.7, 0.8]], [1, 2], "test"),
        (OK, [[0.5, 60], [0.7, 0.8]], [1, 2], "test"),
        (OK, OK, [1, 0], "cost"),
        (OK, OK, [1, math.nan], "cost"),
        (OK, OK, [1], "shapes"),
        (OK, [[0.5, 0.6]], [1, 2], "shapes"),
        ([0.5, 0.6], [0.5, 0.6], [1, 2], "shapes"),
        (np.empty((0, 3)), np.empty((0, 3)), [], "shapes"),
        ([[0.5], [0.6]], [[0.5], [0.6]], [1, 2], "insufficient"),
    ],
)
def test_candidates_refused(validation, test, macs, message):
    with pytest.raises(InputError, match=message):
        Candidates(validation, test, macs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budgets": [50]}, "budgets"),
        ({"budgets": []}, "budgets"),
        ({"budgets": [math.nan]}, "budgets"),
        ({"resamples": 99}, "resamples"),
        ({"confidence": 95}, "confidence"),
    ],
)
def test_arguments_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        front_bootstrap(random_arm(), **arguments)
    with pytest.raises(InputError, match=message):
        front_gap(random_arm(), random_arm(), 0.01, **arguments)


def test_gap_refuses():
    with pytest.raises(InputError, match="seeds"):
        front_gap(random_arm(), random_arm(seeds=7), 0.01)
    with pytest.raises(InputError, match="insufficient"):
        front_gap(random_arm(seeds=2), random_arm(seeds=2), 0.01)
    with pytest.raises(InputError, match="margin"):
        front_gap(random_arm(), random_arm(), 0)
