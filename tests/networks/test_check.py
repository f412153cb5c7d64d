from __future__ import annotations

import keras
import pytest
from keras import layers as L  # noqa: N812

from invact.errors import InputError
from invact.layers import DuplicatedActivation, InverseActivation
from invact.networks.check import Doubling, ModelCheck, NonLinearInput, check_model


def inverse(name="inverse", **arguments):
    return InverseActivation(name=name, **arguments)


def check(*layers, shape=(8, 8, 3)):
    return check_model(keras.Sequential([keras.Input(shape), *layers]))


def sources(report):
    return [(problem.layer, problem.source) for problem in report.problems]


class Scale(L.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return x * self.scale + 1


class Mix(L.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 3))

    def call(self, x):
        return keras.ops.matmul(x, self.kernel)


class Square(L.Layer):
    def call(self, x):
        return x * x


class Clip(L.Layer):
    def call(self, x):
        return keras.ops.clip(x, -100, 100)


class Unwilling(L.Layer):
    def call(self, x):
        if self.built and not self.dry:
            raise RuntimeError("not today")
        return x

    dry = True


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.inverse = inverse()

    def call(self, x):
        return self.inverse(x)


AFFINE = [
    L.BatchNormalization,
    L.LayerNormalization,
    lambda: L.Rescaling(2.0, 1.0),
    lambda: L.Dropout(0.5),
    L.ZeroPadding2D,
    L.Cropping2D,
    lambda: L.AveragePooling2D(2),
    L.GlobalAveragePooling2D,
    L.Flatten,
    lambda: L.Reshape((-1, 2)),
    L.Identity,
    lambda: L.Activation("linear"),
    lambda: L.Permute((2, 1, 3)),
    Scale,
]
MIXING = [
    lambda: L.Dense(4),
    lambda: L.Conv2D(4, 3),
    lambda: L.Conv2DTranspose(4, 3),
    lambda: L.DepthwiseConv2D(3),
    lambda: L.SeparableConv2D(4, 3),
    lambda: L.EinsumDense("abcd,de->abce", (None, None, 4)),
    lambda: L.TimeDistributed(L.Dense(4)),
    Mix,
]
NON_LINEAR = [
    lambda: L.ReLU(name="f"),
    lambda: L.LeakyReLU(name="f"),
    lambda: L.Activation("tanh", name="f"),
    lambda: L.Softmax(name="f"),
    lambda: L.MaxPooling2D(name="f"),
    lambda: L.Conv2D(4, 3, activation="relu", name="f"),
    lambda: L.Dense(4, activation="gelu", name="f"),
    lambda: L.ConvLSTM1D(2, 1, name="f"),
    lambda: inverse("f"),
    lambda: InverseActivation("linear", name="f"),
    lambda: DuplicatedActivation(name="f"),
    lambda: Square(name="f"),
    lambda: Clip(name="f"),
]


@pytest.mark.parametrize("make", AFFINE)
def test_the_check_continues_through_affine_layers_without_mixing(make):
    assert sources(check(L.Conv2D(4, 3), make(), inverse())) == []
    assert sources(check(make(), inverse())) == []
    assert sources(check(L.ReLU(name="f"), make(), inverse())) == [("inverse", "f")]


@pytest.mark.parametrize("make", MIXING)
def test_the_check_stops_at_mixing_layers(make):
    assert sources(check(L.ReLU(), make(), inverse())) == []


@pytest.mark.parametrize("make", NON_LINEAR)
def test_every_other_layer_is_a_problem(make):
    report = check(make(), L.BatchNormalization(), inverse())
    assert sources(report) == [("inverse", "f")]


def test_report():
    report = check(L.Conv2D(4, 3), inverse("first"), L.Flatten(), inverse("second"))
    assert report == ModelCheck(
        (Doubling("first", 4, 8), Doubling("second", 288, 576)), (NonLinearInput("second", "first"),)
    )
    assert str(report).splitlines() == [
        "first: 4 -> 8 channels",
        "second: 288 -> 576 channels",
        "problem: second: its input is non-linear already, because of first",
    ]
    assert str(check(L.Dense(2))) == "no doubling layers\nno problems"


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_low_precision_does_not_mistake_rounding_for_a_non_linearity(policy):
    stack = (L.AveragePooling2D(3, dtype=policy), L.TimeDistributed(L.Dense(4, dtype=policy), dtype=policy))
    assert sources(check(*stack, Scale(dtype=policy), inverse(dtype=policy))) == []
    assert sources(check(L.ReLU(name="f", dtype=policy), Scale(dtype=policy), inverse())) == [
        ("inverse", "f")
    ]


def test_unknown_sizes_and_channels_first():
    model = keras.Sequential([keras.Input((None, None, 3)), L.Conv2D(4, 3), L.AveragePooling2D(3), inverse()])
    assert check_model(model).doubled == (Doubling("inverse", 4, 8),)
    assert check(inverse(axis=1), shape=(5, 8, 8)).doubled == (Doubling("inverse", 5, 10),)
    assert check(inverse(), shape=(None,)).doubled == (Doubling("inverse", None, None),)


def test_residual_branches_and_operations():
    i = keras.Input((8,))
    branches = L.Concatenate()([L.Dense(4)(i) * 2 + 1, keras.ops.relu(L.Dense(4)(i)), L.ReLU(name="f")(i)])
    report = check_model(keras.Model(i, inverse()(branches)))
    (_, operation), other = sources(report)
    assert operation.startswith("relu")
    assert other == ("inverse", "f")


def test_the_same_layer_called_many_times():
    i, shared, dense = keras.Input((8,)), inverse(), L.Dense(8)
    outputs = [shared(dense(i)), shared(dense(L.ReLU()(i))), shared(L.ReLU(name="f")(i))]
    report = check_model(keras.Model(i, outputs))
    assert report.doubled == (Doubling("inverse", 8, 16),) * 3
    assert sources(report) == [("inverse", "f")]


def test_the_check_goes_into_and_out_of_nested_models():
    i, inner_input = keras.Input((8,)), keras.Input((4,))
    block = keras.Model(inner_input, inverse()(L.Dropout(0.1)(inner_input)), name="block")
    rectified, linear = L.Dense(4, activation="relu", name="rectified"), L.Dense(4)
    good = keras.Model(i, block(linear(i)))
    assert check_model(good).doubled == (Doubling("block/inverse", 4, 8),)
    assert sources(check_model(good)) == []
    bad = keras.Model(i, inverse("top")(block(rectified(i))))
    assert sources(check_model(bad)) == [("block/inverse", "rectified"), ("top", "block/inverse")]
    stack = [
        keras.Sequential([L.Dense(4), L.ReLU(name="f")], name="a"),
        keras.Sequential([inverse()], name="b"),
    ]
    assert sources(check(*stack, shape=(8,))) == [("b/inverse", "a/f")]


def test_the_inputs_of_a_nested_model_are_distinguished():
    a, b, i = keras.Input((4,), name="a"), keras.Input((4,), name="b"), keras.Input((8,))
    inner = keras.Model([b, a], [L.Identity()(a), L.Identity()(b)])
    for arguments, position in (({"a": 0, "b": 1}, 0), ([1, 0], 0)):
        tensors = [L.Dense(4, activation="relu", name="f")(i), L.Dense(4)(i)]
        chosen = (
            {key: tensors[index] for key, index in arguments.items()}
            if isinstance(arguments, dict)
            else [tensors[index] for index in arguments]
        )
        outputs = inner(chosen)
        assert sources(check_model(keras.Model(i, inverse()(outputs[position])))) == [("inverse", "f")]
        assert sources(check_model(keras.Model(i, inverse()(outputs[1 - position])))) == []


def test_the_output_of_an_embedding_has_both_signs():
    model = keras.Sequential([keras.Input((5,), dtype="int32"), L.Embedding(5, 4), inverse()])
    assert sources(check_model(model)) == []


def test_inverse_layer_as_an_activation():
    last = check(L.ReLU(), L.Dense(4, activation=inverse(), name="dense"))
    assert last == ModelCheck((Doubling("dense", 4, 8),), ())
    report = check(L.ReLU(name="f"), L.Activation(inverse(), name="activation"))
    assert report.doubled == (Doubling("activation", 3, 6),)
    assert sources(report) == [("activation", "f")]
    with pytest.raises(InputError, match=r"'dense' doubles its channels .* Allowed: a layer of its own"):
        check(L.Dense(4, activation=inverse(), name="dense"), L.Dense(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: keras.Sequential([inverse()], name="new"), "model 'new' is not built"),
        (Subclassed, "model 'subclassed': received Subclassed, which has no graph"),
        (lambda: "model.keras", "received str. Allowed: a Keras model"),
        (
            lambda: keras.Sequential([keras.Input((4, 4)), L.TimeDistributed(inverse())]),
            "'inverse' is inside a layer whose graph cannot be followed",
        ),
        (
            lambda: keras.Sequential([keras.Input((4,)), Subclassed()]),
            "'inverse' is inside a layer whose graph cannot be followed",
        ),
    ],
)
def test_models_that_cannot_be_checked_are_refused_in_one_line(make, message):
    with pytest.raises(InputError, match=message) as error:
        check_model(make())
    assert "\n" not in str(error.value)


def test_a_layer_that_cannot_be_probed_is_named_with_the_reason():
    layer = Unwilling(name="unwilling")
    model = keras.Sequential([keras.Input((4,)), layer, inverse()])
    layer.dry = False
    with pytest.raises(InputError, match="layer 'unwilling': cannot tell whether it is affine"):
        check_model(model)
