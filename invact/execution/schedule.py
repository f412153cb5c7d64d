"""The schedule: which waiting run a free worker trains next, as pure functions.

Two aims decide, in this order. A worker that has compiled a network goes on with its other seeds, because a
second worker would have to compile the network once more. Otherwise the longest run comes first, because a
long run that starts last leaves all other workers without work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from invact.execution.agenda import Key

if TYPE_CHECKING:
    from invact.config import Config

__all__ = ["HELD", "OVERHEAD", "Waiting", "Worker", "held_after", "next_run", "work_of"]

HELD = 4
"""How many networks a worker keeps compiled. A worker that keeps fewer compiles some of them again."""

OVERHEAD = 1e5
"""The work for an image beside the arithmetic, in MACs. It dominates in small networks."""


@dataclass(frozen=True)
class Waiting:
    """A run that waits for a worker.

    Attributes:
        key: the run.
        config: digest of its configuration.
        work: the expected work, in any unit; see `work_of`.
    """

    key: Key
    config: str
    work: float


@dataclass(frozen=True)
class Worker:
    """What the coordinator knows of a worker.

    Attributes:
        address: its address in the cluster.
        trains: digest of the configuration that it trains now; empty if it is free.
        held: digests of the configurations that it has compiled, the newest last.
    """

    address: str
    trains: str = ""
    held: tuple[str, ...] = ()


def work_of(config: Config, macs: float | None) -> float:
    """Estimate the work of a run on given data: its epochs times the sum of `macs` and `OVERHEAD`.

    The number of images and the passes of a training are the same for all runs, so they are left out.

    Args:
        config: the configuration.
        macs: MACs of its network for one image; None, if they are unknown, counts as 0.

    Example:
        >>> from invact.config import Config
        >>> work_of(Config(epochs=2), 9e5)
        2000000.0
    """
    return config.epochs * (OVERHEAD + (macs or 0.0))


def next_run(waiting: Sequence[Waiting], free: Worker, others: Iterable[Worker] = ()) -> Waiting:
    """Choose the run that a free worker trains next.

    The first of these rules that distinguishes two runs decides:

    1. A configuration that the worker has compiled comes first, then one that no other worker has compiled,
       then one that no other worker trains now, then any other.
    2. The longer run comes first.
    3. The configuration with more waiting work comes first, so that few are split over workers.
    4. The order of `waiting`.

    Args:
        waiting: the runs to choose from, at least one.
        free: the worker.
        others: the other workers.

    Example:
        >>> runs = [Waiting((0, 0), "a", 1), Waiting((0, 1), "a", 1), Waiting((1, 0), "b", 2)]
        >>> next_run(runs, Worker("x")).key
        (1, 0)
        >>> next_run(runs, Worker("x", held=("a",))).key
        (0, 0)
        >>> next_run(runs[:2], Worker("x"), [Worker("y", trains="a")]).key
        (0, 0)
    """
    others = tuple(others)
    busy = {other.trains for other in others}
    elsewhere = busy.union(*(other.held for other in others))
    left: dict[str, float] = {}
    for run in waiting:
        left[run.config] = left.get(run.config, 0.0) + run.work

    def rank(run: Waiting) -> tuple[int, float, float]:
        if run.config in free.held:
            place = 0
        elif run.config in busy:
            place = 3
        else:
            place = 2 if run.config in elsewhere else 1
        return place, -run.work, -left[run.config]

    return min(waiting, key=rank)


def held_after(held: Sequence[str], config: str) -> tuple[str, ...]:
    """Return what a worker has compiled after it has trained a configuration.

    Example:
        >>> held_after(("a", "b", "c", "d"), "b"), held_after(("a", "b", "c", "d"), "e")
        (('a', 'c', 'd', 'b'), ('b', 'c', 'd', 'e'))
    """
    return (*(each for each in held if each != config), config)[-HELD:]
