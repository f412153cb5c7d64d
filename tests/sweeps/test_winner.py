"""Each kind of objective names its winner: in the result, the terminal, JSON, files and MLflow."""

import json

import pandas as pd
import pytest

from invact.sweeps.recorded import pareto_front
from invact.tracking.store import open_store

KINDS = {
    "accuracy": "objective = { max_params = 10_000 }",
    "pareto": "objective = { kind = 'pareto' }",
    "cost": "objective = { kind = 'cost', min_accuracy = 0.92 }",
    "weighted": "objective = { kind = 'weighted', target = 2000.0, exponent = -0.01 }",
}
TWO_SEEDS = "seeds = [0, 1]\n"


def expected(kind, table):
    """The winner's digest, computed from the table of runs."""
    means = table.groupby("config").agg({"validation_accuracy": "mean", "macs": "first"}).astype(float)
    accuracy, macs = means["validation_accuracy"], means["macs"]
    if kind == "cost":
        return macs[accuracy >= 0.92].idxmin()
    return (accuracy * (macs / 2000) ** -0.01 if kind == "weighted" else accuracy).idxmax()


def crowned(result):
    runs = open_store().runs.search([open_store().latest("tiny").experiment], "")
    return {run.info.run_id for run in runs if run.data.tags.get("invact.winner") == "true"}, {
        run.info.run_id: run for run in runs
    }


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_names_its_winner(kind, run, write):
    result = run(write(more=TWO_SEEDS + KINDS[kind]), trials=4)
    winner = result.front.winner
    config = expected(kind, result.table)
    assert winner.point.config == config
    mine = result.table[result.table["config"] == config]
    assert winner.point.accuracy == pytest.approx(mine["validation_accuracy"].mean())
    assert pareto_front("tiny").winner == winner
    tagged, runs = crowned(result)
    # The runs of all seeds, and their common parent, which MLflow shows as one row.
    parents = {runs[run_id].data.tags["mlflow.parentRunId"] for run_id in mine["run_id"]}
    assert tagged == {*mine["run_id"], *parents}
    sweep = runs[result.run_id].data
    assert sweep.tags["winner"] == str(winner)
    assert sweep.tags["winner.run_id"] in set(mine["run_id"])
    assert sweep.metrics["winner/validation_accuracy"] == winner.point.accuracy
    assert sweep.metrics["winner/macs"] == winner.point.macs
    assert sweep.metrics["winner/value"] == winner.value
    stored = json.loads(open_store().latest("tiny").read("front/front.json"))
    assert stored["winner"]["point"]["config"] == config


def test_a_better_configuration_takes_the_tag(run, write, stand_in):
    stand_in.truth = staticmethod(lambda config, seed: 0.5 + config.filters / 100)
    first = run(write(), trials=1)
    before, _ = crowned(first)
    more = run(write(), trials=8)
    after, runs = crowned(more)
    best = more.table.loc[more.table["param.filters"].idxmax()]
    assert more.front.winner.point.accuracy == best["validation_accuracy"]
    assert after == {more.front.winner.point.run_id}
    assert runs[more.run_id].data.tags["winner"] == str(more.front.winner)
    assert {runs[run_id].data.tags["invact.winner"] for run_id in before - after} <= {"false"}


def test_nothing_qualifies(invact, run, write, pictures):
    path = write(more="objective = { kind = 'cost', min_accuracy = 0.999 }")
    result = run(path, trials=2)
    assert result.front.winner.point is None
    tagged, runs = crowned(result)
    assert not tagged
    line = "no winner: no finished configuration has at least 99.9% validation accuracy (the highest is "
    assert runs[result.run_id].data.tags["winner"].startswith(line)
    assert not {name for name in runs[result.run_id].data.metrics if name.startswith("winner/")}
    answer = invact("front", "tiny", "--format", "png,html,json")
    assert answer.code == 0
    assert sum(shown.startswith(line) for shown in answer.out.splitlines()) == 1
    values = json.loads(invact("front", "tiny", "--format", "csv", "--json").out)
    assert (values["winner"]["point"], values["min_accuracy"]) == (None, 0.999)
    assert values["winner"]["reason"].startswith("no finished configuration")


def test_the_command_names_the_winner_and_files_carry_the_sweep(invact, write, stand_in, folder, pictures):
    for name in ("one", "two"):
        swept = invact("sweep", write(name, KINDS["pareto"]), "--trials", 3)
        assert swept.code == 0, swept.err
        assert "\nwinner: " in swept.out
        answer = invact("front", name, "-o", "out", "--format", "csv,svg", "--json")
        winner = json.loads(answer.out)["winner"]
        assert f"winner: {winner['point']['label']} (trial {winner['point']['trial']})" in swept.out
        assert "winner: most accurate point of the front" in (folder / f"out/{name}-front.svg").read_text()
    kept = {file.name for file in (folder / "out").iterdir()}
    assert kept == {"one-front.csv", "one-front.svg", "two-front.csv", "two-front.svg"}
    # The newest sweep of a driver may have the name of another sweep.
    assert invact("front", "one", "--driver", "optuna", "-o", "out", "--format", "csv").code == 0
    assert (folder / "out" / "one-optuna-front.csv").exists()


def test_results_are_short_in_a_notebook(run, write):
    result = run(write(), trials=2)
    for shown in (result, result.front):
        assert len(repr(shown)) < 250
        assert "trial" in shown._repr_html_()
        assert list(shown.to_pandas())[:3] == ["label", "macs", "validation_accuracy"]
    assert repr(result).startswith("SweepResult('tiny': 2 runs, ")
    assert result.front.winner.point.label in repr(result)
    pd.testing.assert_frame_equal(result.to_pandas()[result.table.columns], result.table)
