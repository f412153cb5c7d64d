"""The norms of the gradients of a model by layer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from invact.analysis.tree import layers_by_name, numbers_of
from invact.errors import InputError
from invact.process.quiet import check_backend

__all__ = ["gradient_norms"]


def gradient_norms(model: keras.Model, images: Any, labels: Any) -> dict[str, float]:
    """Return the norm of the gradient of the loss for the weights of each layer.

    The loss is that of `compile`, with regularisers, for all images as one batch. The model runs as in
    training: dropout drops, and batch normalisation uses the mean of the batch. But it is left as it is: no
    weight, moving average, metric or random state changes.

    Formula:
        sqrt(sum of (dL / dw)^2 over all trainable weights w of the layer). It is 0 for a weight that the loss
        does not depend on.

    Args:
        model: a compiled model with one input and one output.
        images: shape (images, ...), as for `fit`.
        labels: shape (images, ...), as for `fit`.

    Returns:
        name -> norm, for each layer with trainable weights, in the order of the layers.

    Raises:
        InputError: this is no built and compiled Keras model.
        EnvironmentFault: Keras uses another backend than TensorFlow.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False, name="dense")])
        >>> model.layers[0].set_weights([np.array([[1.0], [1.0]])])
        >>> model.compile(loss="mse")
        >>> gradient_norms(model, np.array([[1.0, 1.0]]), np.array([[0.0]]))["dense"] ** 2
        32.0...
    """
    check_backend()
    named = layers_by_name(model)
    if not model.compiled:
        raise InputError(f"model {model.name!r} is not compiled. Allowed: call compile with a loss")
    import tensorflow as tf

    weights = model.trainable_variables
    values = [tf.convert_to_tensor(weight.value) for weight in weights]
    x, y = (keras.ops.convert_to_tensor(given) for given in (images, labels))
    # In this scope, Keras uses the given values and keeps every change to itself. The gradients are derived
    # in it too, because `keras.remat` runs layers again for them.
    with keras.StatelessScope([*zip(weights, values, strict=True)], collect_losses=True):
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = model.compute_loss(x, y, model(x, training=True))
        gradients = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    squares = {
        id(weight): float((numbers_of(tf.convert_to_tensor(gradient)).astype(np.float64) ** 2).sum())
        for weight, gradient in zip(weights, gradients, strict=True)
    }
    return {
        name: sum(squares[id(weight)] for weight in layer.trainable_variables) ** 0.5
        for name, layer in named.items()
        if layer.trainable_variables
    }
