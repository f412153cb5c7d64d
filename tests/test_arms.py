from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest

from invact.arms import ARMS, Arm, get_arm, register_arm
from invact.errors import InputError

# Keras copies its variables with numpy.array, which TensorFlow does not yet support in NumPy 2 style.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

X = np.array([[-2.0, -0.5, 0.0, 1.5]], np.float32)
RELU = np.maximum
FORMULAS = {
    "relu": lambda x: RELU(x, 0),
    "leaky_relu": lambda x: RELU(x, 0.2 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "linear": lambda x: x,
    "abs": np.abs,
    "inverse": lambda x: np.concatenate([RELU(x, 0), RELU(-x, 0)], -1),
    "inverse_leaky": lambda x: np.concatenate([RELU(x, 0.2 * x), RELU(-x, -0.2 * x)], -1),
    "inverse_elu": lambda x: np.concatenate([FORMULAS["elu"](x), FORMULAS["elu"](-x)], -1),
    "linear_negated": lambda x: np.concatenate([x, -x], -1),
    "relu_duplicated": lambda x: np.concatenate([RELU(x, 0), RELU(x, 0)], -1),
}


@pytest.mark.parametrize("name", ARMS)
def test_multiplicity_is_the_real_channel_factor(name):
    arm = ARMS[name]
    layer = arm.layer("here")
    assert layer.name == "here"
    assert layer(np.zeros((2, 5, 5, 3), np.float32)).shape == (2, 5, 5, 3 * arm.multiplicity)
    assert arm.layer(None)(keras.Input((None, None, 3))).shape == (None, None, None, 3 * arm.multiplicity)


@pytest.mark.parametrize("name", FORMULAS)
def test_formula(name):
    np.testing.assert_allclose(ARMS[name].layer(None)(X), FORMULAS[name](X), rtol=1e-6, atol=1e-7)


def test_the_gradient_of_the_absolute_value_is_the_sign():
    import tensorflow as tf

    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = ARMS["abs"].layer(None)(x)
    np.testing.assert_array_equal(tape.gradient(y, x), np.sign(X))


def test_gelu_is_x_times_the_normal_distribution():
    from scipy.stats import norm

    np.testing.assert_allclose(ARMS["gelu"].layer(None)(X), X * norm.cdf(X), rtol=1e-5, atol=1e-6)


def test_every_shipped_arm_is_compared_with_its_formula():
    shipped = {name for name in ARMS if not name.startswith("users_")}  # other tests register these
    assert set(FORMULAS) | {"gelu"} == shipped


@pytest.mark.parametrize("name", ARMS)
def test_saves_and_loads(name, tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), get_arm(name).layer("arm")])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(model(X), loaded(X))
    assert loaded.get_layer("arm").get_config() == model.get_layer("arm").get_config()


@pytest.mark.parametrize(
    ("typo", "nearest"), [("inverze", "inverse"), ("relu_dup", "relu_duplicated"), ("gulu", "gelu")]
)
def test_an_unknown_name_gets_the_most_similar_name(typo, nearest):
    with pytest.raises(InputError, match=f"received '{typo}'; did you mean '{nearest}'") as error:
        get_arm(typo)
    assert all(name in str(error.value) for name in ARMS)
    assert "\n" not in str(error.value)


def test_register_refuses_a_taken_name_and_the_view_is_read_only():
    with pytest.raises(InputError, match="'inverse' is registered already"):
        register_arm(ARMS["inverse"])
    with pytest.raises(TypeError):
        ARMS["mine"] = ARMS["inverse"]


def test_a_registered_arm_is_seen_in_the_view(monkeypatch):
    import invact.arms

    # The dictionary behind the view is restored afterwards, so that no other test sees the arm.
    monkeypatch.setattr(invact.arms, "_ARMS", dict(ARMS))
    arm = register_arm(Arm("mine", 3, "three times", lambda name: None))
    assert get_arm("mine") is arm
    assert "mine" not in ARMS


@pytest.mark.parametrize(("name", "multiplicity"), [("no name", 1), ("", 1), ("mine", 0), ("mine", -2)])
def test_an_invalid_arm_is_refused(name, multiplicity):
    with pytest.raises(InputError, match="received"):
        Arm(name, multiplicity, "", lambda name: None)


def test_importing_the_table_does_not_load_keras():
    code = "import sys, invact.arms; sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
