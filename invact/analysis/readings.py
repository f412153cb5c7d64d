"""The readings of a model: for each layer, its dead units, the rank of its features and its gradients."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from invact.analysis.features import dead_share, effective_rank
from invact.analysis.gradients import gradient_norms
from invact.analysis.tree import layers_by_name, numbers_of
from invact.errors import InputError, one_of
from invact.layers import ChannelDoubling

__all__ = ["Reading", "read_layers"]

_ACTIVATIONS = (
    ChannelDoubling,
    keras.layers.Activation,
    keras.layers.ELU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ReLU,
)


@dataclass(frozen=True)
class Reading:
    """What is known of one layer after a number of epochs.

    Attributes:
        epoch: number of finished epochs; 0 before the training.
        layer: name of the layer; in a nested model, the name of the model and a slash come first.
        units: number of output channels; None, as the next three, if the layer is not an observed one.
        dead: share of the units that are zero for all images (`dead_share`).
        dead_filters: share of the filters whose units are all dead. It differs from `dead` only for an
            inverse or duplicated activation, which makes two units of each filter.
        rank: effective rank of the features (`effective_rank`); at most `units`.
        gradient_norm: norm of the gradient (`gradient_norms`); None for a layer without trainable weights,
            and without labels.
    """

    epoch: int
    layer: str
    units: int | None = None
    dead: float | None = None
    dead_filters: float | None = None
    rank: float | None = None
    gradient_norm: float | None = None

    @property
    def measures(self) -> dict[str, float]:
        """The known measures, each by its name in the logs of Keras.

        Example:
            >>> Reading(1, "conv", gradient_norm=0.5).measures
            {'gradient_norm/conv': 0.5}
        """
        named = {name: getattr(self, name) for name in ("dead", "dead_filters", "rank", "gradient_norm")}
        return {f"{name}/{self.layer}": value for name, value in named.items() if value is not None}


def read_layers(
    model: keras.Model,
    images: Any,
    labels: Any = None,
    *,
    layers: Sequence[str] | None = None,
    epoch: int = 0,
) -> tuple[Reading, ...]:
    """Read each layer of a model on images, without changing the model.

    All images are one batch. The observed layers run in inference; `gradient_norms` runs the model as in
    training. If an observed layer is called more than once, its last call counts.

    Args:
        model: a built Keras model with one input and one output; nested models are included.
        images: shape (images, ...), as for `fit`, at least 2.
        labels: shape (images, ...), as for `fit`; without them, no gradients are read.
        layers: names of the layers to observe. By default these are the layers that activate: the activation
            layers of Keras and invact, and layers with an `activation` that is not linear.
        epoch: number of finished epochs, which is written into the readings.

    Returns:
        One reading for each layer that is observed or has a gradient, in the order of the layers.

    Raises:
        InputError: the model is not built, an observed layer does not exist, there are less than 2 images,
            the labels are not as many, or there are labels and the model is not compiled.
        EnvironmentFault: there are labels, and Keras uses another backend than TensorFlow.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.ReLU(name="relu")])
        >>> read_layers(model, np.array([[1.0, -1.0], [2.0, -2.0]]))
        (Reading(epoch=0, layer='relu', units=2, dead=0.5, dead_filters=0.5, rank=1.0, gradient_norm=None),)
    """
    named = layers_by_name(model)
    observed = _observed(named, layers)
    if np.ndim(images) < 2 or len(images) < 2:
        raise InputError(
            f"images: received shape {np.shape(images)}. Allowed: (images, ...), at least 2 images"
        )
    if labels is not None and (np.ndim(labels) < 1 or len(labels) != len(images)):
        raise InputError(f"labels: received shape {np.shape(labels)}. Allowed: {len(images)} labels")
    norms = {} if labels is None else gradient_norms(model, images, labels)
    heard: dict[str, Reading] = {}

    def hear(name: str, layer: keras.Layer, outputs: Any) -> None:
        heard[name] = _reading(epoch, name, layer, outputs)

    with _listening(observed, hear):
        model(keras.ops.convert_to_tensor(images), training=False)
    return tuple(
        replace(heard.get(name, Reading(epoch, name)), gradient_norm=norms.get(name))
        for name in named
        if name in heard or name in norms
    )


def _observed(named: Mapping[str, keras.Layer], layers: Sequence[str] | None) -> dict[str, keras.Layer]:
    if layers is None:
        return {name: layer for name, layer in named.items() if _activates(layer)}
    for name in layers:
        if name not in named:
            raise one_of("layers", name, named)
    return {name: named[name] for name in layers}


def _activates(layer: keras.Layer) -> bool:
    activation = getattr(layer, "activation", None)
    return isinstance(layer, _ACTIVATIONS) or activation not in (None, keras.activations.linear)


@contextlib.contextmanager
def _listening(
    layers: Mapping[str, keras.Layer], hear: Callable[[str, keras.Layer, Any], None]
) -> Iterator[None]:
    """Pass the outputs of each call of the layers in the block to `hear`, and restore the layers after it."""

    def listening(name: str, layer: keras.Layer, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def heard(*args: Any, **kwargs: Any) -> Any:
            outputs = call(*args, **kwargs)
            hear(name, layer, outputs)
            return outputs

        return heard

    for name, layer in layers.items():
        # A model of the outputs would not reach nested and subclassed models. Writing to vars() avoids
        # __setattr__, with which Keras tracks layers and weights.
        vars(layer)["call"] = listening(name, layer, layer.call)
    try:
        yield
    finally:
        for layer in layers.values():
            del vars(layer)["call"]


def _reading(epoch: int, name: str, layer: keras.Layer, outputs: Any) -> Reading:
    # A recurrent layer may return its state after its output.
    values = numbers_of(keras.tree.flatten(outputs)[0])
    doubling = _doubling(layer)
    values = _channels_last(doubling or layer, values) if values.ndim > 1 else values[:, None]
    dead_filters = dead_share(values, 1 if doubling is None else 2)
    return Reading(epoch, name, values.shape[-1], dead_share(values), dead_filters, effective_rank(values))


def _doubling(layer: keras.Layer) -> ChannelDoubling | None:
    candidates = (layer, getattr(layer, "activation", None))
    return next((each for each in candidates if isinstance(each, ChannelDoubling)), None)


def _channels_last(layer: keras.Layer, values: NDArray[np.float32]) -> NDArray[np.float32]:
    if isinstance(layer, ChannelDoubling):
        return np.moveaxis(values, layer.axis, -1)
    data_format = getattr(layer, "data_format", None) or keras.config.image_data_format()
    return np.moveaxis(values, 1, -1) if data_format == "channels_first" else values
