"""Properties that a procedure has with each method."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from invact.errors import InputError
from invact.statistics.comparison.inference import one_sided
from invact.statistics.sequential.anytime import anytime
from invact.statistics.sequential.group_sequential import group_sequential
from invact.statistics.sequential.procedures import Method, Procedure
from invact.testing.procedures import MARGIN, ProcedureContract, series


class TestSequential(ProcedureContract):
    procedure = Procedure()


class TestSequentialWithoutFutility(ProcedureContract):
    procedure = Procedure(Method.SEQUENTIAL, 0.025, (4, 8, 12), futility=False)


class TestFixed(ProcedureContract):
    procedure = Procedure(Method.FIXED, 0.05, (8,))


class TestAnytime(ProcedureContract):
    procedure = Procedure(Method.ANYTIME, 0.05, (20,))
    interval_agrees = False  # It is the intersection of the intervals after each pair.


SUITES = [TestSequential, TestSequentialWithoutFutility, TestFixed, TestAnytime]


def test_every_method_is_under_the_contract() -> None:
    assert {suite.procedure.method for suite in SUITES} == set(Method)


@pytest.mark.parametrize("suite", SUITES)
@settings(deadline=None, max_examples=8)
@given(
    mean=st.floats(-0.02, 0.02),
    sd=st.floats(0.0005, 0.01),
    seed=st.integers(0, 999),
    margin=st.sampled_from([0.0, MARGIN]),
)
def test_the_parts_of_any_result_agree(suite, mean, sd, seed, margin) -> None:
    values = series(mean, sd, seed, 30)
    suite().check(values, margin)
    procedure = suite.procedure
    assert procedure.test(values[: procedure.most], margin) == procedure.test(values, margin)


def test_each_method_calls_its_test() -> None:
    values = series(-0.001, 0.003, 5, 30)
    assert TestSequential().follow(values).p_value == group_sequential(values[:15], MARGIN).p_value
    found = TestFixed().follow(values)
    expected = stats.ttest_1samp(values[:8], -MARGIN, alternative="greater")
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval == one_sided(values[:8], MARGIN, 0.05).interval
    assert TestAnytime().follow(values).p_value == anytime(values[:20], MARGIN).p_value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Method.FIXED, 0.05, (5, 7)), "looks"),
        ((Method.FIXED, 0.05, (1,)), "2 or more"),
        ((Method.SEQUENTIAL, 0.05, (5,)), "looks"),
        ((Method.SEQUENTIAL, 0.5, (5, 7)), "alpha"),
    ],
)
def test_invalid_procedures_are_refused(arguments, message) -> None:
    with pytest.raises(InputError, match=message):
        Procedure(*arguments)
