"""The lines and the bars that show progress, as pure functions: labels shorten, and numbers are never cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Bar", "bars", "clock", "fitted", "trial_line"]

LEAST_LABEL = 8
"""Fewest characters of a label in a line."""


@dataclass(frozen=True)
class Bar:
    """One bar: what it shows, how far it is, and a remark after the numbers.

    Attributes:
        label: what the bar shows; it shortens if the terminal is narrow.
        done: how many steps have ended; a fraction if a part of a step has.
        total: number of steps.
        note: text after the numbers, for example the time left.
    """

    label: str
    done: float
    total: int
    note: str = ""


def bars(rows: Sequence[Bar], width: int) -> Table:
    """Draw bars below each other for a terminal of `width` characters.

    The labels take what the numbers leave, so only they are shortened.
    """
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1, 0, 0))
    # Rich shortens columns that may wrap before it cuts the others; a text that may not wrap ends in dots.
    table.add_column()
    for _ in range(3):
        table.add_column(no_wrap=True)
    size = max(8, min(24, width // 6))
    for row in rows:
        table.add_row(
            Text(row.label, no_wrap=True, overflow="ellipsis"),
            ProgressBar(max(1, row.total), row.done, width=size),
            Text(f"{int(row.done)}/{row.total}", "green", justify="right"),
            Text(row.note, "cyan"),
        )
    return table


def clock(seconds: float) -> str:
    """Write a duration as minutes and seconds, with hours if there are any.

    Example:
        >>> clock(9.6), clock(754), clock(3600 * 27)
        ('0:10', '12:34', '27:00:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def fitted(text: str, width: int) -> str:
    """Shorten a text to a width, or fill it with spaces.

    Example:
        >>> fitted("inverse, filters 8", 10), fitted("relu", 6)
        ('inverse, …', 'relu  ')
    """
    return f"{text[: width - 1]}…" if len(text) > width else text.ljust(width)


def trial_line(
    count: str, label: str, accuracy: str, cost: str, mark: str = "", *, width: int, column: int
) -> str:
    """Write the line of a trial that has ended, in at most `width` characters.

    Args:
        count: how many have ended, and the number of the trial.
        label: label of the trial; it is shortened until the line fits, but not below 8 characters.
        accuracy: accuracy, or nothing.
        cost: cost of the network.
        mark: a remark, for example that the trial is the best so far.
        width: width of the terminal.
        column: width of the labels in all lines, so that the numbers are below each other.

    Example:
        >>> told = ("12/20", "inverse, filters 8", "97.11%", "42.8 k MACs", "new best")
        >>> print(trial_line(*told, width=60, column=18))
        12/20  inverse, filters 8  97.11%  42.8 k MACs  new best
        >>> print(trial_line(*told, width=50, column=18))
        12/20  inverse, fi…  97.11%  42.8 k MACs  new best
    """
    numbers = f"  {accuracy:>6}  {cost:>11}" + (f"  {mark}" if mark else "")
    room = width - len(count) - 2 - len(numbers)
    return f"{count}  {fitted(label, max(LEAST_LABEL, min(column, room)))}{numbers}"
