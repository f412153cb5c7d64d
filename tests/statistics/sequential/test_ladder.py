import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from invact.errors import InputError
from invact.statistics.comparison.inference import welch
from invact.statistics.sequential.failures import Arm, Runs
from invact.statistics.sequential.ladder import Verdict, climb, compare, overall
from invact.statistics.sequential.procedure import Decision, Procedure

MARGIN, N = 0.005, 6
FIXED = Procedure((N,), 0.025)
TWO = Procedure((3, 5), 0.025)
S, R, IN = Verdict.SUPPORTED, Verdict.REFUTED, Verdict.INCONCLUSIVE
NONE = Runs()
FOUR = Runs([0.9] * 4)
"""Runs of a screen without a failed one."""


def arm(mean, seed, n=N, sd=0.001, failed=(), earlier=NONE):
    values = mean + np.random.default_rng(seed).normal(0, sd, n)
    values[list(failed)] = 0.1
    return Arm(Runs(values), MARGIN, earlier, min(4, max(n, 1)))


def exact(*values, earlier=NONE):
    return Arm(Runs(values), MARGIN, earlier, 3)


def rung(difference=0.0, placebo=0.02, matched=0.02, seed=1, **options):
    """Draw the arms of one ratio from the gains of the treatment over the others; the control is at 0.9."""
    mean = 0.9 + difference
    # The screen has four runs, so that six more are enough.
    earlier = Runs([mean] * 4)
    return {
        "treatment": arm(mean, seed, earlier=earlier, **options),
        "placebo": arm(mean - placebo, seed + 1),
        "matched": arm(mean - matched, seed + 2),
    }


def equal_to(arms, name):
    """Replace one arm by an arm that is as accurate as the treatment."""
    return arms | {name: Arm(Runs(arms["treatment"].runs.test + [0.001, -0.001] * (N // 2)), MARGIN)}


def judge(rungs, macs=None, procedure=FIXED, control=None):
    ratios = [0.75, 0.6, 0.5, 0.4][: len(rungs)]
    saved = dict(zip(ratios, macs or [2 * ratio**2 for ratio in ratios], strict=True))
    arms = dict(zip(ratios, rungs, strict=True))
    # The order in which the ratios are given must not matter.
    return climb(control or arm(0.9, 0), dict(reversed(arms.items())), saved, MARGIN, procedure)


def test_compare_is_the_test_of_the_runs_that_trained():
    treatment = arm(0.898, 1, n=8, failed=[2, 6])
    control = arm(0.9, 0, n=7, failed=[0])
    found, wanted = compare(treatment, control, MARGIN, FIXED)
    ours, theirs = np.delete(treatment.runs.test, [2, 6]), np.delete(control.runs.test, [0])
    expected = stats.ttest_ind(ours + MARGIN, theirs, equal_var=False, alternative="greater")
    assert found.p_value == pytest.approx(expected.pvalue)
    # The test has ended, so no arm needs more runs than it has.
    assert (found.n, wanted) == (6, (8, 7))
    swapped, _ = compare(control, treatment, MARGIN, FIXED)
    assert swapped.p_value < found.p_value


def test_compare_uses_test_accuracy_and_the_floor():
    treatment = Arm(Runs([0.9] * 6, [0.899] * 6), MARGIN)
    control = Arm(Runs([0.9] * 6, [0.902] * 6), MARGIN)
    found, _ = compare(treatment, control, MARGIN, FIXED, floor=0.001)
    assert found.estimate == pytest.approx(-0.003)
    assert found.p_value == welch([0.899] * 6, [0.902] * 6, MARGIN, 0.001).p_value > 0


def test_compare_replaces_failed_runs():
    control = arm(0.9, 0, n=3, sd=0.02)
    found, wanted = compare(Arm(Runs([0.9, 0.91]), MARGIN), control, MARGIN, TWO)
    assert (found.n, found.decision, wanted) == (0, Decision.CONTINUE, (3, 3))
    # One of the first three runs has failed, so the first look needs a fourth.
    found, wanted = compare(exact(0.9, 0.1, 0.91), exact(0.9, 0.91, 0.92), MARGIN, TWO)
    assert (found.n, wanted) == (0, (4, 3))
    # At the first look nothing is shown. For five runs that train, the treatment needs six seeds.
    found, wanted = compare(exact(0.9, 0.1, 0.92, 0.88), exact(0.9, 0.92, 0.88), 0.001, TWO)
    assert (found.n, found.decision, wanted) == (3, Decision.CONTINUE, (6, 5))


def test_the_order_of_the_runs_of_one_look_does_not_matter():
    # The seeds of the arms are not paired.
    treatment, control = (np.random.default_rng(seed).normal(0.9, 0.003, N) for seed in (1, 2))
    found, _ = compare(Arm(Runs(treatment), MARGIN), Arm(Runs(control), MARGIN), MARGIN, FIXED)
    for order in itertools.islice(itertools.permutations(range(N)), 0, 720, 97):
        other, _ = compare(
            Arm(Runs(treatment), MARGIN), Arm(Runs(control[list(order)]), MARGIN), MARGIN, FIXED
        )
        assert other.p_value == pytest.approx(found.p_value)


def test_all_supported():
    rungs = judge([rung(seed=10), rung(seed=20), rung(seed=30)])
    assert [(one.ratio, one.macs_ratio, one.verdict, one.macs_verdict) for one in rungs] == [
        (0.75, 2 * 0.75**2, S, None),
        (0.6, 2 * 0.6**2, S, S),
        (0.5, 2 * 0.5**2, S, S),
    ]
    assert all(not one.wanted and not one.failed and one.enough_runs for one in rungs)
    assert overall(rungs) == (S, S)
    # The p value of a ratio is at least that of each larger ratio. Claims on MACs need one more test.
    before = macs_before = 0.0
    for one in rungs:
        before = max(before, one.non_inferiority.p_value, one.placebo.p_value)
        assert one.p_value == before
        if one.macs_verdict:
            macs_before = max(macs_before, before, one.matched.p_value)
            assert one.macs_p_value == macs_before
    assert rungs[0].matched is None
    assert rungs[0].macs_p_value == 1
    assert (rungs[1].non_inferiority.margin, rungs[1].placebo.margin, rungs[1].matched.margin) == (
        MARGIN,
        0,
        0,
    )
    assert rungs[1].failures == {
        "control": (0, 6),
        "treatment": (0, 10),
        "placebo": (0, 6),
        "matched": (0, 6),
    }


def test_the_first_ratio_that_is_not_supported_ends_the_ladder():
    rungs = judge([rung(seed=10), rung(-MARGIN, seed=20), rung(seed=30)])
    assert [one.verdict for one in rungs] == [S, IN]
    assert rungs[1].p_value > 0.025
    assert rungs[1].placebo is None
    assert not rungs[1].wanted
    assert overall(rungs) == (S, IN)


def test_inferior_is_refuted():
    rungs = judge([rung(-0.02, seed=10), rung(seed=20)])
    assert [one.verdict for one in rungs] == [R]
    assert rungs[0].non_inferiority.decision is Decision.INFERIOR
    assert (rungs[0].p_value, rungs[0].wanted) == (pytest.approx(1), {})
    # The ladder never reaches the ratios that save MACs. Nevertheless, the claim on MACs is refuted.
    assert rungs[0].macs_verdict is None
    assert overall(rungs) == (R, R)
    # A claim is refuted without the number of runs that a supported one needs.
    few = rung(-0.02, seed=10) | {"treatment": arm(0.88, 10)}
    (one,) = judge([few])
    assert (one.verdict, one.enough_runs, one.wanted) == (R, False, {})


def test_no_better_than_the_placebo_is_not_supported():
    rungs = judge([equal_to(rung(seed=10), "placebo"), rung(seed=20)])
    assert [one.verdict for one in rungs] == [IN]
    assert rungs[0].non_inferiority.shown
    assert not rungs[0].placebo.shown
    assert rungs[0].p_value == rungs[0].placebo.p_value > 0.025
    # A treatment that is worse than the placebo is not thereby inferior to the control.
    (worse,) = judge([rung(placebo=-0.02, seed=10)])
    assert worse.placebo.decision is Decision.INFERIOR
    assert worse.verdict is IN


def test_a_claim_that_fails_the_placebo_trains_no_more_of_the_matched_arm():
    ours = exact(0.9, 0.9001, 0.8999, earlier=FOUR)
    arms = {
        "treatment": ours,
        "placebo": exact(0.95, 0.9501, 0.9499),
        "matched": exact(0.89, 0.90, 0.91),
    }
    (one,) = judge([arms], [0.5], TWO, exact(0.9, 0.9001, 0.9))
    assert (one.placebo.decision, one.matched.decision) == (Decision.INFERIOR, Decision.CONTINUE)
    assert (one.verdict, one.macs_verdict, one.wanted) == (IN, IN, {})


def test_the_matched_arm_decides_on_macs_alone():
    rungs = judge([rung(seed=10), equal_to(rung(seed=20), "matched"), rung(seed=30)])
    assert [one.verdict for one in rungs] == [S, S, S]
    # After the first ratio without a supported claim on MACs, all smaller ratios have none either.
    assert [one.macs_verdict for one in rungs] == [None, IN, IN]
    assert rungs[1].macs_p_value == rungs[1].matched.p_value > 0.025
    assert rungs[2].matched is None
    assert rungs[2].macs_p_value == 1
    assert overall(rungs) == (S, IN)
    beaten = judge([rung(seed=10), rung(matched=-0.02, seed=20)])
    assert (beaten[1].verdict, beaten[1].macs_verdict) == (S, R)
    assert overall(beaten) == (S, R)


@pytest.mark.parametrize(
    ("macs", "names"), [(1.1, {"placebo"}), (1.0, {"placebo"}), (0.9, {"placebo", "matched"})]
)
def test_runs_are_requested_when_they_are_needed(macs, names):
    nothing = dict.fromkeys(("treatment", "placebo", "matched"), exact())

    def wanted(control, **series):
        (one,) = climb(control, {0.5: nothing | series}, {0.5: macs}, MARGIN, TWO)
        return dict(one.wanted)

    assert wanted(exact()) == {"control": 3, "treatment": 3}
    assert wanted(exact(0.9, 0.91, 0.9), treatment=exact(0.9)) == {"treatment": 3}
    control, unsure = exact(0.9, 0.9001, 0.9), exact(0.88, 0.90, 0.92, earlier=FOUR)
    assert wanted(control, treatment=unsure) == {"control": 5, "treatment": 5}
    # Non-inferiority is shown at the first look. The control needs no more runs; the other arms start with
    # their first look.
    sure = {"treatment": exact(0.9, 0.9001, 0.8999, earlier=Runs([0.9] * 7))}
    assert wanted(control, **sure) == dict.fromkeys(names, 3)
    worse = {name: exact(0.85, 0.8501, 0.8499) for name in names}
    assert wanted(control, **sure, **worse) == {}
    slow = {"placebo": exact(0.887, 0.897, 0.907)}
    assert wanted(control, **sure, **{**worse, **slow}) == {"treatment": 5, "placebo": 5}


@pytest.mark.parametrize(
    ("failed", "earlier", "total"), [([], 0, 10), ([], 4, 10), ([1], 0, 16), ([1], 4, 16), ([1, 4], 4, 22)]
)
def test_a_supported_claim_needs_runs_by_its_number_of_failures(failed, earlier, total):
    def claim(n):
        runs = np.resize([0.9, 0.9001, 0.8999], n)
        runs[failed] = 0.1
        treatment = Arm(Runs(runs), MARGIN, Runs([0.9] * earlier), 4)
        (one,) = judge([rung() | {"treatment": treatment}], [0.5])
        return one

    one = claim(N + len(failed))
    enough = N + len(failed) + earlier >= total
    assert one.enough_runs == enough
    assert one.placebo.shown
    if not enough:
        assert one.wanted == {"treatment": total - earlier}
        assert (one.verdict, one.macs_verdict, one.p_value, one.macs_p_value) == (IN, IN, 1, 1)
    one = claim(total - earlier)
    assert (one.verdict, one.macs_verdict, one.wanted) == (S, S, {})
    assert one.failures["treatment"] == (len(failed), total)
    # The additional runs count as to failures only.
    assert one.non_inferiority.n == N


def test_more_runs_are_trained_only_if_the_other_tests_are_passed():
    few = {"treatment": arm(0.9, 1)}
    for arms, wanted in (
        (rung() | few, {"treatment": 10}),
        (equal_to(rung(), "placebo") | few, {}),
        # The claim on filters goes on without the one on MACs.
        (equal_to(rung(), "matched") | few, {"treatment": 10}),
    ):
        (one,) = judge([arms], [0.5])
        assert (one.verdict, one.wanted) == (IN, wanted)


@pytest.mark.parametrize("name", ["control", "treatment", "placebo"])
def test_the_third_failed_run_ends_the_claim(name):
    arms = rung() | {"control": arm(0.9, 0)}
    more = np.concatenate([arms[name].runs.test, [0.1] * 3])
    for failures, verdict in ((2, S), (3, IN)):
        # With 26 runs, two failed ones are few enough.
        earlier = Runs(np.resize(arms[name].runs.test, 20))
        changed = arms | {name: Arm(Runs(more[: N + failures]), MARGIN, earlier, 4)}
        (one,) = judge([changed], [0.5], control=changed["control"])
        assert (one.verdict, one.macs_verdict, one.wanted) == (verdict, verdict, {})
        assert one.failed == ((name,) if failures == 3 else ())
        assert one.failures[name] == (failures, 26 + failures)
        assert (one.p_value == 1) == (one.macs_p_value == 1) == (failures == 3)


def test_a_third_failed_run_also_ends_a_claim_that_is_undecided_or_refuted():
    three = Arm(Runs([math.nan] * 3), MARGIN)
    (one,) = judge([rung() | {"treatment": three}])
    assert (one.failed, one.verdict, one.wanted) == (("treatment",), IN, {})
    bad = arm(0.88, 1, n=9, failed=[6, 7, 8])
    (one,) = judge([rung() | {"treatment": bad}])
    assert one.non_inferiority.decision is Decision.INFERIOR
    assert (one.verdict, one.macs_verdict) == (IN, None)


def test_the_third_failed_run_of_the_matched_arm_ends_the_claim_on_macs_alone():
    first = rung(seed=10) | {"matched": Arm(Runs([0.88, math.nan, math.nan, math.nan]), MARGIN)}
    rungs = judge([first, rung(seed=20)], [0.8, 0.5])
    assert [(one.verdict, one.macs_verdict) for one in rungs] == [(S, IN), (S, IN)]
    assert [one.failed for one in rungs] == [("matched",), ()]
    assert [one.matched for one in rungs] == [None, None]
    assert [one.macs_p_value for one in rungs] == [1, 1]
    assert rungs[0].failures["matched"] == (3, 4)
    assert not rungs[0].wanted
    assert overall(rungs) == (S, IN)


def test_a_failed_matched_arm_requests_no_runs_of_the_treatment():
    ours = exact(0.9, 0.9001, 0.8999, earlier=Runs([0.9] * 7))
    # Three of these runs of the matched arm train, and the test of them would go on.
    lost = Arm(Runs([0.895, 0.9, 0.905, math.nan, math.nan, math.nan]), MARGIN, first=3)
    arms = {"treatment": ours, "placebo": exact(0.85, 0.8501, 0.8499), "matched": lost}
    assert compare(ours, lost, 0.0, TWO)[1] == (5, 8)
    (one,) = judge([arms], [0.5], TWO, exact(0.9, 0.9001, 0.9))
    assert (one.verdict, one.macs_verdict, one.wanted) == (S, IN, {})


def test_a_ratio_of_one_supports_no_claim_on_fewer_filters():
    (one,) = climb(arm(0.9, 0), {1.0: rung(seed=10)}, {1.0: 2.0}, MARGIN, FIXED)
    assert one.verdict is S
    assert overall((one,)) == (IN, IN)


# Means in margins from the control; a wide spread makes tests go on or fail.
shifts = st.sampled_from([-4.0, -1.0, -0.5, 0.0, 1.0])


@st.composite
def drawn(draw, margin_sd=0.3):
    """An arm with a drawn mean, spread, number of runs and failures."""
    n = draw(st.integers(0, 8))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    runs = 0.9 + MARGIN * (draw(shifts) + draw(st.sampled_from([0.02, margin_sd, 1.5])) * rng.normal(size=n))
    runs[rng.random(n) < draw(st.sampled_from([0, 0, 0.2]))] = math.nan
    return Arm(Runs(runs), MARGIN, Runs([0.9] * draw(st.sampled_from([0, 4, 20]))), 3)


ladders = st.lists(
    st.fixed_dictionaries(dict.fromkeys(("treatment", "placebo", "matched"), drawn())), max_size=3
)


@given(drawn(), ladders, st.sampled_from([FIXED, TWO]), st.permutations([1.2, 0.8, 0.5]))
def test_the_parts_of_any_ladder_agree(control, rungs, procedure, macs):
    found = judge(rungs, macs[: len(rungs)], procedure, control)
    filters, on_macs = overall(found)
    assert (filters is S) == any(one.verdict is S for one in found)
    assert (on_macs is S) == any(one.macs_verdict is S for one in found)
    macs_open, p_value = True, 0.0
    for index, one in enumerate(found):
        arms = rungs[index] | {"control": control}
        assert (one.verdict is S) == (one.p_value < procedure.alpha)
        assert (one.macs_verdict is S) == (one.macs_p_value < procedure.alpha)
        assert (one.macs_verdict is None) == (one.macs_ratio >= 1)
        assert one.p_value >= p_value
        assert one.macs_p_value >= one.p_value
        assert one.macs_verdict is not S or one.verdict is S
        p_value = one.p_value
        # The placebo and the matched arm are needed only after non-inferiority, and the matched arm only as
        # long as the claim on MACs is open.
        assert (one.placebo is not None) == one.non_inferiority.shown == ("placebo" in one.failures)
        assert ("matched" in one.failures) == (one.non_inferiority.shown and one.macs_ratio < 1 and macs_open)
        assert one.failed == tuple(name for name in one.failures if arms[name].failures > 2)
        for name, count in one.wanted.items():
            assert count > len(arms[name].runs)
            assert name not in one.failed
        if one.verdict is S:
            assert one.enough_runs
            assert one.non_inferiority.shown
            assert one.placebo.shown
            assert set(one.failed) <= {"matched"}
        if one.verdict is R:
            assert one.non_inferiority.decision is Decision.INFERIOR
        # Only the last rung can be undecided or not supported.
        last = index == len(found) - 1
        assert last or (one.verdict is S and not one.wanted)
        if last and index < len(rungs) - 1:
            assert one.wanted or one.verdict is not S
        macs_open = macs_open and (one.macs_ratio >= 1 or one.macs_verdict is S)


def test_refused():
    with pytest.raises(InputError, match="margin"):
        compare(arm(0.9, 0), arm(0.9, 1), -0.1, FIXED)
    with pytest.raises(InputError, match="treatment: received an accuracy"):
        judge([rung() | {"treatment": exact(90.0, 91.0, 90.0)}], procedure=TWO)
