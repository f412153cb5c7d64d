import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.error_rates import covered, tables
from invact.errors import InputError
from invact.statistics.comparison.inference import non_inferiority
from invact.statistics.sequential.boundaries import LOOKS, nominal_levels, stagewise_p
from invact.statistics.sequential.group_sequential import Decision, group_sequential, stops

MARGIN, SD, REPLICATIONS = 0.003, 0.002, 20_000


def arms(noise, correlation, truth, seed=0, pairs=LOOKS[-1], replications=REPLICATIONS):
    rng = np.random.default_rng(seed)
    draw = rng.standard_normal if noise == "normal" else lambda shape: rng.exponential(size=shape) - 1
    shape = (replications, pairs)
    common = math.sqrt(correlation) * draw(shape)
    control = 0.9 + SD * (common + math.sqrt(1 - correlation) * draw(shape))
    treatment = 0.9 + truth + SD * (common + math.sqrt(1 - correlation) * draw(shape))
    return treatment, control


def bound(alpha):
    return alpha + 2 * math.sqrt(alpha * (1 - alpha) / REPLICATIONS)


@pytest.mark.parametrize("noise", ["normal", "skewed"])
@pytest.mark.parametrize("correlation", [0, 0.5])
@pytest.mark.parametrize("futility", [True, False])
def test_type_one_error_at_the_margin(noise, correlation, futility):
    treatment, control = arms(noise, correlation, -MARGIN, seed=2 + int(2 * correlation))
    found = stops(treatment - control, MARGIN, futility=futility).crossed.mean()
    assert found <= bound(0.05)
    # With a two-sided level, or with a margin of the wrong sign, the rate would be far lower.
    assert found > 0.04
    # With swapped arms nearly all series reject, and with a margin of the wrong sign almost none.
    assert stops(control - treatment, MARGIN).crossed.mean() > 0.9
    assert stops(treatment - control, -MARGIN).crossed.mean() < 0.001


def test_group_sequential_agrees_with_stops():
    treatment, control = arms("normal", 0, -0.0015, seed=3, replications=6)
    many = stops(treatment - control, MARGIN)
    for series, look, crossed in zip(treatment - control, many.look, many.crossed, strict=True):
        result = group_sequential(series, MARGIN)
        assert result.n == LOOKS[look]
        assert (result.decision is Decision.NON_INFERIOR) == crossed
        assert len(result.taken) == look + 1
        low, high = result.interval
        assert low < result.estimate < high
        assert (low > -MARGIN) == crossed == (result.p_value < 0.05)
        assert (high < -MARGIN) == (result.p_inferior < 0.05) == (result.decision is Decision.INFERIOR)
        for theta, p, futility in ((low, 0.05, False), (high, 0.95, True), (result.estimate, 0.5, True)):
            x = series[: result.n] - theta
            t, shift = stats.ttest_1samp(x, 0).statistic, (theta + MARGIN) / np.sqrt(np.mean(x**2))
            assert stagewise_p([t], look, shift, futility=futility) == pytest.approx(p, abs=1e-5)
        for taken, level in zip(result.taken, nominal_levels(), strict=False):
            assert taken.p_value == non_inferiority(series[: taken.n], MARGIN).p_value
            assert taken.level == level
            assert (taken.p_value < level) == (crossed and taken.n == result.n)
        # Pairs after the stop change nothing.
        assert group_sequential(series[: result.n], MARGIN) == result


def test_a_stop_at_the_first_look_is_the_fixed_test():
    series = np.array([0.0001, 0.0, -0.0001, 0.0002, -0.0002])
    result, fixed = group_sequential(series, MARGIN), non_inferiority(series, MARGIN)
    assert result.decision is Decision.NON_INFERIOR
    assert result.p_value == pytest.approx(fixed.p_value, rel=1e-9)
    assert result.interval == pytest.approx(fixed.interval, abs=1e-9)
    assert result.estimate == pytest.approx(fixed.mean, abs=1e-9)


def test_adjusted_p_value_is_uniform_at_the_margin():
    treatment, control = arms("normal", 0, -MARGIN, seed=4)
    found = stops(treatment - control, MARGIN, futility=False)
    p_values = np.empty(REPLICATIONS)
    for look in range(len(LOOKS)):
        here = found.look == look
        # The p value is monotone in t, so exact values for 200 of them are interpolated.
        some = np.sort(found.t[here])[:: max(1, here.sum() // 200)]
        some = np.append(some, found.t[here].max())
        p_values[here] = np.interp(found.t[here], some, stagewise_p(some, look))
    assert stats.kstest(p_values, "uniform").pvalue > 0.001


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.025, 0.05])
def test_coverage_of_the_adjusted_interval(alpha):
    splines = tables(alpha)
    for truth in (-MARGIN, -MARGIN / 2, 0.0, MARGIN / 2):
        for ratio in (0.5, 0.7, 1.0, 1.5):
            values = np.random.default_rng(8).normal(truth, ratio * MARGIN, (REPLICATIONS, LOOKS[-1]))
            found = stops(values, MARGIN, alpha)
            lower, upper, above = covered(found, truth, alpha, splines)
            # Required coverage: 94 % at a level of 95 %, 88.5 % at 90 %, less 2 Monte Carlo errors.
            assert (
                2 * alpha - 0.01 <= 2 - lower - upper <= 2 * alpha * (1.15 if alpha > 0.03 else 1.2) + 0.004
            )
            assert above == pytest.approx(0.5, abs=0.025)


def test_continue_before_a_stop():
    series = [-0.001, 0.003, -0.004, 0.002, -0.006, 0.001]
    for n, taken in ((2, 0), (4, 0), (5, 1), (6, 1)):
        result = group_sequential(series[:n], MARGIN)
        assert result.decision is Decision.CONTINUE
        assert (len(result.taken), result.n) == (taken, 5 * taken)
        assert (result.p_value, result.p_inferior, result.estimate, result.interval) == (None,) * 4


def test_futility_starts_at_the_second_look_and_is_not_binding():
    rng = np.random.default_rng(9)
    inferior = rng.normal(-0.008, 0.002, 15)
    assert group_sequential(inferior[:5], MARGIN).decision is Decision.CONTINUE
    result = group_sequential(inferior, MARGIN)
    assert (result.n, result.decision) == (7, Decision.INFERIOR)
    assert result.interval[1] < -MARGIN
    assert group_sequential(inferior, MARGIN, futility=False).n == 15
    near = np.array([-0.004, -0.002, -0.0045, -0.0035, -0.002, -0.003, -0.0035])
    assert group_sequential(near, MARGIN).decision is Decision.FUTILE


def test_nothing_is_shown_at_the_last_look():
    series = np.array([-0.004, -0.001, 0.0005] * 5)
    assert group_sequential(series, 0.002).decision is Decision.NOT_SHOWN


def test_no_spread():
    equal = group_sequential([0.0] * 5, MARGIN)
    assert (equal.decision, equal.p_value, equal.interval) == (Decision.NON_INFERIOR, 0, (0, 0))
    worse = group_sequential([-0.01] * 7, MARGIN)
    assert (worse.decision, worse.p_inferior) == (Decision.INFERIOR, 0)
    on_it = group_sequential([0.3 - 0.4] * 7, 0.1)
    assert on_it.decision is Decision.FUTILE


@pytest.mark.parametrize(
    ("differences", "margin", "alpha", "looks", "message"),
    [
        ([0.0] * 16, MARGIN, 0.05, LOOKS, "last look"),
        ([0.0], MARGIN, 0.05, LOOKS, "insufficient"),
        ([0.0, math.nan], MARGIN, 0.05, LOOKS, "differences"),
        ([[0.0, 0.1]], MARGIN, 0.05, LOOKS, "shape"),
        ([0.0, 0.1], -0.1, 0.05, LOOKS, "margin"),
        ([0.0, 0.1], MARGIN, 0.5, LOOKS, "alpha"),
        ([0.0, 0.1], MARGIN, 0.05, (5,), "looks"),
        ([0.0, 0.1], MARGIN, 0.05, (7, 5), "looks"),
    ],
)
def test_refused(differences, margin, alpha, looks, message):
    with pytest.raises(InputError, match=message):
        group_sequential(differences, margin, alpha, looks)
