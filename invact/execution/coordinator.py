"""The `Coordinator`, which gives runs to the engine and writes their results to the record."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from invact.execution.engine import Engine, EpochDone, Job
from invact.measures import MEASURES, in_full
from invact.training.results import Status, TrialResult

if TYPE_CHECKING:
    from invact.config import Config, Scalar
    from invact.cost.count import Cost
    from invact.execution.progress import Progress
    from invact.tracking.record import Record

__all__ = ["Coordinator", "Run", "Trial"]


@dataclass(frozen=True)
class Trial:
    """One configuration and the seeds it is trained with.

    Attributes:
        number: position in the order of proposals, from 0.
        config: the configuration: network and recipe.
        seeds: the training seeds.
        label: a short name for tables and pictures.
        values: the parameters that distinguish the trial from the other trials.
        recorded: the seeds that an earlier session has finished.
        known: values that are known before training, by column of the table of runs; see `Gate.known`.
    """

    number: int
    config: Config
    seeds: tuple[int, ...]
    label: str
    values: Mapping[str, Scalar]
    recorded: frozenset[int] = frozenset()
    known: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One seed of a trial, the id of its MLflow run, and its result (None until it ends)."""

    trial: Trial
    seed: int
    run_id: str
    result: TrialResult | None = None


class Coordinator:
    """Gives runs to the engine, records every epoch and result, and shows progress.

    Args:
        engine: the workers that train the runs.
        record: the record to write to.
        progress: the display of progress.
    """

    def __init__(self, engine: Engine, record: Record, progress: Progress) -> None:
        self._engine = engine
        self._record = record
        self._progress = progress
        self._runs: dict[str, Run] = {}
        self._epochs: dict[str, int] = {}

    def run(
        self, propose: Callable[[], Trial | None], on_end: Callable[[Trial, Sequence[Run]], None]
    ) -> None:
        """Train trials until there are no more.

        Args:
            propose: called when a worker is free; returns a trial, or None if there is none now. The method
                ends when `propose` returns None and no run is pending.
            on_end: called for each trial whose runs have all ended, with the trial and its runs.
        """
        waiting: deque[tuple[Trial, int]] = deque()
        ended: dict[int, list[Run]] = {}
        while True:
            while self._engine.pending < self._engine.slots:
                if not waiting:
                    trial = propose()
                    if trial is None:
                        break
                    waiting.extend((trial, seed) for seed in trial.seeds if seed not in trial.recorded)
                if waiting:
                    self._submit(*waiting.popleft())
            if not self._engine.pending:
                return
            run = self._wait()
            trial, runs = run.trial, ended.setdefault(run.trial.number, [])
            runs.append(run)
            if len(runs) + len(trial.recorded) == len(trial.seeds):
                if len(trial.seeds) > 1:
                    self._record.finish_trial(trial.number)
                on_end(trial, ended.pop(trial.number))

    def refuse(self, trial: Trial, cost: Cost) -> None:
        """Record a trial that is over a budget. It is not trained, and its status is final."""
        for seed in trial.seeds:
            result = TrialResult(trial.config, seed, Status.OVER_BUDGET, cost)
            self._record.finish(self._start(trial, seed), result, trial.known)
        if len(trial.seeds) > 1:
            self._record.finish_trial(trial.number)
        slack = {name: trial.known.get(f"slack_{name}", 0.0) for name in MEASURES}
        worst = min(slack, key=lambda name: slack[name])
        self._progress.refused(trial.label, in_full(worst, trial.known[worst]), len(trial.seeds))

    def _submit(self, trial: Trial, seed: int) -> None:
        run_id = self._start(trial, seed)
        self._runs[run_id] = Run(trial, seed, run_id)
        self._epochs[run_id] = 0
        self._progress.started(run_id, trial.label, trial.config.epochs)
        self._engine.submit(Job(run_id, trial.config, seed))

    def _wait(self) -> Run:
        while True:
            # The timeout is needed because Python handles Ctrl-C only between waits.
            event = self._engine.next_event(timeout=0.5)
            if event is None or event.key not in self._runs:
                continue
            if isinstance(event, EpochDone):
                if event.epoch.number > self._epochs[event.key]:  # false after a run has restarted
                    self._epochs[event.key] = event.epoch.number
                    self._record.epoch(event.key, event.epoch)
                self._progress.epoch(event.key, event.epoch)
                continue
            run = replace(self._runs.pop(event.key), result=event.result)
            seen = self._epochs.pop(event.key)
            # Epochs and results come through different channels, so the last epochs may be missing here.
            for epoch in event.result.epochs[seen:]:
                self._record.epoch(run.run_id, epoch)
            # The model is recorded later, and only if the trial is on the front.
            result = replace(event.result, model=b"")
            self._record.finish(run.run_id, result, run.trial.known)
            self._progress.ended(run.run_id, event.result)
            return run

    def _start(self, trial: Trial, seed: int) -> str:
        return self._record.start(
            trial.number, trial.config, seed, len(trial.seeds), trial.label, trial.values
        )
