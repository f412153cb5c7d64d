"""The `Race`, in which trainings that came as far as others compete, and the worse ones stop early.

A decision depends on the order in which the trainings arrive, so each one is recorded before it is carried
out. A training that starts again, in this session or in a later one, meets the decisions of the record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from invact.execution.agenda import Ended, Key, Trial
from invact.training.results import Status

if TYPE_CHECKING:
    from invact.tracking.decisions import Decision
    from invact.tracking.record import Record

__all__ = ["Race", "Referee"]


class Referee(Protocol):
    """Decides which trainings go on, as a pure function of the arrivals."""

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs at whose end is decided; never the last epoch."""

    def decide(self, earlier: Sequence[Decision], trial: Trial, epoch: int, accuracy: float) -> Decision:
        """Decide whether a trial goes on.

        Args:
            earlier: the decisions before, in their order.
            trial: the trial.
            epoch: a rung, or the last epoch: then it is decided whether more seeds of the trial are trained.
            accuracy: validation accuracy of its first seed at the end of this epoch.
        """


class Race:
    """The decisions of one record.

    Args:
        record: the record to write to.
        referee: makes the decisions that the record does not have.
        decisions: the decisions of the record, in their order.
    """

    def __init__(self, record: Record, referee: Referee, decisions: Sequence[Decision] = ()) -> None:
        self._record = record
        self._referee = referee
        self._decisions = list(decisions)
        self._known = {(one.trial, one.epoch): one for one in self._decisions}

    def rungs(self, trial: Trial, seed: int) -> tuple[int, ...]:
        """Return the epochs after which a run must wait; only the first seed of a trial competes."""
        return self._referee.rungs if seed == trial.seeds[0] else ()

    def goes_on(self, run_id: str, trial: Trial, epoch: int, accuracy: float) -> bool:
        """Return whether a trial goes on, after the record has the decision.

        Args:
            run_id: the run of the first seed of the trial.
            trial: the trial.
            epoch: the epoch that the run has reached.
            accuracy: its validation accuracy there.
        """
        known = self._known.get((trial.number, epoch))
        if known is None:
            known = self._referee.decide(self._decisions, trial, epoch, accuracy)
            self._record.decide(run_id, known)
            self._decisions.append(known)
            self._known[trial.number, epoch] = known
        return known.goes_on

    def finished(self, trial: Trial, run: Ended) -> Ended:
        """Decide after the first seed of a trial with several seeds whether the others follow.

        Args:
            trial: the trial.
            run: the run of its first seed, which has ended and does not count yet.
        """
        if run.status is not Status.FINISHED or run.validation is None:
            return run
        return replace(
            run, goes_on=self.goes_on(run.run_id, trial, trial.config.epochs, run.validation.accuracy)
        )

    def judged(self, trials: Mapping[int, Trial], runs: Mapping[Key, Ended]) -> dict[Key, Ended]:
        """Mark the finished runs of earlier sessions after which a trial did not go on."""

        def judge(key: Key, run: Ended) -> Ended:
            number, seed = key
            trial = trials.get(number)
            if trial is None or seed != trial.seeds[0] or run.status is not Status.FINISHED:
                return run
            last = self._known.get((number, trial.config.epochs))
            return run if last is None else replace(run, goes_on=last.goes_on)

        return {key: judge(key, run) for key, run in runs.items()}
