"""Functions that keep libraries from writing to the terminal when they are loaded."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
from collections.abc import Iterator

__all__ = ["load_tensorflow", "same_logging", "silent_stderr", "stdout_to_stderr"]


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Discard everything that is written to file descriptor 2 in the block; Python exceptions still pass."""
    try:
        kept = os.dup(2)
    except OSError:  # It is closed, so that nothing can be written.
        yield
        return
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Write to standard error, in the block, what is written to standard output.

    A command prints its result on standard output after the block. Whatever runs in the block may print: the
    code of users, libraries in C, and the processes that the block starts.

    Example:
        >>> import io
        >>> with contextlib.redirect_stderr(io.StringIO()) as messages, stdout_to_stderr():
        ...     print("building")
        >>> messages.getvalue().strip()
        'building'
    """
    _flush()
    try:
        kept = os.dup(1)
    except OSError:  # Standard output is closed, so nobody reads it.
        kept = -1
    try:
        if kept >= 0:
            os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _flush()
        if kept >= 0:
            os.dup2(kept, 1)
            os.close(kept)


def _flush() -> None:
    """Write what Python and the standard library of C have buffered for standard output."""
    if sys.stdout is not None:
        sys.stdout.flush()
    # Python cannot flush the buffer of C by itself. Windows does not know the library by this name.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).fflush(None)


@contextlib.contextmanager
def same_logging() -> Iterator[None]:
    """Restore the root logger after the block.

    Some libraries add a handler to it, which would then print the log messages of all other libraries.
    """
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)


def load_tensorflow() -> None:
    """Import TensorFlow without its start messages, some of which ignore `TF_CPP_MIN_LOG_LEVEL`."""
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with silent_stderr():
            import tensorflow  # noqa: F401
    # It would warn of graphs that are traced again. Each network has graphs of its own, so this is no fault.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
