"""The assembly of a Keras model from explicit filters, with a builder of invact or of the user."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from invact.config import Config
from invact.cost.rules import Shape
from invact.errors import BuildError, EnvironmentFault, InputError, choices, one_line, one_of
from invact.networks.builders import BUILDERS, Builder
from invact.networks.ending import probabilities
from invact.networks.settings import keras_settings

if TYPE_CHECKING:
    import keras

__all__ = ["BYTES", "assemble", "get_builder"]

BYTES = (0.0, 255.0)
"""The range of pixels of 8 bits."""


def assemble(
    config: Config, input_shape: Shape, classes: int, pixel_range: tuple[float, float] = BYTES
) -> keras.Model:
    """Build the network of a configuration whose `filters` are explicit, with one number for each stage.

    This function ignores the width rule; `invact.networks.build.build_model` applies it.

    Raises:
        InputError: there is no such builder.
        BuildError: the builder or an arm raised an error, or the builder's result breaks the contract.
    """
    import keras

    low, high = pixel_range
    # A sum with 0.0 turns -0.0 into 0.0.
    scale, offset = 2 / (high - low), 0.0 - (low + high) / (high - low)
    builder = get_builder(config.model)
    # An arm makes its layer without any of these settings.
    with keras_settings(config.precision):
        pixels = keras.Input(input_shape, name="pixels")
        # The scaling is in float32, because bfloat16 would round pixel values above 256.
        images = keras.layers.Rescaling(scale, offset=offset, dtype="float32", name="scale")(pixels)
        try:
            logits = builder(config, images, classes)
        except (BuildError, EnvironmentFault):
            raise
        except (Exception, SystemExit) as error:  # the code of a user can raise any error
            named = f"model {config.model!r}"
            if config.model in BUILDERS:  # then the fault is in an arm
                named += f", activation {' and '.join(dict.fromkeys(config.activations))}"
            raise BuildError(f"{named}: {one_line(error)}") from error
    # The whole model has no precision of its own: with one of 16 bits, it would round the pixels.
    with keras_settings():
        return keras.Model(pixels, logits, name=config.model.rpartition(":")[2])


def get_builder(name: str) -> Builder:
    """Return the builder with a name: one of `BUILDERS`, or a user's own as `package.module:function`.

    Raises:
        InputError: there is no such builder, module or function. When it is called, a user's builder raises
            `BuildError` if it does not accept the options, or if its result is not a Keras model that returns
            `classes` logits in float32.

    Example:
        >>> get_builder("cnn").__name__
        'cnn'
        >>> get_builder("cmn")
        Traceback (most recent call last):
        ...
        invact.errors.InputError: model: received 'cmn'; did you mean 'cnn'? Allowed: cnn, vgg, ...
    """
    if ":" in name:
        return functools.partial(_call_users, name, _import_users(name))
    if name not in BUILDERS:
        raise one_of("model", name, [*BUILDERS, "package.module:function"])
    return BUILDERS[name]


def _import_users(name: str) -> Callable[..., Any]:
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        reason = str(error) if isinstance(error, ImportError) else one_line(error)
        raise InputError(f"model {name!r}: cannot import {module_name!r}: {reason}") from error
    if not hasattr(module, function_name):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise InputError(f"model {name!r}: no such function, {choices(function_name, public)}")
    function = getattr(module, function_name)
    if not callable(function):
        raise InputError(f"model {name!r}: received a {type(function).__name__}. Allowed: a function")
    return function  # type: ignore[no-any-return]


def _call_users(name: str, function: Callable[..., Any], config: Config, images: Any, classes: int) -> Any:
    import keras

    arguments = (config, tuple(images.shape[1:]), classes)
    try:
        inspect.signature(function).bind(*arguments, **config.options)
    except TypeError as error:
        raise BuildError(f"model {name!r}: options: {error}") from None
    model = function(*arguments, **config.options)
    if not isinstance(model, keras.Model):
        raise BuildError(f"model {name!r}: returned a {type(model).__name__}. Allowed: a keras.Model")
    logits = model(images)
    received = (getattr(logits, "shape", None), getattr(logits, "dtype", None))
    if received != ((None, classes), "float32"):
        raise BuildError(
            f"model {name!r}: outputs shape {received[0]} and dtype {received[1]}. "
            f"Allowed: shape (None, {classes}) and dtype float32, the logits"
        )
    if kind := probabilities(model):
        raise BuildError(f"model {name!r}: ends in a {kind}. Allowed: logits, without softmax or sigmoid")
    return logits
