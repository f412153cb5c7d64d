import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import TTestIndPower

from invact.errors import InputError
from invact.statistics.comparison.inference import welch
from invact.statistics.sequential.power import plan_margin, power, sample_size

MARGIN, REPLICATIONS = 0.003, 40_000

# Counts over 10,000 test images.
arms = st.lists(st.integers(8_900, 9_100), min_size=2, max_size=12).map(lambda counts: np.array(counts) / 1e4)


@pytest.mark.parametrize("n", [2, 5, 12, 40])
@pytest.mark.parametrize("truth", [0.0, -0.002, 0.001])
@pytest.mark.parametrize("alpha", [0.05, 0.025])
def test_power_is_that_of_statsmodels(n, truth, alpha):
    sd = 0.004
    expected = TTestIndPower().power((truth + MARGIN) / sd, n, alpha, alternative="larger")
    assert power(n, sd, MARGIN, truth, alpha) == pytest.approx(expected, abs=1e-6)


def test_published_power():
    # Julious, Sample Sizes for Clinical Trials, 2010: with 90 % power and one-sided 0.025, a standardised
    # difference of 1 needs 23 runs of each arm, and one of 0.5 needs 86.
    assert [sample_size(1 / size, 0.999, 0.0, 0.025, 0.9) for size in (1 / 0.999, 0.5 / 0.999)] == [23, 86]


@pytest.mark.parametrize(("n", "sds", "truth"), [(6, (0.002, 0.002), 0.0), (12, (0.003, 0.002), -0.001)])
def test_power_by_simulation(n, sds, truth):
    rng = np.random.default_rng(n)
    treatment = rng.normal(truth + MARGIN, sds[0], (REPLICATIONS, n))
    other = rng.normal(0.0, sds[1], (REPLICATIONS, n))
    expected = power(n, math.sqrt(np.mean(np.square(sds))), MARGIN, truth)

    def shown(*, equal):
        test = stats.ttest_ind(treatment, other, axis=1, equal_var=equal, alternative="greater")
        return int((test.pvalue < 0.025).sum())

    if sds[0] == sds[1]:
        assert stats.binom.ppf(0.0005, REPLICATIONS, expected) <= shown(equal=True)
        assert shown(equal=True) <= stats.binom.isf(0.0005, REPLICATIONS, expected)
    # Welch's test has fewer degrees of freedom than the formula, so its power is a little lower.
    assert expected - 0.025 < shown(equal=False) / REPLICATIONS < expected + 0.005


def test_power_at_the_margin_is_alpha():
    assert power(9, 0.004, MARGIN, -MARGIN) == pytest.approx(0.025)
    assert power(9, 0.004, MARGIN, -MARGIN, 0.05) == pytest.approx(0.05)


def test_power_of_extreme_designs():
    # Numbers that are far from useful ones still give a probability.
    assert power(100, MARGIN / 100, MARGIN) == 1
    assert 0 <= power(100, 1.0, MARGIN, -1.0) < 1e-12
    expected = TTestIndPower().power(MARGIN - 1, 2, 0.025, alternative="larger")
    assert power(2, 1.0, MARGIN, -1.0) == pytest.approx(expected, rel=1e-9)
    assert 0.025 < power(2, 1.0, 1e-6) < 0.0251


@given(
    st.integers(2, 60),
    st.floats(0.0005, 0.01),
    st.floats(0.0005, 0.01),
    st.floats(-0.005, 0.005),
    st.sampled_from([0.01, 0.025, 0.1]),
)
def test_what_makes_power_larger(n, sd, margin, truth, alpha):
    found = power(n, sd, margin, truth, alpha)
    assert 0 <= found <= 1
    tiny = 1e-9
    assert power(n, sd, margin + 0.001, truth, alpha) >= found - tiny
    assert power(n, sd, margin, truth + 0.001, alpha) >= found - tiny
    assert power(n, sd, margin, truth, 1.5 * alpha) >= found - tiny
    if truth > -margin:
        assert power(n + 1, sd, margin, truth, alpha) >= found - tiny
        assert power(n, sd / 2, margin, truth, alpha) >= found - tiny


@pytest.mark.parametrize("sd", [0.0005, 0.003, 0.01])
@pytest.mark.parametrize("target", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("truth", [0.0, -0.001])
def test_sample_size_is_the_smallest(sd, target, truth):
    n = sample_size(sd, MARGIN, truth, target=target)
    assert power(n, sd, MARGIN, truth) >= target
    assert n == 2 or power(n - 1, sd, MARGIN, truth) < target
    if n > 2:
        expected = TTestIndPower().solve_power(
            (truth + MARGIN) / sd, alpha=0.025, power=target, alternative="larger"
        )
        assert n == math.ceil(expected)


@given(arms, arms, st.sampled_from([0.9, 0.95]), st.sampled_from([0.0, 0.0005]))
def test_the_margin_is_half_of_the_lower_bound_of_the_gain(control, placebo, level, floor):
    plan = plan_margin(control, placebo, 0.003, level, floor)
    bound = welch(control, placebo, 0.0, floor).interval(1 - level)[0]
    assert (plan.bound, plan.gain) == (bound, pytest.approx(control.mean() - placebo.mean()))
    assert plan.assay_sensitivity == (bound > 0)
    assert plan.margin == max(0, min(0.003, bound / 2))
    if not floor and min(np.ptp(control), np.ptp(placebo)) > 0:
        test = stats.ttest_ind(control, placebo, equal_var=False, alternative="greater")
        assert bound == pytest.approx(test.confidence_interval(level).low, rel=1e-9, abs=1e-12)
        # Assay sensitivity is a significant gain.
        assert plan.assay_sensitivity == (test.pvalue < 1 - level) or abs(bound) < 1e-12


def test_margin_plan_by_hand():
    # Standard deviations 0.01 and 0.02, three runs each: the error is 0.01 sqrt(5 / 3), with
    # 2 (1 + 4)^2 / (1 + 16) = 2.94 degrees of freedom.
    control, placebo = [0.89, 0.90, 0.91], [0.78, 0.80, 0.82]
    bound = 0.1 - stats.t.isf(0.05, 50 / 17) * 0.01 * math.sqrt(5 / 3)
    plan = plan_margin(control, placebo, cap=0.5)
    assert (plan.margin, plan.bound, plan.gain) == pytest.approx((bound / 2, bound, 0.1))
    assert plan.assay_sensitivity
    assert plan_margin(control, placebo).margin == 0.003
    assert plan_margin(control, placebo, cap=0.5, level=0.99).margin < plan.margin
    # With swapped arms, or with a placebo as good as the control, there is no assay sensitivity.
    for none in (plan_margin(placebo, control), plan_margin(control, control)):
        assert (none.margin, none.assay_sensitivity) == (0, False)
        assert none.bound < 0
    # Without spread, the bound is the gain; the floor makes it smaller.
    assert plan_margin([0.9] * 3, [0.898] * 3).margin == pytest.approx(0.001)
    assert plan_margin([0.9] * 3, [0.898] * 3, floor=0.0005).margin < 0.0009
    assert not plan_margin([0.9] * 3, [0.9] * 3).assay_sensitivity


def test_a_placebo_that_is_as_good_seldom_gives_assay_sensitivity():
    replications = 4_000
    rng = np.random.default_rng(4)
    control, placebo = rng.normal(0.9, 0.002, (2, replications, 8))
    found = sum(plan_margin(*pair).assay_sensitivity for pair in zip(control, placebo, strict=True))
    assert found <= stats.binom.isf(0.0005, replications, 0.05)
    assert found >= stats.binom.ppf(0.0005, replications, 0.045)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: power(1, 0.003, MARGIN), "n: received 1"),
        (lambda: power(9, 0.0, MARGIN), "sd: received 0.0"),
        (lambda: power(9, math.nan, MARGIN), "sd"),
        (lambda: power(9, math.inf, MARGIN), "sd"),
        (lambda: power(9, 0.003, 0.0), "margin"),
        (lambda: power(9, 0.003, MARGIN, math.nan), "truth"),
        (lambda: power(9, 0.003, MARGIN, -1.5), "truth"),
        (lambda: power(9, 0.003, MARGIN, 0.0, 0.5), "alpha"),
        (lambda: sample_size(0.003, MARGIN, -MARGIN), "truth: .* above -margin"),
        (lambda: sample_size(0.003, MARGIN, target=1.0), "target"),
        (lambda: sample_size(0.003, MARGIN, target=0.025), "target"),
        (lambda: sample_size(0.9, 1e-5), "million"),
        (lambda: plan_margin([0.1], [0.1, 0.2]), "treatment: insufficient"),
        (lambda: plan_margin([0.1, 0.2], [0.1, math.nan]), "other"),
        (lambda: plan_margin([0.1, 0.2], [0.1, 0.2], cap=0.0), "cap: received"),
        (lambda: plan_margin([0.1, 0.2], [0.1, 0.2], cap=1.0), "cap"),
        (lambda: plan_margin([0.1, 0.2], [0.1, 0.2], level=0.5), "level: received"),
        (lambda: plan_margin([0.1, 0.2], [0.1, 0.2], level=1.0), "level"),
        (lambda: plan_margin([0.1, 0.2], [0.1, 0.2], floor=-0.1), "floor"),
    ],
)
def test_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
