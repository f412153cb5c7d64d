import functools
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from invact.errors import InputError
from invact.statistics.sequential.failures import (
    ALLOWED,
    FENCE,
    FIRST,
    Arm,
    Runs,
    failure_bound,
    fence,
    runs_needed,
)

MARGIN = 0.005

accuracies = st.integers(8_950, 9_050).map(lambda count: count / 1e4)
# Most runs train; the others collapse, or diverge.
mixed = st.lists(accuracies | st.sampled_from([0.1, math.nan]), min_size=0, max_size=14)


def failed_by_hand(earlier, runs, first, margin=MARGIN):
    """Which of the earlier runs and of the runs have failed, from the definition."""
    everything = [*earlier, *runs]
    bar = -math.inf
    if len(everything) >= first:
        ordered = sorted(-1.0 if math.isnan(value) else value for value in everything[:first])
        middle = (ordered[(first - 1) // 2] + ordered[first // 2]) / 2
        bar = middle - 4 * margin
    marks = [math.isnan(value) or value < bar for value in everything]
    return marks[: len(earlier)], marks[len(earlier) :]


@given(mixed, mixed, st.integers(1, 8))
def test_an_arm_against_the_definition(earlier, runs, first):
    arm = Arm(Runs(runs), MARGIN, Runs(earlier), first)
    before, now = failed_by_hand(earlier, runs, first)
    assert arm.failed.tolist() == now
    count = sum(before) + sum(now)
    if len(earlier) + len(runs) > first:
        # The first runs may be an unlucky part of all runs.
        count = max(count, sum(itertools.chain(*failed_by_hand(earlier, runs, len(earlier) + len(runs)))))
    assert arm.failures == count
    assert arm.total == len(earlier) + len(runs)
    assert arm.ended == (arm.failures > 2)
    trained = [value for value, failed in zip(runs, now, strict=True) if not failed]
    assert arm.trained.tolist() == arm.validated.tolist() == trained
    for n in range(16):
        # As many new runs as are missing; none of those that exist is dropped.
        assert arm.wanted(n) - len(runs) == max(0, n - len(trained))


@pytest.mark.parametrize("collapsed", [3, 4])
def test_first_runs_that_collapse_count_although_their_median_does_too(collapsed):
    screen = Runs([0.1] * collapsed + [0.9] * (4 - collapsed))
    assert Arm(Runs(), MARGIN, screen, first=4).failures == 0
    arm = Arm(Runs([0.9] * 6), MARGIN, screen, first=4)
    assert arm.failures == collapsed
    assert arm.ended
    # The fence itself is fixed, so the runs that are tested do not change.
    assert len(arm.trained) == 6


@given(mixed, mixed, st.integers(1, 8), st.data())
def test_later_runs_do_not_change_the_fence(earlier, runs, first, data):
    whole = Arm(Runs(runs), MARGIN, Runs(earlier), first)
    n = data.draw(st.integers(0, len(runs)))
    part = Arm(Runs(runs[:n]), MARGIN, Runs(earlier), first)
    if part.fence is not None:
        assert part.fence == whole.fence
        assert part.failed.tolist() == whole.failed[:n].tolist()
    assert part.failed.sum() <= whole.failed.sum() <= whole.failures


@given(mixed, st.integers(1, 8))
def test_seeds_that_replace_failed_runs_reach_the_number(runs, first):
    # Further runs train, so after the wanted number of runs the arm has n of them, unless its fence moved.
    arm = Arm(Runs(runs), MARGIN, first=first)
    wanted = arm.wanted(10)
    more = Arm(Runs([*runs, *[0.9] * (wanted - len(runs))]), MARGIN, first=first)
    if arm.fence is not None and arm.fence <= 0.9:
        assert len(more.trained) == max(10, len(arm.trained))
        assert more.wanted(10) == len(more.runs)


def test_constants():
    assert (FENCE, FIRST, ALLOWED) == (4.0, 6, 2)


def test_the_fence_by_hand():
    assert fence([0.90, 0.92, 0.91], 0.005) == pytest.approx(0.91 - 0.02)
    assert fence([0.90, 0.92], 0.001) == pytest.approx(0.91 - 0.004)
    # A run that diverged is the lowest of all, also below 0.
    assert fence([math.nan, 0.0, 0.5], 0.01) == pytest.approx(-0.04)
    # The median of these is a run that diverged, so no run that trains is below the fence.
    assert fence([math.nan, math.nan, 0.5], 0.01) < -1


def test_the_fence_is_relative_to_the_arm_itself():
    # An arm that is 20 points weaker has the same failed runs.
    runs = np.array([0.90, 0.91, 0.90, 0.92, 0.87, 0.90, 0.85])
    arm, weaker = (Arm(Runs(values), MARGIN) for values in (runs, runs - 0.2))
    assert arm.failed.tolist() == weaker.failed.tolist() == [False] * 4 + [True, False, True]
    # A run at the fence has not failed.
    assert Arm(Runs([0.5] * 5 + [0.5 - 4 * 0.0078125]), 0.0078125).failures == 0
    assert Arm(Runs([0.5] * 5 + [0.5 - 5 * 0.0078125]), 0.0078125).failures == 1


def test_the_fence_is_on_validation_and_the_result_is_test_accuracy():
    validation = [0.90, 0.90, 0.90, 0.10, 0.90, 0.90, 0.90]
    accuracy = [0.80, 0.81, 0.10, 0.83, 0.84, 0.85, math.nan]
    arm = Arm(Runs(validation, accuracy), MARGIN)
    assert arm.failed.tolist() == [False, False, False, True, False, False, False]
    assert arm.trained[:5].tolist() == [0.80, 0.81, 0.10, 0.84, 0.85]
    assert arm.validated.tolist() == [0.90] * 6


def test_before_the_fence_only_runs_that_diverged_have_failed():
    runs = [0.9, 0.1, math.nan, 0.9, 0.9]
    arm = Arm(Runs(runs), MARGIN)
    assert arm.fence is None
    assert (arm.failures, arm.wanted(6)) == (1, 7)
    # With one more run, the collapsed one counts as well.
    arm = Arm(Runs([*runs, 0.9]), MARGIN)
    assert arm.fence == pytest.approx(0.88)
    assert (arm.failures, arm.wanted(6)) == (2, 8)


def test_earlier_runs_fix_the_fence_and_their_failures_count():
    earlier = Runs([0.9, 0.9, 0.1, 0.9])
    arm = Arm(Runs([0.1, 0.8, 0.9]), MARGIN, earlier, first=4)
    assert arm.fence == pytest.approx(0.88)
    # The claim uses the new runs only.
    assert arm.trained.tolist() == [0.9]
    assert (arm.failures, arm.total, arm.ended) == (3, 7, True)


def test_the_third_failed_run_ends_the_claim():
    for failures in range(5):
        arm = Arm(Runs([0.9] * 8 + [0.1] * failures), MARGIN)
        assert (arm.failures, arm.ended) == (failures, failures >= 3)


def passes(outcomes):
    """Whether runs that are trained one after another, True if they fail, pass; and after how many."""
    failures = 0
    for n, failed in enumerate(outcomes, start=1):
        failures += failed
        if failures > 2:
            return False
        if n >= 10 and n >= runs_needed(failures):
            return True
    raise AssertionError("the course needs more runs than it was given")


def pass_probability(failing):
    """Probability that a network passes, from binomial probabilities of the three stages.

    It passes after 10 runs without a failed one, after 16 with one, or after 22 with two.
    """
    pmf = stats.binom.pmf
    after_10 = pmf(0, 10, failing)
    after_16 = pmf(1, 10, failing) * pmf(0, 6, failing)
    two_after_16 = pmf(2, 10, failing) * pmf(0, 6, failing) + pmf(1, 10, failing) * pmf(1, 6, failing)
    return after_10 + after_16 + two_after_16 * pmf(0, 6, failing)


def enumerated(failing):
    """The same probability, by following every sequence of runs in exact arithmetic."""

    @functools.cache
    def onward(n, failures):
        if failures > ALLOWED:
            return Fraction(0)
        if n >= runs_needed(failures):
            return Fraction(1)
        return (1 - failing) * onward(n + 1, failures) + failing * onward(n + 1, failures + 1)

    return onward(0, 0)


def test_runs_needed():
    assert [runs_needed(failures) for failures in range(3)] == [10, 16, 22]


def test_a_network_that_often_fails_seldom_passes():
    # The exact value is 0.05003: with a probability of 0.3001 it is below 0.05.
    assert pass_probability(0.30) == pytest.approx(0.05, abs=5e-5)
    assert pass_probability(0.3001) < 0.05
    for percent in (1, 10, 30, 50):
        assert pass_probability(percent / 100) == pytest.approx(float(enumerated(Fraction(percent, 100))))
    # The rule is not stricter than it has to be: one run less in each stage would not do.
    assert 0.7**9 + 9 * 0.3 * 0.7**8 * 0.7**6 > 0.05
    # A network that fails seldom passes nearly always.
    assert pass_probability(0.01) > 0.998
    assert (np.diff([pass_probability(failing) for failing in np.linspace(0, 1, 50)]) < 0).all()


def test_the_probability_to_pass_by_simulation():
    replications = 20_000
    outcomes = np.random.default_rng(1).random((replications, 22)) < 0.30
    passed = sum(passes(row) for row in outcomes.tolist())
    assert passed <= stats.binom.isf(0.0005, replications, pass_probability(0.30))
    assert passed >= stats.binom.ppf(0.0005, replications, pass_probability(0.30))


def test_arms_pass_as_the_rule_says():
    # All orders of up to two failed runs among the first 10 and 22 runs, in the code of an arm.
    for places in itertools.combinations(range(10), 2):
        runs = np.full(22, 0.9)
        runs[list(places)] = 0.1
        arm = Arm(Runs(runs[6:]), MARGIN, Runs(runs[:6]), first=6)
        assert (arm.failures, arm.total) == (2, runs_needed(2))


@given(st.integers(1, 60), st.data(), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_failure_bound_is_the_exact_interval_of_scipy(runs, data, confidence):
    failures = data.draw(st.integers(0, runs))
    both = stats.binomtest(failures, runs).proportion_ci(2 * confidence - 1, method="exact")
    assert failure_bound(failures, runs, confidence) == pytest.approx(both.high, rel=1e-9)
    one = stats.binomtest(failures, runs, alternative="less").proportion_ci(confidence, method="exact")
    assert failure_bound(failures, runs, confidence) == pytest.approx(one.high, rel=1e-9)


def test_failure_bound_by_hand():
    # No failed run of n: (1 - p)^n = 0.05.
    assert failure_bound(0, 10) == pytest.approx(1 - 0.05**0.1)
    assert failure_bound(0, 0) == failure_bound(4, 4) == 1


def test_failure_bound_covers_the_truth():
    for truth in (0.05, 0.3):
        counts = np.arange(21)
        covered = np.array([failure_bound(int(count), 20) >= truth for count in counts])
        assert stats.binom.pmf(counts[covered], 20, truth).sum() >= 0.95


@pytest.mark.parametrize("arguments", [(-1, 5), (6, 5), (1, 5, 0.0), (1, 5, 1.0), (1, 5, math.nan)])
def test_failure_bound_refuses(arguments):
    with pytest.raises(InputError, match="failures: received"):
        failure_bound(*arguments)


def test_runs():
    runs = Runs([0.9, 0.8])
    assert runs.test is runs.validation
    assert len(Runs()) == 0
    assert Runs([0.9], [0.8]).test.tolist() == [0.8]
    for wrong in (([0.9, 0.8], [0.9]), ([[0.9]],), (0.9,)):
        with pytest.raises(InputError, match="shapes"):
            Runs(*wrong)
