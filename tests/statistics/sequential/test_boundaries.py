import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from invact.errors import InputError
from invact.statistics.sequential.boundaries import (
    LOOKS,
    critical,
    nominal_levels,
    spending_bounds,
    wang_tsiatis,
)
from invact.statistics.sequential.crossing import normal_exits, t_exits, t_tail

REPLICATIONS = 200_000


def total(levels, looks=LOOKS):
    return sum(t_exits(critical(levels, looks), looks).upper)


def t_paths(looks, effect=0.0, replications=REPLICATIONS, seed=5):
    values = np.random.default_rng(seed).normal(effect, 1, (replications, looks[-1]))
    return np.stack([stats.ttest_1samp(values[:, :n], 0, axis=1).statistic for n in looks], axis=1)


def exits(paths, upper, lower):
    left = np.ones(len(paths), dtype=bool)
    above, below = [], []
    for t, top, floor in zip(paths.T, upper, lower, strict=True):
        above.append(np.mean(left & (t > top)))
        below.append(np.mean(left & (t <= floor)))
        left &= (t <= top) & (t > floor)
    return above, below


def test_golden_normal_bounds():
    # Jennison and Turnbull 2000, tables 2.1 and 2.3: 5 looks, two-sided 0.05.
    pocock, obrien_fleming = (wang_tsiatis(range(1, 6), 0.05, shape) for shape in (0.5, 0.0))
    assert pocock == pytest.approx([2.413] * 5, abs=5e-4)
    assert obrien_fleming[-1] == pytest.approx(2.040, abs=5e-4)
    assert obrien_fleming == pytest.approx(obrien_fleming[-1] * np.sqrt(5 / np.arange(1, 6)))


def test_normal_exits_against_a_bivariate_normal():
    upper, information = [1.9, 1.7], [3.0, 7.0]
    cover = stats.multivariate_normal([0, 0], [[1, math.sqrt(3 / 7)], [math.sqrt(3 / 7), 1]])
    found = normal_exits(upper, information)
    assert sum(found.upper) == pytest.approx(1 - cover.cdf(upper), abs=1e-6)
    assert found.lower == (0, 0)


def test_spending_bounds_spend_the_given_error():
    fractions = np.array([0.2, 0.5, 0.8, 1.0])
    found = normal_exits(spending_bounds(fractions, 0.05), fractions)
    expected = 2 * stats.norm.sf(stats.norm.isf(0.025) / np.sqrt(fractions))
    assert np.cumsum(found.upper) == pytest.approx(expected, abs=1e-8)


def test_the_published_levels():
    # Levels from a simulation, with a total of 0.050, are reproduced to within the error of that simulation.
    published = [0.00064, 0.00362, 0.00937, 0.02299, 0.0380]
    assert total(published) == pytest.approx(0.050, abs=5e-4)
    assert nominal_levels() == pytest.approx(published, rel=0.01)
    assert total(nominal_levels()) == pytest.approx(0.05, abs=1e-9)


@pytest.mark.parametrize(("looks", "alpha"), [((3, 6), 0.05), ((5, 7, 9, 12, 15), 0.01), ((2, 4, 8), 0.1)])
def test_total_error_by_simulation(looks, alpha):
    bounds = critical(nominal_levels(looks, alpha), looks)
    found = (t_paths(looks) > bounds).any(axis=1).mean()
    assert found == pytest.approx(alpha, abs=4 * math.sqrt(alpha * (1 - alpha) / REPLICATIONS))


def test_bounds_without_calibration_exceed_the_level():
    # Levels from normal theory exceed alpha by more than the tolerances here; normal bounds on t even more.
    z = spending_bounds(LOOKS, 0.05)
    assert total(special.ndtr(-z)) > 0.0525
    assert sum(t_exits(z, LOOKS).upper) > 0.07
    assert total([0.05] * 5) > 0.11


@pytest.mark.parametrize("effect", [0.0, 0.7, -0.4])
def test_exits_by_simulation(effect):
    looks, upper, lower = (3, 5, 6, 10), (6.0, 3.0, 2.5, 1.9), (-math.inf, 0.0, 0.3, -math.inf)
    found = t_exits(upper, looks, lower, effect)
    above, below = exits(t_paths(looks, effect), upper, lower)
    error = 4 * 0.5 / math.sqrt(REPLICATIONS)
    assert found.upper == pytest.approx(above, abs=error)
    assert found.lower == pytest.approx(below, abs=error)


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 12), st.floats(-2, 2), st.floats(-1, 2))
def test_without_early_bounds_the_result_is_the_noncentral_t(n, bound, effect):
    looks = (n, n + 3)
    found = t_exits([math.inf, bound], looks, effect=effect).upper
    expected = stats.nct.sf(bound, looks[-1] - 1, effect * math.sqrt(looks[-1]))
    assert found[0] == pytest.approx(0, abs=1e-9)
    assert found[1] == pytest.approx(expected, abs=1e-3)


def test_t_tail_agrees_with_t_exits():
    looks, upper, lower = (4, 6, 9), [3.0, 2.5, 2.0], [-math.inf, 0.0, -math.inf]
    found = t_exits(upper, looks, lower)
    earlier, now = t_tail([2.0, -math.inf], upper[:2], looks, lower[:2])
    assert earlier == pytest.approx(sum(found.upper[:2]))
    assert now[0] == pytest.approx(found.upper[2], abs=1e-5)
    assert now[1] == pytest.approx(1 - sum(found.upper[:2]) - sum(found.lower[:2]), abs=1e-9)


@pytest.mark.parametrize(
    ("looks", "alpha", "shape", "message"),
    [
        ((5,), 0.05, None, "looks"),
        ((), 0.05, None, "looks"),
        ((1, 5), 0.05, None, "looks"),
        ((5, 5), 0.05, None, "looks"),
        ((7, 5), 0.05, None, "looks"),
        ((5, 7.5), 0.05, None, "looks"),
        ((5, 7), 0.0, None, "alpha"),
        ((5, 7), 0.5, None, "alpha"),
        ((5, 7), math.nan, None, "alpha"),
        ((5, 7), 0.05, (1.0,), "shape"),
        ((5, 7), 0.05, (1.0, 0.0), "shape"),
    ],
)
def test_refused(looks, alpha, shape, message):
    with pytest.raises(InputError, match=message):
        nominal_levels(looks, alpha, shape)
