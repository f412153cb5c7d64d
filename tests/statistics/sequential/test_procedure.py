import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from invact.errors import InputError
from invact.statistics.comparison.inference import welch
from invact.statistics.sequential.boundaries import ALPHA, LOOKS, nominal_levels, repeated_p
from invact.statistics.sequential.procedure import Decision, Outcome, Procedure

MARGIN = 0.005
FIXED = Procedure((6,), 0.025)
# Short designs, because the levels of the default looks take several seconds.
TWO = Procedure((3, 5), 0.025)
THREE = Procedure((3, 4, 6), 0.05)
PATIENT = Procedure((3, 4, 6), 0.05, futility=False)
procedures = st.sampled_from([FIXED, TWO, THREE, PATIENT])
margins = st.sampled_from([0.0, 0.001, MARGIN])
floors = st.sampled_from([0.0, 0.00005])


@st.composite
def arms(draw, least=2):
    """Counts over 10,000 test images, close enough that all decisions occur."""
    base = draw(st.integers(8_900, 9_100))
    runs = st.lists(st.integers(0, 60), min_size=least, max_size=8)
    return tuple((base + shift + np.array(draw(runs))) / 1e4 for shift in (draw(st.integers(-80, 80)), 0))


def scipy_p(treatment, other, margin, side="greater"):
    return stats.ttest_ind(treatment + margin, other, equal_var=False, alternative=side).pvalue


@given(arms(6), margins)
def test_one_look_is_the_fixed_test_of_scipy(pair, margin):
    treatment, other = (values[:6] for values in pair)
    assume(min(np.ptp(treatment), np.ptp(other)) > 0)
    found = FIXED.test(treatment, other, margin)
    above, below = (scipy_p(treatment, other, margin, side) for side in ("greater", "less"))
    assert (found.p_value, found.p_inferior) == pytest.approx((above, below), rel=1e-6, abs=1e-12)
    assume(min(abs(above - ALPHA), abs(below - ALPHA)) > 1e-9)
    expected = Decision.NOT_SHOWN
    if above < ALPHA:
        expected = Decision.NON_INFERIOR
    elif below < ALPHA:
        expected = Decision.INFERIOR
    assert (found.decision, found.n) == (expected, 6)
    both = stats.ttest_ind(treatment, other, equal_var=False).confidence_interval(1 - 2 * ALPHA)
    assert found.interval == pytest.approx((both.low, both.high), rel=1e-9, abs=1e-12)
    assert found.estimate == pytest.approx(treatment.mean() - other.mean(), abs=1e-15)


def expected_decision(procedure, treatment, other, margin, floor):
    """The decision, from the definition of the rules, and the index of its look."""
    levels, last = procedure.levels(), None
    for index, n in enumerate(procedure.looks):
        if n > min(len(treatment), len(other)):
            break
        last = index
        test = welch(treatment[:n], other[:n], margin, floor)
        if test.p_value < levels[index]:
            return Decision.NON_INFERIOR, index
        if test.p_inferior < levels[index]:
            return Decision.INFERIOR, index
        inside = 0 < index < len(procedure.looks) - 1
        if procedure.futility and inside and test.t <= 0:
            return Decision.FUTILE, index
    if last == len(procedure.looks) - 1:
        return Decision.NOT_SHOWN, last
    return Decision.CONTINUE, last


@given(procedures, arms(), margins, floors)
def test_the_decision_follows_the_rules(procedure, pair, margin, floor):
    found = procedure.test(*pair, margin, floor)
    decision, index = expected_decision(procedure, *pair, margin, floor)
    assert found.decision is decision
    assert found.n == (0 if index is None else procedure.looks[index])
    assert len(found.taken) == (0 if index is None else index + 1)


@given(procedures, arms(), margins, floors)
def test_the_parts_of_any_outcome_agree(procedure, pair, margin, floor):
    found = procedure.test(*pair, margin, floor)
    assert found.margin == margin
    assert found.shown == (found.decision is Decision.NON_INFERIOR)
    assert found.ended == (found.decision is not Decision.CONTINUE)
    if not found.taken:
        assert found == Outcome(Decision.CONTINUE, 0, (), None, None, None, None, margin)
        return
    for look, n, level in zip(found.taken, procedure.looks, procedure.levels(), strict=False):
        test = welch(*(values[:n] for values in pair), margin, floor)
        assert (look.n, look.difference, look.p_value) == (n, test.difference, test.p_value)
        assert look.level == level
    # `test`, `n` and `level` are now those of the latest look.
    assert (found.n, found.estimate) == (n, test.difference)
    assert found.interval == test.interval(level)
    if not found.ended:
        assert (found.p_value, found.p_inferior) == (None, None)
        return
    assert (found.p_value < procedure.alpha) == found.shown
    assert (found.p_inferior < procedure.alpha) == (found.decision is Decision.INFERIOR)
    low, high = found.interval
    if min(abs(low + margin), abs(high + margin)) > 1e-9:
        assert (low > -margin) == found.shown
        assert (high < -margin) == (found.decision is Decision.INFERIOR)
    index = len(found.taken) - 1
    assert found.p_value == repeated_p(test.p_value, index, procedure.looks, procedure.alpha)
    assert found.p_inferior == repeated_p(test.p_inferior, index, procedure.looks, procedure.alpha)


@given(procedures, arms(), margins)
def test_runs_after_the_stop_change_nothing(procedure, pair, margin):
    found = procedure.test(*pair, margin)
    assert procedure.test(*(values[: found.n] for values in pair), margin) == found
    if found.ended:
        more = [np.append(values[: found.n], [0.2, 0.9, 0.7, 0.1]) for values in pair]
        assert procedure.test(*more, margin) == found


@given(procedures, arms(), floors)
def test_swapped_arms_at_margin_0(procedure, pair, floor):
    found, swapped = procedure.test(*pair, 0.0, floor), procedure.test(*pair[::-1], 0.0, floor)
    opposite = {Decision.NON_INFERIOR: Decision.INFERIOR, Decision.INFERIOR: Decision.NON_INFERIOR}
    # Futility concerns one of the directions only: the other arm may be better and then continues.
    if not {found.decision, swapped.decision} & {Decision.FUTILE}:
        assert swapped.decision is opposite.get(found.decision, found.decision)
        assert (swapped.p_value, swapped.p_inferior) == (found.p_inferior, found.p_value)
        if found.interval:
            assert swapped.interval == pytest.approx([-end for end in found.interval[::-1]], abs=1e-15)
    elif found.decision is Decision.FUTILE:
        assert found.estimate <= 0


@given(procedures, arms())
def test_a_larger_margin_is_easier_to_show(procedure, pair):
    shown = [procedure.test(*pair, margin).shown for margin in (0.0, 0.001, MARGIN, 0.02)]
    assert shown == sorted(shown)


@given(arms(), margins)
def test_futility_changes_no_other_decision(pair, margin):
    found, patient = THREE.test(*pair, margin), PATIENT.test(*pair, margin)
    assert patient.decision is not Decision.FUTILE
    if found.decision is not Decision.FUTILE:
        assert found == patient
    else:
        # Neither the first nor the last look, and the difference is at or below -margin.
        assert found.n == 4
        assert found.estimate <= -margin + 1e-12


def test_each_decision_is_reached():
    def spread(mean, n, sd=0.001):
        return mean + sd * np.resize([0.0, 1.0, -1.0], n)

    control = spread(0.9, 6)
    wide = spread(0.9, 6, 0.01)
    for procedure, treatment, other, expected, n in (
        (THREE, spread(0.9, 6), control, Decision.NON_INFERIOR, 3),
        (THREE, spread(0.88, 6), control, Decision.INFERIOR, 3),
        (THREE, spread(0.893, 6, 0.01), wide, Decision.FUTILE, 4),
        (PATIENT, spread(0.893, 6, 0.01), wide, Decision.NOT_SHOWN, 6),
        (THREE, spread(0.897, 6, 0.01), wide, Decision.NOT_SHOWN, 6),
        (THREE, spread(0.897, 5, 0.01), wide, Decision.CONTINUE, 4),
        (THREE, spread(0.9, 2), control, Decision.CONTINUE, 0),
        # The treatment is shown at a later look only.
        (THREE, spread(0.9, 6, 0.003), spread(0.9, 6, 0.003), Decision.NON_INFERIOR, 4),
    ):
        found = procedure.test(treatment, other, MARGIN)
        assert (found.decision, found.n) == (expected, n)


def test_exactly_at_the_margin():
    # Without spread, t is 0 and both p values are 1: no direction is shown.
    runs = [0.5] * 6
    for procedure, expected, n in (
        (THREE, Decision.FUTILE, 4),
        (PATIENT, Decision.NOT_SHOWN, 6),
        (FIXED, Decision.NOT_SHOWN, 6),
    ):
        found = procedure.test(runs, runs)
        assert (found.decision, found.n, found.p_value, found.p_inferior) == (expected, n, 1, 1)
    # The smallest loss below the margin is shown, as no spread means no uncertainty.
    assert THREE.test([0.4999] * 3, runs, 0.001).decision is Decision.NON_INFERIOR
    # With the floor it is not.
    assert THREE.test([0.4991] * 3, runs, 0.001, floor=0.002).decision is Decision.CONTINUE


@pytest.mark.parametrize("truth", [-MARGIN, 0.0])
def test_the_repeated_intervals_contain_the_truth_together(truth):
    replications, rule = 2_000, PATIENT
    rng = np.random.default_rng(3)
    treatment, other = (rng.normal(0.9 + mean, 0.002, (replications, 6)) for mean in (truth, 0.0))
    missed = above = 0
    for ours, theirs in zip(treatment, other, strict=True):
        ends = [
            welch(ours[:n], theirs[:n]).interval(level)
            for n, level in zip(rule.looks, rule.levels(), strict=True)
        ]
        missed += any(not low <= truth <= high for low, high in ends)
        above += any(low > truth for low, _ in ends)
        found = rule.test(ours, theirs, MARGIN)
        assert found.interval == ends[rule.looks.index(found.n)]
    assert missed <= stats.binom.isf(0.0005, replications, 2 * rule.alpha)
    assert above <= stats.binom.isf(0.0005, replications, rule.alpha)
    # Intervals that are much too wide would miss it less often.
    assert missed >= stats.binom.ppf(0.0005, replications, 1.5 * rule.alpha)


def test_looks_and_levels():
    assert (TWO.most, FIXED.most) == (5, 6)
    assert [TWO.next(n) for n in range(7)] == [3, 3, 3, 5, 5, None, None]
    assert TWO.levels() == nominal_levels((3, 5), 0.025)
    assert FIXED.levels() == (0.025,)
    assert Procedure() == Procedure(LOOKS, ALPHA, futility=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"looks": ()}, "looks: received"),
        ({"looks": (1,)}, "looks"),
        ({"looks": (5, 5)}, "looks"),
        ({"looks": (7, 5)}, "looks"),
        ({"looks": (5, 7.0)}, "looks"),
        ({"alpha": 0.0}, "alpha: received 0.0"),
        ({"alpha": 0.5}, "alpha"),
        ({"alpha": math.nan}, "alpha"),
    ],
)
def test_invalid_procedures_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Procedure(**arguments)


@pytest.mark.parametrize(
    ("treatment", "margin", "floor", "message"),
    [
        ([0.9, 0.9, math.nan], MARGIN, 0.0, "treatment"),
        ([90.0, 91.0, 90.0], MARGIN, 0.0, "treatment"),
        ([0.9, 0.9, 0.9], -0.1, 0.0, "margin"),
        ([0.9, 0.9, 0.9], MARGIN, -0.1, "floor"),
    ],
)
def test_invalid_runs_are_refused(treatment, margin, floor, message):
    with pytest.raises(InputError, match=message):
        TWO.test(treatment, [0.9, 0.91, 0.9], margin, floor)
