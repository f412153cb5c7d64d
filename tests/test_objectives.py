import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invact.config import validate
from invact.errors import InputError
from invact.objectives import Objective

costs = st.integers(1, 10**9)
accuracies = st.floats(0, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "acuracy"}, "kind: received 'acuracy'; did you mean 'accuracy'?"),
        ({"kind": "macs"}, "min_accuracy: missing key"),
        ({"kind": "weighted"}, "target_macs: missing key"),
        ({"min_accuracy": 0.9}, 'min_accuracy: received 0.9. Allowed: with kind = "macs" only'),
        (
            {"kind": "pareto", "target_macs": 5},
            'target_macs: received 5. Allowed: with kind = "weighted" only',
        ),
        ({"exponent": -0.1}, 'exponent: received -0.1. Allowed: with kind = "weighted" only'),
        ({"kind": "weighted", "target_macs": 5, "exponent": 0.1}, "exponent: received 0.1"),
        ({"kind": "weighted", "target_macs": 5, "exponent": -math.inf}, "exponent: received -inf"),
        ({"max_macs": 0}, "max_macs: received 0. Allowed: greater than 0"),
        ({"max_params": -3}, "max_params: received -3"),
        ({"max_macs": True}, "max_macs: received True"),
        ({"max_macs": 1.5}, "max_macs: received 1.5"),
        ({"kind": "macs", "min_accuracy": 91.0}, "min_accuracy: received 91.0"),
        ({"kind": "macs", "min_accuracy": math.nan}, "min_accuracy: received nan"),
        ({"max_mac": 5}, "max_mac: unknown key, received 'max_mac'; did you mean 'max_macs'?"),
    ],
)
def test_refusals_name_the_key(values, message):
    with pytest.raises(InputError) as error:
        validate(Objective, values, "sweep.toml")
    assert message in str(error.value)
    assert str(error.value).startswith("sweep.toml: ")


@given(accuracies, costs, costs, costs)
def test_overrun_is_positive_exactly_over_budget(accuracy, macs, params, budget):
    assert (Objective(max_macs=budget).overrun(macs, params) > 0) == (macs > budget)
    assert (Objective(max_params=budget).overrun(macs, params) > 0) == (params > budget)
    both = Objective(max_macs=budget, max_params=2 * budget)
    assert (both.overrun(macs, params) > 0) == (macs > budget or params > 2 * budget)
    assert Objective().overrun(macs, params) == 0


@given(accuracies, costs, st.integers(1, 10**9), st.floats(-2, -0.01))
def test_weighted_is_accuracy_at_the_target_and_falls_with_macs(accuracy, macs, target, exponent):
    objective = Objective(kind="weighted", target_macs=target, exponent=exponent)
    assert objective.values(accuracy, target) == (accuracy,)
    expected = accuracy * math.exp(exponent * (math.log(macs) - math.log(target)))
    assert objective.values(accuracy, macs)[0] == pytest.approx(expected)
    assert objective.values(accuracy, 2 * macs)[0] <= objective.values(accuracy, macs)[0]


def test_weighted_takes_a_network_without_macs():
    assert Objective(kind="weighted", target_macs=100).values(0.5, 0)[0] > 0.5


@pytest.mark.parametrize(
    ("objective", "directions", "values"),
    [
        (Objective(), ("maximize",), (0.5,)),
        (Objective(kind="pareto"), ("maximize", "minimize"), (0.5, 40.0)),
        (Objective(kind="macs", min_accuracy=0.9), ("minimize",), (40.0,)),
        (Objective(kind="weighted", target_macs=40), ("maximize",), (0.5,)),
    ],
)
def test_each_kind_has_its_values(objective, directions, values):
    assert objective.directions == directions
    assert objective.values(0.5, 40) == values


@given(st.lists(st.tuples(accuracies, costs, costs), min_size=1), costs)
def test_the_best_is_feasible_if_anything_is(results, budget):
    objective = Objective(kind="macs", min_accuracy=0.5, max_macs=budget)
    best = min(results, key=lambda result: objective.key(*result))
    feasible = [result for result in results if result[0] >= 0.5 and result[1] <= budget]
    assert (best in feasible) == bool(feasible)
    if feasible:
        assert best[1] == min(macs for _, macs, _ in feasible)
    assert (objective.violation(*best) == 0) == bool(feasible)
