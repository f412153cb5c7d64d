import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invact.errors import InputError
from invact.fronts.points import Point
from invact.measures import MEASURES
from invact.search.objectives import Objective
from invact.validation import validate

costs = st.integers(1, 10**9)
accuracies = st.floats(0, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "acuracy"}, "kind: received 'acuracy'; did you mean 'accuracy'?"),
        ({"kind": "cost"}, "min_accuracy: missing key"),
        ({"kind": "weighted"}, "target: missing key"),
        ({"min_accuracy": 0.9}, 'min_accuracy: received 0.9. Allowed: only with kind = "cost"'),
        (
            {"kind": "pareto", "target": 5.0},
            'target: received 5.0. Allowed: only with kind = "weighted"',
        ),
        ({"exponent": -0.1}, 'exponent: received -0.1. Allowed: only with kind = "weighted"'),
        ({"kind": "weighted", "target": 5.0, "exponent": 0.1}, "exponent: received 0.1"),
        ({"kind": "weighted", "target": 5.0, "exponent": -math.inf}, "exponent: received -inf"),
        ({"max_macs": 0}, "max_macs: received 0. Allowed: greater than 0"),
        ({"max_params": -3}, "max_params: received -3"),
        ({"max_macs": True}, "max_macs: received True"),
        ({"max_macs": 1.5}, "max_macs: received 1.5"),
        ({"kind": "cost", "min_accuracy": 91.0}, "min_accuracy: received 91.0"),
        ({"kind": "cost", "min_accuracy": math.nan}, "min_accuracy: received nan"),
        ({"max_latency_ms": -1.0}, "max_latency_ms: received -1.0. Allowed: greater than 0"),
        ({"max_latency_ms": math.inf}, "max_latency_ms: received inf"),
        ({"max_activation_bytes": 0.5}, "max_activation_bytes: received 0.5"),
        ({"cost": "macs"}, "cost: received 'macs'. Allowed: only with a kind other than \"accuracy\""),
        ({"kind": "pareto", "cost": "latency"}, "cost: received 'latency'; did you mean 'latency_ms'?"),
        ({"max_mac": 5}, "max_mac: unknown key, received 'max_mac'; did you mean 'max_macs'?"),
    ],
)
def test_error_messages_name_the_key(values, message):
    with pytest.raises(InputError) as error:
        validate(Objective, values, "sweep.toml")
    assert message in str(error.value)
    assert str(error.value).startswith("sweep.toml: ")


@given(costs, costs, costs)
def test_overrun_is_positive_exactly_over_a_budget(macs, params, budget):
    counted = {"macs": macs, "params": params}
    assert (Objective(max_macs=budget).overrun(counted) > 0) == (macs > budget)
    assert (Objective(max_params=budget).overrun(counted) > 0) == (params > budget)
    both = Objective(max_macs=budget, max_params=2 * budget)
    assert (both.overrun(counted) > 0) == (macs > budget or params > 2 * budget)
    assert Objective().overrun(counted) == 0


@given(st.dictionaries(st.sampled_from(list(MEASURES)), st.integers(1, 10**9)), st.data())
def test_slack_is_the_unused_part_of_each_budget(spent, data):
    limits = {
        name: data.draw(st.integers(1, 10**9)) for name in data.draw(st.sets(st.sampled_from(list(MEASURES))))
    }
    objective = Objective(**{f"max_{name}": limit for name, limit in limits.items()})
    assert objective.budgets == limits
    slack = objective.slack(spent)
    # A measure that was not measured has no slack.
    assert set(slack) == set(limits) & set(spent)
    for name, left in slack.items():
        assert left * limits[name] == pytest.approx(limits[name] - spent[name], abs=1e-6 * limits[name])
    assert objective.overrun(spent) == max((-left for left in slack.values()), default=0)


@pytest.mark.parametrize(
    ("objective", "measures", "timed"),
    [
        (Objective(), (), False),
        (Objective(kind="pareto"), ("macs",), False),
        (Objective(max_latency_ms=2.0), ("latency_ms",), True),
        (Objective(kind="pareto", cost="latency_ms", max_params=9), ("params", "latency_ms"), True),
        (Objective(kind="cost", cost="bytes_moved", min_accuracy=0.5), ("bytes_moved",), False),
    ],
)
def test_an_objective_names_the_measures_that_it_uses(objective, measures, timed):
    assert (objective.measures, objective.timed) == (measures, timed)


@given(accuracies, costs, st.integers(1, 10**9), st.floats(-2, -0.01))
def test_weighted_equals_accuracy_at_the_target_and_falls_with_the_cost(accuracy, macs, target, exponent):
    objective = Objective(kind="weighted", target=float(target), exponent=exponent)
    assert objective.values(accuracy, {"macs": target}) == (accuracy,)
    expected = accuracy * math.exp(exponent * (math.log(macs) - math.log(target)))
    assert objective.values(accuracy, {"macs": macs})[0] == pytest.approx(expected)
    twice = objective.values(accuracy, {"macs": 2 * macs})
    assert twice[0] <= objective.values(accuracy, {"macs": macs})[0]


def test_weighted_accepts_a_network_without_macs_and_a_latency_below_a_millisecond():
    assert Objective(kind="weighted", target=100.0).values(0.5, {"macs": 0})[0] > 0.5
    quick = Objective(kind="weighted", cost="latency_ms", target=0.1)
    assert quick.values(0.5, {"latency_ms": 0.1}) == (0.5,)
    assert quick.values(0.5, {"latency_ms": 0.2})[0] == pytest.approx(0.5 * 2**-0.07)


@pytest.mark.parametrize(
    ("objective", "directions", "values"),
    [
        (Objective(), ("maximize",), (0.5,)),
        (Objective(kind="pareto"), ("maximize", "minimize"), (0.5, 40.0)),
        (Objective(kind="pareto", cost="latency_ms"), ("maximize", "minimize"), (0.5, 0.3)),
        (Objective(kind="cost", min_accuracy=0.9), ("minimize",), (40.0,)),
        (Objective(kind="weighted", target=40.0), ("maximize",), (0.5,)),
    ],
)
def test_each_kind_has_its_own_values(objective, directions, values):
    assert objective.directions == directions
    assert objective.values(0.5, {"macs": 40, "latency_ms": 0.3}) == values


@given(st.lists(st.tuples(accuracies, costs, costs), min_size=1), costs)
def test_the_best_result_is_feasible_if_any_result_is(results, budget):
    objective = Objective(kind="cost", min_accuracy=0.5, max_macs=budget)
    results = [(accuracy, {"macs": macs, "params": params}) for accuracy, macs, params in results]
    best = min(results, key=lambda result: objective.key(*result))
    feasible = [result for result in results if result[0] >= 0.5 and result[1]["macs"] <= budget]
    assert (best in feasible) == bool(feasible)
    if feasible:
        assert best[1]["macs"] == min(costs["macs"] for _, costs in feasible)
    assert (objective.violation(*best) == 0) == bool(feasible)


def point(trial, accuracy, macs, **others):
    return Point(trial, f"c{trial}", f"relu {macs}", macs, 10, 8, accuracy, None, 1, f"r{trial}", **others)


OBJECTIVES = {
    "accuracy": (Objective(), lambda one: one.accuracy),
    "pareto": (Objective(kind="pareto"), lambda one: one.accuracy),
    "cost": (
        Objective(kind="cost", min_accuracy=0.5),
        lambda one: -one.macs if one.accuracy >= 0.5 else -math.inf,
    ),
    "weighted": (
        Objective(kind="weighted", target=5.0, exponent=-0.5),
        lambda one: one.accuracy / math.sqrt(one.macs / 5),
    ),
}
results = st.lists(
    st.tuples(st.sampled_from([0.0, 0.4, 0.5, 0.9]), st.integers(1, 9)), min_size=1, max_size=8
)


@pytest.mark.parametrize("kind", OBJECTIVES)
@given(results, st.randoms())
def test_the_winner_is_the_best_and_does_not_depend_on_the_order(kind, results, random):
    objective, merit = OBJECTIVES[kind]
    points = [point(trial, *result) for trial, result in enumerate(results)]
    winner = objective.winner(points)
    assert winner.goal == objective.goal
    best = max(map(merit, points))
    if best == -math.inf:
        assert (winner.point, winner.value) == (None, None)
        assert str(winner).startswith("no winner: no finished configuration has at least 50% validation")
        return
    assert merit(winner.point) == pytest.approx(best)
    equal = [one for one in points if (one.accuracy, one.macs) == (winner.point.accuracy, winner.point.macs)]
    assert winner.point.trial == min(one.trial for one in equal)
    random.shuffle(points)
    assert objective.winner(points) == winner
    assert winner.point.label in str(winner)
    assert objective.goal in str(winner)


@pytest.mark.parametrize(
    ("objective", "results", "expected"),
    [
        # Equal accuracy: the lower cost; both equal: the first trial.
        (Objective(), [(0.9, 7), (0.9, 5), (0.9, 5)], 1),
        # Equal cost: the higher accuracy.
        (Objective(kind="cost", min_accuracy=0.5), [(0.6, 5), (0.7, 5), (0.8, 9)], 1),
        # The mean of three seeds at 0.1 + 0.2 + 0.3 is not exactly 0.2.
        (Objective(kind="cost", min_accuracy=0.3), [((0.1 + 0.2) * 3 / 3, 9), (0.3 - 1e-16, 5)], 1),
        (Objective(), [(0.3, 5), ((0.1 + 0.2) * 3 / 3, 9)], 0),
        (Objective(kind="weighted", target=5.0), [(0.9, 0), (0.9, 1)], 0),
    ],
)
def test_ties_are_resolved(objective, results, expected):
    points = [point(trial, *result) for trial, result in enumerate(results)]
    assert objective.winner(points).point.trial == expected
    assert objective.winner(points[::-1]).point.trial == expected


def test_nothing_qualifies():
    assert str(Objective().winner([])) == "no winner: no configuration finished on all its seeds"
    over = Objective(max_macs=5).winner([point(0, 0.9, 6)])
    assert str(over) == "no winner: no finished configuration is within 5 MACs"
    below = Objective(kind="cost", min_accuracy=0.975).winner([point(0, 0.9, 6), point(1, 0.95, 9)])
    assert str(below).endswith("at least 97.5% validation accuracy (the highest is 95.00%)")
    assert "\n" not in str(below)


def test_the_winner_is_over_the_cost_of_the_objective():
    slow, fast = point(0, 0.9, 5, latency_ms=0.5), point(1, 0.9, 9, latency_ms=0.25)
    objective = Objective(kind="cost", cost="latency_ms", min_accuracy=0.5)
    winner = objective.winner([slow, fast])
    assert (winner.point, winner.value) == (fast, 0.25)
    assert winner.goal == "fewest ms with at least 50% validation accuracy"


@pytest.mark.parametrize(
    "objective",
    [
        *(each for each, _ in OBJECTIVES.values()),
        Objective(kind="pareto", cost="latency_ms", max_latency_ms=2.0, max_macs=5),
        Objective(kind="weighted", cost="params", target=7.0),
    ],
)
def test_a_recorded_objective_is_the_same(objective):
    assert Objective.recorded(json.loads(objective.model_dump_json()), "record") == objective


def test_a_damaged_record_is_an_error_in_one_line():
    with pytest.raises(InputError, match=r"^settings\.json of x: kind: received 'speed'"):
        Objective.recorded({"kind": "speed"}, "settings.json of x")
