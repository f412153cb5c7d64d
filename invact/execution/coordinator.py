"""The `Coordinator`, which gives runs to the engine and writes their results to the record."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from invact.execution.agenda import (
    Ended,
    Key,
    Recalled,
    Refusal,
    Trial,
    agenda_of,
    ended_runs,
    same_numbers,
)
from invact.execution.champions import Champions
from invact.execution.schedule import Waiting, Worker, next_run, work_of
from invact.execution.usage import Usage
from invact.execution.workers.engine import Engine, EpochDone, Job, JobDone
from invact.measures import MEASURES, in_full
from invact.process.interruption import check_interruption, interrupted_later
from invact.training.results import Status, TrialResult

if TYPE_CHECKING:
    import pandas as pd

    from invact.config import Config
    from invact.execution.display.progress import Progress
    from invact.execution.race import Race
    from invact.tracking.record import Record

__all__ = ["Coordinator"]


@dataclass(frozen=True)
class _Running:
    """A run on a worker. If it is `again`, it trains the network of a finished run once more."""

    trial: Trial
    seed: int
    run_id: str
    again: bool = False


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
        recall: from a configuration and a seed to a finished run that is taken over, or None if it is to be
            trained; by default, all are trained.
        race: decides which trials stop early; None lets every training come to its end.

    Attributes:
        usage: what the trainings of this coordinator have cost.
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
        race: Race | None = None,
        recall: Callable[[Config, int], Recalled | None] | None = None,
    ) -> None:
        self._record = record
        self._progress = progress
        self._engine = engine
        self._about = about
        self._attempts = attempts
        self._recall = recall or (lambda config, seed: None)
        self._origins: Counter[str] = Counter()
        self._trials = {trial.number: trial for trial in trials}
        self._open = dict(self._trials)
        self._race = race
        self._ended = ended_runs(table)
        if race is not None:
            self._ended = race.judged(self._trials, self._ended)
        # The runs of open trials, because the agenda counts all that it gets, after each event.
        self._ended_of_open = dict(self._ended)
        self._summaries = dict(record.summaries)
        # The runs that wait for a worker, and what is written when all workers have work.
        self._waiting: list[Key] = []
        self._unwritten: deque[Callable[[], object]] = deque()
        self._running: dict[str, _Running] = {}
        self._epochs: dict[str, int] = {}
        self._champions = Champions(measure)
        self.usage = Usage()
        self._begun: float | None = None

    @property
    def ended(self) -> Mapping[Key, Ended]:
        """The runs that have ended, also in earlier sessions."""
        return self._ended

    def run(
        self,
        propose: Callable[[], Trial | None] = lambda: None,
        on_end: Callable[[Trial, Sequence[Ended]], bool | None] = lambda trial, runs: None,
        *,
        ahead: int = 1,
    ) -> None:
        """Complete all trials.

        Args:
            propose: returns a trial, or None if there is none now. It is called when fewer than `ahead` runs
                wait. The method ends when `propose` returns None and no run is pending.
            on_end: called once for each trial that is complete, with its runs in the order of its seeds;
                also for a trial that an earlier session has completed. It may return whether the trial is
                the best so far.
            ahead: how many runs may wait, for the longest of them to be trained first. With 1, `propose` is
                called only when a worker is free, so that it knows as many results as possible.
        """
        try:
            while True:
                self._waiting = self._settle(on_end)
                more = True
                while more:
                    while more and len(self._waiting) < ahead and (ahead > 1 or self._free()):
                        trial = propose()
                        if more := trial is not None:
                            self._admit(trial)
                            self._waiting = self._settle(on_end)
                    known = len(self._waiting)
                    self._fill()
                    more = more and len(self._waiting) < known
                self._write()
                if not self._running and not self._repair():
                    break
                self._wait()
        finally:
            # Nothing that was computed is lost, also after an error.
            self._write()
        if self._origins:
            count, places = self._origins.total(), ", ".join(sorted(self._origins))
            runs = "1 run was" if count == 1 else f"{count} runs were"
            self._progress.message(f"{runs} taken over from {places}, and not trained again")

    def _admit(self, trial: Trial) -> None:
        """Add a trial, or one that has got more seeds."""
        self._trials[trial.number] = self._open[trial.number] = trial
        keys = [(trial.number, seed) for seed in trial.seeds]
        self._ended_of_open |= {key: self._ended[key] for key in keys if key in self._ended}

    def _settle(self, on_end: Callable[[Trial, Sequence[Ended]], bool | None]) -> list[Key]:
        """Do what needs no worker, close complete trials, and return the runs that wait for a worker.

        That is to write refusals and summaries, and to take over runs of other records.
        """
        while True:
            agenda = agenda_of(self._open.values(), self._ended_of_open, self._summaries, self._attempts)
            for number, keys in itertools.groupby(agenda.refuse, key=lambda key: key[0]):
                self._refuse(self._open[number], [seed for _, seed in keys])
            for number in agenda.summarize:
                self._write()
                self._summaries[number] = self._record.finish_trial(number)
            for number in agenda.complete:
                trial = self._open.pop(number)
                if model := self._champions.complete(trial, self._ended):
                    run_id = self._ended[trial.number, min(trial.seeds)].run_id
                    self._unwritten.append(functools.partial(self._record.log_model, run_id, model))
                runs = [self._ended_of_open.pop((number, seed)) for seed in trial.seeds]
                best = bool(on_end(trial, runs))
                show = functools.partial(self._show, trial, runs, best)
                # A person reads of a result when it is recorded; if nothing waits to be written, it is.
                if self._unwritten:
                    self._unwritten.append(show)
                else:
                    show()
            busy = {(running.trial.number, running.seed) for running in self._running.values()}
            waiting = [key for key in agenda.train if key not in busy]
            taken = [key for key in waiting if self._take(*key)]
            if not (agenda.refuse or agenda.summarize or taken):
                return waiting

    def _show(self, trial: Trial, runs: Sequence[Ended], best: bool) -> None:
        """Show the line of a trial that this session has completed."""
        first = runs[0]
        pruned = first.status is not Status.DIVERGED and any(run.status is Status.PRUNED for run in runs)
        if pruned and first.validation and first.tries:
            accuracy, macs = first.validation.accuracy, trial.known.get("macs")
            self._progress.pruned(trial.label, accuracy, macs, first.epochs, number=trial.number)
            return
        scores = [run.validation.accuracy for run in runs if run.validation]
        finished = all(run.status is Status.FINISHED for run in runs)
        if finished and len(scores) == len(runs) and any(run.tries for run in runs):
            mean, macs = math.fsum(scores) / len(scores), trial.known.get("macs")
            taken = all(run.taken for run in runs)
            self._progress.trial(trial.label, mean, macs, number=trial.number, best=best, taken=taken)

    def _workers(self) -> Engine:
        with self._progress.stage("starting the workers"):
            return self._engine()

    def _free(self) -> bool:
        return not self._running or any(not worker.trains for worker in self._workers().workers())

    def _fill(self) -> None:
        """Give the waiting runs to the free workers."""
        while self._waiting:
            workers = self._workers().workers()
            free = next((worker for worker in workers if not worker.trains), None)
            if free is None:
                return
            others = [worker for worker in workers if worker is not free]
            key = next_run([self._expected(key) for key in self._waiting], free, others).key
            self._waiting.remove(key)
            self._train(key, free)

    def _expected(self, key: Key) -> Waiting:
        trial = self._trials[key[0]]
        return Waiting(key, trial.config.digest(), work_of(trial.config, trial.known.get("macs")))

    def _train(self, key: Key, worker: Worker, again: str = "") -> None:
        """Train a run on a worker; `again` is the id of a finished run whose network is trained once more."""
        (number, seed), trial = key, self._trials[key[0]]
        if self._about:
            self._progress.message(f"{self._about}, {len(self._workers().workers())} workers")
            self._about = ""
        name = f"{number} {seed} {self._ended[key].tries if key in self._ended else 0} {again}"
        rungs = () if self._race is None or again else self._race.rungs(trial, seed)
        job = Job(name, trial.config, seed, self._champions.wanted, rungs)
        # The worker begins before the record does, because the record takes longer. Before any worker stands,
        # the record gets no run; otherwise a failed start of the workers would leave a run that never ends.
        self._engine().submit(job, worker.address)
        self._begun = self._begun or time.monotonic()
        run_id = again or self._start(trial, seed)
        self._running[name] = _Running(trial, seed, run_id, again=bool(again))
        self._epochs[name] = 0
        one = seed if len(trial.seeds) > 1 else None
        self._progress.started(name, trial.label, trial.config.epochs, seed=one)

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
                self._account(event.result)
                # Before the result is written, so that the worker does not wait for it.
                self._fill()
                (self._again if running.again else self._end)(event, running)
                return
            self._epoch(event, running)

    def _account(self, result: TrialResult) -> None:
        assert self._begun is not None
        count, seconds = len(self._engine().workers()), time.monotonic() - self._begun
        self.usage = replace(
            self.usage.after(result),
            workers=max(count, self.usage.workers),
            seconds=seconds,
            capacity=seconds * max(count, self.usage.workers),
        )

    def _epoch(self, event: EpochDone, running: _Running) -> None:
        if event.epoch.number > self._epochs[event.key]:  # false after a run has restarted
            self._epochs[event.key] = event.epoch.number
            if not running.again:
                self._record.epoch(running.run_id, event.epoch)
        self._progress.epoch(event.key, event.epoch)
        if event.worker and self._race is not None:
            at = event.epoch.number, event.epoch.validation.accuracy
            self._engine().answer(event, self._race.goes_on(running.run_id, running.trial, *at))

    def _end(self, event: JobDone, running: _Running) -> None:
        run_id, result, trial, key = running.run_id, event.result, running.trial, _key(running)
        # Epochs and results come through different channels, so the last epochs may be missing here.
        late = result.epochs[self._epochs.pop(event.key) :]
        self._note(key, run_id, result)
        # The network is stored before the run counts, so that no kill separates the two.
        store = self._champions.leads(trial, key, self._ended)
        written = result if store else replace(result, model=b"")
        self._unwritten += [functools.partial(self._record.epoch, run_id, epoch) for epoch in late]
        self._unwritten.append(functools.partial(self._record.finish, run_id, written, trial.known))
        if store:
            self._champions.store(key)
        else:
            self._champions.set_aside(trial, key, result.model)
        self._unwritten.append(functools.partial(self._progress.ended, event.key, result))

    def _write(self) -> None:
        """Write what waited until all workers had work, in the order in which it came."""
        if not self._unwritten:
            return
        # An interruption must not cost a result that was computed.
        with interrupted_later():
            while self._unwritten:
                write = self._unwritten.popleft()
                try:
                    write()
                except BaseException:
                    # Nothing may be written after a gap: a run would count with a part of its values.
                    self._unwritten.clear()
                    raise

    def _note(self, key: Key, run_id: str, result: TrialResult, taken: bool = False) -> None:
        tries = self._ended[key].tries if key in self._ended else 0
        measured = (result.status, result.validation, result.test)
        ended = Ended(run_id, *measured, tries=tries + 1, epochs=len(result.epochs), taken=taken)
        trial = self._trials[key[0]]
        if self._race is not None and trial.race and key[1] == trial.seeds[0]:
            ended = self._race.finished(trial, ended)
        self._ended[key] = self._ended_of_open[key] = ended

    def _take(self, number: int, seed: int) -> bool:
        """Take over the run of another record, if there is one with the same configuration and seed."""
        trial, key = self._open[number], (number, seed)
        found = self._recall(trial.config, seed)
        if found is None:
            return False
        result = found.result
        run_id = self._start(trial, seed, found.tags)
        self._record.curve(run_id, result.epochs)
        self._note(key, run_id, result, taken=True)
        if self._champions.leads(trial, key, self._ended) and (model := found.network()):
            result = replace(result, model=model)
            self._champions.store(key)
        self._record.finish(run_id, result, trial.known)
        self._origins[found.origin] += 1
        self._progress.taken(trial.label, result, seed=seed if len(trial.seeds) > 1 else None)
        return True

    def _refuse(self, trial: Trial, seeds: Sequence[int]) -> None:
        # Without a reason of its own, the trial has left the race.
        refusal = trial.refusal or Refusal(Status.PRUNED)
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
        elif refusal.status is Status.PRUNED:
            self._progress.skipped(len(seeds))

    def _start(self, trial: Trial, seed: int, tags: Mapping[str, str] | None = None) -> str:
        return self._record.start(
            *(trial.number, trial.config, seed, len(trial.seeds), trial.label, trial.values), tags
        )

    def _repair(self) -> bool:
        """Train a network of the front again that is not stored anywhere; False if none is missing."""
        for number, seed in self._champions.missing():
            run_id = self._ended[number, seed].run_id
            if not self._record.has_model(run_id):
                trial = self._trials[number]
                found = self._recall(trial.config, seed)
                if found and not same_numbers(found.result, self._ended[number, seed]):
                    found = None
                if found and (model := found.network()):
                    self._record.log_model(run_id, model)
                    continue
                self._progress.message(
                    f"{trial.label}, seed {seed}: its network is on the front and is not stored, so it is "
                    "trained again"
                )
                self._train((number, seed), self._workers().workers()[0], again=run_id)
                return True
        return False

    def _again(self, event: JobDone, running: _Running) -> None:
        self._epochs.pop(event.key)
        if same_numbers(event.result, self._ended[_key(running)]):
            self._record.log_model(running.run_id, event.result.model)
        else:
            self._progress.message(
                f"{running.trial.label}, seed {running.seed}: the new training has other numbers than the "
                "record, so its network is not stored. Other versions or another processor may be the reason"
            )
        self._progress.ended(event.key, event.result)


def _key(running: _Running) -> Key:
    return running.trial.number, running.seed
