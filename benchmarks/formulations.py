"""The time of different ways to compute concat(relu(x), relu(-x)) in a whole network, for each runtime.

Run: python -m benchmarks.formulations [rounds]

All ways compute the same numbers. Each one is the activation of a `cnn` with two stages of 8 and 16 filters
on 28 x 28 images. The networks are timed in turns, with one thread, and with batches of 1 and 32. The results
are ratios to the current `InverseActivation`: a ratio below 1.00 is faster.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from invact.deploy.latency import measure_latency
from invact.layers import InverseActivation

RUNTIMES = ("tensorflow", "litert", "litert:int8", "onnx", "onnx:int8")


def both(first: Callable[[Any], Any], second: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: ops.concatenate([first(x), second(x)], -1)


def _signs(channels: int) -> np.ndarray:
    one = np.eye(channels, dtype="float32")
    return np.concatenate([one, -one], 1)[None, None]


WAYS: Mapping[str, Callable[[Any], Any]] = {
    "relu(concat(x, -x))": lambda x: ops.relu(ops.concatenate([x, ops.negative(x)], -1)),
    "relu(concat(x, x * -1))": lambda x: ops.relu(ops.concatenate([x, x * -1.0], -1)),
    "relu(concat(x, 0 - x))": lambda x: ops.relu(ops.concatenate([x, ops.subtract(0.0, x)], -1)),
    "concat(relu(x), relu(-x))": both(ops.relu, lambda x: ops.relu(ops.negative(x))),
    "concat(relu(x), relu(x) - x)": both(ops.relu, lambda x: ops.relu(x) - x),
    "concat(relu(x), relu(x * -1))": both(ops.relu, lambda x: ops.relu(x * -1.0)),
    # Its MACs grow with the square of the number of channels, so it suits few channels only.
    "relu(1x1 convolution by [I, -I])": lambda x: ops.relu(ops.conv(x, _signs(x.shape[-1]))),
    "concat(relu(x), -min(x, 0))": both(ops.relu, lambda x: ops.negative(ops.minimum(x, 0.0))),
}


@keras.saving.register_keras_serializable("invact_benchmarks")
class Way(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A layer that computes the activation in one of the ways."""

    def __init__(self, way: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.way = way

    def call(self, inputs: Any) -> Any:
        """Compute concat(relu(x), relu(-x))."""
        return WAYS[self.way](inputs)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that create this layer again."""
        return {**super().get_config(), "way": self.way}


def network(activation: Callable[[], Any]) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((28, 28, 1))
    x = keras.layers.Rescaling(2 / 255, offset=-1.0)(x)
    for filters in (8, 16):
        x = activation()(keras.layers.Conv2D(filters, 3, padding="same")(x))
        x = keras.layers.MaxPooling2D(2)(x)
    return keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(x)))


def main(rounds: int) -> None:
    models = {"InverseActivation": network(InverseActivation)}
    models |= {way: network(lambda way=way: Way(way)) for way in WAYS}
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1)).astype("float32")
    expected = models["InverseActivation"](images)
    for way, model in models.items():
        assert np.allclose(model(images), expected, rtol=1e-5, atol=1e-4), way
    for batch in (1, 32):
        found = measure_latency(
            models, batch, runtime=RUNTIMES, rounds=rounds, memory=False, imports=["benchmarks.formulations"]
        )
        table = found.to_pandas().pivot(index="name", columns="runtime", values="ratio")
        print(f"batch {batch}, {found.machine}, {found.threads} thread, medians of {rounds} rounds")
        print(table.loc[list(models), list(RUNTIMES)].round(2).to_string(), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 40)
