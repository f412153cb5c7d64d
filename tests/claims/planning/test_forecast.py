from pathlib import Path

import pytest

from invact.claims.file import load_claim
from invact.claims.planning.forecast import plan_claim
from invact.cost.count import count_macs
from invact.execution.engine import Engine
from invact.networks.build import build_model


def test_the_plan_counts_the_runs_of_each_step_and_trains_nothing(write_claim, monkeypatch, digits) -> None:
    path = write_claim(
        "[tuning]\ntrials = 2\nlearning_rate = [4e-3, 2e-2]\n"
        "[curve]\ncontrol = [2, 3, 4]\ntreatment = [1, 2, 3]\nseeds = 2",
        ratios="[0.125]",
        also='["linear_negated"]',
    )
    monkeypatch.setattr(Engine, "__enter__", lambda engine: pytest.fail("an engine was started"))
    ((plan, steps),) = plan_claim(path).values()
    assert plan is None
    assert {step.name: (step.least, step.most) for step in steps} == {
        "tuning": (10, 10),
        "pilot": (6, 6),
        "confirmation": (4, 3 * 4),
        "other arms": (2, 3),
        "repeat": (4, 3),
        "curve": (12, 12),
    }
    assert not Path("mlruns").exists()
    cells = load_claim(path).cells()
    both = sum(
        count_macs(build_model(cells[key].config, digits.input_shape, digits.classes)).macs
        for key in ("control", "placebo 0.125")
    )
    # Training costs three times the MACs of the forward pass; the pilot has three seeds and two epochs.
    assert steps[1].macs == 3 * 3 * 2 * both * digits.train_count
    assert all(step.hours > 0 for step in steps)
