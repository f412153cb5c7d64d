import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from invact.errors import InputError
from invact.statistics.comparison.inference import (
    _two_one_sided,
    equivalence,
    holm,
    non_inferiority,
    superiority,
)

MARGIN, SD = 0.005, 0.004
SIZES = [8_000, pytest.param(20_000, marks=pytest.mark.slow)]
"""Numbers of replications: with 8,000, a level that is half of the right one is still detected."""

samples = st.lists(st.floats(-0.2, 0.2), min_size=2, max_size=30)
margins = st.floats(0.0005, 0.1)
alphas = st.sampled_from([0.01, 0.025, 0.05, 0.1])


def monte_carlo_error(rate: float, replications: int) -> float:
    return math.sqrt(rate * (1 - rate) / replications)


@given(samples, margins, alphas)
def test_non_inferiority_is_scipys_one_sample_t_test(differences, margin, alpha):
    assume(np.ptp(differences) > 1e-9)
    test = non_inferiority(differences, margin, alpha)
    above = stats.ttest_1samp(differences, -margin, alternative="greater")
    below = stats.ttest_1samp(differences, -margin, alternative="less")
    assert test.t == pytest.approx(above.statistic, rel=1e-9, abs=1e-9)
    assert test.p_value == pytest.approx(above.pvalue, rel=1e-6, abs=1e-12)
    assert test.p_inferior == pytest.approx(below.pvalue, rel=1e-6, abs=1e-12)
    interval = stats.ttest_1samp(differences, 0).confidence_interval(1 - 2 * alpha)
    assert test.interval == pytest.approx((interval.low, interval.high), rel=1e-9, abs=1e-12)
    assert (test.n, test.margin, test.alpha) == (len(differences), margin, alpha)
    assert (test.mean, test.sd) == pytest.approx((np.mean(differences), np.std(differences, ddof=1)))


@given(samples, margins, alphas)
def test_interval_and_test_agree(differences, margin, alpha):
    test = non_inferiority(differences, margin, alpha)
    low, high = test.interval
    assume(abs(low + margin) > 1e-9 and abs(high + margin) > 1e-9)
    assert (low > -margin) == (test.p_value < alpha)
    assert (high < -margin) == (test.p_inferior < alpha)


def test_very_small_p_values_are_precise():
    differences = np.linspace(0.0199, 0.0201, 30)
    test = non_inferiority(differences, MARGIN)
    expected = stats.ttest_1samp(differences, -MARGIN, alternative="greater").pvalue
    assert 0 < test.p_value < 1e-40
    assert test.p_value == pytest.approx(expected, rel=1e-6)


def test_direction_of_the_margin_and_of_the_arms():
    # A loss of 0.3 points is within a margin of 0.5 points and exceeds a margin of 0.1 points. A gain is
    # never inferior.
    loss = np.array([-0.0035, -0.0025, -0.003, -0.0032, -0.0028])
    assert non_inferiority(loss, 0.005).p_value < 0.001
    assert non_inferiority(loss, 0.001).p_inferior < 0.001
    assert non_inferiority(-loss, 0.001).p_value < 0.001
    assert non_inferiority(2 * loss, 0.004).p_inferior < 0.01


@pytest.mark.parametrize(
    ("difference", "margin", "expected"),
    [
        (0.0, 0.005, (math.inf, 0.0, 1.0)),
        (-0.004, 0.005, (math.inf, 0.0, 1.0)),
        (-0.006, 0.005, (-math.inf, 1.0, 0.0)),
        (-0.005, 0.005, (0.0, 1.0, 1.0)),
        # Accuracies whose differences are equal except for rounding.
        (0.3 - 0.4, 0.1, (0.0, 1.0, 1.0)),
    ],
)
def test_no_spread(difference, margin, expected):
    test = non_inferiority([difference] * 4, margin)
    assert (test.t, test.p_value, test.p_inferior) == expected
    assert test.sd == 0
    assert test.interval == pytest.approx((difference, difference))


def test_differences_equal_up_to_rounding_have_no_spread():
    differences = [0.93 - 0.94, 0.92 - 0.93, 0.5 - 0.51]
    assert np.ptp(differences) > 0
    test = non_inferiority(differences, 0.01)
    assert (test.sd, test.p_value, test.p_inferior) == (0, 1, 1)


@pytest.mark.parametrize(
    ("differences", "margin", "alpha", "message"),
    [
        ([], 0.005, 0.05, "insufficient"),
        ([0.1], 0.005, 0.05, "insufficient"),
        ([[0.1, 0.2]], 0.005, 0.05, "shape"),
        (0.1, 0.005, 0.05, "shape"),
        ([0.1, math.nan], 0.005, 0.05, "differences"),
        ([0.1, math.inf], 0.005, 0.05, "differences"),
        ([0.1, -1.5], 0.005, 0.05, "differences"),
        ([0.1, 0.2], 0.0, 0.05, "margin"),
        ([0.1, 0.2], -0.005, 0.05, "margin"),
        ([0.1, 0.2], 1.0, 0.05, "margin"),
        ([0.1, 0.2], math.nan, 0.05, "margin"),
        ([0.1, 0.2], 0.005, 0.0, "alpha"),
        ([0.1, 0.2], 0.005, 0.5, "alpha"),
        ([0.1, 0.2], 0.005, math.nan, "alpha"),
    ],
)
def test_refused(differences, margin, alpha, message):
    with pytest.raises(InputError, match=message):
        non_inferiority(differences, margin, alpha)
    if message != "alpha":
        with pytest.raises(InputError, match=message):
            equivalence(differences, margin)


@pytest.mark.parametrize("n", [3, 10])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize("replications", SIZES)
def test_type_one_error_at_the_boundary(n, alpha, replications):
    noise = np.random.default_rng(n).normal(-MARGIN, SD, (replications, n))
    tests = [non_inferiority(differences, MARGIN, alpha) for differences in noise]
    supported = np.mean([test.p_value < alpha for test in tests])
    refuted = np.mean([test.p_inferior < alpha for test in tests])
    error = monte_carlo_error(alpha, replications)
    # The upper limit is the required level. The lower limit detects a test with half the level, such as a
    # two-sided test.
    assert alpha - 4 * error < supported <= alpha + 2 * error
    assert alpha - 4 * error < refuted <= alpha + 2 * error


@pytest.mark.parametrize("truth", [0.0, -0.002])
@pytest.mark.parametrize("replications", SIZES)
def test_power_is_that_of_the_noncentral_t(truth, replications):
    n, alpha = 6, 0.05
    noise = np.random.default_rng(7).normal(truth, SD, (replications, n))
    found = np.mean([non_inferiority(differences, MARGIN, alpha).p_value < alpha for differences in noise])
    shift = (truth + MARGIN) / (SD / math.sqrt(n))
    power = stats.nct.sf(stats.t.isf(alpha, n - 1), n - 1, shift)
    assert 0.3 < power < 0.99
    assert found == pytest.approx(power, abs=4 * monte_carlo_error(power, replications))


@pytest.mark.parametrize(
    ("truths", "false"),
    [
        ((-MARGIN, -MARGIN, -MARGIN), (0, 1, 2)),
        ((-MARGIN, -MARGIN, 0.05), (0, 1)),
    ],
)
@pytest.mark.parametrize("replications", SIZES)
def test_family_wise_error(truths, false, replications):
    # Holm's method keeps the level if the claim is true on some data sets only. Adjusting by the number of
    # the remaining hypotheses would not.
    alpha = 0.05
    noise = np.random.default_rng(11).normal(np.reshape(truths, (3, 1)), SD, (replications, 3, 5))
    errors = 0
    for sets in noise:
        adjusted = holm([non_inferiority(d, MARGIN, alpha).p_value for d in sets])
        errors += bool((adjusted[list(false)] < alpha).any())
    rate = errors / replications
    expected = 1 - (1 - alpha / len(false)) ** len(false)
    assert rate <= alpha + 2 * monte_carlo_error(alpha, replications)
    assert rate > expected - 5 * monte_carlo_error(alpha, replications)


@given(samples)
def test_superiority_is_scipys_one_sample_t_test(differences):
    assume(np.ptp(differences) > 1e-6)
    expected = stats.ttest_1samp(differences, 0, alternative="greater")
    found = superiority(differences)
    assert found.p_value == pytest.approx(expected.pvalue, abs=1e-12)
    assert found.margin == 0


def test_equivalence_golden_values():
    # Lakens 2017: 65 pairs, means 5.83 and 5.75, sd 1.17 and 1.29, r = 0.75, bounds of 0.4 sd.
    sd = math.sqrt(1.17**2 + 1.29**2 - 2 * 0.75 * 1.17 * 1.29)
    result = _two_one_sided(5.83 - 5.75, sd, 65, 0.4 * sd)
    assert (result.t_lower, result.t_upper) == pytest.approx((3.960381, -2.489426), abs=1e-6)
    assert (result.p_lower, result.p_upper) == pytest.approx((9.5317e-5, 0.00770235), rel=1e-4)
    assert result.p_value == result.p_upper


@given(samples, margins)
def test_equivalence_is_non_inferiority_both_ways(differences, margin):
    result = equivalence(differences, margin)
    one, other = (non_inferiority(sign * np.array(differences), margin) for sign in (1, -1))
    assert (result.p_lower, result.p_upper) == pytest.approx((one.p_value, other.p_value), rel=1e-9)
    assert result.p_value == max(result.p_lower, result.p_upper)


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_against_its_definition(p_values):
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    expected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        expected[index] = largest
    assert holm(p_values).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("p_values", [[0.5], [0.03, 0.01, 0.02], [0.9, 0.04, 0.04, 0.001, 0.6, 0.013]])
def test_holm_against_statsmodels(p_values):
    assert holm(p_values).tolist() == pytest.approx(multipletests(p_values, method="holm")[1])


@pytest.mark.parametrize("p_values", [[0.1, math.nan], [-0.1], [1.1], [[0.1]]])
def test_holm_refuses(p_values):
    with pytest.raises(InputError, match="p values"):
        holm(p_values)
