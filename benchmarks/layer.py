"""The time of InverseActivation compared with tf.nn.crelu, for the forward and the backward pass together.

Both run in a tf.function, and their measurements alternate.

Run: python benchmarks/layer.py [rounds]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from invact.layers import InverseActivation

SHAPES = [(128, 28, 28, 16), (128, 14, 14, 32), (128, 14, 14, 64), (128, 7, 7, 128)]
CALLS = 5


def step(layer: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, upstream: tf.Tensor) -> Callable[[], Any]:
    @tf.function
    def forward_backward(x: tf.Tensor, upstream: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return y, tape.gradient(y, x, upstream)

    return lambda: forward_backward(x, upstream)


def milliseconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        run()
    return 1e3 * (time.perf_counter() - start) / CALLS


def main(rounds: int) -> None:
    print(f"{'float32 NHWC':20} {'tf.nn.crelu':>12} {'Inverse':>12} {'ratio':>6}   (medians of {rounds})")
    for shape in SHAPES:
        x = tf.random.stateless_normal(shape, (0, 1))
        upstream = tf.random.stateless_normal((*shape[:-1], 2 * shape[-1]), (0, 2))
        crelu = step(lambda x: tf.nn.crelu(x, axis=-1), x, upstream)
        inverse = step(InverseActivation(axis=-1), x, upstream)
        milliseconds(crelu), milliseconds(inverse)
        pairs = []
        for number in range(rounds):
            # The order alternates, because the second one finds a warmer cache.
            if number % 2:
                pairs.append((milliseconds(crelu), milliseconds(inverse)))
            else:
                pairs.append((milliseconds(inverse), milliseconds(crelu))[::-1])
        theirs, ours = (statistics.median(times) for times in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"{shape!s:20} {theirs:9.2f} ms {ours:9.2f} ms {ratio:6.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 40)
