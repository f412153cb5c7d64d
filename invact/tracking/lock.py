"""File locks between processes; the end of a process releases its locks, even if it is killed."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from invact.errors import EnvironmentFault

__all__ = ["Lock", "exclusive", "take"]


class Lock:
    """A lock that is held until it is closed or until the process ends in any way. Made by `take`."""

    def __init__(self, lock: FileLock) -> None:
        self._lock = lock

    def close(self) -> None:
        """Release the lock; a second call has no effect."""
        self._lock.release(force=True)


def take(path: Path, what: str, timeout: float = 0.0) -> Lock:
    """Take a lock.

    Args:
        path: the lock file `NAME.lock`. It is created, with its folder, and is never deleted. The file
            `NAME.holder` next to it names the process that holds the lock.
        what: the thing that the lock protects, for the error message.
        timeout: seconds to wait while another process holds the lock.

    Raises:
        EnvironmentFault: another process, or another call in this process, holds the lock; or the file cannot
            be created.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.lock"
        >>> lock = take(path, "the sweep")
        >>> take(path, "the sweep")
        Traceback (most recent call last):
        ...
        invact.errors.EnvironmentFault: the sweep is being run by process ...
        >>> lock.close()
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
    return Lock(lock)


@contextlib.contextmanager
def exclusive(path: Path, what: str, timeout: float = 0.0) -> Iterator[None]:
    """Hold a lock during a `with` block; see `take`.

    Raises:
        EnvironmentFault: see `take`.
    """
    lock = take(path, what, timeout)
    try:
        yield
    finally:
        lock.close()
