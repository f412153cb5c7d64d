import keras
import pytest
from keras import layers as kl

from invact.config import Config
from invact.cost.count import count_macs
from invact.layers import InverseActivation
from invact.networks.build import build_model
from invact.networks.builders import BUILDERS


def network(model, arm, filters, **config):
    return build_model(Config(model=model, activation=arm, filters=filters, **config), (12, 12, 3), 7)


@pytest.mark.parametrize("model", BUILDERS)
@pytest.mark.parametrize("arm", ["inverse", "relu_duplicated"])
def test_it_is_the_relu_network_with_twice_the_filters(model, arm):
    # The builders can make the ReLU network of equal channels, so each layer can be compared.
    counted = count_macs(network(model, arm, 6, depth=3, normalization="batch"))
    built = count_macs(network(model, "relu", 12, depth=3, normalization="batch"))
    assert [row.relu_macs for row in counted.layers] == [row.macs for row in built.layers]
    assert counted.relu_macs == built.macs
    assert counted.saved == pytest.approx(1 - counted.macs / built.macs)
    assert 0.3 < counted.saved < 0.75


@pytest.mark.parametrize("activations", [("inverse", "relu"), ("relu", "inverse")])
def test_stages_with_relu_stay_as_they_are(activations):
    filters = tuple(12 if arm == "relu" else 6 for arm in activations)
    counted = count_macs(network("vgg", activations, filters, depth=2))
    built = count_macs(network("vgg", "relu", (12, 12), depth=2))
    assert counted.relu_macs == built.macs


def test_without_inverse_layers_nothing_is_saved():
    cost = count_macs(network("cnn", "relu", 6))
    assert (cost.relu_macs, cost.saved) == (cost.macs, 0.0)


def test_two_inverse_layers_in_a_row_widen_four_times():
    model = keras.Sequential(
        [keras.Input((3,)), kl.Dense(2), InverseActivation(), InverseActivation(), kl.Dense(5)]
    )
    assert [row.relu_macs for row in count_macs(model).layers] == [4 * 6, 0, 0, 8 * 5]


def test_depthwise_and_separable_layers_widen_with_what_feeds_them():
    def built(filters, act):
        return keras.Sequential(
            [
                keras.Input((12, 12, 3)),
                kl.Conv2D(filters, 1),
                kl.BatchNormalization(),
                kl.DepthwiseConv2D(3, depth_multiplier=2),
                act(),
                kl.SeparableConv2D(filters, 3, depth_multiplier=2),
                act(),
                kl.SeparableConv2D(4, 3),
            ]
        )

    counted, relu = count_macs(built(5, InverseActivation)), count_macs(built(10, kl.ReLU))
    assert [row.relu_macs for row in counted.layers] == [row.macs for row in relu.layers]


def dense(x):
    return kl.Dense(4)(x)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: InverseActivation()(x),
        lambda x: dense(kl.Concatenate()([x, (y := dense(x)), InverseActivation()(y)])),
        lambda x: kl.Add()([InverseActivation()(y := kl.Dense(2)(x)), kl.Concatenate()([y, y])]),
        lambda x: [y := dense(x), InverseActivation()(y)],
        lambda x: dense(InverseActivation()(kl.Dot(axes=1)([kl.Reshape((1, 4))(x), kl.Reshape((1, 4))(x)]))),
    ],
    ids=["input", "input in parallel", "two widths", "output", "product"],
)
def test_without_a_relu_network_of_equal_channels_there_is_no_share(build):
    inputs = keras.Input((4,))
    cost = count_macs(keras.Model(inputs, build(inputs)))
    assert (cost.relu_macs, cost.saved) == (None, None)
    assert cost.to_pandas()["relu_macs"].isna().all()
