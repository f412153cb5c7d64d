import itertools
import math

import keras
import pytest
from hlo import hlo_macs, hlo_text
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers as kl
from keras import ops

from invact.arms import get_arm
from invact.cost.count import count_macs
from invact.cost.rules import register_macs
from invact.errors import InputError


def chain(shape, *layers, dtype=None):
    x = inputs = keras.Input(shape, dtype=dtype)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


LAYERS = [
    (lambda: kl.Dense(3), (5,)),
    (lambda: kl.Dense(3), (4, 5)),
    (lambda: kl.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3)), (4, 5)),
    (lambda: kl.EinsumDense("...x,xy->...y", output_shape=7), (4, 2, 5)),
    (lambda: kl.EinsumDense("abc,bcd->abd", output_shape=(4, 3)), (4, 5)),
    (lambda: kl.Conv1D(3, 3, padding="causal"), (9, 2)),
    (lambda: kl.Conv1D(4, 3, strides=2, groups=2), (9, 2)),
    (lambda: kl.Conv2D(4, 3), (8, 8, 2)),
    (lambda: kl.Conv2D(4, (3, 2), padding="same", strides=(2, 1)), (9, 8, 2)),
    (lambda: kl.Conv2D(6, 3, groups=2, padding="same"), (8, 8, 4)),
    (lambda: kl.Conv2D(4, 3, data_format="channels_first"), (2, 8, 8)),
    (lambda: kl.Conv2D(4, 3, activation="relu", use_bias=False), (8, 8, 2)),
    (lambda: kl.Conv3D(2, 2, strides=2, padding="same"), (5, 4, 4, 1)),
    (lambda: kl.Conv3D(2, 2, data_format="channels_first"), (1, 5, 4, 4)),
    (lambda: kl.DepthwiseConv1D(3, depth_multiplier=2), (8, 2)),
    (lambda: kl.DepthwiseConv2D(3, depth_multiplier=2, strides=2), (8, 8, 3)),
    (lambda: kl.DepthwiseConv2D(3, data_format="channels_first"), (3, 8, 8)),
    (lambda: kl.SeparableConv1D(4, 3), (8, 2)),
    (lambda: kl.SeparableConv2D(4, 3, strides=2, depth_multiplier=3, padding="same"), (9, 9, 2)),
    (lambda: kl.SeparableConv2D(4, 3, data_format="channels_first"), (2, 9, 9)),
    (lambda: kl.Conv1DTranspose(4, 3, strides=2), (8, 2)),
    (lambda: kl.Conv2DTranspose(4, 3, strides=2, padding="same"), (8, 8, 2)),
    (lambda: kl.Conv2DTranspose(4, 2, strides=3), (8, 8, 2)),
    (lambda: kl.Conv2DTranspose(4, 3, strides=2, data_format="channels_first"), (2, 8, 8)),
    (lambda: kl.Conv3DTranspose(2, 3, strides=2), (3, 4, 3, 2)),
    (lambda: kl.SpectralNormalization(kl.Conv2D(4, 3)), (8, 8, 2)),
    (lambda: kl.TimeDistributed(kl.Conv2D(4, 3)), (5, 8, 8, 2)),
    (lambda: kl.TimeDistributed(keras.Sequential([kl.Dense(3), kl.ReLU(), kl.Dense(2)])), (5, 7)),
    (lambda: kl.SimpleRNN(4, unroll=True), (6, 3)),
    (lambda: kl.GRU(4, unroll=True), (6, 3)),
    (lambda: kl.GRU(4, unroll=True, reset_after=False, return_sequences=True), (6, 3)),
    (lambda: kl.LSTM(4, unroll=True, return_sequences=True), (6, 3)),
    (lambda: kl.RNN(kl.LSTMCell(4), unroll=True), (6, 3)),
    (lambda: kl.Bidirectional(kl.LSTM(4, unroll=True)), (6, 3)),
    (lambda: kl.Bidirectional(kl.GRU(4, unroll=True, return_sequences=True), merge_mode="sum"), (6, 3)),
    (lambda: kl.TimeDistributed(kl.LSTM(4, unroll=True)), (2, 6, 3)),
    (lambda: kl.ConvLSTM1D(3, 3, unroll=True), (4, 8, 2)),
    (lambda: kl.ConvLSTM2D(3, 3, unroll=True, return_sequences=True, strides=2), (4, 9, 9, 2)),
    (lambda: kl.ConvLSTM2D(3, 3, unroll=True, padding="same", data_format="channels_first"), (4, 2, 6, 6)),
    (lambda: kl.ConvLSTM3D(2, 2, unroll=True), (3, 4, 4, 4, 1)),
]


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_each_layer_agrees_with_hlo(make, shape):
    model = chain(shape, make())
    cost = count_macs(model)
    assert cost.macs == hlo_macs(model, shape) > 0
    assert cost.params == model.count_params()


NO_MACS = [
    (lambda: kl.Embedding(10, 4), (5,)),
    (lambda: kl.BatchNormalization(), (8, 8, 3)),
    (lambda: kl.GroupNormalization(2), (8, 8, 4)),
    (lambda: kl.LayerNormalization(), (8, 8, 3)),
    (lambda: kl.RMSNormalization(), (8, 8, 3)),
    (lambda: kl.UnitNormalization(), (8, 3)),
    (lambda: kl.Normalization(mean=1.0, variance=2.0), (8, 3)),
    (lambda: kl.PReLU(), (8, 3)),
    (lambda: kl.MaxPooling2D(2), (8, 8, 3)),
    (lambda: kl.AveragePooling3D(2), (4, 4, 4, 3)),
    (lambda: kl.AdaptiveAveragePooling2D(3), (8, 8, 3)),
    (lambda: kl.GlobalAveragePooling2D(), (8, 8, 3)),
    (lambda: kl.GlobalMaxPooling1D(), (8, 3)),
    (lambda: kl.ZeroPadding2D(1), (8, 8, 3)),
    (lambda: kl.Cropping2D(1), (8, 8, 3)),
    (lambda: kl.UpSampling2D(2), (8, 8, 3)),
    (lambda: kl.Rescaling(2.0), (8, 8, 3)),
    (lambda: kl.Softmax(), (8, 3)),
    (lambda: kl.RepeatVector(3), (8,)),
    (lambda: kl.Permute((2, 1)), (8, 3)),
    (lambda: get_arm("inverse").layer(None), (8, 8, 3)),
]


@pytest.mark.parametrize(("make", "shape"), NO_MACS)
def test_layers_without_multiply_adds_have_none_in_hlo_either(make, shape):
    model = chain(shape, make(), dtype="int32" if len(shape) == 1 and shape == (5,) else None)
    cost = count_macs(model)
    assert cost.macs == hlo_macs(model) == 0
    assert cost.params == model.count_params()


@pytest.mark.parametrize(
    "make",
    [
        lambda: kl.Resizing(5, 7),
        lambda: kl.UpSampling2D(2, interpolation="bilinear"),
        lambda: kl.Resizing(5, 7, interpolation="nearest"),
    ],
)
def test_resizing_is_elementwise(make):
    # The HLO has a product with a matrix of weights, most of which are 0. The convention counts the elements
    # that resizing writes.
    model = chain((8, 8, 3), make())
    cost = count_macs(model)
    assert hlo_macs(model) > 0
    assert (cost.macs, cost.elementwise) == (0, math.prod(cost.layers[0].output_shape))


def attending(layer, *shapes, **how):
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, layer(*inputs, **how))


ATTENTION = [
    (lambda: kl.MultiHeadAttention(2, 4), [(5, 8), (6, 7)], {}),
    (lambda: kl.MultiHeadAttention(2, 4, value_dim=3, output_shape=9), [(5, 8), (6, 7)], {}),
    (lambda: kl.MultiHeadAttention(2, 4, dropout=0.1), [(5, 8), (6, 7)], {}),
    (lambda: kl.MultiHeadAttention(2, 4), [(5, 8), (5, 7)], {"use_causal_mask": True}),
    (lambda: kl.MultiHeadAttention(2, 4, dropout=0.1), [(5, 8), (5, 7)], {"use_causal_mask": True}),
    (lambda: kl.MultiHeadAttention(2, 4), [(5, 8), (6, 7), (6, 3)], {}),
    (lambda: kl.MultiHeadAttention(2, 4, attention_axes=(1, 2)), [(3, 5, 8), (2, 6, 7)], {}),
    (lambda: kl.GroupQueryAttention(4, 4, 2), [(5, 8), (6, 8)], {}),
    (lambda: kl.GroupQueryAttention(4, 6, 3, dropout=0.1), [(5, 8), (6, 8)], {}),
]


@pytest.mark.parametrize(("make", "shapes", "how"), ATTENTION)
def test_attention_agrees_with_hlo(make, shapes, how):
    model = attending(make(), *shapes, **how)
    cost = count_macs(model)
    assert cost.macs == hlo_macs(model) > 0
    assert cost.params == model.count_params()


@pytest.mark.parametrize(
    ("make", "filters"),
    [
        (lambda: kl.Dense(3), 3),
        (lambda: kl.EinsumDense("abcd,dxy->abcxy", output_shape=(None, None, 2, 3)), 6),
        (lambda: kl.Conv2D(6, 3, groups=2), 6),
        (lambda: kl.Conv2DTranspose(5, 3), 5),
        (lambda: kl.DepthwiseConv2D(3, depth_multiplier=3), 12),
        (lambda: kl.SeparableConv2D(5, 3, depth_multiplier=2), 13),
        (lambda: kl.BatchNormalization(), 0),
        (lambda: kl.ConvLSTM1D(5, 3), 5),
        (lambda: kl.TimeDistributed(kl.Bidirectional(kl.LSTM(5))), 10),
    ],
)
def test_filters_are_trained_output_channels(make, filters):
    assert count_macs(chain((8, 8, 4), make())).filters == filters


def test_filters_of_a_conv_ignore_what_its_activation_does_to_the_channels():
    class Doubling(kl.Conv2D):
        def compute_output_shape(self, input_shape):
            *rest, channels = super().compute_output_shape(input_shape)
            return (*rest, 2 * channels)

    layer = Doubling(4, 3, activation=get_arm("inverse").layer(None), name="conv")
    cost = count_macs(chain((8, 8, 2), layer))
    assert (cost.filters, cost.macs) == (4, 6 * 6 * 9 * 2 * 4)
    assert cost.elementwise == 6 * 6 * 8


# The exceptions, in which the HLO has other products than the convention counts.


@pytest.mark.parametrize("layer", [kl.SimpleRNN, kl.GRU, kl.LSTM])
def test_a_loop_counts_like_an_unrolled_loop(layer):
    # The HLO contains the body of a loop only once.
    looped, unrolled = (chain((6, 3), layer(4, unroll=unroll)) for unroll in (False, True))
    assert "while(" in hlo_text(looped)
    assert count_macs(looped).macs == count_macs(unrolled).macs == hlo_macs(unrolled)


def test_stacked_cells_count_once_for_each_step():
    # Keras runs the cells once more, all or all but the last, to get the shapes of their dropout masks.
    # Nothing reads the result.
    model = chain((6, 3), kl.RNN([kl.LSTMCell(4), kl.GRUCell(5), kl.SimpleRNNCell(2)], unroll=True))
    a_step = 4 * (3 * 4 + 4 * 4) + 3 * (4 * 5 + 5 * 5) + (5 * 2 + 2 * 2)
    more = hlo_macs(model) - 6 * a_step
    assert more in (a_step, a_step - (5 * 2 + 2 * 2))
    assert count_macs(model).macs == 6 * a_step
    assert count_macs(model).elementwise == 6 * (5 * 4 + 3 * 5 + 2)
    assert count_macs(model).filters == 4 + 5 + 2


def taps(size, kernel, stride, dilation, padding):
    """Count the pairs of an output and a tap of a convolution on one axis, including taps on the padding."""
    reach = dilation * (kernel - 1) + 1
    starts = range(0, size, stride) if padding == "same" else range(0, size - reach + 1, stride)
    return sum(1 for _ in itertools.product(starts, range(kernel)))


@st.composite
def convolutions(draw):
    """Draw any parameters of a Conv2D that Keras allows, and an image that fits."""
    groups, dilated = draw(st.sampled_from([1, 2, 3])), draw(st.booleans())
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    given = {
        "filters": groups * draw(st.integers(1, 3)),
        "kernel_size": draw(pair),
        "strides": (1, 1) if dilated else draw(pair),
        "dilation_rate": draw(pair) if dilated else (1, 1),
        "padding": draw(st.sampled_from(["valid", "same"])),
        "groups": groups,
        "data_format": draw(st.sampled_from(["channels_first", "channels_last"])),
    }
    return given, draw(st.tuples(st.integers(7, 9), st.integers(7, 9))), groups * draw(st.integers(1, 3))


@settings(max_examples=25, deadline=None)
@given(convolutions())
def test_a_convolution_costs_one_mac_for_each_pair_of_output_and_tap(drawn):
    given, image, channels = drawn
    first = given["data_format"] == "channels_first"
    model = chain((channels, *image) if first else (*image, channels), kl.Conv2D(**given))
    axes = zip(image, given["kernel_size"], given["strides"], given["dilation_rate"], strict=True)
    pairs = math.prod(taps(*axis, given["padding"]) for axis in axes)
    expected = pairs * channels // given["groups"] * given["filters"]
    assert count_macs(model).macs == expected
    if given["dilation_rate"] == (1, 1):
        # For a dilated convolution the HLO has a batch of smaller, padded images (SpaceToBatchND).
        assert hlo_macs(model) == expected


def test_dilation_does_not_change_the_macs():
    assert count_macs(chain((9, 2), kl.Conv1D(3, 3, padding="causal", dilation_rate=2))).macs == 9 * 3 * 2 * 3
    transposed = kl.Conv2DTranspose(3, 3, dilation_rate=2, padding="same")
    assert count_macs(chain((5, 5, 2), transposed)).macs == 5 * 5 * 9 * 2 * 3


def test_a_reversible_embedding_costs_macs_only_in_reverse():
    layer = kl.ReversibleEmbedding(11, 4)
    words = keras.Input((5,), dtype="int32")
    model = keras.Model(words, layer(layer(words), reverse=True))
    cost = count_macs(model)
    assert [row.macs for row in cost.layers] == [0, 5 * 4 * 11]
    assert cost.macs == hlo_macs(model)
    assert cost.params == model.count_params()


def test_an_axis_that_is_folded_into_the_batch_counts():
    inputs = keras.Input((3, 8, 8, 2))
    frames = ops.reshape(inputs, (-1, 8, 8, 2))
    for layer in (
        kl.Conv2D(4, 3),
        kl.Conv2DTranspose(4, 3, strides=2),
        kl.SeparableConv2D(4, 3),
        kl.Dense(5),
    ):
        model = keras.Model(inputs, layer(frames))
        assert count_macs(model).macs == hlo_macs(model)


@keras.saving.register_keras_serializable("invact_tests")
class Scale(keras.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones")

    def call(self, inputs):
        return inputs * self.scale

    def compute_output_shape(self, input_shape):
        return input_shape


def test_an_unknown_layer_with_weights_is_refused_until_it_is_registered():
    model = chain((5,), Scale(name="scale"))
    with pytest.raises(InputError, match=r"layer 'scale': .* Scale, .*invact\.register_macs\(Scale, rule\)"):
        count_macs(model)
    register_macs(Scale, lambda layer, inputs, outputs: math.prod(outputs[0]), filters=lambda layer: 2)
    cost = count_macs(model)
    assert (cost.macs, cost.params, cost.filters, cost.elementwise) == (5, 5, 2, 0)
    with pytest.raises(InputError, match="Scale has a rule already"):
        register_macs(Scale, lambda layer, inputs, outputs: 0)
    with pytest.raises(InputError, match="Dense has a rule already"):
        register_macs(kl.Dense, lambda layer, inputs, outputs: 0)


class Cell(keras.Layer):
    state_size = output_size = 4

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 4))

    def call(self, inputs, states):
        output = ops.tanh(inputs @ self.kernel + states[0])
        return output, [output]


def test_a_users_own_cell_needs_a_rule():
    model = chain((6, 3), kl.RNN(Cell(), name="rnn", unroll=True))
    with pytest.raises(
        InputError, match=r"layer 'rnn': .* cell Cell\. .*invact\.register_macs\(Cell, rule\)"
    ):
        count_macs(model)
    register_macs(Cell, lambda cell, i, o: i[0][-1] * 4, elementwise=lambda cell, i, o: o[0][-1])
    cost = count_macs(model)
    assert cost.macs == hlo_macs(model) == 6 * 3 * 4
    assert cost.elementwise == 6 * 4


def test_a_subclass_has_the_rule_of_its_base_unless_it_overrides_call():
    class Renamed(kl.Dense):
        pass

    class Twice(kl.Dense):
        def call(self, inputs):
            return super().call(super().call(inputs))

    assert count_macs(chain((5,), Renamed(5))).macs == 25
    with pytest.raises(InputError, match="MACs of Twice"):
        count_macs(chain((5,), Twice(5)))
