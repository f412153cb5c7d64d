import math

import numpy as np
import pytest

from invact.config import Config
from invact.training.schedules import make_schedule

RATE = 0.3


def rates(steps: int, **values: object) -> np.ndarray:
    config = Config(learning_rate=RATE, **values)
    schedule = make_schedule(config, steps)
    if not callable(schedule):
        schedule = lambda step, rate=schedule: rate  # noqa: E731
    # The optimizer counts its steps with integers.
    return np.array([float(schedule(np.int64(step))) for step in range(steps * config.epochs)])


def of_pytorch(name: str, total: int, **arguments: object) -> np.ndarray:
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=RATE)
    scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **arguments)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(found)


# All tests that need PyTorch run in one process.
@pytest.mark.xdist_group("torch")
@pytest.mark.parametrize(("epochs", "steps", "warmup"), [(5, 8, 0), (2, 3, 0), (5, 8, 1.5), (4, 10, 3.7)])
def test_one_cycle_is_that_of_pytorch(epochs: int, steps: int, warmup: float) -> None:
    total = epochs * steps
    expected = of_pytorch(
        *("OneCycleLR", total),
        max_lr=RATE,
        total_steps=total,
        pct_start=warmup / epochs or 0.3,
        cycle_momentum=False,
    )
    found = rates(steps, schedule="one_cycle", epochs=epochs, warmup_epochs=warmup)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-8)


@pytest.mark.xdist_group("torch")
@pytest.mark.parametrize(("epochs", "steps"), [(4, 10), (4, 1), (5, 3), (2, 1)])
def test_step_is_that_of_pytorch(epochs: int, steps: int) -> None:
    total = epochs * steps
    ends = [math.ceil(total / 2), math.ceil(3 * total / 4)]
    expected = of_pytorch("MultiStepLR", total, milestones=ends, gamma=0.1)
    np.testing.assert_allclose(rates(steps, schedule="step", epochs=epochs), expected, rtol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_a_warm_up_comes_before_the_whole_schedule(schedule: str) -> None:
    found = rates(8, schedule=schedule, epochs=5, warmup_epochs=1.5)
    np.testing.assert_allclose(found[:13], RATE * np.arange(1, 14) / 13, rtol=1e-5)
    left = rates(28, schedule=schedule, epochs=1)
    np.testing.assert_allclose(found[12:], left, rtol=1e-5, atol=1e-8)


def test_without_a_warm_up_the_rates_are_those_of_the_formulas() -> None:
    angle = np.pi * np.arange(12) / 12
    np.testing.assert_allclose(rates(4, epochs=3), RATE * (1 + np.cos(angle)) / 2, rtol=1e-4)
    assert make_schedule(Config(schedule="constant", learning_rate=RATE), 4) == RATE


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step", "one_cycle"])
@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (2, 1), (1, 3)])
@pytest.mark.parametrize("warmup", [0, 0.4, 0.99])
def test_the_shortest_trainings_have_rates_of_at_most_the_highest(
    schedule: str, epochs: int, steps: int, warmup: float
) -> None:
    found = rates(steps, schedule=schedule, epochs=epochs, warmup_epochs=warmup)
    assert ((found > 0) & (found <= RATE * 1.000001)).all()
