"""The `Engine`, which trains runs on the workers of a Dask cluster, on this machine or on several."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import queue
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from invact._version import __version__
from invact.errors import EnvironmentFault, InputError, one_line
from invact.execution.cluster import connect
from invact.execution.rungs import abandon, deliver, reporter
from invact.process.processors import allowed_processors
from invact.tracking.provenance import differences, numerics
from invact.training.results import Epoch, Scores, Status, TrialResult

if TYPE_CHECKING:
    from invact.config import Config
    from invact.data.dataset import Dataset, Source

__all__ = ["Engine", "EpochDone", "Job", "JobDone", "on_demand"]


@dataclass(frozen=True)
class Job:
    """One training for a worker.

    Attributes:
        key: identifies the job among all pending jobs.
        config: the configuration: network and recipe.
        seed: the training seed.
        keep_model: whether to return the trained network.
        rungs: the epochs after which the training waits for `Engine.answer`.
    """

    key: str
    config: Config
    seed: int
    keep_model: bool = False
    rungs: tuple[int, ...] = ()


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
        source: the data set to load. Every worker loads it itself and must get the same digest.
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
        self._setting = _Setting(source, data.digest, imports, f"invact-{uuid.uuid4().hex}", numerics())
        allowed = set(allowed_processors())
        self._processors = allowed - set(reserved) or allowed
        self._workers = workers or len(self._processors)
        self._scheduler = scheduler
        self._events: queue.SimpleQueue[EpochDone | JobDone] = queue.SimpleQueue()
        self._futures: dict[str, Any] = {}
        self._resources = contextlib.ExitStack()
        self._client: Any = None

    def __enter__(self) -> Engine:
        try:
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
    def slots(self) -> int:
        """Number of jobs that can train at once: the current number of workers."""
        return max(1, len(self._client.nthreads()))

    @property
    def pending(self) -> int:
        """Number of jobs that were submitted and have not ended."""
        return len(self._futures)

    def submit(self, job: Job) -> None:
        """Submit a job for the next free worker."""
        future = self._client.submit(_train, job, self._setting, key=f"invact-{uuid.uuid4().hex}", pure=False)
        self._futures[job.key] = future
        future.add_done_callback(lambda done: self._events.put(_outcome(job, done)))

    def answer(self, event: EpochDone, goes_on: bool) -> None:
        """Tell a training that waits at a rung whether it goes on.

        If its worker has died, nothing happens: the job starts again on another worker, and waits again.
        """
        self._on_workers(deliver, event.key, event.epoch.number, goes_on, workers=[event.worker])

    def next_event(self, timeout: float | None = None) -> EpochDone | JobDone | None:
        """Wait for the next epoch or the end of a job; return None after `timeout` seconds."""
        try:
            event = self._events.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(event, JobDone):
            del self._futures[event.key]
        return event

    def _check(self) -> None:
        """Load TensorFlow and the data on all workers at once, to find errors before any training."""
        try:
            answers = self._client.run(_prepare, self._setting, on_error="return")
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


@dataclass(frozen=True)
class _Setting:
    """The settings that a worker needs in addition to a job."""

    source: Source
    digest: str
    imports: tuple[str, ...]
    topic: str
    numerics: Mapping[str, str]


def _prepare(setting: _Setting) -> str:
    from invact.process.noise import own_warnings
    from invact.process.quiet import load_tensorflow

    own_warnings()
    if found := differences(setting.numerics, numerics()):
        words = (f"{name}: received {here}. Allowed: {there}" for name, (there, here) in found.items())
        raise EnvironmentFault(f"{'; '.join(words)}, as on the coordinator, because it decides last digits")
    load_tensorflow()
    import tensorflow as tf

    # TensorFlow refuses this once it has started; then an earlier sweep on this cluster has already set it.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    for module in setting.imports:
        importlib.import_module(module)
    _load(setting)
    return __version__


def _load(setting: _Setting) -> Dataset:
    data = setting.source.load()
    if data.digest != setting.digest:
        raise EnvironmentFault(
            f"data {data.name!r}: received digest {data.digest} on this worker. "
            f"Allowed: {setting.digest}, the digest on the coordinator"
        )
    return data


def _train(job: Job, setting: _Setting) -> TrialResult:
    _prepare(setting)  # for workers that joined after `Engine._check`

    import keras

    from invact.training.loop import train

    try:
        return train(
            job.config,
            job.seed,
            _load(setting),
            on_epoch=reporter(job.key, job.rungs, setting.topic),
            keep_model=job.keep_model,
        )
    finally:
        keras.backend.clear_session()
        gc.collect()


def _outcome(job: Job, future: Any) -> JobDone:
    try:
        result = future.result()
    except BaseException as error:  # a dead worker, a lost cluster, or an error in the user's model
        result = TrialResult(job.config, job.seed, Status.FAILED, error=one_line(error))
    return JobDone(job.key, result)
