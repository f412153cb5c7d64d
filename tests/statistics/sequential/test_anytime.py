import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from invact.errors import InputError
from invact.statistics.sequential.anytime import _sequence, anytime, e_values
from invact.statistics.sequential.group_sequential import Decision

MARGIN, SD, REPLICATIONS, PAIRS = 0.003, 0.002, 20_000, 60


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(-0.02, 0.02), min_size=3, max_size=12), st.sampled_from([0.5, 1.0, 2.0]))
def test_e_value_is_the_mixture_of_t_likelihood_ratios(differences, scale):
    x = np.array(differences) + MARGIN
    n = len(x)
    if np.ptp(x) < 1e-4:
        return
    t = stats.ttest_1samp(x, 0).statistic
    null = stats.t.pdf(t, n - 1)
    expected, _ = integrate.quad(
        lambda d: stats.nct.pdf(t, n - 1, d * math.sqrt(n)) / null * 2 * stats.norm.pdf(d, 0, scale),
        0,
        8 * scale,
        limit=200,
    )
    assert e_values(differences, MARGIN, scale)[-1] == pytest.approx(expected, rel=1e-4)


def test_e_value_is_a_martingale_at_the_margin():
    values = np.random.default_rng(1).normal(-MARGIN, SD, (200_000, 6))
    e = e_values(values, MARGIN)
    for n in range(6):
        mean, error = e[:, n].mean(), e[:, n].std() / math.sqrt(len(e))
        assert mean == pytest.approx(1, abs=4 * error)


@pytest.mark.parametrize("noise", ["normal", "skewed"])
@pytest.mark.parametrize("correlation", [0, 0.5])
def test_type_one_error_at_the_margin(noise, correlation):
    rng = np.random.default_rng(2 + int(2 * correlation))
    draw = rng.standard_normal if noise == "normal" else lambda shape: rng.exponential(size=shape) - 1
    common, one, two = (draw((REPLICATIONS, PAIRS)) for _ in range(3))
    shared, own = math.sqrt(correlation), math.sqrt(1 - correlation)
    treatment, control = SD * (shared * common + own * one) - MARGIN, SD * (shared * common + own * two)
    found = (e_values(treatment - control, MARGIN) >= 20).any(axis=1).mean()
    assert found <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / REPLICATIONS)
    assert found > 0.01
    # A mean further below -margin gives fewer rejections. With swapped arms nearly all series reject.
    assert (e_values(treatment - control - 0.001, MARGIN) >= 20).any(axis=1).mean() < found
    assert (e_values(control - treatment, MARGIN) >= 20).any(axis=1).mean() > 0.9


def test_the_confidence_sequence_inverts_the_e_process():
    truth, alpha, series = -0.001, 0.05, np.random.default_rng(3).normal(-0.001, SD, (500, 30))
    missed = 0
    for values in series:
        low, high = _sequence(values, alpha, 1.0)
        assert (low >= truth) == (e_values(values, -truth)[1:].max() >= 1 / alpha)
        assert (high <= truth) == (e_values(-values, truth)[1:].max() >= 1 / alpha)
        missed += not low < truth < high
    assert 0 < missed / len(series) <= 2 * alpha


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-0.01, 0.01), min_size=2, max_size=20), st.sampled_from([0.05, 0.025, 0.2]))
def test_interval_and_decision_agree(differences, alpha):
    result = anytime(differences, MARGIN, alpha)
    if np.ptp(differences) < 1e-4:
        return
    low, high = result.interval
    if result.decision is Decision.NON_INFERIOR and result.n > 1:
        assert low > -MARGIN - 1e-9
        assert result.p_value <= alpha
    if result.decision is Decision.INFERIOR and result.n > 1:
        assert high < -MARGIN + 1e-9
        assert result.p_inferior <= alpha
    if result.decision is Decision.CONTINUE:
        assert low <= -MARGIN + 1e-9
        assert high >= -MARGIN - 1e-9
        assert result.n == len(differences)
        assert min(result.p_value, result.p_inferior) > alpha


def test_directions_and_no_spread():
    assert anytime([0.0] * 8, MARGIN).decision is Decision.NON_INFERIOR
    assert anytime([-0.02] * 8, MARGIN).decision is Decision.INFERIOR
    on_it = anytime([-MARGIN] * 8, MARGIN)
    assert (on_it.decision, on_it.e_value, on_it.p_value) == (Decision.CONTINUE, 1, 1)


@pytest.mark.parametrize(
    ("differences", "margin", "alpha", "scale", "message"),
    [
        ([0.1], MARGIN, 0.05, 1.0, "insufficient"),
        ([0.1, math.nan], MARGIN, 0.05, 1.0, "differences"),
        ([0.1, 0.2], -0.1, 0.05, 1.0, "margin"),
        ([0.1, 0.2], MARGIN, 0.5, 1.0, "alpha"),
        ([0.1, 0.2], MARGIN, 0.05, 0.0, "scale"),
        ([0.1, 0.2], MARGIN, 0.05, math.nan, "scale"),
    ],
)
def test_refused(differences, margin, alpha, scale, message):
    with pytest.raises(InputError, match=message):
        anytime(differences, margin, alpha, scale)
