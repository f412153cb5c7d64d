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

from typing import TYPE_CHECKING

from invact.config import Config
from invact.cost.rules import Shape
from invact.networks.assembly import assemble, get_builder
from invact.networks.builders import BUILDERS, Builder
from invact.networks.widths import explicit, stage_filters

if TYPE_CHECKING:
    import keras

__all__ = ["BUILDERS", "Builder", "build_model", "get_builder", "stage_filters"]


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
    return assemble(explicit(config, filters), input_shape, classes, maximum)
