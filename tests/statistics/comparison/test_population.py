import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from benchmarks.populations import Ends, World, population_ends
from invact.errors import InputError
from invact.statistics.comparison.population import (
    mean_squares,
    population_interval,
    population_variance,
    scopes,
)
from invact.statistics.sequential.group_sequential import group_sequential, stops

shapes = st.tuples(st.integers(2, 5), st.integers(2, 8))
pairs = shapes.flatmap(lambda shape: st.tuples(*(arrays.arrays(bool, shape) for _ in range(2))))


def runs(seeds=6, items=200, seed=0, better=0.1):
    """Draw correct or wrong answers; items differ in difficulty, and partly in each arm separately."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(0, 2, items)
    return tuple(
        1 + shift + difficulty + rng.normal(0, 0.7, items) + rng.normal(0, 1, (seeds, items)) > 0
        for shift in (0, better)
    )


def naive(control, treatment):
    """Compute the mean squares by their definition, cell by cell."""
    d = treatment.astype(float) - control
    seeds, items = d.shape
    row = [sum(d[i]) / items for i in range(seeds)]
    column = [sum(d[:, j]) / seeds for j in range(items)]
    mean = sum(row) / seeds
    a = sum(items * (r - mean) ** 2 for r in row) / (seeds - 1)
    b = sum(seeds * (c - mean) ** 2 for c in column) / (items - 1)
    rest = sum((d[i, j] - row[i] - column[j] + mean) ** 2 for i in range(seeds) for j in range(items))
    return mean, a, b, rest / ((seeds - 1) * (items - 1))


@given(pairs)
def test_against_the_definition(arms):
    control, treatment = arms
    found = scopes(control, treatment)
    seeds, items = control.shape
    mean, a, b, e = naive(control, treatment)
    assert found.mean == pytest.approx(mean, abs=1e-12)
    assert found.seed_variance == pytest.approx((a - e) / items, abs=1e-9)
    assert found.item_variance == pytest.approx((b - e) / seeds, abs=1e-9)
    assert found.cell_variance == pytest.approx(e, abs=1e-9)
    total = max(a + b - e, a)
    assert found.population.se == pytest.approx(math.sqrt(total / (seeds * items)), abs=1e-7)
    assert found.population.se >= found.seeds.se
    parts = a**2 / (seeds - 1) + b**2 / (items - 1) + e**2 / (seeds - 1) / (items - 1)
    if parts > 1e-9:
        assert found.population.df == pytest.approx(max(total**2 / parts, 1), rel=1e-6)
    half = stats.t.isf(0.025, found.population.df) * found.population.se
    assert found.population.interval == pytest.approx((mean - half, mean + half), abs=1e-6)


def test_by_seeds_alone_is_the_t_interval_of_their_accuracies():
    control, treatment = runs()
    found = scopes(control, treatment, confidence=0.9)
    differences = treatment.mean(axis=1) - control.mean(axis=1)
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.9)
    assert found.seeds.interval == pytest.approx((expected.low, expected.high))
    assert found.seeds.se == pytest.approx(stats.sem(differences))
    assert found.seeds.df == len(differences) - 1


def test_variance_components_add_up_to_the_population_variance():
    control, treatment = runs()
    found = scopes(control, treatment)
    seeds, items = control.shape
    parts = found.seed_variance / seeds + found.item_variance / items + found.cell_variance / (seeds * items)
    assert found.population.se**2 == pytest.approx(parts)
    assert found.item_variance > 0


def test_against_the_pigeonhole_bootstrap():
    # Owen 2007: if rows and columns are resampled independently, the variance of the mean contains var(e)
    # three times, on average over the data. For one array it can be computed exactly from the mean squares.
    control, treatment = runs(seeds=5, items=60)
    d = treatment.astype(float) - control
    seeds, items = d.shape
    rng = np.random.default_rng(0)
    rows = rng.multinomial(seeds, np.full(seeds, 1 / seeds), 20_000)
    columns = rng.multinomial(items, np.full(items, 1 / items), 20_000)
    means = np.einsum("ri,ij,rj->r", rows, d, columns, optimize=True) / d.size
    a, b, e = (float(value) for value in mean_squares(d))
    expected = a * (seeds - 1) / seeds + b * (items - 1) / items + e * (seeds - 1) * (items - 1) / d.size
    assert means.var() == pytest.approx(expected / d.size, rel=0.04)
    assert scopes(control, treatment).population.se ** 2 == pytest.approx((a + b - e) / d.size)


def test_unbiased_for_the_variance_of_the_mean():
    rng = np.random.default_rng(5)
    shape = (4000, 4, 12)
    seed_sd, item_sd, cell_sd = 0.5, 1.0, 2.0
    d = (
        seed_sd * rng.standard_normal((4000, 4, 1))
        + item_sd * rng.standard_normal((4000, 1, 12))
        + cell_sd * rng.standard_normal(shape)
    )
    a, b, e = mean_squares(d)
    truth = seed_sd**2 / 4 + item_sd**2 / 12 + cell_sd**2 / 48
    assert np.mean(a + b - e) / 48 == pytest.approx(truth, rel=0.04)
    assert np.mean(a - e) / 12 == pytest.approx(seed_sd**2, rel=0.15)
    assert np.mean(b - e) / 4 == pytest.approx(item_sd**2, rel=0.1)
    assert np.mean(e) == pytest.approx(cell_sd**2, rel=0.02)
    variance, df = population_variance(a, b, e, 4, 12)
    assert (variance >= a / 48).all()
    assert (df >= 1).all()


def test_more_seeds_do_not_average_out_the_items():
    # Ten sets of runs are needed because estimates of a variance vary widely.
    ratios = []
    for seeds in (3, 10, 30):
        found = [scopes(*runs(seeds=seeds, items=400, seed=seed)) for seed in range(10)]
        ratios.append(sum(one.seeds.se for one in found) / sum(one.population.se for one in found))
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] < 0.5


def test_swapped_arms_change_the_sign():
    control, treatment = runs(better=0.5)
    found, swapped = scopes(control, treatment), scopes(treatment, control)
    assert found.mean > 0
    assert found.mean == pytest.approx(np.mean(treatment) - np.mean(control))
    assert swapped.mean == pytest.approx(-found.mean)
    low, high = found.population.interval
    assert swapped.population.interval == pytest.approx((-high, -low))


def test_order_does_not_matter():
    control, treatment = runs()
    rng = np.random.default_rng(1)
    rows, columns = rng.permutation(control.shape[0]), rng.permutation(control.shape[1])
    found = scopes(control, treatment)
    other = scopes(control[rows][:, columns], treatment[rows][:, columns])
    assert other.population.interval == pytest.approx(found.population.interval)


def test_no_spread():
    correct = np.ones((3, 4), dtype=bool)
    found = scopes(correct, correct)
    assert found.seeds.interval == found.population.interval == (0, 0)
    # A failed run counts with the items that it classified correctly.
    failed = correct.copy()
    failed[0] = False
    found = scopes(correct, failed)
    assert found.mean == pytest.approx(-1 / 3)
    assert found.population.se == pytest.approx(1 / 3)


OK = [[1, 0, 1], [0, 1, 1]]


@pytest.mark.parametrize(
    ("control", "treatment", "message"),
    [
        ([[1, math.nan, 1], [0, 1, 1]], OK, "control: received a value"),
        (OK, [[1, math.nan, 1], [0, 1, 1]], "treatment: received a value"),
        (OK, [[1, 0.5, 1], [0, 1, 1]], "treatment: received a value"),
        (OK, [[1, 2, 1], [0, 1, 1]], "treatment: received a value"),
        (OK, [[1, None, 1], [0, 1, 1]], "treatment: received a value"),
        (OK, [[1, 0, 1]], "insufficient"),
        ([[1, 0, 1]], OK, "insufficient"),
        ([[1], [0]], OK, "insufficient"),
        ([1, 0, 1], OK, "shape"),
        (OK, [[1, 0], [0, 1]], "shape"),
    ],
)
def test_refused(control, treatment, message):
    with pytest.raises(InputError, match=message):
        scopes(control, treatment)


def test_confidence_refused():
    with pytest.raises(InputError, match="confidence"):
        scopes(OK, OK, confidence=1)


@given(pairs)
def test_without_an_adjustment_the_result_is_the_two_way_interval(arms):
    found = scopes(*arms)
    both = population_interval(found, found.mean, found.seeds.interval)
    wider = max(np.diff(found.population.interval)[0], np.diff(found.seeds.interval)[0]) / 2
    assert both == pytest.approx((found.mean - wider, found.mean + wider), abs=1e-9)


@given(pairs, st.floats(0, 0.5), st.floats(0, 0.5), st.floats(-0.5, 0.5))
def test_squares_of_both_scopes_add_up_on_either_side(arms, below, above, estimate):
    found = scopes(*arms, confidence=0.9)
    low, high = population_interval(found, estimate, (estimate - below, estimate + above))
    seeds, both = (
        stats.t.isf(0.05, one.df) * one.se if one.se > 0 else 0.0 for one in (found.seeds, found.population)
    )
    items = max(both**2 - seeds**2, 0)
    assert (estimate - low) ** 2 == pytest.approx(below**2 + items, rel=1e-6, abs=1e-9)
    assert (high - estimate) ** 2 == pytest.approx(above**2 + items, rel=1e-6, abs=1e-9)


def test_an_estimate_outside_its_interval_moves_to_the_nearest_end():
    found = scopes(*runs())
    low, high = population_interval(found, 0.3, (0.1, 0.2))
    assert (low, high) == population_interval(found, 0.2, (0.1, 0.2))
    assert high > 0.2
    # The interval of an e-process is infinite until there are enough pairs.
    assert population_interval(found, 0.3, (-math.inf, math.inf)) == (-math.inf, math.inf)
    for broken in ((math.nan, 0.2), (0.1, math.nan)):
        with pytest.raises(InputError, match="interval"):
            population_interval(found, 0.15, broken)


@pytest.fixture(scope="module")
def ends():
    return Ends.of(0.025, (5, 9), nodes=15)


def test_the_simulation_agrees_with_the_public_functions(ends):
    world = World(0.2, 0.5, 0.0)
    found = population_ends(world, ends, 200, seed=3)
    drawn = world.draw(np.random.default_rng(3), 200, 9)
    for row in range(0, 200, 20):
        result = group_sequential(drawn[row].mean(axis=1, dtype=float), world.margin, 0.025, (5, 9))
        arms = (drawn[row, : result.n] < 0, drawn[row, : result.n] > 0)
        expected = population_interval(scopes(*arms), result.estimate, result.interval)
        width = expected[1] - expected[0]
        for name, interval in (("seeds alone", result.interval), ("population_interval", expected)):
            low, high = found[name]
            assert (low[row], high[row]) == pytest.approx(interval, abs=0.01 * width)
    assert stops(drawn.mean(axis=2, dtype=float), world.margin, 0.025, (5, 9)).look.max() == 1


@pytest.mark.parametrize(("seed_sd", "item_sd"), [(0.05, 0.7), (0.2, 0.5)])
def test_coverage_for_the_population_after_stopping(ends, seed_sd, item_sd):
    replications = 3_000
    world = World(seed_sd, item_sd, 0.0)
    covered = {
        name: np.mean((low < world.truth) & (world.truth < high))
        for name, (low, high) in population_ends(world, ends, replications, seed=20260101).items()
    }
    error = math.sqrt(0.95 * 0.05 / replications)
    assert 0.94 - 2 * error <= covered["population_interval"] <= 0.96 + 2 * error
    if item_sd == 0.7:
        assert covered["seeds alone"] < 0.9
