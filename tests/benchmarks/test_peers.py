"""The peers run at tiny size, and their networks and figures are the ones that the table compares."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import warm

from benchmarks import peer_scripts, peers
from invact.config import Config
from invact.cost.count import count_macs
from invact.data.dataset import load
from invact.networks.build import build_model


@pytest.mark.parametrize("activation", peer_scripts.ACTIVATIONS)
def test_the_peers_train_the_network_of_invact(activation):
    ours = build_model(Config(activation=activation, filters=6), (28, 28, 1), 10)
    theirs = peer_scripts.network(activation, 6, (28, 28, 1), 10)
    assert [one.shape for one in theirs.trainable_variables] == [
        one.shape for one in ours.trainable_variables
    ]
    for mine, other in zip(ours.trainable_variables, theirs.trainable_variables, strict=True):
        other.assign(mine)
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1)).astype("uint8")
    np.testing.assert_allclose(theirs(images / 127.5 - 1), ours(images), atol=1e-4)
    assert peers.costs_of([6], load("digits"))[activation, 6] < count_macs(ours).macs


# One process runs all of its arguments as command lines, because loading the libraries takes seconds.
SCRIPTS = """
import json, runpy, sys
for sys.argv in map(json.loads, sys.argv[1:]):
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def few_images(digits):
    """Digits with as many images in each split as one batch has."""
    parts = {
        f"{kind}_{split}": getattr(digits, f"{kind}_{split}")[: peer_scripts.BATCH]
        for kind in "xy"
        for split in ("train", "validation", "test")
    }
    return replace(digits, **parts)


@pytest.mark.parametrize(
    "scripts", [("optuna", "keras_tuner"), pytest.param(("optuna_processes",), marks=pytest.mark.slow)]
)
def test_each_script_trains_the_whole_list(scripts, few_images, empty_store, tmp_path):
    tasks = {}
    for script in scripts:
        (tmp_path / script).mkdir()
        peers.export(few_images, tmp_path / script)
        shutil.copy(empty_store, tmp_path / script)
        tasks[script] = peer_scripts.Task(tmp_path / script, (2,), epochs=1, seed=0)
    commands = [[peer_scripts.__file__, script, *task.arguments()] for script, task in tasks.items()]
    done = warm.run(["-c", SCRIPTS, *map(json.dumps, commands)], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for task in tasks.values():
        lines = [json.loads(line) for line in (task.folder / "results.jsonl").read_text().splitlines()]
        assert {(one["activation"], one["filters"]) for one in lines} == {("relu", 2), ("inverse", 2)}
        assert all(0 <= one["test_accuracy"] <= 1 for one in lines)


def test_a_sweep_of_invact_has_the_whole_list(tmp_path, digits, invact, stand_in):
    # The slow test below trains the list with real workers.
    task = peer_scripts.Task(tmp_path, (2,), epochs=1, seed=3)
    _, _, name, *arguments = peers.command_of("invact", task, "", "digits")
    assert name == "invact"
    done = invact(*arguments, "--workers", "1")
    assert done.code == 0, done.err
    results = peers.results_of("invact", task, 0.0, {})
    assert {one.macs for one in results} == set(peers.costs_of((2,), digits).values())
    assert all(one.epochs == 1 and one.seconds > 0 for one in results)


@pytest.mark.slow
def test_the_command_compares_optuna_with_invact(capsys):
    peers.main(
        ["--systems", "optuna,invact", "--rounds", "1", "--epochs", "1", "--filters", "2", "--data", "digits"]
    )
    rows = capsys.readouterr().out.splitlines()
    assert rows[0] == "2 trainings of 1 epochs, medians of 1 rounds"
    assert [row.split()[0] for row in rows[2:4]] == ["Optuna,", "invact"]
    assert "1.00x" in rows[3]


def test_the_time_to_a_hypervolume_is_that_of_the_result_that_reaches_it():
    results = [
        peers.Result(100, 2, 0.8, 0.8, seconds=7.0),
        peers.Result(50, 2, 0.9, 0.8, seconds=9.0),
        peers.Result(200, 2, 0.5, 0.8, seconds=1.0),
    ]
    reference = (0.0, 300.0)
    assert peers.volume_of(results, reference) == pytest.approx(0.9 * 250)
    assert peers.time_to(results, 0.8 * 200, reference) == 7.0
    assert peers.time_to(results, 0.9 * 250, reference) == 9.0
    assert peers.time_to(results, 0.9 * 251, reference) == float("inf")


def test_the_work_counts_training_validation_and_test():
    data = load("digits")
    one = peers.Result(10, 3, 0.8, 0.8, 1.0)
    images = 3 * (3 * len(data.x_train) + len(data.x_validation)) + len(data.x_test)
    assert peers.work_of([one, one], data) == 2 * 2 * 10 * images


def test_the_memory_of_a_process_is_seen():
    peak = peers.Peak()
    peak.pid = peers.os.getpid()
    peak.look()
    assert peak.highest > 50 * 2**20
