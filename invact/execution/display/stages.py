"""What a terminal shows while no training runs: a spinner for each step, and a bar for each list."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from invact.execution.display.bars import Bar, bars, clock
from invact.process.streams import is_terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["stage", "terminal", "track"]

_Item = TypeVar("_Item")


@contextlib.contextmanager
def stage(text: str, *, show: bool = True) -> Iterator[None]:
    """Show on a terminal what happens in the block, with a spinner that disappears at its end.

    Args:
        text: what happens, for example "loading TensorFlow".
        show: False to show nothing.

    Example:
        >>> with stage("adding", show=False):
        ...     print(1 + 1)
        2
    """
    if not show or not is_terminal():
        yield
        return
    from rich.text import Text

    with terminal() as console, console.status(Text(f"{text} ...")):
        yield


def track(items: Sequence[_Item], description: str, *, show: bool = True) -> Iterable[_Item]:
    """Iterate over items; show a bar with the time left if standard error is a terminal.

    Example:
        >>> list(track([1, 2], "counting"))
        [1, 2]
    """
    return _tracked(items, description) if show and is_terminal() else iter(items)


def _tracked(items: Sequence[_Item], description: str) -> Iterator[_Item]:
    from rich.live import Live

    start = time.monotonic()
    done = 0

    def shown() -> Table:
        left = (time.monotonic() - start) / done * (len(items) - done) if done else None
        note = "" if left is None else f"{clock(left)} left"
        return bars([Bar(description, done, len(items), note)], console.width)

    with (
        terminal() as console,
        Live(get_renderable=shown, console=console, refresh_per_second=4, transient=True),
    ):
        for item in items:
            yield item
            done += 1


@contextlib.contextmanager
def terminal() -> Iterator[Console]:
    """A console on a copy of standard error, which is not silenced while a library is loaded."""
    from rich.console import Console

    try:
        copy = os.dup(sys.stderr.fileno())
    except (OSError, ValueError):  # a stream without a descriptor, as a notebook has it
        yield Console(file=sys.stderr)
        return
    with os.fdopen(copy, "w", encoding=sys.stderr.encoding, errors="backslashreplace") as own:
        yield Console(file=own)
