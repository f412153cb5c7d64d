"""The check that a network can be saved and read again, before anybody has paid for its training.

The networks of invact's own builders and arms pass it, as the tests show. Others are checked, once for each
structure of a network.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from invact.arms import SHIPPED
from invact.config import Config
from invact.cost.count import Cost
from invact.cost.rules import Shape
from invact.errors import BuildError, InputError, one_line
from invact.networks.archives import brief, saved_copy
from invact.networks.assembly import assemble, get_builder
from invact.networks.settings import keras_settings
from invact.networks.widths import explicit, layer_classes, network_cost, stage_filters
from invact.seeding import keras_draws

__all__ = ["check_saved", "is_users", "saving_problem", "trainable_cost"]

TOLERANCE = 1e-3
"""Largest difference of the logits of a network and of its copy, as a share of the largest logit."""

_SAVED: set[tuple[Any, ...]] = set()
"""The structures whose networks were saved and read again without a problem in this process."""


def trainable_cost(config: Config, input_shape: Shape, classes: int) -> Cost:
    """Count the cost of a network that is to be trained, after checking that it can be saved.

    Args:
        config: the configuration of the network.
        input_shape: (height, width, channels) of one image.
        classes: number of logits.

    Raises:
        InputError: a user's own builder cannot be found.
        BuildError: the network of this configuration cannot be built, counted, or saved and read again.

    Example:
        >>> trainable_cost(Config(filters=4, depth=1), (8, 8, 1), 10).macs == 64 * 9 * 4 + 16 * 4 * 10
        True
    """
    get_builder(config.model)
    try:
        cost = network_cost(config, input_shape, classes)
    except BuildError:
        raise
    except InputError as error:
        raise BuildError(f"model {config.model!r}: {error}") from error
    if is_users(config):
        _check(config, input_shape, classes, layer_classes(config, input_shape, classes))
    return cost


def check_saved(config: Config, input_shape: Shape, classes: int) -> None:
    """Check that the network of a configuration can be saved and read again.

    Raises:
        BuildError: it cannot be built, or not be saved and read again as the same network.
    """
    if is_users(config):
        _check(config, input_shape, classes, ())


def _check(config: Config, input_shape: Shape, classes: int, layers: tuple[type, ...]) -> None:
    # Numbers, such as the filters, rarely decide whether a network can be saved. If one of them decides which
    # layers there are, the classes of the layers tell it.
    options = tuple((key, value) for key, value in config.options.items() if isinstance(value, str | bool))
    structure = (config.model, config.activations, config.normalization, config.precision, options)
    if (structure, layers) in _SAVED:
        return
    plain = explicit(config, stage_filters(config, input_shape, classes))
    with keras_draws(0), keras_settings():
        problem = saving_problem(plain, assemble(plain, input_shape, classes))
    if problem:
        raise BuildError(f"model {config.model!r}: {problem}")
    _SAVED.update([(structure, layers), (structure, ())])


def is_users(config: Config) -> bool:
    """Tell whether the network of a configuration contains code of a user: a builder or an arm.

    Example:
        >>> is_users(Config(activation="inverse")), is_users(Config(model="my_models:tiny"))
        (False, True)
    """
    return ":" in config.model or not {*config.activations} <= {*SHIPPED}


def saving_problem(config: Config, model: Any) -> str:
    """Describe why a network cannot be saved and read again as the same network.

    Args:
        config: the configuration of the network. If neither its builder nor its arms are the user's own, the
            network is not checked.
        model: the network.

    Returns:
        The reason, or an empty text if there is none.

    Example:
        >>> from invact.networks.build import build_model
        >>> saving_problem(Config(), build_model(Config(), (8, 8, 1), 10))
        ''
    """
    if not is_users(config):
        return ""
    images = np.random.default_rng(0).uniform(0, 255, (4, *model.input_shape[1:])).astype(np.float32)
    with warnings.catch_warnings():
        # Keras warns of what makes the next lines fail.
        warnings.simplefilter("ignore")
        try:
            logits = np.asarray(model(images))
        except Exception as error:  # the code of a user can raise any error
            return f"cannot be run ({one_line(error)[:200]})"
        if np.min(logits) >= 0 and np.allclose(logits.sum(axis=1), 1, atol=1e-3):
            return "its outputs are the probabilities of a softmax. Allowed: logits"
        try:
            same = np.asarray(saved_copy(model)(images))
        except Exception as error:
            return (
                f"{_culprit(model)}cannot be saved and read again ({brief(error)}). Allowed: no lambda, and "
                "functions and classes (with get_config) that keras.saving.register_keras_serializable knows"
            )
    if not np.allclose(same, logits, rtol=0, atol=TOLERANCE * float(np.abs(logits).max()), equal_nan=True):
        return (
            "computes other logits after it was saved and read again. Allowed: layers whose get_config "
            "returns all their arguments"
        )
    return ""


def _culprit(model: Any) -> str:
    """Name the innermost layer of a model that cannot be saved by itself, if there is one."""
    import keras

    def fails(layer: Any) -> bool:
        try:
            saved = keras.saving.serialize_keras_object(layer)
            keras.saving.deserialize_keras_object(saved, safe_mode=True)
        except Exception:
            return True
        return False

    failing = [layer for layer in model._flatten_layers(include_self=False) if fails(layer)]
    for layer in failing:
        inner = {id(other) for other in layer._flatten_layers(include_self=False)}
        if not any(id(other) in inner for other in failing):
            return f"layer {layer.name!r} "
    return ""
