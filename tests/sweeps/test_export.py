import importlib.util
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
import scipy.special
import warm

from invact._version import __version__
from invact.config import Config
from invact.data.dataset import Dataset
from invact.deploy import formats as formats_module
from invact.deploy.formats import FORMATS
from invact.deploy.runtimes import RUNTIMES
from invact.deploy.sidecar import flat, pixel_range, presented
from invact.errors import EnvironmentFault, InputError
from invact.execution.workers.engine import Engine
from invact.files import install
from invact.networks.archives import pack, unpack
from invact.sweeps import export as export_module
from invact.sweeps.export import Exported, export_archive, export_point
from invact.sweeps.file import load_sweep
from invact.sweeps.run import SweepResult, run_sweep
from invact.tracking.record import Record
from invact.tracking.store import open_store

# Keras 3.15 converts a TensorFlow variable in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SWEEP = """
space = "./space.toml"
data = "digits"
trials = 2
seeds = [0, 1]
enqueue = [{ activation = "relu", filters = 2 }, { activation = "inverse", filters = 8 }]
[config]
depth = 1
epochs = 4
batch_size = 32
learning_rate = 1e-2
"""
SPACE = '[parameters]\nactivation = { choices = ["relu", "inverse"] }\nfilters = { low = 2, high = 8 }\n'
USERS_SPACE = (
    '[parameters]\nmodel = "users:halved"\nactivation = "inverse"\nfilters = { low = 6, high = 7 }\n'
)


@pytest.fixture(scope="session")
def swept(tmp_path_factory, empty_store, cluster) -> tuple[Path, SweepResult]:
    """A store with one sweep, and the result of the sweep. Its front has two points."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "space.toml").write_text(SPACE)
    (folder / "tiny.toml").write_text(SWEEP)
    store = folder / "mlruns"
    store.mkdir()
    shutil.copy(empty_store, store)
    result = run_sweep(load_sweep(folder / "tiny.toml"), store=store, scheduler=cluster, show=False)
    assert len(result.front.points) == 2
    return store, result


def network(swept: tuple[Path, SweepResult], point: int):
    """Load the network of a point from the record."""
    store, result = swept
    record = open_store(store).latest("tiny", "sweep")
    return unpack(record.model(result.front.points[point - 1].run_id))


def facts(path: Path) -> dict:
    """Read the sidecar of an exported file."""
    return json.loads(path.with_name(f"{path.name}.json").read_text())


def said(path: Path, images: np.ndarray) -> np.ndarray:
    """Compute the outputs of a file with its own library only, by the names in its sidecar."""
    about = facts(path)
    feed, fetch = about["input"]["name"], about["output"]["name"]
    images = images.astype(about["input"]["dtype"])
    if about["format"] == "keras":
        model = keras.saving.load_model(path)
        assert (model.inputs[0].name, model.output_names) == (feed, [fetch])
        return model(images).numpy()
    if about["format"] == "litert":
        from ai_edge_litert.interpreter import Interpreter

        run = Interpreter(model_path=str(path)).get_signature_runner("serving_default")
        return run(**{feed: images})[fetch]
    if about["format"] == "onnx":
        import onnxruntime

        return onnxruntime.InferenceSession(path).run([fetch], {feed: images})[0]
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    return loaded.signatures["serving_default"](**{feed: tf.constant(images)})[fetch].numpy()


def understood(path: Path, images: np.ndarray, axes: tuple[str, ...], low: float, high: float) -> np.ndarray:
    """Return the class names that a file gives to somebody else's images, by its sidecar alone."""
    about = facts(path)
    wanted = about["input"]
    images = images.transpose([axes.index(axis) for axis in wanted["layout"]])
    assert images.shape[1:] == tuple(wanted["shape"][1:])
    scaled = (images - low) / (high - low) * (wanted["high"] - wanted["low"]) + wanted["low"]
    outputs = said(path, scaled)
    if about["output"]["kind"] == "probabilities":
        np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=0.02)
    return np.array(about["output"]["classes"])[outputs.argmax(axis=1)]


@pytest.mark.parametrize("point", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_every_format_has_the_outputs_of_the_network(swept, digits, tmp_path, point, capfd) -> None:
    store, result = swept
    exports = export_point("tiny", point, formats=FORMATS, folder=tmp_path / "new" / "out", store=store)
    out, err = capfd.readouterr()
    assert out == ""
    assert [line.split(": converting")[0] for line in err.splitlines()] == [one.path.name for one in exports]
    stem = f"tiny-point{point}"
    assert [one.path.name for one in exports] == [f"{stem}{each.suffix}" for each in FORMATS.values()]
    names = {one.path.name for one in exports} | {f"{one.path.name}.json" for one in exports}
    assert {each.name for each in (tmp_path / "new" / "out").iterdir()} == names
    expected = network(swept, point)(digits.x_test.astype(np.float32)).numpy()
    run_id = result.front.points[point - 1].run_id
    (recorded,) = result.table.loc[result.table["run_id"] == run_id, "test_accuracy"]
    theirs = (digits.x_test / 16).transpose(0, 3, 1, 2)
    for one in exports:
        logits = said(one.path, digits.x_test)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
        names = understood(one.path, theirs, ("images", "channels", "height", "width"), 0, 1)
        assert np.mean(names == digits.y_test.astype(str)) == one.accuracy
        # Without the range of the sidecar, the same pixels would be read as black.
        assert np.mean(said(one.path, digits.x_test / 16).argmax(axis=1) == digits.y_test) < 0.5
        assert one.max_difference == pytest.approx(np.abs(logits - expected).max(), abs=1e-5)
        assert one.accuracy == np.mean(logits.argmax(axis=1) == digits.y_test) == recorded
        assert (one.agreement, one.original_accuracy, one.precision) == (1, recorded, "float32")
        files = one.path.rglob("*") if one.path.is_dir() else [one.path]
        assert one.bytes == sum(len(file.read_bytes()) for file in files if file.is_file())


def test_int8_reports_its_loss(swept, digits, tmp_path) -> None:
    options = {"formats": ("litert", "onnx"), "folder": tmp_path, "store": swept[0], "show": False}
    exports = export_point("tiny", 2, precision="int8", **options)
    assert [one.path.name for one in exports] == ["tiny-point2-int8.tflite", "tiny-point2-int8.onnx"]
    expected = network(swept, 2)(digits.x_test.astype(np.float32)).numpy()
    for one in exports:
        logits = said(one.path, digits.x_test)
        assert one.accuracy == np.mean(logits.argmax(axis=1) == digits.y_test)
        assert one.agreement == np.mean(logits.argmax(axis=1) == expected.argmax(axis=1)) > 0.9
        assert one.max_difference == pytest.approx(np.abs(logits - expected).max(), rel=1e-4)
        # A float32 file differs by at most 1e-4, see the test above.
        assert one.max_difference > 100 * 1e-4
        assert one.original_accuracy == np.mean(expected.argmax(axis=1) == digits.y_test)
        theirs = 255 - digits.x_test[..., 0, np.newaxis] * (255 / 16)
        names = understood(one.path, theirs, ("images", "height", "width", "channels"), 255, 0)
        assert np.mean(names == digits.y_test.astype(str)) == one.accuracy == facts(one.path)["test_accuracy"]


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_probabilities_are_the_softmax_of_the_logits(swept, digits, tmp_path, precision) -> None:
    formats = [name for name, each in FORMATS.items() if precision in RUNTIMES[each.runtime]]
    options = {"formats": formats, "folder": tmp_path, "store": swept[0], "show": False}
    logits = network(swept, 2)(digits.x_test.astype(np.float32)).numpy()
    expected = scipy.special.softmax(logits, axis=1)
    for one in export_point("tiny", 2, precision=precision, softmax=True, **options):
        assert one.path.name.removeprefix("tiny-point2").startswith(("-softmax", "-int8-softmax", "_"))
        found = said(one.path, digits.x_test)
        tolerance = 1e-5 if precision == "float32" else one.max_difference + 1e-6
        np.testing.assert_allclose(found, expected, atol=tolerance)
        assert one.max_difference == pytest.approx(np.abs(found - expected).max(), abs=1e-5)
        assert facts(one.path)["output"] | {"classes": 0} == {
            "name": "probabilities",
            "kind": "probabilities",
            "dtype": "float32",
            "shape": [None, 10],
            "classes": 0,
        }


def test_the_sidecar_says_what_the_record_says(swept, digits, tmp_path) -> None:
    store, result = swept
    (one,) = export_point("tiny", 1, formats=["onnx"], folder=tmp_path, store=store, show=False)
    found, point = facts(one.path), result.front.points[0]
    (run,) = result.table[result.table["run_id"] == point.run_id].to_dict("records")
    assert one.sidecar == tmp_path / "tiny-point1.onnx.json"
    assert found["input"] == {
        "name": "image",
        "dtype": "float32",
        "shape": [None, 8, 8, 1],
        "seen": [0, 16],
        "layout": ["images", "height", "width", "channels"],
        "low": 0,
        "high": 16,
        "scaling": "inside: the file takes pixels from 0 to 16 and scales them itself",
    }
    assert found["output"]["name"] == "logits"
    assert found["output"]["classes"] == [str(digit) for digit in range(10)]
    for key in ("macs", "params", "validation_accuracy", "config", "seed", "run_id", "label"):
        assert found[key] == run[key], key
    assert found["test_accuracy"] == found["recorded_test_accuracy"] == run["test_accuracy"]
    assert Config(**found["configuration"]).digest() == found["config"]
    assert (found["sweep"], found["point"], found["invact"]) == ("tiny", 1, __version__)
    assert found["data"] == {"name": "digits", "digest": digits.digest}
    inside = {each.key: each.value for each in onnx.load(one.path).metadata_props}
    measured = found.pop("test_accuracy")
    assert inside == flat(found)
    assert inside["recorded_test_accuracy"] == str(measured)
    assert (inside["input.high"], inside["output.kind"], inside["run_id"]) == ("16.0", "logits", point.run_id)


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("names", [("image", "logits"), ("logits", "last"), ("probabilities", "logits")])
def test_a_layer_of_a_user_may_have_the_name_of_an_input_or_output(names, softmax) -> None:
    pixels = keras.Input((4,), name="pixels")
    model = keras.Model(
        pixels, keras.layers.Dense(3, name=names[1])(keras.layers.Dense(2, name=names[0])(pixels))
    )
    shown = presented(model, softmax=softmax)
    values = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    expected = model(values).numpy()
    if softmax:
        expected = scipy.special.softmax(expected, axis=1)
    np.testing.assert_allclose(shown(values).numpy(), expected, rtol=1e-5)
    assert (shown.inputs[0].name, shown.output_names) == ("image", ["probabilities" if softmax else "logits"])


@pytest.mark.parametrize(("low", "high"), [(0.0, 255.0), (-2.1179, 2.64), (-1.0, 1.0), (0.0, 16.0)])
def test_the_range_of_the_pixels_is_read_from_the_network(digits, low, high) -> None:
    image = keras.Input((8, 8, 1))
    width = high - low
    scale = keras.layers.Rescaling(2 / width, offset=-(high + low) / width, name="scale")
    assert pixel_range(keras.Model(image, scale(image)), digits) == pytest.approx((low, high), rel=1e-8)
    np.testing.assert_allclose(scale(np.array([low, high])).numpy(), [-1, 1], atol=1e-6)
    assert pixel_range(keras.Model(image, keras.layers.Flatten()(image)), digits) == (0.0, 16.0)


def test_int8_is_calibrated_with_training_images_only(swept, tmp_path, digits, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(
        formats_module,
        "convert",
        lambda model, runtime, precision, calibration: seen.append(calibration) or b"nothing",
    )
    with pytest.raises(InputError, match="artifact: litert cannot load it"):
        export_point("tiny", 1, precision="int8", folder=tmp_path, store=swept[0], show=False)
    (images,) = seen
    np.testing.assert_array_equal(images, digits.x_train[:200])


def test_an_existing_file_is_replaced_or_stays_complete(swept, tmp_path, monkeypatch) -> None:
    options = {"formats": ("litert", "saved_model"), "folder": tmp_path, "store": swept[0], "show": False}
    file, saved = tmp_path / "tiny-point1.tflite", tmp_path / "tiny-point1_saved_model"
    saved.mkdir()
    for stale in (file, tmp_path / f"{file.name}.json", saved / "stale", tmp_path / f"{saved.name}.json"):
        stale.write_text("stale")
    first = export_point("tiny", 1, **options)
    assert [one.path for one in first] == [file, saved]
    assert not (saved / "stale").exists()
    assert [facts(one.path)["format"] for one in first] == ["litert", "saved_model"]
    kept = file.read_bytes()
    assert kept != b"stale"
    other = network(swept, 2)
    convert = formats_module.convert
    monkeypatch.setattr(formats_module, "convert", lambda model, *rest, **more: convert(other, *rest, **more))
    with pytest.raises(EnvironmentFault) as fault:
        export_point("tiny", 1, **options)
    words = f"{first[0].path}: not written, because its logits differ by up to "
    assert str(fault.value).startswith(words)
    assert "\n" not in str(fault.value)
    assert first[0].path.read_bytes() == kept
    names = {name for one in first for name in (one.path.name, one.sidecar.name)}
    assert {each.name for each in tmp_path.iterdir()} == names


def odd_model(digits: Dataset, last: object):
    image = keras.Input(digits.input_shape)
    return keras.Model(image, last(keras.layers.Flatten()(image)))


def test_a_file_of_another_network_is_refused(digits, tmp_path, monkeypatch) -> None:
    dense = keras.layers.Dense
    archive = pack(odd_model(digits, dense(10)))
    convert = formats_module.convert
    for last, words in (
        (dense(9), r"its outputs have shape \(450, 9\)\. Allowed: \(450, 10\)"),
        (dense(10, bias_initializer=keras.initializers.Constant(np.nan)), "differ by up to nan"),
    ):
        other = odd_model(digits, last)
        monkeypatch.setattr(
            formats_module, "convert", lambda model, *rest, other=other, **more: convert(other, *rest, **more)
        )
        with pytest.raises(EnvironmentFault, match=words):
            export_archive(archive, digits, "odd", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_differs_from_the_record_is_refused(swept, tmp_path, monkeypatch) -> None:
    store, result = swept
    read = Record.model
    second = result.front.points[1].run_id
    monkeypatch.setattr(Record, "model", lambda record, run_id: read(record, second))
    with pytest.raises(
        EnvironmentFault,
        match=r"tiny-point1: the network has a test accuracy of .*% on this machine\. Allowed",
    ):
        export_point("tiny", 1, folder=tmp_path / "out", store=store, show=False)
    assert not (tmp_path / "out").exists()


def test_the_files_of_two_drivers_have_different_names(swept, tmp_path) -> None:
    (one,) = export_point(
        "tiny", 1, formats=["keras"], folder=tmp_path, driver="optuna", store=swept[0], show=False
    )
    assert one.path == tmp_path / "tiny-optuna-point1.keras"


def test_a_network_that_is_not_stored_is_trained_again_to_the_bit(
    swept, cluster, tmp_path, monkeypatch, capsys
) -> None:
    expected = [variable.numpy() for variable in network(swept, 2).weights]
    monkeypatch.setattr("invact.tracking.reader.MODEL", "gone.keras")
    monkeypatch.setattr(
        "invact.execution.workers.engine.Engine", lambda *where, **_: Engine(*where, scheduler=cluster)
    )
    export_point("tiny", 2, formats=["keras"], folder=tmp_path, store=swept[0])
    assert "seed 0: its network is not stored, so it is trained again" in capsys.readouterr().err
    again = keras.saving.load_model(tmp_path / "tiny-point2.keras")
    for one, other in zip(expected, again.weights, strict=True):
        np.testing.assert_array_equal(one, other.numpy())


def test_a_network_that_cannot_be_repeated_is_refused(swept, tmp_path, monkeypatch, stand_in) -> None:
    monkeypatch.setattr("invact.tracking.reader.MODEL", "gone.keras")
    with pytest.raises(
        EnvironmentFault, match=r"trained again, the network has 9.*Allowed: the numbers of the"
    ):
        export_point("tiny", 2, folder=tmp_path / "out", store=swept[0], show=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (
            2,
            ["tiny"],
            "point: received None. Allowed: 1 to 2, by increasing cost, in the order of `invact front tiny`",
        ),
        (2, ["tiny", "--point", 0], "point: received 0. Allowed: 1 to 2"),
        (2, ["tiny", "--point", 3], "point: received 3. Allowed: 1 to 2"),
        (2, ["tiny", "--point", 1, "--format", "litert,onx"], "format: received 'onx'; did you mean 'onnx'?"),
        (2, ["tiny", "--point", 1, "--format", ""], "format: received ''. Allowed: keras, litert, onnx"),
        (2, ["tiny", "--point", 1, "--precision", "int4"], "precision of litert: received 'int4'"),
        (
            2,
            ["tiny", "--point", 1, "--format", "saved_model", "--precision", "int8"],
            "precision of saved_model: received 'int8'. Allowed: float32",
        ),
        (2, ["tinny", "--point", 1], "did you mean 'tiny'?"),
        (2, ["tiny", "--point", 1, "--driver", "keras_tuner"], "keras_tuner"),
        (3, ["tiny", "--point", 1, "-o", "file"], "file: cannot be written"),
        (3, ["tiny", "--point", 1, "-o", "/proc/no"], "/proc/no: cannot be written"),
    ],
)
def test_bad_input_is_an_error_of_one_line(invact, swept, folder, code, arguments, words) -> None:
    (folder / "file").touch()
    answer = invact("export", *arguments, "--store", swept[0])
    assert (answer.code, answer.err.count("\n"), answer.out) == (code, 1, ""), answer
    assert words in answer.err
    assert [each.name for each in folder.iterdir()] == ["file"]


def test_a_missing_extra_gives_exit_code_3_and_is_named(invact, swept, folder, monkeypatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "tf2onnx" else find(name, *rest)
    )
    answer = invact("export", "tiny", "--point", 1, "--format", "keras,onnx", "--store", swept[0])
    assert (answer.code, answer.err) == (3, f"invact: onnx needs tf2onnx: {install('onnx')}\n")
    assert list(folder.iterdir()) == []


def test_the_command_prints_json_or_a_table(invact, swept, folder, monkeypatch) -> None:
    arguments = ["export", "tiny", "--point", 2, "-o", "out", "--store", swept[0]]
    answer = invact(*arguments, "--format", "keras, litert", "--json")
    assert answer.code == 0, answer.err
    values = json.loads(answer.out)
    assert values["name"] == "tiny"
    assert [(one["format"], one["path"]) for one in values["exports"]] == [
        ("keras", "out/tiny-point2.keras"),
        ("litert", "out/tiny-point2.tflite"),
    ]
    assert all(set(one) == set(Exported.__annotations__) for one in values["exports"])
    assert (folder / "out" / "tiny-point2.tflite").stat().st_size == values["exports"][1]["bytes"]
    known = tuple(
        Exported(**one | {key: Path(one[key]) for key in ("path", "sidecar")}) for one in values["exports"]
    )
    monkeypatch.setattr(export_module, "export_point", lambda *names, **options: known)
    plain = invact(*arguments)
    for one in known:
        for shown in (str(one.path), f"{one.bytes:,}", f"{one.accuracy:.2%}", f"{one.max_difference:.2g}"):
            assert shown in plain.out


def test_layers_of_a_users_module_are_found_in_a_fresh_process(folder, quick_stores, cluster) -> None:
    (folder / "space.toml").write_text(USERS_SPACE)
    (folder / "mine.toml").write_text('space = "./space.toml"\ndata = "digits"\ntrials = 1\n')
    run_sweep(load_sweep("./mine.toml", {"config.epochs": 1}), scheduler=cluster, show=False)
    done = warm.run(["-m", "invact", "export", "mine", "--format", "keras,litert", "--json"])
    assert done.returncode == 0, done.stderr
    assert [one["agreement"] for one in json.loads(done.stdout)["exports"]] == [1, 1]
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == [
        "mine-point1.keras",
        "mine-point1.tflite",
    ]
