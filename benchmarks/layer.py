"""The time of InverseActivation compared with tf.nn.crelu and with ReLU on twice the channels.

The forward and the backward pass are measured together, in a tf.function. The measurements of the three take
turns. ReLU on twice the channels has an output of the same size, and an input that is twice as large.

    python -m benchmarks.layer [rounds]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from benchmarks.machine import machine
from invact.layers import InverseActivation

__all__ = ["SHAPES", "compare"]

SHAPES = ((128, 28, 28, 16), (128, 14, 14, 32), (128, 14, 14, 64), (128, 7, 7, 128), (32, 8, 8, 8))
CALLS = 5


def step(layer: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, upstream: tf.Tensor) -> Callable[[], Any]:
    """Return a function that runs a layer forward and backward."""

    @tf.function
    def forward_backward(x: tf.Tensor, upstream: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return y, tape.gradient(y, x, upstream)

    return lambda: forward_backward(x, upstream)


def milliseconds(run: Callable[[], Any]) -> float:
    """Measure the mean time of some calls."""
    start = time.perf_counter()
    for _ in range(CALLS):
        run()
    return 1e3 * (time.perf_counter() - start) / CALLS


def compare(shape: Sequence[int], rounds: int) -> dict[str, list[float]]:
    """Measure the layers on inputs of a shape, in turn; milliseconds of each layer by its name."""
    x = tf.random.stateless_normal(shape, (0, 1))
    twice = (*shape[:-1], 2 * shape[-1])
    upstream = tf.random.stateless_normal(twice, (0, 2))
    runs = {
        "tf.nn.crelu": step(lambda x: tf.nn.crelu(x, axis=-1), x, upstream),
        "InverseActivation": step(InverseActivation(axis=-1), x, upstream),
        "ReLU, 2x": step(tf.nn.relu, tf.random.stateless_normal(twice, (0, 3)), upstream),
    }
    for run in runs.values():
        milliseconds(run)
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        # The order alternates, because each one finds the cache that the one before has left.
        for name in list(runs)[:: 1 if number % 2 else -1]:
            found[name].append(milliseconds(runs[name]))
    return found


def main(rounds: int) -> None:
    print(machine())
    print(f"\nFloat32, channels last, medians of {rounds} rounds.\n")
    print("| shape | tf.nn.crelu | InverseActivation | ratio | ReLU, 2x channels | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for shape in SHAPES:
        found = compare(shape, rounds)
        base, ours, relu = (statistics.median(times) for times in found.values())
        mine, other = (
            statistics.median(a / b for a, b in zip(found["InverseActivation"], found[name], strict=True))
            for name in ("tf.nn.crelu", "ReLU, 2x")
        )
        print(
            f"| {shape} | {base:.2f} ms | {ours:.2f} ms | {mine:.2f} | {relu:.2f} ms | {other:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 40)
