from dataclasses import replace

import pytest

from invact.claims.file import load_claim
from invact.claims.planning import forecast
from invact.claims.planning.forecast import PLAIN, Forecast, Path, plan_claim, power_at_best, simulate
from invact.claims.planning.plan import Plan
from invact.claims.verdict.report import plan_tables
from invact.cost.count import count_macs
from invact.execution.workers.engine import Engine
from invact.networks.build import build_model
from invact.statistics.sequential.course import Rules
from invact.statistics.sequential.procedure import Procedure


def test_the_plan_counts_every_course_and_trains_nothing(write_claim, monkeypatch, digits) -> None:
    path = write_claim(
        "[tuning]\ntrials = 2\nlearning_rate = [4e-3, 2e-2]\n[curve]\ntreatment = [1, 2, 3, 6, 8]\nseeds = 2",
        {"depth": "2"},
        ratios="[0.5, 0.25]",
        also='[["linear_negated", "relu"]]',
    )
    monkeypatch.setattr(Engine, "__enter__", lambda engine: pytest.fail("an engine was started"))
    (found,) = plan_claim(path).values()
    assert found.plan == Plan()
    assert found.plain == PLAIN * 3 * 2
    assert [path.name for path in found.paths] == [
        "equal down to 0.25 of the filters",
        "equal down to 0.5 of the filters",
        "equal at no ratio",
        "no assay sensitivity",
    ]
    best, _, none, nothing = found.paths
    # Nine networks are tuned. The curve has the widths 1, 3, 6 and 8; the screen has 2 and 4.
    assert (best.trainings["tuning"], best.trainings["curve"]) == (2 * 9, 2 * 4)
    assert best.trainings["pilot"] == pytest.approx(6, abs=0.2)
    assert best.trainings["screen"] == pytest.approx(8, abs=0.4)
    assert best.total > none.total > nothing.total
    assert "curve" not in nothing.trainings
    assert not (path.parent / "mlruns").exists()
    cells = load_claim(path).cells()
    macs = {
        k: count_macs(build_model(c.config, digits.input_shape, digits.classes)).macs
        for k, c in cells.items()
    }
    # Training costs three times the MACs of the forward pass; there are two epochs.
    tuning = 3 * 2 * digits.train_count * 2 * sum(macs.values())
    pilot = 3 * 2 * digits.train_count * 3 * (macs["control"] + macs["placebo 0.25"])
    # One pilot in twenty shows a gain by chance, and its claim goes on.
    assert 1 <= nothing.macs / (tuning + pilot) < 1.1
    assert all(path.hours > 0 for path in found.paths)
    assert found.excess[0.5] == macs["matched 0.5"] / macs["treatment 0.5"] - 1 >= 0


def test_the_table_of_the_plan_warns() -> None:
    paths = (Path("equal at no ratio", {"pilot": 16.0, "screen": 4.0}, 1e9, 0.5),)
    found = Forecast(Plan(), paths, 90, 0.003, 0.002, False, 0.4, 0.8, {0.75: 0.162, 0.5: 0.05})
    (table,) = plan_tables("tiny", {"digits": found})
    assert [column.header for column in table.columns][1:4] == ["pilot", "screen", "total"]
    assert table.row_count == 1
    text = table.caption.plain
    for words in (
        "beside a plain design of 90",
        "too small for this margin. Even if runs differ by half an image only, the power is 40%",
        "at ratio 0.75 the matched arm has 16.2% more MACs",
    ):
        assert words in text
    assert "0.5 the matched arm" not in text
    (table,) = plan_tables("tiny", {"digits": replace(found, best=0.9)})
    assert "too small" not in table.caption.plain


def test_a_simulated_course_without_noise_has_known_counts(monkeypatch) -> None:
    # Every course is the same, and the levels of the default looks take seconds.
    monkeypatch.setattr(forecast, "REPLICATIONS", 8)
    rules = Rules((0.75, 0.5), {0.75: 1.1, 0.5: 0.6}, None, 0.003, Procedure((6, 9)))
    runs = simulate(rules, 0.5, True, 0.003, 1e-6)
    assert runs == {
        "pilot/control": 8,
        "pilot/placebo 0.5": 8,
        "screen/treatment 0.75": 4,
        "screen/treatment 0.5": 4,
        "confirmation/control": 6,
        "confirmation/treatment 0.5": 6,
        "confirmation/placebo 0.5": 6,
        "confirmation/matched 0.5": 6,
    }


def test_a_test_set_that_is_too_small_is_found() -> None:
    rules = Rules((0.5,), {0.5: 0.6}, None, 0.003, Procedure(), floor=0.5 / 100)
    assert power_at_best(rules, 0.003) < 0.5
    assert power_at_best(rules, 0.01) > 0.99
