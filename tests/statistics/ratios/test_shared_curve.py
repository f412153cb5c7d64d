import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from invact.errors import InputError
from invact.statistics.ratios.shared_curve import curve, shared_curve, starts

CONTROL, TREATMENT = [6, 10, 16, 26, 42], [5, 8, 13, 21, 34]


def layout(seeds):
    widths = np.repeat([*CONTROL, *TREATMENT], seeds).astype(float)
    return widths, np.repeat([False, True], 5 * seeds)


def experiment(seeds=6, sd=0.002, ratio=0.6, exponent=1.0, steeper=1.0, seed=0):
    widths, treated = layout(seeds)
    power = exponent * np.where(treated, steeper, 1)
    truth = 0.92 - 0.4 * (widths * np.where(treated, 1 / ratio, 1)) ** -power
    return widths, truth + np.random.default_rng(seed).normal(0, sd, len(widths)), treated


def predicted(fit, widths, treated):
    exponent = math.exp(fit.c) * (np.log(widths) + fit.shift * treated)
    return fit.asymptote - np.exp(fit.b - exponent)


@given(
    st.tuples(*(st.floats(-1.5, 1.5) for _ in range(5))),
    st.lists(st.tuples(st.floats(-2, 2), st.booleans()), min_size=1, max_size=5),
)
def test_jacobian_against_finite_differences(values, points):
    x, z = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    for count in (4, 5):
        at = np.array(values[:count])
        expected = np.atleast_2d(optimize.approx_fprime(at, lambda v: curve(v, x, z)[0], 1e-7))
        assert curve(at, x, z)[1] == pytest.approx(
            expected, rel=1e-3, abs=1e-3 * (1 + np.abs(expected).max())
        )


@pytest.mark.parametrize(("ratio", "exponent"), [(0.6, 1.0), (1.0, 0.5), (1.7, 2.0), (0.3, 1.0)])
def test_recovers_the_truth(ratio, exponent):
    fit = shared_curve(*experiment(ratio=ratio, exponent=exponent, sd=1e-6))
    assert fit.problems == ()
    assert fit.ratio == pytest.approx(ratio, rel=2e-4)
    assert fit.shift == pytest.approx(-math.log(ratio), abs=2e-4)
    assert fit.asymptote == pytest.approx(0.92, abs=1e-4)
    assert math.exp(fit.b) == pytest.approx(0.4, rel=1e-2)
    assert math.exp(fit.c) == pytest.approx(exponent, rel=1e-2)
    assert fit.slope_ratio == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("seed", range(4))
def test_against_curve_fit(seed):
    # curve_fit uses other parameters (the ratio and the exponent directly), another algorithm and no analytic
    # Jacobian.
    widths, y, treated = experiment(seed=seed)
    fit = shared_curve(widths, y, treated)

    def model(x, asymptote, size, exponent, ratio):
        return asymptote - size * (x / np.where(treated, ratio, 1)) ** -exponent

    values, covariance = optimize.curve_fit(
        model, widths, y, [0.9, 0.3, 1, 1], bounds=([0, 0, 0.01, 0.01], 10), xtol=1e-14, ftol=1e-14
    )
    left = np.square(y - predicted(fit, widths, treated)).sum()
    assert left <= np.square(y - model(widths, *values)).sum() * (1 + 1e-9)
    assert fit.sd == pytest.approx(math.sqrt(left / (len(y) - 4)))
    assert (fit.asymptote, fit.ratio) == pytest.approx((values[0], values[3]), rel=1e-4)
    # The delta method converts the standard error of the ratio to that of its logarithm.
    half = stats.t.isf(0.025, len(y) - 4) * math.sqrt(covariance[3, 3]) / values[3]
    assert fit.interval == pytest.approx((fit.ratio * math.exp(-half), fit.ratio * math.exp(half)), rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_profile_against_a_grid(seed):
    # For a given (shift, c) the model is linear. The test minimises over c and solves for the shift.
    widths, y, treated = experiment(seeds=3, sd=0.005, seed=seed)
    fit = shared_curve(widths, y, treated)
    x = np.log(widths) - np.log(widths).mean()

    def left(shift, c):
        u = np.exp(-math.exp(c) * (x + shift * treated))
        design = np.column_stack([np.ones_like(u), u])
        return np.square(y - design @ np.linalg.lstsq(design, y, rcond=None)[0]).sum()

    def profile(shift):
        return optimize.minimize_scalar(
            lambda c: left(shift, c),
            bounds=(fit.c - 2, fit.c + 1.5),
            method="bounded",
            options={"xatol": 1e-10},
        ).fun

    critical = fit.df * fit.sd**2 + fit.sd**2 * stats.f.isf(0.05, 1, fit.df)
    ends = [
        math.exp(-optimize.brentq(lambda s: profile(s) - critical, fit.shift, fit.shift + sign, xtol=1e-9))
        for sign in (1, -1)
    ]
    assert fit.profile == pytest.approx(ends, rel=1e-4)
    assert fit.profile != pytest.approx(fit.interval, rel=1e-4)


def test_swapped_arms_invert_the_ratio():
    widths, y, treated = experiment()
    fit, swapped = shared_curve(widths, y, treated), shared_curve(widths, y, ~treated)
    assert fit.profile[1] < 0.7
    for name in ("interval", "profile", "slope_interval"):
        low, high = getattr(fit, name)
        assert getattr(swapped, name) == pytest.approx((1 / high, 1 / low), rel=1e-4)
    assert swapped.ratio == pytest.approx(1 / fit.ratio, rel=1e-5)


def test_units_do_not_matter():
    widths, y, treated = experiment()
    fit = shared_curve(widths, y, treated)
    other = shared_curve(1e6 * widths, 100 * y, treated)
    assert (other.ratio, other.g, other.slope_ratio) == pytest.approx(
        (fit.ratio, fit.g, fit.slope_ratio), rel=1e-4
    )
    assert other.interval == pytest.approx(fit.interval, rel=1e-4)
    assert other.profile == pytest.approx(fit.profile, rel=1e-4)
    assert other.p_lack_of_fit == pytest.approx(fit.p_lack_of_fit, rel=1e-3)
    assert other.asymptote == pytest.approx(100 * fit.asymptote, rel=1e-4)


def test_order_of_the_rows_does_not_matter():
    widths, y, treated = experiment()
    order = np.random.default_rng(1).permutation(len(y))
    fit, other = shared_curve(widths, y, treated), shared_curve(widths[order], y[order], treated[order])
    assert other.interval == pytest.approx(fit.interval, rel=1e-5)


def test_lack_of_fit_against_its_definition():
    widths, y, treated = experiment()
    fit = shared_curve(widths, y, treated)
    cells = [y[(widths == w) & (treated == t)] for w, t in {*zip(widths, treated, strict=True)}]
    pure = sum(np.square(cell - cell.mean()).sum() for cell in cells)
    left = np.square(y - predicted(fit, widths, treated)).sum()
    f = (left - pure) / (10 - 4) / (pure / (len(y) - 10))
    assert fit.p_lack_of_fit == pytest.approx(stats.f.sf(f, 6, len(y) - 10), rel=1e-5)


def test_lack_of_fit_is_found():
    widths, y, treated = experiment()
    bump = np.where(treated & (widths == 13), 0.01, 0)
    assert shared_curve(widths, y + bump, treated).p_lack_of_fit < 1e-4
    once = np.unique(np.column_stack([widths, treated]), axis=0, return_index=True)[1]
    assert shared_curve(widths[once], y[once], treated[once]).p_lack_of_fit is None


@pytest.mark.parametrize("steeper", [0.7, 1.0, 1.4])
def test_ratio_of_slopes(steeper):
    fit = shared_curve(*experiment(seeds=8, sd=0.0005, steeper=steeper, ratio=1))
    assert fit.slope_interval[0] < fit.slope_ratio < fit.slope_interval[1]
    assert fit.slope_ratio == pytest.approx(steeper, rel=0.04)


def test_a_curve_that_does_not_level_off_is_a_problem():
    widths, _, treated = experiment()
    rise = 0.02 * np.log(widths) + 0.004 * np.log(widths) ** 2
    fit = shared_curve(widths, 0.8 + rise + np.random.default_rng(0).normal(0, 0.0002, len(rise)), treated)
    assert fit.problems
    assert fit.profile == (0, math.inf)


def test_a_flat_response_has_no_ratio():
    widths, _, treated = experiment()
    y = 0.9 + np.random.default_rng(0).normal(0, 0.002, len(widths))
    fit = shared_curve(widths, y, treated)
    assert fit.problems or fit.g > 0.1


def test_a_constant_response_gives_problems_and_no_error():
    widths, _, treated = experiment()
    assert shared_curve(widths, np.full(len(widths), 0.9), treated).problems


def test_starts_are_the_best_of_the_grid_and_give_rising_curves():
    widths, y, treated = experiment()
    x = np.log(widths) - np.log(widths).mean()
    first = starts(x, y, treated.astype(float))
    left = [np.square(y - curve(point, x, treated.astype(float))[0]).sum() for point in first]
    assert left == sorted(left)
    assert abs(first[0][3] + math.log(0.6)) <= 0.125
    assert (np.diff(curve(starts(x, 1 - y, treated.astype(float))[0], np.sort(x), 0 * x)[0]) >= 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({1: math.nan}, "not finite"),
        ({0: 0.0}, "positive"),
    ],
)
def test_refuses_values(change, message):
    columns = [np.array(column, dtype=float) for column in experiment()]
    for index, value in change.items():
        columns[index][3] = value
    with pytest.raises(InputError, match=message):
        shared_curve(*columns)


def test_refuses_few():
    widths, y, treated = experiment()
    two = ~treated | (widths < 9)
    with pytest.raises(InputError, match="test: received 2"):
        shared_curve(widths[two], y[two], treated[two])
    with pytest.raises(InputError, match="confidence"):
        shared_curve(widths, y, treated, confidence=95)


@pytest.mark.parametrize("seed", [3, 112, 140])
def test_a_profile_with_two_minima_has_ends(seed):
    # A fit that starts at the result of the last one can jump between the minima.
    rng = np.random.default_rng(seed)
    width = np.repeat([2.0, 3, 4, 1, 2, 3, 4, 8], 2)
    treated = np.repeat([False] * 3 + [True] * 5, 2)
    noisy = 0.3 + 0.25 * np.log2(width) * rng.uniform(0.3, 1) + rng.normal(0, 0.12, 16)
    fit = shared_curve(width, np.round(np.clip(noisy, 0, 1) * 450) / 450, treated)
    assert fit.problems == ()
    assert fit.profile[0] < fit.ratio < fit.profile[1]
