import json
import sys

import pytest
from refusals import claim_text, refused

# Keras 3.15 converts a TensorFlow variable in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


BUDGET = "objective = {{ max_macs = {} }}"


@pytest.mark.parametrize(
    ("more", "config", "words"),
    [
        ("trails = 3", "", ["trails: unknown key", "did you mean 'trials'?"]),
        ("driver = 'optunna'", "", ["driver: received 'optunna'", "did you mean 'optuna'?", "keras_tuner"]),
        ("sampler = 'tpee'", "", ["sampler: received 'tpee'", "did you mean 'tpe'?"]),
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


USERS = """
import keras

def net(config, input_shape, classes):
    print("building", config.filters[0])
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.Flatten()(inputs)))

def fails(config, input_shape, classes):
    raise RuntimeError(f"images of {input_shape} are too small")

def fails_for_inverse(config, input_shape, classes):
    return fails(config, input_shape, classes) if "inverse" in config.activations else net(
        config, input_shape, classes)

def unsaved(config, input_shape, classes):
    inputs = keras.Input(input_shape)
    x = keras.layers.Lambda(lambda x: x / 2, name="half")(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Dense(classes)(x))
"""


@pytest.fixture
def users(folder, monkeypatch):
    (folder / "users_refused.py").write_text(USERS)
    monkeypatch.delitem(sys.modules, "users_refused", raising=False)
    return "users_refused"


def test_a_network_that_cannot_be_built_or_saved_is_refused_before_any_training(
    invact, folder, write, users
) -> None:
    path = write(config=f"model = '{users}:fails'")
    words = f"tiny.toml: model '{users}:fails': RuntimeError: images of (8, 8, 1) are too small"
    refused(invact("sweep", path), folder, words, "None of the 8 configurations that were tried can be built")
    refused(invact("cost", path), folder, words)
    refused(invact("latency", path), folder, words)
    unsaved = write(config=f"model = '{users}:unsaved'")
    refused(invact("sweep", unsaved), folder, "tiny.toml: model", "layer 'half' cannot be saved")
    for name, reason in (
        ("fails_for_inverse", "RuntimeError: images"),
        ("unsaved", "layer 'half'"),
    ):
        (folder / "bad.toml").write_text(claim_text(f"model = '{users}:{name}'"))
        for options in ((), ("--plan",)):
            answer = invact("claim", "bad.toml", *options)
            assert (answer.code, answer.out) == (2, ""), answer
            last = answer.err.splitlines()[-1]
            assert last.startswith(f"invact: bad.toml: model '{users}:{name}': {reason}")
            assert not (folder / "mlruns").exists()


def test_what_a_builder_prints_is_not_in_the_document(invact, folder, write, users, stand_in) -> None:
    path = write(config=f"model = '{users}:net'")
    swept = invact("sweep", path, "--trials", 1, "--json")
    assert swept.code == 0, swept.err
    assert json.loads(swept.out)["failed"] == 0
    assert "building 2\n" in swept.err
    (folder / "c.toml").write_text(claim_text(f"model = '{users}:net'"))
    planned = invact("claim", "c.toml", "--plan", "--json")
    assert json.loads(planned.out)["data_sets"]
    assert "building" in planned.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cost", "m.h5"], ["m.h5: not a .keras file"]),
        (["latency", "m.tflite"], ["m.tflite: not a .keras file"]),
        (["cost", "digits", "--import", "no_such_module"], ["--import: cannot import 'no_such_module'"]),
        (["latency", "digits", "--import", "no_such_module"], ["--import: cannot import 'no_such_module'"]),
        (["sweep", "digitz"], ["did you mean 'digits'?"]),
        (["sweep", "digits", "--set", "trials"], ["--set: received 'trials'. Allowed: KEY=VALUE"]),
        (["sweep", "digits", "--set", "=3"], ["--set: received '=3'"]),
        (["sweep", "digits", "--set", "config..x=3"], ["--set"]),
        (["sweep", "digits", "--set", "trials.x=3"], ["'trials' is not a table"]),
        (["sweep", "digits", "--set", "config.epochs=[1,"], ["epochs: received '[1,'"]),
        (["sweep", "digits", "--trials", "0"], ["invact: --trials: received 0"]),
        (["sweep", "digits", "--epochs", "0"], ["invact: --epochs: received 0"]),
        (
            ["sweep", "digits", "--max-macs", "200q"],
            ["invact: --max-macs: received '200q'. Allowed: a whole"],
        ),
        (
            ["sweep", "digits", "--set", "config.lr=0.1"],
            ["--set config.lr: unknown", "mean 'learning_rate'?"],
        ),
        (
            ["sweep", "digits", "--set", "config.learning_rate=nan"],
            ["--set config.learning_rate: received nan"],
        ),
        (["sweep", "digits", "--set", "config={epochs = 0}"], ["invact: --set config.epochs: received 0"]),
        (["sweep", "digits", "--set", "data=mnits"], ["did you mean 'mnist'?"]),
        (
            ["sweep", "digits", "--set", "recipe=mnist_fats"],
            ["invact: --set recipe: received 'mnist_fats'; did you mean 'mnist_fast'?"],
        ),
        (["claim", "digits_claim", "--margin", "0.005"], ["--margin: received 0.005, points or fraction?"]),
        (["claim", "digits_claim", "--epochs", "0"], ["invact: --epochs: received 0"]),
        (["front", "digits", "--format", "cvs"], ["--format: received 'cvs'; did you mean 'csv'?"]),
        (["front", "digits", "--margin", "0.005"], ["margin: received 0.005, points or fraction?"]),
        (["sweep", "digits", "--max-macs", "-1"], ["invact: --max-macs: received -1. Allowed"]),
        (["sweep", "digits", "--driver", "optnua"], ["did you mean 'optuna'?"]),
        (
            ["sweep", "digits", "--driver", "optuna", "--sampler", "hyperband"],
            ["--sampler: received", "a sampler of keras_tuner", "tpe"],
        ),
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
        (["sweep", "digits", "--max-params", "0"], ["--max-params: received 0"]),
        (["sweep", "digits", "--max-activation-bytes", "1"], ["smallest network", "bytes of activations"]),
        (["sweep", "digits", "--max-bytes-moved", "1"], ["smallest network", "bytes moved"]),
        (["sweep", "digits", "--max-latency-ms", "-1"], ["--max-latency-ms: received -1.0"]),
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
