"""Interruptions by Ctrl-C or SIGTERM, which no library can swallow."""

from __future__ import annotations

import signal
import threading
from types import FrameType

__all__ = ["check_interruption", "handle_interruptions"]

_pending = threading.Event()


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


def _interrupt(number: int, frame: FrameType | None) -> None:
    _pending.set()
    raise KeyboardInterrupt
