"""Display of progress on standard error: bars on a terminal, one line for each run otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from invact.text import plain
from invact.training.results import Epoch, Status, TrialResult

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ["BarProgress", "LineProgress", "Progress", "make_progress", "track"]

_Item = TypeVar("_Item")


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

    def started(self, key: str, label: str, epochs: int) -> None:
        """Report that a run began."""

    def epoch(self, key: str, epoch: Epoch) -> None:
        """Report that a run finished an epoch."""

    def ended(self, key: str, result: TrialResult) -> None:
        """Report that a run ended."""

    def refused(self, label: str, cost: str, runs: int) -> None:
        """Report that a trial of `runs` runs is over a budget; `cost` names the exceeded measure."""


class LineProgress(Progress):
    """One line of plain text for each run that ends.

    Args:
        total: total number of runs.
        done: number of runs that ended in an earlier session.
    """

    def __init__(self, total: int, done: int = 0) -> None:
        self._total = total
        self._known = done
        self._done = done
        self._labels: dict[str, str] = {}
        self._start: float | None = None

    def message(self, text: str) -> None:
        """Print one line."""
        print(plain(text), file=sys.stderr, flush=True)

    def started(self, key: str, label: str, epochs: int) -> None:
        """Store the label of the run."""
        self._labels[key] = label
        # The clock starts with the first run, because the start of the workers must not count as training.
        self._start = self._start or time.monotonic()

    def ended(self, key: str, result: TrialResult) -> None:
        """Print how the run ended, and the time left."""
        self._say(f"{self._labels.pop(key)}, seed {result.seed}: {outcome(result)}")

    def refused(self, label: str, cost: str, runs: int) -> None:
        """Print the measure by which the rejected trial is over a budget."""
        self._say(f"{label}: {Status.OVER_BUDGET}, {cost}", runs)

    def _say(self, text: str, runs: int = 1) -> None:
        self._done += runs
        left = max(0, self._total - self._done)
        elapsed = time.monotonic() - self._start if self._start else 0.0
        seconds = elapsed / (self._done - self._known) * left
        self.message(f"[{self._done}/{self._total}] {text} ({seconds:.0f} s left)")


class BarProgress(Progress):
    """One bar for all runs with the time left, and one for each running run.

    Args:
        total: total number of runs.
        done: number of runs that ended in an earlier session.
    """

    def __init__(self, total: int, done: int = 0) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._all = self._bars.add_task("runs", total=total, completed=done, note="")
        self._tasks: dict[str, tuple[TaskID, str]] = {}

    def __enter__(self) -> BarProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def message(self, text: str) -> None:
        """Print one line above the bars."""
        self._bars.console.print(plain(text), markup=False, emoji=False, highlight=False)

    def started(self, key: str, label: str, epochs: int) -> None:
        """Add a bar for the run."""
        self._tasks[key] = (self._bars.add_task(f"  {plain(label)}", total=epochs, note=""), label)

    def epoch(self, key: str, epoch: Epoch) -> None:
        """Advance the bar of the run."""
        task, _ = self._tasks[key]
        self._bars.update(task, completed=epoch.number, note=f"validation {epoch.validation.accuracy:.2%}")

    def ended(self, key: str, result: TrialResult) -> None:
        """Replace the bar of the run with a line."""
        task, label = self._tasks.pop(key)
        self._bars.remove_task(task)
        self._bars.advance(self._all)
        self.message(f"{label}, seed {result.seed}: {outcome(result)}")

    def refused(self, label: str, cost: str, runs: int) -> None:
        """Print the measure by which the rejected trial is over a budget."""
        self._bars.advance(self._all, runs)
        self.message(f"{label}: {Status.OVER_BUDGET}, {cost}")


def outcome(result: TrialResult) -> str:
    """Describe a result in one line."""
    if result.status is Status.FAILED:
        return f"{result.status}: {result.error}"
    accuracy = f"validation {result.validation.accuracy:.2%}" if result.validation else ""
    macs = f"{result.cost.macs:,} MACs" if result.cost else ""
    return ", ".join(part for part in (str(result.status), accuracy, macs, f"{result.seconds:.1f} s") if part)


def make_progress(total: int, done: int = 0, *, show: bool = True) -> Progress:
    """Make bars if standard error is a terminal, and lines otherwise.

    Args:
        total: total number of runs.
        done: number of runs that ended in an earlier session.
        show: False to show nothing.
    """
    if not show:
        return Progress()
    return BarProgress(total, done) if sys.stderr.isatty() else LineProgress(total, done)


def track(items: Sequence[_Item], description: str, *, show: bool = True) -> Iterable[_Item]:
    """Iterate over items; show a bar with the time left if standard error is a terminal.

    Example:
        >>> list(track([1, 2], "counting"))
        [1, 2]
    """
    if not show or not sys.stderr.isatty():
        return iter(items)
    from rich.console import Console
    from rich.progress import track as bar

    return bar(items, description, console=Console(stderr=True), transient=True)
