"""Processors: which ones this process may use, and how to keep to some of them."""

from __future__ import annotations

import os
from collections.abc import Collection

__all__ = ["allowed_processors", "can_pin", "pin"]


def can_pin() -> bool:
    """Whether this system lets a process choose its processors: Linux does, macOS and Windows do not."""
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
    """Keep this process to some processors; does nothing where the system cannot, or for none."""
    if processors and can_pin():
        os.sched_setaffinity(0, processors)
