"""Functions that keep libraries from writing to the terminal when they are loaded, and one that warns."""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from invact.errors import EnvironmentFault, one_line
from invact.process.streams import tell

__all__ = [
    "check_backend",
    "load_tensorflow",
    "same_logging",
    "silent_stderr",
    "stdout_to_stderr",
    "warn",
]

BACKEND = "tensorflow"
"""The backend of Keras that invact trains and exports with."""


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


def warn(text: str) -> None:
    """Print a warning on standard error, as one line."""
    tell(f"invact: warning: {' '.join(text.splitlines())}")


def check_backend() -> None:
    """Check that Keras uses TensorFlow, or would use it when it is imported; this imports neither.

    Raises:
        EnvironmentFault: Keras uses another backend.
    """
    backend, place = _backend()
    if backend != BACKEND:
        raise EnvironmentFault(
            f"{place}: received {backend!r}. Allowed: {BACKEND!r}, the backend that invact needs"
        )


def load_tensorflow() -> None:
    """Import TensorFlow and Keras without start messages, some of which ignore `TF_CPP_MIN_LOG_LEVEL`.

    Raises:
        EnvironmentFault: Keras uses another backend; see `check_backend`. Or it refuses its own settings.
    """
    check_backend()
    try:
        if "tensorflow" not in sys.modules:
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
            with silent_stderr():
                import tensorflow  # noqa: F401
        import keras  # noqa: F401
    # For a value in the file or in a variable; TensorFlow reads the file too.
    except (AssertionError, ValueError) as error:
        raise EnvironmentFault(
            f"{_settings_file()}, or a variable KERAS_...: a value that Keras refuses ({one_line(error)})"
        ) from None
    # It would warn of graphs that are traced again. Each network has graphs of its own, so this is no fault.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def _backend() -> tuple[str, str]:
    """Return the backend of Keras and the place that sets it, without an import of Keras."""
    if "keras" in sys.modules:
        import keras

        return keras.config.backend(), "the backend of Keras"
    # Keras itself reads the two places in this way, but its import fails if the backend is not installed.
    if name := os.environ.get("KERAS_BACKEND"):
        return name, "KERAS_BACKEND"
    path = _settings_file()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    return str(found.get("backend", BACKEND)) if isinstance(found, dict) else BACKEND, f"{path}: backend"


def _settings_file() -> Path:
    home = os.path.expanduser("~")  # noqa: PTH111 - the method of a path needs a user with a home.
    folder = Path(home if os.access(home, os.W_OK) else "/tmp", ".keras")
    return Path(os.environ.get("KERAS_HOME", folder)).expanduser() / "keras.json"
