import numpy as np
import pandas as pd
import pytest

from benchmarks import confirmation
from benchmarks.confirmation import SIMULATED, TABLE, World, automatic, fixed, replayed, simulated


def test_without_noise_both_ways_are_right_with_the_first_runs():
    rng = np.random.default_rng(0)
    truth = np.array([0.90, 0.95, 0.92])
    world = World(np.array([1e4, 2e4, 4e4]), truth, lambda point: truth[point] + rng.normal(0, 1e-5))
    for found in (automatic(world), fixed(world, 3)):
        assert (found.trainings, found.decided, found.wrong, found.far) == (9, 1, 0, 0)


def test_a_wrong_truth_is_noticed():
    rng = np.random.default_rng(0)
    seen = np.array([0.90, 0.95, 0.92])
    world = World(np.array([1e4, 2e4, 4e4]), seen[::-1], lambda point: seen[point] + rng.normal(0, 1e-5))
    found = automatic(world)
    # The truth is 0.92, 0.95, 0.90: the last place is right by chance.
    assert (found.wrong, found.far) == (0, 0)
    other = World(world.cost, np.array([0.95, 0.90, 0.97]), world.run)
    assert (automatic(other).wrong, automatic(other).far) == (1, 1)


@pytest.mark.parametrize("name", SIMULATED)
def test_the_mean_of_many_runs_is_the_truth(name):
    world = next(simulated(np.random.default_rng(1), name))
    assert world.runs(4_000).mean(axis=1) == pytest.approx(world.truth, abs=0.004)


def test_the_replay_draws_real_runs():
    table = pd.read_csv(TABLE)
    world = next(replayed(np.random.default_rng(1), table))
    assert (np.diff(world.cost) > 0).all()
    assert set(world.runs(5).ravel()) <= set(table["test"])


def test_the_command_prints_its_table(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["confirmation", "--worlds", "1", "--only", "replay"])
    confirmation.main()
    assert "| digits, real runs |" in capsys.readouterr().out
