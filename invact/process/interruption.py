"""Interruptions by Ctrl-C or SIGTERM, which no library can swallow."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["check_interruption", "handle_interruptions", "interrupted_later"]

_pending = threading.Event()
_later = threading.Event()


def handle_interruptions() -> None:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt in the main thread, and note that they came.

    The exception alone can be lost: Python ignores it if it is raised while an object is being finalized.
    """
    _pending.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def check_interruption() -> None:
    """Raise KeyboardInterrupt if an interruption came since `handle_interruptions`.

    Example:
        >>> check_interruption()
    """
    if _pending.is_set():
        raise KeyboardInterrupt


@contextlib.contextmanager
def interrupted_later() -> Iterator[None]:
    """Let the first interruption that comes in a block end it only at its end; a second one ends it at once.

    Blocks are not nested.

    Example:
        >>> with interrupted_later():
        ...     pass
    """
    _later.set()
    try:
        yield
    finally:
        _later.clear()
    check_interruption()


def _interrupt(number: int, frame: FrameType | None) -> None:
    waits = _later.is_set() and not _pending.is_set()
    _pending.set()
    if not waits:
        raise KeyboardInterrupt
