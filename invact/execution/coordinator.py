"""The `Coordinator`, which gives runs to the engine and writes their results to the record."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from invact.execution.agenda import (
    Candidate,
    Ended,
    Key,
    Trial,
    agenda_of,
    best,
    candidate_of,
    ended_runs,
    same_numbers,
)
from invact.execution.engine import Engine, EpochDone, Job, JobDone
from invact.measures import MEASURES, in_full
from invact.process.interruption import check_interruption
from invact.training.results import Status, TrialResult

if TYPE_CHECKING:
    import pandas as pd

    from invact.execution.progress import Progress
    from invact.tracking.record import Record

__all__ = ["Coordinator"]


@dataclass(frozen=True)
class _Running:
    """A run on a worker. `again` names the finished run whose network it trains once more."""

    trial: Trial
    seed: int
    again: str = ""


class Coordinator:
    """Does what the agenda of the record names, until nothing is left, and shows progress.

    Args:
        record: the record to write to.
        progress: the display of progress.
        engine: returns the workers; called when the first run must be trained, and then for each run.
        table: the table of the record.
        trials: the trials to complete, including those that the record has.
        about: the start of the line that is shown when the first run is trained.
        attempts: how often to try a run that fails.
        measure: the measure of cost of the front whose networks are stored; None stores no networks.
    """

    def __init__(
        self,
        record: Record,
        progress: Progress,
        engine: Callable[[], Engine],
        table: pd.DataFrame,
        trials: Iterable[Trial],
        *,
        about: str = "",
        attempts: int = 1,
        measure: str | None = None,
    ) -> None:
        self._record = record
        self._progress = progress
        self._engine = engine
        self._about = about
        self._attempts = attempts
        self._measure = measure
        self._trials = {trial.number: trial for trial in trials}
        self._open = dict(self._trials)
        self._ended = ended_runs(table)
        self._summaries = dict(record.summaries)
        self._running: dict[str, _Running] = {}
        self._epochs: dict[str, int] = {}
        self._front: tuple[Candidate, ...] = ()
        # The networks of this session that may still be needed, and the runs whose network is stored.
        self._models: dict[Key, bytes] = {}
        self._stored: set[Key] = set()

    @property
    def ended(self) -> Mapping[Key, Ended]:
        """The runs that have ended, also in earlier sessions."""
        return self._ended

    def run(
        self,
        propose: Callable[[], Trial | None] = lambda: None,
        on_end: Callable[[Trial, Sequence[Ended]], bool | None] = lambda trial, runs: None,
    ) -> None:
        """Complete all trials.

        Args:
            propose: called when a worker is free; returns a trial, or None if there is none now. The method
                ends when `propose` returns None and no run is pending.
            on_end: called once for each trial that is complete, with its runs in the order of its seeds;
                also for a trial that an earlier session has completed. It may return whether the trial is
                the best so far.
        """
        while True:
            waiting = self._settle(on_end)
            while self._free():
                if not waiting:
                    trial = propose()
                    if trial is None:
                        break
                    self._trials[trial.number] = self._open[trial.number] = trial
                    waiting = self._settle(on_end)
                else:
                    self._train(*waiting.pop(0))
            if not self._running and not self._repair():
                return
            self._wait()

    def _settle(self, on_end: Callable[[Trial, Sequence[Ended]], bool | None]) -> list[Key]:
        """Write refusals and summaries, close complete trials, and return the runs that wait for a worker."""
        while True:
            agenda = agenda_of(self._open.values(), self._ended, self._summaries, self._attempts)
            for number, keys in itertools.groupby(agenda.refuse, key=lambda key: key[0]):
                self._refuse(self._open[number], [seed for _, seed in keys])
            for number in agenda.summarize:
                self._summaries[number] = self._record.finish_trial(number)
            for number in agenda.complete:
                trial = self._open.pop(number)
                self._keep_model(trial)
                runs = [self._ended[number, seed] for seed in trial.seeds]
                self._show(trial, runs, bool(on_end(trial, runs)))
            if not (agenda.refuse or agenda.summarize):
                busy = {(running.trial.number, running.seed) for running in self._running.values()}
                return [key for key in agenda.train if key not in busy]

    def _show(self, trial: Trial, runs: Sequence[Ended], best: bool) -> None:
        """Show the line of a trial that this session has completed."""
        scores = [run.validation.accuracy for run in runs if run.validation]
        finished = all(run.status is Status.FINISHED for run in runs)
        if finished and len(scores) == len(runs) and any(run.tries for run in runs):
            mean, macs = math.fsum(scores) / len(scores), trial.known.get("macs")
            self._progress.trial(trial.label, mean, macs, number=trial.number, best=best)

    def _workers(self) -> Engine:
        with self._progress.stage("starting the workers"):
            return self._engine()

    def _free(self) -> bool:
        return not self._running or len(self._running) < self._engine().slots

    def _train(self, number: int, seed: int) -> None:
        trial = self._open[number]
        # The workers start first: if they cannot, the record gets no run that never ends.
        self._workers()
        self._submit(self._start(trial, seed), _Running(trial, seed))

    def _submit(self, key: str, running: _Running) -> None:
        engine = self._workers()
        if self._about:
            self._progress.message(f"{self._about}, {engine.slots} workers")
            self._about = ""
        self._running[key] = running
        self._epochs[key] = 0
        trial = running.trial
        one = running.seed if len(trial.seeds) > 1 else None
        self._progress.started(key, trial.label, trial.config.epochs, seed=one)
        engine.submit(Job(key, trial.config, running.seed, keep_model=self._measure is not None))

    def _wait(self) -> None:
        """Wait until a run ends, and record it."""
        while True:
            # The timeout is needed because Python handles Ctrl-C only between waits.
            event = self._engine().next_event(timeout=0.5)
            check_interruption()
            if event is None or event.key not in self._running:
                continue
            running = self._running[event.key]
            if isinstance(event, JobDone):
                del self._running[event.key]
                (self._again if running.again else self._end)(event, running)
                return
            self._epoch(event, running)

    def _epoch(self, event: EpochDone, running: _Running) -> None:
        if event.epoch.number > self._epochs[event.key]:  # false after a run has restarted
            self._epochs[event.key] = event.epoch.number
            if not running.again:
                self._record.epoch(event.key, event.epoch)
        self._progress.epoch(event.key, event.epoch)

    def _end(self, event: JobDone, running: _Running) -> None:
        run_id, result, trial, key = event.key, event.result, running.trial, _key(running)
        # Epochs and results come through different channels, so the last epochs may be missing here.
        for epoch in result.epochs[self._epochs.pop(run_id) :]:
            self._record.epoch(run_id, epoch)
        self._note(key, run_id, result)
        # The network is stored before the run counts, so that no kill separates the two.
        store = self._may_be_on_the_front(trial, key)
        self._record.finish(run_id, result if store else replace(result, model=b""), trial.known)
        if store:
            self._stored.add(key)
        elif self._measure is not None and key[1] == min(trial.seeds):
            self._models[key] = result.model
        self._progress.ended(run_id, result)

    def _note(self, key: Key, run_id: str, result: TrialResult) -> None:
        tries = self._ended[key].tries if key in self._ended else 0
        self._ended[key] = Ended(run_id, result.status, result.validation, result.test, tries + 1)

    def _refuse(self, trial: Trial, seeds: Sequence[int]) -> None:
        refusal = trial.refusal
        assert refusal is not None
        for seed in seeds:
            result = TrialResult(trial.config, seed, refusal.status, refusal.cost, error=refusal.error)
            run_id = self._start(trial, seed)
            self._record.finish(run_id, result, trial.known)
            self._note((trial.number, seed), run_id, result)
            if refusal.status is Status.FAILED:
                self._progress.started(run_id, trial.label, trial.config.epochs)
                self._progress.ended(run_id, result)
        slack = {name: trial.known[f"slack_{name}"] for name in MEASURES if f"slack_{name}" in trial.known}
        if refusal.status is Status.OVER_BUDGET:
            worst = min(slack, key=lambda name: slack[name])
            exceeded = in_full(worst, trial.known[worst])
            self._progress.refused(trial.label, exceeded, len(seeds), number=trial.number)

    def _start(self, trial: Trial, seed: int) -> str:
        return self._record.start(
            trial.number, trial.config, seed, len(trial.seeds), trial.label, trial.values
        )

    def _may_be_on_the_front(self, trial: Trial, key: Key) -> bool:
        """Whether the run would represent its trial on the front if the trial ended now."""
        if self._measure is None:
            return False
        mine = candidate_of(trial, self._ended, self._measure)
        return mine is not None and mine.key == key and mine in best((*self._front, mine))

    def _keep_model(self, trial: Trial) -> None:
        """Update the front with a trial that is complete, and store its network if it is on the front."""
        if self._measure is None:
            return
        mine = candidate_of(trial, self._ended, self._measure)
        model = self._models.pop((trial.number, min(trial.seeds)), b"")
        if mine is None:
            return
        self._front = best((*self._front, mine))
        if mine in self._front and model:
            self._record.log_model(self._ended[mine.key].run_id, model)
            self._stored.add(mine.key)

    def _repair(self) -> bool:
        """Train a network of the front again that an earlier session has lost; False if none is missing."""
        for number, seed in (one.key for one in self._front):
            run_id = self._ended[number, seed].run_id
            if (number, seed) in self._stored:
                continue
            self._stored.add((number, seed))
            if not self._record.has_model(run_id):
                trial = self._trials[number]
                self._progress.message(
                    f"{trial.label}, seed {seed}: its network is on the front and is not stored, so it is "
                    "trained again"
                )
                self._submit(f"again {run_id}", _Running(trial, seed, again=run_id))
                return True
        return False

    def _again(self, event: JobDone, running: _Running) -> None:
        self._epochs.pop(event.key)
        if same_numbers(event.result, self._ended[_key(running)]):
            self._record.log_model(running.again, event.result.model)
        else:
            self._progress.message(
                f"{running.trial.label}, seed {running.seed}: the new training has other numbers than the "
                "record, so its network is not stored. Other versions or another processor may be the reason"
            )
        self._progress.ended(event.key, event.result)


def _key(running: _Running) -> Key:
    return running.trial.number, running.seed
