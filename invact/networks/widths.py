"""Width rules: the filters of each stage that a configuration comes to, and what its network costs."""

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
from invact.seeding import keras_draws

__all__ = ["explicit", "network_cost", "network_key", "stage_filters", "width_slack"]


def explicit(config: Config, filters: Shape, **changes: Any) -> Config:
    """Return the configuration with the filters that its width rule has led to."""
    plain = {"filters": filters, "width_rule": "filters", "width_target": None}
    return config.model_copy(update=plain | changes)


def stage_filters(config: Config, input_shape: Shape, classes: int) -> Shape:
    """The filters of each stage that `config.width_rule` leads to.

    An integer `config.filters` doubles from stage to stage, and stays for `mlp`. Then, by rule:

    - `filters`: these filters.
    - `channels`: of each stage, filters // multiplicity of its arm, at least 1, so that the next stage
      sees the same channels whatever the arm.
    - `macs`, `params`: all stages scaled so that the network's MACs or parameters come closest to those of
      the network with `config.reference` everywhere at these filters; the fewer filters on a tie. An
      integer `filters` scales in whole filters of the first stage, a list in whole filters of its largest.
      With `config.width_target`, for every arm: the most filters whose MACs or parameters do not exceed it;
      1 where even those of 1 do.

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
    if config.width_target is None and config.activations == _reference(config):
        return filters
    cost = functools.partial(_scaled_cost, config, input_shape, classes)
    if config.width_target is not None:
        guess = base * math.sqrt(config.width_target / max(1, cost(base)))
        bracket = _bracket(cost, config.width_target, max(1, round(guess)))
    else:
        # Hidden layers cost scale^2 times multiplicity.
        mean = sum(get_arm(name).multiplicity for name in config.activations) / config.depth
        guess = base * math.sqrt(get_arm(config.reference).multiplicity / mean)
        bracket = _bracket(cost, _target(config, input_shape, classes), max(1, round(guess)))
    if bracket is None:
        raise InputError(
            f"model {config.model!r}: its {config.width_rule} do not grow with config.filters. "
            "Allowed with this width_rule: a builder that follows config.filters"
        )
    return _scaled(config, bracket.within if config.width_target is not None else bracket.closest)


def width_slack(config: Config, input_shape: Shape, classes: int) -> float | None:
    """What the rules `macs` and `params` leave over of what they aim at, since filters are whole numbers.

    Formula:
        1 - cost / target, where the target is `config.width_target`, or else the cost of the network with
        `config.reference`; below 0 where the closest is above it. None with other rules.

    Example:
        >>> config = Config(activation="inverse", width_rule="macs", width_target=100_000)
        >>> f"{width_slack(config, (28, 28, 1), 10):.1%}"
        '9.4%'
    """
    if config.width_rule not in ("macs", "params"):
        return None
    cost: int = getattr(network_cost(config, input_shape, classes), config.width_rule)
    return 1 - cost / _target(config, input_shape, classes)


def network_cost(config: Config, input_shape: Shape, classes: int) -> Cost:
    """Count what the network of a configuration costs; equal networks are counted once.

    Args:
        config: the network.
        input_shape: (height, width, channels).
        classes: number of logits.

    Raises:
        InputError: see `invact.networks.build.build_model` and `invact.cost.count.count_macs`.

    Example:
        >>> network_cost(Config(filters=4, depth=1), (8, 8, 1), 10).macs == 64 * 9 * 4 + 16 * 4 * 10
        True
    """
    filters = stage_filters(config, input_shape, classes)
    return _cost(_Network.of(explicit(config, filters), input_shape, classes))


def network_key(config: Config, input_shape: Shape, classes: int) -> str:
    """Identify the network of a configuration, whatever its recipe: equal keys, equal graphs.

    Example:
        >>> keys = [network_key(Config(epochs=epochs), (8, 8, 1), 10) for epochs in (1, 2)]
        >>> keys[0] == keys[1] != network_key(Config(filters=8), (8, 8, 1), 10)
        True
    """
    filters = stage_filters(config, input_shape, classes)
    network = _Network.of(explicit(config, filters), input_shape, classes)
    return digest([network.key, network.input_shape, classes])


def _reference(config: Config) -> tuple[str, ...]:
    return (config.reference,) * config.depth


def _target(config: Config, input_shape: Shape, classes: int) -> int:
    """The MACs or parameters that the rule aims at."""
    if config.width_target is not None:
        return config.width_target
    plain = config.model_copy(update={"activation": _reference(config)})
    base = config.filters if isinstance(config.filters, int) else max(config.filters)
    return _scaled_cost(plain, input_shape, classes, base)


def _scaled_cost(config: Config, input_shape: Shape, classes: int, scale: int) -> int:
    candidate = explicit(config, _scaled(config, scale))
    value: int = getattr(_cost(_Network.of(candidate, input_shape, classes)), config.width_rule)
    return value


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
        decisive = {"model", "activation", "filters", "depth", "normalization", "options", "precision"}
        key = json.dumps(config.model_dump(mode="json", include=decisive), sort_keys=True)
        return cls(key, tuple(input_shape), classes, config)


@functools.lru_cache(maxsize=4096)
def _cost(network: _Network) -> Cost:
    # Were seeds drawn here, the weights of the next model would depend on what this cache holds.
    with keras_draws(0):
        return count_macs(assemble(network.config, network.input_shape, network.classes))


@dataclass(frozen=True)
class _Bracket:
    """Two neighbouring scales: the cost of `low` is below the target, that of `high` is not."""

    target: int
    low: int
    below: int
    high: int
    above: int

    @property
    def closest(self) -> int:
        """The scale whose cost is closest to the target; the smaller one on a tie."""
        near = self.low and self.target - self.below <= self.above - self.target
        return self.low if near else self.high

    @property
    def within(self) -> int:
        """The largest scale whose cost does not exceed the target; at least 1."""
        return self.high if self.above == self.target else max(1, self.low)


def _bracket(cost: Callable[[int], int], target: int, start: int) -> _Bracket | None:
    """Find the scales >= 1 between whose costs the target lies, for a cost that grows with the scale.

    Every cost is a model to build, so few are asked for: bracket the target and interpolate in the
    square root, because a cost is nearly quadratic, with a bisection every third step for those that are not.

    Returns:
        `low` is 0 where 1 costs as much as the target; None if 64 times `start` still costs less.
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
            scale = min(max(low + step, int(low * math.sqrt(target / max(value, 1)))), 2 * low)
        elif step % 3:
            share = (math.sqrt(target) - math.sqrt(below)) / (math.sqrt(above) - math.sqrt(below))
            scale = min(max(low + 1, low + int((high - low) * share)), high - 1)
        else:
            scale = (low + high) // 2
    return _Bracket(target, low, below, high, above)
