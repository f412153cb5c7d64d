"""File locks between processes; the end of a process releases its locks, even if it is killed."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from filelock import FileLock, Timeout

from invact.errors import EnvironmentFault

__all__ = ["exclusive"]


def exclusive(path: Path, what: str, timeout: float = 0.0) -> contextlib.ExitStack:
    """Take a lock, which is held until the result is closed or the process ends in any way.

    Args:
        path: the lock file `NAME.lock`. It is created, with its folder, and is never deleted. The file
            `NAME.holder` next to it names the process that holds the lock.
        what: the thing that the lock protects, for the error message.
        timeout: seconds to wait while another process holds the lock.

    Returns:
        A context manager that releases the lock, with a method `close` that does the same.

    Raises:
        EnvironmentFault: another process, or another call in this process, holds the lock; or the file cannot
            be created.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.lock"
        >>> with exclusive(path, "the sweep"):
        ...     exclusive(path, "the sweep")
        Traceback (most recent call last):
        ...
        invact.errors.EnvironmentFault: the sweep is being run by process ...
    """
    holder = path.with_suffix(".holder")
    lock = FileLock(path, thread_local=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=timeout)
    except Timeout:
        with contextlib.suppress(OSError):
            who = holder.read_text(encoding="utf-8").strip()
            raise EnvironmentFault(f"{what} is being run by process {who}") from None
        raise EnvironmentFault(f"{what} is being run by another process") from None
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be locked: {error.strerror or error}") from error
    try:
        holder.write_text(f"{os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
    except OSError as error:
        lock.release()
        raise EnvironmentFault(f"{holder}: {error.strerror or error}") from error
    held = contextlib.ExitStack()
    held.callback(lock.release)
    return held
