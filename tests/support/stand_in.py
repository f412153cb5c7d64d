"""An engine that draws results instead of training, for tests of what happens around the trainings.

The accuracy that a network has in truth is known, so a test knows which verdict is right. Everything else is
real: networks are built and counted, archives can be loaded, runs are recorded in MLflow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType

import numpy as np

from invact.arms import get_arm
from invact.config import Config
from invact.cost.count import Cost, count_macs
from invact.data.dataset import Dataset, Source
from invact.errors import one_line
from invact.execution.schedule import Worker
from invact.execution.workers.engine import EpochDone, Job, JobDone
from invact.networks.archives import pack
from invact.networks.build import build_model
from invact.seeding import derive_seed
from invact.training.results import Epoch, Scores, Status, TrialResult

Truth = Callable[[Config, int], float]
"""From a configuration and a seed to the accuracy of the run; nan diverges, and an exception fails."""

SPREAD = 0.003


def channels(config: Config) -> int:
    """Number of channels behind the first activation."""
    first = config.filters if isinstance(config.filters, int) else config.filters[0]
    return first * get_arm(config.activations[0]).multiplicity


def more_channels_are_better(config: Config, seed: int) -> float:
    """Let networks with equally many channels be equal: 0.91 with 4 channels, 0.94 with 8."""
    noise = np.random.default_rng(derive_seed("stand-in", seed, config.digest())).normal(0, SPREAD)
    return 0.97 - 0.24 / channels(config) + noise


class StandIn:
    """The interface of `Engine` without a cluster; `slots` jobs train at once."""

    slots = 1
    truth: Truth = staticmethod(more_channels_are_better)

    def __init__(self, source: Source, data: Dataset, **options: object) -> None:
        self._data = data
        self._events: deque[EpochDone | JobDone] = deque()
        self._open: dict[str, tuple[Job, TrialResult]] = {}

    def __enter__(self) -> StandIn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events.clear()
        self._open.clear()

    @property
    def pending(self) -> int:
        return len(self._open)

    def workers(self) -> tuple[Worker, ...]:
        return tuple(
            Worker(f"place {number}", "busy" if number < self.pending else "") for number in range(self.slots)
        )

    def submit(self, job: Job, worker: str) -> None:
        try:
            result = self.result_of(job)
        except Exception as error:
            result = TrialResult(job.config, job.seed, Status.FAILED, error=one_line(error))
        self._open[job.key] = job, result
        self._train(job.key, 0)

    def result_of(self, job: Job) -> TrialResult:
        """The result of a job that comes to its end."""
        return drawn(job.config, job.seed, self._data, type(self).truth)

    def answer(self, event: EpochDone, goes_on: bool) -> None:
        job, result = self._open[event.key]
        if not goes_on:
            self._open[event.key] = job, stopped(result, event.epoch.number)
        self._train(event.key, event.epoch.number)

    def next_event(self, timeout: float | None = None) -> EpochDone | JobDone | None:
        event = self._events.popleft() if self._events else None
        if isinstance(event, JobDone):
            del self._open[event.key]
        return event

    def _train(self, key: str, start: int) -> None:
        """Add the events of a job after some epochs, until it waits at a rung or ends."""
        job, result = self._open[key]
        for epoch in result.epochs[start:]:
            asks = epoch.number in job.rungs
            self._events.append(EpochDone(key, epoch, "a worker" if asks else ""))
            if asks:
                return
        self._events.append(JobDone(key, result))


def stopped(result: TrialResult, epoch: int) -> TrialResult:
    """Return what is left of a result if its training stops after an epoch."""
    seen = result.epochs[epoch - 1]
    return replace(
        result,
        status=Status.PRUNED,
        epochs=result.epochs[:epoch],
        train=seen.train,
        validation=seen.validation,
        test=None,
        correct=b"",
        model=b"",
    )


def drawn(config: Config, seed: int, data: Dataset, truth: Truth) -> TrialResult:
    """Make the result of a run that has the accuracy of `truth` on the images of each split."""
    accuracy = truth(config, seed)
    cost, archive = network(config, data)
    if np.isnan(accuracy):
        return TrialResult(
            *(config, seed, Status.DIVERGED, cost), error="the training loss was nan in epoch 1"
        )
    rng = np.random.default_rng(derive_seed("stand-in images", seed, config.digest()))
    hits = round(min(1, max(0, accuracy)) * data.test_count)
    correct = rng.permutation(np.arange(data.test_count) < hits)
    seen = Scores(accuracy, 1 - accuracy)
    return TrialResult(
        config,
        seed,
        Status.FINISHED,
        cost,
        epochs=tuple(Epoch(number, seen, seen, 0.01) for number in range(1, config.epochs + 1)),
        train=seen,
        validation=seen,
        test=Scores(correct.mean().item(), 1 - accuracy),
        seconds=0.01 * config.epochs,
        images_per_second=data.train_count / 0.01,
        correct=np.packbits(correct).tobytes(),
        model=archive,
    )


_networks: dict[tuple[str, str], tuple[Cost, bytes]] = {}


def network(config: Config, data: Dataset) -> tuple[Cost, bytes]:
    """Build and count a network, once for all of its seeds."""
    key = config.digest(), data.digest
    if key not in _networks:
        model = build_model(config, data.input_shape, data.classes, data.pixel_range)
        _networks[key] = count_macs(model), pack(model)
    return _networks[key]
