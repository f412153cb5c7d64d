import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from invact import __version__

# Keras 3.15 converts a TensorFlow variable in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CLAIM = """
data = "digits"
{keys}
[config]
depth = 1
filters = 4
epochs = 1
batch_size = 64
{config}
"""
KEYS = {"ratios": "[0.5]", "margin": "50.0", "looks": "[2, 3]", "pilot": "2", "repeat": "false"}
BUDGET = "objective = {{ max_macs = {} }}"


def claim_text(config: str = "", **changes: str) -> str:
    keys = "\n".join(f"{key} = {value}" for key, value in (KEYS | changes).items() if value)
    return CLAIM.format(keys=keys, config=config)


def refused(answer, folder: Path, *words: str, code: int = 2) -> None:
    """Check for one line on standard error, nothing on standard output, and no store."""
    assert answer.code == code, answer
    assert answer.err.count("\n") == 1, answer.err
    assert answer.err.startswith("invact: ")
    assert not answer.out
    for word in words:
        assert word in answer.err
    assert not (folder / "mlruns").exists()


@pytest.mark.parametrize(
    ("more", "config", "words"),
    [
        ("trails = 3", "", ["trails: unknown key", "did you mean 'trials'?"]),
        ("driver = 'optunna'", "", ["driver: received 'optunna'", "did you mean 'optuna'?", "keras_tuner"]),
        ("sampler = 'tpee'", "", ["sampler of optuna", "did you mean 'tpe'?"]),
        ("seeds = []", "", ["seeds: received []"]),
        ("seeds = [1, 2, 1]", "", ["seeds: received [1, 2, 1]", "each seed once"]),
        ("seeds = [-1]", "", ["seeds.0: received -1"]),
        ("seeds = [0.5]", "", ["seeds.0: received 0.5"]),
        ("imports = 'users'", "", ["imports: received 'users'"]),
        ("imports = ['no_such_module']", "", ["no_such_module"]),
        ("objective = { max_mac = 1 }", "", ["max_mac: unknown key", "did you mean 'max_macs'?"]),
        ("objective = { kind = 'paretto' }", "", ["did you mean 'pareto'?"]),
        ("split_seed = 'a'", "", ["split_seed: received 'a'"]),
        ("validation_fraction = 1.5", "", ["validation_fraction: received 1.5"]),
        ("enqueue = [{ filters = 3 }]", "", ["enqueue.0: activation: missing"]),
        ("", "filter = 3", ["filter: unknown key", "did you mean 'filters'?"]),
        ("", "filters = 6", ["filters: received 6. Allowed: integers from 2 to 5"]),
        ("", "activation = 'rellu'", ["activation", "received 'rellu'", "relu"]),
        ("", "optimizer = 'adamm'", ["did you mean 'adam'?"]),
        ("", "learning_rate = 0.0", ["learning_rate: received 0.0"]),
        ("", "learning_rate = nan", ["learning_rate", "nan"]),
        ("", "dropout = 1.0", ["dropout: received 1.0"]),
        ("", "weight_decay = -1.0", ["weight_decay: received -1.0"]),
        ("", "augmentation = 'flop'", ["augmentation", "did you mean 'flip'?"]),
        ("", "model = 'cmn'", ["model: received 'cmn'", "did you mean 'cnn'?"]),
        ("", "model = 'no_such:build'", ["no_such"]),
        (
            BUDGET.format(10),
            "",
            ["max_macs 10", "Allowed: at least the cost of the smallest network", "space.toml"],
        ),
        (BUDGET.format(0), "", ["max_macs: received 0"]),
        (BUDGET.format(-5), "", ["max_macs: received -5"]),
    ],
)
def test_a_bad_sweep_is_refused_in_one_line(invact, folder, write, more, config, words) -> None:
    if more.startswith("trails"):
        more = f"{more}\n"
    answer = invact("sweep", write(more=more, config=config), "--trials", 2)
    refused(answer, folder, *words)


def test_the_smallest_network_is_named(invact, folder, write) -> None:
    # The convolution has 64 positions, 3x3 kernels and 2 filters. The dense layer has 32 inputs and 10
    # classes.
    path = write(more=BUDGET.format(100))
    words = f"{64 * 9 * 2 + 32 * 10:,} MACs"
    refused(invact("sweep", path), folder, words)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ("filters = { choices = [] }", ["filters.choices: received []"]),
        ("filters = { low = 5, high = 2 }", ["filters.low: received 5", "at most high, 2"]),
        (
            "filters = { low = 0, high = 8, log = true }",
            ["filters.low: received 0", "above 0 when log = true"],
        ),
        ("filters = { low = 2, high = 8, step = 0 }", ["filters.step: received 0"]),
        ("filters = { low = -2, high = 8 }", ["filters", "received -2"]),
        ("filters = 0", ["filters", "received 0"]),
        ("filters = 2.5", ["filters", "received 2.5"]),
        ("filters = 1_000_000_000_000", ["filters", "received 1000000000000", "4096"]),
        ("activation = { choices = ['relu', 'invers'] }", ["did you mean 'inverse'?"]),
        ("filtres = 3", ["filtres: unknown key", "did you mean 'filters'?"]),
    ],
)
def test_a_bad_space_is_refused_in_one_line(invact, folder, write, space, words) -> None:
    refused(invact("sweep", write(space=f"[parameters]\n{space}\n")), folder, *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (claim_text(ratio="[0.5]"), ["ratio: unknown key", "did you mean 'ratios'?"]),
        (claim_text(pilot="1"), ["pilot: received 1, which is insufficient", "at least 2"]),
        (claim_text(looks="[1]"), ["looks: received [1], which is insufficient"]),
        (claim_text(looks="[3, 3]"), ["increasing"]),
        (
            claim_text(curve="{ control = [4, 8], treatment = [2, 3, 4] }"),
            ["curve.control: received 2 widths"],
        ),
        (claim_text(margin="0"), ["margin: received 0. Allowed: greater than 0"]),
        (claim_text(margin="-1.5"), ["margin: received -1.5"]),
        (claim_text(margin="nan"), ["margin: received nan"]),
        (claim_text(ratios=""), ["ratios: missing key"]),
        (claim_text(alpha="0"), ["alpha: received 0"]),
        (claim_text(alpha="0.5"), ["alpha: received 0.5. Allowed: less than 0.5"]),
        (claim_text(ratios="[0.0]"), ["ratios.0: received 0.0"]),
        (claim_text(ratios="[0.5, 1.5]"), ["ratios.1: received 1.5"]),
        (claim_text(ratios="[0.5, 0.5]"), ["ratios that give different numbers of filters"]),
        (claim_text(ratios="[]"), ["ratios: received []"]),
        (claim_text(treatment="'invers'"), ["treatment", "did you mean 'inverse'?"]),
        (claim_text(imports="3"), ["imports: received 3"]),
        (claim_text(imports="'users'"), ["imports: received 'users'"]),
        (claim_text(imports="['no_such_module']"), ["no_such_module"]),
        (claim_text("activation = 'relu'"), ["config: activation: cannot be set in a claim"]),
        (claim_text("filter = 3"), ["filter: unknown key", "did you mean 'filters'?"]),
        (claim_text("model = 'no_such:build'"), ["no_such"]),
        (claim_text(data="'mnits'"), ["mnist"]),
        ("data = 'digits'\nmargin = = 2", ["not TOML", "line 2"]),
        ("", ["missing key"]),
    ],
)
def test_a_bad_claim_is_refused_in_one_line(invact, folder, text, words) -> None:
    if "mnits" in text:
        text = text.replace('data = "digits"\n', "", 1)
    (folder / "bad.toml").write_text(text)
    refused(invact("claim", "bad.toml"), folder, *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sweep", "digitz"], ["did you mean 'digits'?"]),
        (["sweep", "digits", "--set", "trials"], ["--set: received 'trials'. Allowed: KEY=VALUE"]),
        (["sweep", "digits", "--set", "=3"], ["--set: received '=3'"]),
        (["sweep", "digits", "--set", "config..x=3"], ["--set"]),
        (["sweep", "digits", "--set", "trials.x=3"], ["'trials' is not a table"]),
        (["sweep", "digits", "--set", "config.epochs=[1,"], ["epochs: received '[1,'"]),
        (["sweep", "digits", "--trials", "0"], ["trials: received 0"]),
        (["sweep", "digits", "--epochs", "0"], ["epochs", "0"]),
        (["sweep", "digits", "--max-macs", "-1"], ["max_macs: received -1"]),
        (["sweep", "digits", "--driver", "optnua"], ["did you mean 'optuna'?"]),
        (["sweep", "digits", "--driver", "optuna", "--sampler", "hyperband"], ["sampler of optuna", "tpe"]),
        (["sweep", "digits_claim"], ["this is a claim", "invact claim digits_claim"]),
        (["claim", "digits"], ["this is a sweep", "invact sweep digits"]),
        (["claim", "digits_claim", "--margin", "0"], ["margin: received 0"]),
        (["claim", "digits_claim", "--alpha", "0.7"], ["alpha: received 0.7"]),
        (["sweep", "missing.toml"], ["'missing.toml': no such file"]),
        (["sweep", "."], ["."]),
        (["sweep", "./"], ["no such file"]),
        (["cost", "missing.keras"], ["missing.keras: no such file"]),
        (["cost", "missing.toml"], ["no such file"]),
        (["latency", "missing.keras"], ["missing.keras: no such file"]),
        (["latency", "digits", "--runtime", "onyx"], ["runtime: received 'onyx'; did you mean 'onnx'?"]),
        (["latency", "digits", "--batch", "0"], ["batch: received 0"]),
        (["latency", "digits", "--threads", "9999"], ["threads: received 9999"]),
        (["latency", "digits", "--json", "--csv"], ["--csv: received --json too"]),
        (["sweep", "digits", "--max-params", "0"], ["max_params: received 0"]),
        (["sweep", "digits", "--max-activation-bytes", "1"], ["smallest network", "bytes of activations"]),
        (["sweep", "digits", "--max-bytes-moved", "1"], ["smallest network", "bytes moved"]),
        (["sweep", "digits", "--max-latency-ms", "-1"], ["max_latency_ms: received -1.0"]),
        (["sweep", "digits", "--set", "timing.runtime=lite"], ["timing.runtime", "did you mean 'litert'?"]),
        (["sweep", "../x"], ["no such file"]),
        (["sweep", "/x"], ["no such file"]),
        (["sweep", "a\nb"], ["received 'a\\nb'"]),
        (["sweep", "a" * 300], ["received"]),
        (["sweep", f"/{'a' * 300}"], ["no such file"]),
        (["sweep", ""], ["received ''"]),
        *(
            (["front", name], ["name: received", "Allowed: 1 to 64 letters"])
            for name in ("../x", "/etc/passwd", "a\0b", "a\nb", "a" * 300, "", ".")
        ),
    ],
)
def test_bad_arguments_are_refused_in_one_line(invact, folder, arguments, words) -> None:
    refused(invact(*arguments), folder, *words)


@pytest.mark.parametrize(
    "arguments", [["swep"], ["sweep", "digits", "--trials", "x"], ["ui", "--port", "0x"]]
)
def test_an_error_of_the_parser_has_the_same_exit_code(invact, folder, arguments) -> None:
    answer = invact(*arguments)
    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert not answer.out


def test_an_unknown_sweep_names_the_nearest_and_formats_are_checked(invact, folder, write, cluster) -> None:
    refused(invact("front", "tiny"), folder, "'mlruns', which does not exist")
    assert invact("sweep", write(), "--trials", 2, "--scheduler", cluster, "--json").code == 0
    answer = invact("front", "tinny")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "did you mean 'tiny'?" in answer.err
    answer = invact("front", "tiny", "--format", "cvs", "-o", "out")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "did you mean 'csv'?" in answer.err
    assert not (folder / "out").exists()


def test_json_is_one_document_on_standard_output(invact, folder, write, cluster) -> None:
    path = write(name="both")
    swept = invact("sweep", path, "--trials", 3, "--scheduler", cluster, "--json")
    assert swept.code == 0, swept.err
    values = json.loads(swept.out)
    assert values["name"] == "both"
    assert values["failed"] == 0
    assert len(values["front"]) + len(values["dominated"]) == 3
    assert "3/3" in swept.err, "progress is on standard error"
    assert "\x1b" not in swept.err
    again = json.loads(invact("front", "both", "-o", "out", "--format", "csv,svg", "--json").out)
    assert [Path(file).name for file in again["files"]] == ["front.csv", "front.svg"]
    assert again["front"] == values["front"]
    assert sorted(file.name for file in (folder / "out").iterdir()) == ["front.csv", "front.svg"]
    (folder / "c.toml").write_text(claim_text())
    planned = json.loads(invact("claim", "c.toml", "--plan", "--json").out)
    assert [step["name"] for step in planned["data_sets"]["digits"]["steps"]] == ["pilot", "confirmation"]
    # The looks in the file belong to the method in the file, and another method ignores them.
    assert invact("claim", "c.toml", "--plan", "--method", "fixed", "--set", "pairs=4").code == 0
    claimed = invact("claim", "c.toml", "--scheduler", cluster, "--json")
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
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = invact("ui", "--port", port)
    assert (answer.code, answer.err.count("\n")) == (3, 1), answer
    assert f"port {port}" in answer.err


def test_missing_data_are_an_environment_fault(folder, write) -> None:
    # A proxy that does not exist cuts the network off.
    path = write()
    path.write_text(path.read_text().replace('"digits"', '"mnist"'))
    nowhere = "http://127.0.0.1:9"
    environment = os.environ | {"INVACT_DATA": str(folder), "HTTPS_PROXY": nowhere, "https_proxy": nowhere}
    done = subprocess.run(
        [sys.executable, "-m", "invact", "sweep", str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 3, done
    assert done.stderr.count("\n") == 1
    assert "mnist" in done.stderr
    assert not done.stdout
    assert not (folder / "mlruns").exists()


def test_a_database_instead_of_a_folder(invact, folder, write, cluster) -> None:
    uri = f"sqlite:///{folder}/elsewhere/store.db"
    swept = invact("sweep", write(), "--trials", 1, "--scheduler", cluster, "--tracking-uri", uri)
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


# These tests may run as a background job, which ignores SIGINT, and its child processes inherit that.
HEEDS_SIGINT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def start(path: Path, *arguments: str) -> subprocess.Popen[str]:
    command = ["-m", "invact", "sweep", str(path), "--workers", "1", *arguments]
    return subprocess.Popen(
        [sys.executable, "-c", HEEDS_SIGINT, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=path.parent,
        start_new_session=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_sweep_is_finished_by_the_same_command(invact, folder, write, cluster, number) -> None:
    from invact.tracking.store import open_store

    path = write(more="seeds = [0, 1]", config="")
    process = start(path, "--trials", "3", "--set", "config.epochs=40")
    try:
        while not (line := process.stderr.readline()).startswith("[1/6]"):
            assert line, process.wait()
        if number == signal.SIGINT:  # A terminal sends SIGINT to all processes of the group.
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        assert "Traceback" not in err
        assert err.splitlines()[-1].startswith("invact: interrupted")
        assert out == ""
    before = open_store(folder / "mlruns").latest("tiny").table()
    assert 1 <= len(before) < 6

    answer = invact(
        "sweep", path, "--trials", 3, "--set", "config.epochs=40", "--scheduler", cluster, "--json"
    )
    assert answer.code == 0, answer.err
    store = open_store(folder / "mlruns")
    table = store.latest("tiny").table()
    pairs = [(trial, seed) for trial in range(3) for seed in (0, 1)]
    assert list(zip(table["trial"], table["seed"], strict=True)) == pairs
    assert set(table["status"]) == {"FINISHED"}
    assert set(before["run_id"]) <= set(table["run_id"]), "finished runs are not trained again"
    experiments = list(store.runs.experiments())
    assert store.runs.search(experiments, "attributes.status = 'RUNNING'") == []
    assert len(re.findall(r"^\[\d/6\]", answer.err, re.MULTILINE)) == 6 - len(before)


def test_the_console_script_finds_a_users_model_in_the_current_folder(folder, write) -> None:
    (folder / "mymodule.py").write_text(
        "import keras\n"
        "def build(config, input_shape, classes, hidden=4):\n"
        "    inputs = keras.Input(input_shape)\n"
        "    x = keras.layers.Dense(hidden * config.filters[0])(keras.layers.Flatten()(inputs))\n"
        "    return keras.Model(inputs, keras.layers.Dense(classes)(x))\n"
    )
    path = write(
        space='[parameters]\nmodel = "mymodule:build"\nfilters = { low = 2, high = 3 }\nhidden = 5\n'
    )
    script = Path(sys.executable).parent / "invact"
    if not script.exists():
        pytest.skip("invact is not installed here")
    done = subprocess.run(
        [script, "sweep", path.name, "--workers", "1", "--trials", "1", "--json"],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "FINISHED" in done.stderr
    (point,) = json.loads(done.stdout)["front"]
    width = 5 * (2 if "2" in point["label"] else 3)
    assert point["macs"] == 64 * width + width * 10
