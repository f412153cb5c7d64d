"""No global setting of Keras changes what invact builds, counts, saves and trains."""

import threading
from collections.abc import Iterator
from dataclasses import asdict

import keras
import numpy as np
import pytest
from helpers import numbers
from keras.src.backend.common import global_state

from invact.claims.file import load_claim
from invact.cli.catalogue import costs_of
from invact.config import Config
from invact.cost.count import count_macs
from invact.data.dataset import Dataset
from invact.deploy.runtimes import convert, load
from invact.networks import widths
from invact.networks.archives import pack, unpack
from invact.networks.build import build_model
from invact.networks.builders import BUILDERS
from invact.networks.settings import keras_settings
from invact.networks.widths import network_cost
from invact.training.loop import train

# Keras 3.15 converts arrays in ways that NumPy 2 deprecates.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:In the future `np.object` will be defined:FutureWarning"),
]

SETTINGS = {
    "image_data_format": ("channels_first",),
    "floatx": ("float16", "float64"),
    "epsilon": (0.5,),
    "dtype_policy": ("mixed_float16", "float64"),
}
CASES = [{name: value} for name, values in SETTINGS.items() for value in values]
ALL = {name: values[0] for name, values in SETTINGS.items()}


def state() -> tuple[object, ...]:
    config = keras.config
    policy = global_state.get_global_attribute("dtype_policy")
    return config.floatx(), config.epsilon(), config.image_data_format(), policy and policy.name


@pytest.fixture
def restored() -> Iterator[None]:
    config, policy = keras.config, global_state.get_global_attribute("dtype_policy")
    before = config.floatx(), config.epsilon(), config.image_data_format()
    yield
    for name, value in zip(("floatx", "epsilon", "image_data_format"), before, strict=True):
        getattr(config, f"set_{name}")(value)
    global_state.set_global_attribute("dtype_policy", policy)


def change(settings: dict[str, object]) -> None:
    for name, value in settings.items():
        getattr(keras.config, f"set_{name}")(value)


def users_builder(config: Config, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Everything here takes its layout, its type or its epsilon from the global settings."""
    images = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 3, name="conv")(images)
    x = keras.layers.Lambda(
        lambda each: keras.ops.max_pool(each + keras.config.epsilon() * keras.ops.ones(1), 2), name="pool"
    )(x)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(images, keras.layers.Dense(classes, name="dense")(x), name="users")


def facts(config: Config) -> object:
    """What is counted, and what a network computes from its first weights."""
    widths._cost.cache_clear()
    keras.utils.set_random_seed(0)
    network = build_model(config, (8, 8, 1), 10)
    counted = network_cost(config, (8, 8, 1), 10).layers
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    dtypes = [(layer.name, layer.compute_dtype, layer.variable_dtype) for layer in network.layers]
    with keras_settings():  # Some layers read the settings when they are called, too.
        logits = np.asarray(network(images))
    return [asdict(row) for row in counted], dtypes, network.inputs[0].dtype, logits.tobytes()


USERS = Config(model=f"{__name__}:users_builder", depth=1)
NETWORKS = [
    *(Config(model=model, activation="inverse", filters=2, normalization="batch") for model in BUILDERS),
    Config(activation="inverse", filters=2, width_rule="macs"),
    Config(filters=2, normalization="layer", precision="mixed_bfloat16"),
]


@pytest.fixture(scope="module")
def users() -> object:
    assert state()[:3] == ("float32", 1e-7, "channels_last"), "the settings of Keras itself"
    return facts(USERS)


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_no_setting_changes_a_users_network(
    settings: dict[str, object], users: object, restored: None
) -> None:
    change(settings)
    before = state()
    assert facts(USERS) == users
    assert state() == before, "the user's settings are still there"


@pytest.mark.parametrize("config", NETWORKS, ids=lambda config: f"{config.model}-{config.normalization}")
def test_no_setting_changes_a_network_of_invact(config: Config, restored: None) -> None:
    expected = facts(config)
    change(ALL)
    assert facts(config) == expected


def test_the_command_counts_the_same(restored: None, digits: Dataset) -> None:
    change(ALL)
    costs = costs_of("digits_claim")
    control = next(iter(costs.values()))
    # As the page of the command shows them.
    assert (control.macs, control.bytes_moved) == (23_680, 22_224)
    assert next(cost.macs for cost in load_claim("digits_claim").costs(digits).values()) == 23_680


@pytest.mark.parametrize(
    "settings", [ALL, pytest.param({"floatx": "float64"}, marks=pytest.mark.slow)], ids=str
)
def test_a_training_gives_the_same_bits(settings: dict[str, object], restored: None, digits: Dataset) -> None:
    config = Config(activation="inverse", filters=2, depth=1, epochs=1, batch_size=512, optimizer="adamw")
    expected = train(config, 0, digits)
    change(settings)
    found = train(config, 0, digits)
    assert numbers(found) == numbers(expected)
    assert found.cost == expected.cost


def test_archives_and_conversions_are_the_same(restored: None) -> None:
    network = build_model(Config(activation="inverse", filters=2, depth=1), (8, 8, 1), 10)
    archive, images = pack(network), np.full((2, 8, 8, 1), 9, np.uint8)
    expected = load(convert(network, "litert"), "litert")(images)
    keras.config.set_image_data_format("channels_first")
    keras.config.set_floatx("float16")
    loaded = unpack(archive)
    assert count_macs(loaded) == count_macs(network)
    for runtime in ("litert", "tensorflow"):
        found = load(convert(loaded, runtime), runtime)(images)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        assert found.dtype == np.float32


def test_a_users_own_model_keeps_the_users_settings(restored: None) -> None:
    keras.config.set_image_data_format("channels_first")
    model = keras.Sequential([keras.Input((1, 8, 8)), keras.layers.Conv2D(4, 3)])
    assert count_macs(model).macs == 6 * 6 * 9 * 4


def test_blocks_of_several_threads_restore_the_settings_after_the_last(restored: None) -> None:
    keras.config.set_floatx("float64")
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with keras_settings():
            entered.set()
            leave.wait(10)

    with keras_settings("mixed_bfloat16"):
        thread = threading.Thread(target=other)
        thread.start()
        entered.wait(10)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert keras.config.floatx() == "float32", "the other block is still open"
    leave.set()
    thread.join()
    assert keras.config.floatx() == "float64"


def test_an_error_in_a_block_restores_the_settings(restored: None) -> None:
    keras.config.set_epsilon(0.25)
    before = state()
    with pytest.raises(ZeroDivisionError), keras_settings("mixed_bfloat16"):
        raise ZeroDivisionError
    assert state() == before
