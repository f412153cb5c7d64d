"""Standard output and standard error that may be full or closed, or that nobody reads any more."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from invact.errors import EnvironmentFault, masked
from invact.text import plain

__all__ = ["is_terminal", "steady_error", "steady_output", "tell"]


def tell(line: str) -> None:
    """Print a line on standard error. If that is full or closed, the line is lost and nothing else happens.

    Control characters in the line are shown as escapes.

    Example:
        >>> import contextlib
        >>> with contextlib.redirect_stderr(sys.stdout):
        ...     tell("digits: 2 workers")
        digits: 2 workers
    """
    # Python sets the stream to None if it is closed, and `print` would then write to standard output.
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(plain(line), file=sys.stderr, flush=True)


def is_terminal() -> bool:
    """Return whether standard error is a terminal; False if it is closed."""
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()


@contextlib.contextmanager
def steady_error() -> Iterator[None]:
    """Discard what cannot be written to standard error in the block: no training ends over a message."""
    # Otherwise the next file that the process opens, such as a database, would become the standard stream.
    _fill()
    kept = sys.stderr
    with contextlib.ExitStack() as stack:
        if kept is None:
            sys.stderr = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        else:
            sys.stderr = _Steady(kept, required=False)
        try:
            yield
        finally:
            sys.stderr = kept


@contextlib.contextmanager
def steady_output() -> Iterator[None]:
    """Report in one line that standard output in the block could not be written.

    A reader that stops reading, as `head` does, is no failure. It changes nothing for the block.

    Raises:
        EnvironmentFault: standard output is closed or full.
    """
    kept = sys.stdout
    if kept is None:
        _fill()
        raise EnvironmentFault("standard output: closed. Allowed: a terminal, a file, a pipe or /dev/null")
    sys.stdout = _Steady(kept, required=True)
    try:
        try:
            yield
        except BaseException:
            # Its own failure counts more than the failure to write.
            with contextlib.suppress(EnvironmentFault):
                sys.stdout.flush()
            raise
        sys.stdout.flush()
    finally:
        sys.stdout = kept


def _fill() -> None:
    """Open the null device as each standard stream that is closed."""
    for number in (0, 1, 2):
        if not _is_open(number):
            os.open(os.devnull, os.O_RDWR)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


class _Steady:
    """A text stream whose failures are lost, or are faults; all other attributes are those of the stream."""

    def __init__(self, stream: TextIO, required: bool) -> None:
        self._stream = stream
        self._required = required
        self._fault: EnvironmentFault | None = None

    def __getattr__(self, name: str) -> Any:
        # A library that finds the buffer of an ASCII stream would write to it past this object.
        if name == "buffer":
            raise AttributeError(name)
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        # A message of another library, such as that of the parser of options, may repeat an address.
        shown = text if self._required else masked(text)
        with self._failures():
            try:
                self._stream.write(shown)
            except UnicodeEncodeError:
                encoding = self._stream.encoding
                self._stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with self._failures():
            self._stream.flush()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._discard()
            if self._required and not isinstance(error, BrokenPipeError):
                words = f"standard output: cannot be written: {error.strerror or error}"
                self._fault = EnvironmentFault(words)
        # Raised at every later use too, because libraries that probe a stream swallow errors.
        if self._fault is not None:
            raise self._fault

    def _discard(self) -> None:
        """Send the rest to nowhere, because Python tries to write it again when it ends."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
