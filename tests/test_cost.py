from __future__ import annotations

import math
import re

import keras
import pytest
from keras import layers as kl

from invact.arms import ARMS, get_arm
from invact.config import Config
from invact.cost import Cost, LayerCost, count_macs, register_macs
from invact.errors import InputError
from invact.models import BUILDERS, build_model

# The independent counter: the convolutions and dot products that XLA is given, before it optimises them.

_ARRAY = r"\w+\[([\d,]*)\]\S*"
_CONVOLUTION = re.compile(rf"= {_ARRAY} convolution\({_ARRAY} \S+, {_ARRAY} \S+\)(.*)")
_DOT = re.compile(rf"= {_ARRAY} dot\({_ARRAY} \S+, {_ARRAY} \S+\)(.*)")


def _dims(text):
    return [int(size) for size in text.split(",") if size]


def hlo_macs(model, *shapes):
    import tensorflow as tf

    function = tf.function(
        lambda *images: model(list(images) if len(images) > 1 else images[0], training=False),
        jit_compile=True,
    )
    specs = [tf.TensorSpec((1, *shape), tf.float32) for shape in shapes]
    text = function.experimental_get_compiler_ir(*specs)(stage="hlo")
    total = 0
    for output, left, right, rest in _CONVOLUTION.findall(text):
        images, kernel, _ = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", rest).groups()
        taps = math.prod(size for size, label in zip(_dims(right), kernel, strict=True) if label != "o")
        if "lhs_dilate" in rest:
            # A transposed convolution: each input position meets the whole kernel once.
            left_sizes = zip(_dims(left), images, strict=True)
            total += math.prod(_dims(right)) * math.prod(s for s, label in left_sizes if label not in "bf")
        else:
            total += math.prod(_dims(output)) * taps
    for output, left, _, rest in _DOT.findall(text):
        axes = _dims(re.search(r"lhs_contracting_dims=\{([\d,]*)\}", rest)[1])
        total += math.prod(_dims(output)) * math.prod(_dims(left)[axis] for axis in axes)
    assert len(_CONVOLUTION.findall(text)) == text.count(" convolution(")
    assert len(_DOT.findall(text)) == text.count(" dot(")
    return total


def chain(shape, *layers):
    x = inputs = keras.Input(shape)
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
    (lambda: kl.DepthwiseConv1D(3, depth_multiplier=2), (8, 2)),
    (lambda: kl.DepthwiseConv2D(3, depth_multiplier=2, strides=2), (8, 8, 3)),
    (lambda: kl.SeparableConv1D(4, 3), (8, 2)),
    (lambda: kl.SeparableConv2D(4, 3, strides=2, depth_multiplier=3, padding="same"), (9, 9, 2)),
    (lambda: kl.Conv1DTranspose(4, 3, strides=2), (8, 2)),
    (lambda: kl.Conv2DTranspose(4, 3, strides=2, padding="same"), (8, 8, 2)),
    (lambda: kl.Conv2DTranspose(4, 2, strides=3), (8, 8, 2)),
    (lambda: kl.Conv3DTranspose(2, 3, strides=2), (3, 4, 3, 2)),
]


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_each_layer_agrees_with_hlo(make, shape):
    model = chain(shape, make())
    cost = count_macs(model)
    assert cost.macs == hlo_macs(model, shape) > 0
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


def test_a_dilated_convolution_costs_its_output_times_its_taps():
    # XLA is given a batch of smaller, padded images here (SpaceToBatchND), so HLO counts that padding too.
    model = chain((8, 8, 2), kl.Conv2D(4, 3, dilation_rate=2))
    assert count_macs(model).macs == 4 * 4 * 9 * 2 * 4
    assert count_macs(chain((9, 2), kl.Conv1D(3, 3, padding="causal", dilation_rate=2))).macs == 9 * 3 * 2 * 3


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (lambda: kl.Dot(axes=-1), [(4, 5), (3, 5)]),
        (lambda: kl.Dot(axes=(1, 2)), [(5, 4), (3, 5)]),
        (lambda: kl.Attention(), [(4, 5), (3, 5)]),
        (lambda: kl.Attention(), [(4, 5), (3, 6), (3, 5)]),
    ],
)
def test_weightless_products_agree_with_hlo(layer, shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    model = keras.Model(inputs, layer()(inputs))
    assert count_macs(model).macs == hlo_macs(model, *shapes) > 0


NETWORKS = [(model, arm, "filters") for model in BUILDERS for arm in ("relu", "inverse")]
NETWORKS += [("cnn", arm, "filters") for arm in ARMS if arm.isidentifier() and arm not in ("relu", "inverse")]
NETWORKS += [(model, "inverse", rule) for model in BUILDERS for rule in ("channels", "macs", "params")]


@pytest.mark.parametrize(("model", "arm", "rule"), NETWORKS)
def test_each_network_agrees_with_hlo(model, arm, rule):
    config = Config(model=model, activation=arm, width_rule=rule, filters=5, depth=2, normalization="batch")
    network = build_model(config, (9, 8, 3), 7)
    cost = count_macs(network)
    assert cost.macs == hlo_macs(network, (9, 8, 3)) > 0
    assert cost.params == network.count_params()


@pytest.mark.parametrize(("alpha", "millions"), [(1.0, 568.74), (0.75, 325.40), (0.5, 149.50), (0.25, 41.03)])
def test_mobilenet_costs_what_its_paper_says(alpha, millions):
    network = keras.applications.MobileNet(weights=None, alpha=alpha)
    cost = count_macs(network)
    assert round(cost.macs / 1e6, 2) == millions
    assert cost.params == network.count_params()


def test_inverse_everywhere_scales_hidden_macs_by_twice_the_square_of_the_filters():
    def hidden(arm, filters):
        config = Config(model="vgg", activation=arm, filters=filters, depth=3)
        rows = count_macs(build_model(config, (16, 16, 3), 10)).layers
        return sum(row.macs for row in rows if row.name not in ("stage1_conv1", "logits"))

    for numerator, denominator in ((1, 1), (1, 2), (3, 4)):
        filters = 16 * numerator // denominator
        assert hidden("inverse", filters) * denominator**2 == 2 * numerator**2 * hidden("relu", 16)


def test_a_shared_layer_counts_macs_at_each_call_and_weights_once():
    conv = kl.Conv2D(3, 3, padding="same", name="shared")
    inputs = keras.Input((8, 8, 3))
    elsewhere = conv(keras.Input((32, 32, 3)))
    assert elsewhere.shape == (None, 32, 32, 3)
    small = conv(kl.MaxPooling2D(2)(conv(inputs)))
    model = keras.Model(inputs, small)
    rows = [row for row in count_macs(model).layers if row.name == "shared"]
    assert [row.macs for row in rows] == [64 * 81, 16 * 81]
    assert [row.params for row in rows] == [84, 0]
    assert [row.filters for row in rows] == [3, 0]
    assert count_macs(model).macs == hlo_macs(model, (8, 8, 3))


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


def test_a_batch_that_is_folded_into_another_axis_counts_in_full():
    inputs = keras.Input((8, 4))
    flat = keras.ops.reshape(inputs, (-1, 4))
    model = keras.Model(inputs, kl.Dense(5)(flat))
    assert count_macs(model).macs == 8 * 4 * 5 == hlo_macs(model, (8, 4))


def test_open_dimensions_need_an_input_shape():
    model = chain((None, None, 3), kl.Conv2D(4, 3), kl.GlobalAveragePooling2D(), kl.Dense(2))
    assert count_macs(model, (8, 10, 3)).macs == 6 * 8 * 27 * 4 + 8
    for shape in (None, (8, 3), (8, 10, 1), (None, 10, 3), [(8, 10, 3), (1,)]):
        with pytest.raises(InputError, match=r"input_shape: received .* Allowed: numbers that fit"):
            count_macs(model, shape)
    with pytest.raises(InputError, match="layer 'conv2d"):
        count_macs(model, (2, 2, 3))


def test_a_shape_that_depends_on_values_is_refused():
    inputs = keras.Input((5,))
    places = keras.ops.nonzero(inputs)[0]
    with pytest.raises(InputError, match="depends on the values of its inputs"):
        count_macs(keras.Model(inputs, places))


def test_a_fixed_batch_is_counted_as_one():
    inputs = keras.Input(batch_shape=(16, 5))
    assert count_macs(keras.Model(inputs, kl.Dense(3)(inputs))).macs == 15


def test_several_inputs_take_a_list_of_shapes():
    inputs = [keras.Input((None, 2)), keras.Input((None, 2))]
    model = keras.Model(inputs, [kl.Dense(3)(inputs[0]), kl.Dense(4)(inputs[1])])
    assert count_macs(model, [(5, 2), (7, 2)]).macs == 5 * 6 + 7 * 8


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.dense = kl.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


def test_a_model_without_a_graph_is_refused():
    for model in (keras.Sequential([kl.Dense(3)], name="unbuilt"), Subclassed(), "model"):
        with pytest.raises(InputError, match=r"no graph to count\. Allowed: a functional model"):
            count_macs(model)
    with pytest.raises(InputError, match=r"layer 'subclassed': no rule"):
        count_macs(chain((5,), Subclassed()))


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
    with pytest.raises(
        InputError, match=r"layer 'scale': .* Scale, .*invact\.cost\.register_macs\(Scale, rule\)"
    ):
        count_macs(model)
    register_macs(Scale, lambda layer, inputs, outputs: math.prod(outputs[0]), filters=lambda layer: 2)
    cost = count_macs(model)
    assert (cost.macs, cost.params, cost.filters, cost.elementwise) == (5, 5, 2, 0)
    with pytest.raises(InputError, match="Scale has a rule already"):
        register_macs(Scale, lambda layer, inputs, outputs: 0)
    with pytest.raises(InputError, match="Dense has a rule already"):
        register_macs(kl.Dense, lambda layer, inputs, outputs: 0)


def test_a_subclass_follows_the_rule_unless_it_overrides_call():
    class Renamed(kl.Dense):
        pass

    class Twice(kl.Dense):
        def call(self, inputs):
            return super().call(super().call(inputs))

    assert count_macs(chain((5,), Renamed(5))).macs == 25
    with pytest.raises(InputError, match="MACs of Twice"):
        count_macs(chain((5,), Twice(5)))


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1))),
        lambda x: keras.ops.einsum("bij,bkj->bik", x, x),
        lambda x: keras.ops.dot(x, keras.ops.ones((5, 2))),
        lambda x: keras.ops.conv(x, keras.ops.ones((3, 5, 2))),
        lambda x: keras.ops.linalg.inv(keras.ops.reshape(x[:, :4, :4], (-1, 4, 4))),
    ],
)
def test_products_outside_of_layers_are_refused(operation):
    inputs = keras.Input((6, 5))
    with pytest.raises(InputError, match=r"keras\.ops\.\w+ multiplies and adds outside of a layer"):
        count_macs(keras.Model(inputs, operation(inputs)))


def test_elementwise_work_is_apart():
    model = chain(
        (8, 8, 2),
        kl.Rescaling(2.0),
        kl.Conv2D(3, 1, activation="relu"),
        kl.Conv2D(3, 1, activation="linear"),
        kl.BatchNormalization(),
        get_arm("inverse").layer(None),
        kl.MaxPooling2D(2),
        kl.Dropout(0.5),
        kl.Flatten(),
        kl.Dense(4),
    )
    cost = count_macs(model)
    assert [row.elementwise for row in cost.layers] == [128, 192, 0, 192, 384, 96, 0, 0, 0]
    assert [row.macs for row in cost.layers] == [0, 384, 576, 0, 0, 0, 0, 0, 384]
    inputs = keras.Input((3,))
    assert count_macs(keras.Model(inputs, keras.ops.exp(inputs) + inputs)).elementwise == 6


def test_the_table_has_one_row_for_each_call_and_adds_up():
    cost = count_macs(build_model(Config(), (8, 8, 1), 10))
    table = cost.to_pandas()
    assert list(table["name"]) == [row.name for row in cost.layers]
    for column in ("macs", "params", "filters", "elementwise"):
        assert table[column].sum() == getattr(cost, column)
    assert list(Cost(()).to_pandas().columns) == list(table.columns) == list(LayerCost.__annotations__)
