"""Layers that double the channels: the inverse activation, and its control."""
# Written with keras.ops alone, so that the layers run on TensorFlow, JAX and PyTorch.

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
from keras import ops

__all__ = ["ChannelDoubling", "DuplicatedActivation", "InverseActivation"]

_Shape: TypeAlias = tuple[int | None, ...]


class ChannelDoubling(keras.Layer):  # type: ignore[misc]  # Keras has no types
    """Base of the layers that put out two maps for each input map.

    A subclass says in `call` what the two halves are.

    Args:
        activation: f, the name of a Keras activation or a function that Keras can save.
        axis: the channel axis; `keras.config.image_data_format()` decides unless given.
        **kwargs: of `keras.Layer`.

    Raises:
        ValueError: f is unknown or cannot be saved; the axis is the batch axis or not in the input.
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
            raise ValueError(f"axis must be an integer other than 0, the batch. Received: axis={axis!r}")
        self.axis = axis
        self.activation = _saveable(activation)
        self.supports_masking = True

    def build(self, input_shape: _Shape) -> None:
        """Refuse an input without such a channel axis."""
        self._channel_axis(input_shape)
        if isinstance(self.activation, keras.Layer) and not self.activation.built:
            self.activation.build(input_shape)
        self.built = True

    def compute_output_shape(self, input_shape: _Shape) -> _Shape:
        """Double the channels; shapes include the batch."""
        axis = self._channel_axis(input_shape)
        channels = input_shape[axis]
        doubled = None if channels is None else 2 * channels
        return (*input_shape[:axis], doubled, *input_shape[axis + 1 :])

    def compute_output_spec(self, inputs: keras.KerasTensor) -> Any:
        """Trace `call`: the activation decides the dtype."""
        return keras.Operation.compute_output_spec(self, inputs)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """Keep the mask, doubled too where it runs along the channel axis."""
        if previous_mask is None:
            return None
        axis = self._channel_axis(inputs.shape)
        along = axis < len(previous_mask.shape)
        return ops.concatenate([previous_mask, previous_mask], axis) if along else previous_mask

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        config: dict[str, Any] = super().get_config()
        return {**config, "activation": keras.activations.serialize(self.activation), "axis": self.axis}

    def _channel_axis(self, shape: _Shape) -> int:
        rank = len(shape)
        if rank < 2 or not -rank < self.axis < rank:
            raise ValueError(
                f"{type(self).__name__} {self.name!r} needs an input of rank 2 or more, the batch on "
                f"axis 0 and the channels on axis {self.axis}. Received: shape={tuple(shape)}"
            )
        return self.axis % rank

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
    """Keep both signs: the activation of the input and of its negative, side by side.

    Formula:
        y = concat(f(x), f(-x)) on the channel axis. With f = ReLU this is CReLU: the numbers of
        `tf.nn.crelu(x)`, and so are its gradients.

    Between forward and backward it keeps x alone. With f = ReLU the gradient has a closed form in x; any
    other f is computed again (`keras.remat`), which on TensorFlow rules out second-order gradients.

    Put it in the model as a layer of its own. As another layer's `activation=` it computes the same, but
    Keras infers that layer's output shape without asking its activation, so only a model's last layer or an
    eager call may have it there.

    Args:
        activation: f, the name of a Keras activation or a function that Keras can save.
        axis: the channel axis; `keras.config.image_data_format()` decides unless given.
        **kwargs: of `keras.Layer`.

    Input shape: (batch, ..., channels), rank 2 or more, any dimension unknown.
    Output shape: (batch, ..., 2 * channels).

    Raises:
        ValueError: f is unknown or cannot be saved; the axis is the batch axis or not in the input.

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
        axis = self._channel_axis(inputs.shape)
        if self.activation is keras.activations.relu:
            return _concatenated_relu(inputs, axis)

        def both(x: Any) -> Any:
            return ops.concatenate([self._activate(x), self._activate(ops.negative(x))], axis)

        # The gradient of concat(x, -x) keeps nothing as it is.
        keeps_nothing = self.activation is keras.activations.linear
        return both(inputs) if keeps_nothing else keras.remat(both)(inputs)


@keras.saving.register_keras_serializable(package="invact")
class DuplicatedActivation(ChannelDoubling):
    """The control of the inverse activation: as many channels, no more information.

    Formula:
        y = concat(f(x), f(x)) on the channel axis.

    Args:
        activation: f, the name of a Keras activation or a function that Keras can save.
        axis: the channel axis; `keras.config.image_data_format()` decides unless given.
        **kwargs: of `keras.Layer`.

    Raises:
        ValueError: f is unknown or cannot be saved; the axis is the batch axis or not in the input.

    Example:
        >>> import numpy as np
        >>> ops.convert_to_numpy(DuplicatedActivation()(np.array([[3.0, -2.0]]))).tolist()
        [[3.0, 0.0, 3.0, 0.0]]
    """

    def call(self, inputs: Any) -> Any:
        """Compute concat(f(x), f(x))."""
        outputs = self._activate(inputs)
        return ops.concatenate([outputs, outputs], self._channel_axis(inputs.shape))


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

        # In inference no way without a convolution is faster (benchmarks/formulations.py): LiteRT multiplies
        # in 8 bits, where for a negation it goes to float32 and back.
        return ops.concatenate([ops.relu(x), ops.relu(ops.multiply(x, -1))], axis), gradient

    return ops.custom_gradient(function)(x)


def _relu_gradient_on_tensorflow(x: Any, positive: Any, negative: Any) -> Any:
    # One fused kernel for each half; with keras.ops alone the layer is a tenth dearer than tf.nn.crelu.
    import tensorflow as tf

    # Twice -x has the same signs, and TensorFlow cannot merge it with the forward's -x and keep that.
    return tf.raw_ops.ReluGrad(gradients=positive, features=x) - tf.raw_ops.ReluGrad(
        gradients=negative, features=-2 * x
    )


def _saveable(identifier: Any) -> Any:
    """Return the activation that a saved layer would load, or refuse it now rather than on loading."""
    try:
        activation = keras.activations.get(identifier)
        if getattr(activation, "__name__", "") == "<lambda>":
            raise TypeError("a lambda has no name to be saved by")
        loaded = keras.activations.get(keras.activations.serialize(activation))
        if isinstance(activation, types.FunctionType) and loaded is not activation:
            # keras.ops.relu is saved as "relu", and is the same; a user's own function of that name is not.
            if not activation.__module__.startswith("keras."):
                raise TypeError("another function has that name")
            return loaded
    except Exception:  # Keras raises a different class for each kind of bad activation.
        raise ValueError(
            "activation must be the name of a Keras activation, or a function, not a lambda, that Keras "
            f"can save (see keras.saving.register_keras_serializable). Received: activation={identifier!r}"
        ) from None
    return activation
