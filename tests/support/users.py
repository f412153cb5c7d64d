"""An example of a user's own module. Workers import it, so it does not need pytest."""

from pathlib import Path

import keras
import tensorflow as tf

from invact.arms import Arm, get_arm, register_arm

register_arm(
    Arm("users_softplus", 1, "log(1 + exp x)", lambda name: keras.layers.Activation("softplus", name=name))
)

seen = []
"""The batches that the network of `recorder` was trained on in this process."""


def build(config, input_shape, classes, hidden=8):
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(config.filters[0], 3)(inputs)
    x = get_arm(config.activations[0]).layer("act")(x)
    x = keras.layers.Dense(hidden)(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(classes, dtype="float32")(x))


def fails(config, input_shape, classes, flag=""):
    """Raise an error of two lines on workers while the file `flag` exists."""
    from distributed import get_worker

    try:
        get_worker()
    except ValueError:
        pass
    else:
        if Path(flag).exists():
            raise ValueError("the user's fault\nin two lines")
    return build(config, input_shape, classes)


@keras.saving.register_keras_serializable("users")
class Record(keras.layers.Layer):
    def call(self, x, training=False):
        if training:
            tf.numpy_function(lambda batch: seen.append(batch.copy()), [x], [])
        return x

    def compute_output_shape(self, shape):
        return shape


def recorder(config, input_shape, classes):
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(config.filters[0], 3, name="conv")(Record()(inputs))
    x = get_arm(config.activations[0]).layer("act")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits")(keras.layers.Flatten()(x)))


@keras.saving.register_keras_serializable("users")
class Half(keras.Layer):
    """A layer that can be loaded only if this module is imported."""

    def call(self, inputs):
        return inputs * 0.5


def halved(config, input_shape, classes):
    inputs = keras.Input(input_shape)
    x = Half()(keras.layers.Flatten()(inputs))
    x = get_arm(config.activations[0]).layer("act")(keras.layers.Dense(config.filters[0])(x))
    return keras.Model(inputs, keras.layers.Dense(classes, dtype="float32")(x))
