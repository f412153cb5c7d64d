import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invact.errors import InputError
from invact.statistics.fronts.dominance import hypervolume, non_dominated

# There are few distinct values, so that ties are frequent.
finite_pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


numbers = st.one_of(st.integers(0, 6).map(float), st.sampled_from([math.nan, math.inf, -math.inf]))


pairs = st.lists(st.tuples(numbers, numbers), max_size=12)


def columns(points):
    return [accuracy for accuracy, _ in points], [macs for _, macs in points]


def dominates(one, other):
    return one[0] >= other[0] and one[1] <= other[1] and one != other


@given(pairs)
def test_non_dominated_agrees_with_its_definition(points):
    known = [all(map(math.isfinite, point)) for point in points]
    expected = [
        known[i]
        and not any(known[j] and dominates(points[j], points[i]) for j in range(len(points)))
        and points[i] not in points[:i]
        for i in range(len(points))
    ]
    assert non_dominated(*columns(points)).tolist() == expected


def test_non_dominated_is_fast():
    # The definition compares all pairs, which would be 4e10 comparisons.
    rng = np.random.default_rng(0)
    accuracy, macs = rng.random(200_000), rng.random(200_000)
    mask = non_dominated(accuracy, macs)
    front = np.flatnonzero(mask)[np.argsort(macs[mask])]
    assert (np.diff(accuracy[front]) > 0).all()
    best = np.interp(np.arange(len(macs)), np.arange(len(macs)), accuracy)
    below = np.searchsorted(macs[front], macs, side="right") - 1
    assert (best <= accuracy[front][below]).all()


@pytest.mark.parametrize(("accuracy", "macs"), [([1.0], [1.0, 2.0]), ([[1.0]], [[1.0]])])
def test_bad_shapes_are_refused(accuracy, macs):
    with pytest.raises(InputError, match="shapes"):
        non_dominated(accuracy, macs)
    with pytest.raises(InputError, match="shapes"):
        hypervolume(accuracy, macs, (0, 10))


def test_hypervolume_of_a_known_front():
    # If both are minimised, the hypervolume of {(5, 5), (4, 6), (2, 7), (7, 4)} to (10, 10) is 38.
    losses, macs = [5, 4, 2, 7], [5, 6, 7, 4]
    assert hypervolume([-loss for loss in losses], macs, (-10, 10)) == 38
    assert hypervolume([-loss for loss in [*losses, 8, 5]], [*macs, 8, 5], (-10, 10)) == 38


@given(finite_pairs, st.tuples(st.integers(-1, 6), st.integers(0, 7)))
def test_hypervolume_counts_the_dominated_cells(points, reference):
    cells = {
        (a, m)
        for accuracy, macs in points
        for a in range(reference[0], accuracy)
        for m in range(macs, reference[1])
    }
    assert hypervolume(*columns(points), reference) == len(cells)


@given(pairs, st.tuples(numbers, numbers))
def test_hypervolume_never_shrinks_with_a_new_point(points, another):
    reference = (0.0, 5.0)
    assert hypervolume(*columns([*points, another]), reference) >= hypervolume(*columns(points), reference)


@given(finite_pairs, st.randoms())
def test_hypervolume_is_that_of_the_front_in_any_order(points, random):
    mask = non_dominated(*columns(points))
    front = [point for point, on_front in zip(points, mask, strict=True) if on_front]
    random.shuffle(points)
    assert hypervolume(*columns(points), (0, 7)) == hypervolume(*columns(front), (0, 7))


@pytest.mark.parametrize("reference", [(math.nan, 10), (0, math.inf)])
def test_hypervolume_needs_a_finite_reference(reference):
    with pytest.raises(InputError, match="reference"):
        hypervolume([0.5], [1], reference)
