import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from invact import arms
from invact.arms import Arm
from invact.errors import EnvironmentFault, Incomplete, InputError
from invact.execution.coordinator import Coordinator
from invact.sweeps.file import load_sweep
from invact.sweeps.recorded import pareto_front
from invact.sweeps.run import run_sweep
from invact.tracking.store import open_store
from invact.training.loop import train
from invact.training.results import Status

# Keras 3.15 converts a TensorFlow variable in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_a_sweep_continues_where_it_stopped_and_repeats_nothing(run, write, trained, forbid_engines) -> None:
    path = write()
    first = run(path, trials=3).table
    assert len(trained) == 3
    more = run(path, trials=5).table
    assert len(trained) == len(set(trained)) == 5
    pd.testing.assert_frame_equal(more[:3], first)
    assert more["trial"].tolist() == [0, 1, 2, 3, 4]
    # If every run is finished, no engine is started.
    forbid_engines()
    again = run(path, trials=5)
    pd.testing.assert_frame_equal(again.table, more)
    fewer = run(path, trials=2)
    pd.testing.assert_frame_equal(fewer.table, more)
    assert again.front == pareto_front("tiny")


def test_another_budget_is_another_sweep(run, write) -> None:
    path = write()
    one, other = run(path, trials=1), run(path, trials=1, objective__max_macs=100_000)
    assert one.run_id != other.run_id
    assert run(path, trials=1).run_id == one.run_id


def test_several_seeds_are_grandchild_runs_and_only_missing_ones_are_trained(run, write, trained) -> None:
    path = write(more="seeds = [0, 1, 2]")
    ends = 0
    wait = Coordinator._wait

    def interrupted(coordinator):
        nonlocal ends
        if ends == 4:
            raise KeyboardInterrupt
        ends += 1
        return wait(coordinator)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Coordinator, "_wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(path, trials=2)
    store = open_store()
    before = store.latest("tiny").table()
    assert len(before) == 4
    del trained[:]
    result = run(path, trials=2)
    assert len(trained) == 2
    done = {(row.config, row.seed) for row in before.itertuples()}
    assert not done & set(trained)
    assert sorted(zip(result.table["trial"], result.table["seed"], strict=True)) == [
        (trial, seed) for trial in (0, 1) for seed in (0, 1, 2)
    ]
    runs = store.runs.search(list(store.runs.experiments()), "attributes.status = 'FINISHED'")
    parents = {run.info.run_id: run.data.tags.get("mlflow.parentRunId") for run in runs}
    for trial, rows in result.table.groupby("trial"):
        (child,) = {parents[run_id] for run_id in rows["run_id"]}
        assert parents[child] == result.run_id, trial
        (mean,) = [run.data.metrics for run in runs if run.info.run_id == child]
        assert mean["validation/final_accuracy"] == pytest.approx(rows["validation_accuracy"].mean())


def test_a_configuration_over_budget_is_recorded_with_its_cost_and_not_trained(run, write, trained) -> None:
    result = run(write(), trials=8, objective__max_macs=2000)
    table = result.table
    over = table[table["status"] == Status.OVER_BUDGET]
    assert len(table) == 8
    assert 0 < len(over) < 8
    assert (over["macs"] > 2000).all()
    assert over["validation_accuracy"].isna().all()
    np.testing.assert_allclose(over["overrun"], over["macs"].astype(float) / 2000 - 1)
    assert (table[table["status"] == Status.FINISHED]["macs"] <= 2000).all()
    assert len(trained) == 8 - len(over)
    assert not set(over["config"]) & {config for config, _ in trained}
    assert all(point.macs <= 2000 for point in result.front.points)


def test_several_budgets_are_recorded_each_with_its_slack(run, write, trained) -> None:
    budgets = {"max_params": 700, "max_activation_bytes": 2_500, "max_bytes_moved": 10_000}
    changes = {f"objective__{key}": value for key, value in budgets.items()}
    result = run(write(), trials=8, **changes)
    table = result.table
    slack = {key[4:]: 1 - table[key[4:]].astype(float) / value for key, value in budgets.items()}
    for measure, expected in slack.items():
        np.testing.assert_allclose(table[f"slack_{measure}"], expected)
    assert table["slack_macs"].isna().all()
    worst = pd.DataFrame(slack).min(axis=1)
    np.testing.assert_allclose(table["overrun"], -worst)
    assert ((worst < 0) == (table["status"] == Status.OVER_BUDGET)).all()
    assert 0 < len(trained) == (worst >= 0).sum() < 8
    (parent,) = [
        run for run in open_store().runs.search([open_store().latest("tiny").experiment], "")
        if run.info.run_id == result.run_id
    ]  # fmt: skip
    assert 0 < parent.data.metrics["space/feasible"] < 1


def test_a_front_over_latency(run, write, trained, tmp_path, monkeypatch, quick_stopwatch) -> None:
    monkeypatch.setenv("INVACT_CACHE", str(tmp_path / "cache"))
    more = "timing = { runtime = 'litert' }\nobjective = { kind = 'pareto', cost = 'latency_ms' }"
    first = run(write(more=more), trials=1)
    assert first.front.measure == "latency_ms"
    result = run(write(more=more), trials=2)
    assert len(trained) == 2
    # A configuration's latency is measured once, even if the sweep is continued.
    pd.testing.assert_frame_equal(result.table[:1], first.table)
    assert (result.table["latency_ms"] > 0).all()
    assert result.front.hypervolume > 0
    known = json.loads((tmp_path / "cache" / "latency.json").read_text())
    assert set(result.table["latency_ms"]) <= set(known.values())
    assert [point.cost for point in result.front.points] == sorted(p.latency_ms for p in result.front.points)


def test_a_latency_budget_is_checked_before_training(run, write, trained, monkeypatch) -> None:
    """The latency is faked: one millisecond for each filter."""
    from invact.deploy.timer import Timer

    monkeypatch.setattr(Timer, "latency_ms", lambda self, config: float(config.filters))
    more = "timing = { runtime = 'litert' }\nobjective = { max_latency_ms = 3.5 }"
    table = run(write(more=more), trials=6).table
    over = table["status"] == Status.OVER_BUDGET
    assert 0 < over.sum() < 6
    assert (over == (table["param.filters"] > 3.5)).all()
    assert len(trained) == (~over).sum()
    with pytest.raises(InputError, match=r"max_latency_ms 1\.5\..*fastest of \d+ networks of .*: 2 ms"):
        run(write(more=more), objective__max_latency_ms=1.5)


@keras.saving.register_keras_serializable("users")
def erfinv(x):
    return keras.ops.erfinv(x)


@pytest.mark.parametrize("objective", ["kind = 'pareto', cost = 'latency_ms'", "max_latency_ms = 100.0"])
def test_an_arm_that_the_runtime_cannot_run_is_reported_before_any_training(
    run, write, tmp_path, monkeypatch, quick_stopwatch, forbid_engines, objective
) -> None:
    monkeypatch.setenv("INVACT_CACHE", str(tmp_path / "cache"))
    arm = Arm("users_erfinv", 1, "erfinv x", lambda name: keras.layers.Activation(erfinv, name=name))
    monkeypatch.setitem(arms._ARMS, arm.name, arm)
    forbid_engines()
    space = """
    [parameters]
    activation = { choices = ["relu", "users_erfinv"] }
    filters = { low = 2, high = 5 }
    """
    path = write(more=f"timing = {{ runtime = 'onnx' }}\nobjective = {{ {objective} }}", space=space)
    with pytest.raises(InputError, match="ONNX has no operation Erfinv") as error:
        run(path)
    assert str(error.value).startswith(f"{path}: activation users_erfinv: ")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "mlruns").exists()


WIDTHS = """
[parameters]
activation = { choices = ["relu", "inverse"] }
width_rule = "macs"
width_target = { choices = [4000, 9000, 16000] }
"""


def test_a_width_rule_gives_both_arms_equal_macs(run, write) -> None:
    table = run(write("widths", space=WIDTHS), trials=6).table
    assert len(table) == 6
    macs, target = table["macs"].astype(float), table["param.width_target"].astype(float)
    np.testing.assert_allclose(table["width_slack"], 1 - macs / target)
    assert table["width_slack"].between(0, 0.35).all()
    assert set(table["param.activation"]) == {"relu", "inverse"}


def test_a_space_without_a_network_within_the_budget_is_refused(run, write, folder) -> None:
    with pytest.raises(InputError, match=r"smallest network of .*: 1,472 MACs$"):
        run_sweep(load_sweep(write(), {"objective.max_macs": 1471}))
    assert not (folder / "mlruns").exists()
    assert run(
        write(more="enqueue = [{activation = 'relu', filters = 2}]"), trials=1, objective__max_macs=1472
    )


@pytest.mark.parametrize(
    ("driver", "sampler"),
    [("optuna", "nsga2"), pytest.param("keras_tuner", "random", marks=pytest.mark.slow)],
)
def test_the_table_has_the_results_of_training_and_models_of_the_whole_front_load(
    run_trained, write, tmp_path, digits, pictures, driver: str, sampler: str
) -> None:
    path = write()
    result = run_trained(path, trials=3, driver=driver, sampler=sampler, objective__kind="pareto")
    record = open_store().latest("tiny")
    assert len(result.table) == 3
    row = result.table.to_dict("records")[0]
    config = load_sweep(path).space.config(
        {"activation": row["param.activation"], "filters": row["param.filters"], "depth": 1, "epochs": 1}
        | {"batch_size": 64}
    )
    here = train(config, 0, digits)
    assert row["config"] == config.digest()
    assert row["validation_accuracy"] == here.validation.accuracy
    assert row["test_accuracy"] == here.test.accuracy
    assert row["train_loss"] == here.train.loss
    assert (row["macs"], row["params"]) == (here.cost.macs, here.cost.params)
    assert result.front.points
    for point in result.front.points:
        (row,) = result.table[result.table["trial"] == point.trial].to_dict("records")
        (tmp_path / "m.keras").write_bytes(record.model(row["run_id"]))
        model = keras.saving.load_model(tmp_path / "m.keras", compile=False)
        correct = model.predict(digits.x_test, verbose=0).argmax(1) == digits.y_test
        assert correct.mean() == row["test_accuracy"]
        np.testing.assert_array_equal(record.correct(row["run_id"], digits.test_count), correct)
        seen = model.predict(digits.x_validation, verbose=0).argmax(1) == digits.y_validation
        found = record.correct(row["run_id"], digits.validation_count, "validation")
        np.testing.assert_array_equal(found, seen)
    # For each finished trial, a point of the front is at least as good in accuracy and in MACs.
    for row in result.table.itertuples():
        assert any(
            point.accuracy >= row.validation_accuracy and point.macs <= row.macs
            for point in result.front.points
        )


def test_keras_tuner_continues_too(run, write, trained) -> None:
    path = write()
    first = run(path, driver="keras_tuner", sampler="random", trials=2).table
    more = run(path, driver="keras_tuner", sampler="random", trials=4).table
    assert len(trained) == len(set(trained)) == 4
    assert more["run_id"][:2].tolist() == first["run_id"].tolist()


def test_hyperband_trains_for_the_epochs_it_chooses(run, write) -> None:
    table = run(write(), driver="keras_tuner", sampler="hyperband", trials=4, config__epochs=3).table
    assert set(table["status"]) == {"FINISHED"}
    epochs = [json.loads(text)["epochs"] for text in table["config_json"]]
    assert min(epochs) < 3
    assert max(epochs) <= 3


def test_failed_runs_are_tried_again_and_the_command_exits_with_4(invact, write, stand_in, trained) -> None:
    truth = stand_in.truth

    def fault(config, seed):
        raise ValueError("a fault")

    stand_in.truth = fault
    command = ["sweep", write(), "--trials", 2, "--json"]
    answer = invact(*command)
    assert answer.code == Incomplete.exit_code == 4
    assert json.loads(answer.out)["failed"] == 2
    assert answer.err.splitlines()[-1] == "invact: tiny: 2 runs failed; the same command tries them again"
    assert open_store().latest("tiny").table()["error"].tolist() == ["ValueError: a fault"] * 2
    assert pareto_front("tiny").points == ()
    failed = {*trained}
    del trained[:]
    stand_in.truth = truth
    answer = invact(*command)
    assert answer.code == 0
    assert json.loads(answer.out)["failed"] == 0
    assert len(trained) == 2
    assert {*trained} == failed
    table = open_store().latest("tiny").table()
    assert table["status"].tolist() == [Status.FINISHED] * 2


def test_a_diverged_trial_is_a_result_and_not_on_the_front(
    run, write, trained, stand_in, monkeypatch
) -> None:
    drawn = stand_in.result_of
    monkeypatch.setattr(
        stand_in,
        "result_of",
        lambda engine, job: replace(drawn(engine, job), status=Status.DIVERGED, error="the loss was nan"),
    )
    result = run(write(), trials=1)
    assert result.table["status"].tolist() == ["DIVERGED"]
    assert result.table["test_accuracy"].notna().all()
    assert result.front.points == ()
    assert run(write(), trials=1).run_id == result.run_id
    assert len(trained) == 1


def test_paths_in_a_file_are_relative_to_it_and_workers_know_a_users_arm(
    run_trained, folder, digits, monkeypatch
) -> None:
    here = folder / "here"
    (here / "images").mkdir(parents=True)
    np.savez(
        here / "images" / "my.npz",
        x_train=np.concatenate([digits.x_train, digits.x_validation]),
        y_train=np.concatenate([digits.y_train, digits.y_validation]),
        x_test=digits.x_test,
        y_test=digits.y_test,
    )
    (here / "spaces").mkdir()
    (here / "spaces" / "one.toml").write_text('[parameters]\nactivation = "users_softplus"\nfilters = 2\n')
    (here / "my.toml").write_text(
        'space = "spaces/one.toml"\ndata = "images/my.npz"\ntrials = 1\nimports = ["users"]\n'
        "[config]\nepochs = 1\ndepth = 1\n"
    )
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    result = run_trained(Path("../here/my.toml"))
    assert result.table["status"].tolist() == ["FINISHED"]
    assert (elsewhere / "mlruns").is_dir()


def test_a_second_coordinator_is_refused(run, write) -> None:
    path = write()
    sweep = load_sweep(path, {"trials": 1})
    data = sweep.source.load()
    with (
        open_store().record("tiny", "sweep", sweep.identity(data), driver="optuna"),
        pytest.raises(EnvironmentFault, match="sweep tiny is being run by process"),
    ):
        run(path, trials=1)


def test_load_sweep_does_not_change_the_file_that_it_overrides(write) -> None:
    path = write()
    text = path.read_text()
    assert load_sweep(path, {"config.epochs": 7}).space["epochs"].domain.values() == (7,)
    assert path.read_text() == text
