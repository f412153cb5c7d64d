"""The layers of a model by name, also those of the models inside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from invact.errors import InputError

__all__ = ["layers_by_name", "numbers_of"]


def layers_by_name(model: keras.Model) -> dict[str, keras.Layer]:
    """Return the layers of a built model in order. A model inside it is replaced by its own layers.

    A layer that contains layers and is no model, such as an attention layer, counts as one layer.

    Returns:
        name -> layer. The name of a layer in a nested model starts with the name of this model and a slash.

    Raises:
        InputError: this is no Keras model, it is not built, or two of its layers have the same name.

    Example:
        >>> inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="dense")], name="inner")
        >>> model = keras.Sequential([keras.Input((2,)), inner, keras.layers.ReLU(name="relu")])
        >>> [*layers_by_name(model)]
        ['inner/dense', 'relu']
    """
    if not isinstance(model, keras.Model):
        raise InputError(f"model: received {type(model).__name__}. Allowed: a Keras model")
    if not model.built:
        raise InputError(f"model {model.name!r} is not built. Allowed: call it on images once, or call build")
    found: dict[str, keras.Layer] = {}
    for name, layer in _layers(model, ""):
        if any(layer is other for other in found.values()):
            continue
        if name in found:
            raise InputError(f"model {model.name!r}: two layers are named {name!r}. Allowed: different names")
        found[name] = layer
    return found


def _layers(model: keras.Model, prefix: str) -> Iterator[tuple[str, keras.Layer]]:
    for layer in model.layers:
        name = f"{prefix}{layer.name}"
        if isinstance(layer, keras.Model):
            yield from _layers(layer, f"{name}/")
        elif not isinstance(layer, keras.layers.InputLayer):
            yield name, layer


def numbers_of(tensor: Any) -> NDArray[np.float32]:
    """Return the values of a tensor or a variable of any backend and precision.

    Example:
        >>> numbers_of(keras.ops.convert_to_tensor([1, 2])).tolist()
        [1.0, 2.0]
    """
    # Without the cast, NumPy would warn of the variables of TensorFlow, and it does not know bfloat16.
    numbers: NDArray[np.float32] = keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))
    return numbers
