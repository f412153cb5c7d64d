"""Display of progress on standard error: bars on a terminal, one line for each trial otherwise."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING

from invact.execution.display.bars import Bar, bars, clock, trial_line
from invact.execution.display.stages import terminal
from invact.measures import amount
from invact.process.streams import is_terminal, tell
from invact.text import plain
from invact.training.results import Epoch, Status, TrialResult

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.spinner import Spinner

__all__ = ["BarProgress", "LineProgress", "Progress", "make_progress"]

NEW_BEST = "new best"
TAKEN = "taken over"
LONGEST_MARK = 12
"""Characters that a line leaves for its mark, "new best", "on the front", "over budget" or "pruned at 9"."""


class Progress:
    """The interface that the coordinator calls, and a display that shows nothing. It is a context manager."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def message(self, text: str) -> None:
        """Show one line."""

    def stage(self, text: str) -> AbstractContextManager[None]:
        """Show what happens in a block in which no run trains, where it can be taken back after the block."""
        return contextlib.nullcontext()

    def started(self, key: str, label: str, epochs: int, *, seed: int | None = None) -> None:
        """Report that a run began; `seed` is given if its trial has several runs."""

    def epoch(self, key: str, epoch: Epoch) -> None:
        """Report that a run finished an epoch."""

    def ended(self, key: str, result: TrialResult) -> None:
        """Report that a run ended."""

    def taken(self, label: str, result: TrialResult, *, seed: int | None = None) -> None:
        """Report that a run was taken over; `seed` is given if its trial has several runs."""

    def trial(
        self,
        label: str,
        accuracy: float,
        macs: float | None,
        *,
        number: int | None = None,
        best: bool = False,
        taken: bool = False,
    ) -> None:
        """Report that all runs of a trial finished, after the last of them has ended.

        Args:
            label: label of the trial.
            accuracy: validation accuracy, mean over the seeds, a fraction.
            macs: MACs of the network, if they are known.
            number: number of the trial, as in the table of runs.
            best: whether the trial is the best so far, or on the front of all trials so far.
            taken: whether all runs of the trial were taken over.
        """

    def refused(self, label: str, cost: str, runs: int, *, number: int | None = None) -> None:
        """Report that a trial of `runs` runs is over a budget; `cost` names the exceeded measure."""

    def skipped(self, runs: int) -> None:
        """Report that a pruner leaves out `runs` runs of a trial."""

    def pruned(
        self, label: str, accuracy: float, macs: float | None, epoch: int, *, number: int | None = None
    ) -> None:
        """Report that a pruner has stopped a trial, after all of its runs have ended.

        Args:
            label: label of the trial.
            accuracy: validation accuracy of its first seed when it stopped, a fraction.
            macs: MACs of the network, if they are known.
            epoch: number of epochs of its first seed.
            number: number of the trial, as in the table of runs.
        """


@dataclass(frozen=True)
class _Running:
    """A run that trains now; `seed` is given if its trial has several runs."""

    label: str
    epochs: int
    seed: int | None
    done: int = 0
    accuracy: float | None = None

    @property
    def name(self) -> str:
        return self.label if self.seed is None else f"seed {self.seed}  {self.label}"


class _Counting(Progress):
    """What lines and bars share: the runs that train now, the count, and the time left.

    Args:
        total: total number of runs.
        done: number of runs that ended in an earlier session.
        mark: what the line of a trial says if it is the best so far.

    Attributes:
        each_run: whether each run of a trial that has several gets a line.
    """

    each_run = False

    def __init__(self, total: int, done: int = 0, *, mark: str = NEW_BEST) -> None:
        self._total = total
        self._known = done
        self._done = done
        self._mark = mark
        self._running: dict[str, _Running] = {}
        self._start: float | None = None

    def started(self, key: str, label: str, epochs: int, *, seed: int | None = None) -> None:
        """Add a run."""
        self._running[key] = _Running(plain(label), epochs, seed)
        # The clock starts with the first run, because the start of the workers must not count as training.
        self._start = self._start or time.monotonic()

    def epoch(self, key: str, epoch: Epoch) -> None:
        """Advance a run."""
        self._running[key] = replace(
            self._running[key], done=epoch.number, accuracy=epoch.validation.accuracy
        )

    @property
    def _progressed(self) -> float:
        """Runs that have ended, with the finished part of those that train now."""
        return self._done + sum(run.done / run.epochs for run in self._running.values() if run.epochs)

    def _left(self) -> str:
        """The time left, from the mean time of the runs of this session; nothing before the first epoch."""
        here = self._progressed - self._known
        if self._start is None or here <= 0:
            return ""
        rate = (time.monotonic() - self._start) / here
        return f"{clock(rate * max(0.0, self._total - self._progressed))} left"

    def trial(
        self,
        label: str,
        accuracy: float,
        macs: float | None,
        *,
        number: int | None = None,
        best: bool = False,
        taken: bool = False,
    ) -> None:
        """Print the accuracy and the MACs of the trial, and whether it is the best so far."""
        cost = "" if macs is None else amount(macs, "macs")
        marks = [self._mark] * best + [TAKEN] * taken
        self._line(number, label, f"{accuracy:.2%}", cost, ", ".join(marks))

    def taken(self, label: str, result: TrialResult, *, seed: int | None = None) -> None:
        """Count the run; it took no time, so it says nothing about the time left."""
        self._done += 1
        self._known += 1
        if result.status is not Status.FINISHED or (self.each_run and seed is not None):
            self._say(f"{plain(label)}, seed {result.seed}: {outcome(result)}, {TAKEN}")

    def _say(self, text: str) -> None:
        raise NotImplementedError

    def refused(self, label: str, cost: str, runs: int, *, number: int | None = None) -> None:
        """Print the measure by which the rejected trial is over a budget."""
        self._done += runs
        self._line(number, label, "", cost, "over budget")

    def skipped(self, runs: int) -> None:
        """Count runs that the pruner leaves out."""
        self._done += runs

    def pruned(
        self, label: str, accuracy: float, macs: float | None, epoch: int, *, number: int | None = None
    ) -> None:
        """Print how far the trial came."""
        cost = "" if macs is None else amount(macs, "macs")
        self._line(number, label, f"{accuracy:.2%}", cost, f"pruned at {epoch}")

    def _line(self, number: int | None, label: str, accuracy: str, cost: str, mark: str) -> None:
        raise NotImplementedError


class LineProgress(_Counting):
    """One line of plain text for each trial, and for each run of a trial that has several."""

    each_run = True

    def message(self, text: str) -> None:
        """Print one line."""
        tell(text)

    def ended(self, key: str, result: TrialResult) -> None:
        """Print how the run ended, unless the line of its trial says so."""
        run = self._running.pop(key)
        self._done += 1
        if run.seed is not None or result.status not in _TOLD_BY_TRIAL:
            self._say(f"{run.label}, seed {result.seed}: {outcome(result)}")

    def _line(self, number: int | None, label: str, accuracy: str, cost: str, mark: str) -> None:
        facts = ", ".join(filter(None, (accuracy, cost, mark)))
        self._say(f"{_named(number, ', ')}{label}: {facts}")

    def _say(self, text: str) -> None:
        left = self._left()
        self.message(f"[{self._done}/{self._total}] {text}" + (f" ({left})" if left else ""))


class BarProgress(_Counting):
    """One bar for all runs with the time left, one for each run that trains, and above them the trials.

    Args:
        total: total number of runs.
        done: number of runs that ended in an earlier session.
        mark: what the line of a trial says if it is the best so far.
        console: the terminal; standard error unless given.
    """

    def __init__(
        self, total: int, done: int = 0, *, mark: str = NEW_BEST, console: Console | None = None
    ) -> None:
        super().__init__(total, done, mark=mark)
        self._given = console
        self._longest = 0
        self._stage: Spinner | None = None
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> BarProgress:
        from rich.live import Live

        self._console = self._given or self._resources.enter_context(terminal())
        live = Live(get_renderable=self.__rich__, console=self._console, refresh_per_second=4, transient=True)
        self._resources.enter_context(live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.__exit__(kind, error, trace)

    def __rich__(self) -> RenderableType:
        if self._stage is not None:
            return self._stage
        rows = [Bar("all runs", self._progressed, self._total, self._left())]
        for run in self._running.values():
            note = "" if run.accuracy is None else f"{run.accuracy:.2%}"
            rows.append(Bar(f"  {run.name}", run.done, run.epochs, note))
        return bars(rows, self._console.width)

    def message(self, text: str) -> None:
        """Print one line above the bars."""
        self._console.print(plain(text), markup=False, emoji=False, highlight=False)

    @contextlib.contextmanager
    def stage(self, text: str) -> Iterator[None]:
        """Show a spinner instead of the bars."""
        from rich.spinner import Spinner
        from rich.text import Text

        self._stage = None if self._running else Spinner("dots", Text(f"{text} ..."))
        try:
            yield
        finally:
            self._stage = None

    def ended(self, key: str, result: TrialResult) -> None:
        """Remove the bar of the run; a run without a result leaves a line."""
        run = self._running.pop(key)
        self._done += 1
        if result.status not in _TOLD_BY_TRIAL:
            self._say(f"{run.label}, seed {result.seed}: {outcome(result)}")

    def _say(self, text: str) -> None:
        self.message(f"{self._count(None)}  {text}")

    def _count(self, number: int | None) -> str:
        digits = len(str(self._total))
        return f"{self._done:>{digits}}/{self._total}" + _named(number, "", "  ", digits)

    def _line(self, number: int | None, label: str, accuracy: str, cost: str, mark: str) -> None:
        count, width = self._count(number), self._console.width
        self._longest = max(self._longest, len(label))
        # Room for every mark, so that the numbers of all lines are below each other.
        free = width - len(trial_line(count, "", accuracy, cost, "-" * LONGEST_MARK, width=width, column=0))
        line = trial_line(
            *(count, label, accuracy, cost, mark), width=width, column=min(self._longest, 8 + free)
        )
        self.message(line)


def _named(number: int | None, after: str, before: str = "", digits: int = 0) -> str:
    return "" if number is None else f"{before}trial {number:<{digits or 1}}{after}"


_TOLD_BY_TRIAL = (Status.FINISHED, Status.PRUNED)
"""How a run ends whose trial gets a line."""


def outcome(result: TrialResult) -> str:
    """Describe a result in one line."""
    if result.status in (Status.FAILED, Status.DIVERGED):
        return f"{result.status}: {result.error}"
    accuracy = f"validation {result.validation.accuracy:.2%}" if result.validation else ""
    macs = amount(result.cost.macs, "macs") if result.cost else ""
    pruned = f"pruned at {len(result.epochs)}" if result.status is Status.PRUNED else ""
    return ", ".join(part for part in (accuracy, macs, pruned, f"{result.seconds:.1f} s") if part)


def make_progress(total: int, done: int = 0, *, mark: str = NEW_BEST, show: bool = True) -> Progress:
    """Make bars if standard error is a terminal, and lines otherwise.

    Args:
        total: total number of runs.
        done: number of runs that ended in an earlier session.
        mark: what the line of a trial says if it is the best so far.
        show: False to show nothing.
    """
    if not show:
        return Progress()
    kind = BarProgress if is_terminal() else LineProgress
    return kind(total, done, mark=mark)
