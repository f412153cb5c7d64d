import math
from dataclasses import replace
from functools import cache

import moocore
import numpy as np
import optuna
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from invact.errors import InputError
from invact.search.halving import Arrival, SuccessiveHalving

ETAS = st.integers(2, 5)
SLACKS = st.sampled_from([0.0, 0.125, 0.25])
# Few values, all of them exact in binary, so that there are ties and differences that equal the slack.
POINTS = st.tuples(st.integers(0, 8).map(lambda n: n / 8), st.integers(1, 6).map(float))
MANY = st.lists(POINTS, max_size=20)


def arrivals(points, epoch=1):
    return [Arrival(number, epoch, *point) for number, point in enumerate(points)]


def goes_on(points, new, eta=3, slack=0.0):
    return SuccessiveHalving(9, 1, eta, slack).goes_on(arrivals(points), Arrival(len(points), 1, *new))


def chain(points, slack):
    """The rank of each point, by its definition: the longest chain of points that beat each other."""

    def beats(one, other):
        return one[1] <= other[1] and one[0] >= other[0] + slack and (one[0] > other[0] or one[1] < other[1])

    @cache
    def rank(point):
        return max((1 + rank(one) for one in points if beats(one, point)), default=0)

    return np.array([rank(point) for point in points])


def in_quota(ranks, eta):
    return (ranks < ranks[-1]).sum() < max(1, len(ranks) // eta)


@given(MANY, POINTS, ETAS)
def test_ranks_are_those_of_moocore(points, new, eta):
    every = np.array([*points, new])
    ranks = moocore.pareto_rank(every * [-1, 1])
    assert goes_on(points, new, eta) == in_quota(ranks, eta)


@given(MANY, POINTS, ETAS, SLACKS)
def test_ranks_with_slack_are_the_longest_chains(points, new, eta, slack):
    assert goes_on(points, new, eta, slack) == in_quota(chain((*points, new), slack), eta)


@pytest.mark.parametrize("eta", [2, 3, 4])
def test_a_single_objective_is_the_pruner_of_optuna(eta):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.SuccessiveHalvingPruner(2, eta, 0)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    rule = SuccessiveHalving(40, 2, eta, slack=0.1)
    rng = np.random.default_rng(eta)
    trials = [study.ask() for _ in range(60)]
    waiting = [(trial, epoch) for trial in trials for epoch in (2,)]
    earlier, decisions = [], []
    while waiting:
        # The trainings advance in any order, and many values are equal.
        trial, epoch = waiting.pop(rng.integers(len(waiting)))
        value = rng.integers(10) / 10 if rng.random() < 0.9 else math.nan
        trial.report(value, epoch)
        new = Arrival(trial.number, epoch, value)
        decisions.append(rule.goes_on(earlier, new))
        assert decisions[-1] is not trial.should_prune()
        earlier.append(new)
        if decisions[-1] and epoch * eta in rule.rungs:
            waiting.append((trial, epoch * eta))
    assert 10 < sum(decisions) < len(decisions) - 10


@given(MANY, POINTS, POINTS, ETAS, SLACKS)
def test_what_is_better_at_no_higher_cost_goes_on_if_the_worse_does(points, one, other, eta, slack):
    assume(one[0] >= other[0] and one[1] <= other[1])
    assert goes_on(points, one, eta, slack) or not goes_on(points, other, eta, slack)


@given(MANY, POINTS, ETAS, SLACKS)
def test_the_front_of_a_rung_always_goes_on(points, new, eta, slack):
    assume(not any(a >= new[0] and c <= new[1] and (a, c) != new for a, c in points))
    assert goes_on(points, new, eta, slack)


@given(MANY, POINTS, ETAS, SLACKS)
def test_more_slack_stops_no_further_training_of_the_second_rank(points, new, eta, slack):
    if goes_on(points, new, 100, slack):
        assert goes_on(points, new, 100, slack + 0.125)
    else:
        assert chain((*points, new), slack)[-1] > 0


@given(st.permutations(range(12)), POINTS, ETAS, SLACKS)
def test_the_order_of_the_earlier_arrivals_does_not_matter(order, new, eta, slack):
    rng = np.random.default_rng(0)
    points = [(float(a), float(c)) for a, c in zip(rng.random(12), rng.integers(1, 6, 12), strict=True)]
    assert goes_on([points[i] for i in order], new, eta, slack) == goes_on(points, new, eta, slack)


@given(MANY, POINTS, ETAS)
def test_only_finite_arrivals_at_the_same_rung_compete(points, new, eta):
    rule = SuccessiveHalving(100, 1, eta)
    earlier = arrivals(points)
    others = [Arrival(90, eta, 1.0, 1.0), Arrival(91, 1, math.nan, 1.0), Arrival(92, 1, 1.0, math.inf)]
    arrival = Arrival(99, 1, *new)
    assert rule.goes_on([*others, *earlier, *others], arrival) == rule.goes_on(earlier, arrival)


@pytest.mark.parametrize("cost", [None, 5.0])
def test_what_is_not_finite_stops(cost):
    rule = SuccessiveHalving(9)
    assert not rule.goes_on([], Arrival(0, 1, math.nan, cost))
    assert not rule.goes_on([], Arrival(0, 1, -math.inf, cost))
    assert not rule.goes_on([], Arrival(0, 1, 0.5, math.nan))


def test_between_rungs_every_training_goes_on():
    rule = SuccessiveHalving(9)
    best = [Arrival(number, epoch, 1.0, 1.0) for number in range(9) for epoch in range(1, 10)]
    worst = [rule.goes_on(best, Arrival(9, epoch, 0.0, 2.0)) for epoch in range(1, 10)]
    assert worst == [epoch not in (1, 3) for epoch in range(1, 10)]


@pytest.mark.parametrize(
    ("epochs", "first", "eta", "rungs"),
    [
        (1, 1, 3, ()),
        (9, 1, 3, (1, 3)),
        (10, 1, 3, (1, 3, 9)),
        (20, 2, 4, (2, 8)),
        (5, 5, 2, ()),
        (5, 4, 2, (4,)),
    ],
)
def test_rungs(epochs, first, eta, rungs):
    assert SuccessiveHalving(epochs, first, eta).rungs == rungs


@pytest.mark.parametrize(
    ("key", "value"), [("first", 0), ("eta", 1), ("slack", -0.1), ("slack", 1.0), ("slack", math.nan)]
)
def test_numbers_out_of_range_are_refused(key, value):
    with pytest.raises(InputError, match=f"^{key}: received {value}. Allowed: "):
        replace(SuccessiveHalving(9), **{key: value})
