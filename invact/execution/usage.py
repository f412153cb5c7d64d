"""What trainings cost in time, and how much of the processor's peak they reach, in one line."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import numpy as np

from invact.errors import EnvironmentFault
from invact.execution.display.bars import clock
from invact.files import cache_folder, write_atomically
from invact.measures import training_flop
from invact.process.processors import processor
from invact.training.results import Times

if TYPE_CHECKING:
    from invact.tracking.record import Record
    from invact.training.results import TrialResult

__all__ = ["Usage", "line_of", "record_usage", "sgemm_peak"]

TIME = "invact.time"
"""The tag of a record with the line of the last session that trained."""

SIZE = 1024
"""Rows and columns of the matrices of `sgemm_peak`; three of them fit into the cache of one core."""

NAMES = {"train": "training", "trace": "tracing", "build": "building", "evaluate": "evaluation"}


@dataclass(frozen=True)
class Usage:
    """What some trainings cost. The sum of two is that of all trainings, one after the other.

    Attributes:
        trainings: number of trainings that ended.
        workers: largest number of workers.
        seconds: from the first start to the last end, on the clock.
        capacity: seconds times workers, the time that all workers have together.
        times: where the time of all trainings went, together.
        flop: floating-point operations of all trainings; see `invact.measures.training_flop`.

    Example:
        >>> one = Usage(1, 2, 10.0, 20.0, Times(1, 2, 12, 3), 4e11)
        >>> print(one + one)
        2 trainings in 0:20 on 2 workers: 60 % training, 10 % tracing, ..., 10 % other
    """

    trainings: int = 0
    workers: int = 0
    seconds: float = 0.0
    capacity: float = 0.0
    times: Times = field(default_factory=lambda: Times(0.0, 0.0, 0.0, 0.0))
    flop: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.trainings + other.trainings,
            max(self.workers, other.workers),
            self.seconds + other.seconds,
            self.capacity + other.capacity,
            _sum(self.times, other.times),
            self.flop + other.flop,
        )

    def after(self, result: TrialResult) -> Usage:
        """Add the training of a result. Its whole time is that of training if it has no times."""
        times = result.times or Times(0.0, 0.0, result.seconds, 0.0)
        macs = 0 if result.cost is None else result.cost.macs
        flop = training_flop(macs, result.images_per_second * result.seconds)
        return self + Usage(trainings=1, times=times, flop=flop)

    @property
    def gflops(self) -> float:
        """GFLOP/s of all workers together, over the whole time."""
        return self.flop / self.seconds / 1e9 if self.seconds else 0.0

    def __str__(self) -> str:
        spent = {name: getattr(self.times, part) for part, name in NAMES.items()}
        spent["other"] = max(0.0, self.capacity - sum(spent.values()))
        whole = sum(spent.values()) or 1.0
        shares = ", ".join(f"{100 * seconds / whole:.0f} % {name}" for name, seconds in spent.items())
        each = "training" if self.trainings == 1 else "trainings"
        one = "worker" if self.workers == 1 else "workers"
        return f"{self.trainings} {each} in {clock(self.seconds)} on {self.workers} {one}: {shares}"


def line_of(usage: Usage) -> str:
    """Describe a usage in one line, with its share of the peak of this machine.

    The peak is measured, so no training may run.
    """
    peak = sgemm_peak()
    share = usage.gflops / (usage.workers * peak) if usage.workers else 0.0
    return (
        f"time: {usage}; {usage.gflops:.3g} GFLOP/s, {100 * share:.2g} % of the {usage.workers} x {peak:.0f} "
        "GFLOP/s that sgemm reaches on this machine"
    )


def record_usage(record: Record, usage: Usage) -> str:
    """Write the line of this session to the record, and return it.

    If this session has trained nothing, return the line of the last session that has; empty if none has.
    """
    if not usage.trainings:
        return record.tags.get(TIME, "")
    line = line_of(usage)
    record.summarize({}, tags={TIME: line})
    return line


def sgemm_peak() -> float:
    """Return how many GFLOP/s one core reaches when NumPy multiplies two float32 matrices.

    It is measured in 0.2 s. The highest value for each processor is kept in `peak.json` in the folder
    `$INVACT_CACHE`, because other work of the machine only lowers a measurement.
    """
    path, name = cache_folder() / "peak.json", processor()
    known: dict[str, float] = {}
    with contextlib.suppress(AttributeError, OSError, TypeError, ValueError):
        known = {str(key): float(value) for key, value in json.loads(path.read_text("utf-8")).items()}
    if (measured := _measured()) > known.get(name, 0.0):
        known[name] = measured
        with contextlib.suppress(EnvironmentFault):
            write_atomically(path, json.dumps(known, indent=1).encode())
    return known[name]


def _measured() -> float:
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    left = np.random.default_rng(0).random((SIZE, SIZE), np.float32)
    seconds = []
    with threadpool_limits(1):
        for _ in range(6):
            start = time.perf_counter()
            left @ left
            seconds.append(time.perf_counter() - start)
    return 2 * SIZE**3 / min(seconds) / 1e9


def _sum(one: Times, other: Times) -> Times:
    return Times(*(getattr(one, each.name) + getattr(other, each.name) for each in fields(Times)))
