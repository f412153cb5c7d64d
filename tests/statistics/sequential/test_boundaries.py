import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from invact.errors import InputError
from invact.statistics.sequential.boundaries import (
    ALPHA,
    LOOKS,
    critical,
    futility_bounds,
    nominal_levels,
    repeated_p,
    spending_bounds,
    wang_tsiatis,
)
from invact.statistics.sequential.crossing import normal_exits, t_exits

REPLICATIONS = 100_000
# Short designs, because the levels of the default looks take several seconds.
DESIGNS = [((3, 5), 0.025), ((3, 4, 6), 0.05), ((2, 4), 0.1)]


def total(levels, looks=LOOKS):
    return sum(t_exits(critical(levels, looks), looks).upper)


def t_paths(looks, effect=0.0, replications=REPLICATIONS, seed=5):
    """One-sample t statistics at each look, shape (replications, looks)."""
    values = np.random.default_rng(seed).normal(effect, 1, (replications, looks[-1]))
    sums, squares = (np.cumsum(each, axis=1)[:, np.array(looks) - 1] for each in (values, values**2))
    n = np.array(looks)
    return sums / np.sqrt(n * (squares - sums**2 / n) / (n - 1))


def p_paths(looks, sds, replications=REPLICATIONS, seed=6):
    """P values of Welch's test of two arms with equal means at each look, shape (replications, looks)."""
    rng = np.random.default_rng(seed)
    n = np.array(looks)
    means, variances = [], []
    for sd in sds:
        values = rng.normal(0, 1, (replications, looks[-1])) * sd
        sums, squares = (np.cumsum(each, axis=1)[:, n - 1] for each in (values, values**2))
        means.append(sums / n)
        variances.append((squares - sums**2 / n) / (n - 1) / n)
    t = (means[0] - means[1]) / np.sqrt(variances[0] + variances[1])
    df = (n - 1) * (variances[0] + variances[1]) ** 2 / (variances[0] ** 2 + variances[1] ** 2)
    return special.stdtr(df, -t)


def exits(paths, upper, lower):
    left = np.ones(len(paths), dtype=bool)
    above, below = [], []
    for t, top, floor in zip(paths.T, upper, lower, strict=True):
        above.append(np.mean(left & (t > top)))
        below.append(np.mean(left & (t <= floor)))
        left &= (t <= top) & (t > floor)
    return above, below


# Half a unit of the last digit of the published figures.
HALF = 5e-5


@pytest.mark.parametrize(("looks", "constant"), [(2, 2.1783), (3, 2.2895), (4, 2.3613), (5, 2.4132)])
def test_pocock_bounds_are_the_published_ones(looks, constant):
    # Pocock, Biometrika 64, 1977; two-sided 0.05.
    assert wang_tsiatis(range(1, looks + 1), 0.05, 0.5) == pytest.approx([constant] * looks, abs=HALF)


def test_obrien_fleming_bounds_are_the_published_ones():
    # O'Brien and Fleming, Biometrics 35, 1979; two-sided 0.05.
    found = wang_tsiatis(range(1, 6), 0.05, 0.0)
    assert found == pytest.approx([4.5617, 3.2256, 2.6337, 2.2809, 2.0401], abs=HALF)


def test_spending_bounds_are_the_published_ones():
    # Lan and DeMets, Biometrika 70, 1983, with the spending function of O'Brien and Fleming's form. The
    # bounds of two-sided 0.05 are those of one-sided 0.025.
    found = spending_bounds([0.5, 0.75, 1], 0.025)
    assert found == pytest.approx([2.9626, 2.3590, 2.0141], abs=HALF)


def test_one_sided_bounds_are_lower():
    # Published for one-sided 0.05 and 0.025: with one look the bound is the normal quantile.
    for alpha in (0.025, 0.05):
        assert wang_tsiatis([1], alpha, 0.5, sides=1) == pytest.approx(stats.norm.isf(alpha), abs=1e-6)
    found = wang_tsiatis([1, 2, 3], 0.05, 0.5, sides=1)
    assert sum(normal_exits(found, [1, 2, 3]).upper) == pytest.approx(0.05, abs=1e-9)
    assert (found < wang_tsiatis([1, 2, 3], 0.05, 0.5)).all()


def test_normal_exits_against_a_bivariate_normal():
    upper, information = [1.9, 1.7], [3.0, 7.0]
    cover = stats.multivariate_normal([0, 0], [[1, math.sqrt(3 / 7)], [math.sqrt(3 / 7), 1]])
    found = normal_exits(upper, information)
    assert sum(found.upper) == pytest.approx(1 - cover.cdf(upper), abs=1e-6)
    assert found.lower == (0, 0)


def test_normal_exits_by_simulation_of_brownian_motion():
    upper, lower, times = [2.4, 2.0, 1.8], [-0.5, 0.2, 0.6], np.array([0.3, 0.7, 1.0])
    steps = np.random.default_rng(4).normal(0, np.sqrt(np.diff(times, prepend=0)), (REPLICATIONS, 3))
    above, below = exits(np.cumsum(steps, axis=1) / np.sqrt(times), upper, lower)
    found = normal_exits(upper, times, lower)
    for exact, simulated in ((found.upper, above), (found.lower, below)):
        errors = 4 * np.sqrt(np.multiply(exact, np.subtract(1, exact)) / REPLICATIONS)
        assert (np.abs(np.subtract(exact, simulated)) <= errors).all()


def test_spending_bounds_spend_the_given_error():
    fractions = np.array([0.2, 0.5, 0.8, 1.0])
    found = normal_exits(spending_bounds(fractions, 0.05), fractions)
    expected = 2 * stats.norm.sf(stats.norm.isf(0.025) / np.sqrt(fractions))
    assert np.cumsum(found.upper) == pytest.approx(expected, abs=1e-8)


def test_a_look_that_can_spend_nothing_has_a_bound_that_is_never_crossed():
    assert spending_bounds([0.01, 1], 0.025) == pytest.approx([8.5, stats.norm.isf(0.025)], abs=1e-6)


@pytest.mark.slow
def test_the_levels_of_the_default_looks():
    levels = nominal_levels()
    assert LOOKS == (6, 7, 8, 9, 10, 12, 15, 18)
    assert ALPHA == 0.025
    assert (round(levels[0], 4), round(levels[-1], 4)) == (0.0010, 0.0142)
    assert (np.diff(levels) > 0).all()
    assert total(levels) == pytest.approx(ALPHA, abs=1e-9)
    # The shape is that of the square roots of the normal levels.
    roots = np.sqrt(stats.norm.sf(spending_bounds(LOOKS, ALPHA)))
    assert np.array(levels) / levels[-1] == pytest.approx(roots / roots[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sds", "least", "most"), [((1, 0), 0.025, 0.025), ((1, 1), 0.0225, 0.0235), ((0.25, 1), 0.025, 0.026)]
)
def test_the_total_error_of_the_default_looks_by_simulation(sds, least, most):
    # Welch's test is an approximation. The levels are exact if all of the spread is in one arm. The total is
    # a little below alpha if both arms have the same spread, and a little above it between the two cases.
    parts, replications = 5, 200_000
    errors = sum(
        int((p_paths(LOOKS, sds, replications, seed) < nominal_levels()).any(axis=1).sum())
        for seed in range(parts)
    )
    assert errors <= stats.binom.isf(0.0005, parts * replications, most)
    assert errors >= stats.binom.ppf(0.0005, parts * replications, least)


@pytest.mark.parametrize(("looks", "alpha"), DESIGNS)
def test_total_error_by_simulation(looks, alpha):
    levels = nominal_levels(looks, alpha)
    errors = int((p_paths(looks, (1, 0)) < levels).any(axis=1).sum())
    # The cells of the angle change the error by at most 1e-5.
    assert errors <= stats.binom.isf(0.0005, REPLICATIONS, alpha + 1e-5)
    assert errors >= stats.binom.ppf(0.0005, REPLICATIONS, alpha - 1e-5)
    # With equal spreads the degrees of freedom are more, and the test is a little conservative.
    equal = int((p_paths(looks, (1, 1)) < levels).any(axis=1).sum())
    assert equal <= stats.binom.isf(0.0005, REPLICATIONS, alpha)


def test_one_look_has_the_whole_level():
    assert nominal_levels((9,), 0.03) == (0.03,)
    assert nominal_levels((9,), 0.03, (5.0,)) == (0.03,)


def test_equal_shapes_give_equal_levels():
    looks = (3, 4, 6)
    levels = nominal_levels(looks, 0.05, (2.0, 2.0, 2.0))
    assert levels == pytest.approx([levels[0]] * 3)
    assert 0.05 / 3 < levels[0] < 0.05
    assert total(levels, looks) == pytest.approx(0.05, abs=1e-9)
    # Only the ratios of the shape matter.
    assert nominal_levels(looks, 0.05, (7.0, 7.0, 7.0)) == pytest.approx(levels)


def test_bounds_without_calibration_exceed_the_level():
    # Normal levels exceed alpha in a test of t; normal bounds on t do so even more.
    looks, alpha = (3, 4, 6), 0.025
    z = spending_bounds(looks, alpha)
    assert total(special.ndtr(-z), looks) > 1.02 * alpha
    assert sum(t_exits(z, looks).upper) > 1.5 * alpha
    assert total([alpha] * 3, looks) > 1.5 * alpha


@pytest.mark.parametrize("effect", [0.0, 0.7, -0.4])
def test_exits_by_simulation(effect):
    looks, upper, lower = (3, 5, 6, 10), (6.0, 3.0, 2.5, 1.9), (-math.inf, 0.0, 0.3, -math.inf)
    found = t_exits(upper, looks, lower, effect)
    above, below = exits(t_paths(looks, effect), upper, lower)
    error = 4 * 0.5 / math.sqrt(REPLICATIONS)
    assert found.upper == pytest.approx(above, abs=error)
    assert found.lower == pytest.approx(below, abs=error)


@settings(max_examples=15)
@given(st.integers(2, 12), st.floats(-2, 2), st.floats(-1, 2))
def test_without_early_bounds_the_result_is_the_noncentral_t(n, bound, effect):
    looks = (n, n + 3)
    found = t_exits([math.inf, bound], looks, effect=effect).upper
    expected = stats.nct.sf(bound, looks[-1] - 1, effect * math.sqrt(looks[-1]))
    assert found[0] == pytest.approx(0, abs=1e-9)
    assert found[1] == pytest.approx(expected, abs=1e-3)


@st.composite
def nominal(draw):
    """A design, a look, and a p value there, which is often close to the level of the look."""
    looks, alpha = draw(st.sampled_from([*DESIGNS, ((5,), 0.05)]))
    look = draw(st.integers(0, len(looks) - 1))
    level = nominal_levels(looks, alpha)[look]
    near = [level, math.nextafter(level, 0), math.nextafter(level, 1), level * (1 - 1e-15), level * 0.999]
    return looks, alpha, look, draw(st.sampled_from(near) | st.floats(0, 1) | st.floats(0, 2 * level))


@given(nominal())
def test_repeated_p_is_below_alpha_exactly_if_p_is_below_its_level(case):
    looks, alpha, look, p_value = case
    found = repeated_p(p_value, look, looks, alpha)
    assert 0 <= found <= 1
    assert (found < alpha) == (p_value < nominal_levels(looks, alpha)[look])


@given(nominal(), st.floats(0, 1))
def test_repeated_p_increases_with_p(case, other):
    looks, alpha, look, p_value = case
    low, high = sorted([p_value, other])
    assert repeated_p(low, look, looks, alpha) <= repeated_p(high, look, looks, alpha)


@pytest.mark.parametrize(("looks", "alpha"), DESIGNS)
@pytest.mark.parametrize("multiple", [2e-3, 0.03, 0.3, 0.7, 1.0, 1.4, 3.0])
def test_repeated_p_is_the_total_error_of_the_levels_through_p(looks, alpha, multiple):
    levels = multiple * np.array(nominal_levels(looks, alpha))
    for look, level in enumerate(levels):
        assert repeated_p(level, look, looks, alpha) == pytest.approx(total(levels, looks), rel=0.02)


@pytest.mark.parametrize(("looks", "alpha"), DESIGNS)
def test_the_smallest_repeated_p_value_is_a_p_value(looks, alpha):
    replications = 20_000
    paths = p_paths(looks, (1, 0), replications)
    smallest = [min(repeated_p(p, k, looks, alpha) for k, p in enumerate(path)) for path in paths]
    for level in (0.01, alpha, 0.15, 0.3):
        errors = int((np.array(smallest) < level).sum())
        # It is exact, except for the interpolation of its values.
        assert errors <= stats.binom.isf(0.0005, replications, 1.01 * level)
        assert errors >= stats.binom.ppf(0.0005, replications, 0.97 * level)


@pytest.mark.parametrize(("looks", "alpha"), DESIGNS)
def test_very_small_repeated_p_values_are_proportional_to_p(looks, alpha):
    found = [repeated_p(p, 0, looks, alpha) for p in (1e-9, 1e-12, 0.0)]
    assert found[0] > 1e-9
    assert found[1:] == pytest.approx([found[0] / 1000, 0], rel=1e-9)


def test_repeated_p_with_one_look_is_the_p_value():
    assert repeated_p(0.3, 0, (7,), 0.05) == 0.3


def test_futility_bounds():
    assert futility_bounds((3, 4, 5, 6)).tolist() == [-math.inf, 0, 0, -math.inf]
    assert futility_bounds((3, 4, 5), futility=False).tolist() == [-math.inf] * 3
    assert futility_bounds((3,)).tolist() == [-math.inf]


def test_critical_values_are_t_quantiles():
    assert critical([0.01, 0.03], (4, 9)) == pytest.approx(stats.t.isf([0.01, 0.03], [3, 8]))


@pytest.mark.parametrize(
    ("looks", "alpha", "shape", "message"),
    [
        ((), 0.05, None, "looks: received"),
        ((1,), 0.05, None, "looks"),
        ((1, 5), 0.05, None, "looks"),
        ((5, 5), 0.05, None, "looks"),
        ((7, 5), 0.05, None, "looks"),
        ((5, 7.5), 0.05, None, "looks"),
        ((True, 7), 0.05, None, "looks"),
        ((5, 7), 0.0, None, "alpha: received 0.0"),
        ((5, 7), 0.5, None, "alpha"),
        ((5, 7), math.nan, None, "alpha"),
        ((5,), 0.5, None, "alpha"),
        ((5, 7), 0.05, (1.0,), "shape: received"),
        ((5, 7), 0.05, (1.0, 0.0), "shape"),
        ((5, 7), 0.05, (1.0, math.inf), "shape"),
        ((5, 7), 0.05, (1.0, math.nan), "shape"),
    ],
)
def test_refused(looks, alpha, shape, message):
    with pytest.raises(InputError, match=message):
        nominal_levels(looks, alpha, shape)
