import keras
import pytest
from hlo import hlo_macs
from keras import layers as kl
from keras import ops

from invact.cost.count import count_macs
from invact.errors import InputError


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (lambda: kl.Dot(axes=-1), [(4, 5), (3, 5)]),
        (lambda: kl.Dot(axes=(1, 2)), [(5, 4), (3, 5)]),
        (lambda: kl.Attention(), [(4, 5), (3, 5)]),
        (lambda: kl.Attention(use_scale=True), [(4, 5), (3, 6), (3, 5)]),
        # The scores are a sum of scaled tanh, not a product.
        (lambda: kl.AdditiveAttention(), [(4, 5), (3, 5)]),
    ],
)
def test_products_of_tensors_agree_with_hlo(layer, shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    model = keras.Model(inputs, layer()(inputs))
    cost = count_macs(model)
    assert cost.macs == hlo_macs(model, *shapes) > 0
    assert cost.params == model.count_params()


def ones(*shape):
    return ops.ones(shape)


OPERATIONS = [
    (lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))), (6, 5)),
    (lambda x: x @ ones(5, 3), (6, 5)),
    (lambda x: ops.matmul(x, ones(5)), (6, 5)),
    (lambda x: ops.einsum("bij,bkj->bik", x, x), (6, 5)),
    (lambda x: ops.einsum("...ij,jk->...ik", x, ones(5, 2)), (3, 6, 5)),
    (lambda x: ops.einsum("bij,kj->bk", x, ones(4, 5)), (6, 5)),
    (lambda x: ops.dot(x, ones(5, 2)), (6, 5)),
    (lambda x: ops.dot(x, 2.0), (6, 5)),
    (lambda x: ops.tensordot(x, ones(6, 5, 3), axes=2), (6, 5)),
    (lambda x: ops.tensordot(x, ones(3, 6), axes=[[1], [1]]), (6, 5)),
    (lambda x: ops.conv(x, ones(3, 5, 2)), (6, 5)),
    (lambda x: ops.conv(x, ones(3, 3, 4, 2), padding="same", strides=2), (8, 8, 4)),
    (lambda x: ops.depthwise_conv(x, ones(3, 3, 4, 2)), (8, 8, 4)),
    (lambda x: ops.separable_conv(x, ones(3, 3, 4, 2), ones(1, 1, 8, 3)), (8, 8, 4)),
    (lambda x: ops.dot_product_attention(x, x, x), (6, 2, 4)),
    (lambda x: ops.dot_product_attention(x, x[:, :, :2], x[:, :, :2], is_causal=True), (6, 4, 4)),
    (lambda x: ops.exp(x) + ops.sum(x), (6, 5)),
]


# Keras 3.15 causes this warning when it infers the shape of tensordot.
@pytest.mark.filterwarnings("ignore:NotImplemented should not be used:DeprecationWarning")
@pytest.mark.parametrize(("operation", "shape"), OPERATIONS)
def test_operations_outside_layers_agree_with_hlo(operation, shape):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, operation(inputs))
    assert count_macs(model).macs == hlo_macs(model)


@pytest.mark.parametrize(
    ("operation", "shape", "macs"),
    [
        # Keras 3.15 cannot run these two in a TensorFlow graph.
        (lambda x: ops.inner(x, ones(4, 5)), (6, 5), 6 * 5 * 4),
        (lambda x: ops.conv_transpose(x, ones(3, 3, 2, 4), strides=2), (8, 8, 4), 8 * 8 * 9 * 2 * 4),
        # A sum without a product, and a product without a sum.
        (lambda x: ops.einsum("bij->bj", x), (6, 5), 0),
        (lambda x: ops.outer(x, ones(3)), (6,), 0),
    ],
)
def test_operations_that_cannot_be_compared_with_hlo(operation, shape, macs):
    inputs = keras.Input(shape)
    assert count_macs(keras.Model(inputs, operation(inputs))).macs == macs


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (lambda x: ops.linalg.inv(ops.reshape(x[:, :4, :4], (-1, 4, 4))), "no rule for the MACs of Inv"),
        (lambda x: ops.rfft(x), "no rule for the MACs of RFFT"),
        (lambda x: ops.einsum("bij,jk,kl->bil", x, ones(5, 2), ones(2, 3)), "einsum of 3 tensors"),
        (
            lambda x: ops.cond(ops.sum(x) > 0, lambda: x * 2, lambda: x @ ones(5, 5)),
            "layer 'cond",
        ),
    ],
)
def test_operations_without_a_rule_are_refused(operation, words):
    inputs = keras.Input((6, 5))
    with pytest.raises(InputError, match=words) as error:
        count_macs(keras.Model(inputs, operation(inputs)))
    assert "\n" not in str(error.value)
