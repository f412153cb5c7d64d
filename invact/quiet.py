"""Functions that keep libraries from writing to the terminal when they are loaded."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

__all__ = ["load_tensorflow", "same_logging", "silent_stderr"]


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
