"""The networks: builders from a configuration to a Keras model, and the rules for their width.

A builder of one's own is a function `(config, input_shape, classes, **options) -> keras.Model`, named in
the configuration as `package.module:function`:

- it receives the configuration with `filters` made explicit, one number for each stage, whatever the
  width rule, and `config.options` as keywords;
- its model takes images of `input_shape` that are scaled into [-1, 1] already, and returns `classes`
  logits in float32, without softmax;
- it makes its activations with `invact.arms.get_arm(name).layer(layer_name)`, best right after a
  convolution, a dense layer or a normalisation, so that an inverse activation sees both signs.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from invact.arms import get_arm
from invact.builders import BUILDERS, Builder
from invact.config import Config
from invact.cost import Cost, count_macs
from invact.errors import InputError, choices, one_of
from invact.seeding import keras_draws

if TYPE_CHECKING:
    import keras

__all__ = ["BUILDERS", "Builder", "build_model", "get_builder", "stage_filters"]

Shape = tuple[int, ...]


def build_model(config: Config, input_shape: Shape, classes: int, maximum: float = 255.0) -> keras.Model:
    """Build the network of a configuration; its weights come from Keras' seed.

    The model takes raw pixels and scales them into [-1, 1] itself, x -> 2 x / maximum - 1, so that an
    exported model needs nothing else. It returns logits in float32, whatever `config.precision`.

    Weights of all hidden layers start from He's normal distribution, for every arm: it keeps the variance
    of what follows a ReLU, and also that of what follows an inverse ReLU, where twice the inputs each
    have, on average, the same second moment, and `fan_in` counts them all.

    Args:
        config: the network.
        input_shape: (height, width, channels).
        classes: number of logits.
        maximum: the largest pixel value.

    Raises:
        InputError: a builder of the user's own cannot be found or breaks its contract.

    References:
        He et al., Delving deep into rectifiers, 2015, https://arxiv.org/abs/1502.01852

    Example:
        >>> model = build_model(Config(filters=4, depth=1), (8, 8, 1), 10, maximum=16)
        >>> [layer.name for layer in model.layers]
        ['pixels', 'scale', 'stage1_conv', 'stage1_act', 'stage1_pool', 'flatten', 'logits']
    """
    filters = stage_filters(config, input_shape, classes)
    return _build(_explicit(config, filters), input_shape, classes, maximum)


def _explicit(config: Config, filters: Shape, **changes: Any) -> Config:
    return config.model_copy(update={"filters": filters, "width_rule": "filters", **changes})


def _build(config: Config, input_shape: Shape, classes: int, maximum: float = 255.0) -> keras.Model:
    import keras

    builder = get_builder(config.model)
    with _precision(config.precision):
        pixels = keras.Input(input_shape, name="pixels")
        # In float32, because bfloat16 would round pixel values above 256.
        images = keras.layers.Rescaling(2 / maximum, offset=-1.0, dtype="float32", name="scale")(pixels)
        logits = builder(config, images, classes)
    return keras.Model(pixels, logits, name=config.model.rpartition(":")[2])


@contextlib.contextmanager
def _precision(policy: str) -> Iterator[None]:
    """Set Keras' dtype policy for a block: an arm makes its layer without being told one."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def get_builder(name: str) -> Builder:
    """Look a builder up: one of `BUILDERS`, or a user's own as `package.module:function`.

    Raises:
        InputError: no such builder, module or function; or, when it is called, its result is no Keras model
            that ends in `classes` logits in float32.

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
    except Exception as error:
        raise InputError(f"model {name!r}: cannot import {module_name!r}: {error}") from error
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
        raise InputError(f"model {name!r}: options: {error}") from None
    model = function(*arguments, **config.options)
    if not isinstance(model, keras.Model):
        raise InputError(f"model {name!r}: returned a {type(model).__name__}. Allowed: a keras.Model")
    logits = model(images)
    received = (getattr(logits, "shape", None), getattr(logits, "dtype", None))
    if received != ((None, classes), "float32"):
        raise InputError(
            f"model {name!r}: outputs shape {received[0]} and dtype {received[1]}. "
            f"Allowed: shape (None, {classes}) and float32, the logits"
        )
    last = model.layers[-1]
    if getattr(last, "activation", None) is keras.activations.softmax or isinstance(
        last, keras.layers.Softmax
    ):
        raise InputError(f"model {name!r}: ends in a softmax. Allowed: logits")
    return logits


# Width rules


def stage_filters(config: Config, input_shape: Shape, classes: int) -> Shape:
    """The filters of each stage that `config.width_rule` leads to.

    An integer `config.filters` doubles from stage to stage, and stays for `mlp`. Then, by rule:

    - `filters`: these filters.
    - `channels`: of each stage, filters // multiplicity of its arm, at least 1, so that the next stage
      sees the same channels whatever the arm.
    - `macs`, `params`: all stages scaled so that the network's MACs or parameters come closest to those of
      the network with `config.reference` everywhere at these filters; the fewer filters on a tie. An
      integer `filters` scales in whole filters of the first stage, a list in whole filters of its largest.

    Returns:
        `config.depth` numbers.

    Raises:
        InputError: the cost of a user's own model does not follow its filters.

    Example:
        >>> stage_filters(Config(filters=16, depth=3), (28, 28, 1), 10)
        (16, 32, 64)
        >>> stage_filters(Config(activation="inverse", width_rule="channels"), (28, 28, 1), 10)
        (8, 16)
    """
    base = config.filters if isinstance(config.filters, int) else max(config.filters)
    filters = _scaled(config, base)
    if config.width_rule == "filters":
        return filters
    if config.width_rule == "channels":
        arms = (get_arm(name) for name in config.activations)
        return tuple(max(1, count // arm.multiplicity) for count, arm in zip(filters, arms, strict=True))
    reference = (config.reference,) * config.depth
    if config.activations == reference:
        return filters

    def cost(scale: int, activations: tuple[str, ...] = config.activations) -> int:
        candidate = _explicit(config, _scaled(config, scale), activation=activations)
        value: int = getattr(_cost(_Network.of(candidate, input_shape, classes)), config.width_rule)
        return value

    mean = sum(get_arm(name).multiplicity for name in config.activations) / config.depth
    # Hidden layers cost scale^2 times multiplicity.
    start = round(base * math.sqrt(get_arm(config.reference).multiplicity / mean))
    scale = _closest(cost, cost(base, reference), max(1, start))
    if scale is None:
        raise InputError(
            f"model {config.model!r}: its {config.width_rule} do not grow with config.filters. "
            "Allowed with this width_rule: a builder that follows config.filters"
        )
    return _scaled(config, scale)


def _scaled(config: Config, scale: int) -> Shape:
    """The filters of each stage when the first one, or the largest of a list, has `scale`."""
    if isinstance(config.filters, tuple):
        largest = max(config.filters)
        return tuple(max(1, (2 * count * scale + largest) // (2 * largest)) for count in config.filters)
    growth = 1 if config.model == "mlp" else 2
    return tuple(scale * growth**stage for stage in range(config.depth))


@dataclass(frozen=True)
class _Network:
    """What decides the cost of a network, as a key for a cache."""

    key: str
    input_shape: Shape
    classes: int
    config: Config = field(compare=False)

    @classmethod
    def of(cls, config: Config, input_shape: Shape, classes: int) -> _Network:
        decisive = {"model", "activation", "filters", "depth", "normalization", "options"}
        key = json.dumps(config.model_dump(mode="json", include=decisive), sort_keys=True)
        return cls(key, tuple(input_shape), classes, config)


@functools.lru_cache(maxsize=4096)
def _cost(network: _Network) -> Cost:
    # Were seeds drawn here, the weights of the next model would depend on what this cache holds.
    with keras_draws(0):
        return count_macs(_build(network.config, network.input_shape, network.classes))


def _closest(cost: Callable[[int], int], target: int, start: int) -> int | None:
    """Find the scale >= 1 whose cost is closest to the target, for a cost that grows with the scale.

    Every cost is a model to build, so few are asked for: bracket the target and interpolate in the
    square root, because a cost is nearly quadratic, with a bisection every third step for those that are not.

    Returns:
        The smaller scale on a tie; None if 64 times `start` still costs less than the target.
    """
    low, high, below, above, scale, step = 0, 0, 0, 0, start, 0
    while not high or high - low > 1:
        value, step = cost(scale), step + 1
        if value < target:
            low, below = scale, value
        else:
            high, above = scale, value
        if not high:
            if low > 64 * start:
                return None
            scale = min(max(low + 1, int(low * math.sqrt(target / max(value, 1)))), 2 * low)
        elif step % 3:
            share = (math.sqrt(target) - math.sqrt(below)) / (math.sqrt(above) - math.sqrt(below))
            scale = min(max(low + 1, low + int((high - low) * share)), high - 1)
        else:
            scale = (low + high) // 2
    return low if low and target - below <= above - target else high
