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
from invact.statistics.comparison.diagnostics import (
    EXACT,
    diagnose,
    normal_envelope,
    permutation,
    spread_ratio,
)
from invact.statistics.comparison.inference import welch

MARGIN, ALPHA = 0.004, 0.025
# Counts over 1,000 test images.
counts = st.lists(st.integers(900, 950), min_size=2, max_size=4)


def arms(n=(8, 8), seed=0, sd=(0.002, 0.002), truth=0.0):
    rng = np.random.default_rng(seed)
    return 0.9 + rng.normal(0, sd[0], n[0]), 0.9 + truth + rng.normal(0, sd[1], n[1])


def signed_square(new, old, floor):
    """Square of Welch's t with the sign of t, in exact arithmetic; it orders divisions as t does."""
    means, parts = [], []
    for arm in (new, old):
        mean = sum(arm) / len(arm)
        variance = sum((x - mean) ** 2 for x in arm) / (len(arm) - 1)
        means.append(mean)
        parts.append(max(variance, floor**2) / len(arm))
    difference, square = means[0] - means[1], sum(parts)
    if square == 0:
        return math.copysign(math.inf, difference) if difference else Fraction(0)
    return difference * abs(difference) / square


def every_division(old, new, margin, floor):
    """P value from all divisions of the runs, in exact arithmetic."""
    runs = [Fraction(count, 1000) + margin for count in new] + [Fraction(count, 1000) for count in old]
    found = []
    for chosen in itertools.combinations(range(len(runs)), len(new)):
        rest = [run for run in range(len(runs)) if run not in chosen]
        found.append(signed_square([runs[run] for run in chosen], [runs[run] for run in rest], floor))
    return Fraction(sum(one >= found[0] for one in found), len(found))


@settings(max_examples=60, deadline=None)
@given(counts, counts, st.integers(0, 20), st.sampled_from([0, 1, 5]))
def test_permutations_against_every_division(old, new, thousandths, floor):
    expected = every_division(old, new, Fraction(thousandths, 1000), Fraction(floor, 1000))
    found = permutation(np.array(old) / 1000, np.array(new) / 1000, thousandths / 1000, floor / 1000)
    assert found.exact
    assert found.p_value == pytest.approx(float(expected), abs=1e-12)


def test_many_divisions_are_drawn():
    n = 9
    control, treatment = arms((n, n), seed=2, truth=-0.0025)
    found = permutation(control, treatment, MARGIN)
    assert math.comb(2 * n, n) > EXACT
    assert not found.exact
    assert found == permutation(control, treatment, MARGIN)
    chosen = np.zeros((math.comb(2 * n, n), 2 * n), dtype=bool)
    for row, runs in zip(chosen, itertools.combinations(range(2 * n), n), strict=True):
        row[list(runs)] = True
    both = np.concatenate([treatment + MARGIN, control])
    divisions = [np.broadcast_to(both, chosen.shape)[mask].reshape(-1, n) for mask in (chosen, ~chosen)]
    t = stats.ttest_ind(*divisions, axis=1, equal_var=False).statistic
    expected = np.mean(t >= t[0] - 1e-9)
    assert 0.01 < expected < 0.2
    assert found.p_value == pytest.approx(expected, abs=4 * math.sqrt(expected / 9_999))
    # The observed division always counts, so the p value is never 0.
    low, high = np.linspace(0.4, 0.41, 20), np.linspace(0.6, 0.61, 20)
    assert permutation(low, high, MARGIN).p_value == 1e-4


def test_permutations_keep_the_level_with_long_tails():
    # Both arms have the same distribution except for the margin, so the number of p values that are at most
    # k / 35 is binomial with this probability.
    replications, margin = 1_000, 0.1
    noise = np.random.default_rng(3).standard_cauchy((replications, 7)).clip(-30, 30) / 100
    p_values = np.array([permutation(0.5 + one[:3], 0.5 - margin + one[3:], margin).p_value for one in noise])
    for share in (1 / 35, 3 / 35, 9 / 35):
        least, most = stats.binom.interval(0.999, replications, share)
        assert least <= np.sum(p_values <= share + 1e-9) <= most


@pytest.mark.slow
@pytest.mark.parametrize("sd", [(0.004, 0.001), (0.001, 0.002)])
def test_permutations_with_unequal_spreads_in_arms_of_the_same_size(sd):
    replications, level, margin = 2_000, 0.05, 0.02
    rng = np.random.default_rng(8)
    control, treatment = rng.normal(0.5, sd[0], (replications, 6)), rng.normal(0.48, sd[1], (replications, 6))
    p_values = [permutation(*pair, margin).p_value for pair in zip(control, treatment, strict=True)]
    least = stats.binom.ppf(0.0005, replications, 0.8 * level)
    most = stats.binom.isf(0.0005, replications, 1.2 * level)
    assert least <= np.sum(np.array(p_values) <= level) <= most


@pytest.mark.parametrize("truth", [0.0, -0.003])
@pytest.mark.parametrize("n", [(8, 8), (3, 5)])
def test_each_run_left_out_is_scipys_test(n, truth):
    control, treatment = arms(n, truth=truth)
    found = diagnose(control, treatment, MARGIN, ALPHA)
    assert found.runs == n
    expected, names = [], []
    for name, size in (("treatment", n[1]), ("control", n[0])):
        for run in range(size):
            left = {"treatment": treatment, "control": control}
            left[name] = np.delete(left[name], run)
            expected.append(
                stats.ttest_ind(
                    left["treatment"] + MARGIN, left["control"], equal_var=False, alternative="greater"
                ).pvalue
            )
            names.append((name, run))
    assert found.left_out == pytest.approx(expected, rel=1e-6)
    assert found.worst == names[int(np.argmax(expected))]


@pytest.mark.parametrize("arm", ["control", "treatment"])
def test_the_worst_run_is_the_one_that_the_result_depends_on(arm):
    # One run alone makes the control worse, or the treatment better.
    equal = [0.90, 0.901, 0.899, 0.90]
    arms = {"control": [*equal, 0.85], "treatment": equal}
    if arm == "treatment":
        arms = {"control": equal, "treatment": [*equal, 0.95]}
    found = diagnose(**arms, margin=0.0, alpha=ALPHA)
    assert found.worst == (arm, 4)


@pytest.mark.parametrize("alpha", [0.05, 0.025])
@pytest.mark.parametrize("truth", [-0.002, 0.01])
@pytest.mark.parametrize("floor", [0.0, 0.01])
def test_the_test_is_significant_exactly_above_the_smallest_margin(alpha, truth, floor):
    control, treatment = arms((6, 9), truth=truth)
    found = diagnose(control, treatment, MARGIN, alpha, floor).smallest_margin

    def p_value(margin):
        numbers = []
        for arm, shift in ((treatment, margin), (control, 0)):
            numbers += [arm.mean() + shift, max(arm.std(ddof=1), floor), len(arm)]
        return stats.ttest_ind_from_stats(*numbers, equal_var=False, alternative="greater").pvalue

    if truth > 0 and not floor:
        assert found == 0
        assert p_value(0) < alpha
    else:
        assert found == pytest.approx(optimize.brentq(lambda m: p_value(m) - alpha, 0, 0.1), abs=1e-9)
        assert welch(treatment, control, found * 1.0001, floor).p_value < alpha
        assert welch(treatment, control, found * 0.9999, floor).p_value > alpha


def test_the_floor_is_used_by_every_test():
    # Without the floor, five equal runs of each arm leave no doubt.
    found = diagnose([0.9] * 5, [0.899] * 5, MARGIN, ALPHA, floor=0.003)
    expected = stats.ttest_ind_from_stats(
        *(0.899 + MARGIN, 0.003, 5, 0.9, 0.003, 5), equal_var=False, alternative="greater"
    )
    assert found.smallest_margin > 0.001
    assert expected.pvalue < min(found.left_out) < 2 * expected.pvalue
    assert (found.spread_ratio, found.spread_interval) == (None, None)
    assert found.permutation.p_value == pytest.approx(1 / 252)


@pytest.mark.parametrize("n", [(2, 3), (8, 20)])
def test_residuals_for_the_plot(n):
    control, treatment = arms(n)
    found = diagnose(control, treatment, MARGIN, ALPHA)
    for accuracies, residuals in ((control, found.control), (treatment, found.treatment)):
        n = len(accuracies)
        middle = [(rank - 0.3175) / (n + 0.365) for rank in range(1, n + 1)]
        middle[0], middle[-1] = 1 - 0.5 ** (1 / n), 0.5 ** (1 / n)
        assert residuals.quantiles == pytest.approx([NormalDist().inv_cdf(share) for share in middle])
        assert residuals.ordered == tuple(sorted(residuals.ordered))
        assert residuals.ordered == pytest.approx(accuracies[list(residuals.order)] - accuracies.mean())


@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 1000), st.sampled_from([0.8, 0.9, 0.95]))
@settings(max_examples=40, deadline=None)
def test_the_f_test_rejects_outside_the_spread_interval(n_control, n_treatment, seed, confidence):
    control, treatment = arms((n_control, n_treatment), seed, sd=(0.01, 0.015))
    ratio, (low, high) = spread_ratio(control, treatment, confidence)
    assert ratio == pytest.approx(np.std(treatment, ddof=1) / np.std(control, ddof=1))
    assert low < ratio < high
    tail = (1 - confidence) / 2
    for k, p_value in ((low, stats.f.sf), (high, stats.f.cdf)):
        assert p_value((ratio / k) ** 2, n_treatment - 1, n_control - 1) == pytest.approx(tail, rel=1e-6)


def test_the_spread_interval_covers():
    rng = np.random.default_rng(4)
    replications = 4_000
    missed = np.zeros(2)
    for _ in range(replications):
        _, (low, high) = spread_ratio(rng.normal(0.5, 0.01, 5), rng.normal(0.5, 0.02, 9), 0.9)
        missed += (low > 2, high < 2)
    least, most = stats.binom.interval(0.999, replications, 0.05)
    assert ((least <= missed) & (missed <= most)).all()


def test_diagnose_uses_the_level_of_the_test_for_the_spread_interval():
    control, treatment = arms(sd=(0.002, 0.008))
    found = diagnose(control, treatment, MARGIN, alpha=0.025)
    assert (found.spread_ratio, found.spread_interval) == spread_ratio(control, treatment, 0.95)
    assert found.spread_interval[0] > 1
    swapped = diagnose(treatment, control, MARGIN, alpha=0.025)
    assert swapped.spread_ratio == pytest.approx(1 / found.spread_ratio)
    assert swapped.spread_interval == pytest.approx([1 / end for end in found.spread_interval[::-1]])


@pytest.mark.parametrize("n", [(2, 2), (2, 6), (6, 2)])
def test_two_runs(n):
    found = diagnose(*arms(n), MARGIN, ALPHA)
    assert (found.runs, found.left_out, found.worst) == (n, (), None)
    assert found.spread_interval[0] < found.spread_ratio < found.spread_interval[1]


@pytest.mark.parametrize("n", [2, 5])
def test_no_spread(n):
    same = diagnose([0.9] * n, [0.9] * n, MARGIN, ALPHA)
    assert (same.spread_ratio, same.spread_interval, same.smallest_margin) == (None, None, 0)
    assert set(same.left_out) <= {0}
    assert same.permutation.p_value == 1 / math.comb(2 * n, n)
    # The loss is equal to the margin, except for rounding: neither non-inferiority nor inferiority is shown.
    on_it = diagnose([0.4] * n, [0.3] * n, 0.1, ALPHA)
    assert set(on_it.left_out) <= {1}
    assert on_it.permutation.p_value == 1
    assert on_it.smallest_margin == pytest.approx(0.1)
    constant = diagnose([0.9, 0.91, 0.92], [0.9] * 3, MARGIN, ALPHA)
    assert (constant.spread_ratio, constant.spread_interval) == (0, None)
    assert constant.treatment.ordered == (0, 0, 0)


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
        ([0.9], OK, MARGIN, 0.05, "control: insufficient: received 1 runs"),
        (OK, [], MARGIN, 0.05, "treatment: insufficient: received 0 runs"),
        ([OK], OK, MARGIN, 0.05, "control: received shape"),
        (OK, 0.9, MARGIN, 0.05, "treatment: received shape"),
        ([0.9, math.nan, 0.9], OK, MARGIN, 0.05, "control: received an accuracy"),
        (OK, [90.0, 91.0, 92.0], MARGIN, 0.05, "treatment: received an accuracy"),
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
    with pytest.raises(InputError, match="treatment: insufficient"):
        permutation(OK, [0.1], MARGIN)
    with pytest.raises(InputError, match="margin"):
        permutation(OK, OK, -MARGIN)
    with pytest.raises(InputError, match="floor"):
        permutation(OK, OK, MARGIN, -0.1)
    with pytest.raises(InputError, match="control: insufficient"):
        spread_ratio([0.1], OK)
    with pytest.raises(InputError, match="confidence"):
        spread_ratio(OK, OK, 95)
    with pytest.raises(InputError, match="n: received 1"):
        normal_envelope(1)


def shown(figure):
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_the_figure_draws_every_run_at_its_quantile():
    control, treatment = arms((30, 8), seed=6)
    few, many = treatment - treatment.mean(), control - control.mean()
    figure = qq_figure(
        {"treatment": few, "control": many}, seeds={"treatment": range(100, 108)}, title="a claim"
    )
    first, second = figure.axes
    for axes, values in ((first, few), (second, many)):
        (points,) = [found for found in axes.collections if isinstance(found, PathCollection)]
        quantiles, ordered = stats.probplot(100 * values, fit=False)
        assert np.asarray(points.get_offsets()) == pytest.approx(np.column_stack([quantiles, ordered]))
        (line,) = axes.lines
        slope, level = np.polyfit(*line.get_data(), 1)
        assert (slope, level) == pytest.approx((100 * values.std(ddof=1), 0), abs=1e-9)
    found = shown(figure)
    assert {"treatment", "control", "n = 8", "n = 30", "a claim"} <= set(found)
    assert "Accuracy minus the mean of the arm,\npercentage points" in found
    # A panel with few points labels each point with its seed. A panel with many points labels only the points
    # outside the band.
    names = [text.get_text() for text in first.texts if text.get_text().isdigit()]
    by_size = 100 + np.argsort(treatment)
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
