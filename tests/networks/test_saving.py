import keras
import numpy as np
import pytest

from invact import arms
from invact.config import Config
from invact.cost.count import count_macs
from invact.cost.rules import register_macs
from invact.data.dataset import Dataset
from invact.errors import BuildError, InputError
from invact.networks import saving
from invact.networks.build import build_model
from invact.networks.builders import BUILDERS
from invact.networks.saving import check_saved, saving_problem, trainable_cost
from invact.training.loop import train

# Keras 3.15 converts a TensorFlow variable in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

MODULE = """
import keras

L = keras.layers
register = keras.saving.register_keras_serializable("users_saving")
calls = []

class Net(keras.Model):
    def __init__(self, classes):
        super().__init__()
        self.flatten, self.dense = L.Flatten(), L.Dense(classes)
    def call(self, x):
        return self.dense(self.flatten(x))

@register
class Saved(Net):
    def __init__(self, classes, **kwargs):
        super().__init__(classes)
        self.classes = classes
    def get_config(self):
        return super().get_config() | {"classes": self.classes}

def subclass(config, input_shape, classes):
    return Net(classes)

def saved_subclass(config, input_shape, classes):
    return Saved(classes)

class Unknown(keras.Layer):
    def call(self, x):
        return x / 2

@register
class Known(keras.Layer):
    def call(self, x):
        return x / 2

@register
class Forgets(keras.Layer):
    def __init__(self, by=1.0, **kwargs):
        super().__init__(**kwargs)
        self.by = by
    def call(self, x):
        return x * self.by
    def get_config(self):
        return {"name": self.name}

@register
class Needs(Forgets):
    def __init__(self, by, **kwargs):
        super().__init__(by, **kwargs)

@register
class Closed(keras.Layer):
    def call(self, x):
        if hasattr(x, "numpy"):
            raise RuntimeError("only symbolic")
        return x

def unnamed(x):
    return keras.ops.relu(x) * 1.1

named = register(unnamed.__class__(unnamed.__code__, globals(), "named"))

LAYERS = {
    "lambda": lambda: L.Conv2D(4, 3, activation=lambda x: keras.ops.relu(x) * 1.1, name="conv"),
    "lambda layer": lambda: L.Lambda(lambda x: x / 2, name="scale"),
    "lambda initializer": lambda: L.Conv2D(
        4, 3, kernel_initializer=lambda shape, dtype: keras.random.normal(shape, dtype=dtype), name="conv"
    ),
    "unregistered layer": lambda: Unknown(name="half"),
    "unregistered function": lambda: L.Activation(unnamed, name="act"),
    "nested": lambda: keras.Sequential([Unknown(name="half")], name="inner"),
    "needs": lambda: Needs(0.5, name="by"),
    "forgets": lambda: Forgets(0.5, name="by"),
    "closed": lambda: Closed(),
    "registered layer": lambda: Known(),
    "registered function": lambda: L.Activation(named),
}

def with_layer(config, input_shape, classes, kind="registered layer"):
    calls.append(config)
    inputs = keras.Input(input_shape)
    x = L.Conv2D(config.filters[0], 3)(LAYERS[kind]()(inputs))
    return keras.Model(inputs, L.Dense(classes)(L.Flatten()(x)))

def by_number(config, input_shape, classes, number=0):
    return with_layer(config, input_shape, classes, "unregistered layer" if number else "registered layer")

def own_softmax(config, input_shape, classes):
    inputs = keras.Input(input_shape)
    powers = keras.ops.exp(L.Dense(classes)(L.Flatten()(inputs)))
    return keras.Model(inputs, powers / keras.ops.sum(powers, axis=-1, keepdims=True))

def zeros(config, input_shape, classes):
    inputs = keras.Input(input_shape)
    logits = L.Dense(classes, kernel_initializer="zeros")(L.Flatten()(inputs))
    return keras.Model(inputs, logits)

class Own(keras.Layer):
    def build(self, shape):
        self.w = self.add_weight(shape=(1,))
    def call(self, x):
        return x * self.w

def uncounted(config, input_shape, classes):
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, L.Dense(classes)(L.Flatten()(Own(name="own")(inputs))))
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "users_saving.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(saving, "_SAVED", set())
    import users_saving

    users_saving.calls.clear()
    return users_saving


def of(name, **options):
    return Config(model=f"users_saving:{name}", filters=2, depth=1, options=options)


KINDS = {
    "lambda": "layer 'conv' cannot be saved and read again",
    "lambda layer": "layer 'scale' cannot be saved and read again",
    "lambda initializer": "layer 'conv' cannot be saved and read again",
    "unregistered layer": "layer 'half' cannot be saved and read again",
    "unregistered function": "layer 'act' cannot be saved and read again",
    "nested": "layer 'half' cannot be saved and read again",
    "needs": "layer 'by' cannot be saved and read again",
    "forgets": "computes other logits after it was saved and read again",
    "closed": r"cannot be run \(RuntimeError: only symbolic\)",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_cannot_be_saved_is_refused_in_one_short_line(kind):
    with pytest.raises(BuildError) as caught:
        trainable_cost(of("with_layer", kind=kind), (8, 8, 1), 10)
    message = str(caught.value)
    caught.match(f"^model 'users_saving:with_layer': {KINDS[kind]}")
    assert "\n" not in message
    assert len(message) < 400
    # It can be counted nevertheless.
    assert count_macs(build_model(of("with_layer", kind=kind), (8, 8, 1), 10)).macs > 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("subclass", r"layer 'net\w*' cannot be saved .*must override `get_config\(\)`"),
        ("own_softmax", "its outputs are the probabilities of a softmax"),
        ("uncounted", "layer 'users_saving/own|layer '.*own': no rule for the MACs of Own"),
    ],
)
def test_other_breaches_of_the_contract_are_found_before_a_training(name, message):
    with pytest.raises(BuildError, match=f"^model 'users_saving:{name}': ({message})"):
        trainable_cost(of(name), (8, 8, 1), 10)


@pytest.mark.parametrize("name", ["saved_subclass", "zeros", "with_layer"])
def test_a_network_that_can_be_saved_is_accepted(name):
    assert trainable_cost(of(name), (8, 8, 1), 10).macs > 0
    assert trainable_cost(of("with_layer", kind="registered function"), (8, 8, 1), 10).macs > 0


def test_a_builder_that_cannot_be_found_is_another_error():
    with pytest.raises(InputError) as caught:
        trainable_cost(of("no_such"), (8, 8, 1), 10)
    assert type(caught.value) is InputError


def test_each_structure_is_saved_once(module, monkeypatch):
    saved = []
    monkeypatch.setattr(saving, "saving_problem", lambda config, model: saved.append(config) or "")
    for filters in (2, 3, 4):
        config = of("with_layer").model_copy(update={"filters": filters})
        trainable_cost(config, (8, 8, 1), 10)
        check_saved(config, (8, 8, 1), 10)
    assert len(saved) == 1
    # A text, and a number that changes the kinds of layers, make another structure.
    trainable_cost(of("with_layer", kind="registered function"), (8, 8, 1), 10)
    assert len(saved) == 2
    trainable_cost(of("by_number", number=0), (8, 8, 1), 10)
    trainable_cost(of("by_number", number=1), (8, 8, 1), 10)
    assert len(saved) == 4
    for model in BUILDERS:
        trainable_cost(Config(model=model, filters=2, depth=1), (8, 8, 1), 10)
    assert len(saved) == 4


def test_a_number_may_decide_whether_a_network_can_be_saved():
    trainable_cost(of("by_number", number=0), (8, 8, 1), 10)
    with pytest.raises(BuildError, match="layer 'half' cannot be saved"):
        trainable_cost(of("by_number", number=1), (8, 8, 1), 10)


def test_an_arm_of_the_user_is_checked_in_a_builder_of_invact(monkeypatch):
    def bad(name):
        return keras.layers.Activation(lambda x: keras.ops.relu(x) * 1.1, name=name)

    monkeypatch.setitem(arms._ARMS, "users_lambda", arms.Arm("users_lambda", 1, "1.1 relu", bad))
    with pytest.raises(BuildError, match=r"^model 'cnn': layer 'stage1_act' cannot be saved"):
        trainable_cost(Config(activation="users_lambda", filters=2, depth=1), (8, 8, 1), 10)


def test_a_training_that_keeps_its_network_is_refused_before_it_begins(digits: Dataset):
    epochs = []
    config = of("subclass").model_copy(update={"epochs": 1})
    with pytest.raises(BuildError, match="cannot be saved"):
        train(config, 0, digits, on_epoch=epochs.append, keep_model=True)
    assert not epochs


def test_the_check_changes_no_number(digits: Dataset, monkeypatch):
    checked = []

    def fit(network, *rest):
        return [*network.model.get_weights(), np.asarray(keras.random.normal((3,)))]

    def problem(config, model):
        checked.append(config)
        return saving_problem(config, model)

    monkeypatch.setattr("invact.training.loop._fit", fit)
    monkeypatch.setattr(saving, "saving_problem", problem)
    first, again = (train(of("with_layer"), 0, digits, keep_model=True) for _ in range(2))
    assert len(checked) == 1
    for left, right in zip(first, again, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda layer, inputs, outputs: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda layer, inputs, outputs: None, "returned None. Allowed: an integer of 0 or more"),
        (lambda layer, inputs, outputs: 2.5, "returned 2.5"),
        (lambda layer, inputs, outputs: -1, "returned -1"),
        (lambda layer, inputs, outputs: np.int64(7), None),
    ],
)
def test_a_rule_of_the_user_that_fails_is_one_line(rule, words):
    class Ruled(keras.Layer):
        def call(self, x):
            return x

    register_macs(Ruled, rule)
    model = keras.Sequential([keras.Input((4,)), Ruled(name="ruled")])
    if words is None:
        assert count_macs(model).macs == 7
    else:
        with pytest.raises(InputError, match=f"^layer 'ruled': the rule of Ruled .* {words}"):
            count_macs(model)
