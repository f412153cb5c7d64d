"""The activations that Keras does not have: those that double the channels, and the absolute value."""
# The layers use only keras.ops where they can, so that they run on TensorFlow, JAX and PyTorch.

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
from keras import ops

__all__ = ["ChannelDoubling", "DuplicatedActivation", "InverseActivation", "absolute"]

_Shape: TypeAlias = tuple[int | None, ...]


class ChannelDoubling(keras.Layer):  # type: ignore[misc]  # Keras has no types
    """Base class of the layers that output two feature maps for each input feature map.

    A subclass computes the two halves in `call`. Integers and booleans are converted to the layer's
    `compute_dtype` first, because an unsigned integer has no negative, nor has the lowest signed one.

    Args:
        activation: f, the name of a Keras activation or a function that Keras can save.
        axis: the channel axis; by default it follows `keras.config.image_data_format()`.
        **kwargs: keyword arguments of `keras.Layer`.

    Raises:
        ValueError: f is unknown or cannot be saved, the axis is the batch axis or is not in the input, the
            input is complex, or the input is not floating-point and neither is the layer's dtype.
    """

    def __init__(
        self,
        activation: str | Callable[[Any], Any] | dict[str, Any] | None = "relu",
        axis: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if axis is None:
            axis = -1 if keras.config.image_data_format() == "channels_last" else 1
        if isinstance(axis, bool) or not isinstance(axis, int) or axis == 0:
            raise ValueError(
                f"axis must be an integer other than 0, which is the batch axis. Received: axis={axis!r}"
            )
        self.axis = axis
        self.activation = _saveable(activation)
        self.supports_masking = True

    def build(self, input_shape: _Shape) -> None:
        """Refuse an input that does not have the channel axis, and build the activation if it is a layer."""
        self._channel_axis(input_shape)
        if isinstance(self.activation, keras.Layer) and not self.activation.built:
            self.activation.build(input_shape)
        self.built = True

    def compute_output_shape(self, input_shape: _Shape) -> _Shape:
        """Return the input shape with twice the channels; both shapes include the batch."""
        axis = self._channel_axis(input_shape)
        channels = input_shape[axis]
        doubled = None if channels is None else 2 * channels
        return (*input_shape[:axis], doubled, *input_shape[axis + 1 :])

    def compute_output_spec(self, inputs: keras.KerasTensor) -> Any:
        """Trace `call` to infer the output, because the activation determines the dtype."""
        return keras.Operation.compute_output_spec(self, inputs)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """Return the mask, doubled if it includes the channel axis."""
        if previous_mask is None:
            return None
        axis = self._channel_axis(inputs.shape)
        along = axis < len(previous_mask.shape)
        return ops.concatenate([previous_mask, previous_mask], axis) if along else previous_mask

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that create this layer again."""
        config: dict[str, Any] = super().get_config()
        return {**config, "activation": keras.activations.serialize(self.activation), "axis": self.axis}

    def _channel_axis(self, shape: _Shape) -> int:
        rank = len(shape)
        if rank < 2 or not -rank < self.axis < rank:
            raise ValueError(
                f"{type(self).__name__} {self.name!r} needs an input of rank 2 or more, with the batch on "
                f"axis 0 and the channels on axis {self.axis}. Received: shape={tuple(shape)}"
            )
        return self.axis % rank

    def _reals(self, inputs: Any) -> Any:
        """Return the inputs; convert integers and booleans to the floats that the layer computes in."""
        received = keras.backend.standardize_dtype(inputs.dtype)
        if keras.backend.is_float_dtype(received):
            return inputs
        whole = received == "bool" or keras.backend.is_int_dtype(received)
        if not whole or not keras.backend.is_float_dtype(self.compute_dtype):
            raise ValueError(
                f"{type(self).__name__} {self.name!r} needs real numbers as input, and a dtype of "
                f"floating-point numbers. Received: input of {received}, dtype={self.compute_dtype!r}"
            )
        return ops.cast(inputs, self.compute_dtype)

    def _activate(self, inputs: Any) -> Any:
        outputs = self.activation(inputs)
        if tuple(outputs.shape) != tuple(inputs.shape):
            raise ValueError(
                f"activation must keep the shape {tuple(inputs.shape)}. Received: {tuple(outputs.shape)} "
                f"from activation={self.activation!r}"
            )
        return outputs


@keras.saving.register_keras_serializable(package="invact")
class InverseActivation(ChannelDoubling):
    """Keep both signs: concatenate the activation of the input and the activation of the negated input.

    Formula:
        y = concat(f(x), f(-x)) on the channel axis. With f = ReLU this is CReLU: the outputs and the
        gradients are equal to those of `tf.nn.crelu(x)`.

    Between the forward and the backward pass the layer keeps only x. With f = ReLU the gradient has a closed
    form in x. Any other f is computed again in the backward pass (`keras.remat`), so on TensorFlow only
    f = ReLU and f = linear have second-order gradients.

    Put it in the model as a layer of its own. As the `activation=` of another layer it computes the same
    values, but Keras infers the output shape of that layer without its activation. It is therefore correct
    there only in the last layer of a model, or in an eager call.

    Args:
        activation: f, the name of a Keras activation or a function that Keras can save.
        axis: the channel axis; by default it follows `keras.config.image_data_format()`.
        **kwargs: keyword arguments of `keras.Layer`.

    Input shape: (batch, ..., channels), rank 2 or more; any dimension may be unknown. Integers and booleans
        are converted to `compute_dtype`.
    Output shape: (batch, ..., 2 * channels).

    Raises:
        ValueError: f is unknown or cannot be saved, or the axis is the batch axis or is not in the input.

    Source:
        Shang et al., Understanding and Improving Convolutional Neural Networks via Concatenated Rectified
        Linear Units, ICML 2016, https://arxiv.org/abs/1603.05201

    Example:
        >>> import numpy as np
        >>> layer = InverseActivation()
        >>> ops.convert_to_numpy(layer(np.array([[3.0, -2.0]]))).tolist()
        [[3.0, 0.0, 0.0, 2.0]]
        >>> layer.compute_output_shape((None, 28, 28, 16))
        (None, 28, 28, 32)
    """

    def call(self, inputs: Any) -> Any:
        """Compute concat(f(x), f(-x))."""
        axis, inputs = self._channel_axis(inputs.shape), self._reals(inputs)
        if self.activation is keras.activations.relu:
            return _concatenated_relu(inputs, axis)

        def both(x: Any) -> Any:
            return ops.concatenate([self._activate(x), self._activate(ops.negative(x))], axis)

        # The gradient of concat(x, -x) needs no stored tensor, so there is nothing to compute again.
        keeps_nothing = self.activation is keras.activations.linear
        return both(inputs) if keeps_nothing else keras.remat(both)(inputs)


@keras.saving.register_keras_serializable(package="invact")
class DuplicatedActivation(ChannelDoubling):
    """The control of the inverse activation: as many output channels, but without the second sign.

    Formula:
        y = concat(f(x), f(x)) on the channel axis.

    Args:
        activation: f, the name of a Keras activation or a function that Keras can save.
        axis: the channel axis; by default it follows `keras.config.image_data_format()`.
        **kwargs: keyword arguments of `keras.Layer`.

    Input shape: (batch, ..., channels), rank 2 or more; any dimension may be unknown. Integers and booleans
        are converted to `compute_dtype`.
    Output shape: (batch, ..., 2 * channels).

    Raises:
        ValueError: f is unknown or cannot be saved, or the axis is the batch axis or is not in the input.

    Example:
        >>> import numpy as np
        >>> ops.convert_to_numpy(DuplicatedActivation()(np.array([[3.0, -2.0]]))).tolist()
        [[3.0, 0.0, 3.0, 0.0]]
    """

    def call(self, inputs: Any) -> Any:
        """Compute concat(f(x), f(x))."""
        outputs = self._activate(self._reals(inputs))
        return ops.concatenate([outputs, outputs], self._channel_axis(inputs.shape))


# A registered function, because Keras saves a function by its name, and when it loads one it does not look in
# `keras.ops`.
@keras.saving.register_keras_serializable(package="invact")  # type: ignore[untyped-decorator]
def absolute(x: Any) -> Any:
    """Compute |x|, elementwise; a function that `keras.layers.Activation` can save and load.

    The gradient is the sign of x, and 0 at 0.

    Args:
        x: a tensor of any shape.

    Example:
        >>> import numpy as np
        >>> ops.convert_to_numpy(absolute(np.array([[3.0, -2.0]]))).tolist()
        [[3.0, 2.0]]
    """
    return ops.abs(x)


def _concatenated_relu(x: Any, axis: int) -> Any:
    def function(x: Any) -> tuple[Any, Callable[..., Any]]:
        def gradient(*args: Any, upstream: Any = None) -> Any:
            # PyTorch passes the upstream gradient by name, after the inputs.
            upstream = args[-1] if upstream is None else upstream
            positive, negative = ops.split(upstream, 2, axis)
            if keras.backend.backend() == "tensorflow":
                return _relu_gradient_on_tensorflow(x, positive, negative)
            return ops.subtract(
                ops.multiply(positive, ops.cast(ops.greater(x, 0), x.dtype)),
                ops.multiply(negative, ops.cast(ops.less(x, 0), x.dtype)),
            )

        # This is the fastest formulation for inference without a convolution (benchmarks/formulations.py):
        # LiteRT multiplies in 8 bits, but it converts to float32 and back for a negation.
        return ops.concatenate([ops.relu(x), ops.relu(ops.multiply(x, -1))], axis), gradient

    return ops.custom_gradient(function)(x)


def _relu_gradient_on_tensorflow(x: Any, positive: Any, negative: Any) -> Any:
    # ReluGrad is one fused kernel for each half. With keras.ops alone the layer takes 10 % more time than
    # tf.nn.crelu.
    import tensorflow as tf

    # -2 * x has the same signs as -x. TensorFlow cannot merge it with the -x of the forward pass, which it
    # would then keep in memory until the backward pass.
    return tf.raw_ops.ReluGrad(gradients=positive, features=x) - tf.raw_ops.ReluGrad(
        gradients=negative, features=-2 * x
    )


def _saveable(identifier: Any) -> Any:
    """Return the activation that a saved layer would load, or refuse one that Keras cannot save and load."""
    try:
        activation = keras.activations.get(identifier)
        if getattr(activation, "__name__", "") == "<lambda>":
            raise TypeError("a lambda has no name to be saved by")
        loaded = keras.activations.get(keras.activations.serialize(activation))
        if isinstance(activation, types.FunctionType) and loaded is not activation:
            # Keras saves keras.ops.relu as "relu" and loads an equal function. A user's own function that is
            # also named relu would be replaced by another one.
            if not activation.__module__.startswith("keras."):
                raise TypeError("another function has that name")
            return loaded
    except Exception:  # Keras raises a different class for each kind of invalid activation.
        raise ValueError(
            "activation must be the name of a Keras activation, or a function, not a lambda, that Keras "
            f"can save (see keras.saving.register_keras_serializable). Received: activation={identifier!r}"
        ) from None
    return activation
