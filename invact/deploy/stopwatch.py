"""The stopwatch: a separate process, pinned to its own processors, that times networks in turns."""

from __future__ import annotations

import functools
import gc
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.errors import EnvironmentFault, InputError
from invact.process.noise import own_warnings
from invact.process.processors import allowed_processors, can_pin, pin
from invact.process.spawning import GUARD, check_script
from invact.validation import import_all

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Contender", "Stopwatch", "spare_processors"]

WARM_UP = 0.2
"""Seconds of calls that are not counted, for each network; they warm caches, memory pools and clock rates."""

TURN = 0.01
"""Minimum length of a turn, in seconds. A longer call is one turn."""

MOST_CALLS = 200
"""Maximum number of calls in a turn."""


@dataclass(frozen=True)
class Contender:
    """A network to time.

    Attributes:
        runtime: the runtime that runs the network, a key of `invact.deploy.runtimes.RUNTIMES`.
        artifact: the converted network, from `invact.deploy.runtimes.convert`.
        imports: modules that register layers of this network.
    """

    runtime: str
    artifact: bytes
    imports: tuple[str, ...] = ()


def spare_processors(threads: int) -> tuple[int, ...]:
    """Choose processors to pin to: the last `threads` of the processors that this process may use.

    Returns:
        The numbers of the processors; empty if the system cannot pin a process.

    Raises:
        InputError: this process may use fewer processors than `threads`.

    Example:
        >>> len(spare_processors(1)) <= 1
        True
    """
    if not can_pin():
        return ()
    allowed = allowed_processors()
    if not 1 <= threads <= len(allowed):
        raise InputError(
            f"threads: received {threads}. Allowed: 1 to {len(allowed)}, the number of processors"
        )
    return allowed[-threads:]


class Stopwatch:
    """A context manager that starts a process, which loads networks and times them.

    The process is fresh, because TensorFlow's number of threads can be set only before it has run anything.

    Args:
        threads: number of processor threads for each network.
        imports: modules that register layers of the networks.

    Raises:
        InputError: this process may use fewer processors than `threads`.
        EnvironmentFault: the process would run the calling script again, see `check_script` in
            `invact.process.spawning`.
    """

    def __init__(self, threads: int = 1, imports: Sequence[str] = ()) -> None:
        check_script()
        self.threads = threads
        self.processors = spare_processors(threads)
        self._pool = ProcessPoolExecutor(
            1,
            multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(threads, self.processors, tuple(imports)),
        )

    def __enter__(self) -> Stopwatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def race(
        self, contenders: Sequence[Contender], images: NDArray[Any], rounds: int
    ) -> list[NDArray[np.float64]]:
        """Time networks in turns: A B C, B C A, ..., so that drift of the machine affects all equally.

        Args:
            contenders: the networks.
            images: one batch, in the shape that the networks take.
            rounds: number of turns of each network.

        Returns:
            For each network, the time of each call in milliseconds, shape (rounds, calls in a turn).

        Raises:
            InputError: an artifact cannot be loaded, or does not take the images.
            EnvironmentFault: a runtime is missing, or the process died.
        """
        found: list[NDArray[np.float64]] = self._do(_race, contenders, images, rounds, self.threads)
        return found

    def peak_bytes(self, contender: Contender, images: NDArray[Any]) -> int:
        """Measure the memory that a network's inference takes.

        A stopwatch can measure memory only once, and only before it times anything.

        Returns:
            Growth of the process's peak resident memory, in bytes, from the loaded runtime without a network
            to the end of a few calls. It contains weights, activations and the runtime's own buffers.

        Raises:
            InputError: the artifact cannot be loaded, or does not take the images.
            EnvironmentFault: a runtime is missing, or the process died.
        """
        found: int = self._do(_peak_bytes, contender, images, self.threads)
        return found

    def _do(self, function: Any, *arguments: Any) -> Any:
        try:
            return self._pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise EnvironmentFault(
                f"stopwatch: its process died. A script starts processes under `{GUARD}`"
            ) from None


def _begin(threads: int, processors: Sequence[int], imports: Sequence[str]) -> None:
    pin(processors)
    # Libraries read these variables when they are loaded, so they must be set first.
    os.environ |= {"OMP_NUM_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
    own_warnings()
    if imports:
        import_all(imports)


# A sweep times each network together with the same reference.
@functools.lru_cache(maxsize=2)
def _load(contender: Contender, threads: int) -> Any:
    from invact.deploy.runtimes import load

    import_all(contender.imports)
    return load(contender.artifact, contender.runtime, threads=threads)


def _race(
    contenders: Sequence[Contender], images: NDArray[Any], rounds: int, threads: int
) -> list[NDArray[np.float64]]:
    sessions = [_load(contender, threads) for contender in contenders]
    calls = [_warm_up(session, images) for session in sessions]
    times = [np.empty((rounds, count)) for count in calls]
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            for step in range(len(sessions)):
                number = (turn + step) % len(sessions)
                for call in range(calls[number]):
                    times[number][turn, call] = _milliseconds(sessions[number], images)
    finally:
        gc.enable()
    return times


def _warm_up(session: Any, images: NDArray[Any]) -> int:
    """Call a network until it is warm, and return the number of calls in a turn."""
    _milliseconds(session, images)
    spent: list[float] = []
    start = time.perf_counter()
    while len(spent) < 3 or time.perf_counter() - start < WARM_UP:
        spent.append(_milliseconds(session, images))
    return min(MOST_CALLS, max(1, round(1e3 * TURN / float(np.median(spent)))))


def _milliseconds(session: Any, images: NDArray[Any]) -> float:
    start = time.perf_counter_ns()
    session(images)
    return (time.perf_counter_ns() - start) / 1e6


def _peak_bytes(contender: Contender, images: NDArray[Any], threads: int) -> int:
    from invact.deploy.runtimes import preload

    preload(contender.runtime)
    gc.collect()
    before = _reset_peak()
    session = _load(contender, threads)
    for _ in range(3):
        session(images)
    return max(0, _peak() - before)


def _reset_peak() -> int:
    """Reset the peak to the memory that is resident now, if the system can, and return it in bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5)
    except OSError:
        return _peak()
    return _status("VmRSS")


def _peak() -> int:
    try:
        return _status("VmHWM")
    except OSError:
        return _peak_by_posix()


def _peak_by_posix() -> int:
    try:
        import resource
    except ImportError:
        raise EnvironmentFault(
            "peak memory: this system does not report it. Allowed: measure_latency(..., memory=False)"
        ) from None
    # macOS reports bytes, other systems kibibytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
