"""The coordinator: the one process that gives runs to the engine and writes what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from invact.engine import Engine, EpochDone, Job
from invact.results import Status, TrialResult

if TYPE_CHECKING:
    from invact.config import Config, Scalar
    from invact.cost import Cost
    from invact.progress import Progress
    from invact.tracking import Record

__all__ = ["Coordinator", "Run", "Trial"]


@dataclass(frozen=True)
class Trial:
    """One configuration and the seeds it is trained with.

    Attributes:
        number: from 0, in the order of proposal.
        config: the network and its recipe.
        seeds: the training seeds.
        label: a few words for tables and pictures.
        values: the parameters that distinguish it from the other trials.
    """

    number: int
    config: Config
    seeds: tuple[int, ...]
    label: str
    values: Mapping[str, Scalar]


@dataclass(frozen=True)
class Run:
    """One seed of a trial that is being trained, and its MLflow run."""

    trial: Trial
    seed: int
    run_id: str


class Coordinator:
    """Feeds the engine, records every epoch and result, and shows progress.

    Args:
        engine: where runs train.
        record: where they are written.
        progress: where they are shown.
    """

    def __init__(self, engine: Engine, record: Record, progress: Progress) -> None:
        self._engine = engine
        self._record = record
        self._progress = progress
        self._runs: dict[str, Run] = {}
        self._epochs: dict[str, int] = {}

    @property
    def free(self) -> bool:
        """Whether a worker has nothing to do."""
        return self._engine.pending < self._engine.slots

    @property
    def pending(self) -> int:
        """How many runs have not ended."""
        return self._engine.pending

    def submit(self, trial: Trial, seed: int) -> None:
        """Train one seed of a trial on the next free worker."""
        run_id = self._start(trial, seed)
        self._runs[run_id] = Run(trial, seed, run_id)
        self._epochs[run_id] = 0
        self._progress.started(run_id, trial.label, trial.config.epochs)
        self._engine.submit(Job(run_id, trial.config, seed))

    def refuse(self, trial: Trial, cost: Cost) -> TrialResult:
        """Record a trial over budget: it is decided, and nothing is trained."""
        for seed in trial.seeds:
            result = TrialResult(trial.config, seed, Status.OVER_BUDGET, cost)
            self._record.finish(self._start(trial, seed), result)
        self._progress.refused(trial.label, cost.macs)
        return result

    def wait(self) -> tuple[Run, TrialResult]:
        """Wait until a run ends, recording the epochs of all runs meanwhile.

        The result is recorded without its model, which `Record.save_model` keeps where it is wanted.
        """
        while True:
            # A timeout, since Python delivers Ctrl-C only between waits.
            event = self._engine.next_event(timeout=0.5)
            if event is None or event.key not in self._runs:
                continue
            if isinstance(event, EpochDone):
                self._epochs[event.key] = event.epoch.number
                self._record.epoch(event.key, event.epoch)
                self._progress.epoch(event.key, event.epoch)
                continue
            run = self._runs.pop(event.key)
            seen = self._epochs.pop(event.key)
            # Epochs and results travel apart: the last epoch may come after its result.
            for epoch in event.result.epochs[seen:]:
                self._record.epoch(run.run_id, epoch)
            self._record.finish(run.run_id, replace(event.result, model=b""))
            self._progress.ended(run.run_id, event.result)
            return run, event.result

    def _start(self, trial: Trial, seed: int) -> str:
        return self._record.start(
            trial.number, trial.config, seed, len(trial.seeds), trial.label, trial.values
        )
