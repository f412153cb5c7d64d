"""A sweep with a pruner: what stops, what is recorded and shown, and what is refused."""

import json
import tomllib

import pytest

from invact.errors import InputError
from invact.search.halving import Arrival
from invact.search.objectives import Objective
from invact.search.pruning import Pruner
from invact.sweeps.file import load_sweep
from invact.sweeps.recorded import find_sweep, front_of, pareto_front
from invact.tracking.store import open_store
from invact.training.results import Status

# Keras 3.15 converts a TensorFlow variable in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FRONT = "pruner = { slack = 0.0 }\nobjective = { kind = 'pareto' }"


@pytest.fixture
def pruned(write):
    """Write a sweep with a pruner, whose trainings have nine epochs."""

    def write_pruned(more: str = FRONT):
        path = write(more=more)
        path.write_text(path.read_text().replace("epochs = 1", "epochs = 9"))
        return path

    return write_pruned


def arrivals(record, epoch: int) -> list[Arrival]:
    decisions, _ = record.race()
    return [Arrival(one.trial, epoch, one.accuracy, one.cost) for one in decisions if one.epoch == epoch]


def test_decisions_are_those_of_the_rule_and_a_pruned_trial_is_listed_and_never_on_the_front(
    run, pruned, trained, forbid_engines
) -> None:
    result = run(pruned(), trials=8)
    table = result.table
    stopped = table[table["status"] == Status.PRUNED]
    assert 0 < len(stopped) < 8
    assert len(trained) == len(table) == 8
    assert stopped["test_accuracy"].isna().all()
    assert stopped["validation_accuracy"].notna().all()
    assert set(stopped["epochs"]) <= {1, 3}
    assert set(table[table["status"] == Status.FINISHED]["epochs"]) == {9}
    front = result.front
    assert {one.trial for one in front.apart} == set(stopped["trial"])
    assert {one.status for one in front.apart} == {Status.PRUNED}
    assert not {one.trial for one in (*front.points, *front.dominated)} & set(stopped["trial"])
    assert front.winner.point.trial not in set(stopped["trial"])
    assert front == pareto_front("tiny")
    record = find_sweep("tiny", None, None, None)
    rule = Pruner(slack=0.0).rule(9, images=225)
    assert rule.rungs == (1, 3)
    decisions, begun = record.race()
    assert not len(begun)
    known = result.table.set_index("trial")
    assert [one.trial for one in decisions if one.epoch == 1] == list(range(8))
    for number, one in enumerate(decisions):
        assert one.cost == known.loc[one.trial, "macs"]
        assert one.accuracy == known.loc[one.trial, "validation_accuracy"], "a curve of the stand-in is flat"
        earlier = [Arrival(o.trial, o.epoch, o.accuracy, o.cost) for o in decisions[:number]]
        assert one.goes_on == rule.goes_on(earlier, Arrival(one.trial, one.epoch, one.accuracy, one.cost))
    assert {one.trial for one in decisions if not one.goes_on} == set(
        known.index[known["status"] == Status.PRUNED]
    )
    forbid_engines()
    assert run(pruned(), trials=8).table.equals(table)


@pytest.mark.parametrize(
    ("objective", "compared"),
    [
        ("kind = 'accuracy'", False),
        ("kind = 'weighted', target = 2000", False),
        ("kind = 'cost', min_accuracy = 0.9", True),
    ],
)
def test_each_kind_of_objective_has_a_race(run, pruned, objective: str, compared: bool) -> None:
    result = run(pruned(f"pruner = {{ slack = 0.0 }}\nobjective = {{ {objective} }}"), trials=6)
    decisions, _ = find_sweep("tiny", None, None, None).race()
    assert all((one.cost is not None) == compared for one in decisions)
    assert 0 < result.count(Status.PRUNED) < 6
    table = result.table.set_index("trial")
    values = tomllib.loads(f"objective = {{ {objective} }}")["objective"]
    for one in decisions:
        row = table.loc[one.trial]
        accuracy, costs = row["validation_accuracy"], {"macs": row["macs"]}
        expected = accuracy if compared else Objective(**values).values(accuracy, costs)[0]
        assert one.accuracy == expected
    assert result.front.winner.point is not None


def test_seeds_race_and_the_table_has_a_row_for_each(run, pruned, trained) -> None:
    result = run(pruned(FRONT + "\nseeds = [3, 1, 2]"), trials=8)
    table = result.table
    assert len(table) == 8 * 3
    first = table[table["seed"] == 3].set_index("trial")
    for trial, rows in table[table["seed"] != 3].groupby("trial"):
        wins = first.loc[trial, "status"] == Status.FINISHED and set(rows["status"]) == {Status.FINISHED}
        if not wins:
            assert set(rows["status"]) == {Status.PRUNED}
            assert set(rows["epochs"]) == {0}
            assert rows["macs"].notna().all()
    skipped = int((table["epochs"] == 0).sum())
    assert 0 < skipped < 16
    assert len(trained) == 8 * 3 - skipped
    for point in (*result.front.points, *result.front.dominated):
        assert set(table[table["trial"] == point.trial]["status"]) == {Status.FINISHED}
    record = find_sweep("tiny", None, None, None)
    last = arrivals(record, 9)
    assert [one.trial for one in last] == first.index[first["status"] == Status.FINISHED].tolist()


def test_a_sweep_trains_and_stops_on_real_workers(run_trained, pruned, digits) -> None:
    from invact.tracking.stored import config_of
    from invact.training.loop import train

    path = pruned("pruner = { kind = 'successive_halving', eta = 2 }")
    result = run_trained(path, trials=4)
    stopped = result.table[result.table["status"] == Status.PRUNED]
    assert 0 < len(stopped) < 4
    row = stopped.iloc[0]
    config = config_of(row["run_id"], row["config_json"])
    here = train(config, 0, digits, on_epoch=lambda epoch: epoch.number < row["epochs"])
    assert row["validation_accuracy"] == here.validation.accuracy
    decisions, _ = find_sweep("tiny", None, None, None).race()
    assert {one.trial: one.accuracy for one in decisions if not one.goes_on} == dict(
        zip(stopped["trial"], stopped["validation_accuracy"], strict=True)
    )
    assert [one.order for one in decisions] == list(range(len(decisions)))


def test_the_command_shows_what_was_pruned_and_saved(invact, pruned, stand_in) -> None:
    path = pruned()
    answer = invact("sweep", path, "--trials", 8, "--json")
    assert answer.code == 0
    count = json.loads(answer.out)["pruned"]
    assert count > 0
    lines = answer.err.splitlines()
    assert sum(", pruned at " in line for line in lines) == count
    saved = [line for line in lines if "configurations were pruned, which saved" in line]
    table = find_sweep("tiny", None, None, None).table()
    epochs = 9 * 8 - table["epochs"].sum()
    share = f"{epochs} of 72 epochs ({epochs / 72:.0%})"
    assert saved == [f"tiny: {count} of 8 configurations were pruned, which saved {share}"]
    assert f"{count} pruned" in invact("front", "tiny").out.replace("\n", " ")
    (other,) = json.loads(invact("list", "--json").out)["others"]
    assert [one["runs"] for one in other["records"]] == [{"FINISHED": 8 - count, "PRUNED": count}]
    # Without the pruner it is another sweep.
    answer = invact("sweep", path, "--trials", 8, "--pruner", "none", "--json")
    assert "pruned" not in json.loads(answer.out)
    assert not [line for line in answer.err.splitlines() if "pruned" in line]
    assert len(open_store().records("tiny")) == 2


def test_the_short_form_and_the_table_mean_the_same(pruned) -> None:
    path = pruned("pruner = 'successive_halving'")
    short = load_sweep(path)
    assert short.file.pruner == Pruner()
    assert Pruner().rule(9, images=400).slack == 0.025
    whole = load_sweep(path, {"pruner": {"kind": "successive_halving", "first": 1}})
    assert whole.file.pruner == short.file.pruner
    assert load_sweep(path, {"pruner": "none"}).file.pruner is None
    assert load_sweep(path, {"pruner": {"first": 2}}).file.pruner == Pruner(first=2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pruner": "asha"}, r"tiny\.toml: pruner: received 'asha'.*Allowed: .*successive_halving"),
        (
            {"pruner": {"eta": 1}},
            r"tiny\.toml: pruner\.eta: received 1\. Allowed: greater than or equal to 2",
        ),
        ({"pruner": {"frist": 1}}, r"tiny\.toml: pruner\.frist: unknown key.*did you mean 'first'\?"),
        (
            {"pruner": {"first": 9}},
            r"tiny\.toml: pruner\.first: received 9\. Allowed: less than the 9 epochs",
        ),
        (
            {"driver": "keras_tuner", "sampler": "hyperband"},
            r'tiny\.toml: pruner: received "successive_halving" with sampler = "hyperband"\. Allowed: ',
        ),
    ],
)
def test_a_pruner_that_cannot_work_is_refused(pruned, changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        load_sweep(pruned(), changes)
    assert "\n" not in str(error.value)


def test_a_space_that_searches_epochs_is_refused(write) -> None:
    space = "[parameters]\nfilters = { low = 2, high = 5 }\nepochs = { low = 2, high = 9 }\n"
    path = write(more=FRONT, space=space)
    path.write_text(path.read_text().replace("epochs = 1\n", ""))
    with pytest.raises(InputError, match=r"pruner: .* on a space that searches epochs\. Allowed: fix epochs"):
        load_sweep(path)
    assert load_sweep(path, {"pruner": "none"}).epochs == 9


def test_a_training_that_is_shorter_than_the_first_rung_is_not_pruned(run, write) -> None:
    result = run(write(more=FRONT), trials=4)
    assert result.count(Status.FINISHED) == 4


def test_a_confirmation_is_not_pruned(run, pruned, stand_in) -> None:
    from invact.sweeps.confirm import confirm_front

    result = run(pruned(), trials=6)
    assert result.count(Status.PRUNED) > 0
    confirmed = confirm_front("tiny", 2, show=False)
    (record,) = [one for one in open_store().records("tiny") if one.kind == "confirmation"]
    assert set(record.counts) == {Status.FINISHED}
    assert record.counts[Status.FINISHED] == 2 * len(confirmed.points)
    sweep = find_sweep("tiny", None, None, None)
    assert front_of(sweep, sweep.table(), "tiny") == result.front
