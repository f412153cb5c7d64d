import numpy as np
import pytest
from scipy import stats

from invact.claims.file import load_claim
from invact.claims.planning.design import rules_of
from invact.claims.planning.plan import fixed_by, plan_of
from invact.statistics.sequential.course import MOST, PILOT, Rules, advance
from invact.statistics.sequential.failures import Runs
from invact.statistics.sequential.power import sample_size
from invact.statistics.sequential.procedure import Procedure

# With short looks, because the levels of the default ones take seconds.
TEST = Procedure((6, 9))


def course_of(rules: Rules, gain: float, sd: float = 0.001):
    """The course after pilot and screen, with a treatment that is as accurate as the control."""
    noise = np.array([-1, 1] * 4) * sd

    def runs(step, network):
        if step not in (PILOT, "screen"):
            return Runs()
        return (
            Runs(0.9 + noise[:4])
            if step == "screen"
            else Runs(0.9 - gain * (network[0] == "placebo") + noise)
        )

    return advance(rules, runs)


def rules(**changes) -> Rules:
    return Rules(**{"ratios": (0.5,), "macs_ratios": {0.5: 0.6}, "margin": None, "cap": 0.003} | changes)


def test_the_margin_is_half_the_bound_of_the_gain_or_the_cap() -> None:
    given = rules(procedure=TEST)
    course = course_of(given, 0.004)
    variance = 0.001**2 * 8 / 7
    bound = 0.004 - stats.t.ppf(0.95, 14) * np.sqrt(2 * variance / 8)
    plan = plan_of(course, given, 0.8)
    assert plan.margin == pytest.approx(bound / 2)
    assert plan.keeps == pytest.approx(0.5)
    # The mean of the variances of the control in the pilot and the treatment in the screen.
    assert plan.spread == pytest.approx(np.sqrt((variance + 0.001**2 * 4 / 3) / 2))
    assert plan.needed == sample_size(plan.spread, plan.margin)
    assert plan.procedure == TEST
    assert plan_of(course_of(given, 0.1), given, 0.8).margin == pytest.approx(0.003)
    fixed = rules(procedure=TEST, margin=0.002)
    assert plan_of(course_of(fixed, 0.1), fixed, 0.8).margin == pytest.approx(0.002)


@pytest.mark.parametrize("gain", [0.0, -0.01])
def test_without_assay_sensitivity_there_is_no_plan(gain) -> None:
    given = rules(procedure=TEST)
    plan = plan_of(course_of(given, gain), given, 0.8)
    assert plan.assay is not None
    assert (plan.margin, plan.procedure, plan.power, plan.needed) == (None, None, None, None)


def test_a_fixed_test_is_planned_from_pilot_and_screen() -> None:
    given = rules(procedure=Procedure((6,)), power=0.8)
    easy, hard = (course_of(given, 0.1, sd).procedure.looks for sd in (0.001, 0.003))
    assert easy == (6,)
    (n,) = hard
    sd = np.sqrt((0.003**2 * 8 / 7 + 0.003**2 * 4 / 3) / 2)
    powers = [
        stats.nct.sf(stats.t.ppf(0.975, 2 * k - 2), 2 * k - 2, 0.003 * np.sqrt(k / 2) / sd)
        for k in (n - 1, n)
    ]
    assert powers[0] < 0.8 <= powers[1]
    hopeless = rules(procedure=Procedure((6,)), power=0.8, margin=0.0002)
    assert course_of(hopeless, 0.1, 0.00075).procedure.looks == (MOST,)


def test_the_rules_come_from_the_file(write_claim, digits) -> None:
    claim = load_claim(write_claim(margin="2", looks=None, method='"fixed"', power="0.9"))
    found = rules_of(claim, digits, claim.costs(digits))
    assert (found.margin, found.cap, found.power) == (0.02, 0.003, 0.9)
    assert found.floor == 0.5 / digits.test_count
    assert found.ratios == (0.75, 0.5)
    given = load_claim(write_claim(looks=None, method='"fixed"', runs="17"))
    found = rules_of(given, digits, given.costs(digits))
    assert (found.procedure.looks, found.power) == ((17,), None)


def test_what_is_fixed_is_stored_by_network() -> None:
    found = fixed_by(course_of(rules(procedure=TEST), 0.1), {"control": {"filters": 8}})
    assert found["margin"] == pytest.approx(0.003)
    assert found["selected"] == [0.5]
    assert found["fences"]["treatment 0.5"] == pytest.approx(0.9 - 4 * 0.003)
    assert set(found["fences"]) == {"control", "placebo 0.5", "treatment 0.5"}
    assert found["recipes"] == {"control": {"filters": 8}}
