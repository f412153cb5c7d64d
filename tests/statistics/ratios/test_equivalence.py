import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invact.errors import InputError
from invact.statistics.ratios.equivalence import Gates, curve_ratio, line_ratio, ratio_by_level
from invact.statistics.ratios.parallel_line import parallel_line
from invact.statistics.ratios.shared_curve import shared_curve

CONTROL, TREATMENT = [6, 10, 16, 26, 42], [5, 8, 13, 21, 34]


def experiment(shape=lambda x: 0.92 - 0.4 / x, seeds=6, sd=0.002, ratio=0.6, seed=1, treatment=TREATMENT):
    widths = np.repeat([*CONTROL, *treatment], seeds).astype(float)
    treated = np.repeat([False, True], [5 * seeds, len(treatment) * seeds])
    noise = np.random.default_rng(seed).normal(0, sd, len(widths))
    return widths, shape(widths * np.where(treated, 1 / ratio, 1)) + noise, treated


def line(x):
    return 0.8 + 0.03 * np.log(x)


def refused(found, reason):
    return (
        found.estimate is None
        and found.interval is None
        and not found.identifiable
        and any(reason in words for words in found.reasons)
    )


def test_curve_ratio_is_that_of_the_fit_if_all_gates_are_passed():
    data = experiment()
    found = curve_ratio(*data)
    fit = shared_curve(*data)
    assert (found.reasons, found.identifiable) == ((), True)
    assert (found.estimate, found.interval) == (fit.ratio, fit.interval)
    assert found.fit == fit
    assert found.interval[0] < 0.6 < found.interval[1]


def test_line_ratio_is_the_inverse_of_the_potency():
    data = experiment(line, sd=0.001)
    found = line_ratio(*data)
    fit = parallel_line(*data)
    assert (found.reasons, found.identifiable) == ((), True)
    assert found.estimate == 1 / fit.potency
    assert found.interval == (1 / fit.interval[1], 1 / fit.interval[0])
    assert found.interval[0] < 0.6 < found.interval[1]
    assert found.interval[1] - found.interval[0] < 0.1


@pytest.mark.parametrize("estimator", [curve_ratio, line_ratio])
def test_confidence_widens(estimator):
    data = experiment(line if estimator is line_ratio else lambda x: 0.92 - 0.4 / x, sd=0.001)
    narrow, wide = (estimator(*data, confidence=level).interval for level in (0.8, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_blocks_are_passed_on():
    widths, y, treated = experiment(line, sd=0.001)
    seeds = np.tile(np.arange(6), 10)
    y = y + 0.01 * seeds
    with_blocks, without = line_ratio(widths, y, treated, seeds), line_ratio(widths, y, treated)
    assert with_blocks.identifiable
    assert with_blocks.fit.g < 0.1 * without.fit.g


@pytest.mark.parametrize("estimator", [curve_ratio, line_ratio])
def test_no_slope_is_not_identifiable(estimator):
    found = estimator(*experiment(lambda x: 0.9 + 0 * x))
    assert found.estimate is None
    assert found.interval is None
    assert found.reasons
    if estimator is line_ratio:
        assert refused(found, "g is ")


@pytest.mark.parametrize(("gap", "potency"), [(0.01, math.inf), (-0.01, 0)])
def test_nearly_constant_accuracies_are_not_identifiable(gap, potency):
    # The potency is exp(10,000) or exp(-10,000), which no float can hold.
    widths, _, treated = experiment()
    found = line_ratio(widths, 0.98 + 1e-6 * np.log(widths) + gap * treated, treated)
    assert found.fit.potency == potency
    assert refused(found, "only 0 widths")
    assert (found.levels, found.ratios) == ((), ())


@pytest.mark.parametrize("estimator", [curve_ratio, line_ratio])
def test_slopes_that_differ_are_not_parallel(estimator):
    widths, _, treated = experiment(sd=0.0005)
    x = np.log(widths)
    noise = np.random.default_rng(1).normal(0, 0.0005, len(x))
    y = 0.92 - 0.4 * widths ** -np.where(treated, 1.5, 1) if estimator is curve_ratio else None
    y = noise + (0.8 + 0.02 * x * np.where(treated, 1.5, 1) if y is None else y)
    assert refused(estimator(widths, y, treated), "parallel")


def test_parallelism_must_be_shown():
    # The data are too noisy to detect a difference of the slopes, and also too noisy to exclude one.
    found = line_ratio(*experiment(line, seeds=2, sd=0.012, seed=2))
    rows = {row.source: row.p_value for row in found.fit.anova}
    assert rows["Non-parallelism"] > 0.05
    assert refused(found, "parallel")
    wide = line_ratio(
        *experiment(line, seeds=2, sd=0.012, seed=2), gates=Gates(g=0.99, slope_bounds=(1e-3, 1e3))
    )
    assert not any("parallel" in words for words in wide.reasons)


def test_lack_of_fit_of_a_line():
    assert refused(line_ratio(*experiment(sd=0.001)), "does not fit")


def test_lack_of_fit_of_a_curve():
    widths, y, treated = experiment()
    assert refused(
        curve_ratio(widths, y + np.where(treated & (widths == 13), 0.01, 0), treated), "does not fit"
    )


def test_lack_of_fit_that_cannot_be_tested():
    found = curve_ratio(*experiment(seeds=1, sd=0.0001))
    assert refused(found, "cannot be tested")


@pytest.mark.parametrize(
    ("estimator", "shape"), [(curve_ratio, lambda x: 0.92 - 0.4 / x), (line_ratio, line)]
)
def test_three_widths_in_the_common_range(estimator, shape):
    data = experiment(shape, sd=0.0003, ratio=1, treatment=[20, 30, 45, 70, 110])
    found = estimator(*data)
    assert refused(found, "are in the range")
    assert found.levels
    assert all(ratio == pytest.approx(1, abs=0.1) for ratio in found.ratios)


def test_arms_without_a_common_accuracy_have_no_levels():
    found = line_ratio(*experiment(line, sd=0.0003, ratio=0.01))
    assert refused(found, "only 0 widths")
    assert (found.levels, found.ratios) == ((), ())


def test_after_a_failed_gate_the_ratio_is_given_by_level():
    # The true ratio depends on the accuracy, so no single number is correct.
    widths, _, treated = experiment()
    y = 0.8 + 0.02 * np.log(widths) * np.where(treated, 1.3, 1)
    y += np.random.default_rng(0).normal(0, 1e-4, len(y))
    found = line_ratio(widths, y, treated)
    assert refused(found, "parallel")
    expected = np.exp((np.array(found.levels) - 0.8) / 0.02 * (1 / 1.3 - 1))
    assert found.ratios == pytest.approx(expected, rel=0.02)
    assert found.ratios[0] > found.ratios[-1] + 0.1


@pytest.mark.parametrize("estimator", [curve_ratio, line_ratio])
def test_swapped_arms(estimator):
    widths, y, treated = experiment(line if estimator is line_ratio else lambda x: 0.92 - 0.4 / x, sd=0.001)
    found, swapped = estimator(widths, y, treated), estimator(widths, y, ~treated)
    assert found.interval[1] < 0.7
    assert swapped.estimate == pytest.approx(1 / found.estimate, rel=1e-5)
    assert swapped.interval == pytest.approx((1 / found.interval[1], 1 / found.interval[0]), rel=1e-4)
    assert swapped.ratios == pytest.approx([1 / ratio for ratio in found.ratios])


@pytest.mark.parametrize("estimator", [curve_ratio, line_ratio])
def test_refusals(estimator):
    widths, y, treated = experiment()
    with pytest.raises(InputError, match="not finite"):
        estimator(widths, np.where(np.arange(len(y)) == 3, math.nan, y), treated)
    few = treated | np.isin(widths, [6, 10])
    with pytest.raises(InputError, match="standard: received 2"):
        estimator(widths[few], y[few], treated[few])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"g": 0}, "g: received 0"),
        ({"g": math.nan}, "g: "),
        ({"slope_bounds": (1.1, 1.25)}, "slope_bounds"),
        ({"slope_bounds": (0.8, 0.9)}, "slope_bounds"),
        ({"lack_of_fit": 0.0}, "lack_of_fit"),
        ({"widths": 2}, "widths"),
    ],
)
def test_gates_refuse(arguments, message):
    with pytest.raises(InputError, match=message):
        Gates(**arguments)


@given(
    st.floats(0.2, 5),
    st.lists(st.integers(1, 60), min_size=3, max_size=6, unique=True),
    st.lists(st.integers(1, 60), min_size=3, max_size=6, unique=True),
)
def test_levels_of_a_line_have_its_ratio(ratio, control, treatment):
    widths = np.array(control + treatment, dtype=float)
    treated = np.array([False] * len(control) + [True] * len(treatment))
    levels, ratios = ratio_by_level(widths, line(widths / np.where(treated, ratio, 1)), treated)
    assert ratios == pytest.approx([ratio] * len(levels))
    assert list(levels) == sorted(levels)
    if levels:
        reach = [line(np.array(arm) / r) for arm, r in ((control, 1), (treatment, ratio))]
        assert levels[0] == pytest.approx(max(arm.min() for arm in reach))
        assert levels[-1] == pytest.approx(min(arm.max() for arm in reach))


def test_levels_of_means_that_fall():
    # The means 0.62 and 0.58 are pooled to 0.6, weighted by replicates; the cheapest width with 0.6 counts.
    widths = [1, 2, 4, 8, 1, 2, 4, 8]
    accuracy = [0.5, 0.62, 0.58, 0.8, 0.5, 0.6, 0.7, 0.8]
    levels, ratios = ratio_by_level(widths, accuracy, [False] * 4 + [True] * 4, 4)
    assert levels == pytest.approx((0.5, 0.6, 0.7, 0.8))
    assert ratios == pytest.approx((1, 1, 4 / 4, 1))


def test_levels_refuse():
    with pytest.raises(InputError, match="count"):
        ratio_by_level(*experiment(), count=1)
