"""A sweep takes over finished runs of other sweeps and confirmations, and of nothing else."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from helpers import numbers
from killed import Killed, faults_of, keys_of, killed_at

from invact.config import Config
from invact.networks.archives import unpack
from invact.sweeps.confirm import confirm_front, fresh_seeds
from invact.sweeps.file import load_sweep
from invact.sweeps.recorded import find_sweep
from invact.sweeps.run import SweepResult, run_sweep
from invact.tracking.record import Record
from invact.tracking.table import TAKEN

# Keras 3.15 converts a TensorFlow variable in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SPACE = '[parameters]\nactivation = { choices = ["relu", "inverse"] }\nfilters = { low = 2, high = 3 }\n'
MEASURED = ["status", "train_accuracy", "train_loss", "validation_accuracy", "validation_loss"]
MEASURED += ["test_accuracy", "test_loss", "seconds", "images_per_second", "macs", "params", "filters"]


def keys(macs: int = 10_000, more: str = "") -> str:
    return f"sampler = 'grid'\n{more}\n[objective]\nkind = 'pareto'\nmax_macs = {macs}\n"


def swept(path: Path, *, show: bool = False, **options: object) -> SweepResult:
    return run_sweep(load_sweep(path, {"trials": 4}), show=show, **options)


def taken(name: str) -> dict[str, str]:
    """The runs of a sweep that were taken over, with the runs that they are from."""
    runs = find_sweep(name, None, None, None)._search()
    return {run.info.run_id: run.data.tags[TAKEN] for run in runs if TAKEN in run.data.tags}


@pytest.fixture
def two(write) -> tuple[Path, Path]:
    """Two sweeps of the same four configurations with other budgets."""
    return write("one", keys(10_000), space=SPACE), write("two", keys(9_000), space=SPACE)


def test_a_run_that_is_taken_over_is_the_run_that_a_training_would_be(
    run_trained, write, trained, forbid_engines
) -> None:
    space = SPACE.replace("{ low = 2, high = 3 }", "2")
    first = run_trained(write("one", keys(10_000), "dropout = 0.1", space), trials=2)
    assert len(trained) == 2
    forbid_engines()
    second = run_trained(write("two", keys(9_000), "dropout = 0.1", space), trials=2)
    one, other = (each.table.set_index(["config", "seed"]).sort_index() for each in (first, second))
    pd.testing.assert_frame_equal(one[MEASURED], other[MEASURED], check_exact=True)
    assert (one["slack_macs"] != other["slack_macs"]).all(), "the budget is that of the second sweep"
    assert taken("two") == dict(zip(other["run_id"], one["run_id"], strict=True))
    records = [find_sweep(name, None, None, None) for name in ("one", "two")]
    for here, there, text in zip(one["run_id"], other["run_id"], one["config_json"], strict=True):
        config = Config(**json.loads(text))
        was, now = (
            record.result(run_id, config, 0) for record, run_id in zip(records, (here, there), strict=True)
        )
        assert numbers(was) == numbers(now)
        assert was == now, "also the times"
        assert len(was.epochs) == config.epochs
        assert was.correct
        assert was.validation_correct
        costs = [
            record._runs.read(run, "cost.csv") for record, run in zip(records, (here, there), strict=True)
        ]
        assert costs[0] == costs[1]
        assert f"/runs/{here})" in records[1]._runs.tags(there)["mlflow.note.content"]
    for point in second.front.points:
        assert records[1].model(point.run_id) == records[0].model(taken("two")[point.run_id])
        unpack(records[1].model(point.run_id))


def test_runs_are_counted_as_taken_over_and_a_fresh_sweep_trains_every_run(
    stand_in, two, trained, invact
) -> None:
    swept(two[0])
    answer = invact("sweep", two[1], "--trials", 4)
    lines = [line for line in answer.err.splitlines() if "taken over" in line]
    assert [line[:5] for line in lines[:4]] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert lines[4:] == ["4 runs were taken over from one, and not trained again"]
    assert len(trained) == 4
    fresh = invact("sweep", two[1], "--trials", 4, "--seed", 1, "--fresh")
    assert fresh.code == 0
    assert "taken over" not in fresh.err
    assert len(trained) == 8


def test_seeds_that_are_missing_are_trained_and_a_confirmation_takes_nothing(
    stand_in, write, trained
) -> None:
    space = SPACE.replace("{ low = 2, high = 3 }", "2")
    first = swept(write("one", keys(), space=space))
    confirm_front("one", 2, show=False)
    assert len(trained) == 2 + 2 * len(first.front.points)
    del trained[:]
    # Another identity of the same name, with a seed of the sweep, one of the confirmation and a new one.
    unused, confirmed = fresh_seeds(2)
    second = swept(write("one", keys(more=f"seeds = [0, 7, {confirmed}]"), space=space))
    assert second.run_id != first.run_id
    points = {point.config for point in first.front.points}
    wanted = {(config, seed) for config in first.table["config"] for seed in (7, confirmed)}
    assert {*trained} == wanted - {(config, confirmed) for config in points}
    assert set(taken("one").values()) >= {*first.table["run_id"]}
    # A confirmation is trained, although the second sweep has a run with one of its seeds.
    del trained[:]
    swept(write("three", keys(9_000, f"seeds = [{unused}]"), space=space))
    assert {seed for _, seed in trained} <= {unused}, "only networks, which the confirmation has not stored"
    del trained[:]
    result = confirm_front("three", 2, show=False)
    assert len(trained) == 2 * len(result.points)


BUILDER = """
from invact.arms import get_arm
from my_parts import head

def build(config, input_shape, classes):
    import keras
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(config.filters[0], 3)(inputs)
    x = get_arm(config.activations[0]).layer("act")(x)
    return keras.Model(inputs, head(keras.layers.Flatten()(x), classes))
"""
PARTS = """
def head(x, classes):
    import keras
    return keras.layers.Dense(classes, dtype="float32")(x)
"""


@pytest.fixture
def modules(folder, monkeypatch) -> Callable[..., None]:
    """Write modules of a user, which are imported anew."""
    monkeypatch.syspath_prepend(str(folder))

    def write_modules(**texts: str) -> None:
        for name, text in texts.items():
            (folder / f"{name}.py").write_text(text)
            monkeypatch.delitem(sys.modules, name, raising=False)

    return write_modules


def test_users_code_is_taken_over_only_if_its_source_is_equal(stand_in, write, trained, modules) -> None:
    modules(my_net=BUILDER, my_parts=PARTS)
    space = SPACE.replace("[parameters]", "[parameters]\nmodel = 'my_net:build'")
    swept(write("one", keys(), space=space))
    swept(write("two", keys(9_000), space=space))
    assert len(trained) == 4
    # A module that the builder imports decides numbers, too.
    modules(my_net=BUILDER, my_parts=PARTS + "\n# changed\n")
    swept(write("three", keys(8_000), space=space))
    assert len(trained) == 8
    assert taken("three") == {}


def test_a_network_that_the_source_lacks_is_trained_again_if_it_is_on_the_front(
    stand_in, two, trained, monkeypatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Record, "log_model", lambda *arguments: None)
        patch.setattr("invact.tracking.record.MODEL", "lost.keras")
        patch.setattr("invact.execution.coordinator.Coordinator._repair", lambda self: False)
        swept(two[0])
    assert len(trained) == 4
    result = swept(two[1])
    points = [(point.config, 0) for point in result.front.points]
    assert sorted(trained[4:]) == sorted(points)
    record = find_sweep("two", None, None, None)
    assert {run for run in result.table["run_id"] if record.has_model(run)} == {
        point.run_id for point in result.front.points
    }
    # The first sweep gets its networks from the second one, without a training.
    del trained[:]
    first = swept(two[0])
    assert trained == []
    assert all(find_sweep("one", None, None, None).has_model(point.run_id) for point in first.front.points)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 2])
def test_a_sweep_that_is_killed_while_it_takes_over_is_completed(
    stand_in, write, trained, folder, seeds
) -> None:
    more = "" if seeds == 1 else "seeds = [0, 1]"
    one, two = write("one", keys(10_000, more), space=SPACE), write("two", keys(9_000, more), space=SPACE)

    def prepared(name: str) -> Path:
        place = folder / name
        swept(one, store=place)
        del trained[:]
        return place

    with killed_at(None) as done:
        before = prepared("whole"), done.total()
        swept(two, store=before[0])
    writes = done.total() - before[1]
    assert trained == []
    for write_number in range(3, writes, writes // 6):
        place = prepared(f"killed-{write_number}")
        with killed_at(write_number), pytest.raises(Killed):
            swept(two, store=place)
        kept = keys_of(find_sweep("two", None, place, None)) if write_number > 3 else set()
        with killed_at(None):
            swept(two, store=place)
        assert trained == [], f"killed at write {write_number} of {writes}"
        assert faults_of("two", seeds, kept, place) == []
