import re

import keras
import numpy as np
import pytest
from hlo import hlo_macs
from keras import layers as kl
from keras import ops

from invact.cost.count import count_macs
from invact.cost.trace import list_calls
from invact.errors import InputError


def names(model):
    return [call.name for call in list_calls(model).calls]


class Block(keras.layers.Layer):
    """A layer with two layers of its own and a product of two tensors."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.left, self.right = kl.Dense(4, name="left"), kl.Dense(4, name="right")

    def build(self, shape):
        self.left.build(shape)
        self.right.build(shape)

    def call(self, inputs):
        left = self.left(inputs)
        return left @ ops.transpose(self.right(left * 2 + inputs), (0, 2, 1))

    def compute_output_shape(self, shape):
        return (*shape[:-1], shape[-2])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.stem = kl.Conv2D(4, 3, name="stem")
        self.norm = kl.BatchNormalization(name="norm")
        open_shape = keras.Input((None, None, 4))
        conv = kl.Conv2D(4, 3, padding="same", name="conv")
        self.body = keras.Sequential([open_shape, conv, kl.ReLU()], name="body")
        self.head = kl.Dense(2, name="head")

    def call(self, inputs, training=None):
        x = self.norm(self.stem(inputs), training=training)
        x = self.body(x) + x
        x = self.body(x)
        if training:
            x = x * 2
        return self.head(ops.mean(x, axis=(1, 2)))


def test_a_subclassed_model_is_followed():
    model = Subclassed()
    model(np.zeros((2, 9, 9, 3)))
    # Keras numbers `re_lu` across the whole process.
    assert [re.sub(r"_\d+$", "", name) for name in names(model)] == [
        "stem", "norm", "body/conv", "body/re_lu", "add", "body/conv", "body/re_lu", "mean", "head",
    ]  # fmt: skip
    cost = count_macs(model)
    assert cost.macs == hlo_macs(model, (9, 9, 3)) == 49 * (27 * 4 + 2 * 36 * 4) + 8
    assert cost.params == model.count_params()
    assert count_macs(model, (12, 9, 3)).macs == hlo_macs(model, (12, 9, 3)) > cost.macs
    with pytest.raises(InputError, match="input_shape: received"):
        count_macs(model, (12, 9))


def test_counting_leaves_a_model_as_it_was():
    model = Subclassed()
    model(np.zeros((2, 9, 9, 3)))
    layers = [model, *model._flatten_layers()]

    def state():
        return [
            (set(vars(layer)), len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in layers
        ], [weight.path for weight in model.weights]

    before, output = state(), model(np.ones((1, 9, 9, 3)))
    assert count_macs(model) == count_macs(model)
    assert state() == before
    np.testing.assert_array_equal(model(np.ones((1, 9, 9, 3))), output)


def test_a_keras_function_is_followed():
    inputs = keras.Input((5,))
    function = keras.Function(inputs, kl.Dense(3, name="dense")(inputs) + 1)
    assert count_macs(function).macs == 15


def test_a_layer_made_of_layers_is_followed_inside_a_functional_model():
    inputs = keras.Input((6, 4))
    model = keras.Model(inputs, kl.Dense(3, name="out")(Block(name="block")(inputs)))
    assert names(model) == [
        "block/left", "block/multiply", "block/add", "block/right", "block/transpose", "block/matmul", "out",
    ]  # fmt: skip
    cost = count_macs(model)
    assert cost.macs == hlo_macs(model) == 2 * 6 * 16 + 6 * 6 * 4 + 6 * 6 * 3
    assert cost.params == model.count_params()


def test_several_arguments_need_their_shapes():
    class Two(keras.Model):
        def __init__(self):
            super().__init__(name="two")
            self.dense = kl.Dense(3)

        def call(self, left, right):
            return self.dense(left) + self.dense(right)

    model = Two()
    model(np.zeros((2, 5)), np.zeros((2, 5)))
    assert count_macs(model, [(5,), (5,)]).macs == 30
    with pytest.raises(InputError, match=r"Allowed: numbers that fit the 2 arguments of its call"):
        count_macs(model)


def test_a_dictionary_of_inputs_is_accepted():
    class Named(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = kl.Dense(3)

        def call(self, inputs):
            return self.dense(inputs["a"]) + self.dense(inputs["b"])

    model = Named()
    model({"a": np.zeros((2, 5)), "b": np.zeros((2, 5))})
    assert count_macs(model).macs == 30
    inner_inputs = {"b": keras.Input((5,), name="b"), "a": keras.Input((6,), name="a")}
    inner = keras.Model(inner_inputs, kl.Dense(2)(inner_inputs["a"]) + kl.Dense(2)(inner_inputs["b"]))
    outer = [keras.Input((6,)), keras.Input((5,))]
    model = keras.Model(outer, inner({"a": outer[0], "b": outer[1]}))
    assert count_macs(model).macs == 2 * 11


def test_an_overridden_call_is_followed_instead_of_the_graph():
    class Doubled(keras.Model):
        def call(self, inputs):
            return super().call(inputs) + super().call(2 * inputs)

    inputs = keras.Input((5,))
    model = Doubled(inputs, kl.Dense(3)(inputs))
    assert count_macs(model).macs == 30 == hlo_macs(model)


def test_nested_models_are_counted_at_each_call():
    inner = keras.Sequential(
        [keras.Input((None, None, 3)), kl.Conv2D(3, 3, padding="same", name="conv")], name="inner"
    )
    middle_input = keras.Input((None, None, 3))
    middle = keras.Model(middle_input, kl.ReLU(name="act")(inner(middle_input)), name="middle")
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, kl.GlobalAveragePooling2D()(middle(kl.AveragePooling2D(2)(middle(inputs)))))
    cost = count_macs(model)
    assert [row.name for row in cost.layers][:2] == ["middle/inner/conv", "middle/act"]
    assert cost.macs == hlo_macs(model, (8, 8, 3)) == (64 + 16) * 81
    assert cost.params == model.count_params()


def test_bidirectional_layers_count_both_directions_and_their_merge():
    inputs = keras.Input((6, 3))
    layer = kl.Bidirectional(kl.LSTM(4, return_sequences=True, return_state=True, name="lstm"), name="both")
    model = keras.Model(inputs, layer(inputs))
    assert names(model) == ["both/forward_lstm", "both/backward_lstm", "both/flip", "both/concatenate"]
    assert [tensor.shape for tensor in list_calls(model).outputs] == [(1, 6, 8), *[(1, 4)] * 4]
    for mode, shape in {"sum": (1, 4), "ave": (1, 4), "mul": (1, 4), "concat": (1, 8)}.items():
        model = keras.Model(inputs, kl.Bidirectional(kl.GRU(4), merge_mode=mode)(inputs))
        assert list_calls(model).outputs[0].shape == shape
        assert count_macs(model).params == model.count_params()


def test_open_dimensions_need_an_input_shape():
    inputs = keras.Input((None, None, 3))
    x = kl.GlobalAveragePooling2D()(kl.Conv2D(4, 3)(inputs))
    model = keras.Model(inputs, kl.Dense(2)(x))
    assert count_macs(model, (8, 10, 3)).macs == 6 * 8 * 27 * 4 + 8
    for shape in (None, (8, 3), (8, 10, 1), (None, 10, 3), [(8, 10, 3), (1,)]):
        with pytest.raises(InputError, match=r"input_shape: received .* Allowed: numbers that fit"):
            count_macs(model, shape)
    with pytest.raises(InputError, match="layer 'conv2d"):
        count_macs(model, (2, 2, 3))


def test_a_shape_that_depends_on_values_is_refused():
    inputs = keras.Input((5,))
    places = ops.nonzero(inputs)[0]
    with pytest.raises(InputError, match="depends on the values of its inputs"):
        count_macs(keras.Model(inputs, places))


def test_a_fixed_batch_is_counted_as_one():
    inputs = keras.Input(batch_shape=(16, 5))
    assert count_macs(keras.Model(inputs, kl.Dense(3)(inputs))).macs == 15


def test_several_inputs_take_a_list_of_shapes():
    inputs = [keras.Input((None, 2)), keras.Input((None, 2))]
    model = keras.Model(inputs, [kl.Dense(3)(inputs[0]), kl.Dense(4)(inputs[1])])
    assert count_macs(model, [(5, 2), (7, 2)]).macs == 5 * 6 + 7 * 8


def test_only_built_models_are_accepted():
    for model in (keras.Sequential([kl.Dense(3)], name="unbuilt"), Subclassed()):
        with pytest.raises(
            InputError, match=r"model '\w+': not built, .* Allowed: start it with keras\.Input"
        ):
            count_macs(model)
    for thing in ("model", kl.Dense(3), None):
        with pytest.raises(InputError, match=r"model: received \w+\. Allowed: a Keras model"):
            count_macs(thing)


@pytest.mark.filterwarnings("ignore:`build:UserWarning")
def test_a_model_that_is_only_marked_as_built_is_refused():
    model = Subclassed()
    model.built = True
    with pytest.raises(InputError, match="call the model on data once"):
        count_macs(model, (9, 9, 3))


def test_a_model_with_weights_of_its_own_needs_a_rule():
    class Scaled(keras.Model):
        def build(self, shape):
            self.scale = self.add_weight(shape=(shape[-1],))

        def call(self, inputs):
            return inputs * self.scale

    model = Scaled(name="scaled")
    model(np.zeros((2, 5)))
    with pytest.raises(
        InputError, match=r"layer 'scaled': no rule for the MACs of Scaled, which has weights"
    ):
        count_macs(model)


def test_code_that_cannot_be_followed_is_refused():
    import tensorflow as tf

    inputs = keras.Input((5,))
    model = keras.Model(inputs, kl.Lambda(lambda x: tf.matmul(x, tf.ones((5, 2))), name="opaque")(inputs))
    with pytest.raises(
        InputError, match=r"layer 'opaque': the call of Lambda cannot be followed \(A KerasTensor"
    ) as error:
        count_macs(model)
    assert "\n" not in str(error.value)
    clear = keras.Model(inputs, kl.Lambda(lambda x: ops.matmul(x, ops.ones((5, 2))))(inputs))
    assert count_macs(clear).macs == 10
