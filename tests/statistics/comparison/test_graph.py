import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from helpers import holm_of_statsmodels
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from invact.errors import InputError
from invact.statistics.comparison.graph import graphical, ladders_graph

ALPHA, REPLICATIONS = 0.05, 4_000

small = st.integers(0, 1_000).map(lambda count: Fraction(count, 10_000))
sizes = st.lists(st.integers(1, 3), min_size=1, max_size=4)


def shares(m, least=6):
    """M shares with a sum of at most 1, as exact fractions."""
    parts = st.lists(st.integers(0, 6), min_size=m, max_size=m)
    return parts.map(lambda values: [Fraction(value, max(sum(values), least)) for value in values])


@st.composite
def graphs(draw):
    m = draw(st.integers(1, 4))
    transitions = [draw(shares(m - 1)) for _ in range(m)]
    for i, row in enumerate(transitions):
        row.insert(i, Fraction(0))
    return draw(st.lists(small, min_size=m, max_size=m)), draw(shares(m)), transitions


def without(weights, transitions, j):
    """The update of the graph, from the paper, in exact arithmetic."""
    m = len(weights)
    left = [[Fraction(0)] * m for _ in range(m)]
    for i, k in itertools.product(range(m), repeat=2):
        loop = transitions[i][j] * transitions[j][i]
        if i != k and j not in (i, k) and loop < 1:
            left[i][k] = (transitions[i][k] + transitions[i][j] * transitions[j][k]) / (1 - loop)
    passed = [weights[i] + weights[j] * transitions[j][i] for i in range(m)]
    passed[j] = Fraction(0)
    return passed, left


def closed_test(p_values, weights, transitions, order):
    """Adjusted p values of the closed test: each intersection by a weighted Bonferroni test."""
    m = len(p_values)
    adjusted = [Fraction(0)] * m
    for size in range(1, m + 1):
        for inside in itertools.combinations(range(m), size):
            shared, passed = weights, transitions
            for j in order:
                if j not in inside:
                    shared, passed = without(shared, passed, j)
            tests = [p_values[i] / shared[i] for i in inside if shared[i] > 0]
            for i in inside:
                adjusted[i] = max(adjusted[i], min([Fraction(1), *tests]))
    return adjusted


def floats(values):
    return np.array(values, dtype=float)


@given(graphs(), st.randoms(use_true_random=False))
def test_the_result_is_that_of_the_closed_test(graph, random):
    p_values, weights, transitions = graph
    order = list(range(len(p_values)))
    random.shuffle(order)
    expected = closed_test(p_values, weights, transitions, order)
    found = graphical(floats(p_values), floats(weights), floats(transitions))
    assert found == pytest.approx(floats(expected), rel=1e-9)


@given(sizes, st.data())
def test_ladders_against_the_closed_test(sizes, data):
    m = sum(sizes)
    if m > 6:
        sizes, m = sizes[:2], sum(sizes[:2])
    p_values = data.draw(st.lists(small, min_size=m, max_size=m))
    weights, transitions = ladders_graph(sizes)
    exact = [[Fraction(value).limit_denominator(10) for value in row] for row in [weights, *transitions]]
    expected = closed_test(p_values, exact[0], exact[1:], range(m))
    assert graphical(floats(p_values), weights, transitions) == pytest.approx(floats(expected), rel=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_one_rung_in_each_set_is_holm(p_values):
    found = graphical(p_values, *ladders_graph([1] * len(p_values)))
    assert found == pytest.approx(holm_of_statsmodels(p_values), rel=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_one_set_is_the_fixed_sequence(p_values):
    found = graphical(p_values, *ladders_graph([len(p_values)]))
    assert found.tolist() == np.maximum.accumulate(p_values).tolist()


@given(sizes, st.data())
def test_properties_of_ladders(sizes, data):
    m = sum(sizes)
    p_values = np.array(data.draw(st.lists(st.floats(0, 0.2), min_size=m, max_size=m)))
    weights, transitions = ladders_graph(sizes)
    assert weights.sum() == pytest.approx(1)
    # No level is lost, except after the last rung of the only set.
    assert transitions.sum(axis=1) == pytest.approx([1] * (m - 1) + [float(len(sizes) > 1)])
    adjusted = graphical(p_values, weights, transitions)
    assert (adjusted >= p_values).all()
    for rungs in np.split(adjusted, np.cumsum(sizes)[:-1]):
        # No rung is rejected before the rungs before it.
        assert (np.diff(rungs) >= 0).all()
    place = data.draw(st.integers(0, m - 1))
    p_values[place] /= 2
    assert (graphical(p_values, weights, transitions) <= adjusted + 1e-12).all()


# The adjusted p values that the R package graphicalMCP 0.2 prints: its vignettes "Shortcut testing" and
# "Graphical multiple comparison procedures based on the closure principle". The third example is a test of
# the R package gMCP (Holm's method).
PUBLISHED = [
    (
        [0.018, 0.01, 0.105, 0.006],
        [0.5, 0.5, 0, 0],
        [[0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5], [0, 1, 0, 0], [1, 0, 0, 0]],
        [0.024, 0.020, 0.105, 0.024],
    ),
    (
        [0.015, 0.013, 0.01, 0.007, 0.1, 0.0124],
        [0.5, 0.5, 0, 0, 0, 0],
        [
            [0, 0.5, 0.25, 0, 0.25, 0],
            [0.5, 0, 0, 0.25, 0, 0.25],
            [0, 0, 0, 0, 1, 0],
            [1e-5, 0, 0, 0, 0, 1 - 1e-5],
            [0, 1e-5, 1 - 1e-5, 0, 0, 0],
            [0, 0, 0, 1, 0, 0],
        ],
        [0.026, 0.026, 0.028, 0.028, 0.100, 0.028],
    ),
    ([0.02, 0.055, 0.012], *ladders_graph([1, 1, 1]), [0.04, 0.055, 0.036]),
]


@pytest.mark.parametrize(("p_values", "weights", "transitions", "expected"), PUBLISHED)
def test_published_adjusted_p_values(p_values, weights, transitions, expected):
    assert graphical(p_values, weights, transitions) == pytest.approx(expected, abs=5e-7)


def test_published_rejections():
    # Bretz, Posch, Glimm, Klinglmueller, Maurer and Rohmeyer, Biometrical Journal 53, 2011, as the R package
    # gMCP tests it at the level 0.05: a primary and a secondary hypothesis for each of three treatments.
    transitions = [
        [0, 1 / 2, 0, 1 / 2, 0, 0],
        [1 / 3, 0, 1 / 3, 0, 1 / 3, 0],
        [0, 1 / 2, 0, 0, 0, 1 / 2],
        [0, 1, 0, 0, 0, 0],
        [1 / 2, 0, 1 / 2, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
    ]
    p_values = [0.1, 0.008, 0.005, 0.15, 0.04, 0.006]
    found = graphical(p_values, [1 / 3, 1 / 3, 1 / 3, 0, 0, 0], transitions)
    assert (found <= ALPHA).tolist() == [False, True, True, False, False, True]
    # By hand: the weight of the third is 1/3, so 0.015. It passes 1/6 to the second and to the sixth. The
    # weight of the second is then 1/2, so 0.016. It passes (1/3 * 1/2) / (1 - 1/3 * 1/2) = 1/5 of it to the
    # sixth, whose weight is then 1/6 + 1/10, so 0.0225.
    assert found[[2, 1, 5]] == pytest.approx([0.015, 0.016, 0.0225])


def test_ladders_by_hand():
    weights, transitions = ladders_graph([2, 1, 3])
    assert weights == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3, 0, 0])
    assert transitions.tolist() == [
        [0, 1, 0, 0, 0, 0],
        [0, 0, 1 / 2, 1 / 2, 0, 0],
        [1 / 2, 0, 0, 1 / 2, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
        [1 / 2, 0, 1 / 2, 0, 0, 0],
    ]


def test_a_hypothesis_without_weight_is_not_rejected():
    # The first hypothesis passes nothing on, so the second never gets a weight.
    assert graphical([0, 0], [1, 0], [[0, 0], [0, 0]]).tolist() == [0, 1]
    assert graphical([0.0], [0.0], [[0.0]]).tolist() == [1]
    # Weight that is not used is lost.
    assert graphical([0.01, 0.02], [0.25, 0.25], [[0, 1], [1, 0]]).tolist() == [0.04, 0.04]


def test_shares_that_are_rounded_are_allowed():
    tenths = [0.1] * 10
    assert sum(tenths) != 1
    row = [0.0, *[1 / 9] * 9]
    transitions = [row[-i:] + row[:-i] for i in range(10)]
    assert graphical([0.001] * 10, tenths, transitions) == pytest.approx([0.01] * 10)


# For each set: its number of rungs, and the index of its first rung whose null hypothesis is true; that of
# the later ones is true, too. If the index is the number of rungs, no null hypothesis of the set is true.
WORLDS = [
    [(3, 0), (2, 0)],
    [(3, 1), (2, 2)],
    [(3, 0), (2, 2)],
    [(2, 0), (3, 2), (1, 0)],
    [(2, 2), (3, 0), (1, 1)],
    [(1, 0), (2, 1), (3, 1), (2, 0)],
    [(1, 1), (2, 2), (3, 2), (2, 0)],
    [(3, 0), (1, 0), (2, 0), (2, 0), (1, 0)],
    [(3, 2), (1, 1), (2, 0), (2, 2), (1, 0)],
]


@pytest.mark.parametrize("dependence", ["independent", "disjoint", "equal"])
@pytest.mark.parametrize("world", WORLDS)
def test_family_wise_error(world, dependence):
    numbers, firsts = (np.array(part) for part in zip(*world, strict=True))
    starts = np.cumsum(numbers) - numbers
    graph = ladders_graph(numbers.tolist())
    true = np.concatenate([np.arange(n) >= first for n, first in world])
    rng = np.random.default_rng(int(true @ 2 ** np.arange(len(true))))
    # The p values of false null hypotheses are 0, which is the worst case.
    p_values = np.where(true, rng.random((REPLICATIONS, len(true))), 0.0)
    reached = (starts + firsts)[firsts < numbers]
    if dependence == "disjoint":
        # At most one of these p values is small, so no rejection of two at once is counted as one error.
        p_values[:, reached] = (p_values[:, reached[:1]] + np.arange(len(reached)) / len(reached)) % 1
    if dependence == "equal":
        p_values = np.where(true, p_values[:, reached[:1]], 0.0)
    # The rest cannot be rejected, because no weight is above 1.
    candidates = p_values[p_values[:, true].min(axis=1) <= ALPHA]
    errors = sum(bool((graphical(row, *graph)[true] <= ALPHA).any()) for row in candidates)
    assert errors <= stats.binom.isf(0.0005, REPLICATIONS, ALPHA)
    if dependence == "disjoint":
        # The weights of the true null hypotheses that are tested have the sum 1: no level is lost.
        assert errors >= stats.binom.ppf(0.0005, REPLICATIONS, ALPHA)


TWO = [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("p_values", "weights", "transitions", "message"),
    [
        ([0.1, 1.1], [0.5, 0.5], TWO, r"p values: received \[0\.1, 1\.1\]"),
        ([0.1, -0.1], [0.5, 0.5], TWO, "p values"),
        ([0.1, math.nan], [0.5, 0.5], TWO, "p values"),
        ([[0.1, 0.2]], [0.5, 0.5], TWO, "p values"),
        ([0.1, 0.2], [1.0], TWO, "weights: received"),
        ([0.1, 0.2], [0.6, 0.5], TWO, "weights"),
        ([0.1, 0.2], [1.5, -0.5], TWO, "weights"),
        ([0.1, 0.2], [0.5, math.nan], TWO, "weights"),
        ([0.1, 0.2], [0.5, 0.5], [0, 1], r"transitions: .* shape \(2, 2\)"),
        ([0.1, 0.2], [0.5, 0.5], [[0, 1]], "transitions"),
        ([0.1, 0.2], [0.5, 0.5], [[0, 1.1], [1, 0]], "transitions: .* row sums"),
        ([0.1, 0.2], [0.5, 0.5], [[0, -0.5], [1, 0]], "transitions"),
        ([0.1, 0.2], [0.5, 0.5], [[0, math.nan], [1, 0]], "transitions"),
        ([0.1, 0.2], [0.5, 0.5], [[0.5, 0.5], [1, 0]], r"transitions: received the diagonal \[0\.5, 0\.0\]"),
    ],
)
def test_graphical_refuses(p_values, weights, transitions, message):
    with pytest.raises(InputError, match=message):
        graphical(p_values, weights, transitions)


@pytest.mark.parametrize("sizes", [[], [0], [2, -1], [1.0], [True, 1], ["2"]])
def test_ladders_graph_refuses(sizes):
    with pytest.raises(InputError, match="sizes: received"):
        ladders_graph(sizes)
