import math

import numpy as np
import pytest
from helpers import holm_of_statsmodels
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from invact.errors import InputError
from invact.statistics.comparison.inference import RESOLUTION, checked, holm, welch

MARGIN = 0.005
SIZES = [8_000, pytest.param(40_000, marks=pytest.mark.slow)]
"""Numbers of replications: with 8,000, a level that is half of the right one is still detected."""

# Counts over 10,000 test images.
arms = st.lists(st.integers(8_500, 9_500), min_size=2, max_size=20).map(lambda counts: np.array(counts) / 1e4)
margins = st.sampled_from([0.0, 0.001, 0.005, 0.1])
floors = st.sampled_from([0.0, 0.00005, 0.003, 0.05])
levels = st.sampled_from([0.001, 0.0125, 0.025, 0.05])


def from_stats(treatment, other, margin, floor, alternative):
    """Welch's test of scipy, on standard deviations that are at least the floor."""
    numbers = []
    for arm, shift in ((treatment, margin), (other, 0.0)):
        numbers += [np.mean(arm) + shift, max(np.std(arm, ddof=1), floor), len(arm)]
    return stats.ttest_ind_from_stats(*numbers, equal_var=False, alternative=alternative)


@given(arms, arms, margins, levels)
def test_against_scipy(treatment, other, margin, level):
    assume(min(np.ptp(treatment), np.ptp(other)) > 0)
    test = welch(treatment, other, margin)
    above, below = (
        stats.ttest_ind(treatment + margin, other, equal_var=False, alternative=side)
        for side in ("greater", "less")
    )
    assert test.t == pytest.approx(above.statistic, rel=1e-9, abs=1e-9)
    assert test.df == pytest.approx(above.df, rel=1e-9)
    assert test.p_value == pytest.approx(above.pvalue, rel=1e-6, abs=1e-12)
    assert test.p_inferior == pytest.approx(below.pvalue, rel=1e-6, abs=1e-12)
    both = stats.ttest_ind(treatment, other, equal_var=False).confidence_interval(1 - 2 * level)
    assert test.interval(level) == pytest.approx((both.low, both.high), rel=1e-9, abs=1e-12)
    assert (test.runs, test.margin) == ((len(treatment), len(other)), margin)
    assert test.difference == pytest.approx(np.mean(treatment) - np.mean(other), abs=1e-15)
    assert test.error == pytest.approx(math.hypot(stats.sem(treatment), stats.sem(other)))


@given(arms, arms, margins, floors)
def test_each_standard_deviation_is_at_least_the_floor(treatment, other, margin, floor):
    assume(floor > 0 or max(np.ptp(treatment), np.ptp(other)) > 0)
    test = welch(treatment, other, margin, floor)
    for side, p_value in (("greater", test.p_value), ("less", test.p_inferior)):
        expected = from_stats(treatment, other, margin, floor, side)
        assert test.t == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)
        assert p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)


def test_the_floor_by_hand():
    # The treatment has no spread, so its variance is the floor squared, 4e-6; that of the other arm is 2e-4.
    # Squared errors of the means: 4e-6 / 4 = 1e-6 and 2e-4 / 2 = 1e-4.
    test = welch([0.9] * 4, [0.90, 0.92], margin=0.02, floor=0.002)
    assert test.error == pytest.approx(math.sqrt(1.01e-4))
    assert test.t == pytest.approx(0.01 / math.sqrt(1.01e-4))
    assert test.df == pytest.approx(1.01e-4**2 / (1e-6**2 / 3 + 1e-4**2 / 1))
    # A floor below the standard deviation of both arms changes nothing.
    spread = ([0.90, 0.91, 0.92], [0.90, 0.92])
    assert welch(*spread, 0.02, 0.009) == welch(*spread, 0.02)


def test_published_example():
    # Student's data on hours of sleep, and what t.test(extra ~ group, data = sleep) of R prints. The data are
    # moved into [0, 1], which changes neither t nor the p value.
    one = (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0)
    two = (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4)
    test = welch(*((np.array(hours) + 2) / 10 for hours in (one, two)))
    assert test.t == pytest.approx(-1.8608, abs=5e-5)
    assert test.df == pytest.approx(17.776, abs=5e-4)
    assert 2 * test.p_inferior == pytest.approx(0.07939, abs=5e-6)
    assert [10 * end for end in test.interval(0.025)] == pytest.approx([-3.3654832, 0.2054832], abs=5e-8)


@given(arms, arms, margins, floors, levels)
def test_interval_and_test_agree(treatment, other, margin, floor, level):
    test = welch(treatment, other, margin, floor)
    low, high = test.interval(level)
    assume(abs(low + margin) > 1e-9 and abs(high + margin) > 1e-9)
    assert (low > -margin) == (test.p_value < level)
    assert (high < -margin) == (test.p_inferior < level)


@given(arms, arms, floors, levels)
def test_swapped_arms_mirror_the_result(treatment, other, floor, level):
    test, swapped = welch(treatment, other, 0.0, floor), welch(other, treatment, 0.0, floor)
    assert (swapped.t, swapped.df, swapped.difference) == (-test.t, test.df, -test.difference)
    assert (swapped.p_value, swapped.p_inferior) == (test.p_inferior, test.p_value)
    assert swapped.runs == test.runs[::-1]
    low, high = test.interval(level)
    assert swapped.interval(level) == pytest.approx((-high, -low), abs=1e-15)


@given(arms, arms, floors)
def test_a_larger_margin_is_easier_to_show(treatment, other, floor):
    p_values = [welch(treatment, other, margin, floor).p_value for margin in (0, 0.001, 0.01, 0.1)]
    assert p_values == sorted(p_values, reverse=True)


def test_very_small_p_values_are_precise():
    treatment, other = np.linspace(0.9199, 0.9201, 30), np.linspace(0.8999, 0.9001, 30)
    test = welch(treatment, other, MARGIN)
    expected = stats.ttest_ind(treatment + MARGIN, other, equal_var=False, alternative="greater").pvalue
    assert 0 < test.p_value < 1e-40
    assert test.p_value == pytest.approx(expected, rel=1e-6)


def test_direction_of_the_margin_and_of_the_arms():
    # A loss of 0.3 points is within a margin of 0.5 points and exceeds a margin of 0.1 points. A gain is
    # never inferior.
    better = np.array([0.900, 0.9002, 0.8998, 0.9001])
    worse = np.array([0.897, 0.8972, 0.8968, 0.8971, 0.8969])
    assert welch(worse, better, 0.005).p_value < 0.001
    assert welch(worse, better, 0.001).p_inferior < 0.001
    assert welch(better, worse, 0.001).p_value < 0.001
    assert welch(better, worse, 0.001).p_inferior > 0.999


@pytest.mark.parametrize(
    ("treatment", "other", "margin", "expected"),
    [
        (0.9, 0.9, 0.005, (math.inf, 0.0, 1.0)),
        (0.896, 0.9, 0.005, (math.inf, 0.0, 1.0)),
        (0.894, 0.9, 0.005, (-math.inf, 1.0, 0.0)),
        (0.5, 0.5, 0.0, (0.0, 1.0, 1.0)),
        # The loss is equal to the margin except for rounding.
        (0.3, 0.4, 0.1, (0.0, 1.0, 1.0)),
    ],
)
def test_no_spread(treatment, other, margin, expected):
    test = welch([treatment] * 4, [other] * 3, margin)
    assert (test.t, test.p_value, test.p_inferior) == expected
    assert (test.error, test.df) == (0, 5)
    assert test.interval(0.025) == pytest.approx((treatment - other,) * 2)


def test_accuracies_equal_up_to_rounding_have_no_spread():
    arm = [0.1 + 0.2, 0.3, 1 - 0.7]
    assert 0 < np.ptp(arm) < RESOLUTION
    test = welch(arm, [0.4, 0.4], 0.1)
    assert (test.error, test.p_value, test.p_inferior) == (0, 1, 1)


def test_one_arm_without_spread_leaves_the_other_alone():
    # This is a one-sample t test of the other arm.
    other = [0.90, 0.91, 0.92, 0.915]
    test = welch([0.91] * 6, other, MARGIN)
    expected = stats.ttest_1samp(other, 0.91 + MARGIN, alternative="less")
    assert (test.df, test.p_value) == pytest.approx((3, expected.pvalue))


OK = [0.90, 0.91, 0.92]


@pytest.mark.parametrize(
    ("treatment", "other", "margin", "floor", "message"),
    [
        ([], OK, 0.005, 0.0, r"treatment: insufficient: received 0 runs\. Allowed: 2 or more"),
        (OK, [0.9], 0.005, 0.0, r"other: insufficient: received 1 runs\. Allowed: 2 or more"),
        ([OK], OK, 0.005, 0.0, r"treatment: received shape \(1, 3\)\. Allowed: \(n,\), one for each run"),
        (OK, 0.9, 0.005, 0.0, r"other: received shape \(\)\. Allowed"),
        ([0.9, math.nan], OK, 0.005, 0.0, "treatment: received an accuracy that is not a fraction"),
        (OK, [0.9, math.inf], 0.005, 0.0, "other: received an accuracy that is not a fraction"),
        (OK, [90.0, 91.0], 0.005, 0.0, "other: received an accuracy that is not a fraction"),
        ([-0.1, 0.9], OK, 0.005, 0.0, "treatment: received an accuracy that is not a fraction"),
        (OK, OK, -0.005, 0.0, r"margin: received -0\.005\. Allowed: a fraction in \(0, 1\)"),
        (OK, OK, 1.0, 0.0, "margin: received 1"),
        (OK, OK, math.nan, 0.0, "margin: received nan"),
        (OK, OK, 0.005, -0.001, r"floor: received -0\.001\. Allowed: a fraction in \[0, 1\)"),
        (OK, OK, 0.005, 1.0, "floor: received 1"),
        (OK, OK, 0.005, math.nan, "floor: received nan"),
    ],
)
def test_refused(treatment, other, margin, floor, message):
    with pytest.raises(InputError, match=message):
        welch(treatment, other, margin, floor)


def test_checked_returns_the_accuracies():
    found = checked([0, 0.5, 1], "arm")
    assert (found.dtype, found.tolist()) == (np.float64, [0, 0.5, 1])


def pooled_p(treatment, other, margin):
    return stats.ttest_ind(treatment + margin, other, axis=1, alternative="greater").pvalue


@pytest.mark.parametrize(
    ("runs", "sds"),
    [
        ((6, 6), (0.001, 0.001)),
        ((8, 8), (0.004, 0.001)),
        ((6, 18), (0.002, 0.001)),
        ((18, 6), (0.004, 0.001)),
    ],
)
@pytest.mark.parametrize("replications", SIZES)
def test_type_one_error_at_the_margin(runs, sds, replications):
    # Welch's test is an approximation: at a level of 0.025, its error is 0.0229 to 0.0271 in these cases.
    level = 0.025
    rng = np.random.default_rng(runs)
    treatment = rng.normal(0.9 - MARGIN, sds[0], (replications, runs[0]))
    other = rng.normal(0.9, sds[1], (replications, runs[1]))
    tests = [welch(*pair, MARGIN) for pair in zip(treatment, other, strict=True)]
    least = stats.binom.ppf(0.0005, replications, 0.9 * level)
    most = stats.binom.isf(0.0005, replications, 1.1 * level)
    for name in ("p_value", "p_inferior"):
        errors = sum(getattr(test, name) < level for test in tests)
        # The lower limit detects a test at half the level, such as a two-sided test.
        assert least <= errors <= most
    if runs[0] != runs[1]:
        # The simulation detects a test that assumes equal spreads.
        pooled = (pooled_p(treatment, other, MARGIN) < level).sum()
        assert not least <= pooled <= most


@pytest.mark.parametrize("truth", [0.0, -0.002])
@pytest.mark.parametrize("replications", SIZES)
def test_power_with_equal_spreads(truth, replications):
    # With equal n the statistic is that of the pooled test. The p values of Welch's test are a little larger,
    # because its degrees of freedom are between n - 1 and 2 n - 2.
    n, level, sd = 6, 0.025, 0.003
    rng = np.random.default_rng(7)
    treatment, other = (rng.normal(0.9 + mean, sd, (replications, n)) for mean in (truth, 0.0))
    shown = sum(welch(*pair, MARGIN).p_value < level for pair in zip(treatment, other, strict=True))
    shift = (truth + MARGIN) / (sd * math.sqrt(2 / n))
    most, least = (stats.nct.sf(stats.t.isf(level, df), df, shift) for df in (2 * n - 2, n - 1))
    assert 0.2 < least < most < 0.9
    assert stats.binom.ppf(0.0005, replications, least) <= shown
    assert shown <= stats.binom.isf(0.0005, replications, most)


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
    level, n = 0.05, 8
    rng = np.random.default_rng(11)
    treatment = rng.normal(0.9 + np.reshape(truths, (3, 1)), 0.002, (replications, 3, n))
    other = rng.normal(0.9, 0.002, (replications, 3, n))
    errors = 0
    for ours, theirs in zip(treatment, other, strict=True):
        adjusted = holm([welch(*pair, MARGIN).p_value for pair in zip(ours, theirs, strict=True)])
        errors += bool((adjusted[list(false)] < level).any())
    # At least one of m independent tests at level / m is wrong with this probability. Welch's test itself is
    # up to a tenth below its level.
    expected = 1 - (1 - 0.9 * level / len(false)) ** len(false)
    assert errors <= stats.binom.isf(0.0005, replications, level)
    assert errors >= stats.binom.ppf(0.0005, replications, expected)


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
    assert holm(p_values).tolist() == pytest.approx(holm_of_statsmodels(p_values))


@pytest.mark.parametrize("p_values", [[0.1, math.nan], [-0.1], [1.1], [[0.1]]])
def test_holm_refuses(p_values):
    with pytest.raises(InputError, match="p values"):
        holm(p_values)
