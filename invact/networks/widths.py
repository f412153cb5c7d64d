"""The width rules: the filters of each stage that a rule gives, and the cost of the resulting network."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from invact.arms import get_arm
from invact.config import Config, digest
from invact.cost.count import Cost, count_macs
from invact.cost.rules import Shape
from invact.errors import InputError
from invact.networks.assembly import assemble
from invact.networks.settings import keras_settings
from invact.seeding import keras_draws

__all__ = ["explicit", "layer_classes", "network_cost", "network_key", "stage_filters", "width_slack"]

_MEASURES = {"macs": "macs", "macs_at_least": "macs", "params": "params"}
"""The width rules that have a cost as their target, each with this cost."""


def explicit(config: Config, filters: Shape, **changes: Any) -> Config:
    """Return the configuration with explicit filters, so that no width rule is applied again."""
    plain = {"filters": filters, "width_rule": "filters", "width_target": None}
    return config.model_copy(update=plain | changes)


def stage_filters(config: Config, input_shape: Shape, classes: int) -> Shape:
    """Return the filters of each stage that `config.width_rule` gives.

    If `config.filters` is an integer, it is the number of filters of the first stage. The number doubles from
    stage to stage; for `mlp` it stays the same. Then the width rule is applied:

    - `filters`: the filters are kept.
    - `channels`: the filters of each stage are divided by the multiplicity of its arm (rounded down, at least
      1), so that the next stage reads the same number of channels for every arm.
    - `macs`, `params`: the filters of all stages are scaled together, until the MACs or parameters of the
      network are closest to those of the network that has the given filters and, in each stage, the arm of
      `config.references`. On a tie, the smaller network is taken. The scale is a whole number of filters, of
      the first stage if `filters` is an integer, or of the largest stage if it is a list.
    - `macs_at_least`: as `macs`, but the smallest scale whose MACs are at least those of the network of the
      reference arms. If the arm of each stage is its reference arm, the filters are kept.
    - `macs`, `params` with `config.width_target`: for every arm, the largest scale whose MACs or parameters
      do not exceed the target; 1 if even the scale 1 exceeds it.

    Returns:
        `config.depth` numbers.

    Raises:
        InputError: the cost of a user's own model does not grow with its filters.

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
    if config.width_target is None and config.activations == config.references:
        return filters
    cost = functools.partial(_scaled_cost, config, input_shape, classes)
    if config.width_target is not None:
        guess = base * math.sqrt(config.width_target / max(1, cost(base)))
        bracket = _bracket(cost, config.width_target, max(1, round(guess)))
    else:
        # A good start, because the cost of a hidden layer is proportional to scale^2 * multiplicity.
        ours, theirs = (
            sum(get_arm(name).multiplicity for name in names)
            for names in (config.activations, config.references)
        )
        guess = base * math.sqrt(theirs / ours)
        bracket = _bracket(cost, _target(config, input_shape, classes), max(1, round(guess)))
    if bracket is None:
        raise InputError(
            f"model {config.model!r}: its {_MEASURES[config.width_rule]} do not grow with config.filters. "
            "Allowed: with this width_rule, only a builder that uses config.filters"
        )
    if config.width_rule == "macs_at_least":
        return _scaled(config, bracket.high)
    return _scaled(config, bracket.within if config.width_target is not None else bracket.closest)


def width_slack(config: Config, input_shape: Shape, classes: int) -> float | None:
    """Return the relative difference between the target of a width rule and the cost of the network.

    The two differ because filters are whole numbers.

    Formula:
        1 - cost / target, where the target is `config.width_target`, or else the cost of the network with
        `config.reference`. The result is negative if the cost is above the target; for `macs_at_least`, it is
        0 or negative.

    Returns:
        None for the rules `filters` and `channels`, which have no target.

    Example:
        >>> config = Config(activation="inverse", width_rule="macs", width_target=100_000)
        >>> f"{width_slack(config, (28, 28, 1), 10):.1%}"
        '9.4%'
    """
    if config.width_rule not in _MEASURES:
        return None
    cost: int = getattr(network_cost(config, input_shape, classes), _MEASURES[config.width_rule])
    return 1 - cost / _target(config, input_shape, classes)


def network_cost(config: Config, input_shape: Shape, classes: int) -> Cost:
    """Count the costs of the network of a configuration; equal networks are counted only once.

    Args:
        config: the configuration of the network.
        input_shape: (height, width, channels) of one image.
        classes: number of logits.

    Raises:
        InputError: see `invact.networks.build.build_model` and `invact.cost.count.count_macs`.

    Example:
        >>> network_cost(Config(filters=4, depth=1), (8, 8, 1), 10).macs == 64 * 9 * 4 + 16 * 4 * 10
        True
    """
    filters = stage_filters(config, input_shape, classes)
    return _cost(_Network.of(explicit(config, filters), input_shape, classes))[0]


def layer_classes(config: Config, input_shape: Shape, classes: int) -> tuple[type, ...]:
    """Return the class of each layer of a network, in the order of Keras; the arguments are as above.

    Example:
        >>> len(layer_classes(Config(filters=4, depth=1), (8, 8, 1), 10))
        7
    """
    filters = stage_filters(config, input_shape, classes)
    return _cost(_Network.of(explicit(config, filters), input_shape, classes))[1]


def network_key(config: Config, input_shape: Shape, classes: int) -> str:
    """Return a key for the network of a configuration; the recipe does not change it.

    Networks with equal keys have equal graphs.

    Example:
        >>> keys = [network_key(Config(epochs=epochs), (8, 8, 1), 10) for epochs in (1, 2)]
        >>> keys[0] == keys[1] != network_key(Config(filters=8), (8, 8, 1), 10)
        True
    """
    filters = stage_filters(config, input_shape, classes)
    network = _Network.of(explicit(config, filters), input_shape, classes)
    return digest([network.key, network.input_shape, classes])


def _target(config: Config, input_shape: Shape, classes: int) -> int:
    """Return the number of MACs or parameters that the width rule has as its target."""
    if config.width_target is not None:
        return config.width_target
    plain = config.model_copy(update={"activation": config.references})
    base = config.filters if isinstance(config.filters, int) else max(config.filters)
    return _scaled_cost(plain, input_shape, classes, base)


def _scaled_cost(config: Config, input_shape: Shape, classes: int, scale: int) -> int:
    candidate = explicit(config, _scaled(config, scale))
    cost, _ = _cost(_Network.of(candidate, input_shape, classes))
    value: int = getattr(cost, _MEASURES[config.width_rule])
    return value


def _scaled(config: Config, scale: int) -> Shape:
    """Return the filters of each stage if the first stage, or the largest of a list, has `scale` filters."""
    if isinstance(config.filters, tuple):
        largest = max(config.filters)
        return tuple(max(1, (2 * count * scale + largest) // (2 * largest)) for count in config.filters)
    growth = 1 if config.model == "mlp" else 2
    return tuple(scale * growth**stage for stage in range(config.depth))


@dataclass(frozen=True)
class _Network:
    """The values that determine the cost of a network by layer, as a key for a cache.

    Attributes:
        key: what decides the graph in inference, as JSON.
        input_shape: (height, width, channels) of one image.
        classes: number of logits.
        drops: whether the network has layers that do nothing in inference: dropout, stochastic depth.
        config: the configuration.
    """

    key: str
    input_shape: Shape
    classes: int
    drops: tuple[bool, bool]
    config: Config = field(compare=False)

    @classmethod
    def of(cls, config: Config, input_shape: Shape, classes: int) -> _Network:
        decisive = {"model", "activation", "filters", "depth", "convolutions", "normalization"}
        decisive |= {"options", "precision"}
        key = json.dumps(config.model_dump(mode="json", include=decisive), sort_keys=True)
        drops = config.dropout > 0, config.stochastic_depth > 0
        return cls(key, tuple(input_shape), classes, drops, config)


@functools.lru_cache(maxsize=4096)
def _cost(network: _Network) -> tuple[Cost, tuple[type, ...]]:
    """Return the cost of a network, and the classes of its layers."""
    # Without keras_draws, building the model would draw seeds, and the weights of the next model would depend
    # on whether this cost was in the cache.
    with keras_draws(0), keras_settings():
        model = assemble(network.config, network.input_shape, network.classes)
        return count_macs(model), tuple(map(type, model._flatten_layers(include_self=False)))


@dataclass(frozen=True)
class _Bracket:
    """Two neighbouring scales: `low` costs less than the target, and `high` costs at least the target.

    Attributes:
        target: the target of the cost.
        low: the smaller scale; 0 if even the scale 1 costs at least the target.
        below: the cost at `low`.
        high: the larger scale.
        above: the cost at `high`.
    """

    target: int
    low: int
    below: int
    high: int
    above: int

    @property
    def closest(self) -> int:
        """The scale whose cost is closest to the target; on a tie, the smaller scale."""
        near = self.low and self.target - self.below <= self.above - self.target
        return self.low if near else self.high

    @property
    def within(self) -> int:
        """The largest scale whose cost does not exceed the target; at least 1."""
        return self.high if self.above == self.target else max(1, self.low)


def _bracket(cost: Callable[[int], int], target: int, start: int) -> _Bracket | None:
    """Find two neighbouring scales with the target between their costs, for a cost that grows with the scale.

    Each cost needs a new model, so the search asks for few costs. It brackets the target and interpolates the
    square root of the cost, because most costs are nearly quadratic. Every third step is a bisection, for
    costs that are not.

    Returns:
        None if a scale of more than 64 times `start` still costs less than the target.
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
            scale = min(max(low + 2**step, int(low * math.sqrt(target / max(value, 1)))), 2 * low)
        elif step % 3:
            share = (math.sqrt(target) - math.sqrt(below)) / (math.sqrt(above) - math.sqrt(below))
            scale = min(max(low + 1, low + int((high - low) * share)), high - 1)
        else:
            scale = (low + high) // 2
    return _Bracket(target, low, below, high, above)
