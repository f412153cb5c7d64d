"""Functions that list the processors this process may use, and restrict the process to some of them."""

from __future__ import annotations

import os
from collections.abc import Collection

__all__ = ["allowed_processors", "can_pin", "pin"]


def can_pin() -> bool:
    """Tell whether a process can choose its processors: yes on Linux, no on macOS and Windows."""
    return hasattr(os, "sched_setaffinity")


def allowed_processors() -> tuple[int, ...]:
    """List the processors that this process may use, in increasing order.

    Example:
        >>> len(allowed_processors()) > 0
        True
    """
    if can_pin():
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def pin(processors: Collection[int]) -> None:
    """Restrict this process to some processors; do nothing for an empty list, or if `can_pin` is false."""
    if processors and can_pin():
        os.sched_setaffinity(0, processors)
