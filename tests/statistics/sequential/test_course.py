"""The course of a claim: what it wants next, and what it concludes, from the runs so far."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from statsmodels.stats.power import TTestIndPower

from invact.statistics.sequential.course import (
    ALARM,
    CONFIRMATION,
    MOST,
    PILOT,
    SCREEN,
    Course,
    Rules,
    advance,
    select_ratio,
)
from invact.statistics.sequential.failures import Arm, Runs, runs_needed
from invact.statistics.sequential.ladder import Verdict
from invact.statistics.sequential.power import plan_margin
from invact.statistics.sequential.procedure import Decision, Procedure

MARGIN = 0.005
# Short designs, because the levels of the default looks take many seconds.
TWO, THREE, FIXED = Procedure((3, 5)), Procedure((3, 4, 6), 0.05), Procedure((6,))
RULES = Rules((0.75, 0.5), {0.75: 1.125, 0.5: 0.5}, MARGIN, MARGIN, TWO)
CONTROL, SMALLEST, MATCHED = ("control", 1.0), ("placebo", 0.5), ("matched", 0.5)
S, R, IN, NO = Verdict.SUPPORTED, Verdict.REFUTED, Verdict.INCONCLUSIVE, Verdict.NO_ASSAY_SENSITIVITY
LONG = 130
"""More runs than any claim of these tests needs of a network."""


def around(mean, n=LONG, sd=0.0002):
    """Accuracies whose mean is near to `mean` after any number of runs."""
    return mean + sd * np.resize([0.0, 1.0, -1.0], n)


def with_failed(values, *places):
    values = np.array(values)
    values[list(places)] = 0.1
    return values


class Claim:
    """A claim whose runs are known beforehand; it trains what `advance` wants.

    `changed` gives the runs of some networks in some steps. The control and the treatment are at 0.9 and all
    other networks at 0.88, unless they are changed.
    """

    def __init__(self, rules=RULES, changed=None):
        self.rules, self.changed, self.trained = rules, changed or {}, Counter()

    def all_runs(self, step, network):
        default = around(0.9 if network[0] in ("control", "treatment") else 0.88)
        runs = self.changed.get((step, network), default)
        return runs if isinstance(runs, Runs) else Runs(runs)

    def runs(self, step, network):
        every, count = self.all_runs(step, network), self.trained[step, network]
        assert count <= len(every)
        return Runs(every.validation[:count], every.test[:count])

    def now(self):
        return advance(self.rules, self.runs)

    def follow(self):
        """Train until nothing is wanted; return all courses."""
        courses = [self.now()]
        while courses[-1].wanted:
            self.trained |= courses[-1].wanted
            courses.append(self.now())
        return courses

    def end(self):
        return self.follow()[-1]


def treatment(ratio=0.5):
    return ("treatment", ratio)


def test_the_steps_of_a_claim_that_is_supported():
    claim = Claim()
    courses = claim.follow()
    assert [dict(course.wanted) for course in courses] == [
        {(PILOT, CONTROL): 8, (PILOT, SMALLEST): 8},
        {(SCREEN, treatment(0.75)): 4, (SCREEN, treatment(0.5)): 4},
        {(CONFIRMATION, treatment()): 3, (CONFIRMATION, CONTROL): 3},
        {(CONFIRMATION, SMALLEST): 3, (CONFIRMATION, MATCHED): 3},
        # Without a failed run, a claim needs 10 runs of the treatment; 4 of them are those of the screen.
        {(CONFIRMATION, treatment()): 6},
        {},
    ]
    assert [course.verdict for course in courses] == [IN] * 5 + [S]
    assert [course.macs_verdict for course in courses] == [IN] * 5 + [S]
    # What is not known yet is not there.
    for course, known in zip(courses, [0, 1, 2, 2, 2, 2], strict=True):
        assert (course.assay is None) == (course.margin is None) == (known < 1)
        assert (course.spread is None) == (course.procedure is None) == (known < 2)
        assert (course.selected, len(course.screened)) == (((0.5,), 2) if known == 2 else ((), 0))
    assert [course.negative is None for course in courses] == [True] * 3 + [False] * 3
    end = courses[-1]
    assert (end.margin, end.procedure, end.failed) == (MARGIN, TWO, ())
    assert [rung.ratio for rung in end.rungs] == [0.5]
    assert sum(claim.trained.values()) == 2 * 8 + 2 * 4 + 6 + 3 * 3


def test_a_treatment_that_loses_more_than_the_margin_is_refuted():
    worse = dict.fromkeys(
        [(step, treatment(ratio)) for step in (SCREEN, CONFIRMATION) for ratio in RULES.ratios], around(0.88)
    )
    claim = Claim(changed=worse)
    end = claim.end()
    # No ratio is near in the screen, so the largest one is tested. Placebo and matched arm are not trained.
    assert (end.verdict, end.macs_verdict, end.selected) == (R, R, (0.75,))
    assert +claim.trained == {
        (PILOT, CONTROL): 8,
        (PILOT, SMALLEST): 8,
        (SCREEN, treatment(0.75)): 4,
        (SCREEN, treatment(0.5)): 4,
        (CONFIRMATION, CONTROL): 3,
        (CONFIRMATION, treatment(0.75)): 3,
    }


@pytest.mark.parametrize(
    ("step", "network", "before", "wanted"),
    [
        (PILOT, CONTROL, 8, 9),
        (PILOT, SMALLEST, 8, 9),
        (SCREEN, treatment(0.75), 4, 5),
        (CONFIRMATION, CONTROL, 3, 4),
        (CONFIRMATION, SMALLEST, 3, 4),
        (CONFIRMATION, MATCHED, 3, 4),
    ],
)
def test_the_next_seed_replaces_a_failed_run(step, network, before, wanted):
    claim = Claim(changed={(step, network): with_failed(around(0.88 if network[0] != "control" else 0.9), 1)})
    courses = claim.follow()
    counts = [course.wanted[step, network] for course in courses if (step, network) in course.wanted]
    assert counts == [before, wanted]
    # No other network of the step is trained again. The treatment may need runs for another reason.
    replacing = next(course.wanted for course in courses if course.wanted.get((step, network)) == wanted)
    assert set(replacing) - {(CONFIRMATION, treatment())} == {(step, network)}
    assert courses[-1].verdict is S


def test_a_failed_run_of_the_treatment_also_asks_for_more_runs():
    for step in (SCREEN, CONFIRMATION):
        claim = Claim(changed={(step, treatment()): with_failed(around(0.9), 1)})
        assert claim.end().verdict is S
        total = claim.trained[SCREEN, treatment()] + claim.trained[CONFIRMATION, treatment()]
        assert total == 16


@pytest.mark.parametrize("network", [CONTROL, SMALLEST])
@pytest.mark.parametrize("places", [(0, 1, 2), (0, 8, 9), (6, 7, 8)])
def test_the_third_failed_run_in_the_pilot_ends_the_claim(network, places):
    claim = Claim(changed={(PILOT, network): with_failed(around(0.9), *places)})
    end = claim.end()
    assert end == Course(failed=(network,))
    assert claim.trained[PILOT, network] == {(0, 1, 2): 8, (0, 8, 9): 10, (6, 7, 8): 10}[places]
    # Two failed runs do not.
    claim = Claim(changed={(PILOT, network): with_failed(claim.all_runs(PILOT, network).test, places[2])})
    claim.changed[PILOT, network] = with_failed(around(0.9 if network == CONTROL else 0.88), *places[:2])
    end = claim.end()
    assert (end.verdict, end.failed) == (S, ())
    assert claim.trained[PILOT, network] == 10


@pytest.mark.parametrize(
    ("network", "earlier"),
    [(CONTROL, PILOT), (SMALLEST, PILOT), (treatment(), SCREEN), (MATCHED, "")],
)
def test_the_third_failed_run_of_all_steps_ends_the_claim(network, earlier):
    mean = 0.9 if network[0] in ("control", "treatment") else 0.88
    now = (1,) if earlier else (1, 3, 4)
    changed = {
        (earlier, network): with_failed(around(mean), 1, 2),
        (CONFIRMATION, network): with_failed(around(mean), *now),
    }
    end = Claim(changed=changed).end()
    assert end.failed == (network,)
    # The claim on filters does not need the matched arm.
    assert (end.verdict, end.macs_verdict) == (IN if earlier else S, IN)


def test_a_ratio_that_fails_in_the_screen_is_dropped():
    claim = Claim(changed={(SCREEN, treatment()): with_failed(around(0.9), 0, 4, 5)})
    end = claim.end()
    assert (end.selected, end.failed) == ((0.75,), ())
    assert set(end.screened) == {0.75}
    # 0.75 saves no MACs.
    assert (end.verdict, end.macs_verdict) == (S, IN)
    assert claim.trained[SCREEN, treatment()] == 6
    assert claim.trained[CONFIRMATION, treatment()] == 0


@pytest.mark.parametrize("ladder", [False, True])
def test_a_screen_in_which_all_ratios_fail_ends_the_claim(ladder):
    lost = {(SCREEN, treatment(ratio)): with_failed(around(0.9), 0, 4, 5) for ratio in RULES.ratios}
    claim = Claim(replace(RULES, ladder=ladder), lost)
    end = claim.end()
    assert (end.verdict, end.macs_verdict, end.failed) == (IN, IN, (treatment(0.75),))
    assert not end.screened
    assert not any(step == CONFIRMATION for step, _ in +claim.trained)
    assert not end.wanted


def planned_margin(control, placebo):
    low = (
        stats.ttest_ind(control, placebo, equal_var=False, alternative="greater")
        .confidence_interval(0.95)
        .low
    )
    return low / 2


def test_the_margin_is_given_or_planned_and_capped():
    control, placebo = around(0.9, 8, 0.002), around(0.893, 8, 0.003)
    changed = {(PILOT, CONTROL): control, (PILOT, SMALLEST): placebo}
    expected = planned_margin(control, placebo)
    assert 0.001 < expected < 0.004
    for margin, cap, found in ((None, 0.004, expected), (None, 0.001, 0.001), (0.004, 0.004, 0.004)):
        claim = Claim(replace(RULES, margin=margin, cap=cap), changed)
        courses = claim.follow()
        assert courses[1].margin == pytest.approx(found, rel=1e-9)
        assert all(course.margin == courses[1].margin for course in courses[1:])
        assert courses[-1].rungs[0].non_inferiority.margin == courses[1].margin
        # The rule is that of `plan_margin`, whether its margin is used or not.
        assert courses[1].assay == plan_margin(control, placebo, cap)
    # The floor of the standard deviations makes the bound lower.
    low = Claim(replace(RULES, margin=None, floor=0.004), changed).follow()[1]
    assert low.margin == plan_margin(control, placebo, MARGIN, floor=0.004).margin < 0.9 * expected


def test_failed_runs_have_no_part_in_the_margin():
    control, placebo = around(0.9, 9, 0.002), around(0.893, 9, 0.003)
    whole = {(PILOT, CONTROL): with_failed(control, 3), (PILOT, SMALLEST): placebo}
    claim = Claim(replace(RULES, margin=None), whole)
    expected = planned_margin(np.delete(control, 3), placebo[:8])
    assert next(course for course in claim.follow() if course.margin).margin == pytest.approx(expected)


def test_the_margin_is_from_test_accuracy_and_the_fence_from_validation():
    control, placebo = around(0.8, 9, 0.002), around(0.793, 9, 0.003)
    changed = {
        (PILOT, CONTROL): Runs(with_failed(around(0.9, 9), 8), control),
        (PILOT, SMALLEST): Runs(around(0.9, 9), placebo),
    }
    margin = Claim(replace(RULES, margin=None), changed).follow()[1].margin
    assert margin == pytest.approx(planned_margin(control[:8], placebo[:8]))


def test_the_fence_of_the_pilot_uses_the_largest_margin_that_is_allowed():
    # This run is 1.5 points below the median: within 4 margins of the cap of 0.5 points, but not within 4 of
    # the margin that the pilot fixes.
    control = around(0.9, 8)
    control[5] = 0.885
    placebo = around(0.889, 8, 0.003)
    claim = Claim(replace(RULES, margin=None), {(PILOT, CONTROL): control, (PILOT, SMALLEST): placebo})
    courses = claim.follow()
    margin = courses[1].margin
    assert margin == pytest.approx(planned_margin(control, placebo))
    assert margin < 0.015 / 4 < MARGIN
    # It then counts as failed. The margin is fixed, so this run is not replaced.
    assert claim.trained[PILOT, CONTROL] == 8
    end = courses[-1]
    assert end.fences[CONTROL] == pytest.approx(np.median(control) - 4 * margin)
    assert end.rungs[0].failures["control"] == (1, 11)
    # Three such runs end the claim after the pilot.
    control[5:] = 0.885
    placebo = around(0.883, 8, 0.003)
    claim = Claim(replace(RULES, margin=None), {(PILOT, CONTROL): control, (PILOT, SMALLEST): placebo})
    courses = claim.follow()
    assert courses[-1].margin == pytest.approx(planned_margin(control, placebo))
    assert courses[-1].margin < 0.015 / 4
    assert (courses[-1].failed, courses[-1].verdict, len(courses)) == ((CONTROL,), IN, 2)


@pytest.mark.parametrize("margin", [None, MARGIN])
def test_without_assay_sensitivity_nothing_more_is_trained(margin):
    claim = Claim(replace(RULES, margin=margin), {(PILOT, SMALLEST): around(0.9)})
    courses = claim.follow()
    end = courses[-1]
    assert len(courses) == 2
    assert (end.verdict, end.macs_verdict, end.margin, end.failed) == (NO, NO, None, ())
    assert not end.assay.assay_sensitivity
    assert not end.wanted


def test_the_fences_are_fixed_before_the_confirmation():
    claim = Claim(changed={(SCREEN, treatment(0.75)): with_failed(around(0.9), 0)})
    courses = claim.follow()
    first = next(course for course in courses if course.selected)
    expected = {CONTROL: 0.9, SMALLEST: 0.88, treatment(0.75): 0.9, treatment(): 0.9}
    assert set(first.fences) == set(expected)
    for network, mean in expected.items():
        # Four margins of 0.5 points below the median of the first runs.
        runs = claim.all_runs(SCREEN if network[0] == "treatment" else PILOT, network).validation
        n = 4 if network[0] == "treatment" else 8
        assert first.fences[network] == pytest.approx(np.median(runs[:n]) - 0.02)
        assert first.fences[network] == pytest.approx(mean - 0.02, abs=0.0003)
    # Runs of the confirmation do not move them, and they decide which of these runs have failed.
    assert all(course.fences == first.fences for course in courses[courses.index(first) :])
    for value, failures in ((0.8798, 1), (0.8802, 0)):
        runs = around(0.9)
        runs[1] = value
        changed = {(CONFIRMATION, CONTROL): Runs(runs, around(0.9))}
        assert Claim(changed=changed).end().rungs[0].failures["control"] == (failures, 11 + failures)


def test_a_network_without_earlier_runs_has_a_fence_from_its_first_look():
    matched = around(0.88)
    matched[2] = 0.5
    for procedure, runs in ((TWO, 4), (FIXED, 7)):
        claim = Claim(
            replace(RULES, procedure=procedure),
            {(CONFIRMATION, MATCHED): Runs(matched, around(0.88))},
        )
        end = claim.end()
        assert end.verdict is end.macs_verdict is S
        assert end.rungs[0].failures["matched"] == (1, runs)


def by_definition(control, screened, ratios, margin):
    for ratio in sorted(ratios):
        if ratio in screened and np.mean(screened[ratio]) >= np.mean(control) - margin / 2:
            return ratio
    return max(screened, default=max(ratios))


@given(
    st.dictionaries(
        st.sampled_from([0.75, 0.625, 0.5]), st.lists(st.integers(-12, 2), min_size=1, max_size=5), max_size=3
    ),
    st.lists(st.integers(-4, 4), min_size=1, max_size=8),
)
def test_the_smallest_ratio_that_is_near_is_selected(screened, control):
    # Multiples of a power of 2, so that no mean is near by rounding only.
    scale = 2.0**-10
    values = {ratio: 0.5 + scale * np.array(runs) for ratio, runs in screened.items()}
    old, ratios = 0.5 + scale * np.array(control), (0.75, 0.625, 0.5)
    means = [np.mean(runs) - np.mean(old) + 4 * scale for runs in values.values()]
    assume(all(abs(mean) > 1e-9 or mean == 0 for mean in means))
    assert select_ratio(old, values, ratios, 8 * scale) == by_definition(old, values, ratios, 8 * scale)


def test_select_ratio_by_hand():
    control, ratios = np.array([0.5, 0.5]), (0.75, 0.625, 0.5)
    near, far = np.array([0.5, 0.46875]), np.array([0.5, 0.4375])
    # A mean that is exactly half a margin below is near.
    for screened, expected in (
        ({0.75: far, 0.625: near, 0.5: far}, 0.625),
        ({0.75: near, 0.625: far, 0.5: near}, 0.5),
        ({0.5: near, 0.75: near}, 0.5),
        ({0.75: far, 0.625: far, 0.5: far}, 0.75),
        # Too many runs failed at 0.75, so it is not a choice.
        ({0.625: far, 0.5: far}, 0.625),
        ({}, 0.75),
    ):
        assert select_ratio(control, screened, ratios, 0.03125) == expected


def test_the_screen_reads_validation_accuracy_only():
    good, bad = around(0.9), around(0.885)
    changed = {
        (SCREEN, treatment(0.75)): Runs(good, bad),
        (SCREEN, treatment(0.5)): Runs(bad, good),
        (CONFIRMATION, treatment(0.75)): Runs(bad, good),
    }
    claim = Claim(changed=changed)
    end = claim.end()
    assert end.selected == (0.75,)
    assert end.screened == pytest.approx({0.75: good[:4].mean(), 0.5: bad[:4].mean()})
    # The confirmation reads test accuracy only.
    assert end.verdict is S
    # The control's runs in the pilot are judged by validation accuracy, too.
    changed = {(PILOT, CONTROL): Runs(around(0.905), around(0.9))}
    assert Claim(changed=changed).end().selected == (0.75,)


@pytest.mark.parametrize("loss", [0.0, 0.003])
def test_the_claim_tests_new_runs_only(loss):
    # The pilot and the screen select and plan. Their accuracies have no part in the tests.
    plain = Claim().end()
    shifted = {
        (PILOT, CONTROL): Runs(around(0.9), around(0.9 - loss, sd=0.0003)),
        (SCREEN, treatment()): Runs(around(0.9), around(0.9 - 2 * loss, sd=0.0004)),
    }
    # The negative control compares the pilot with the confirmation, so it can only take a claim back.
    assert Claim(changed=shifted).end().rungs == plain.rungs


def test_the_ladder_tests_all_ratios():
    claim = Claim(replace(RULES, ladder=True))
    courses = claim.follow()
    end = courses[-1]
    assert (end.selected, end.verdict, end.macs_verdict) == ((0.75, 0.5), S, S)
    assert [(rung.ratio, rung.verdict) for rung in end.rungs] == [(0.75, S), (0.5, S)]
    # The second rung starts after the first one, and uses the same control.
    wanted = [course.wanted for course in courses]
    assert wanted[2] == {(CONFIRMATION, treatment(0.75)): 3, (CONFIRMATION, CONTROL): 3}
    assert wanted[3] == {(CONFIRMATION, ("placebo", 0.75)): 3}
    assert wanted[4] == {(CONFIRMATION, treatment(0.75)): 6}
    assert wanted[5] == {(CONFIRMATION, treatment(0.5)): 3}
    assert claim.trained[CONFIRMATION, CONTROL] == 3
    # The first ratio that is not supported ends the ladder. A smaller one that is refuted leaves the claim.
    lost = {(CONFIRMATION, treatment(0.5)): around(0.88)}
    end = Claim(replace(RULES, ladder=True), lost).end()
    assert [rung.verdict for rung in end.rungs] == [S, R]
    assert (end.verdict, end.macs_verdict) == (S, R)
    lost = {(CONFIRMATION, treatment(0.75)): around(0.88)}
    end = Claim(replace(RULES, ladder=True), lost).end()
    assert [rung.verdict for rung in end.rungs] == [R]


def test_a_failed_network_is_named_with_its_ratio():
    lost = {(CONFIRMATION, treatment(0.5)): with_failed(around(0.9), 0, 1, 2)}
    end = Claim(replace(RULES, ladder=True), lost).end()
    assert (end.verdict, end.failed) == (S, (treatment(0.5),))


def test_the_spread_of_an_arm():
    control, ours = around(0.9, sd=0.002), around(0.9, sd=0.004)
    changed = {(PILOT, CONTROL): Runs(around(0.9), control), (SCREEN, treatment()): Runs(around(0.9), ours)}
    rules = replace(RULES, power=0.8)
    found = next(course for course in Claim(rules, changed).follow() if course.selected)
    variances = [control[:8].var(ddof=1), ours[:4].var(ddof=1)]
    assert found.spread == pytest.approx(math.sqrt(np.mean(variances)))
    # Each standard deviation is at least the floor.
    floored = Claim(replace(rules, floor=0.003), changed).follow()
    expected = math.sqrt(np.mean([0.003**2, variances[1]]))
    assert next(course for course in floored if course.selected).spread == pytest.approx(expected)
    # The ladder uses its smallest ratio, and a treatment whose runs all failed has no part.
    ladder = Claim(replace(rules, ladder=True), changed).follow()
    assert next(course for course in ladder if course.selected).spread == pytest.approx(found.spread)
    lost = {(SCREEN, treatment(ratio)): np.full(LONG, math.nan) for ratio in RULES.ratios}
    assert Claim(rules, changed | lost).end().spread == pytest.approx(math.sqrt(variances[0]))


@pytest.mark.parametrize(("target", "sd"), [(0.8, 0.005), (0.95, 0.006), (0.9, 0.003)])
def test_a_planned_power_gives_one_look(target, sd):
    wide = around(0.9, sd=sd)
    changed = {(PILOT, CONTROL): Runs(around(0.9), wide), (SCREEN, treatment()): Runs(around(0.9), wide)}
    for level in (0.025, 0.05):
        procedure = Procedure((3, 5), level, futility=False)
        claim = Claim(replace(RULES, power=target, procedure=procedure), changed)
        courses = claim.follow()
        found = next(course for course in courses if course.selected)
        needed = TTestIndPower().solve_power(
            MARGIN / found.spread, alpha=level, power=target, alternative="larger"
        )
        looks = (max(6, math.ceil(needed)),)
        assert found.procedure == replace(procedure, looks=looks)
        # It does not change when the confirmation has other spreads.
        assert courses[-1].procedure == found.procedure
        assert courses[-1].rungs[0].non_inferiority.n == looks[0]
        assert claim.trained[CONFIRMATION, CONTROL] == looks[0]


@pytest.mark.parametrize(
    ("sd", "least", "most"),
    [(0.0, 6, 6), (0.0001, 6, 6), (0.0145, 90, 99), (0.016, 100, 100), (0.2, 100, 100)],
)
def test_the_planned_number_of_runs_is_between_6_and_100(sd, least, most):
    wide = Runs(around(0.9), around(0.7, sd=sd))
    # A wide spread needs a placebo that is far away.
    changed = {
        (PILOT, CONTROL): wide,
        (SCREEN, treatment()): wide,
        (PILOT, SMALLEST): Runs(around(0.88), around(0.2)),
    }
    courses = Claim(replace(RULES, power=0.8), changed).follow()
    found = next(course for course in courses if course.selected)
    (look,) = found.procedure.looks
    assert least <= look <= most
    if sd > 0.001:
        needed = TTestIndPower().solve_power(
            MARGIN / found.spread, alpha=0.025, power=0.8, alternative="larger"
        )
        assert look == min(MOST, max(6, math.ceil(needed)))


def two_sided(first, pilot):
    return stats.ttest_ind(first, pilot, equal_var=False).pvalue


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.001, 0.003]), st.sampled_from([TWO, THREE, FIXED]))
@settings(max_examples=40)
def test_the_negative_control_is_scipys_test_of_the_first_look(seed, shift, procedure):
    rng = np.random.default_rng(seed)
    pilot, later = rng.normal(0.9, 0.001, LONG), rng.normal(0.9 + shift, 0.002, LONG)
    claim = Claim(
        replace(RULES, procedure=procedure),
        {
            (PILOT, CONTROL): Runs(around(0.9), pilot),
            (CONFIRMATION, CONTROL): Runs(with_failed(around(0.9), 1), later),
        },
    )
    found = claim.end().negative
    first = np.delete(later, 1)[: procedure.looks[0]]
    assert found.p_value == pytest.approx(two_sided(first, pilot[:8]), rel=1e-6)
    assert found.passed == (found.p_value >= 0.01)
    assert found.test.difference == pytest.approx(first.mean() - pilot[:8].mean())
    assert (found.test.runs, found.test.margin) == ((procedure.looks[0], 8), 0)


def test_the_negative_control_uses_the_floor():
    end = Claim(replace(RULES, floor=0.003)).end()
    expected = stats.ttest_ind_from_stats(
        *(around(0.9, 3).mean(), 0.003, 3, around(0.9, 8).mean(), 0.003, 8), equal_var=False
    )
    assert end.negative.p_value == pytest.approx(expected.pvalue)


def test_a_failed_negative_control_takes_a_claim_back():
    # The confirmation is 2 points better than the pilot, for all networks.
    better = {(CONFIRMATION, CONTROL): around(0.92), (CONFIRMATION, treatment()): around(0.92)}
    courses = Claim(changed=better).follow()
    end = courses[-1]
    assert not end.negative.passed
    assert (end.verdict, end.macs_verdict) == (IN, IN)
    # The rungs say what the tests have found.
    assert (end.rungs[0].verdict, end.rungs[0].macs_verdict) == (S, S)
    # It has no influence on the runs that are wanted.
    assert [course.wanted for course in courses] == [course.wanted for course in Claim().follow()]
    # A claim that is refuted remains so.
    worse = {(CONFIRMATION, CONTROL): around(0.92), (CONFIRMATION, treatment()): around(0.88)}
    end = Claim(changed=worse).end()
    assert not end.negative.passed
    assert (end.verdict, end.macs_verdict) == (R, R)


def rejection_rate(n, m, level):
    """Probability that Welch's two-sided test of two normal samples with equal spreads rejects, exactly.

    The share of the first sample in the sum of squares has a beta distribution and is independent of
    Student's t with n + m - 2 degrees of freedom. For a given share, Welch's t is a multiple of it.
    """

    def rejected(share):
        parts = np.array([share / (n - 1) / n, (1 - share) / (m - 1) / m]) * (n + m - 2)
        df = parts.sum() ** 2 / (parts[0] ** 2 / (n - 1) + parts[1] ** 2 / (m - 1))
        scale = math.sqrt(parts.sum() / (1 / n + 1 / m))
        tail = 2 * stats.t.sf(stats.t.isf(level / 2, df) * scale, n + m - 2)
        return tail * stats.beta.pdf(share, (n - 1) / 2, (m - 1) / 2)

    return integrate.quad(rejected, 0, 1, epsabs=1e-10)[0]


def test_the_rate_of_false_alarms_of_the_negative_control():
    # Both samples are defined whatever the claim decides. So the probability of an alarm is at most that of a
    # rejection, also for a claim that seldom comes to its confirmation.
    for first in (6, 10, 18, 30, MOST):
        assert 0.9 * ALARM < rejection_rate(first, 8, ALARM) < 1.25 * ALARM
    # Welch's test is an approximation, which is worst with few runs.
    assert rejection_rate(2, 8, ALARM) < 0.05
    replications, rng = 1_000, np.random.default_rng(12)
    alarms = 0
    for _ in range(replications):
        control = rng.normal(0.9, 0.001, (2, 8))
        runs = {(PILOT, CONTROL): control[0], (CONFIRMATION, CONTROL): control[1]}
        changed = {key: Runs(around(0.9, 8), test) for key, test in runs.items()}
        claim = Claim(replace(RULES, procedure=FIXED), changed)
        claim.trained |= {(PILOT, CONTROL): 8, (PILOT, SMALLEST): 8, (CONFIRMATION, CONTROL): 6}
        claim.trained |= {(SCREEN, treatment(ratio)): 4 for ratio in RULES.ratios}
        alarms += not claim.now().negative.passed
    rate = rejection_rate(6, 8, ALARM)
    assert (
        stats.binom.ppf(0.0005, replications, rate) <= alarms <= stats.binom.isf(0.0005, replications, rate)
    )


@st.composite
def claims(draw, *, failing=True):
    """A claim with drawn rules, and a world in which every outcome occurs."""
    ratios = draw(st.sampled_from([(0.5,), (0.75, 0.5), (0.75, 0.6, 0.4)]))
    rules = Rules(
        ratios,
        {ratio: 2 * ratio**2 for ratio in ratios},
        draw(st.sampled_from([None, MARGIN, 0.003])),
        MARGIN,
        draw(st.sampled_from([TWO, THREE, FIXED])),
        draw(st.sampled_from([4, 8])),
        draw(st.sampled_from([2, 4])),
        ladder=draw(st.booleans()),
        floor=draw(st.sampled_from([0.0, 0.0005])),
        power=draw(st.sampled_from([None, None, 0.8])),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    changed = {}
    means = {("control", 1.0): 0.9}
    for ratio in ratios:
        for role in ("treatment", "placebo", "matched"):
            loss = draw(st.sampled_from([0.0, 0.0, 1.0, 4.0] if role == "treatment" else [4.0, 4.0, 0.0]))
            means[role, ratio] = 0.9 - loss * MARGIN
    # The confirmation may be better than the pilot, which the negative control notices.
    later = MARGIN * draw(st.sampled_from([0.0, 0.0, 0.0, 2.0]))
    for network, mean in means.items():
        sd = MARGIN * draw(st.sampled_from([0.0, 0.2, 0.8]))
        chance = draw(st.sampled_from([0.0, 0.0, 0.05, 0.05, 0.2, 0.5])) if failing else 0.0
        for step in (PILOT, SCREEN, CONFIRMATION):
            # Accuracies are counts of 2,000 images.
            drawn = mean + (later if step == CONFIRMATION else 0.0) + rng.normal(0, sd, LONG)
            test = np.round(drawn * 2_000) / 2_000
            down = rng.random(LONG) < chance
            seen = np.where(down, rng.choice([0.1, math.nan], LONG), test)
            changed[step, network] = Runs(seen, np.where(down, 0.1, test))
    return Claim(rules, changed)


def most_runs(rules, step, network, procedure):
    """The largest number of runs of a network in a step, by the documented rules."""
    if step != CONFIRMATION:
        return (rules.pilot if step == PILOT else rules.screen) + 2
    # At most two failed runs are replaced. A treatment with two failed runs needs 22 in all.
    most = procedure.most + 2
    return max(most, 22 - rules.screen) if network[0] == "treatment" else most


@given(claims())
@settings(max_examples=60)
def test_every_claim_ends_within_its_number_of_runs(claim):
    steps, courses = [PILOT, SCREEN, CONFIRMATION], claim.follow()
    at = []
    for before, course in zip([None, *courses], courses, strict=False):
        if course.wanted:
            (step,) = {step for step, _ in course.wanted}
            at.append(steps.index(step))
        for (step, network), count in course.wanted.items():
            assert count > (before.wanted.get((step, network), 0) if before else 0)
            assert count <= most_runs(claim.rules, step, network, course.procedure)
        # What is fixed stays so.
        for name in ("assay", "margin", "spread", "procedure", "negative"):
            was = getattr(before, name, None)
            assert was is None or getattr(course, name) == was
        assert not (before and before.selected) or (course.selected, course.fences) == (
            before.selected,
            before.fences,
        )
        assert not (course.failed and course.wanted and {role for role, _ in course.failed} - {"matched"})
    # No step comes back.
    assert at == sorted(at)
    assert claim.now() == courses[-1]
    end = courses[-1]
    assert (end.verdict is NO) == (end.macs_verdict is NO) == (end.margin is None and not end.failed)
    assert end.macs_verdict is not S or end.verdict is S
    if end.verdict is S:
        assert end.negative.passed
        assert any(rung.verdict is S and rung.ratio < 1 for rung in end.rungs)
    if end.verdict is R:
        assert end.rungs[-1].non_inferiority.decision is Decision.INFERIOR


@given(claims(), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_the_order_in_which_runs_are_trained_does_not_matter(claim, random):
    one_by_one = Claim(claim.rules, claim.changed)
    while (course := one_by_one.now()).wanted:
        key = random.choice(sorted(course.wanted))
        one_by_one.trained[key] += 1
    end = claim.end()
    # Only the failed networks may be others: one of them may end the claim before the others are trained.
    same = ("verdict", "macs_verdict", "assay", "margin", "screened", "selected", "spread", "procedure")
    assert [getattr(course, name) for name in same] == [getattr(end, name) for name in same]


@given(claims(failing=False), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_more_runs_of_the_confirmation_than_wanted_change_no_result(claim, random):
    # The arms of `also` let the treatment train longer, and the claim is then reported again.
    end = claim.end()
    for key in claim.changed:
        if key[0] == CONFIRMATION and end.rungs:
            claim.trained[key] += random.randrange(6)
    again = claim.now()
    # One more failed run can end the claim.
    assume(not any(failures for rung in again.rungs for failures, _ in rung.failures.values()))
    fixed = ("verdict", "macs_verdict", "margin", "selected", "fences", "procedure", "negative", "failed")
    assert [getattr(again, name) for name in fixed] == [getattr(end, name) for name in fixed]
    assert not again.wanted
    for now, before in zip(again.rungs, end.rungs, strict=True):
        names = ("non_inferiority", "placebo", "matched", "verdict", "macs_verdict")
        assert [getattr(now, name) for name in names] == [getattr(before, name) for name in names]


def test_the_size_of_the_rule_for_failures_is_exact():
    # Each sequence of runs after which a claim is supported, if only failed runs can prevent it.
    rules = replace(RULES, ratios=(0.5,), macs_ratios={0.5: 0.5}, procedure=FIXED)
    size = 0.0
    for failures in range(3):
        n = runs_needed(failures)
        for places in itertools.combinations(range(n), failures):
            if any(place >= runs_needed(before) for before, place in enumerate(places)):
                continue  # The claim has ended before this failure.
            values = with_failed(around(0.9, n), *places)
            screened = int(np.flatnonzero(values > 0.5)[3]) + 1
            claim = Claim(
                rules,
                {(SCREEN, treatment()): values[:screened], (CONFIRMATION, treatment()): values[screened:]},
            )
            end = claim.end()
            assert (end.verdict, end.macs_verdict) == (S, S)
            assert end.rungs[0].failures["treatment"] == (failures, n)
            size += 0.3**failures * 0.7 ** (n - failures)
    assert size == pytest.approx(0.05, abs=5e-5)
    # Three or four failures in the screen move its median, so they are counted in the confirmation only.
    for failures in (3, 4):
        for places in itertools.combinations(range(4), failures):
            claim = Claim(rules, {(SCREEN, treatment()): with_failed(around(0.9), *places)})
            end = claim.end()
            assert (end.verdict, end.macs_verdict, end.failed) == (IN, IN, (treatment(),))


def test_arms_as_advance_makes_them():
    # The protocol makes the same arms for its report.
    claim = Claim(changed={(SCREEN, treatment()): with_failed(around(0.9), 2)})
    end = claim.end()
    arm = Arm(claim.runs(CONFIRMATION, treatment()), MARGIN, claim.runs(SCREEN, treatment()), 4)
    assert end.rungs[0].failures["treatment"] == (arm.failures, arm.total) == (1, 16)
    assert end.fences[treatment()] == arm.fence
