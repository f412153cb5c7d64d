"""The `Engine`, which trains runs on the workers of a Dask cluster, on this machine or on several."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import itertools
import queue
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from invact._version import __version__
from invact.data.shared import share
from invact.errors import EnvironmentFault, InputError, one_line
from invact.execution.schedule import Worker, held_after
from invact.execution.workers.cluster import connect
from invact.execution.workers.rungs import abandon, deliver
from invact.execution.workers.worker import Job, Setting, prepare, train_job
from invact.process.processors import allowed_processors
from invact.tracking.provenance import numerics
from invact.training.results import Epoch, Scores, Status, TrialResult

if TYPE_CHECKING:
    from invact.data.dataset import Dataset, Source

__all__ = ["Engine", "EpochDone", "Job", "JobDone", "in_advance", "on_demand"]

UNKNOWN = "unknown"
"""What a worker trains after another worker has died; it is no digest of a configuration."""


@dataclass(frozen=True)
class EpochDone:
    """The event that a worker has finished an epoch of a job.

    Attributes:
        key: the key of the job.
        epoch: what was measured.
        worker: address of the worker, if its training waits for `Engine.answer`; otherwise empty.
    """

    key: str
    epoch: Epoch
    worker: str = ""


@dataclass(frozen=True)
class JobDone:
    """The event that a job has ended. After an error on the worker, the result has status FAILED."""

    key: str
    result: TrialResult


class Engine:
    """A context manager around a Dask cluster whose workers train jobs and report each epoch.

    Each worker trains one job at a time with one thread, which makes its numbers reproducible. If a worker
    dies, it is replaced and its job starts again on another worker.

    Args:
        source: the data set to load. Workers of this machine map the files of `data`; others load it
            themselves, and must get the same digest.
        data: the coordinator's copy of the data set.
        workers: number of processes to start on this machine; default: one for each processor that is not
            reserved. Ignored with `scheduler`.
        scheduler: address of a running cluster, `tls://host:port` or `tcp://host:port`. The certificates for
            `tls://` come from Dask's configuration, `distributed.comm.tls`. Anybody who can reach a cluster
            without certificates can run code in it and in this process, so `tcp://` gets a warning.
        imports: modules to import on every worker; they register the user's own arms or rules.
        reserved: processors that workers do not use, unless there are no others.

    Raises:
        InputError: `workers` is not between 1 and 1024, or `scheduler` is not an address.
        EnvironmentFault: the cluster cannot be started or reached, or has no workers, or a worker does not
            have invact, the same version of invact, or the same data.
    """

    def __init__(
        self,
        source: Source,
        data: Dataset,
        *,
        workers: int | None = None,
        scheduler: str | None = None,
        imports: tuple[str, ...] = (),
        reserved: Collection[int] = (),
    ) -> None:
        if workers is not None and not 1 <= workers <= 1024:
            raise InputError(f"workers: received {workers}. Allowed: 1 to 1024")
        self._setting = Setting(source, data.digest, imports, f"invact-{uuid.uuid4().hex}", numerics())
        allowed = set(allowed_processors())
        self._processors = allowed - set(reserved) or allowed
        self._workers = workers or len(self._processors)
        self._scheduler = scheduler
        self._data = data
        self._events: queue.SimpleQueue[EpochDone | JobDone] = queue.SimpleQueue()
        self._futures: dict[str, Any] = {}
        # Each pending job, its worker and its configuration, and what each worker has compiled.
        self._jobs: dict[str, Job] = {}
        self._places: dict[str, tuple[str, str]] = {}
        self._held: dict[str, tuple[str, ...]] = {}
        self._resources = contextlib.ExitStack()
        self._client: Any = None

    def __enter__(self) -> Engine:
        try:
            if self._scheduler is None:
                share(self._data)
            self._client = connect(self._resources, self._scheduler, self._workers, self._processors)
            self._client.subscribe_topic(self._setting.topic, self._on_epoch)
            self._check()
        except BaseException:
            self._resources.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._futures:
            # A running training cannot be stopped before its next rung, but nothing waits for its result.
            with contextlib.suppress(Exception):  # The cluster may be lost.
                self._on_workers(abandon, self._setting.topic)
            self._client.cancel(list(self._futures.values()), force=True)
        self._resources.close()

    @property
    def pending(self) -> int:
        """Number of jobs that were submitted and have not ended."""
        return len(self._futures)

    def workers(self) -> tuple[Worker, ...]:
        """Return the workers of the cluster, at least one; the free ones have no job of this engine.

        The job of a worker that has died runs on another one, and it is not known on which. So for each such
        job another worker counts as busy. If no worker is left, the first that comes gets the next job.
        """
        addresses = sorted(self._client.nthreads())
        trains = dict(self._places.values())
        lost = sum(place not in addresses for place, _ in self._places.values())
        found = []
        for address in addresses or [""]:
            config = trains.get(address, "")
            if not config and lost:
                config, lost = UNKNOWN, lost - 1
            found.append(Worker(address, config, self._held.get(address, ())))
        return tuple(found)

    def submit(self, job: Job, worker: str) -> None:
        """Submit a job for the worker with this address; another one trains it if that one has died."""
        future = self._client.submit(
            *(train_job, job, self._setting),
            key=f"invact-{uuid.uuid4().hex}",
            pure=False,
            **({"workers": [worker], "allow_other_workers": True} if worker else {}),
        )
        self._futures[job.key] = future
        self._jobs[job.key] = job
        self._places[job.key] = (worker, job.config.digest())
        future.add_done_callback(lambda done: self._ended(job, done))

    def answer(self, event: EpochDone, goes_on: bool) -> None:
        """Tell a training that waits at a rung whether it goes on.

        If its worker has died, nothing happens: the job starts again on another worker, and waits again.
        """
        self._on_workers(
            deliver, self._setting.topic, event.key, event.epoch.number, goes_on, workers=[event.worker]
        )

    def next_event(self, timeout: float | None = None) -> EpochDone | JobDone | None:
        """Wait for the next epoch or the end of a job; return None after `timeout` seconds."""
        try:
            event = self._events.get(timeout=timeout)
        except queue.Empty:
            self._rescue()
            return None
        if isinstance(event, JobDone):
            if event.key not in self._futures:
                return None
            del self._futures[event.key], self._jobs[event.key], self._places[event.key]
        return event

    def _rescue(self) -> None:
        """Submit a job again if its worker has died and no other has got it.

        Dask gives it to another worker, but not to one that joins after the last worker has died.
        """
        addresses = self._client.nthreads()
        lost = [key for key, (place, _) in self._places.items() if place and place not in addresses]
        if not lost:
            return
        taken = set(itertools.chain.from_iterable(self._client.processing().values()))
        for key in lost:
            future = self._futures[key]
            if future.status == "pending" and future.key not in taken:
                self.submit(self._jobs[key], "")
                future.cancel()

    def _check(self) -> None:
        """Load TensorFlow and the data on all workers at once, to find errors before any training."""
        try:
            answers = self._client.run(prepare, self._setting, on_error="return")
        except Exception as error:
            raise EnvironmentFault(f"workers: {one_line(error)}") from None
        for address, answer in answers.items():
            if isinstance(answer, BaseException):
                raise EnvironmentFault(f"worker {address}: {one_line(answer)}") from None
            if answer != __version__:
                raise EnvironmentFault(
                    f"worker {address}: received invact {answer}. "
                    f"Allowed: {__version__}, the version of the coordinator"
                )

    def _ended(self, job: Job, future: Any) -> None:
        if job.key not in self._futures or self._futures[job.key] is not future:  # it was submitted again
            return
        try:
            worker, result = future.result()
        except BaseException as error:  # a dead worker, a lost cluster, or an error in the user's model
            result = TrialResult(job.config, job.seed, Status.FAILED, error=one_line(error))
        else:
            self._held[worker] = held_after(self._held.get(worker, ()), job.config.digest())
        self._events.put(JobDone(job.key, result))

    def _on_workers(self, function: Any, *arguments: Any, workers: Collection[str] | None = None) -> None:
        """Call a function at once in workers that are alive, also while they train."""
        # The scheduler would try for a long time to reach a worker that it does not have.
        alive = [one for one in self._client.nthreads() if workers is None or one in workers]
        if alive:
            self._client.run(function, *arguments, workers=alive, on_error="ignore")

    def _on_epoch(self, event: tuple[float, Any]) -> None:
        key, epoch, worker = event[1]
        scores = {name: Scores(**epoch[name]) for name in ("train", "validation")}
        self._events.put(EpochDone(key, Epoch(**{**epoch, **scores}), worker))


def on_demand(resources: contextlib.ExitStack, *arguments: Any, **options: Any) -> Callable[[], Engine]:
    """Return a function that starts an engine when it is first called, and returns the engine.

    Args:
        resources: closes the engine.
        arguments: positional arguments of `Engine`.
        options: keyword arguments of `Engine`.
    """
    return functools.cache(lambda: resources.enter_context(Engine(*arguments, **options)))


def in_advance(resources: contextlib.ExitStack, start: Callable[[], Engine]) -> Callable[[], Engine]:
    """Start an engine now, beside other work; return a function that waits for it and returns it.

    An error of the start is raised when the engine is asked for. If `resources` are closed before that, they
    wait for the start, and close the engine.

    Args:
        resources: closes the engine.
        start: the result of `on_demand`.
    """
    pool = resources.enter_context(concurrent.futures.ThreadPoolExecutor(1))
    return pool.submit(start).result
