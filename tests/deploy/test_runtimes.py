"""The contract of the runtimes: all say what the Keras model says."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from invact.config import Config
from invact.data.dataset import Dataset
from invact.deploy.runtimes import RUNTIMES, convert, litert, load, require
from invact.errors import EnvironmentFault, InputError
from invact.networks.archives import pack, unpack
from invact.networks.build import build_model
from invact.training.loop import train
from invact.training.results import TrialResult

# Keras 3.15 converts a TensorFlow variable in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PAIRS = [(runtime, precision) for runtime, precisions in RUNTIMES.items() for precision in precisions]
NETWORKS = [
    {"model": "cnn", "activation": "relu_duplicated"},
    {"model": "resnet", "activation": "inverse", "normalization": "batch"},
    {"model": "separable", "activation": "relu"},
    {"model": "mlp", "activation": "linear_negated"},
]


def network(data: Dataset, **keys: object):
    keras.utils.set_random_seed(3)
    model = build_model(Config(filters=3, depth=2, **keys), data.input_shape, data.classes, data.maximum)
    rng = np.random.default_rng(3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # As trained ones are, so that folding them is put to the test.
            layer.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in layer.get_weights()])
    return model


@pytest.fixture(scope="module")
def trained(digits: Dataset) -> list[TrialResult]:
    """The networks after a few epochs."""
    recipe = {"filters": 8, "depth": 2, "epochs": 10, "batch_size": 32, "learning_rate": 1e-2}
    return [train(Config(**recipe, **keys), 0, digits, keep_model=True) for keys in NETWORKS[1:3]]


@pytest.mark.parametrize("keys", NETWORKS, ids=lambda keys: "-".join(keys.values()))
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_one_artifact_says_what_the_model_says_of_any_number_of_images(runtime, keys, digits, capfd) -> None:
    model = network(digits, **keys)
    artifact = convert(model, runtime)
    session = load(artifact, runtime)
    for count in (1, 7, 1):
        images = digits.x_test[:count]
        expected = model(images.astype(np.float32), training=False).numpy()
        for given in (images, images.astype(np.float32), images[:, :, ::-1].copy()[:, :, ::-1]):
            found = session(given)
            assert (found.dtype, found.shape) == (np.float32, (count, digits.classes))
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # What a call returned is not written over by the next.
    first = session(digits.x_test[:1])
    kept = first.copy()
    session(digits.x_test[1:2])
    np.testing.assert_array_equal(first, kept)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("runtime", "precision"), PAIRS)
def test_a_fixed_batch_says_the_same(runtime, precision, digits) -> None:
    model = network(digits, **NETWORKS[1])
    options = {"calibration": digits.x_train[:20]}
    fixed = load(convert(model, runtime, precision, batch=3, **options), runtime, threads=2)
    free = load(convert(model, runtime, precision, **options), runtime)
    scale = np.abs(free(digits.x_test)).max()
    # Quantised: 20 images are filled up to 21, which may move a scale by a little.
    tolerance = 1e-4 if precision == "float32" else 0.05 * scale
    np.testing.assert_allclose(fixed(digits.x_test[:3]), free(digits.x_test[:3]), atol=tolerance)
    if runtime != "tensorflow":
        with pytest.raises(InputError, match=r"images: received shape \(4, 8, 8, 1\), which do not fit"):
            fixed(digits.x_test[:4])
    with pytest.raises(InputError, match=r"images: received shape \(3, 5, 8, 1\)"):
        fixed(digits.x_test[:3, :5])


@pytest.mark.parametrize("runtime", [runtime for runtime, precision in PAIRS if precision == "int8"])
def test_int8_predicts_what_the_trained_network_predicts(runtime, trained, digits, capfd) -> None:
    for result in trained:
        plain = load(result.model, "tensorflow")(digits.x_test).argmax(axis=1)
        assert np.mean(plain == digits.y_test) == result.test.accuracy
        model = unpack(result.model)
        capfd.readouterr()
        artifact = convert(model, runtime, "int8", calibration=digits.x_train[:200])
        found = load(artifact, runtime)(digits.x_test).argmax(axis=1)
        assert capfd.readouterr() == ("", "")
        assert np.mean(found == plain) >= 0.97, result.config.model
        assert np.mean(found == digits.y_test) >= result.test.accuracy - 0.02
        assert artifact != convert(model, runtime, calibration=digits.x_train[:200])


def test_int8_has_integer_weights(digits) -> None:
    import onnx
    from ai_edge_litert.interpreter import Interpreter

    model = network(digits, **NETWORKS[0])
    tflite, graph = (
        convert(model, runtime, "int8", calibration=digits.x_train[:20]) for runtime in ("litert", "onnx")
    )
    interpreter = Interpreter(model_content=tflite)
    kinds = {each["dtype"] for each in interpreter.get_tensor_details() if len(each["shape"]) == 4}
    assert np.int8 in kinds
    weights = [each for each in onnx.load_from_string(graph).graph.initializer if len(each.dims) == 4]
    assert weights
    assert {each.data_type for each in weights} == {onnx.TensorProto.INT8}


def test_litert_runs_on_tensorflows_copy_where_its_package_is_missing(digits, monkeypatch) -> None:
    model = network(digits, **NETWORKS[0])
    artifact = convert(model, "litert")
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    assert litert._interpreter_class().__module__.startswith("tensorflow.")
    expected = model(digits.x_test[:2].astype(np.float32)).numpy()
    np.testing.assert_allclose(load(artifact, "litert")(digits.x_test[:2]), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("litter",), "runtime: received 'litter'; did you mean 'litert'? Allowed: tensorflow, litert, onnx"),
        (("litert", "int4"), "precision of litert: received 'int4'; did you mean 'int8'?"),
        (("tensorflow", "int8"), "precision of tensorflow: received 'int8'. Allowed: float32"),
    ],
)
def test_unknown_names_are_one_line(arguments, words, digits) -> None:
    for refuse in (require, lambda *names: convert(network(digits), *names)):
        with pytest.raises(InputError) as error:
            refuse(*arguments)
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def test_bad_numbers_and_images_are_one_line(digits) -> None:
    model = network(digits)
    images = digits.x_train
    for options, words in (
        ({}, "calibration: received None. Allowed with int8: images of shape (n, 8, 8, 1)"),
        ({"calibration": images[:0]}, "calibration: received (0, 8, 8, 1)"),
        ({"calibration": images[:9, :7]}, "calibration: received (9, 7, 8, 1)"),
        ({"calibration": images[:9], "batch": 0}, "batch: received 0. Allowed: 1 or more, or None for any"),
    ):
        with pytest.raises(InputError) as error:
            convert(model, "litert", "int8", **options)
        assert words in str(error.value)
    with pytest.raises(InputError, match=r"threads: received 0\. Allowed: 1 or more"):
        load(b"", "litert", threads=0)


def test_networks_that_a_runtime_cannot_run_are_one_line(digits) -> None:
    reduced = network(digits, precision="mixed_bfloat16")
    for runtime in ("litert", "onnx"):
        with pytest.raises(InputError, match=rf"computes in bfloat16\. Allowed for {runtime}: float32"):
            convert(reduced, runtime)
    load(convert(reduced, "tensorflow"), "tensorflow")(digits.x_test[:2])
    inputs = [keras.Input((2,)), keras.Input((2,))]
    two = keras.Model(inputs, keras.layers.Add()(inputs), name="two")
    with pytest.raises(InputError, match=r"'two': received 2 inputs\. Allowed: one, and one output"):
        convert(two, "litert")
    image = keras.Input((4,))
    odd = keras.Model(image, keras.ops.erfinv(image), name="odd")
    with pytest.raises(InputError, match="model 'odd': cannot be converted for litert") as error:
        convert(odd, "litert")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_damaged_artifact_is_one_line(runtime, digits, capfd) -> None:
    whole = convert(network(digits), runtime)
    for damaged in (b"", b"PK\x03\x04 nothing of the kind", whole[: len(whole) // 2]):
        with pytest.raises(InputError, match=r"artifact: not (one that|a \.keras model)") as error:
            load(damaged, runtime)
        assert "\n" not in str(error.value)
        assert "tmp" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_a_missing_extra_is_named(digits, monkeypatch) -> None:
    model = network(digits)
    find = importlib.util.find_spec
    missing = {"onnxruntime", "tf2onnx"}
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name in missing else find(name, *rest)
    )
    words = r"onnx needs onnxruntime and tf2onnx: pip install 'invact\[onnx\]'"
    for refuse in (lambda: convert(model, "onnx"), lambda: load(b"", "onnx"), lambda: require("onnx")):
        with pytest.raises(EnvironmentFault, match=words):
            refuse()


def test_looking_at_the_runtimes_loads_none() -> None:
    code = (
        "import sys, invact.deploy.runtimes as r; r.require('litert'); r.require('onnx', 'int8')\n"
        "print(*{'tensorflow', 'keras', 'onnxruntime', 'tf2onnx', 'onnx', 'ai_edge_litert'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n", done.stdout


def test_a_fresh_process_computes_with_the_threads_it_is_told(digits, tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(pack(network(digits)))
    code = (
        "import pathlib, sys\n"
        "from invact.deploy.runtimes import load\n"
        "session = load(pathlib.Path(sys.argv[1]).read_bytes(), 'tensorflow', threads=2)\n"
        "import numpy, tensorflow as tf\n"
        "session(numpy.zeros((1, 8, 8, 1), 'float32'))\n"
        "threading = tf.config.threading\n"
        "print(threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model.keras")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "1"]
