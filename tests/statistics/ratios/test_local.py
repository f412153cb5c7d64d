import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from invact.errors import InputError
from invact.statistics.ratios.local import fits_cubic, half_width, local_ratio

WIDTHS = np.repeat([2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 11.0, 16.0], 4)
OWN = 8.0


def saturating(width):
    return 0.92 - 0.2 / width


def experiment(ratio=0.625, sd=0.004, law=0.0, seed=0, curve=saturating):
    rng = np.random.default_rng(seed)
    y = curve(WIDTHS) + sd * (OWN / WIDTHS) ** law * rng.standard_normal(len(WIDTHS))
    return WIDTHS, y, OWN, curve(OWN * ratio) + sd * rng.standard_normal(8)


def design(widths):
    # Other powers than those of the code: of log2(width), neither centred nor scaled.
    return np.vander(np.log2(widths), 4, increasing=True)


def kept(widths, accuracies, control_width, control, ratios, confidence=0.95):
    """Whether Welch's test of scipy, with the HC3 covariance of statsmodels, keeps each ratio."""
    fit = sm.OLS(accuracies, design(widths)).fit(cov_type="HC3")
    rows = design(control_width * ratios)
    error = np.sqrt(np.einsum("ij,jk,ik->i", rows, fit.cov_params(), rows))
    # A mean of n - 3 runs has n - 4 degrees of freedom.
    runs = len(accuracies) - 3
    p_values = stats.ttest_ind_from_stats(
        rows @ fit.params,
        error * np.sqrt(runs),
        runs,
        np.mean(control),
        np.std(control, ddof=1),
        len(control),
        equal_var=False,
    ).pvalue
    return p_values >= 1 - confidence


def cubic(width, roots, scale):
    """A cubic in log2(width / OWN), which is 0.8 at the roots."""
    z = np.log2(np.asarray(width) / OWN)
    return 0.8 + scale * np.prod([z - root for root in roots], axis=0)


@pytest.mark.parametrize("law", [0, 1])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_curve_and_its_band_are_those_of_statsmodels(law, confidence):
    data = experiment(law=law)
    found = local_ratio(*data, confidence)
    fit = sm.OLS(data[1], design(WIDTHS)).fit(cov_type="HC3", use_t=True)
    at = fit.get_prediction(design(found.widths))
    np.testing.assert_allclose(found.fit, at.predicted_mean, rtol=1e-10)
    np.testing.assert_allclose(found.band, at.conf_int(alpha=1 - confidence), rtol=1e-10)
    assert (found.widths[0], found.widths[-1]) == pytest.approx((2, 16))
    assert np.diff(np.log2(found.widths)) == pytest.approx(3 / (len(found.widths) - 1))


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_level_has_the_t_interval_of_the_control(confidence):
    *_, control = data = experiment()
    found = local_ratio(*data, confidence)
    expected = stats.ttest_1samp(control, 0).confidence_interval(confidence)
    assert found.level == pytest.approx(control.mean())
    assert found.level_interval == pytest.approx((expected.low, expected.high), rel=1e-12)


@given(
    st.integers(2, 20),
    st.integers(2, 20),
    st.floats(0.01, 100),
    st.floats(0.5, 0.999),
    st.integers(0, 1000),
)
def test_the_interval_of_a_difference_of_two_means_is_welchs(first, second, scale, confidence, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0, 1, first), rng.normal(0, scale, second)
    found = half_width(
        np.array([a.var(ddof=1) / first]), first - 1, b.var(ddof=1) / second, second - 1, confidence
    )
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(confidence)
    assert 2 * found[0] == pytest.approx(expected.high - expected.low, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("ratio", "law", "confidence"), [(0.5, 0, 0.95), (0.625, 1, 0.95), (1, 0.5, 0.8)])
def test_the_interval_holds_the_ratios_that_the_test_keeps(ratio, law, confidence, seed):
    data = experiment(ratio, law=law, seed=seed)
    found = local_ratio(*data, confidence)
    assert found.identifiable
    ratios = np.geomspace(2 / OWN, 16 / OWN, 30_001)
    inside = ratios[kept(*data, ratios, confidence)]
    assert found.interval == pytest.approx((inside[0], inside[-1]), rel=1e-4)


@pytest.mark.parametrize("ratio", [0.5, 0.8, 1.2])
def test_the_interval_of_an_exact_curve_is_that_of_the_level(ratio):
    roots = [0, 5, -5]
    truth = cubic(OWN * ratio, roots, -0.002)
    control = truth + np.array([-1, 1, 2, -2]) * 0.003
    found = local_ratio(WIDTHS, cubic(WIDTHS, roots, -0.002), OWN, control)
    ends = [found.low, found.estimate, found.high]
    low, high = found.level_interval
    assert cubic(OWN * np.array(ends), roots, -0.002) == pytest.approx([low, truth, high], abs=1e-6)
    assert found.estimate == pytest.approx(ratio, rel=1e-5)


def test_the_interval_of_an_exact_level_is_that_of_the_curve():
    widths, y, _, _ = experiment()
    found = local_ratio(widths, y, OWN, [0.88, 0.88])
    low, high = np.array(found.band).T
    at = np.log(found.widths)
    # With an exact level, Satterthwaite's degrees of freedom are those of the curve.
    assert np.interp(np.log(OWN * found.low), at, high) == pytest.approx(0.88, abs=1e-7)
    assert np.interp(np.log(OWN * found.high), at, low) == pytest.approx(0.88, abs=1e-7)


def test_equal_runs_give_the_exact_ratio():
    found = local_ratio(WIDTHS, cubic(WIDTHS, [-1, 5, -6], -0.002), OWN, [0.8] * 8)
    assert [found.low, found.estimate, found.high] == pytest.approx([0.5] * 3, rel=1e-6)
    assert found.low <= found.estimate <= found.high
    assert found.reasons == ()


@pytest.mark.parametrize("floor", [0.004, 0.03])
def test_a_floor_above_all_residuals_is_the_common_variance(floor):
    widths, y, _, control = experiment(sd=0.0005)
    found = local_ratio(widths, y, OWN, control, floor=floor)
    fit = sm.OLS(y, design(widths)).fit()
    at = design(found.widths)
    half = stats.t.isf(0.025, len(y) - 4) * np.sqrt(
        floor**2 * np.einsum("ij,jk,ik->i", at, fit.normalized_cov_params, at)
    )
    assert np.array(found.band) == pytest.approx(
        np.column_stack([found.fit - half, found.fit + half]), rel=1e-9
    )
    half = stats.t.isf(0.025, 7) * floor / np.sqrt(8)
    assert found.level_interval == pytest.approx((found.level - half, found.level + half), rel=1e-9)


def test_a_floor_below_all_residuals_has_no_effect():
    widths, y, _, control = experiment()
    residual = y - design(widths) @ np.linalg.lstsq(design(widths), y, rcond=None)[0]
    assert local_ratio(widths, y, OWN, control, floor=0.9 * abs(residual).min()) == local_ratio(
        widths, y, OWN, control
    )


def test_accuracies_in_whole_images_have_an_interval():
    # All runs of one width agree, and so do those of the control.
    y = np.round(saturating(WIDTHS) * 50) / 50
    control = np.full(8, round(saturating(5) * 50) / 50)
    wide, narrow = (local_ratio(WIDTHS, y, OWN, control, floor=floor) for floor in (0.01, 0))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_confidence_widens():
    narrow, wide = (local_ratio(*experiment(), confidence).interval for confidence in (0.8, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@given(st.floats(1e-6, 1e9))
def test_the_unit_of_the_widths_does_not_matter(unit):
    widths, y, own, control = experiment()
    found, scaled = local_ratio(widths, y, own, control), local_ratio(unit * widths, y, unit * own, control)
    assert (scaled.low, scaled.estimate, scaled.high) == pytest.approx(
        (found.low, found.estimate, found.high), rel=1e-9
    )
    np.testing.assert_allclose(scaled.widths, unit * np.array(found.widths), rtol=1e-9)
    np.testing.assert_allclose(scaled.fit, found.fit, rtol=1e-9)


def test_the_ratio_of_a_squared_width_is_the_squared_ratio():
    widths, y, own, control = experiment()
    found, macs = local_ratio(widths, y, own, control), local_ratio(9 * widths**2, y, 9 * own**2, control)
    squares = np.square([found.low, found.estimate, found.high])
    assert (macs.low, macs.estimate, macs.high) == pytest.approx(squares, rel=1e-9)


@given(st.permutations(range(len(WIDTHS))))
def test_the_order_of_the_runs_does_not_matter(order):
    widths, y, own, control = experiment()
    found, mixed = (
        local_ratio(widths, y, own, control),
        local_ratio(widths[order], y[order], own, control[::-1]),
    )
    assert (mixed.low, mixed.estimate, mixed.high) == pytest.approx(
        (found.low, found.estimate, found.high), rel=1e-9
    )


LOWER = "the lower end is open: at its smallest width"
UPPER = "the upper end is open: at its largest width"
SMALLER = "significantly above the control's mean at all its widths; the curve needs smaller widths"
LARGER = "significantly below the control's mean at all its widths; the curve needs larger widths"
NO_RISE = "there is no estimate"


@pytest.mark.parametrize(
    ("level", "ends", "reasons"),
    [
        (0.870, (True, True), []),
        # The fitted curve has 0.8216 (+- 0.0021) at its smallest width and 0.9063 (+- 0.0024) at its largest.
        (0.824, (False, True), [LOWER]),
        (0.820, (False, True), [LOWER, NO_RISE]),
        (0.810, (False, False), [SMALLER, NO_RISE]),
        (0.904, (True, False), [UPPER]),
        (0.908, (True, False), [UPPER, NO_RISE]),
        (0.920, (False, False), [LARGER, NO_RISE]),
    ],
)
def test_an_end_outside_the_curve_is_open(level, ends, reasons):
    widths, y, own, _ = experiment()
    found = local_ratio(widths, y, own, level + np.array([-1, 1, -1, 1]) * 0.002)
    assert (found.low is not None, found.high is not None) == ends
    assert found.identifiable == all(ends)
    assert (found.estimate is None) == (NO_RISE in reasons)
    assert len(found.reasons) == len(reasons)
    for reason, words in zip(reasons, found.reasons, strict=True):
        assert reason in words


@pytest.mark.parametrize(
    ("level", "control_width", "low", "below", "above_one"),
    [
        (0.90, 8, True, False, True),
        (0.90, 12, True, False, False),
        (0.93, 8, False, True, True),
        # The curve ends at 16 filters, so nothing is known of 17.
        (0.93, 17, False, True, False),
        (0.80, 8, False, False, False),
    ],
)
def test_a_treatment_that_is_shown_to_need_more(level, control_width, low, below, above_one):
    y = saturating(WIDTHS) + 0.0002 * np.random.default_rng(0).standard_normal(len(WIDTHS))
    found = local_ratio(WIDTHS, y, control_width, level + np.array([-1, 1, -1, 1]) * 0.0002)
    assert (found.low is not None, found.below, found.above_one) == (low, below, above_one)


def test_widths_that_a_cubic_fits():
    assert fits_cubic(WIDTHS)
    assert fits_cubic([2, 3, 4, 5, 100])
    assert not fits_cubic([2, 61, 62, 63, 64])
    assert not fits_cubic([2, 2, 3, 4, 5])
    assert not fits_cubic([])


def test_noise_alone_leaves_both_ends_open():
    rng = np.random.default_rng(0)
    found = local_ratio(WIDTHS, rng.normal(0.9, 0.01, len(WIDTHS)), OWN, rng.normal(0.9, 0.01, 8))
    assert found.interval == (None, None)
    assert LOWER in found.reasons[0]
    assert UPPER in found.reasons[1]


def test_a_curve_that_falls_has_no_estimate():
    found = local_ratio(*experiment(curve=lambda width: 1 - saturating(width)))
    assert (found.estimate, found.interval) == (None, (None, None))
    for reason, words in zip((LOWER, UPPER, NO_RISE), found.reasons, strict=True):
        assert reason in words


def test_a_flat_curve_at_the_level_has_no_estimate():
    # The rounding errors of these means rise through 0.
    found = local_ratio(WIDTHS, np.tile([0.01, 0.31], 16), OWN, [0.01, 0.31] * 4)
    assert (found.estimate, found.interval) == (None, (None, None))


@pytest.mark.parametrize("sd", [0, 1e-4])
def test_the_interval_spans_several_crossings_and_the_largest_is_the_estimate(sd):
    roots = [-1.6, -0.6, 0.5]
    y = cubic(WIDTHS, roots, 0.02) + sd * np.random.default_rng(0).standard_normal(len(WIDTHS))
    found = local_ratio(WIDTHS, y, OWN, 0.8 + sd * np.array([-1, 1, -1, 1]))
    tolerance = 2e-5 if sd == 0 else 0.02
    assert found.estimate == pytest.approx(2**0.5, rel=tolerance)
    assert found.interval == pytest.approx((2**-1.6, 2**0.5), rel=tolerance)


def test_an_end_where_the_curve_falls_through_the_level_again_is_open():
    # Significantly above at widths in the middle, but not at the largest one.
    found = local_ratio(WIDTHS, cubic(WIDTHS, [-1, 0.5, 4], 0.02), OWN, [0.8] * 8)
    assert found.estimate == pytest.approx(0.5, rel=1e-5)
    assert found.low == pytest.approx(0.5, rel=1e-5)
    assert found.high is None
    assert [UPPER in words for words in found.reasons] == [True]
    # And the same at the smallest width.
    found = local_ratio(WIDTHS, cubic(WIDTHS, [-4, -1, 0.5], 0.02), OWN, [0.8] * 8)
    assert found.estimate == pytest.approx(2**0.5, rel=1e-5)
    assert found.low is None
    assert found.high == pytest.approx(2**0.5, rel=1e-5)
    assert [LOWER in words for words in found.reasons] == [True]


@given(
    st.lists(st.floats(0, 1), min_size=6, max_size=12),
    st.lists(st.floats(0, 1), min_size=2, max_size=6),
    st.sampled_from([0, 0.001, 0.1]),
    st.floats(0.5, 50),
)
def test_ends_and_reasons_agree_for_any_accuracies(accuracies, control, floor, own):
    found = local_ratio(2.0 ** np.arange(len(accuracies)), accuracies, own, control, floor=floor)
    ends = [found.widths[0] / own, found.low, found.estimate, found.high, found.widths[-1] / own]
    ends = [end for end in ends if end is not None]
    assert ends == pytest.approx(sorted(ends), rel=1e-9)
    assert (found.reasons == ()) == found.identifiable == (None not in found.interval)
    if found.identifiable:
        assert found.estimate is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": WIDTHS[:-1]}, r"widths, accuracies: received shapes \(31,\) and \(32,\)"),
        ({"widths": WIDTHS.reshape(8, 4), "accuracies": np.full((8, 4), 0.9)}, "widths, accuracies: "),
        ({"widths": np.where(WIDTHS == 2, 0, WIDTHS)}, "widths: received a value"),
        ({"widths": np.where(WIDTHS == 2, np.inf, WIDTHS)}, "widths: received a value"),
        ({"widths": np.where(WIDTHS == 2, np.nan, WIDTHS)}, "widths: received a value"),
        ({"widths": np.maximum(WIDTHS, 6)}, "widths: received 4 different widths"),
        ({"widths": np.repeat([2.0, 61, 62, 63, 64], [16, 4, 4, 4, 4])}, "too unevenly spaced"),
        ({"accuracies": np.full(32, 90.0)}, "accuracies: received an accuracy that is not a fraction"),
        ({"accuracies": np.append(np.full(31, 0.9), np.nan)}, "accuracies: received an accuracy"),
        ({"control_width": 0}, "control_width: received 0"),
        ({"control_width": np.nan}, "control_width: received nan"),
        ({"control_accuracies": [0.9]}, "control_accuracies: insufficient: received 1 runs"),
        ({"control_accuracies": [0.9, 90]}, "control_accuracies: received an accuracy"),
        ({"confidence": 1}, "confidence: received 1"),
        ({"floor": -0.001}, "floor: received -0.001"),
        ({"floor": np.nan}, "floor: received nan"),
    ],
)
def test_refusals(change, message):
    names = ("widths", "accuracies", "control_width", "control_accuracies")
    with pytest.raises(InputError, match=message):
        local_ratio(**(dict(zip(names, experiment(), strict=True)) | change))


@pytest.mark.parametrize("widths", [[2, 3, 4, 5, 100], [2, 32, 40, 48, 128], [1, 61, 62, 63, 1000]])
def test_five_widths_are_enough_if_they_are_spread(widths):
    y = cubic(widths, [-1, 8, -9], -0.0003)
    assert local_ratio(widths, y, OWN, [0.8, 0.8]).estimate == pytest.approx(0.5, rel=1e-4)
