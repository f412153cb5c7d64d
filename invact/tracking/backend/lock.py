"""File locks between processes; the end of a process releases its locks, even if it is killed."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from invact.errors import EnvironmentFault

__all__ = ["exclusive", "private_folder"]


def private_folder(name: str) -> Path:
    """Return a folder in the user's cache folder that no other user can read or write; it is created.

    Raises:
        EnvironmentFault: the folder cannot be created, is a symbolic link, or belongs to another user.
    """
    # Not `$XDG_RUNTIME_DIR`: two sessions of one user can have different values of it, and would not see each
    # other's locks. Not the temporary folder: another user can prepare links in it.
    folder = user_cache_path("invact", appauthor=False) / name
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise EnvironmentFault(
                f"{folder}: received a link or a folder of another user. Allowed: a folder of your own, in "
                "~/.cache or in XDG_CACHE_HOME"
            )
        if stat.S_IMODE(status.st_mode) & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        remedy = "XDG_CACHE_HOME can name another folder"
        raise EnvironmentFault(f"{folder}: {error.strerror or error}; {remedy}") from error
    return folder


def exclusive(path: Path, what: str, timeout: float = 0.0) -> contextlib.ExitStack:
    """Take a lock, which is held until the result is closed or the process ends in any way.

    Args:
        path: the lock file `NAME.lock`. It is created, with its folder, and is never deleted. The file
            `NAME.holder` next to it names the process that holds the lock. Neither file may be a symbolic
            link.
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
        with contextlib.suppress(OSError, UnicodeDecodeError):
            who = " ".join(holder.read_text(encoding="utf-8").split())
            raise EnvironmentFault(f"{what} is being run by process {who}") from None
        raise EnvironmentFault(f"{what} is being run by another process") from None
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be locked: {error.strerror or error}") from error
    try:
        # The file is made anew: the old one may be a link, or belong to another user of the store.
        holder.unlink(missing_ok=True)
        made = os.open(holder, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        with os.fdopen(made, "w", encoding="utf-8") as file:
            file.write(f"{os.getpid()} on {socket.gethostname()}\n")
    except OSError as error:
        lock.release()
        raise EnvironmentFault(f"{holder}: {error.strerror or error}") from error
    held = contextlib.ExitStack()
    held.callback(lock.release)
    return held
