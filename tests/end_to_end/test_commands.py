import json
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
import warm
from refusals import claim_text, refused

from invact import __version__
from invact.claims.planning import forecast

# Keras 3.15 converts a TensorFlow variable in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_an_unknown_sweep_names_the_nearest_and_formats_are_checked(invact, folder, write, stand_in) -> None:
    refused(invact("front", "tiny"), folder, "'mlruns', which does not exist")
    assert invact("sweep", write(), "--trials", 2, "--json").code == 0
    answer = invact("front", "tinny")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "did you mean 'tiny'?" in answer.err
    answer = invact("front", "tiny", "--format", "cvs", "-o", "out")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "did you mean 'csv'?" in answer.err
    assert not (folder / "out").exists()


OWN = re.compile(
    r"\[\d+/\d+\] .*|wrote .*|both: .*|c, (pilot|screen|confirmation).*: .*|\w+: time: .*|runs in MLflow: .*"
)
"""The lines of progress, and of the files that were written."""


def test_json_is_one_document_on_standard_output(
    invact, folder, write, stand_in, quick_stopwatch, monkeypatch
) -> None:
    command = invact

    def invact(*arguments):
        answer = command(*arguments)
        assert [line for line in answer.err.splitlines() if not OWN.fullmatch(line)] == []
        return answer

    path = write(name="both")
    swept = invact("sweep", path, "--trials", 3, "--json")
    assert swept.code == 0, swept.err
    values = json.loads(swept.out)
    assert values["name"] == "both"
    assert values["failed"] == 0
    assert len(values["front"]) + len(values["dominated"]) == 3
    assert "3/3" in swept.err, "progress is on standard error"
    assert "\x1b" not in swept.err
    again = json.loads(invact("front", "both", "-o", "out", "--format", "csv,svg", "--json").out)
    assert [Path(file).name for file in again["files"]] == ["both-front.csv", "both-front.svg"]
    assert again["front"] == values["front"]
    assert sorted(file.name for file in (folder / "out").iterdir()) == ["both-front.csv", "both-front.svg"]
    (folder / "c.toml").write_text(claim_text())
    planned = json.loads(invact("claim", "c.toml", "--plan", "--json").out)
    courses = {path["name"]: list(path["trainings"]) for path in planned["data_sets"]["digits"]["paths"]}
    assert courses["equal down to 0.5 of the filters"] == ["pilot", "screen", "confirmation"]
    # A plan trains one network to measure the speed, and one measurement is enough.
    speed = forecast.Speed(1e6, 0.1, "measured before")
    monkeypatch.setattr(forecast, "speed_of", lambda cell, data: speed)
    # The looks in the file belong to the method in the file, and another method ignores them.
    assert invact("claim", "c.toml", "--plan", "--method", "fixed", "--set", "runs=4").code == 0
    claimed = invact("claim", "c.toml", "--json")
    assert claimed.code == 0, claimed.err
    found = json.loads(claimed.out)
    assert found["data_sets"][0]["verdict"] == found["verdict"]
    assert "networks" in json.loads(invact("cost", "c.toml", "--json").out)
    timed = json.loads(invact("latency", "c.toml", "--runtime", "litert", "--rounds", 2, "--json").out)
    assert {row["runtime"] for row in timed["rows"]} == {"litert"}
    listed = json.loads(invact("list", "--json").out)
    assert {one["name"] for one in listed["others"]} == {"both", "c"}
    plain = invact("list")
    assert plain.code == 0
    assert "both" in plain.out
    assert "\x1b" not in plain.out + plain.err


def test_list_in_an_empty_folder_creates_no_store(invact, folder) -> None:
    answer = invact("list", "--json")
    assert answer.code == 0
    found = json.loads(answer.out)
    assert {one["name"] for one in found["sweeps"]} >= {"digits"}
    assert {one["name"] for one in found["arms"]} >= {"relu", "inverse"}
    assert found["others"] == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("arguments", [["sweep", "digits"], ["list"], ["front", "digits"], ["ui"]])
def test_a_store_that_is_a_file_is_an_environment_fault(invact, folder, arguments) -> None:
    (folder / "store").write_text("")
    answer = invact(*arguments, "--store", "store")
    assert (answer.code, answer.err.count("\n")) == (3, 1), answer
    assert "store" in answer.err
    assert not answer.out


def test_a_store_that_cannot_be_written_is_an_environment_fault(invact, folder) -> None:
    # Nobody can create a folder in /proc, not even root.
    answer = invact("sweep", "digits", "--store", "/proc/store")
    assert (answer.code, answer.err.count("\n")) == (3, 1), answer
    assert "/proc/store" in answer.err


def test_a_port_that_is_in_use_is_an_environment_fault(invact, folder) -> None:
    from invact.tracking.store import open_store

    open_store("mlruns")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = invact("ui", "--port", port)
    assert (answer.code, answer.err.count("\n")) == (3, 1), answer
    assert f"port {port}" in answer.err


def test_missing_data_are_an_environment_fault(invact, folder, write, monkeypatch) -> None:
    path = write()
    path.write_text(path.read_text().replace('"digits"', '"mnist"'))
    monkeypatch.setenv("INVACT_DATA", str(folder))
    # A proxy that does not exist cuts the network off, and Keras's own cache may have the data.
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(folder / "keras"))
    answer = invact("sweep", path)
    assert (answer.code, answer.err.count("\n"), answer.out) == (3, 1, ""), answer
    assert "mnist" in answer.err
    assert not (folder / "mlruns").exists()


def test_a_database_instead_of_a_folder(invact, folder, write, stand_in) -> None:
    uri = f"sqlite:///{folder}/elsewhere/store.db"
    swept = invact("sweep", write(), "--trials", 1, "--tracking-uri", uri)
    assert swept.code == 0, swept.err
    assert (folder / "elsewhere" / "store.db").exists()
    assert not (folder / "mlruns").exists()
    assert invact("front", "tiny", "--tracking-uri", uri, "-o", "out").code == 0
    assert "tiny" in invact("list", "--tracking-uri", uri).out
    answer = invact("list", "--tracking-uri", uri, "--store", "mlruns")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    answer = invact("sweep", "tiny.toml", "--tracking-uri", "nonsense")
    assert (answer.code, answer.err.count("\n")) == (2, 1)


def test_version(invact) -> None:
    assert invact("--version") == (0, f"invact {__version__}\n", "")


# Interruption: these tests start separate processes.


MODULE = """
import keras

def build(config, input_shape, classes, hidden=4):
    inputs = keras.Input(input_shape)
    x = keras.layers.Dense(hidden * config.filters[0])(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Dense(classes)(x))
"""
SPACE = '[parameters]\nmodel = "mymodule:build"\nfilters = { low = 2, high = 3 }\nhidden = 5\n'


KILLED = """
import os, runpy, signal, sys
from invact.execution.workers import engine
from stand_in import StandIn

truth, seen = StandIn.truth, []
def stop(config, seed):
    seen.append(seed)
    if len(seen) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return truth(config, seed)
StandIn.truth, engine.Engine = staticmethod(stop), StandIn
runpy.run_module("invact", run_name="__main__")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_that_is_stopped_between_results_is_finished(invact, folder, write, stand_in, number) -> None:
    from invact.tracking.store import open_store

    path, truth, seen = write(more="seeds = [0, 1]"), stand_in.truth, []

    def stop(config, seed):
        seen.append(seed)
        if len(seen) == 3:
            os.kill(os.getpid(), number)
        return truth(config, seed)

    if number == signal.SIGKILL:
        assert warm.run(["-c", KILLED, "sweep", path, "--trials", 3]).returncode == -signal.SIGKILL
    else:
        # A test run in the background of a shell ignores SIGINT.
        ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
        stand_in.truth = stop
        try:
            answer = invact("sweep", path, "--trials", 3)
        finally:
            signal.signal(signal.SIGINT, ignored)
        assert answer.code == 130
        assert answer.err.splitlines()[-1].startswith("invact: interrupted")
        assert answer.out == ""
        stand_in.truth = truth
    before = open_store(folder / "mlruns").latest("tiny").table()
    assert len(before) == 2
    answer = invact("sweep", path, "--trials", 3, "--json")
    assert answer.code == 0, answer.err
    store = open_store(folder / "mlruns")
    table = store.latest("tiny").table()
    assert len(table) == 6
    assert set(table["status"]) == {"FINISHED"}
    assert set(before["run_id"]) <= set(table["run_id"]), "finished runs are not trained again"
    assert store.runs.search(list(store.runs.experiments()), "attributes.status = 'RUNNING'") == []


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_sweep_of_a_users_model_is_finished_by_the_same_command(
    invact, folder, write, stand_in, number
) -> None:
    """The console script finds the model in the current folder, and so do its workers."""
    from invact.tracking.store import open_store

    (folder / "mymodule.py").write_text(MODULE)
    open_store(folder / "mlruns")
    path = write(more="seeds = [0, 1]", space=SPACE)
    command = ["sweep", path.name, "--workers", "1", "--trials", "2", "--set", "config.epochs=40", "--json"]
    out, err = folder / "out", folder / "err"
    process = warm.start([Path(sys.executable).parent / "invact", *command], out, err)
    try:
        while "[1/4]" not in err.read_text():
            assert process.is_alive(), err.read_text()
            time.sleep(0.01)
        if number == signal.SIGINT:  # A terminal sends SIGINT to all processes of the group.
            os.killpg(process.pid, number)
        else:
            os.kill(process.pid, number)
        process.join(60)
        assert process.exitcode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    finally:
        if process.exitcode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
    if number != signal.SIGKILL:
        assert "Traceback" not in err.read_text()
        assert err.read_text().splitlines()[-1].startswith("invact: interrupted")
        assert out.read_text() == ""
    before = open_store(folder / "mlruns").latest("tiny").table()
    assert 1 <= len(before) < 4

    answer = invact(*command)
    assert answer.code == 0, answer.err
    point = json.loads(answer.out)["front"][0]
    width = 5 * (2 if "2" in point["label"] else 3)
    assert point["macs"] == 64 * width + width * 10
    store = open_store(folder / "mlruns")
    table = store.latest("tiny").table()
    pairs = [(trial, seed) for trial in range(2) for seed in (0, 1)]
    assert list(zip(table["trial"], table["seed"], strict=True)) == pairs
    assert set(table["status"]) == {"FINISHED"}
    assert set(before["run_id"]) <= set(table["run_id"]), "finished runs are not trained again"
    experiments = list(store.runs.experiments())
    assert store.runs.search(experiments, "attributes.status = 'RUNNING'") == []
    assert len(re.findall(r"^\[\d/4\] .*, seed \d: ", answer.err, re.MULTILINE)) == 4 - len(before)
