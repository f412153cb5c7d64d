import importlib
import io
import json
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from invact.cli.catalogue import costs_of, networks_of
from invact.cli.cost import cost as cost_command
from invact.cli.cost import cost_csv, cost_tables, cost_values
from invact.cli.list import inventory, inventory_tables
from invact.cli.main import app
from invact.config import Config
from invact.cost.count import LayerCost, count_macs
from invact.data.dataset import Dataset
from invact.errors import EnvironmentFault, InputError
from invact.files import shipped
from invact.layers import InverseActivation
from invact.networks.build import build_model
from invact.tracking.store import open_store

# Keras 3.15 converts a TensorFlow variable in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CLAIM = """
data = "digits"
ratios = [0.75, 0.5]
margin = 1.0
config = { filters = 8, depth = 1 }
"""


@keras.saving.register_keras_serializable("invact_tests")
class Shift(keras.Layer):
    def build(self, input_shape):
        self.shift = self.add_weight(shape=(input_shape[-1],))

    def call(self, inputs):
        return inputs + self.shift


def written(folder: Path, text: str, name: str = "f.toml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_configuration_gives_its_network(folder: Path, digits: Dataset) -> None:
    path = written(folder, 'data = "digits"\nactivation = "inverse"\nfilters = 3\ndepth = 1\n')
    (cost,) = costs_of(path).values()
    # The convolution has 8x8 positions, 3x3 kernels and 3 filters. The dense layer has 4x4 positions,
    # 6 channels and 10 classes.
    assert cost.macs == 64 * 9 * 3 + 16 * 6 * 10
    assert cost.params == 3 * 10 + (16 * 6 + 1) * 10
    assert cost == count_macs(
        build_model(
            Config(activation="inverse", filters=3, depth=1), digits.input_shape, 10, digits.pixel_range
        )
    )


def test_a_claim_gives_the_network_of_each_arm(folder: Path) -> None:
    costs = costs_of(written(folder, CLAIM))
    control, more, less = (
        next(cost for name, cost in costs.items() if name.startswith(arm))
        for arm in ("control", "treatment 0.75", "treatment 0.5")
    )
    assert control.macs > less.macs == 64 * 9 * 4 + 16 * 8 * 10
    assert more.macs == 64 * 9 * 6 + 16 * 12 * 10


def test_a_claim_may_have_an_arm_for_each_stage(folder: Path) -> None:
    text = CLAIM.replace("depth = 1", "depth = 2") + 'also = ["abs", ["relu", "inverse"]]'
    costs = costs_of(written(folder, f'treatment = ["inverse", "relu"]{text}'))
    assert [name for name in costs if "0.5" in name and "matched" not in name] == [
        "treatment 0.5: inverse/relu, 4 filters",
        "placebo 0.5: relu, 4 filters",
        "abs 0.5: abs, 4 filters",
        "relu/inverse 0.5: relu/inverse, 4 filters",
    ]
    first, second = 64 * 9 * 4, 16 * 9 * 4 * 8
    assert costs["treatment 0.5: inverse/relu, 4 filters"].macs == first + 2 * second + 4 * 8 * 10
    assert costs["relu/inverse 0.5: relu/inverse, 4 filters"].macs == first + second + 4 * 16 * 10


def test_a_sweep_gives_its_enqueued_networks_or_its_smallest(write) -> None:
    (smallest,) = costs_of(str(write())).values()
    assert smallest.macs == 64 * 9 * 2 + 16 * 2 * 10
    more = "enqueue = [{activation = 'relu', filters = 3}, {activation = 'inverse', filters = 5}]"
    macs = [cost.macs for cost in costs_of(str(write(more=more))).values()]
    assert macs == [64 * 9 * 3 + 16 * 3 * 10, 64 * 9 * 5 + 16 * 10 * 10]


@pytest.mark.parametrize("name", ["digits", "digits_claim"])
def test_shipped_names_are_accepted(name: str) -> None:
    assert all(cost.macs > 0 for cost in costs_of(name).values())


def test_open_dimensions_of_a_saved_model_are_given(folder: Path) -> None:
    inputs = keras.Input((None, None, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))
    keras.Model(inputs, x, name="open").save(folder / "m.keras")
    path = str(folder / "m.keras")
    (cost,) = costs_of(path, ["10,8,3"]).values()
    assert cost.macs == 8 * 6 * 27 * 4
    for shapes in (None, ["10,8"], ["10,8,3", "3"], ["10,x,3"], ["10,-8,3"], [""]):
        with pytest.raises(InputError, match="input_shape: received") as error:
            costs_of(path, shapes)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"Allowed: only with a \.keras model"):
        costs_of("digits", ["10,8,3"])


def test_a_saved_model_has_the_costs_of_the_built_one(folder: Path, digits: Dataset) -> None:
    model = build_model(Config(activation="inverse", filters=3), digits.input_shape, 10, digits.pixel_range)
    model.save(folder / "m.keras")
    assert costs_of(str(folder / "m.keras"))["m.keras"].macs == count_macs(model).macs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("filters = 3\n", "data: missing key. Allowed: digits, mnist"),
        ('data = "digit"\n', "did you mean 'digits'?"),
        ('data = "digits"\nfilter = 3\n', "filter: unknown key, received 'filter'; did you mean 'filters'?"),
        ("data = 3\n", "data: received 3"),
        ('data = "digits"\nmodel = "no_such:build"\n', "no_such"),
        ("data = \n", "not TOML"),
        ("", "data: missing key"),
        ('space = "space.toml"\n', "data: missing key"),
        ('data = "digits"\nratios = 3\n', "ratios: received 3"),
    ],
)
def test_a_file_without_a_network_is_an_error_of_one_line(folder: Path, text: str, words: str) -> None:
    with pytest.raises(InputError) as error:
        costs_of(written(folder, text))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_data_of_a_configuration_are_relative_to_its_file(folder: Path, digits: Dataset, monkeypatch) -> None:
    (folder / "here").mkdir()
    arrays = {"x_train": digits.x_train, "y_train": digits.y_train}
    np.savez(folder / "here" / "my.npz", **arrays, x_test=digits.x_test, y_test=digits.y_test)
    path = written(folder / "here", 'data = "my.npz"\nfilters = 3\n')
    assert costs_of(path)["f"].macs > 0


def lambda_model(path: Path) -> None:
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2)(inputs)).save(path)


@pytest.mark.parametrize("kind", ["garbage", "empty", "torn", "lambda", "folder"])
def test_a_model_that_cannot_be_read_safely_is_an_error_of_one_line(
    folder: Path, digits: Dataset, kind: str
) -> None:
    path = folder / "m.keras"
    if kind == "garbage":
        path.write_bytes(b"PK\x03\x04 nothing of the kind")
    elif kind == "empty":
        path.touch()
    elif kind == "torn":
        build_model(Config(filters=2), digits.input_shape, 10).save(path)
        path.write_bytes(path.read_bytes()[:-400])
    elif kind == "lambda":
        lambda_model(path)
    else:
        path.mkdir()
    with pytest.raises(InputError) as error:
        costs_of(str(path))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"PK\x03\x04 nothing", "a damaged .keras file, not complete"),
        (b"\x89HDF\r\n\x1a\n....", "an HDF5 file"),
        (b"....TFL3....", "a LiteRT file"),
        (b"anything else", "not a .keras file"),
    ],
)
def test_a_file_that_is_no_archive_is_named_for_what_it_is(folder: Path, content: bytes, words: str) -> None:
    (folder / "m.keras").write_bytes(content)
    with pytest.raises(InputError, match=rf"^m\.keras: {words}\. Allowed: a \.keras file"):
        costs_of("m.keras")


@pytest.mark.parametrize("name", ["m.h5", "m.tflite", "m.onnx", "here/m.h5"])
def test_a_model_of_another_format_is_no_sweep(folder: Path, name: str) -> None:
    (folder / "here").mkdir()
    (folder / name).write_bytes(b"some bytes")
    with pytest.raises(
        InputError, match=rf"^{name}: not a \.keras file\. Allowed: a TOML file, or a \.keras"
    ):
        costs_of(name)


MODULE = """
import keras

@keras.saving.register_keras_serializable("users_imported")
class Twice(keras.Layer):
    def call(self, x):
        return 2 * x

def build(config, input_shape, classes, twice=Twice):
    print("building")
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.Flatten()(twice()(inputs))))

def unsaved(config, input_shape, classes):
    return build(config, input_shape, classes, lambda: keras.layers.Lambda(lambda x: 2 * x, name="twice"))
"""


@pytest.fixture
def users_imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "users_imported"
    (folder / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_the_module_of_a_model_is_imported_first(folder: Path, users_imported: str) -> None:
    module = importlib.import_module(users_imported)
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Dense(2)(module.Twice()(inputs))).save(folder / "m.keras")
    del sys.modules[users_imported], keras.saving.get_custom_objects()["users_imported>Twice"]
    with pytest.raises(InputError, match="Could not locate class 'Twice'"):
        costs_of("m.keras")
    assert costs_of("m.keras", imports=[users_imported])["m.keras"].macs == 8
    assert networks_of("m.keras", [users_imported]).imports == (users_imported,)
    with pytest.raises(InputError, match=r"^--import: cannot import 'no_such_module': ModuleNotFoundError"):
        costs_of("m.keras", imports=["no_such_module"])


def test_a_network_that_cannot_be_saved_is_counted_and_reported(folder: Path, users_imported: str) -> None:
    path = written(folder, f'data = "digits"\nmodel = "{users_imported}:unsaved"\n')
    notes: list[str] = []
    assert costs_of(path, note=notes.append)["f"].macs == 640
    (note,) = notes
    assert "f: a sweep or a claim refuses this network: layer 'twice' cannot be saved" in note
    good = written(folder, f'data = "digits"\nmodel = "{users_imported}:build"\n', "good.toml")
    assert costs_of(good, note=notes.append)["good"].macs == 640
    assert notes == [note]
    assert networks_of(good).imports == (users_imported,)


def test_what_a_builder_prints_is_not_in_the_document(folder: Path, users_imported: str, capfd) -> None:
    path = written(folder, f'data = "digits"\nmodel = "{users_imported}:build"\n')
    cost_command(path, as_json=True)
    shown = capfd.readouterr()
    assert json.loads(shown.out)["networks"][0]["macs"] == 640
    assert shown.err.splitlines() == ["building"] * shown.err.count("\n") != []


def test_a_model_from_elsewhere_runs_no_code(folder: Path) -> None:
    inputs = keras.Input((4,))
    harm = folder / "harm"

    def act(x):
        harm.touch()
        return x

    keras.Model(inputs, keras.layers.Lambda(act)(inputs)).save(folder / "m.keras")
    harm.unlink()
    with pytest.raises(InputError, match=r"not a \.keras model that can be read safely"):
        costs_of(str(folder / "m.keras"))
    assert not harm.exists()


def test_json_and_tables_show_the_same_costs(folder: Path) -> None:
    from rich.console import Console

    costs = costs_of(written(folder, CLAIM))
    values = json.loads(json.dumps(cost_values(costs), allow_nan=False))
    for network, cost in zip(values["networks"], costs.values(), strict=True):
        for key in ("macs", "params", "filters", "elementwise", "bytes_written", "relu_macs"):
            assert network[key] == getattr(cost, key) == sum(layer[key] for layer in network["layers"])
        outputs = sum(layer["output_filters"] for layer in network["layers"])
        assert network["hidden_filters"] == cost.hidden_filters == cost.filters - outputs == cost.filters - 10
        assert network["activation_bytes"] == max(each["activation_bytes"] for each in network["layers"])
        assert network["saved"] == pytest.approx(1 - cost.macs / cost.relu_macs)
    console = Console(width=200)
    with console.capture() as shown:
        for table in cost_tables(costs):
            console.print(table)
    for cost in costs.values():
        for number in (cost.macs, cost.bytes_written, cost.activation_bytes):
            assert f"{number:,}" in shown.get()
    treated = [cost for cost in costs.values() if cost.saved]
    for cost in treated:
        assert f"saves {cost.saved:.1%} of the {cost.relu_macs:,} MACs" in shown.get()
    assert 0 < shown.get().count("saves") == len(treated) < len(costs)


def test_costs_are_csv_with_a_row_for_each_layer(folder: Path) -> None:
    costs = costs_of(written(folder, CLAIM))
    table = pd.read_csv(io.StringIO(cost_csv(costs)))
    assert list(table.columns) == ["network", *LayerCost.__annotations__]
    assert list(table["network"].unique()) == list(costs)
    for name, rows in table.groupby("network"):
        assert (rows["macs"].sum(), rows["params"].sum()) == (costs[name].macs, costs[name].params)
        assert rows["activation_bytes"].max() == costs[name].activation_bytes
        assert rows["relu_macs"].dtype.kind == "i"


def test_the_command_prints_one_format(folder: Path) -> None:
    path = written(folder, 'data = "digits"\nfilters = 3\n')
    shown = CliRunner().invoke(app, ["cost", path, "--csv"])
    assert shown.stdout == cost_csv(costs_of(path))
    both = CliRunner().invoke(app, ["cost", path, "--csv", "--json"])
    assert isinstance(both.exception, InputError)
    assert str(both.exception) == "--csv: received --json too. Allowed: only one of them"


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built:UserWarning")
def test_an_unbuilt_model_is_an_error_of_one_line(folder: Path) -> None:
    keras.Sequential([keras.layers.Dense(3)], name="unbuilt").save(folder / "m.keras")
    with pytest.raises(InputError, match=r"m\.keras: model 'unbuilt': not built, .*Allowed") as error:
        costs_of(str(folder / "m.keras"))
    assert "\n" not in str(error.value)


def test_a_layer_with_weights_and_no_rule_is_an_error_of_one_line(folder: Path) -> None:
    inputs = keras.Input((4,))
    keras.Model(inputs, Shift(name="shift")(inputs)).save(folder / "m.keras")
    with pytest.raises(InputError, match=r"m\.keras: layer 'shift': no rule .*register_macs\(Shift, rule\)"):
        costs_of(str(folder / "m.keras"))


def test_a_network_without_a_relu_counterpart_is_reported(folder: Path) -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, InverseActivation()(inputs))
    costs = {"bare": count_macs(model)}
    assert json.loads(json.dumps(cost_values(costs), allow_nan=False))["networks"][0]["saved"] is None
    assert pd.read_csv(io.StringIO(cost_csv(costs)))["relu_macs"].isna().all()
    assert "no ReLU network" in str(cost_tables(costs)[0].caption)


def test_an_inventory_has_every_shipped_file_and_creates_no_store(folder: Path) -> None:
    found = inventory(folder / "none")
    names = {each["name"] for kind in ("sweeps", "claims") for each in found[kind]}
    assert names == set(shipped("sweeps"))
    assert {each["name"] for each in found["search_spaces"]} == set(shipped("search_spaces"))
    assert {each["name"] for each in found["recipes"]} == set(shipped("recipe"))
    kinds = ("sweeps", "claims", "search_spaces", "recipes")
    assert all(each["about"] for kind in kinds for each in found[kind])
    assert {"relu", "inverse"} <= {each["name"] for each in found["arms"]}
    assert not (folder / "none").exists()
    titles = [table.title for table in inventory_tables(found)]
    assert titles == ["sweeps", "claims", "search spaces", "recipes", "arms", "data"]


def test_an_inventory_shows_the_state_of_each_sweep(folder: Path, quick_stores: None) -> None:
    store = open_store(folder / "s")
    for name in ("digits", "my_own"):
        store.record(name, "sweep", "1", driver="optuna").close("KILLED")
    found = inventory(folder / "s")
    (digits,) = [each for each in found["sweeps"] if each["name"] == "digits"]
    assert [(one["driver"], one["status"]) for one in digits["records"]] == [("optuna", "KILLED")]
    assert [each["name"] for each in found["others"]] == ["my_own"]
    json.dumps(found, allow_nan=False)


def test_a_damaged_store_is_an_environment_fault(folder: Path) -> None:
    (folder / "s").mkdir()
    (folder / "s" / "mlflow.db").write_bytes(b"not a database" * 100)
    with pytest.raises(EnvironmentFault) as fault:
        inventory(folder / "s")
    assert "\n" not in str(fault.value)
