"""A sweep with a pruner: what stops, what is recorded, and what a continued sweep does."""

import pytest

from invact.training.results import Status

NINE = "epochs = 9"


def test_try(run, write, folder):
    path = write(more="pruner = 'successive_halving'\nobjective={kind='pareto'}\nseeds=[0,1]")
    path.write_text(path.read_text().replace("epochs = 1", "epochs = 9"))
    r = run(path, trials=8)
    print(
        r.table[
            ["trial", "seed", "status", "epochs", "macs", "validation_accuracy", "test_accuracy", "filters"]
        ].to_string()
    )
    print(r.front)
    assert 0
