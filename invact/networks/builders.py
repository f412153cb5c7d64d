"""The builders that invact ships: each function builds one network, from images to logits.

A builder takes a configuration with explicit `filters`, one number for each stage, and images that are scaled
to [-1, 1]. Hidden weights are initialised from He's normal distribution;
`invact.networks.build.build_model` explains the reason. Every layer has a fixed name, so that tables of
costs are easy to read. The input of every activation is linear, so that it has both signs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from invact.arms import get_arm
from invact.config import Config

__all__ = ["BUILDERS", "Builder"]

Builder = Callable[[Config, Any, int], Any]
"""`builder(config, images, classes)` maps a symbolic tensor of images in [-1, 1] to a tensor of logits."""


def _conv(config: Config, x: Any, filters: int, name: str, size: int = 3, strides: int = 1) -> Any:
    import keras

    return keras.layers.Conv2D(
        filters,
        size,
        strides,
        padding="same",
        use_bias=config.normalization == "none",
        kernel_initializer="he_normal",
        name=name,
    )(x)


def _norm(config: Config, x: Any, name: str) -> Any:
    import keras

    if config.normalization == "batch":
        return keras.layers.BatchNormalization(name=name)(x)
    if config.normalization == "layer":
        return keras.layers.LayerNormalization(name=name)(x)
    return x


def _norm_act(config: Config, x: Any, stage: int, suffix: str = "") -> Any:
    """Add the normalisation and the activation of a stage; the first stage has number 1."""
    x = _norm(config, x, f"stage{stage}_norm{suffix}")
    return get_arm(config.activations[stage - 1]).layer(f"stage{stage}_act{suffix}")(x)


def _pool(x: Any, stage: int) -> Any:
    import keras

    # Padding "same" rounds sizes up, so that small images keep at least one position at any depth.
    return keras.layers.MaxPooling2D(2, padding="same", name=f"stage{stage}_pool")(x)


def _flatten(x: Any) -> Any:
    import keras

    return keras.layers.Flatten(name="flatten")(x)


def _average(x: Any) -> Any:
    import keras

    return keras.layers.GlobalAveragePooling2D(name="average")(x)


def _logits(config: Config, x: Any, classes: int) -> Any:
    import keras

    if config.dropout:
        x = keras.layers.Dropout(config.dropout, name="dropout")(x)
    return keras.layers.Dense(classes, dtype="float32", name="logits")(x)


def _stack(config: Config, x: Any, stage: int, filters: int, count: int) -> Any:
    """Add a stage of convolutions, each with its normalisation and its activation, and a max pooling."""
    for number in range(1, count + 1):
        x = _conv(config, x, filters, f"stage{stage}_conv{number}")
        x = _norm_act(config, x, stage, str(number))
    return _pool(x, stage)


def _stages(config: Config) -> Iterator[tuple[int, int]]:
    assert isinstance(config.filters, tuple)
    return enumerate(config.filters, start=1)


def cnn(config: Config, images: Any, classes: int) -> Any:
    """Stages of convolution, normalisation, activation and max pooling, then flatten and the logits.

    Pooling follows the activation, as in the CReLU paper. The activation then sees both signs of the
    convolution, and the pool keeps the strongest response of each sign.

    References:
        Shang et al., Understanding and improving CNNs via CReLU, 2016, https://arxiv.org/abs/1603.05201
    """
    x = images
    for stage, filters in _stages(config):
        x = _conv(config, x, filters, f"stage{stage}_conv")
        x = _pool(_norm_act(config, x, stage), stage)
    return _logits(config, _flatten(x), classes)


def vgg(config: Config, images: Any, classes: int) -> Any:
    """Stages of two convolutions and a max pooling, then flatten and the logits.

    Each convolution is followed by the configured normalisation and the activation.

    References:
        Simonyan and Zisserman, Very deep convolutional networks, 2014, https://arxiv.org/abs/1409.1556
    """
    x = images
    for stage, filters in _stages(config):
        x = _stack(config, x, stage, filters, 2)
    return _logits(config, _flatten(x), classes)


def plain(config: Config, images: Any, classes: int) -> Any:
    """Stages of `config.convolutions` convolutions and a max pooling, then average and the logits.

    There are no skip connections, and each convolution is followed by the configured normalisation and the
    activation. The network has `config.depth` x `config.convolutions` convolutions, but only `config.depth`
    poolings, so it may be deep on small images.

    The ending is the average over all positions, as in `resnet`, because each position of a deep network has
    seen most of the image. With few poolings, a classifier of all flattened positions would be the largest
    layer of the network. With the average, it reads one number for each channel of the last stage.

    References:
        He et al., Deep residual learning, 2015, https://arxiv.org/abs/1512.03385 (the plain networks)
        Lin et al., Network in network, 2013, https://arxiv.org/abs/1312.4400 (the average)
    """
    x = images
    for stage, filters in _stages(config):
        x = _stack(config, x, stage, filters, config.convolutions)
    return _logits(config, _average(x), classes)


def resnet(config: Config, images: Any, classes: int) -> Any:
    """A linear stem and one pre-activation block in each stage, then normalise, activate, average, logits.

    The doubled channels of an inverse activation never enter the residual stream. This stream is a sum of
    convolutions, and every activation reads the stream or a convolution.

    With `config.stochastic_depth` p, each image leaves out block l of L with probability q = p l / L in
    training: its residual part becomes 0, and otherwise it is divided by 1 - q. So the expectation of the
    stream is that of the whole network, which is used unchanged afterwards.

    References:
        He et al., Identity mappings in deep residual networks, 2016, https://arxiv.org/abs/1603.05027
        Huang et al., Deep networks with stochastic depth, 2016, https://arxiv.org/abs/1603.09382
    """
    import keras

    assert isinstance(config.filters, tuple)
    x = _conv(config, images, config.filters[0], "stem_conv")
    for stage, filters in _stages(config):
        strides = 1 if stage == 1 else 2
        shortcut, name = x, f"stage{stage}"
        if x.shape[-1] != filters or strides != 1:
            shortcut = _conv(config, x, filters, f"{name}_shortcut", size=1, strides=strides)
        x = _conv(config, _norm_act(config, x, stage, "1"), filters, f"{name}_conv1", strides=strides)
        x = _conv(config, _norm_act(config, x, stage, "2"), filters, f"{name}_conv2")
        if config.stochastic_depth:
            rate = config.stochastic_depth * stage / config.depth
            # One random number for each image.
            drop = keras.layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")
            x = drop(x)
        x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    x = _norm_act(config, x, config.depth, "3")
    return _logits(config, _average(x), classes)


def separable(config: Config, images: Any, classes: int) -> Any:
    """A stage with a convolution and then depthwise-separable stages, then flatten and the logits.

    Each stage has one activation and one max pooling. The first stage is a full convolution, because a
    depthwise convolution of a grey image would have only one filter. As in Xception, there is no layer
    between the depthwise and the pointwise convolution.

    References:
        Chollet, Xception, 2016, https://arxiv.org/abs/1610.02357
    """
    import keras

    x = images
    for stage, filters in _stages(config):
        if stage == 1:
            x = _conv(config, x, filters, "stage1_conv")
        else:
            x = keras.layers.DepthwiseConv2D(
                3,
                padding="same",
                use_bias=False,
                # The variance is 1 / 9, because each filter reads 9 numbers. The scaled initialisers of
                # Keras would count the numbers of all channels.
                depthwise_initializer=keras.initializers.TruncatedNormal(stddev=1 / 3),
                name=f"stage{stage}_depthwise",
            )(x)
            x = _conv(config, x, filters, f"stage{stage}_pointwise", size=1)
        x = _pool(_norm_act(config, x, stage), stage)
    return _logits(config, _flatten(x), classes)


def mlp(config: Config, images: Any, classes: int) -> Any:
    """Flatten, then hidden dense layers and the logits; their widths are equal unless `filters` is a list."""
    import keras

    x = _flatten(images)
    for stage, filters in _stages(config):
        use_bias, name = config.normalization == "none", f"stage{stage}_dense"
        dense = keras.layers.Dense(filters, use_bias=use_bias, kernel_initializer="he_normal", name=name)
        x = _norm_act(config, dense(x), stage)
    return _logits(config, x, classes)


BUILDERS: Mapping[str, Builder] = MappingProxyType(
    {builder.__name__: builder for builder in (cnn, vgg, plain, resnet, separable, mlp)}
)
"""The builders that invact ships, by name."""
