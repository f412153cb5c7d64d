"""The learning-rate schedules of a configuration, composed of the schedules of Keras."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
from keras.optimizers.schedules import CosineDecay, PiecewiseConstantDecay, PolynomialDecay

if TYPE_CHECKING:
    from invact.config import Config

__all__ = ["make_schedule"]

RISE = 0.3
"""Part of the training in which `one_cycle` raises the learning rate."""
START, END = 1 / 25, 1 / 250_000
"""First and last learning rate of `one_cycle`, as parts of the highest."""


def make_schedule(config: Config, steps: int) -> Any:
    """Make the learning rate of each step of a training.

    With the highest rate r, t = 0, 1, ... the number of the step, T = steps * epochs, and W the steps in
    `config.warmup_epochs`:

    - Warm-up: r (t + 1) / (W + 1) while t < W. Below, u = t - W, and U = T - W steps remain.
    - `constant`: r.
    - `cosine`: r (1 + cos(pi u / U)) / 2.
    - `step`: r before u = U / 2, r / 10 before u = 3 U / 4, and then r / 100, as for ResNets on CIFAR-10.
    - `one_cycle` has no linear warm-up. It rises from r / 25 to r along half a cosine until t = W - 1, and
      then falls along half a cosine to r / 250,000 at t = T - 1. Without `warmup_epochs`, W = 0.3 T. These
      are the learning rates of PyTorch's `OneCycleLR` with its defaults. The momentum stays constant.

    Args:
        config: the configuration.
        steps: optimizer steps in one epoch.

    Returns:
        A number, or a `keras.optimizers.schedules.LearningRateSchedule`.

    References:
        Goyal et al., Accurate, large minibatch SGD, 2017, https://arxiv.org/abs/1706.02677 (warm-up)
        Loshchilov and Hutter, SGDR, 2016, https://arxiv.org/abs/1608.03983 (`cosine`)
        He et al., Deep residual learning, 2015, https://arxiv.org/abs/1512.03385 (`step`)
        Smith and Topin, Super-convergence, 2017, https://arxiv.org/abs/1708.07120 (`one_cycle`)

    Example:
        >>> from invact.config import Config
        >>> schedule = make_schedule(Config(schedule="step", epochs=4, learning_rate=0.1), steps=1)
        >>> [round(float(schedule(step)), 3) for step in range(4)]
        [0.1, 0.1, 0.01, 0.001]
    """
    rate, total = config.learning_rate, steps * config.epochs
    if config.schedule == "one_cycle":
        # With very few steps, a part of the cycle may have less than one step.
        peak = max(0.5, (config.warmup_epochs * steps or RISE * total) - 1)
        rise = CosineDecay(rate * START, peak, alpha=1 / START)
        return _InTurn(rise, CosineDecay(rate, max(0.5, total - 1 - peak), alpha=END), peak)
    warmup = min(round(config.warmup_epochs * steps), total - 1)
    left = total - warmup
    after: Any = rate
    if config.schedule == "cosine":
        after = CosineDecay(rate, left)
    elif config.schedule == "step":
        last = [math.ceil(left / 2) - 1, math.ceil(3 * left / 4) - 1]
        after = PiecewiseConstantDecay(last, [rate, rate / 10, rate / 100])
    if not warmup:
        return after
    rise = PolynomialDecay(rate / (warmup + 1), warmup, end_learning_rate=rate, power=1.0)
    return _InTurn(rise, after if callable(after) else lambda step: rate, warmup)


class _InTurn(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """One schedule before a step, and from this step on another one, which starts at its own beginning."""

    def __init__(self, first: Callable[[Any], Any], second: Callable[[Any], Any], switch: float) -> None:
        super().__init__()
        self._first, self._second, self._switch = first, second, switch

    def __call__(self, step: Any) -> Any:
        step = keras.ops.cast(step, "float32")
        return keras.ops.where(
            step < self._switch, self._first(step), self._second(keras.ops.maximum(step - self._switch, 0.0))
        )
