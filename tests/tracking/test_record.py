import io
import json
import resource
import signal
import sys
import time

import numpy as np
import pandas as pd
import pytest
import warm
from recording import BITS, COST, SEEN, a_result, an_epoch, write

from invact.config import Config
from invact.data.dataset import load
from invact.errors import EnvironmentFault, InputError
from invact.tracking.provenance import versions
from invact.tracking.table import COLUMNS
from invact.training.results import Scores, Status


def test_a_result_is_read_back_bit_for_bit(store, record):
    config = Config(filters=(8, 12), activation=("inverse", "relu"), learning_rate=0.1 + 0.2)
    varied = {"filters": 8, "rate": 0.1 + 0.2, "whole": 2.0, "arm": "inverse", "wide": True}
    run_id = record.start(3, config, 2**32 - 1, 1, "inverse 8", varied)
    for number in (1, 2):
        record.epoch(run_id, an_epoch(number))
    result = a_result(config, 2**32 - 1)
    record.finish(run_id, result, {"overrun": -0.25, "latency_ms": 0.75})
    table = store.latest("mine").table()
    (row,) = table.to_dict("records")
    assert tuple(table.columns) == (*COLUMNS, *(f"param.{name}" for name in varied), "config_json")
    assert row["run_id"] == run_id
    assert (row["trial"], row["seed"], row["label"]) == (3, 2**32 - 1, "inverse 8")
    assert (row["status"], row["error"]) == ("FINISHED", "")
    assert row["config"] == config.digest()
    assert Config.model_validate_json(row["config_json"]) == config
    assert [row[name] for name in ("macs", "params", "filters")] == [9_007_209_494, 10_410, 26]
    for split in ("train", "validation", "test"):
        assert Scores(row[f"{split}_accuracy"], row[f"{split}_loss"]) == getattr(result, split)
    assert (row["seconds"], row["images_per_second"], row["overrun"]) == (1.25, 1e4 / 3, -0.25)
    for name, value in varied.items():
        assert row[f"param.{name}"] == value
        assert type(row[f"param.{name}"]) is type(value)
    np.testing.assert_array_equal(record.correct(run_id, BITS.size), BITS)
    np.testing.assert_array_equal(record.correct(run_id, SEEN.size, "validation"), SEEN)


def test_mlflow_has_the_curves_the_params_and_the_cost_by_layer(store, record):
    config = Config(model="mine.nets:tall", options={"width": 3, "deep": False}, filters=32)
    run_id = record.start(0, config, 7, 1, "wide", {"filters": 32})
    for number in (1, 2, 3):
        record.epoch(run_id, an_epoch(number))
    record.finish(run_id, a_result(config, 7))
    client = store.runs.client
    history = client.get_metric_history(run_id, "validation/accuracy")
    assert [(point.step, point.value) for point in history] == [(1, 0.05), (2, 0.1), (3, 3 / 20)]
    run = client.get_run(run_id)
    shown = {
        "filters": "32",
        "param.filters": "32",
        "seed": "7",
        "options.width": "3",
        "options.deep": "false",
    }
    assert shown.items() <= run.data.params.items()
    assert run.data.tags["mlflow.parentRunId"] == record.run_id
    assert run.info.run_name == "0 wide"
    table = pd.read_csv(io.BytesIO(store.runs.read(run_id, "cost.csv")))
    assert table["macs"].sum() == COST.macs
    assert list(table["name"]) == ["conv", "dense"]


def test_a_record_refers_to_the_data_set_without_its_arrays(store):
    data = load("digits")
    with store.record("mine", "sweep", "abc", data=data) as record:
        run_id, _ = write(record, 0, Config())
    import mlflow.data

    for each in (record.run_id, run_id):
        (found,) = store.runs.client.get_run(each).inputs.dataset_inputs
        assert (found.dataset.name, found.dataset.digest) == ("digits", data.digest)
        assert json.loads(found.dataset.profile)["train"] == data.train_count
        assert mlflow.data.get_source(found.dataset).to_dict()["tags"]["split_seed"] == 0


def test_seeds_are_grandchildren_and_their_parent_run_has_the_means(store, record):
    config = Config()
    runs = [write(record, 4, config, seed, 2, test=Scores(0.25 + seed / 2, 1.0))[0] for seed in (0, 1)]
    record.finish_trial(4)
    client = store.runs.client
    (parent,) = {client.get_run(run_id).data.tags["mlflow.parentRunId"] for run_id in runs}
    child = client.get_run(parent)
    assert child.data.tags["mlflow.parentRunId"] == record.run_id
    assert child.data.metrics["test/accuracy"] == 0.5
    assert child.data.metrics["cost/macs"] == COST.macs
    assert (child.info.status, child.data.tags["invact.status"]) == ("FINISHED", "FINISHED")
    table = record.table()
    assert list(table["test_accuracy"]) == [0.25, 0.75]
    assert list(table["seed"]) == [0, 1]


@pytest.mark.parametrize(
    ("statuses", "expected", "mlflow"),
    [
        ([Status.FINISHED, Status.DIVERGED], "DIVERGED", "FINISHED"),
        ([Status.FINISHED, Status.FAILED], "FAILED", "FAILED"),
        ([Status.OVER_BUDGET, Status.OVER_BUDGET], "OVER_BUDGET", "FINISHED"),
    ],
)
def test_the_status_of_a_trial_is_that_of_its_worst_seed(store, record, statuses, expected, mlflow):
    for seed, status in enumerate(statuses):
        write(record, 0, Config(), seed, 2, status=status)
    record.finish_trial(0)
    runs = store.runs.search([record.experiment], f"tags.`mlflow.parentRunId` = '{record.run_id}'")
    assert [(run.data.tags["invact.status"], run.info.status) for run in runs] == [(expected, mlflow)]


def test_models_files_and_summaries_are_stored(store, tmp_path):
    with store.record("mine", "claim", "abc", {"claim.toml": "margin = 0.01\n"}, {"margin": 0.01}) as record:
        kept, _ = write(record, 0, Config(), model=b"PK\3\4 kept")
        later, _ = write(record, 1, Config())
        with pytest.raises(InputError, match=r"has no file 'model\.keras'"):
            record.model(later)
        record.log_model(later, b"PK\3\4 later")
        (tmp_path / "front").mkdir()
        (tmp_path / "front" / "front.csv").write_text("macs,accuracy\n1,0.5\n")
        record.log_folder(tmp_path / "front", "front")
        record.summarize({"front/size": 1.0}, {"verdict": "NON_INFERIOR"})
    assert record.model(kept) == b"PK\3\4 kept"
    assert record.model(later) == b"PK\3\4 later"
    assert store.runs.read(record.run_id, "claim.toml") == b"margin = 0.01\n"
    run = store.runs.client.get_run(record.run_id)
    assert (run.data.tags["verdict"], run.data.metrics["front/size"]) == ("NON_INFERIOR", 1.0)
    front = store.folder / "artifacts" / "mine" / record.run_id / "artifacts" / "front" / "front.csv"
    assert front.read_text() == "macs,accuracy\n1,0.5\n"


def test_a_wrong_number_of_test_images_is_refused(record):
    run_id, _ = write(record, 0, Config())
    with pytest.raises(InputError, match=r"count: received 1792\. Allowed: 1801 to 1808"):
        record.correct(run_id, 1_800 - 8)


def test_a_record_without_answers_to_the_validation_images_can_be_read(record):
    run_id, _ = write(record, 0, Config(), validation_correct=b"")
    np.testing.assert_array_equal(record.correct(run_id, BITS.size), BITS)
    with pytest.raises(InputError, match=r"has no file 'correct_validation\.npy'"):
        record.correct(run_id, SEEN.size, "validation")


def test_the_number_of_images_is_read_from_the_parent_run(store):
    data = load("digits")
    with store.record("noted", "sweep", "0123456789abcdef", data=data) as record:
        assert record.images() == {"validation": data.validation_count, "test": data.test_count}
    with store.record("silent", "sweep", "0123456789abcdef") as record:
        assert record.images() == {}


def test_versions_are_stored_with_every_run(store, record):
    run_id, _ = write(record, 0, Config())
    for each in (record.run_id, run_id):
        tags = store.runs.client.get_run(each).data.tags
        assert {f"version.{name}": version for name, version in versions().items()}.items() <= tags.items()
    assert tags["version.python"] == sys.version.split()[0]


def test_more_than_a_hundred_params_are_kept(store):
    params = {f"p{number}": number for number in range(250)}
    with store.record("mine", "sweep", "abc", params=params) as record:
        found = store.runs.client.get_run(record.run_id).data.params
    assert found == {key: str(value) for key, value in params.items()}


def test_a_configuration_too_long_for_a_tag_is_refused_rather_than_cut(record):
    config = Config(model="a.b:c", options={"text": "x" * 9_000})
    with pytest.raises(InputError, match=r"config: received 9\d\d\d characters of JSON. Allowed: 8000"):
        record.start(0, config, 0, 1, "", {})


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (ValueError(), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_the_status_of_a_record_depends_on_the_exception(store, error, status):
    try:
        with store.record("mine", "sweep", "abc") as record:
            running = record.start(0, Config(), 0, 2, "", {})
            if error:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    client = store.runs.client
    assert client.get_run(record.run_id).info.status == status
    run = client.get_run(running)
    assert run.info.status == "KILLED"
    assert client.get_run(run.data.tags["mlflow.parentRunId"]).info.status == "KILLED"
    assert record.table().empty


WRITER = """
import sys, time
from pathlib import Path
from invact.config import Config
from invact.training.results import Scores, Status, TrialResult
from invact.tracking.store import open_store
record = open_store(Path(sys.argv[1])).record("mine", "sweep", "abc")
record.finish(record.start(0, Config(), 0, 1, "", {}), TrialResult(Config(), 0, Status.FINISHED))
record.start(1, Config(), 0, 1, "", {})
print("ready", flush=True)
time.sleep(60)
"""


def test_a_killed_writer_leaves_only_its_finished_results(folder, store):
    writer = warm.start(["-c", WRITER, folder], folder / "out", folder / "err")
    try:
        while (folder / "out").read_text() != "ready\n":
            assert writer.is_alive(), (folder / "err").read_text()
            time.sleep(0.05)
        with pytest.raises(EnvironmentFault, match=rf"sweep mine is being run by process {writer.pid} on "):
            store.record("mine", "sweep", "abc")
        store.record("mine", "sweep", "other").close()
        assert len(store.latest("mine").table()) == 0, "the newest record with this name is the other one"
    finally:
        writer.kill()
        writer.join()
    with store.record("mine", "sweep", "abc") as record:
        assert record.resumed
        assert list(record.table()["trial"]) == [0]
        runs = store.runs.search([record.experiment], f"tags.`mlflow.parentRunId` = '{record.run_id}'")
        assert sorted(run.info.status for run in runs) == ["FINISHED", "KILLED"]


def test_a_full_disk_is_reported_in_one_line(record, capfd):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(EnvironmentFault) as caught:
            write(record, 0, Config())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert "\n" not in str(caught.value)
    assert "mlflow.db: " in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert record.table().empty
    write(record, 1, Config())
    assert list(record.table()["trial"]) == [1]


def test_params_are_shown_with_the_first_epoch_and_those_of_a_trial_at_once(store, record) -> None:
    run_id = record.start(0, Config(filters=5), 0, 2, "arm", {"filters": 5})
    record.epoch(run_id, an_epoch(1))
    client = store.runs.client
    run = client.get_run(run_id)
    assert (run.data.params["filters"], run.data.params["seed"]) == ("5", "0")
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.data.params["filters"] == "5"
    # They are not written again.
    record.finish(run_id, a_result(Config(filters=5)))
    assert client.get_run(run_id).data.params == run.data.params
