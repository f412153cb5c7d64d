"""Error rates and power of whole claims: each row of the benchmark, against exact binomial bounds."""

import functools
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from benchmarks.error_rates import CURVE, needed, run
from benchmarks.families import FAMILIES, family_p_values, sets_found
from benchmarks.simulated_claims import (
    CLOSEST,
    CONTROLS,
    LIMIT,
    LIMITS,
    MATCHED,
    PLANNED,
    POWER,
    PROTOCOL,
    RULES,
    TYPE_ONE,
)
from benchmarks.worlds import (
    MARGIN,
    at_once,
    bimodal,
    centred,
    dips,
    exponential,
    heavy,
    normal,
    right,
    scaled,
    step_by_step,
    uniform,
)

FEW, MANY = 40, 5_000
SURE = 1e-3
"""A right row fails with at most this probability."""


PAGE = (Path(__file__).parents[3] / "docs" / "statistics.md").read_text(encoding="utf-8")
TABLES = {
    "Error rates": TYPE_ONE,
    "The matched arm": MATCHED + CLOSEST,
    "What is not guaranteed": LIMITS,
    "Power and cost": POWER + PROTOCOL,
    "The negative control": CONTROLS,
    "Planning": PLANNED,
    "Several data sets": FAMILIES,
}


def documented(claim):
    """The cells of a row of the page, without its name."""
    (heading,) = (heading for heading, claims in TABLES.items() if claim in claims)
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    row, *_ = re.findall(rf"^\| {re.escape(claim.name)} \|(.*)\|$", section, re.MULTILINE)
    return [cell.strip() for cell in row.split("|")]


def assert_documented(claim, count, replications, column=0):
    """The documented rate agrees with a count."""
    rate = min(max(float(documented(claim)[column]), 1e-4), 1 - 1e-4)
    assert binomtest(count, replications, rate).pvalue >= SURE, (
        f"{count} of {replications}, documented: {rate}"
    )


def named(claims):
    return [pytest.param(claim, id=claim.name) for claim in claims]


def assert_at_most(count, replications, limit):
    found = binomtest(count, replications, limit, alternative="greater")
    assert found.pvalue >= SURE, f"{count} of {replications}, allowed: {limit}"


def assert_at_least(count, replications, limit):
    found = binomtest(count, replications, limit, alternative="less")
    assert found.pvalue >= SURE, f"{count} of {replications}, required: {limit}"


def verdicts(claim, found):
    return (found.macs_verdicts if claim.macs else found.verdicts)[claim.verdict]


def check_errors(claim, replications):
    count = verdicts(claim, run(claim, replications))
    assert_at_most(count, replications, claim.limit)
    assert_documented(claim, count, replications)


def check_power(claim, replications):
    found = run(claim, replications)
    assert_at_least(verdicts(claim, found), replications, claim.limit)
    assert_documented(claim, verdicts(claim, found), replications, int(claim.verdict == "REFUTED"))
    if claim.verdict == "REFUTED":
        assert found.runs < 7


def check_control(claim, replications):
    found = run(claim, replications)
    assert found.controlled > 0.6 * replications
    assert_at_most(found.alarms, found.controlled, LIMIT)
    assert_documented(claim, found.alarms, found.controlled)


def check_plan(claim, replications):
    found = run(claim, replications)
    assert len(found.planned) > 0.8 * replications
    assert 0.7 * needed(claim) <= np.median(found.planned) <= 1.3 * needed(claim)
    assert_documented(claim, verdicts(claim, found), replications, -1)


@pytest.mark.parametrize("claim", named(TYPE_ONE + MATCHED))
def test_false_claims_are_rare(claim):
    check_errors(claim, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("claim", named(TYPE_ONE + MATCHED))
def test_false_claims_are_rare_in_full(claim):
    check_errors(claim, MANY)


@pytest.mark.slow
@pytest.mark.parametrize("claim", named(LIMITS))
def test_what_is_not_guaranteed_is_no_worse_than_documented(claim):
    check_errors(claim, MANY)


@pytest.mark.slow
def test_normal_runs_keep_the_level_itself():
    assert_at_most(run(TYPE_ONE[0], MANY).verdicts["SUPPORTED"], MANY, RULES.procedure.alpha)


def test_the_simulation_sees_a_matched_arm_that_is_too_small():
    found = run(CLOSEST[0], 2 * FEW)
    assert binomtest(verdicts(CLOSEST[0], found), 2 * FEW, LIMIT, alternative="greater").pvalue < SURE


def test_the_simulation_sees_losses_just_inside_the_fence():
    _, small, *_ = LIMITS
    found = run(small, 2 * FEW)
    assert binomtest(verdicts(small, found), 2 * FEW, LIMIT, alternative="greater").pvalue < SURE


EVERY = [claim for claims in TABLES.values() for claim in claims]


@pytest.mark.parametrize("claim", EVERY, ids=lambda claim: claim.name)
def test_documented_rates_keep_their_limits(claim):
    cells = documented(claim)
    if claim in CLOSEST:
        assert float(cells[0]) > 2 * LIMIT
    elif claim in POWER:
        assert float(cells[int(claim.verdict == "REFUTED")]) >= claim.limit
        assert float(cells[2]) >= 0.95
    elif claim in PROTOCOL:
        assert float(cells[0]) <= claim.limit
    elif claim in PLANNED:
        assert int(cells[0]) == needed(claim)
        assert 0.7 <= float(cells[-2]) <= 1.3
    elif claim in FAMILIES:
        # Three Monte Carlo errors above the level.
        assert float(cells[0]) <= RULES.procedure.alpha + 0.005
    else:
        assert float(cells[0]) <= getattr(claim, "limit", LIMIT)


WORLDS = [
    TYPE_ONE[0],
    TYPE_ONE[3],
    POWER[0],
    TYPE_ONE[4],
    POWER[-1],
    PROTOCOL[0],
    PROTOCOL[2],
    MATCHED[0],
]


@pytest.mark.parametrize("claim", WORLDS, ids=lambda claim: claim.name)
def test_all_runs_at_once_give_what_single_steps_give(claim):
    rng, counted = np.random.default_rng(8), 0
    for _ in range(10):
        draw = functools.cache(lambda step, network: claim.world.draw(rng, network))
        found = at_once(claim.rules, draw)
        if found is None:
            continue
        counted += 1
        (course, trained), (expected, expected_trained) = found, step_by_step(claim.rules, draw)
        assert trained == expected_trained
        assert (course.verdict, course.macs_verdict) == (expected.verdict, expected.macs_verdict)
        assert (course.negative, course.selected, course.procedure) == (
            expected.negative,
            expected.selected,
            expected.procedure,
        )
        (rung,), (other,) = course.rungs, expected.rungs
        assert (rung.non_inferiority, rung.placebo) == (other.non_inferiority, other.placebo)
        assert (rung.p_value, rung.macs_p_value) == (other.p_value, other.macs_p_value)
    assert counted


@pytest.mark.parametrize("claim", named(POWER))
def test_power(claim):
    check_power(claim, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("claim", named(POWER))
def test_power_in_full(claim):
    check_power(claim, MANY)


def check_protocol(replications, slack):
    for claim in PROTOCOL:
        found = run(claim, replications)
        assert found.trainings + CURVE <= claim.limit + slack
        equal = claim.name.startswith("0.5")
        assert_documented(claim, found.selected[0.5], replications, 2)
        if equal:
            assert_at_least(found.selected[0.5], replications, 0.8)
        else:
            assert_at_most(found.selected[0.5], replications, 0.01)
        if not claim.name.startswith("none"):
            assert_at_least(found.verdicts["SUPPORTED"], replications, 0.9)
        else:
            assert_at_most(found.verdicts["SUPPORTED"], replications, LIMIT)


def test_protocol_selects_the_ratio_that_is_equal():
    # The standard error of the mean number of trainings is below 2 here.
    check_protocol(FEW, 6)


@pytest.mark.slow
def test_protocol_in_full():
    check_protocol(MANY, 0)


@pytest.mark.parametrize("claim", named(CONTROLS))
def test_false_alarms_of_the_negative_control_are_rare(claim):
    check_control(claim, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("claim", named(CONTROLS))
def test_false_alarms_of_the_negative_control_are_rare_in_full(claim):
    check_control(claim, MANY)


@pytest.mark.parametrize("claim", named(PLANNED))
def test_planned_runs_are_near_those_that_are_needed(claim):
    check_plan(claim, 2 * FEW)


@pytest.mark.slow
@pytest.mark.parametrize("claim", named(PLANNED))
def test_planned_runs_are_near_those_that_are_needed_in_full(claim):
    check_plan(claim, MANY)


def check_families(replications):
    p_values = family_p_values(replications)
    for family in FAMILIES:
        errors = family.errors(p_values)
        assert_at_most(errors, replications, RULES.procedure.alpha)
        assert_documented(family, errors, replications)


def test_family_wise_error():
    check_families(FEW // 3)


@pytest.mark.slow
def test_family_wise_error_in_full():
    check_families(MANY)


def test_a_claim_on_all_data_sets_needs_no_adjustment_and_a_graph_costs_power():
    alone, *several = sets_found(2 * FEW).values()
    assert alone[0] == alone[1] > 0.9
    for k, (by_graph, every) in enumerate(several, start=2):
        assert by_graph < 0.9
        assert_at_least(round(every * 2 * FEW), 2 * FEW, 0.97**k)


@pytest.mark.parametrize(
    "noise",
    [
        normal(0.2),
        exponential,
        right,
        dips(0.1, 0.5, 1.5),
        dips(0.02, 5, 15),
        uniform,
        bimodal,
        heavy,
        scaled(exponential, 2),
    ],
)
def test_runs_that_train_have_a_mean_of_zero(noise):
    drawn = centred(noise)(np.random.default_rng(7), 200_000)
    trained = drawn[drawn >= np.median(drawn) - 4 * MARGIN]
    assert abs(trained.mean()) < 5 * trained.std() / np.sqrt(len(trained))
