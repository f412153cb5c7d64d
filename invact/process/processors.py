"""The processors of this machine: their name, those that this process may use, and a restriction to some."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection
from pathlib import Path

__all__ = ["allowed_processors", "can_pin", "pin", "processor"]


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


def processor() -> str:
    """Return the name of this machine's processor.

    Example:
        >>> len(processor()) > 0
        True
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
