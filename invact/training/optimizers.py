"""The Keras optimizer of a configuration, and its averages of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from invact.training.schedules import make_schedule

if TYPE_CHECKING:
    from invact.config import Config

__all__ = ["averaged_weights", "make_optimizer"]


def make_optimizer(config: Config, steps: int) -> Any:
    """Make the optimizer of a configuration, with its learning-rate schedule and weight decay.

    Gradients are clipped first: if the norm n of all of them together is above `config.clip_norm`, each is
    multiplied by `clip_norm` / n. With `config.ema`, the optimizer keeps an average of each trainable weight:
    after the first step it is the weight, and after each later one, average = ema * average + (1 - ema) *
    weight.

    Args:
        config: the configuration; its recipe names the optimizer and its options.
        steps: optimizer steps in one epoch; the schedule ends after `steps * config.epochs` steps.

    Returns:
        A `keras.optimizers.Optimizer` that decays kernels only.

    References:
        Sutskever et al., On the importance of initialization and momentum in deep learning, 2013
            (Nesterov's momentum)
        Pascanu et al., On the difficulty of training recurrent neural networks, 2012,
            https://arxiv.org/abs/1211.5063 (clipping)
        Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992 (averages)
    """
    rate = make_schedule(config, steps)
    decay = config.weight_decay or None
    options = {
        "global_clipnorm": config.clip_norm or None,
        "use_ema": config.ema > 0,
        "ema_momentum": config.ema,
    }
    if config.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(
            rate, momentum=config.momentum, nesterov=config.nesterov, weight_decay=decay, **options
        )
    elif config.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay, **options)
    else:
        optimizer = keras.optimizers.Adam(rate, weight_decay=decay, **options)
    # Weight decay of a bias or of a normalisation scale does not regularise and costs accuracy.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


@contextlib.contextmanager
def averaged_weights(optimizer: Any, weights: list[Any]) -> Iterator[None]:
    """Give the weights their averages in a block, if the optimizer keeps averages; restore them afterwards.

    Only trainable weights have averages. The moving statistics of batch normalisation are averages already:
    those of the batches that the training saw.

    Args:
        optimizer: a built Keras optimizer.
        weights: the trainable variables that it was built for.
    """
    if not optimizer.use_ema:
        yield
        return
    raw = [tf.identity(weight.value) for weight in weights]
    optimizer.finalize_variable_values(weights)
    try:
        yield
    finally:
        for weight, value in zip(weights, raw, strict=True):
            weight.assign(value)
