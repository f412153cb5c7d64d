"""The contract of the runtimes: all of them return the outputs of the Keras model."""

import hashlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import warm
from scipy.stats import norm

from invact.arms import SHIPPED
from invact.deploy.runtimes import RUNTIMES, convert, litert, load, onnx, require, tensorflow
from invact.errors import EnvironmentFault, InputError
from invact.networks.archives import pack
from invact.testing.runtimes import NETWORKS, RuntimeContract, network, trained

# Keras 3.15 converts a TensorFlow variable in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


CONVERTED: dict[str, bytes] = {}


def converted(model, runtime, precision="float32", *, batch=None, calibration=None) -> bytes:
    """Convert, once for each network, runtime and setting: several tests only run the same artifact."""
    scale = b"" if calibration is None or precision != "int8" else calibration.tobytes()
    parts = [model.to_json().encode(), *(np.asarray(each).tobytes() for each in model.get_weights()), scale]
    key = f"{runtime} {precision} {batch} {hashlib.sha256(b'/'.join(parts)).hexdigest()}"
    if key not in CONVERTED:
        CONVERTED[key] = convert(model, runtime, precision, batch=batch, calibration=calibration)
    return CONVERTED[key]


class Shipped(RuntimeContract):
    """The contract for one runtime of invact, through the functions that choose a runtime by its name."""

    @property
    def name(self) -> str:
        return self.runtime.__name__.rpartition(".")[2]

    @property
    def precisions(self) -> tuple[str, ...]:
        return RUNTIMES[self.name]

    def convert(self, model, precision="float32", *, batch=None, calibration=None) -> bytes:
        return converted(model, self.name, precision, batch=batch, calibration=calibration)

    def load(self, artifact, threads=1):
        return load(artifact, self.name, threads=threads)

    def is_refusal(self, error: Exception) -> bool:
        """Accept one line that explains what is wrong, without the name of a temporary file."""
        words = (
            rf"artifact: ({self.name} cannot load it|not a \.keras |an? (empty|damaged|HDF5))"
            r"|images: received shape (\(3, 5, 8, 1\)|\(4, 8, 8, 1\), .*)"
        )
        text = str(error)
        return isinstance(error, InputError) and bool(re.match(words, text)) and not re.search("\n|tmp", text)


class TestTensorFlow(Shipped):
    runtime = tensorflow
    fixes_batch = False  # A .keras archive has no batch.


class TestLiteRT(Shipped):
    runtime = litert


class TestONNX(Shipped):
    runtime = onnx


@pytest.mark.slow  # The contract converts all arms together.
@pytest.mark.parametrize("arm", SHIPPED)
@pytest.mark.parametrize(("runtime", "precision"), [(r, p) for r, some in RUNTIMES.items() for p in some])
def test_every_arm_runs_alone_on_every_runtime(digits, arm, runtime, precision) -> None:
    model, images = network(model="cnn", activation=arm), digits.x_train[:50]
    expected = model(images.astype(np.float32)).numpy()
    artifact = convert(model, runtime, precision, calibration=images)
    tolerance = 1e-4 if precision == "float32" else 0.1 * np.abs(expected).max()
    np.testing.assert_allclose(load(artifact, runtime)(images), expected, atol=tolerance)


@pytest.mark.parametrize("precision", RUNTIMES["onnx"])
def test_gelu_has_its_values_in_onnx_where_it_is_nearly_zero(precision) -> None:
    """Keras computes it with erfc, which ONNX does not have."""
    image = keras.Input((200,))
    model = keras.Model(image, keras.layers.Activation("gelu")(image))
    values = np.linspace(-9, 9, 200, dtype=np.float32)[np.newaxis]
    found = load(convert(model, "onnx", precision, calibration=values), "onnx")(values)
    right = values * norm.cdf(values)
    np.testing.assert_allclose(found, right, atol=2e-6 if precision == "float32" else 0.06)


def test_every_runtime_is_under_the_contract() -> None:
    assert [suite().name for suite in Shipped.__subclasses__()] == list(RUNTIMES)


def test_tensorflow_predicts_with_the_accuracy_that_training_measured(digits) -> None:
    for result in trained():
        predicted = load(result.model, "tensorflow")(digits.x_test).argmax(axis=1)
        assert np.mean(predicted == digits.y_test) == result.test.accuracy


def test_int8_has_integer_weights(digits) -> None:
    import onnx
    from ai_edge_litert.interpreter import Interpreter

    model = network(**NETWORKS[1])
    tflite, graph = (
        converted(model, runtime, "int8", calibration=digits.x_train[:20]) for runtime in ("litert", "onnx")
    )
    interpreter = Interpreter(model_content=tflite)
    kinds = {each["dtype"] for each in interpreter.get_tensor_details() if len(each["shape"]) == 4}
    assert np.int8 in kinds
    weights = [each for each in onnx.load_from_string(graph).graph.initializer if len(each.dims) == 4]
    assert weights
    assert {each.data_type for each in weights} == {onnx.TensorProto.INT8}


def test_litert_runs_on_tensorflows_copy_where_its_package_is_missing(digits, monkeypatch) -> None:
    model = network(**NETWORKS[0])
    artifact = converted(model, "litert")
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
def test_unknown_names_are_an_error_of_one_line(arguments, words) -> None:
    for refuse in (require, lambda *names: convert(network(), *names)):
        with pytest.raises(InputError) as error:
            refuse(*arguments)
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def test_bad_numbers_and_images_are_an_error_of_one_line(digits) -> None:
    model = network()
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


def test_networks_that_a_runtime_cannot_run_are_an_error_of_one_line(digits) -> None:
    reduced = network(precision="mixed_bfloat16")
    for runtime in ("litert", "onnx"):
        with pytest.raises(InputError, match=rf"computes in bfloat16\. Allowed for {runtime}: float32"):
            convert(reduced, runtime)
    load(convert(reduced, "tensorflow"), "tensorflow")(digits.x_test[:2])
    inputs = [keras.Input((2,)), keras.Input((2,))]
    two = keras.Model(inputs, keras.layers.Add()(inputs), name="two")
    with pytest.raises(InputError, match=r"'two': received 2 inputs\. Allowed: one input and one output"):
        convert(two, "litert")
    image = keras.Input((4,))
    odd = keras.Model(image, keras.ops.erfinv(image), name="odd")
    for runtime, words in (("litert", ""), ("onnx", r" \(ValueError: ONNX has no operation Erfinv\)$")):
        with pytest.raises(
            InputError, match=f"model 'odd': cannot be converted for {runtime}{words}"
        ) as error:
            convert(odd, runtime)
        assert "\n" not in str(error.value)


def test_a_missing_extra_is_named(monkeypatch) -> None:
    model = network()
    find = importlib.util.find_spec
    missing = {"onnxruntime", "tf2onnx"}
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name in missing else find(name, *rest)
    )
    words = r"onnx needs onnxruntime and tf2onnx: pip install .*\[onnx\]'"
    for refuse in (lambda: convert(model, "onnx"), lambda: load(b"", "onnx"), lambda: require("onnx")):
        with pytest.raises(EnvironmentFault, match=words):
            refuse()


def test_checking_a_runtime_loads_no_library() -> None:
    code = (
        "import sys, invact.deploy.runtimes as r; r.require('litert'); r.require('onnx', 'int8')\n"
        "print(*{'tensorflow', 'keras', 'onnxruntime', 'tf2onnx', 'onnx', 'ai_edge_litert'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n", done.stdout


def test_a_fresh_process_computes_with_the_given_threads(digits, tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(pack(network()))
    code = (
        "import pathlib, sys\n"
        "from invact.deploy.runtimes import load\n"
        "session = load(pathlib.Path(sys.argv[1]).read_bytes(), 'tensorflow', threads=2)\n"
        "import numpy, tensorflow as tf\n"
        "session(numpy.zeros((1, 8, 8, 1), 'float32'))\n"
        "threading = tf.config.threading\n"
        "print(threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads())"
    )
    done = warm.run(["-c", code, tmp_path / "model.keras"])
    assert done.stdout.split() == ["2", "1"], done.stderr
