import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from invact.errors import InputError
from invact.statistics.sequential.group_sequential import stops
from invact.statistics.sequential.power import (
    expected_pairs,
    plan_margin,
    power,
    sample_size,
    sd_upper,
    tost_power,
)

MARGIN, REPLICATIONS = 0.003, 20_000


@pytest.mark.parametrize(
    ("n", "expected", "digits"),
    [(3, 0.0386, 4), (8, 0.28871, 5), (15, 0.69339, 5), (30, 0.94326, 5), (50, 0.99458, 5)],
)
def test_tost_power_golden_values(n, expected, digits):
    assert tost_power(n, 18, 19.2, -4) == pytest.approx(expected, abs=0.6 * 10**-digits)
    assert tost_power(n, 18, 19.2, 4) == pytest.approx(expected, abs=0.6 * 10**-digits)


def test_tost_power_by_simulation():
    one, two = np.random.default_rng(3).normal([[[0]], [[-4]]], 18, (2, 100_000, 10))
    found = [
        stats.ttest_ind(two + bound, one, axis=1, alternative=side).pvalue < 0.05
        for bound, side in ((19.2, "greater"), (-19.2, "less"))
    ]
    expected = tost_power(10, 18, 19.2, -4)
    assert np.mean(found[0] & found[1]) == pytest.approx(expected, abs=4 * 0.5 / math.sqrt(100_000))


@pytest.mark.parametrize("n", [2, 5, 12, 40])
@pytest.mark.parametrize("truth", [0.0, -0.002, 0.001])
@pytest.mark.parametrize("alpha", [0.05, 0.025])
def test_power_is_that_of_statsmodels(n, truth, alpha):
    sd = 0.004
    expected = TTestPower().power((truth + MARGIN) / sd, n, alpha, alternative="larger")
    assert power(n, sd, MARGIN, truth, alpha) == pytest.approx(expected, abs=1e-6)


def test_power_at_the_margin_is_alpha():
    assert power(9, 0.004, MARGIN, -MARGIN) == pytest.approx(0.05)


@pytest.mark.parametrize("sd", [0.0005, 0.003, 0.01])
@pytest.mark.parametrize("target", [0.5, 0.8, 0.95])
def test_sample_size_is_the_smallest(sd, target):
    n = sample_size(sd, MARGIN, target=target)
    assert power(n, sd, MARGIN) >= target
    assert n == 2 or power(n - 1, sd, MARGIN) < target


def test_sd_upper_covers():
    pilots = np.random.default_rng(4).normal(0, 2, (REPLICATIONS, 8)).std(axis=1, ddof=1)
    covered = np.mean(pilots * sd_upper(1.0, 8) > 2)
    assert covered == pytest.approx(0.8, abs=4 * 0.4 / math.sqrt(REPLICATIONS))


def test_margin_plan():
    gains = np.array([0.004, 0.006, 0.005, 0.007, 0.003, 0.005, 0.006, 0.004])
    bound = stats.ttest_1samp(gains, 0, alternative="greater").confidence_interval(0.95).low
    plan = plan_margin(gains, cap=0.003)
    assert (plan.margin, plan.bound, plan.gain) == pytest.approx((bound / 2, bound, gains.mean()))
    assert plan.assay_sensitivity
    assert plan_margin(10 * gains).margin == 0.003
    # With swapped arms, or with a placebo as good as the control, there is no assay sensitivity.
    for none in (plan_margin(-gains), plan_margin(gains - gains.mean())):
        assert (none.margin, none.assay_sensitivity) == (0, False)


@pytest.mark.parametrize(("truth", "sd"), [(0.0, 0.003), (-0.001, 0.002), (-0.003, 0.003), (-0.005, 0.004)])
def test_expected_pairs_by_simulation(truth, sd):
    plan = expected_pairs(sd, MARGIN, truth)
    values = np.random.default_rng(6).normal(truth, sd, (REPLICATIONS, 15))
    found = stops(values, MARGIN)
    pairs = np.array([5, 7, 9, 12, 15])[found.look]
    assert found.crossed.mean() == pytest.approx(plan.power, abs=4 * 0.5 / math.sqrt(REPLICATIONS))
    assert pairs.mean() == pytest.approx(plan.pairs, abs=4 * pairs.std() / math.sqrt(REPLICATIONS) + 1e-3)
    assert sum(plan.stops) == pytest.approx(1)
    # Futility stops few series that would have been non-inferior at a later look.
    assert expected_pairs(sd, MARGIN, truth, futility=False).power == pytest.approx(plan.power, abs=0.01)


def test_a_larger_true_difference_has_more_power():
    assert expected_pairs(0.003, MARGIN, 0.001).power > expected_pairs(0.003, MARGIN, -0.001).power
    assert power(9, 0.003, MARGIN, 0.001) > power(9, 0.003, MARGIN, -0.001)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: power(1, 0.003, MARGIN), "n: "),
        (lambda: power(9, 0.0, MARGIN), "sd"),
        (lambda: power(9, math.nan, MARGIN), "sd"),
        (lambda: power(9, 0.003, 0.0), "margin"),
        (lambda: power(9, 0.003, MARGIN, math.nan), "truth"),
        (lambda: power(9, 0.003, MARGIN, 0.0, 0.5), "alpha"),
        (lambda: sample_size(0.003, MARGIN, -MARGIN), "truth"),
        (lambda: sample_size(0.003, MARGIN, target=1.0), "target"),
        (lambda: sample_size(0.9, 1e-5), "million"),
        (lambda: tost_power(1, 18, 19.2), "n: "),
        (lambda: tost_power(9, 18, -1), "margin"),
        (lambda: tost_power(9, 0, 1), "sd"),
        (lambda: tost_power(9, 18, 19.2, 0.0, 0.0), "alpha"),
        (lambda: sd_upper(-1.0, 8), "sd"),
        (lambda: sd_upper(1.0, 1), "n: "),
        (lambda: sd_upper(1.0, 8, 1.0), "level"),
        (lambda: plan_margin([0.1]), "insufficient"),
        (lambda: plan_margin([0.1, math.nan]), "differences"),
        (lambda: plan_margin([0.1, 0.2], cap=0.0), "cap"),
        (lambda: plan_margin([0.1, 0.2], level=0.4), "level"),
        (lambda: expected_pairs(0.003, MARGIN, looks=(5,)), "looks"),
    ],
)
def test_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
