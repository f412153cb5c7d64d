import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from keras import layers as kl
from sklearn.metrics.pairwise import cosine_similarity

from invact.analysis import filter_pairing, opposite_cosines, random_pairing
from invact.analysis.pairing import LayerPairing
from invact.config import Config
from invact.errors import InputError
from invact.networks.build import build_model
from invact.seeding import keras_seed

# Zeros are frequent, so that filters of zeros occur.
weights = st.integers(-8, 8).map(float)
shapes = st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 3), st.integers(2, 5))
kernels = shapes.flatmap(lambda shape: arrays.arrays(float, shape, elements=weights))


@settings(max_examples=60)
@given(kernels)
def test_cosines_agree_with_scikit_learn(kernel):
    similar = cosine_similarity(kernel.reshape(-1, kernel.shape[-1]).T)
    expected = [min(np.delete(row, number)) for number, row in enumerate(similar)]
    np.testing.assert_allclose(opposite_cosines(kernel), expected, atol=1e-12)


@settings(max_examples=30)
@given(kernels, st.floats(0.01, 100))
def test_the_length_of_a_filter_does_not_count_and_its_negation_is_its_opposite(kernel, scale):
    scales = np.full(kernel.shape[-1], scale)
    scales[0] = 1
    np.testing.assert_allclose(opposite_cosines(scales * kernel), opposite_cosines(kernel), atol=1e-12)
    paired = opposite_cosines(np.concatenate([kernel, -scale * kernel], axis=-1))
    zero = np.tile(~kernel.any(axis=(0, 1, 2)), 2)
    np.testing.assert_allclose(paired, np.where(zero, 0, -1), atol=1e-12)


@pytest.mark.parametrize(
    ("kernel", "received"),
    [
        (np.ones(3), r"shape \(3,\)"),
        (np.ones((3, 3, 1)), r"shape \(3, 3, 1\)"),
        (np.ones((0, 4)), r"shape \(0, 4\)"),
        ([[1, np.nan]], "not finite"),
        ([[1, np.inf]], "not finite"),
    ],
)
def test_other_kernels_are_refused(kernel, received):
    with pytest.raises(InputError, match=f"kernel: received .*{received}"):
        opposite_cosines(kernel)


@pytest.mark.parametrize(("size", "filters"), [(2, 2), (2, 7), (9, 2), (9, 16), (50, 30)])
def test_the_reference_agrees_with_a_simulation(size, filters):
    rng = np.random.default_rng(0)
    drawn = np.array([opposite_cosines(rng.standard_normal((size, filters))) for _ in range(1500)])
    reference = random_pairing(size, filters)
    means = drawn.mean(axis=1)
    assert abs(means.mean() - reference.mean) < 4 * means.std() / np.sqrt(len(means))
    # The filters of one layer depend on each other, so the error is that of one filter of each layer at most.
    for level, quantile in zip((0.05, 0.5, 0.95), reference.quantiles, strict=True):
        assert abs((drawn <= quantile).mean() - level) < 4 * np.sqrt(level * (1 - level) / len(drawn))


@pytest.mark.parametrize("filters", [2, 3, 10, 500])
def test_the_reference_in_three_dimensions_has_a_closed_form(filters):
    # The cosine of two random directions in space is uniform (Archimedes), and so the minimum is a power law.
    reference = random_pairing(3, filters)
    assert reference.mean == pytest.approx(-1 + 2 / filters)
    levels = np.array([0.05, 0.5, 0.95])
    np.testing.assert_allclose(reference.quantiles, 1 - 2 * (1 - levels) ** (1 / (filters - 1)), atol=1e-12)


def test_the_reference_for_large_layers_lies_between_its_quantiles():
    for size, filters in ((4608, 512), (10**6, 2), (2, 10_000), (100_000, 4096)):
        reference = random_pairing(size, filters)
        low, median, high = reference.quantiles
        assert -1 < low < reference.mean < high < 1
        # The distribution is nearly symmetric, or its mean is within its middle 90 %.
        assert abs(reference.mean - median) < (high - low) / 2


@pytest.mark.parametrize(("size", "filters", "name"), [(1, 4, "weights"), (4, 1, "filters")])
def test_a_reference_needs_two_weights_and_two_filters(size, filters, name):
    with pytest.raises(InputError, match=f"{name}: received 1. Allowed: at least 2"):
        random_pairing(size, filters)


def test_the_layers_of_a_model_and_those_that_are_left_out():
    inner = keras.Sequential([keras.Input((8, 8, 4)), kl.Conv2D(4, 1, name="pointwise")], name="inner")
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            kl.Conv2D(4, 1, name="one_weight"),
            kl.Conv2D(4, 3, padding="same", name="conv"),
            inner,
            kl.Conv2D(4, 3, groups=2, padding="same", name="grouped"),
            kl.DepthwiseConv2D(3, padding="same", name="depthwise"),
            kl.SeparableConv2D(4, 3, padding="same", name="separable"),
            kl.Conv2DTranspose(4, 3, padding="same", name="transposed"),
            kl.Conv2D(1, 3, name="one_filter"),
            kl.BatchNormalization(),
            kl.Flatten(),
            kl.Dense(3, "softmax", name="dense"),
        ]
    )
    found = {layer.name: layer for layer in filter_pairing(model)}
    assert [*found] == ["conv", "inner/pointwise", "dense"]
    assert [len(layer.cosines) for layer in found.values()] == [4, 4, 3]
    assert found["conv"].reference == random_pairing(9 * 4, 4)
    assert found["inner/pointwise"].reference == random_pairing(4, 4)
    kernel = model.get_layer("conv").get_weights()[0]
    np.testing.assert_allclose(found["conv"].cosines, opposite_cosines(kernel))


@pytest.mark.parametrize("shape", [(8, 3), (8, 8, 3), (8, 8, 8, 3)])
def test_convolutions_of_any_rank(shape):
    conv = (kl.Conv1D, kl.Conv2D, kl.Conv3D)[len(shape) - 2](5, 3)
    (layer,) = filter_pairing(keras.Sequential([keras.Input(shape), conv]))
    assert layer.reference == random_pairing(3 ** (len(shape) - 1) * 3, 5)


def test_a_network_of_opposite_filters_has_strength_one_and_a_fresh_one_about_zero():
    with keras_seed(0):
        model = build_model(Config(filters=64, depth=2), (16, 16, 1), 10)
    fresh = filter_pairing(model)
    assert [layer.name for layer in fresh] == ["stage1_conv", "stage2_conv", "logits"]
    assert all(abs(layer.strength) < 0.1 for layer in fresh[:2])
    conv = model.get_layer("stage1_conv")
    half = np.random.default_rng(0).standard_normal((3, 3, 1, 32))
    conv.set_weights([np.concatenate([half, -half], axis=-1), *conv.get_weights()[1:]])
    assert filter_pairing(model)[0].strength == pytest.approx(1)
    # As far from random filters as opposite ones, in the other direction.
    reference = random_pairing(9, 2)
    equal = LayerPairing("equal", (1.0, 1.0), reference)
    assert equal.strength == pytest.approx(-1)


def test_models_that_cannot_be_read_are_refused():
    with pytest.raises(InputError, match=r"model: received int. Allowed: a Keras model"):
        filter_pairing(3)
    with pytest.raises(InputError, match="'idle' is not built"):
        filter_pairing(keras.Sequential([kl.Dense(2)], name="idle"))
    model = keras.Sequential([keras.Input((2,)), kl.Dense(2, name="dense")])
    model.layers[0].set_weights([np.full((2, 2), np.nan), np.zeros(2)])
    with pytest.raises(InputError, match="layer 'dense': kernel: received values that are not finite"):
        filter_pairing(model)


def test_two_layers_of_one_name_are_refused():
    class Twice(keras.Model):
        def __init__(self):
            super().__init__(name="twice")
            self.first, self.second = kl.Dense(2, name="same"), kl.Dense(2, name="same")

        def call(self, x):
            return self.second(self.first(x))

    model = Twice()
    model(np.zeros((1, 3)))
    with pytest.raises(InputError, match="'twice': two layers are named 'same'"):
        filter_pairing(model)


def test_a_layer_that_is_used_twice_is_one_layer():
    shared = kl.Dense(3, name="shared")
    inner = keras.Sequential([keras.Input((3,)), shared], name="inner")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, inner(shared(inputs)))
    assert len(filter_pairing(model)) == 1
