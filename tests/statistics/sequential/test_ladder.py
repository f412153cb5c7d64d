import numpy as np
import pytest

from invact.errors import InputError
from invact.statistics.comparison.inference import holm, one_sided
from invact.statistics.sequential.group_sequential import Decision
from invact.statistics.sequential.ladder import Series, Verdict, climb, compare, over_sets, overall
from invact.statistics.sequential.procedures import Method, Procedure

MARGIN, N = 0.005, 6
FIXED = Procedure(Method.FIXED, looks=(N,))
S, R, IN = Verdict.SUPPORTED, Verdict.REFUTED, Verdict.INCONCLUSIVE


def runs(mean, seed, n=N, sd=0.001, failed=()):
    values = mean + np.random.default_rng(seed).normal(0, sd, n)
    values[list(failed)] = 0.1
    return Series(values, np.isin(np.arange(n), list(failed)))


def rung(difference=0.0, placebo=0.02, matched=0.02, seed=1):
    """Draw the arms of one ratio from the gains of the treatment over the others; the control is at 0.9."""
    mean = 0.9 + difference
    return {
        "treatment": runs(mean, seed),
        "placebo": runs(mean - placebo, seed + 1),
        "matched": runs(mean - matched, seed + 2),
    }


def equal_to(arms, name):
    """Replace one arm by an arm that is as accurate as the treatment."""
    return arms | {name: Series(arms["treatment"].accuracy + [0.001, -0.001] * (N // 2))}


def judge(rungs, macs=None, procedure=FIXED):
    ratios = [0.75, 0.6, 0.5, 0.4][: len(rungs)]
    saved = dict(zip(ratios, macs or [2 * ratio**2 for ratio in ratios], strict=True))
    arms = dict(zip(ratios, rungs, strict=True))
    # The order in which the ratios are given must not matter.
    return climb(runs(0.9, 0), dict(reversed(arms.items())), saved, MARGIN, procedure)


def test_compare_is_the_paired_test_of_all_pairs():
    control, treatment = runs(0.9, 0), runs(0.898, 1)
    found = compare(treatment, control, MARGIN, FIXED)
    expected = one_sided(treatment.accuracy - control.accuracy, MARGIN, 0.05)
    assert found.outcome.p_value == expected.p_value
    assert found.outcome.interval == expected.interval
    assert (found.excluded, found.per_protocol, found.shown) == (0, True, True)
    swapped = compare(control, treatment, MARGIN, FIXED)
    assert swapped.outcome.p_value < found.outcome.p_value


def test_a_failed_treatment_counts_at_chance():
    control = runs(0.9, 0)
    found = compare(runs(0.9, 1, failed=[2]), control, MARGIN, FIXED)
    assert found.excluded == 1
    assert not found.shown
    assert found.outcome.interval[0] < -MARGIN
    # Without the failed run non-inferiority would be shown.
    assert compare(runs(0.9, 1), control, MARGIN, FIXED).shown


def test_a_failed_control_does_not_carry_the_claim():
    # The pairs without a failed run are inferior. Only the failed runs of the control make the mean positive.
    control = Series([0.50, 0.52, 0.51, 0.53, 0.9, 0.9], [True] * 4 + [False] * 2)
    treatment = Series([0.9, 0.9, 0.9, 0.9, 0.85, 0.85])
    found = compare(treatment, control, MARGIN, FIXED)
    assert found.outcome.shown
    assert (found.excluded, found.per_protocol, found.shown) == (4, False, False)
    # One pair without a failed run is too few for a test.
    alone = Series(control.accuracy, [True] * 5 + [False])
    assert not compare(treatment, alone, MARGIN, FIXED).per_protocol


def test_per_protocol_uses_the_same_level():
    control = Series([0.90, 0.91, 0.90, 0.91, 0.90, 0.1], [False] * 5 + [True])
    treatment = Series([0.90, 0.91, 0.91, 0.90, 0.90, 0.1], [False] * 5 + [True])
    found = compare(treatment, control, 0.03, FIXED)
    # Both runs of a pair failed, so their difference is 0. The other pairs show equality too.
    assert (found.excluded, found.shown) == (1, True)


def test_too_few_pairs():
    assert compare(runs(0.9, 0, 1), runs(0.9, 1), MARGIN, FIXED) is None
    assert compare(Series([]), runs(0.9, 1), MARGIN, FIXED) is None
    found = compare(runs(0.9, 0, 3), runs(0.9, 1), MARGIN, FIXED)
    assert (found.ended, found.shown) == (False, False)


def test_all_supported():
    rungs = judge([rung(seed=10), rung(seed=20), rung(seed=30)])
    assert [(one.ratio, one.verdict, one.macs_verdict) for one in rungs] == [
        (0.75, S, None),
        (0.6, S, S),
        (0.5, S, S),
    ]
    assert all(not one.wanted for one in rungs)
    assert overall(rungs) == (S, S)
    # The p value of a ratio is at least that of each larger ratio. Claims on MACs need one more test.
    p_values = [one.p_value for one in rungs]
    assert p_values == sorted(p_values)
    for one in rungs:
        needed = [one.non_inferiority.outcome.p_value, one.placebo.outcome.p_value]
        assert one.p_value >= max(needed)
        if one.matched:
            assert one.macs_p_value >= max(one.p_value, one.matched.outcome.p_value)
    assert rungs[0].p_value == max(rungs[0].non_inferiority.outcome.p_value, rungs[0].placebo.outcome.p_value)
    assert rungs[0].matched is None
    assert rungs[0].macs_p_value == 1


def test_the_first_failure_ends_the_ladder():
    rungs = judge([rung(seed=10), rung(-MARGIN, seed=20), rung(seed=30)])
    assert [one.verdict for one in rungs] == [S, IN]
    assert rungs[1].p_value > 0.05
    assert rungs[1].placebo is None
    assert overall(rungs) == (S, IN)


def test_inferior_is_refuted():
    rungs = judge([rung(-0.02, seed=10), rung(seed=20)])
    assert [one.verdict for one in rungs] == [R]
    assert rungs[0].non_inferiority.outcome.decision is Decision.INFERIOR
    assert overall(rungs) == (R, R)
    assert rungs[0].superiority is None


def test_no_better_than_the_placebo_is_not_supported():
    rungs = judge([equal_to(rung(seed=10), "placebo"), rung(seed=20)])
    assert [one.verdict for one in rungs] == [IN]
    assert rungs[0].non_inferiority.shown
    assert not rungs[0].placebo.shown
    assert rungs[0].p_value == rungs[0].placebo.outcome.p_value > 0.05
    # A treatment that is worse than the placebo is not thereby inferior to the control.
    assert judge([rung(placebo=-0.02, seed=10)])[0].verdict is IN


def test_the_matched_arm_decides_on_macs_alone():
    rungs = judge([rung(seed=10), equal_to(rung(seed=20), "matched"), rung(seed=30)])
    assert [one.verdict for one in rungs] == [S, S, S]
    # After the first ratio without a supported claim on MACs, all smaller ratios have none either.
    assert [one.macs_verdict for one in rungs] == [None, IN, IN]
    assert rungs[2].matched is None
    assert rungs[2].macs_p_value == 1
    assert overall(rungs) == (S, IN)
    beaten = judge([rung(seed=10), rung(matched=-0.02, seed=20)])
    assert (beaten[1].verdict, beaten[1].macs_verdict) == (S, R)
    assert overall(beaten) == (S, R)


def test_superiority_is_only_tested_after_non_inferiority():
    (one,) = judge([rung(0.01, seed=10)])
    assert one.superiority.shown
    assert one.superiority.margin == 0
    (equal,) = judge([rung(-0.001, seed=10)])
    assert not equal.superiority.shown
    assert judge([rung(-MARGIN, seed=10)])[0].superiority is None


@pytest.mark.parametrize(
    ("macs", "arms"), [(1.1, {"placebo"}), (1.0, {"placebo"}), (0.9, {"placebo", "matched"})]
)
def test_runs_are_requested_when_they_are_needed(macs, arms):
    rule = Procedure(looks=(3, 5))
    nothing = Series([])

    def wanted(control, **series):
        (one,) = climb(control, {0.5: series}, {0.5: macs}, MARGIN, rule)
        return dict(one.wanted)

    assert wanted(nothing) == {"control": 3, "treatment": 3}
    assert wanted(runs(0.9, 0, 3), treatment=runs(0.9, 1, 1)) == {"control": 3, "treatment": 3}
    unsure = {"treatment": runs(0.9, 1, 3, sd=0.02)}
    assert wanted(runs(0.9, 0, 3), **unsure) == {"control": 5, "treatment": 5}
    # Non-inferiority is shown at the first look. The control needs no more runs; the other arms start with
    # their first look.
    sure = {"treatment": Series([0.9, 0.9001, 0.8999])}
    control = Series([0.9, 0.9001, 0.9])
    assert wanted(control, **sure) == dict.fromkeys({"treatment", *arms}, 3)
    worse = {name: Series([0.85, 0.8501, 0.8499]) for name in arms}
    assert wanted(control, **sure, **worse) == {}
    slow = {"placebo": runs(0.897, 5, 3, sd=0.01)}
    assert wanted(control, **sure, **{**worse, **slow}) == {"treatment": 5, "placebo": 5}


def test_a_ratio_of_one_supports_no_claim_on_fewer_filters():
    (one,) = climb(runs(0.9, 0), {1.0: rung(seed=10)}, {1.0: 2.0}, MARGIN, FIXED)
    assert one.verdict is S
    assert overall((one,))[0] is IN


def test_over_sets():
    found = over_sets((0.03, 0.01, 0.02))
    assert found.on_which == tuple(holm([0.03, 0.01, 0.02]))
    assert found.on_all == 0.03


def test_refused():
    with pytest.raises(InputError, match="shapes"):
        Series([0.9, 0.8], [True])
    with pytest.raises(InputError, match="shapes"):
        Series([[0.9, 0.8]])
    with pytest.raises(InputError, match="margin"):
        compare(runs(0.9, 0), runs(0.9, 1), -0.1, FIXED)
