"""The plain script that `benchmarks.verdict` compares a claim with: all networks and seeds in one loop.

It is written as Keras' own examples are: `model.fit` on arrays. It imports nothing of invact.

Run: python benchmarks/plain_claim.py TASK.json DATA.npz RESULT.json [part parts]
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf


def network(arm: str, filters: list[int], shape: tuple[int, ...], classes: int) -> keras.Model:
    """Build a convolutional network; `inverse` is CReLU."""
    x = images = keras.Input(shape)
    for count in filters:
        x = keras.layers.Conv2D(count, 3, padding="same", kernel_initializer="he_normal")(x)
        if arm == "relu":
            x = keras.layers.ReLU()(x)
        else:
            x = keras.layers.Lambda(tf.nn.crelu, output_shape=(*x.shape[1:-1], 2 * count))(x)
        x = keras.layers.MaxPooling2D(2, padding="same")(x)
    return keras.Model(images, keras.layers.Dense(classes)(keras.layers.Flatten()(x)))


def main(task: str, data: str, result: str, part: int = 0, parts: int = 1) -> None:
    """Train every network of the task with every seed, and write the test accuracies."""
    plan = json.loads(Path(task).read_text(encoding="utf-8"))
    arrays = np.load(data)
    x, y, x_test, y_test = (arrays[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    steps = plan["epochs"] * (len(x) // plan["batch_size"])
    found: dict[str, list[float]] = {name: [] for name in plan["networks"]}
    params = {}
    start = time.perf_counter()
    for seed in range(part, plan["runs"], parts):
        for name, one in plan["networks"].items():
            keras.utils.clear_session()
            keras.utils.set_random_seed(seed)
            model = network(one["arm"], one["filters"], x.shape[1:], int(y.max()) + 1)
            rate = keras.optimizers.schedules.CosineDecay(plan["learning_rate"], steps)
            model.compile(
                keras.optimizers.Adam(rate),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                metrics=["accuracy"],
            )
            model.fit(x, y, plan["batch_size"], plan["epochs"], verbose=0)
            found[name].append(float(model.evaluate(x_test, y_test, verbose=0)[1]))
            params[name] = model.count_params()
    told = {"accuracies": found, "params": params, "seconds": time.perf_counter() - start}
    Path(result).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
