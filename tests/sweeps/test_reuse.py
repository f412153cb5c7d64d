"""A sweep takes over finished runs of other sweeps and confirmations, and of nothing else."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from helpers import numbers
from killed import Killed, faults_of, keys_of, killed_at

from invact.arms import Arm, register_arm
from invact.claims.run import run_claim
from invact.config import Config
from invact.networks.archives import unpack
from invact.sweeps.confirm import confirm_front, fresh_seeds
from invact.sweeps.file import load_sweep
from invact.sweeps.recorded import find_sweep
from invact.sweeps.run import SweepResult, run_sweep
from invact.tracking import provenance, store
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


def test_the_progress_counts_runs_that_are_taken_over(stand_in, two, trained, capfd) -> None:
    swept(two[0])
    capfd.readouterr()
    swept(two[1], show=True)
    lines = capfd.readouterr().err.splitlines()
    assert [line[:5] for line in lines if "taken over" in line][:4] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert lines[-1] == "4 runs were taken over from one, and not trained again"
    assert len(trained) == 4


def test_a_fresh_sweep_trains_every_run(stand_in, two, trained, invact) -> None:
    swept(two[0])
    swept(two[1], fresh=True)
    assert len(trained) == 8
    assert taken("two") == {}
    # The same command without the option changes nothing that has ended.
    assert invact("sweep", two[1], "--trials", 4, "--json").code == 0
    assert invact("sweep", "./one.toml", "--trials", 4, "--seed", 1, "--fresh", "--json").code == 0
    assert len(trained) == 12


def test_a_sweep_takes_over_from_an_earlier_record_of_its_name_and_only_the_seeds_that_it_has(
    stand_in, two, write, trained
) -> None:
    first = swept(two[0])
    second = swept(write("one", keys(10_000, "seeds = [1, 0]"), space=SPACE))
    assert second.run_id != first.run_id
    assert sorted(seed for _, seed in trained) == [0] * 4 + [1] * 4
    assert set(taken("one").values()) == set(first.table["run_id"])
    assert set(find_sweep("one", None, None, None).summaries) == set()
    third = swept(two[1])
    assert set(taken("two").values()) == set(first.table["run_id"]), "the trained run, not its copy"
    assert len(third.table) == 4


def test_a_sweep_takes_over_from_confirmations_and_a_confirmation_from_nothing(
    stand_in, two, write, trained
) -> None:
    swept(two[0])
    confirmation = confirm_front("one", 2, show=False)
    trainings = len(trained)
    seeds = list(fresh_seeds(2))
    swept(write("other", keys(10_000, f"seeds = {seeds}"), space=SPACE))
    points = len(confirmation.points)
    assert len(trained) == trainings + 8 - 2 * points
    assert len(taken("other")) == 2 * points
    swept(two[1])
    confirm_front("two", 2, show=False)
    assert len(trained) == trainings + 8, "the same points and seeds, trained again"


def test_claims_give_and_take_nothing(stand_in, write, write_claim, trained, folder) -> None:
    run_claim(write_claim("", ratios="[0.125]", margin="3"), show=False)
    claimed = {*trained}
    (name, seed), *_ = sorted(claimed)
    network = {"filters": 8, "depth": 1, "epochs": 2, "batch_size": 64, "learning_rate": 1e-2}
    assert Config(activation="relu", **network).digest() in {digest for digest, _ in claimed}
    del trained[:]
    seeds = sorted(seed for digest, seed in claimed if digest == Config(**network).digest())
    text = "\n".join(f"{key} = {value}" for key, value in network.items())
    path = write("one", space="[parameters]\nactivation = 'relu'\n")
    path.write_text(
        f"space = 'space.toml'\ndata = 'digits'\ntrials = 1\nseeds = {seeds[:2]}\n[config]\n{text}\n"
    )
    run_sweep(path, show=False)
    assert set(trained) == {(Config(**network).digest(), seed) for seed in seeds[:2]} <= claimed


@pytest.mark.parametrize("change", ["version", "variable", "data", "status"])
def test_a_run_with_other_numbers_is_trained(stand_in, two, trained, monkeypatch, write, change) -> None:
    if change == "status":
        stand_in.truth = lambda config, seed: 1 / 0
    swept(two[0])
    path = two[1]
    if change == "version":
        monkeypatch.setattr(provenance, "versions", lambda: old() | {"keras": "0"}) if (
            old := provenance.versions
        ) else None
    elif change == "variable":
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    elif change == "data":
        path = write("two", "split_seed = 1\n" + keys(9_000), space=SPACE)
    swept(path)
    assert len(trained) == 8
    assert taken("two") == {}


def test_a_diverged_run_is_a_result_and_is_taken_over(stand_in, two, trained) -> None:
    stand_in.truth = lambda config, seed: float("nan")
    swept(two[0])
    table = swept(two[1]).table
    assert set(table["status"]) == {"DIVERGED"}
    assert set(table["error"]) == {"the training loss was nan in epoch 1"}
    assert len(trained) == 4
    assert len(taken("two")) == 4


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
    modules(my_net=BUILDER, my_parts=PARTS)
    swept(write("four", keys(7_000), space=space))
    assert len(trained) == 8


def test_modules_that_are_imported_are_part_of_the_code(stand_in, write, trained, modules) -> None:
    modules(my_arms="VALUE = 1\n")
    plain = swept(write("one", keys(), space=SPACE))
    swept(write("two", keys(9_000, "imports = ['my_arms']"), space=SPACE))
    assert len(trained) == 8, "the module may have changed anything"
    swept(write("three", keys(8_000, "imports = ['my_arms']"), space=SPACE))
    assert len(trained) == 8
    assert not {*taken("three").values()} & {*plain.table["run_id"]}


def test_code_that_is_not_known_is_never_taken_over(stand_in, write, trained, modules) -> None:
    modules(
        my_net=BUILDER.replace(
            "from my_parts", "import importlib\nimportlib.import_module('math')\nfrom my_parts"
        ),
        my_parts=PARTS,
    )
    space = SPACE.replace("[parameters]", "[parameters]\nmodel = 'my_net:build'")
    swept(write("one", keys(), space=space))
    swept(write("two", keys(9_000), space=space))
    assert len(trained) == 8


def test_runs_of_earlier_versions_are_taken_over_unless_they_may_have_users_code(
    stand_in, write, trained, monkeypatch, modules
) -> None:
    modules(my_arms="VALUE = 1\n")
    with monkeypatch.context() as patch:
        patch.setattr("invact.tracking.record.CODE", "not.yet")
        swept(write("one", keys(), space=SPACE))
        swept(write("two", keys(10_000, "imports = ['my_arms']\nseeds = [1]"), space=SPACE))
    assert len(trained) == 8
    swept(write("three", keys(9_000), space=SPACE))
    assert len(trained) == 8
    swept(write("four", keys(9_000, "seeds = [1]"), space=SPACE))
    assert len(trained) == 12


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
        swept(two, store=place)
        assert trained == [], f"killed at write {write_number} of {writes}"
        assert faults_of("two", seeds, kept, place) == []
