import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special, stats

from benchmarks.populations import RUNS, WORLDS, World, coverage, welch_interval
from invact.errors import InputError
from invact.statistics.comparison.inference import welch
from invact.statistics.comparison.population import image_variance, population_interval

LEVEL = 0.025
shapes = st.tuples(st.integers(2, 5), st.integers(2, 5), st.integers(2, 8))
pairs = shapes.flatmap(
    lambda shape: st.tuples(*(arrays.arrays(bool, (runs, shape[2])) for runs in shape[:2]))
)


def some(runs=(6, 5), images=200, seed=0, truth=0.0, arm_images=0.7):
    """Draw answers of control and treatment."""
    world = World((0.1, 0.1), arm_images, truth, images)
    control, treatment = world.draw(np.random.default_rng(seed), 1, runs)
    return control[0], treatment[0]


def interval_of(control, treatment, level=LEVEL):
    return welch(treatment.mean(axis=1), control.mean(axis=1)).interval(level)


def by_mean_squares(control, treatment):
    """Compute the variance by the two-way analysis of variance of each arm, cell by cell."""
    images = control.shape[1]
    within = 0.0
    columns = []
    for arm in (control.astype(float), treatment.astype(float)):
        runs = len(arm)
        row = [sum(arm[i]) / images for i in range(runs)]
        column = [sum(arm[:, j]) / runs for j in range(images)]
        mean = sum(row) / runs
        rest = sum((arm[i, j] - row[i] - column[j] + mean) ** 2 for i in range(runs) for j in range(images))
        within += rest / ((runs - 1) * (images - 1)) / runs
        columns.append(column)
    d = [new - old for old, new in zip(*columns, strict=True)]
    mean = sum(d) / images
    return max(0.0, sum((one - mean) ** 2 for one in d) / (images - 1) - within) / images


@given(pairs)
def test_against_the_mean_squares(arms):
    assert float(image_variance(*arms)) == pytest.approx(by_mean_squares(*arms), abs=1e-12)


@given(pairs, st.floats(0, 0.5), st.floats(0, 0.5), st.sampled_from([0.001, 0.025, 0.1]))
def test_squares_add_up_on_either_side(arms, below, above, level):
    control, treatment = arms
    difference = np.mean(treatment) - np.mean(control)
    low, high = population_interval(control, treatment, (difference - below, difference + above), level)
    images = stats.norm.isf(level) ** 2 * by_mean_squares(control, treatment)
    assert (difference - low) ** 2 == pytest.approx(below**2 + images, abs=1e-9)
    assert (high - difference) ** 2 == pytest.approx(above**2 + images, abs=1e-9)


def parts(world):
    """Variance over images of the probability of a correct answer, treatment - control, by integration."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    difficulty, old, new = np.meshgrid(nodes, nodes, nodes, indexing="ij")
    weight = weights[:, None, None] * weights[:, None] * weights
    shares = []
    for effect, sd, accuracy in ((old, world.runs[0], 0.75), (new, world.runs[1], 0.75 + world.truth)):
        level = math.sqrt(5 + sd**2 + world.arm_images**2) * special.ndtri(accuracy)
        # Given an image, the effect of a run and the noise of its answer remain.
        shares.append(special.ndtr((level + 2 * difficulty + world.arm_images * effect) / math.hypot(1, sd)))
    d = shares[1] - shares[0]
    mean = (weight * d).sum()
    assert mean == pytest.approx(world.truth, abs=1e-6)
    return (weight * (d - mean) ** 2).sum()


@pytest.mark.parametrize("runs", [(6, 6), (3, 10)])
def test_unbiased_for_the_part_of_the_images(runs):
    # The runs differ much, so that a wrong treatment of their variance is seen. V is almost never cut at 0.
    world = World((0.3, 0.6), 0.7, -0.03)
    control, treatment = world.draw(np.random.default_rng(5), 1_500, runs)
    found = image_variance(control, treatment)
    assert np.mean(found > 0) > 0.998
    truth = parts(world) / world.images
    assert found.mean() == pytest.approx(truth, abs=4 * stats.sem(found))
    assert stats.sem(found) < 0.01 * truth


def test_with_the_squared_error_of_the_test_it_is_the_whole_variance():
    # The variance of the difference over new runs and new images.
    replications = 2_000
    arms = World((0.1, 0.1), 0.7, -0.03).draw(np.random.default_rng(6), replications, (10, 6))
    old, new = (arm.mean(axis=2) for arm in arms)
    square = np.array([welch(*pair).error ** 2 for pair in zip(new, old, strict=True)])
    whole = (new.mean(axis=1) - old.mean(axis=1)).var()
    assert whole == pytest.approx(
        (square + image_variance(*arms)).mean(), rel=4 * math.sqrt(2 / replications)
    )
    assert whole > 1.5 * square.mean()


@pytest.mark.parametrize("n", [3, 10, 100])
def test_more_runs_do_not_average_out_the_images(n):
    world = World((0.1, 0.1), 0.7, 0.0, images=2_000)
    control, treatment = world.draw(np.random.default_rng(n), 1, (n, n))
    assert float(image_variance(control[0], treatment[0])) == pytest.approx(parts(world) / 2_000, rel=0.2)


def test_swapped_arms_change_the_sign():
    control, treatment = some(truth=0.1)
    low, high = population_interval(control, treatment, interval_of(control, treatment), LEVEL)
    assert low > 0
    swapped = population_interval(treatment, control, interval_of(treatment, control), LEVEL)
    assert swapped == pytest.approx((-high, -low))


def test_order_does_not_matter():
    control, treatment = some()
    rng = np.random.default_rng(1)
    images = rng.permutation(control.shape[1])
    mixed = [rng.permutation(arm)[:, images] for arm in (control, treatment)]
    interval = interval_of(control, treatment)
    expected = population_interval(control, treatment, interval, LEVEL)
    assert population_interval(*mixed, interval, LEVEL) == pytest.approx(expected)
    # The images of the arms belong together.
    apart = population_interval(mixed[0], treatment, interval, LEVEL)
    assert apart[1] - apart[0] > 1.2 * (expected[1] - expected[0])


def test_the_interval_stays_where_the_images_add_nothing():
    correct = np.ones((3, 4), dtype=bool)
    assert population_interval(correct, correct[:2], (0.0, 0.0), LEVEL) == (0, 0)
    assert population_interval(correct, correct, (-0.1, 0.2), LEVEL) == pytest.approx((-0.1, 0.2))
    # Answers that differ between the runs as much as between the images leave nothing for the images.
    control = np.array([[1, 0, 1, 0], [0, 1, 0, 1]])
    assert population_interval(control, 1 - control, (-0.1, 0.2), LEVEL) == pytest.approx((-0.1, 0.2))


def test_runs_without_spread_leave_the_images():
    # Each arm gives one answer to each image. This is the variance of a mean over images.
    old, new = np.array([1, 0, 0, 1, 1, 0, 1, 1]), np.array([1, 1, 0, 1, 0, 1, 1, 1])
    low, high = population_interval([old] * 4, [new] * 3, (0.125, 0.125), LEVEL)
    half = stats.norm.isf(LEVEL) * stats.sem(new - old)
    assert (low, high) == pytest.approx((0.125 - half, 0.125 + half))


OK = [[1, 0, 1], [0, 1, 1]]


@pytest.mark.parametrize(
    ("control", "treatment", "message"),
    [
        ([[1, math.nan, 1], [0, 1, 1]], OK, "control: received a value that is not a bool"),
        (OK, [[1, math.nan, 1], [0, 1, 1]], "treatment: received a value"),
        (OK, [[1, 0.5, 1], [0, 1, 1]], "treatment: received a value"),
        (OK, [[1, 2, 1], [0, 1, 1]], "treatment: received a value"),
        (OK, [[1, None, 1], [0, 1, 1]], "treatment: received a value"),
        (OK, [[1, 0, 1]], "treatment: insufficient: received 1 runs and 3 images"),
        ([[1, 0, 1]], OK, "control: insufficient"),
        ([[1], [0]], OK, "control: insufficient: received 2 runs and 1 images"),
        ([1, 0, 1], OK, r"control: received shape \(3,\)\. Allowed: \(runs, images\)"),
        (OK, [[1, 0], [0, 1]], "treatment: received 2 images. Allowed: 3, as for the control"),
    ],
)
def test_refused(control, treatment, message):
    with pytest.raises(InputError, match=message):
        population_interval(control, treatment, (-1.0, 1.0), LEVEL)


@pytest.mark.parametrize(
    "interval", [(0.1, 0.2), (-0.2, -0.1), (math.nan, 0.2), (-0.1, math.nan), (0.1, -0.1)]
)
def test_an_interval_of_other_runs_is_refused(interval):
    with pytest.raises(InputError, match=r"interval: received .*\. Allowed: one that contains 0"):
        population_interval(OK, OK, interval, LEVEL)


@pytest.mark.parametrize("level", [0, 0.5, 0.95, -0.1, math.nan])
def test_level_refused(level):
    with pytest.raises(InputError, match="level: received"):
        population_interval(OK, OK, (-0.1, 0.1), level)


def test_the_simulation_agrees_with_the_public_functions():
    world, runs = World((0.05, 0.2), 0.5, -0.03), (6, 9)
    arms = world.draw(np.random.default_rng(3), 50, runs)
    difference, half = welch_interval(*arms, LEVEL)
    moved = np.sqrt(half**2 + stats.norm.isf(LEVEL) ** 2 * image_variance(*arms))
    inside = []
    for row, (control, treatment) in enumerate(zip(*arms, strict=True)):
        interval = interval_of(control, treatment)
        assert interval == pytest.approx((difference[row] - half[row], difference[row] + half[row]))
        low, high = population_interval(control, treatment, interval, LEVEL)
        assert (low, high) == pytest.approx((difference[row] - moved[row], difference[row] + moved[row]))
        inside.append((interval[0] < world.truth < interval[1], low < world.truth < high))
    rate = coverage(world, runs, 50, LEVEL, seed=3)
    assert (rate.test_set, rate.population) == tuple(np.mean(inside, axis=0))


def check_coverage(world, runs, replications):
    rate = coverage(world, runs, replications)
    covered = round(replications * rate.population)
    assert stats.binom.ppf(0.0005, replications, 0.945) <= covered
    assert covered <= stats.binom.isf(0.0005, replications, 0.97)
    if world.arm_images == 0.7:
        # The interval for this test set is far too narrow for the population.
        assert rate.test_set < 0.9


@pytest.mark.parametrize("runs", [(6, 6), (10, 10), (18, 18)])
@pytest.mark.parametrize("world", [WORLDS[0], WORLDS[3]])
def test_coverage_for_the_population(world, runs):
    check_coverage(world, runs, 2_000)


@pytest.mark.slow
@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("world", WORLDS)
def test_coverage_for_every_population(world, runs):
    check_coverage(world, runs, 10_000)
