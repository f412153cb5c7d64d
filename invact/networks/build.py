"""The function that builds the Keras model of a configuration, and the contract for a user's own builders.

A user's own builder is a function `(config, input_shape, classes, **options) -> keras.Model`. A configuration
names it as `package.module:function`. This is its contract:

- It receives the configuration with explicit `filters`, one number for each stage, after the width rule is
  applied. It receives `config.options` as keyword arguments.
- Its model takes images of `input_shape` whose pixel range is already scaled to [-1, 1], and returns
  `classes` logits in float32, without softmax or sigmoid. Keras can save the model and load it in safe mode.
- invact calls it with the global settings of Keras at `channels_last`, `float32` and an epsilon of 1e-7,
  whatever `~/.keras/keras.json` and the calling script say, and with the configuration's dtype policy.
- It makes each activation with `invact.arms.get_arm(name).layer(layer_name)`. An activation should directly
  follow a convolution, a dense layer or a normalisation, so that an inverse activation sees both signs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from invact.config import Config
from invact.cost.rules import Shape
from invact.networks.assembly import BYTES, assemble, get_builder
from invact.networks.builders import BUILDERS, Builder
from invact.networks.widths import explicit, stage_filters

if TYPE_CHECKING:
    import keras

__all__ = ["BUILDERS", "Builder", "build_model", "get_builder", "stage_filters"]


def build_model(
    config: Config, input_shape: Shape, classes: int, pixel_range: tuple[float, float] = BYTES
) -> keras.Model:
    """Build the network of a configuration; the Keras seed determines its initial weights.

    The model takes raw pixels and scales their range [low, high] to [-1, 1] itself, so that an exported model
    needs no other code: x -> (2 x - low - high) / (high - low). It returns logits in float32 for every
    `config.precision`. The global settings of Keras, such as `image_data_format`, do not change it.

    The weights of all hidden layers are initialised from He's normal distribution, for every arm. This
    distribution keeps the variance of the signal behind a ReLU. It also keeps it behind an inverse ReLU,
    which gives twice as many inputs: each has the same mean second moment, and `fan_in` counts all of them.

    Args:
        config: the configuration of the network.
        input_shape: (height, width, channels) of one image.
        classes: number of logits.
        pixel_range: the pixel values that become -1 and 1, as in `Dataset.pixel_range`.

    Raises:
        InputError: a user's own builder cannot be found.
        BuildError: a builder or an arm raises an error, or a user's own builder breaks its contract.

    References:
        He et al., Delving deep into rectifiers, 2015, https://arxiv.org/abs/1502.01852

    Example:
        >>> model = build_model(Config(filters=4, depth=1), (8, 8, 1), 10, pixel_range=(0, 16))
        >>> [layer.name for layer in model.layers]
        ['pixels', 'scale', 'stage1_conv', 'stage1_act', 'stage1_pool', 'flatten', 'logits']
    """
    filters = stage_filters(config, input_shape, classes)
    return assemble(explicit(config, filters), input_shape, classes, pixel_range)
