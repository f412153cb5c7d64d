from __future__ import annotations

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings

from invact.layers import DuplicatedActivation, InverseActivation

# Keras copies its variables with numpy.array, which TensorFlow does not yet support in NumPy 2 style.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

# Values that show differences in the arithmetic: zeros, not-a-number, infinities, denormals, large numbers.
SPECIAL = [0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1e-40, -1e-40, 1e-7, -1e-7, 3e38, -6e4, 1.0, -1.0]


def bits(tensor):
    # All not-a-numbers become equal, and both zeros: the sign of the zero of a ReLU depends on its position.
    kind = tensor.dtype.as_numpy_dtype
    array = np.where(np.isnan(tensor), np.asarray(np.nan, kind), np.asarray(tensor))
    array = np.where(array == 0, np.asarray(0, kind), array)
    return array.view({2: np.uint16, 4: np.uint32, 8: np.uint64}[tensor.dtype.size]).tolist()


def with_gradient(function, x, upstream):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return y, tape.gradient(y, x, upstream)


@keras.saving.register_keras_serializable(package="test_layers")
def cube(x):
    return x**3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(14, 1), (2, 7), (7, 3, 6), (4, 5, 3, 17)])
@pytest.mark.parametrize("compiled", [False, True])
def test_relu_equals_crelu_bit_for_bit_except_for_the_sign_of_zero(dtype, shape, compiled):
    rng = np.random.default_rng(0)
    size = int(np.prod(shape))
    values = np.concatenate([SPECIAL, rng.standard_normal(size)])[:size]
    x = tf.cast(tf.reshape(tf.constant(rng.permutation(values)), shape), dtype)
    upstream = np.concatenate([[0.0, -0.0, np.inf, np.nan], rng.standard_normal(2 * size)])[: 2 * size]
    g = tf.cast(tf.reshape(tf.constant(rng.permutation(upstream)), (*shape[:-1], 2 * shape[-1])), dtype)
    ours, theirs = InverseActivation(dtype=dtype), lambda x: tf.nn.crelu(x, axis=-1)
    if compiled:
        ours, theirs = tf.function(ours), tf.function(theirs)
    for a, b in zip(with_gradient(ours, x, g), with_gradient(theirs, x, g), strict=True):
        assert a.dtype == b.dtype == tf.as_dtype(dtype)
        assert bits(a) == bits(b)


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_gradient_at_zero_is_zero(zero):
    _, gradient = with_gradient(InverseActivation(), tf.constant([[zero]]), tf.constant([[5.0, 7.0]]))
    assert gradient.numpy() == 0.0


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "linear", cube])
def test_any_activation_and_its_gradient(activation):
    f = keras.activations.get(activation)
    rng = np.random.default_rng(0)
    x = tf.constant(rng.standard_normal((5, 3)), tf.float32)
    g = tf.constant(rng.standard_normal((5, 6)), tf.float32)
    ours = with_gradient(InverseActivation(activation), x, g)
    plain = with_gradient(lambda x: tf.concat([f(x), f(-x)], -1), x, g)
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    duplicated = DuplicatedActivation(activation)(x)
    np.testing.assert_array_equal(duplicated, tf.concat([f(x), f(x)], -1))


def kept_elements(function, shape):
    """Count the elements that the forward graph passes to the backward graph, with the public graph only."""
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, shape)
        y = function(x)
        g = tf.compat.v1.placeholder(tf.float32, y.shape)
        forward = {operation.name for operation in graph.get_operations()}
        tf.gradients(y, x, g)
        backward = [op for op in graph.get_operations() if op.name not in forward]
        # ZerosLike reads only the shape of its input.
        used = [t for op in backward for t in op.inputs if op.type != "ZerosLike"]
        kept = {t.ref(): t for t in used if t.op.name in forward and t is not g}
        return sum(t.shape.num_elements() for t in kept.values())


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "gelu", "linear"])
def test_gradient_keeps_no_more_than_the_input(activation):
    shape = (8, 5, 5, 16)
    assert kept_elements(InverseActivation(activation), shape) <= np.prod(shape)


def test_kept_elements_counts_the_elements_that_crelu_keeps():
    assert kept_elements(lambda x: tf.nn.crelu(x, axis=-1), (8, 5, 5, 16)) >= 2 * 8 * 5 * 5 * 16


def test_second_order_gradient():
    x = tf.constant([[3.0, -2.0, 0.0]])
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = tf.reduce_sum(InverseActivation()(x) ** 3)
        first = inner.gradient(y, x)
    np.testing.assert_allclose(first, 3 * x * np.abs(x))
    np.testing.assert_allclose(outer.gradient(first, x), 6 * np.abs(x))


@pytest.mark.parametrize("activation", ["relu", "elu", "linear"])
def test_xla(activation):
    x = tf.constant(np.random.default_rng(0).standard_normal((4, 3, 3, 5)), tf.float32)
    g = tf.ones((4, 3, 3, 10))
    layer = InverseActivation(activation)
    compiled = tf.function(lambda x: with_gradient(layer, x, g), jit_compile=True)
    for a, b in zip(compiled(x), with_gradient(layer, x, g), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_shapes_and_axes(data):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=5, max_side=3))
    axis = data.draw(st.integers(1, len(shape) - 1).flatmap(lambda a: st.sampled_from([a, a - len(shape)])))
    # No denormals: TensorFlow flushes them to zero, also in tf.nn.crelu.
    finite = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
    x = data.draw(hnp.arrays(np.float32, shape, elements=finite))
    layer = InverseActivation(axis=axis)
    y = layer(x).numpy()
    positive, negative = np.split(y, 2, axis)
    np.testing.assert_array_equal(positive, np.maximum(x, 0))
    np.testing.assert_array_equal(positive - negative, x)
    assert layer.compute_output_shape(shape) == y.shape
    assert layer(keras.Input(batch_shape=shape)).shape == y.shape
    unknown = tuple(None for _ in shape)
    assert layer.compute_output_shape(unknown) == unknown


@pytest.mark.parametrize(("data_format", "axis"), [("channels_last", -1), ("channels_first", 1)])
def test_axis_follows_the_image_data_format_and_stays_in_the_config(data_format, axis):
    before = keras.config.image_data_format()
    try:
        keras.config.set_image_data_format(data_format)
        layer = InverseActivation()
    finally:
        keras.config.set_image_data_format(before)
    assert layer.axis == axis
    assert InverseActivation.from_config(layer.get_config()).axis == axis
    assert layer.compute_output_shape((None, 4)) == (None, 8)
    expected = (2, 6, 4, 5) if axis == 1 else (2, 3, 4, 10)
    assert layer(np.zeros((2, 3, 4, 5))).shape == expected


def test_unknown_sizes():
    layer = InverseActivation("elu")
    traced = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)])
    assert traced(tf.ones((2, 5, 7, 3))).shape == (2, 5, 7, 6)
    assert layer(keras.Input((None, None, 3))).shape == (None, None, None, 6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
@pytest.mark.parametrize("cls", [InverseActivation, DuplicatedActivation])
def test_dtype_policy(policy, cls):
    layer = cls(dtype=policy)
    dtype = policy.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(layer(np.ones((2, 3), np.float32)).dtype) == dtype
    assert layer(keras.Input((3,))).dtype == dtype


def test_the_mask_is_kept_and_doubles_if_it_includes_the_channel_axis():
    x = keras.layers.Masking()(np.array([[[1.0, 2.0], [0.0, 0.0], [3.0, 4.0]]], np.float32))
    mask = [True, False, True]
    assert InverseActivation()(x)._keras_mask.numpy().tolist() == [mask]
    assert InverseActivation(axis=1)(x)._keras_mask.numpy().tolist() == [mask + mask]
    assert InverseActivation().compute_mask(x, None) is None


def small_model():
    return keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            keras.layers.Conv2D(4, 3, name="conv"),
            InverseActivation(name="inverse"),
            InverseActivation("elu", axis=-1),
            InverseActivation(cube),
            DuplicatedActivation("leaky_relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )


def test_train_save_and_load_in_safe_mode(tmp_path):
    model = small_model()
    model.compile("adam", "mse")
    x = np.random.default_rng(0).standard_normal((8, 6, 6, 3)).astype(np.float32)
    before = model.get_layer("conv").get_weights()[0]
    model.train_on_batch(x, np.ones((8, 2)))
    assert not np.array_equal(before, model.get_layer("conv").get_weights()[0])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(model(x), loaded(x))
    assert [layer.get_config() for layer in loaded.layers] == [layer.get_config() for layer in model.layers]


def test_as_the_activation_of_the_last_layer(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation=InverseActivation())])
    model.compile("sgd", "mse")
    x = np.ones((5, 3), np.float32)
    model.train_on_batch(x, np.ones((5, 8)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(x), loaded(x))
    assert loaded(x).shape == (5, 8)


def test_a_layer_with_weights_as_activation(tmp_path):
    slopes = keras.layers.PReLU(alpha_initializer="ones")
    model = keras.Sequential([keras.Input((3,)), InverseActivation(slopes)])
    model.compile("sgd", "mse")
    x = np.ones((5, 3), np.float32)
    model.train_on_batch(x, np.zeros((5, 6)))
    assert (slopes.alpha.numpy() != 1).all()
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(x), keras.saving.load_model(tmp_path / "model.keras")(x))


def not_registered(x):
    return x


def relu(x):
    return 2 * x


@pytest.mark.parametrize("activation", ["rellu", 3, lambda x: x, not_registered, relu, object()])
@pytest.mark.parametrize("cls", [InverseActivation, DuplicatedActivation])
def test_bad_activation_is_refused_in_one_line(activation, cls):
    with pytest.raises(ValueError, match=r"activation must be .* Received: activation=") as error:
        cls(activation)
    assert str(error.value).endswith(f"Received: activation={activation!r}")
    assert "\n" not in str(error.value)


def test_keras_ops_become_the_keras_activations():
    assert InverseActivation(keras.ops.relu).activation is keras.activations.relu
    assert InverseActivation(None).activation is keras.activations.linear


def test_activation_that_changes_the_shape_is_refused():
    with pytest.raises(ValueError, match="activation must keep the shape"):
        InverseActivation("glu")(keras.Input((4,)))


@pytest.mark.parametrize("axis", [0, 1.0, "1", True])
def test_bad_axis_is_refused(axis):
    with pytest.raises(ValueError, match=r"axis must be .* Received: axis="):
        InverseActivation(axis=axis)


@pytest.mark.parametrize(("axis", "shape"), [(-1, (3,)), (2, (4, 5)), (-2, (4, 5)), (-3, (4, 5)), (1, ())])
def test_axis_that_the_input_lacks_is_refused(axis, shape):
    layer = InverseActivation(axis=axis, name="inverse")
    with pytest.raises(ValueError, match=r"InverseActivation 'inverse' .* Received: shape=\("):
        layer.compute_output_shape(shape)
    with pytest.raises(ValueError, match=r"InverseActivation 'inverse' .* Received: shape=\("):
        layer(np.zeros(shape, np.float32))


WHOLE = ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]


@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize("activation", ["relu", "linear", "elu"])
def test_whole_numbers_of_every_dtype_have_a_negative(dtype, activation):
    ends = [0, 1] if dtype == "bool" else [np.iinfo(dtype).min, np.iinfo(dtype).max]
    x = np.array([[0, 1, *ends]], dtype)
    f = keras.activations.get(activation)
    reals = x.astype("float32")
    both = np.concatenate([f(reals), f(-reals)], -1)
    np.testing.assert_allclose(InverseActivation(activation)(x), both, rtol=1e-6)
    np.testing.assert_allclose(DuplicatedActivation(activation)(x)[:, :4], f(reals), rtol=1e-6)
    assert InverseActivation(activation)(keras.Input((4,), dtype=dtype)).dtype == "float32"


@pytest.mark.parametrize(
    ("values", "dtype"), [(np.ones((1, 2), "uint8"), "int32"), (np.ones((1, 2), "complex64"), None)]
)
@pytest.mark.parametrize("cls", [InverseActivation, DuplicatedActivation])
def test_numbers_that_are_not_real_are_refused(values, dtype, cls):
    with pytest.raises(ValueError, match=r"needs real numbers as input, .* Received: input of"):
        cls(dtype=dtype)(values)
