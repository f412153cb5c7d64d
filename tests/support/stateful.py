"""Builders of a user whose networks hold more than variables, so that seeds cannot share them."""

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("stateful")
class Noise(keras.Layer):
    """Adds noise from a generator that belongs to no layer."""

    def call(self, x, training=False):
        return x + self.noise(keras.ops.shape(x)) if training else x

    def noise(self, shape):
        return keras.random.normal(shape)


@keras.saving.register_keras_serializable("stateful")
class GraphNoise(Noise):
    """Adds noise from an operation that keeps its own state."""

    def noise(self, shape):
        return tf.random.normal(shape)


@keras.saving.register_keras_serializable("stateful")
class Scale(keras.Layer):
    """Multiplies by a constant, which is one of its arguments."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def network(layer, input_shape, classes, width=4):
    inputs = keras.Input(input_shape)
    x = keras.layers.Dense(width, "relu")(layer(keras.layers.Flatten()(inputs)))
    return keras.Model(inputs, keras.layers.Dense(classes)(x))


def noise(config, input_shape, classes):
    return network(Noise(), input_shape, classes)


def graph_noise(config, input_shape, classes):
    return network(GraphNoise(), input_shape, classes)


def constant(config, input_shape, classes):
    return network(Scale(float(np.random.random())), input_shape, classes)  # noqa: NPY002


def width(config, input_shape, classes):
    return network(Scale(1.0), input_shape, classes, int(np.random.randint(2, 90)))  # noqa: NPY002


def closure(config, input_shape, classes):
    hidden = tf.Variable(np.random.random(), dtype="float32")  # noqa: NPY002
    layer = Scale(1.0)
    layer.call = lambda x: x * hidden
    return network(layer, input_shape, classes)
