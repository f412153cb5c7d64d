import keras
import pytest
from keras import layers as kl

from invact.config import Config
from invact.cost.count import count_macs
from invact.layers import InverseActivation
from invact.networks.build import build_model
from invact.networks.builders import BUILDERS
from invact.networks.check import check_model


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


def conv(data_format, rank=2):
    kind = {1: kl.Conv1D, 2: kl.Conv2D, 3: kl.Conv3D}[rank]
    return lambda filters: kind(filters, 1, padding="same", data_format=data_format)


def gap(data_format):
    return lambda: kl.GlobalAveragePooling2D(data_format=data_format)


LAST, FIRST = "channels_last", "channels_first"
# For each row: what makes the channels, layers before the activation, its axis, layers behind it, and whether
# twice the filters of the first layer make the doubled axis twice as long.
AXES = {
    "1-D last": (conv(LAST, 1), [], -1, [], True),
    "1-D last, steps": (conv(LAST, 1), [], 1, [], False),
    "1-D first": (conv(FIRST, 1), [], 1, [], True),
    "1-D first, steps": (conv(FIRST, 1), [], 2, [], False),
    "2-D last": (conv(LAST), [], 3, [], True),
    "2-D last, height": (conv(LAST), [], 1, [], False),
    "2-D last, width": (conv(LAST), [], -2, [], False),
    "2-D first": (conv(FIRST), [], 1, [], True),
    "2-D first, width": (conv(FIRST), [], -1, [], False),
    "3-D last": (conv(LAST, 3), [], -1, [], True),
    "3-D first": (conv(FIRST, 3), [], 1, [], True),
    "3-D first, depth": (conv(FIRST, 3), [], 2, [], False),
    "dense": (kl.Dense, [], -1, [], True),
    "dense, height": (kl.Dense, [], 1, [], False),
    "einsum": (lambda n: kl.EinsumDense("abcd,de->abce", (6, 6, n)), [], -1, [], True),
    "einsum, height": (lambda n: kl.EinsumDense("abcd,de->abce", (6, 6, n)), [], 1, [], False),
    "normalised": (conv(LAST), [kl.BatchNormalization, lambda: kl.AveragePooling2D(2)], -1, [], True),
    "normalised, height": (conv(LAST), [kl.BatchNormalization, lambda: kl.AveragePooling2D(2)], 1, [], False),
    "depthwise": (conv(LAST), [lambda: kl.DepthwiseConv2D(3)], -1, [], True),
    "depthwise, height": (conv(LAST), [lambda: kl.DepthwiseConv2D(3)], 1, [], False),
    "permuted": (conv(LAST), [lambda: kl.Permute((3, 1, 2))], 1, [], True),
    "permuted, width": (conv(LAST), [lambda: kl.Permute((3, 1, 2))], -1, [], False),
    "flattened": (conv(LAST), [kl.Flatten], 1, [], True),
    "flattened, first": (conv(FIRST), [kl.Flatten], 1, [], True),
    "pooled": (conv(LAST), [gap(LAST)], -1, [], True),
    "pooled, first": (conv(FIRST), [gap(FIRST)], 1, [], True),
    "pooled, mixed formats": (conv(LAST), [gap(FIRST)], 1, [], False),
    "read on another axis": (conv(LAST), [], -1, [kl.Permute((3, 1, 2))], True),
    "reshaped": (conv(LAST), [lambda: kl.Reshape((36, -1))], -1, [], True),
    "reshaped, places": (conv(LAST), [lambda: kl.Reshape((36, -1))], 1, [], False),
    "times": (lambda n: kl.TimeDistributed(kl.Dense(n)), [], -1, [], True),
    "times, steps": (lambda n: kl.TimeDistributed(kl.Dense(n)), [], 1, [], False),
}


@pytest.mark.parametrize("name", AXES)
def test_only_channels_that_filters_make_can_be_compared(name):
    make, before, axis, behind, has_counterpart = AXES[name]
    rank = int(name[0]) if name[1:3] == "-D" else 2

    def built(filters, activation):
        layers = [make(filters), *(each() for each in before), activation, *behind, kl.Flatten(), kl.Dense(3)]
        return keras.Sequential([keras.Input((6,) * (rank + 1)), *layers])

    counted = count_macs(built(2, InverseActivation(axis=axis)))
    if has_counterpart:
        relu = count_macs(built(4, kl.ReLU()))
        assert [row.relu_macs for row in counted.layers] == [row.macs for row in relu.layers]
    else:
        assert (counted.relu_macs, counted.saved) == (None, None)
    # The check does not follow channels through layers that move axes.
    if not {"permuted", "pooled", "reshaped", "times", "flattened"} & {name.partition(",")[0]}:
        problems = check_model(built(2, InverseActivation(axis=axis, name="inverse"))).problems
        assert bool(problems) is not has_counterpart
        assert all(str(problem).startswith("inverse: doubles axis ") for problem in problems)


def test_two_doublings_of_different_axes_have_no_counterpart():
    def built(first, second):
        layers = [conv(LAST)(2), InverseActivation(axis=first), InverseActivation(axis=second), conv(LAST)(3)]
        return count_macs(keras.Sequential([keras.Input((6, 6, 3)), *layers]))

    assert built(-1, -1).relu_macs == 36 * (3 * 8 + 8 * 3)
    assert built(-1, 1).saved is built(1, -1).saved is None
