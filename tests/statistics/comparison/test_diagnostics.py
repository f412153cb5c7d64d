import itertools
import math
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import PathCollection
from scipy import optimize, stats

from invact.errors import InputError
from invact.reports.figures import qq_figure
from invact.statistics.comparison.diagnostics import EXACT, diagnose, normal_envelope, sign_flip, spread_ratio
from invact.statistics.comparison.inference import non_inferiority

MARGIN = 0.004
# Counts over 1,000 test images.
counts = st.lists(st.tuples(st.integers(900, 950), st.integers(900, 950)), min_size=2, max_size=9)


def arms(n=8, seed=0, sd=(0.002, 0.002), truth=0.0):
    rng = np.random.default_rng(seed)
    return 0.9 + rng.normal(0, sd[0], n), 0.9 + truth + rng.normal(0, sd[1], n)


def flips(pairs, margin):
    """P value from all assignments of signs, in exact arithmetic."""
    shifted = [Fraction(new - old, 1000) + margin for old, new in pairs]
    signs = itertools.product((1, -1), repeat=len(shifted))
    sums = [sum(sign * x for sign, x in zip(some, shifted, strict=True)) for some in signs]
    return Fraction(sum(total >= sum(shifted) for total in sums), len(sums))


@settings(max_examples=40, deadline=None)
@given(counts, st.integers(1, 20))
def test_sign_flips_against_every_assignment(pairs, thousandths):
    old, new = np.array(pairs).T / 1000
    found = sign_flip(new - old, thousandths / 1000)
    assert found.exact
    assert found.p_value == pytest.approx(float(flips(pairs, Fraction(thousandths, 1000))), abs=1e-12)


def test_many_sign_flips_are_drawn():
    control, treatment = arms(EXACT + 1, seed=2, truth=-0.003)
    found = sign_flip(treatment - control, MARGIN)
    assert not found.exact
    assert found == sign_flip(treatment - control, MARGIN)
    signs = 1 - 2 * ((np.arange(2 ** (EXACT + 1))[:, None] >> np.arange(EXACT + 1)) & 1)
    sums = signs @ (treatment - control + MARGIN)
    expected = np.mean(sums >= sums[0] - 1e-12)
    assert 0.005 < expected < 0.2
    assert found.p_value == pytest.approx(expected, abs=4 * math.sqrt(expected / 1e5))
    # The observed assignment always counts, so the p value is never 0.
    assert sign_flip(np.full(40, 0.001), MARGIN).p_value == pytest.approx(1e-5)


def test_sign_flips_keep_the_level_with_long_tails():
    # The noise is symmetric. At the margin, a share of k / 2^n of the p values is at most k / 2^n.
    noise = np.random.default_rng(3).standard_cauchy((2_000, 6)).clip(-50, 50) / 100 - 0.3
    p_values = np.array([sign_flip(row.clip(-1, 1), 0.3).p_value for row in noise[:, :6]])
    for level in (1 / 64, 3 / 64, 8 / 64):
        assert np.mean(p_values <= level) == pytest.approx(level, abs=4 * math.sqrt(level / 2_000))


@pytest.mark.parametrize("truth", [0.0, -0.003])
def test_each_seed_left_out_is_scipys_paired_test(truth):
    control, treatment = arms(truth=truth)
    found = diagnose(control, treatment, MARGIN)
    assert found.n == len(found.left_out) == 8
    for pair, p_value in enumerate(found.left_out):
        rest = np.arange(8) != pair
        expected = stats.ttest_rel(treatment[rest] + MARGIN, control[rest], alternative="greater").pvalue
        assert p_value == pytest.approx(expected, rel=1e-6)
    assert found.left_out[found.worst] == max(found.left_out)


@pytest.mark.parametrize("alpha", [0.05, 0.025])
@pytest.mark.parametrize("truth", [-0.002, 0.01])
def test_the_test_is_significant_exactly_above_the_smallest_margin(alpha, truth):
    control, treatment = arms(truth=truth)
    found = diagnose(control, treatment, MARGIN, alpha).smallest_margin

    def p_value(margin):
        return stats.ttest_1samp(treatment - control, -margin, alternative="greater").pvalue

    if truth > 0:
        assert found == 0
        assert p_value(0) < alpha
    else:
        assert found == pytest.approx(optimize.brentq(lambda m: p_value(m) - alpha, 0, 0.1), abs=1e-9)
        assert non_inferiority(treatment - control, found * 1.0001, alpha).p_value < alpha
        assert non_inferiority(treatment - control, found * 0.9999, alpha).p_value > alpha


@pytest.mark.parametrize("n", [2, 3, 8, 20])
def test_quantiles_for_the_plot(n):
    control, treatment = arms(n)
    found = diagnose(control, treatment, MARGIN)
    middle = [(rank - 0.3175) / (n + 0.365) for rank in range(1, n + 1)]
    middle[0], middle[-1] = 1 - 0.5 ** (1 / n), 0.5 ** (1 / n)
    assert found.quantiles == pytest.approx([NormalDist().inv_cdf(share) for share in middle])
    assert (found.quantiles, found.ordered) == tuple(
        tuple(values) for values in stats.probplot(treatment - control, fit=False)
    )
    assert found.ordered == tuple((treatment - control)[list(found.order)])


@given(st.integers(3, 12), st.integers(0, 1000), st.sampled_from([0.8, 0.9, 0.95]))
@settings(max_examples=40, deadline=None)
def test_the_correlation_test_rejects_outside_the_spread_interval(n, seed, confidence):
    control, treatment = arms(n, seed, sd=(0.01, 0.015))
    ratio, (low, high) = spread_ratio(control, treatment, confidence)
    assert ratio == pytest.approx(np.std(treatment) / np.std(control))
    for k in (low, high):
        test = stats.pearsonr(treatment - k * control, treatment + k * control)
        assert test.pvalue == pytest.approx(1 - confidence, rel=1e-6)
    assert low < ratio < high


def test_the_spread_interval_covers():
    rng = np.random.default_rng(4)
    covered = 0
    for pair in rng.multivariate_normal([0.9, 0.9], [[1e-4, 1e-4], [1e-4, 4e-4]], (4_000, 6)):
        _, (low, high) = spread_ratio(*pair.clip(0, 1).T)
        covered += low < 2 < high
    assert covered / 4_000 == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 4_000))


def test_diagnose_uses_the_level_of_the_test_for_the_spread_interval():
    control, treatment = arms(sd=(0.002, 0.008))
    found = diagnose(control, treatment, MARGIN, alpha=0.025)
    assert (found.spread_ratio, found.spread_interval) == spread_ratio(control, treatment, 0.95)
    assert found.spread_interval[0] > 1
    swapped = diagnose(treatment, control, MARGIN, alpha=0.025)
    assert swapped.spread_ratio == pytest.approx(1 / found.spread_ratio)


def test_two_pairs():
    found = diagnose([0.9, 0.91], [0.902, 0.911], MARGIN)
    assert (found.left_out, found.worst, found.spread_interval) == ((), None, None)
    assert found.spread_ratio == pytest.approx(0.9)
    assert found.sign_flip.p_value == 0.25


@pytest.mark.parametrize("n", [2, 5])
def test_no_spread(n):
    same = diagnose([0.9] * n, [0.9] * n, MARGIN)
    assert (same.spread_ratio, same.spread_interval, same.smallest_margin) == (None, None, 0)
    assert set(same.left_out) <= {0}
    assert same.sign_flip.p_value == 0.5**n
    # Differences equal to -margin, except for rounding: neither non-inferiority nor inferiority is shown.
    on_it = diagnose([0.4] * n, [0.3] * n, 0.1)
    assert set(on_it.left_out) <= {1}
    assert on_it.sign_flip.p_value == 1
    assert on_it.smallest_margin == pytest.approx(0.1)
    constant = diagnose([0.9, 0.91, 0.92], [0.9] * 3, MARGIN)
    assert (constant.spread_ratio, constant.spread_interval) == (0, None)
    alike = diagnose([0.9, 0.91, 0.92], [0.91, 0.92, 0.93], MARGIN)
    assert alike.spread_interval == pytest.approx((1, 1), abs=1e-6)


@pytest.mark.parametrize("n", [3, 8, 15])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_envelope_contains_whole_samples(n, confidence):
    low, high = normal_envelope(n, confidence)
    drawn = np.sort(np.random.default_rng(5).normal(3, 7, (20_000, n)), axis=1)
    drawn = (drawn - drawn.mean(axis=1, keepdims=True)) / drawn.std(axis=1, ddof=1, keepdims=True)
    outside = (drawn < low) | (drawn > high)
    assert 1 - outside.any(axis=1).mean() == pytest.approx(confidence, abs=0.012)
    # All points are outside the limits about equally often.
    shares = outside.mean(axis=0)
    assert shares.max() < 1.4 * shares.min() + 0.002
    assert low == pytest.approx(-high[::-1])


OK = [0.9, 0.91, 0.92]


@pytest.mark.parametrize(
    ("control", "treatment", "margin", "alpha", "message"),
    [
        (OK, [0.9, 0.91], MARGIN, 0.05, "treatment: received 2 seeds. Allowed: 3, as for the control"),
        ([0.9], [0.9], MARGIN, 0.05, "control: insufficient"),
        (OK, [], MARGIN, 0.05, "treatment: insufficient"),
        ([OK], [OK], MARGIN, 0.05, "control: received shape"),
        (OK, 0.9, MARGIN, 0.05, "treatment: received shape"),
        ([0.9, math.nan, 0.9], OK, MARGIN, 0.05, "control: received a value"),
        (OK, [90.0, 91.0, 92.0], MARGIN, 0.05, "treatment: received a value"),
        (OK, OK, 0.0, 0.05, "margin"),
        (OK, OK, -0.004, 0.05, "margin"),
        (OK, OK, 0.4 * math.nan, 0.05, "margin"),
        (OK, OK, MARGIN, 0.5, "alpha"),
        (OK, OK, MARGIN, 0.0, "alpha"),
    ],
)
def test_refused(control, treatment, margin, alpha, message):
    with pytest.raises(InputError, match=message):
        diagnose(control, treatment, margin, alpha)


def test_single_functions_refuse():
    with pytest.raises(InputError, match="insufficient"):
        sign_flip([0.1], MARGIN)
    with pytest.raises(InputError, match="margin"):
        sign_flip([0.1, 0.2], -MARGIN)
    with pytest.raises(InputError, match="confidence"):
        spread_ratio(OK, OK, 95)
    with pytest.raises(InputError, match="n: received 1"):
        normal_envelope(1)


def shown(figure):
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_the_figure_draws_every_pair_at_its_quantile():
    control, treatment = arms(8)
    many = np.random.default_rng(6).normal(0, 0.003, 30)
    figure = qq_figure(
        {"x 0.75": treatment - control, "x 0.5": many}, seeds={"x 0.75": range(100, 108)}, title="a claim"
    )
    first, second = figure.axes
    for axes, values in ((first, treatment - control), (second, many)):
        (points,) = [found for found in axes.collections if isinstance(found, PathCollection)]
        quantiles, ordered = stats.probplot(100 * values, fit=False)
        assert np.asarray(points.get_offsets()) == pytest.approx(np.column_stack([quantiles, ordered]))
        (line,) = axes.lines
        slope, level = np.polyfit(*line.get_data(), 1)
        assert (slope, level) == pytest.approx((100 * values.std(ddof=1), 100 * values.mean()))
    found = shown(figure)
    assert {"x 0.75", "x 0.5", "n = 8", "n = 30", "a claim"} <= set(found)
    # A panel with few points labels each point with its seed. A panel with many points labels only the points
    # outside the band.
    names = [text.get_text() for text in first.texts if text.get_text().isdigit()]
    by_size = 100 + np.argsort(treatment - control)
    assert names == [str(seed) for seed in by_size]
    assert not any(text.get_text().isdigit() for text in second.texts)


def test_the_figure_labels_points_outside_the_band():
    values = np.random.default_rng(7).normal(0, 0.001, 30)
    values[11] = -0.02
    (axes,) = qq_figure({"x 0.5": values}).axes
    texts = [text.get_text() for text in axes.texts]
    assert "11" in texts
    assert any(text.endswith("outside the band") for text in texts)
    (points,) = [found for found in axes.collections if isinstance(found, PathCollection)]
    low, high = normal_envelope(30)
    z = (np.sort(values) - values.mean()) / values.std(ddof=1)
    red = (points.get_facecolors()[:, 0] > 0.5).tolist()
    assert red == ((z < low) | (z > high)).tolist()
    assert red[0]


def test_the_figure_without_spread():
    (one, two) = qq_figure({"same": [0.001] * 4, "two": [0.001, 0.002]}).axes
    assert "n = 4, no spread" in [text.get_text() for text in one.texts]
    assert not one.lines
    # After standardisation, two points are always on the limits of the band.
    assert "n = 2" in [text.get_text() for text in two.texts]


@pytest.mark.parametrize(
    ("panels", "seeds", "message"),
    [
        ({}, None, "panels: received none"),
        ({"x": [0.1]}, None, "panels: x"),
        ({"x": [0.1, math.nan]}, None, "panels: x"),
        ({"x": [[0.1, 0.2]]}, None, "panels: x"),
        ({"x": [0.1, 0.2]}, {"x": [0]}, "seeds: x: received 1 seeds. Allowed: 2"),
    ],
)
def test_the_figure_refuses(panels, seeds, message):
    with pytest.raises(InputError, match=message):
        qq_figure(panels, seeds=seeds)
