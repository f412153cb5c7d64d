"""What an exported file says about itself: its input, its output, its network, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from invact._version import __version__
from invact.data.names import class_names

if TYPE_CHECKING:
    import keras

    from invact.data.dataset import Dataset

__all__ = ["IMAGE", "LOGITS", "PROBABILITIES", "describe", "flat", "pixel_range", "presented"]

IMAGE, LOGITS, PROBABILITIES = "image", "logits", "probabilities"
"""The names of the input and of the output of an exported file."""

LAYOUT = ("images", "height", "width", "channels")


def presented(model: keras.Model, *, softmax: bool = False) -> keras.Model:
    """Return a model of the same layers whose input is named `image`, and whose output is named too.

    Args:
        model: a functional model with one input of images and one output of logits.
        softmax: whether the output is `probabilities`, the softmax of the logits; otherwise it is `logits`.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((4,), name="pixels"), keras.layers.Dense(3, name="last")])
        >>> named = presented(model, softmax=True)
        >>> [layer.name for layer in named.layers]
        ['image', 'last', 'probabilities']
    """
    import keras

    (pixels,) = model.inputs
    image = keras.Input(tuple(pixels.shape[1:]), dtype=pixels.dtype, name=IMAGE)
    name = PROBABILITIES if softmax else LOGITS
    last = model.outputs[0]._keras_history.operation.name
    inner = {layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)}
    reserved = {IMAGE} if last == name and not softmax else {IMAGE, name}
    if inner & reserved:
        # A layer of a user's own model has one of the names, so the model becomes one layer.
        output, last = keras.Model(model.inputs, model.outputs, name="network")(image), "network"
        output = output[0] if isinstance(output, list) else output
    else:
        output = model.call(image)
    if softmax:
        output = keras.layers.Softmax(dtype="float32", name=name)(output)
    elif last != name:
        output = keras.layers.Identity(dtype="float32", name=name)(output)
    return keras.Model(image, output, name=model.name)


def pixel_range(model: keras.Model, data: Dataset) -> tuple[float, float]:
    """Return the pixel values that the network scales to -1 and to 1; other values are possible.

    They come from the network's own layer `scale`. For a model without this layer, they are the smallest and
    the largest pixel of the training images.

    Example:
        >>> from invact.config import Config
        >>> from invact.data.dataset import load
        >>> from invact.networks.build import build_model
        >>> data = load("digits")
        >>> pixel_range(build_model(Config(), data.input_shape, data.classes, data.pixel_range), data)
        (0.0, 16.0)
    """
    for layer in model.layers:
        if layer.name == "scale" and hasattr(layer, "offset"):
            factor, offset = float(np.ravel(layer.scale)[0]), float(np.ravel(layer.offset)[0])
            low, high = sorted(((-1 - offset) / factor, (1 - offset) / factor))
            # The factor is rounded, and so is the way back.
            return float(f"{low:.9g}"), float(f"{high:.9g}")
    return float(data.x_train.min()), float(data.x_train.max())


def describe(model: keras.Model, data: Dataset, *, softmax: bool, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what somebody who has only an exported file must know to run it, as values for JSON.

    Args:
        model: the network.
        data: the data set that the network was trained on.
        softmax: whether the file returns probabilities.
        about: what else is known about the file, the network and the run.
    """
    low, high = pixel_range(model, data)
    shape = list(model.inputs[0].shape[1:])
    name = PROBABILITIES if softmax else LOGITS
    return {
        "input": {
            "name": IMAGE,
            "dtype": "float32",
            "shape": [None, *shape],
            "layout": list(LAYOUT[: len(shape) + 1]),
            "low": low,
            "high": high,
            "seen": [float(data.x_train.min()), float(data.x_train.max())],
            "scaling": f"inside: the file takes pixels from {low:g} to {high:g} and scales them itself",
        },
        "output": {
            "name": name,
            "dtype": "float32",
            "shape": [None, data.classes],
            "kind": name,
            "classes": list(class_names(data.name, data.classes)),
        },
        **about,
        "data": {"name": data.name, "digest": data.digest},
        "invact": __version__,
    }


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Convert a description to texts by dotted key, as the metadata of an ONNX file need it.

    Example:
        >>> flat({"input": {"name": "image", "shape": [None, 8]}, "macs": 3})
        {'input.name': 'image', 'input.shape': '[null, 8]', 'macs': '3'}
    """
    texts: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            texts |= flat(value, f"{prefix}{key}.")
        else:
            texts[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return texts
