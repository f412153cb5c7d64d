from __future__ import annotations

import random
from collections import Counter

import keras
import numpy as np
import pytest

from invact import arms
from invact import config as config_module
from invact.arms import ARMS
from invact.config import Config
from invact.cost.count import count_macs
from invact.errors import BuildError, InputError
from invact.networks import widths
from invact.networks.assembly import get_builder
from invact.networks.build import build_model
from invact.networks.builders import BUILDERS
from invact.networks.check import check_model
from invact.networks.widths import stage_filters
from invact.testing.builders import BuilderContract


def test_configurations_allow_exactly_the_builders():
    assert tuple(BUILDERS) == config_module.BUILDERS


class Shipped(BuilderContract):
    """The contract for one builder of invact."""

    names_layers = True


class TestCNN(Shipped):
    builder = "cnn"


class TestVGG(Shipped):
    builder = "vgg"

    def inverse_layers(self, depth):
        return 2 * depth


class TestPlain(Shipped):
    builder = "plain"

    def build(self, *arguments, **keys):
        return super().build(*arguments, **{"convolutions": 3} | keys)

    def inverse_layers(self, depth):
        return 3 * depth


class TestResNet(Shipped):
    builder = "resnet"

    def inverse_layers(self, depth):
        return 2 * depth + 1


class TestSeparable(Shipped):
    builder = "separable"


class TestMLP(Shipped):
    builder = "mlp"


def test_every_builder_is_under_the_contract():
    assert [suite.builder for suite in Shipped.__subclasses__()] == list(BUILDERS)


SAVED = [("inverse", normalization) for normalization in ("none", "layer")]
SAVED += [(arm, "none") for arm in ARMS if arm != "inverse"]


# Keras 3.15 reads the arrays of its archive with numpy.array(copy=False).
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
@pytest.mark.parametrize(("arm", "normalization"), SAVED)
def test_every_arm_and_normalization_saves_and_loads(arm, normalization, tmp_path):
    config = Config(activation=arm, filters=2, normalization=normalization, dropout=0.5)
    images = np.random.default_rng(0).integers(0, 17, (3, 8, 8, 1)).astype("uint8")
    network = build_model(config, (8, 8, 1), 4, pixel_range=(0, 16))
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(loaded(images), network(images))
    assert count_macs(loaded) == count_macs(network)


RANGES = [(0, 16), (0, 255), (0, 65535), (-2.5, 2.5), (-59.5, 0), (100, 140), (-1000, -900)]


@pytest.mark.parametrize(("low", "high"), RANGES)
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_raw_pixels_are_scaled_by_the_model(low, high, precision):
    network = build_model(Config(precision=precision, filters=2), (3, 1, 1), 3, (low, high))
    scaled = keras.Model(network.inputs[0], network.get_layer("scale").output)
    pixels = np.array([low, (low + high) / 2, high]).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(np.ravel(scaled(pixels)), [-1, 0, 1], atol=2e-6)
    layer = network.get_layer("scale")
    if low == 0:  # As it was when only the maximum counted, to the bit.
        assert (layer.scale, str(layer.offset)) == (2 / high, "-1.0")
    if low == -high:
        assert (layer.scale, str(layer.offset)) == (1 / high, "0.0")
    if high == 255:
        pixels = pixels.astype("uint8")
        integers = network(pixels)
        np.testing.assert_array_equal(integers, network(pixels.astype("float32")))


def test_each_stage_has_its_own_arm_and_filters():
    arms, filters = ("inverse", "relu", "elu"), (5, 4, 3)
    for model in BUILDERS:
        network = build_model(Config(model=model, activation=arms, filters=filters, depth=3), (8, 8, 1), 10)
        for stage, (arm, count) in enumerate(zip(arms, filters, strict=True), start=1):
            rows = [row for row in count_macs(network).layers if row.name.startswith(f"stage{stage}_")]
            acts = [network.get_layer(row.name) for row in rows if "_act" in row.name]
            for act in acts:
                expected = ARMS[arm].layer(None)
                assert type(act) is type(expected)
                assert act.activation is expected.activation
            assert acts
            widths = {row.filters for row in rows if row.filters and "depthwise" not in row.name}
            assert widths == {count}
        assert network.get_layer("logits").activation is keras.activations.linear


def test_weights_depend_on_the_seed_and_not_on_the_cost_cache():
    config = Config(activation="inverse", width_rule="macs", filters=6)

    def weights():
        keras.utils.set_random_seed(3)
        network = build_model(config, (8, 8, 1), 10)
        return [*network.get_weights(), random.random()]

    widths._cost.cache_clear()
    cold = weights()
    assert widths._cost.cache_info().misses
    for left, right in zip(cold, weights(), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("model", BUILDERS)
@pytest.mark.parametrize("arm", ["relu", "inverse"])
def test_the_signal_keeps_its_scale_at_the_start(model, arm):
    # Pools and residual sums raise the scale; it must not vanish or explode.
    keras.utils.set_random_seed(0)
    network = build_model(Config(model=model, activation=arm, filters=16, depth=3), (16, 16, 3), 10)
    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
    features = keras.Model(network.inputs[0], network.layers[-1].input)(images)
    assert 0.1 < np.sqrt(np.mean(np.square(features))) < 10


@pytest.mark.parametrize(("convolutions", "layers"), [(1, 5), (2, 10), (4, 20)])
def test_a_plain_network_is_deep_with_few_poolings(convolutions, layers):
    filters = (3, 4, 5, 6, 7)
    values = {"model": "plain", "depth": 5, "convolutions": convolutions, "filters": filters}
    counted = widths.network_cost(Config(activation="inverse", **values), (28, 28, 1), 10)
    kinds = Counter(row.kind for row in counted.layers)
    assert kinds["Conv2D"] == kinds["InverseActivation"] == layers
    assert (kinds["MaxPooling2D"], kinds["Add"], kinds["Flatten"]) == (5, 0, 0)
    macs, channels = 0, 1
    for size, count in zip((28, 14, 7, 4, 2), filters, strict=True):
        for _ in range(convolutions):
            macs += size**2 * 9 * channels * count
            channels = 2 * count
    # The classifier reads one number for each channel.
    assert counted.macs == macs + 2 * 7 * 10
    assert counted.hidden_filters == convolutions * sum(filters)


def test_the_signal_passes_twenty_plain_layers():
    keras.utils.set_random_seed(0)
    values = {"model": "plain", "depth": 5, "convolutions": 4, "filters": (16,) * 5}
    network = build_model(Config(activation="inverse", **values), (28, 28, 1), 10)
    images = np.random.default_rng(0).integers(0, 256, (16, 28, 28, 1), dtype=np.uint8)
    features = keras.Model(network.inputs[0], network.layers[-1].input)(images)
    assert 0.05 < np.sqrt(np.mean(np.square(features))) < 20


def test_the_residual_stream_is_never_doubled():
    def adds(arm):
        network = build_model(Config(model="resnet", activation=arm, filters=4, depth=3), (16, 16, 3), 10)
        return [row.output_shape for row in count_macs(network).layers if row.kind == "Add"]

    assert adds("inverse") == adds("relu") == [(16, 16, 4), (8, 8, 8), (4, 4, 16)]


def test_stochastic_depth_leaves_out_whole_blocks_of_single_images_in_training():
    config = Config(model="resnet", filters=3, depth=3, stochastic_depth=0.6, activation="inverse")
    images = np.random.default_rng(0).integers(0, 256, (2000, 8, 8, 1))
    model = build_model(config, (8, 8, 1), 4)
    inner = [layer for name in ("conv2", "drop") for layer in model.layers if layer.name.endswith(name)]
    outputs = keras.Model(model.inputs[0], [layer.output for layer in inner])(images, training=True)
    parts, dropped = ([np.asarray(each) for each in outputs[at : at + 3]] for at in (0, 3))
    left_out = []
    for part, after, rate in zip(parts, dropped, (0.2, 0.4, 0.6), strict=True):
        left_out.append(~after.any(axis=(1, 2, 3)))
        expected = np.where(left_out[-1][:, None, None, None], 0, part / (1 - rate))
        np.testing.assert_allclose(after, expected, rtol=1e-5)
        # The number of images is binomial.
        assert abs(left_out[-1].sum() - 2000 * rate) < 4.5 * np.sqrt(2000 * rate * (1 - rate))
    assert np.abs(np.corrcoef(left_out) - np.eye(3)).max() < 0.1


def test_stochastic_depth_changes_neither_costs_nor_predictions():
    config = Config(model="resnet", filters=3, normalization="batch", activation="inverse")
    plain, deep = (
        build_model(each, (8, 8, 1), 4)
        for each in (config, Config(**config.model_dump(), stochastic_depth=0.5))
    )
    for layer in plain.layers:
        deep.get_layer(layer.name).set_weights(layer.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1))
    np.testing.assert_array_equal(deep(images), plain(images))
    one, other = count_macs(plain), count_macs(deep)
    measures = ("macs", "params", "elementwise", "activation_bytes", "bytes_moved")
    assert [getattr(one, name) for name in measures] == [getattr(other, name) for name in measures]
    assert check_model(deep).problems == ()


def test_unknown_names():
    with pytest.raises(InputError, match=r"model: received 'resnt'; did you mean 'resnet'\?"):
        get_builder("resnt")


MODULE = """
import keras

not_callable = 3

def build(config, input_shape, classes, units=4, top="linear"):
    images = x = keras.Input(input_shape)
    x = keras.layers.Flatten(name="flat")(x)
    for stage, filters in enumerate(config.filters):
        x = keras.layers.Dense(filters * units, "relu", name=f"dense{stage}")(x)
    return keras.Model(images, keras.layers.Dense(classes, top, name="logits")(x), name="mine")

def constant(config, input_shape, classes):
    return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(classes)])

def half(config, input_shape, classes):
    return keras.Sequential(
        [keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(classes, dtype="bfloat16")]
    )

def softmax(config, input_shape, classes):
    return keras.Sequential([*constant(config, input_shape, classes).layers, keras.layers.Softmax()])

def nothing(config, input_shape, classes):
    return None

def too_many(config, input_shape, classes):
    return constant(config, input_shape, classes + 1)

def ends_in(config, input_shape, classes, end):
    images = keras.Input(input_shape)
    logits = keras.layers.Dense(classes)(keras.layers.Flatten()(images))
    return keras.Model(images, ENDS[end](logits))

def nested(x, layer):
    return keras.Sequential([keras.Input((10,)), layer])(x)

class Inside(keras.Layer):
    def call(self, x):
        return keras.ops.sigmoid(x)

class Subclass(keras.Model):
    def __init__(self, classes):
        super().__init__()
        self.flatten, self.dense = keras.layers.Flatten(), keras.layers.Dense(classes)
    def call(self, x):
        return keras.ops.softmax(self.dense(self.flatten(x)))

def subclass(config, input_shape, classes):
    return Subclass(classes)

ENDS = {
    "operation": keras.ops.softmax,
    "sigmoid operation": keras.ops.sigmoid,
    "function": keras.activations.hard_sigmoid,
    "layer": keras.layers.Softmax(),
    "activation": keras.layers.Activation("sigmoid"),
    "activation of an operation": keras.layers.Activation(keras.ops.softmax),
    "activation of a layer": keras.layers.Activation(keras.layers.Softmax()),
    "nested": lambda x: nested(x, keras.layers.Softmax()),
    "nested twice": lambda x: nested(x, keras.Sequential([keras.layers.Activation("sigmoid")])),
    "own layer": Inside(),
    "shape": lambda x: keras.layers.Reshape((10,))(keras.ops.softmax(x)),
    "dtype": lambda x: keras.ops.cast(keras.ops.softmax(x), "float32"),
    "dropout": lambda x: keras.layers.Dropout(0.5)(keras.ops.softmax(x)),
    "logits": lambda x: x,
    "log_softmax": keras.ops.log_softmax,
    "gated": lambda x: x * keras.ops.sigmoid(x),
    "scaled": lambda x: 3 * keras.ops.softmax(x),
}

def fails(config, input_shape, classes):
    raise RuntimeError(f"images of {input_shape}\\nare too small")

def leaves(config, input_shape, classes):
    raise SystemExit(0)

class Wrong(keras.Layer):
    def call(self, x):
        return keras.ops.matmul(x, x)

def wrong(config, input_shape, classes):
    return keras.Sequential([keras.Input(input_shape), Wrong()])

def other_images(config, input_shape, classes):
    return constant(config, (3, 3, 1), classes)
"""


@pytest.fixture
def users_module(tmp_path, monkeypatch):
    (tmp_path / "users_networks.py").write_text(MODULE)
    (tmp_path / "users_broken.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "users_script.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    widths._cost.cache_clear()


@pytest.mark.usefixtures("users_module")
def test_a_users_builder_gets_the_configuration_and_its_options():
    config = Config(model="users_networks:build", filters=2, depth=2, options={"units": 3})
    network = build_model(config, (8, 8, 1), 10)
    assert network.name == "build"
    rows = count_macs(network).layers
    dense = {row.name: row.filters for row in rows if row.filters}
    assert dense == {"mine/dense0": 6, "mine/dense1": 12, "mine/logits": 10}
    assert network(np.full((2, 8, 8, 1), 255, "uint8")).shape == (2, 10)


@pytest.mark.usefixtures("users_module")
def test_width_rules_apply_to_a_users_builder():
    config = Config(model="users_networks:build", activation="inverse", filters=8, width_rule="macs")
    # This builder ignores the arm, so the closest network is the reference itself.
    assert stage_filters(config, (8, 8, 1), 10) == (8, 16)
    constant = config.model_copy(update={"model": "users_networks:constant"})
    assert stage_filters(constant, (8, 8, 1), 10) == (1, 2)


@pytest.mark.usefixtures("users_module")
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nowhere:build", {}, "cannot import 'nowhere': No module named 'nowhere'"),
        ("users_broken:build", {}, "cannot import 'users_broken': No module named 'nowhere_to_be_found'"),
        ("users_script:build", {}, "cannot import 'users_script': SystemExit: 0"),
        ("users_networks:biuld", {}, r"no such function, received 'biuld'; did you mean 'build'\?"),
        ("users_networks:not_callable", {}, r"received a int\. Allowed: a function"),
        ("users_networks:build", {"unit": 3}, "options: got an unexpected keyword argument 'unit'"),
        ("users_networks:nothing", {}, r"returned a NoneType\. Allowed: a keras\.Model"),
        ("users_networks:too_many", {}, r"outputs shape \(None, 11\).*Allowed: shape \(None, 10\)"),
        ("users_networks:half", {}, "dtype bfloat16.*dtype float32, the logits"),
        ("users_networks:softmax", {}, r"ends in a softmax\. Allowed: logits"),
        ("users_networks:build", {"top": "softmax"}, r"ends in a softmax\. Allowed: logits"),
        ("users_networks:build", {"top": "sigmoid"}, r"ends in a sigmoid\. Allowed: logits"),
        ("users_networks:subclass", {}, r"ends in a softmax\. Allowed: logits"),
        ("users_networks:fails", {}, r"RuntimeError: images of \(8, 8, 1\) are too small$"),
        ("users_networks:leaves", {}, "SystemExit: 0"),
        ("users_networks:wrong", {}, "ValueError: "),
        ("users_networks:other_images", {}, "ValueError: .*incompatible"),
    ],
)
def test_a_users_builder_that_breaks_the_contract_is_refused(name, options, message):
    with pytest.raises(InputError, match=f"^model '{name}': .*{message}") as caught:
        build_model(Config(model=name, options=options), (8, 8, 1), 10)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    # What only one configuration does can be told apart from a name that no configuration can use.
    found = not any(word in message for word in ("cannot import", "no such function", "received a int"))
    assert isinstance(caught.value, BuildError) is found


ALLOWED = ("logits", "log_softmax", "gated", "scaled")
REFUSED = {
    "operation": "softmax", "sigmoid operation": "sigmoid", "function": "hard_sigmoid", "layer": "softmax",
    "activation": "sigmoid", "activation of an operation": "softmax", "activation of a layer": "softmax",
    "nested": "softmax", "nested twice": "sigmoid", "own layer": "sigmoid", "shape": "softmax",
    "dtype": "softmax", "dropout": "softmax",
}  # fmt: skip


@pytest.mark.usefixtures("users_module")
@pytest.mark.parametrize("end", [*ALLOWED, *REFUSED])
def test_probabilities_are_refused_wherever_they_are_computed(end):
    config = Config(model="users_networks:ends_in", options={"end": end})
    if end in ALLOWED:
        assert build_model(config, (8, 8, 1), 10).output_shape == (None, 10)
    else:
        with pytest.raises(BuildError, match=rf"ends in a {REFUSED[end]}\. Allowed: logits"):
            build_model(config, (8, 8, 1), 10)


def test_an_arm_that_raises_is_named_with_its_network(monkeypatch):
    def fail(name):
        raise RuntimeError("no such activation")

    monkeypatch.setitem(arms._ARMS, "users_failing", arms.Arm("users_failing", 1, "none", fail))
    monkeypatch.setitem(arms._ARMS, "users_nothing", arms.Arm("users_nothing", 1, "none", lambda name: None))
    with pytest.raises(
        BuildError, match=r"^model 'cnn', activation users_failing: RuntimeError: no such act"
    ):
        build_model(Config(activation="users_failing"), (8, 8, 1), 10)
    with pytest.raises(BuildError, match=r"^model 'mlp', activation relu and users_nothing: TypeError: "):
        build_model(Config(model="mlp", activation=("relu", "users_nothing")), (8, 8, 1), 10)
