"""The function that makes the Keras optimizer of a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from invact.config import Config

__all__ = ["make_optimizer"]


def make_optimizer(config: Config, steps: int) -> Any:
    """Make the optimizer of a configuration, with its learning-rate schedule and weight decay.

    Args:
        config: the configuration; its recipe names the optimizer, the learning rate, the schedule and the
            weight decay. SGD uses Nesterov momentum 0.9.
        steps: optimizer steps in one epoch; the cosine schedule ends after `steps * config.epochs` steps.

    Returns:
        A `keras.optimizers.Optimizer` that decays kernels only.
    """
    rate: Any = config.learning_rate
    if config.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps * config.epochs)
    decay = config.weight_decay or None
    if config.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=decay)
    elif config.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
    else:
        optimizer = keras.optimizers.Adam(rate, weight_decay=decay)
    # Weight decay of a bias or of a normalisation scale does not regularise and costs accuracy.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
