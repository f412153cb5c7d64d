"""The contract of a procedure, for each method."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from invact.errors import InputError
from invact.statistics.comparison.inference import one_sided
from invact.statistics.sequential.anytime import anytime
from invact.statistics.sequential.group_sequential import Decision, group_sequential
from invact.statistics.sequential.procedures import Method, Procedure

MARGIN = 0.005
RULES = [
    Procedure(),
    Procedure(Method.SEQUENTIAL, 0.025, (4, 8, 12), futility=False),
    Procedure(Method.FIXED, 0.05, (8,)),
    Procedure(Method.ANYTIME, 0.05, (20,)),
]
every = pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.method} {rule.looks}")


def series(mean: float, sd: float, seed: int, n: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, sd, n)


def follow(rule: Procedure, values: np.ndarray, margin: float = MARGIN):
    """Take pairs as the procedure asks for them, until it has ended."""
    n, outcome = 0, None
    while outcome is None or not outcome.ended:
        following = rule.next(n)
        assert following is not None
        assert n < following <= rule.most
        n = following
        outcome = rule.test(values[:n], margin)
    return outcome


@every
@settings(deadline=None, max_examples=25)
@given(
    mean=st.floats(-0.02, 0.02),
    sd=st.floats(0.0005, 0.01),
    seed=st.integers(0, 999),
    margin=st.sampled_from([0.0, MARGIN]),
)
def test_an_outcome_agrees_with_itself(rule, mean, sd, seed, margin) -> None:
    values = series(mean, sd, seed)
    outcome = follow(rule, values, margin)
    assert outcome.n == outcome.taken[-1].n <= rule.most
    assert outcome.shown == (outcome.p_value < rule.alpha)
    low, high = outcome.interval
    assert low <= outcome.estimate <= high
    # An interval whose lower end clears the margin is the same as a rejection; an e-process may be later.
    if rule.method is not Method.ANYTIME:
        assert outcome.shown == (low > -margin)
        assert (outcome.decision is Decision.INFERIOR) == (high < -margin and not outcome.shown)
    # Pairs after the stop, and beyond the last look, change nothing.
    assert rule.test(values, margin) == outcome or rule.method is Method.FIXED
    assert rule.test(values[: rule.most], margin) == outcome


@every
def test_pairs_are_asked_for_until_the_last_look(rule) -> None:
    assert rule.next(rule.most) is None
    assert rule.next(rule.most - 1) == rule.most
    going = rule.test(series(-MARGIN, 0.01, 3)[:2], MARGIN)
    assert not going.ended
    assert going.p_value is going.interval is going.estimate is None


@every
def test_treatment_and_control_may_not_be_swapped(rule) -> None:
    values = series(0.01, 0.001, 0)
    assert follow(rule, values).decision is Decision.NON_INFERIOR
    assert follow(rule, -values).decision is Decision.INFERIOR


@every
def test_on_a_part_of_the_pairs_the_level_is_that_of_the_stop(rule) -> None:
    values = series(0.0, 0.002, 1)
    outcome = follow(rule, values)
    used = values[: outcome.n]
    assert outcome.shown
    assert rule.holds(used, MARGIN, outcome)
    assert not rule.holds(used - 0.02, MARGIN, outcome)
    assert not rule.holds(used[:1], MARGIN, outcome)


def test_each_method_is_the_test_of_its_name() -> None:
    values = series(-0.001, 0.003, 5)
    sequential, _, fixed, always = RULES
    assert follow(sequential, values).p_value == group_sequential(values[:15], MARGIN).p_value
    found = follow(fixed, values)
    expected = stats.ttest_1samp(values[:8], -MARGIN, alternative="greater")
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval == one_sided(values[:8], MARGIN, 0.05).interval
    assert follow(always, values).p_value == anytime(values[:20], MARGIN).p_value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Method.FIXED, 0.05, (5, 7)), "looks"),
        ((Method.FIXED, 0.05, (1,)), "2 or more"),
        ((Method.SEQUENTIAL, 0.05, (5,)), "looks"),
        ((Method.SEQUENTIAL, 0.5, (5, 7)), "alpha"),
    ],
)
def test_a_procedure_that_is_none_is_refused(arguments, message) -> None:
    with pytest.raises(InputError, match=message):
        Procedure(*arguments)
