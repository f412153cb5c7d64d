import json

import keras
import pytest
from hlo import hlo_macs
from keras import layers as kl

from invact.arms import ARMS, get_arm
from invact.config import Config
from invact.cost.count import Cost, LayerCost, count_macs
from invact.layers import InverseActivation
from invact.networks.build import build_model
from invact.networks.builders import BUILDERS

NETWORKS = [(model, arm, "filters") for model in BUILDERS for arm in ("relu", "inverse")]
NETWORKS += [("cnn", arm, "filters") for arm in ARMS if arm.isidentifier() and arm not in ("relu", "inverse")]
NETWORKS += [(model, "inverse", "channels") for model in BUILDERS]
# Other numbers of filters of the same networks.
NETWORKS += [
    pytest.param(model, "inverse", rule, marks=pytest.mark.slow)
    for model in BUILDERS
    for rule in ("macs", "params")
]


@pytest.mark.parametrize(("model", "arm", "rule"), NETWORKS)
def test_each_network_agrees_with_hlo(model, arm, rule):
    config = Config(model=model, activation=arm, width_rule=rule, filters=5, depth=2, normalization="batch")
    network = build_model(config, (9, 8, 3), 7)
    cost = count_macs(network)
    assert cost.macs == hlo_macs(network, (9, 8, 3)) > 0
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


def test_elementwise_work_is_counted_separately():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            kl.Rescaling(2.0),
            kl.Conv2D(3, 1, activation="relu"),
            kl.Conv2D(3, 1, activation="linear"),
            kl.BatchNormalization(),
            get_arm("inverse").layer(None),
            kl.MaxPooling2D(2),
            kl.Dropout(0.5),
            kl.Flatten(),
            kl.Dense(4),
        ]
    )
    cost = count_macs(model)
    assert [row.elementwise for row in cost.layers] == [128, 192, 0, 192, 384, 96, 0, 0, 0]
    assert [row.macs for row in cost.layers] == [0, 384, 576, 0, 0, 0, 0, 0, 384]
    assert [row.bytes_written // 4 for row in cost.layers] == [128, 192, 192, 192, 384, 96, 0, 0, 4]
    inputs = keras.Input((3,))
    assert count_macs(keras.Model(inputs, keras.ops.exp(inputs) + inputs)).elementwise == 6


def test_activations_inside_layers_are_elementwise_work():
    inputs = keras.Input((6, 3))
    recurrent = {kl.SimpleRNN: 1, kl.GRU: 3, kl.LSTM: 5}
    for layer, activations in recurrent.items():
        assert count_macs(keras.Model(inputs, layer(4)(inputs))).elementwise == 6 * 4 * activations
    query = keras.Input((5, 8))
    attention = count_macs(keras.Model(query, kl.MultiHeadAttention(2, 4)(query, query)))
    assert attention.elementwise == 2 * 5 * 5  # the softmax of the scores


def test_the_table_has_one_row_for_each_call_and_adds_up():
    cost = count_macs(build_model(Config(activation="inverse"), (8, 8, 1), 10))
    table = cost.to_pandas()
    assert list(table["name"]) == [row.name for row in cost.layers]
    for column in ("macs", "params", "filters", "elementwise", "bytes_written", "relu_macs"):
        assert table[column].sum() == getattr(cost, column) > 0
    assert table["activation_bytes"].max() == cost.activation_bytes > 0
    assert list(Cost(()).to_pandas().columns) == list(table.columns) == list(LayerCost.__annotations__)
    json.dumps([vars(row) for row in cost.layers], allow_nan=False)


def test_a_model_without_calls_costs_nothing():
    inputs = keras.Input((3,))
    cost = count_macs(keras.Model(inputs, inputs))
    assert (cost.macs, cost.params, cost.activation_bytes, cost.saved) == (0, 0, 0, None)


def test_weights_that_belong_to_no_call_are_in_the_total():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, kl.SpectralNormalization(kl.Conv2D(4, 3), name="normed")(inputs))
    cost = count_macs(model)
    assert cost.params == model.count_params()
    assert cost.layers[-1].name == "other weights"
    assert cost.layers[-1].params == 4


def _classified(*tail: keras.Layer) -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = InverseActivation()(kl.Conv2D(4, 3, name="hidden")(inputs))
    for layer in tail:
        x = layer(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    "tail",
    [
        (kl.Flatten(), kl.Dense(10)),
        (kl.Flatten(), kl.Dense(10), kl.Softmax()),
        (kl.Conv2D(10, 1), kl.BatchNormalization(), kl.GlobalAveragePooling2D()),
        (kl.Flatten(), kl.Dense(10), kl.Activation("linear", dtype="float32")),
    ],
    ids=["dense", "softmax", "convolution", "activation"],
)
def test_the_units_of_the_classifier_are_no_hidden_filters(tail) -> None:
    cost = count_macs(_classified(*tail))
    assert (cost.filters, cost.hidden_filters) == (14, 4)
    assert {layer.name: layer.hidden_filters for layer in cost.layers if layer.hidden_filters} == {
        "hidden": 4
    }


@pytest.mark.parametrize("model", BUILDERS)
def test_hidden_filters_scale_with_the_width(model: str) -> None:
    def hidden(filters: int) -> int:
        config = Config(model=model, filters=filters, activation="inverse")
        cost = count_macs(build_model(config, (16, 16, 3), 10))
        assert cost.filters == cost.hidden_filters + 10
        return cost.hidden_filters

    # A depthwise layer has one filter for each colour of the image, whatever the width is.
    assert hidden(12) / hidden(16) == pytest.approx(0.75, abs=0.03 if model == "separable" else 1e-9)
