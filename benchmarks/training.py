"""Where the time of one small training goes: with a network of its own, and with that of an earlier seed.

The networks are those of `invact claim digits_claim` without its curve. Each round trains the same seed of
each network once in both ways, so that other work of the machine slows both, and compares the numbers. A
network of its own is trained by `train`, and its memory is freed as a worker did it before networks were
shared: the garbage of the whole process is collected twice. A shared network is trained by a `Trainer`, as in
workers. The table has medians over all rounds and networks.

Run: python -m benchmarks.training [rounds]
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable

import tensorflow as tf

from invact.claims.file import load_claim
from invact.config import Config
from invact.data.dataset import Dataset, load
from invact.training.loop import Trainer, train
from invact.training.results import TrialResult

COLUMNS = ("build", "trace", "train", "evaluate", "free", "all", "processor")


def alone(config: Config, seed: int, data: Dataset) -> tuple[TrialResult, Callable[[], None]]:
    """Train with a network of its own; return the result, and what frees the memory."""
    gc.unfreeze()

    def free() -> None:
        gc.collect()
        gc.collect()

    return train(config, seed, data), free


def measured(call: Callable[[], tuple[TrialResult, Callable[[], None]]]) -> tuple[TrialResult, list[float]]:
    """Return the result of a training, and seconds by column."""
    start, processor = time.perf_counter(), time.process_time()
    result, free = call()
    middle = time.perf_counter()
    free()
    end = time.perf_counter()
    times = result.times
    assert times is not None
    parts = [times.build, times.trace, times.train, times.evaluate, end - middle]
    return result, [*parts, end - start, time.process_time() - processor]


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    # As in workers.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    data = load("digits")
    configs = [cell.config for cell in load_claim("digits_claim").cells().values()]
    trainer = Trainer(len(configs))

    def shared(config: Config, seed: int) -> tuple[TrialResult, Callable[[], None]]:
        gc.freeze()
        return trainer.train(config, seed, data), lambda: None

    rows: dict[str, list[list[float]]] = {"own network": [], "first seed": [], "shared network": []}
    # The first trainings of a process load parts of the libraries.
    for config in configs[:2]:
        alone(config, 0, data)[1]()
    for seed in range(rounds + 1):
        for config in configs:
            one, seconds = measured(lambda config=config, seed=seed: alone(config, seed, data))
            rows["own network"].append(seconds)
            other, seconds = measured(lambda config=config, seed=seed: shared(config, seed))
            rows["shared network" if seed else "first seed"].append(seconds)
            if (one.train, one.correct) != (other.train, other.correct):
                raise SystemExit(f"{config}, seed {seed}: other numbers in a shared network")
    print(f"{len(configs)} networks, {rounds} rounds; medians in seconds")
    print(f"{'':18}" + "".join(f"{name:>11}" for name in COLUMNS))
    for name, values in rows.items():
        medians = [statistics.median(column) for column in zip(*values, strict=True)]
        print(f"{name:18}" + "".join(f"{value:11.3f}" for value in medians))


if __name__ == "__main__":
    main()
