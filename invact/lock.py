"""Locks: one process at a time does a thing, and a killed one holds nothing."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import IO

from invact.errors import EnvironmentFault

__all__ = ["exclusive"]


def exclusive(path: Path, what: str, timeout: float = 0.0) -> IO[str]:
    """Take a lock that lasts until the returned file is closed, or the process ends however it ends.

    Args:
        path: the lock's file; it is made, with its folder, and stays behind.
        what: what is to be done alone, for the message.
        timeout: seconds to wait for another holder.

    Raises:
        EnvironmentFault: another process, or another call in this one, holds it; or the file cannot be made.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.lock"
        >>> with exclusive(path, "the sweep"):
        ...     exclusive(path, "the sweep")
        Traceback (most recent call last):
        ...
        invact.errors.EnvironmentFault: the sweep is being run by process ...
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault(f"{path}: {error.strerror or error}") from error
    deadline = time.monotonic() + timeout
    while True:
        try:
            # The kernel's lock, not the file's presence: it goes with its process, even a killed one.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            file.seek(0)
            holder = file.read().strip() or "another"
            file.close()
            raise EnvironmentFault(f"{what} is being run by process {holder}") from None
        except OSError as error:
            file.close()
            raise EnvironmentFault(f"{path}: cannot be locked: {error.strerror or error}") from error
        break
    file.truncate(0)
    file.write(f"{os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file
