"""The errors a user meets: one line each, with the exit code of the command."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from typing import ClassVar

__all__ = [
    "EnvironmentFault",
    "Incomplete",
    "InputError",
    "InvactError",
    "choices",
    "one_line",
    "one_of",
    "within",
]


class InvactError(Exception):
    """Any failure that invact explains in one line.

    Attributes:
        exit_code: what the command exits with: 2 bad input, 3 environment, 4 partly done.
    """

    exit_code: ClassVar[int] = 1


class InputError(InvactError, ValueError):
    """Bad input, refused before any training (exit code 2)."""

    exit_code = 2


class EnvironmentFault(InvactError, RuntimeError):
    """The machine lacks something: a data set, a cluster, an extra, a writable store (exit code 3)."""

    exit_code = 3


class Incomplete(InvactError, RuntimeError):
    """Runs failed that the result needs; what is done is kept (exit code 4)."""

    exit_code = 4


def choices(received: object, allowed: Iterable[str]) -> str:
    """Say what was received, what is allowed, and the nearest allowed name.

    Example:
        >>> choices("rellu", ["elu", "relu"])
        "received 'rellu'; did you mean 'relu'? Allowed: elu, relu"
        >>> choices(3, ["elu", "relu"])
        'received 3. Allowed: elu, relu'
    """
    names = list(allowed)
    near = difflib.get_close_matches(str(received), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"received {received!r}{hint} Allowed: {', '.join(names)}"


def one_of(kind: str, received: object, allowed: Iterable[str]) -> InputError:
    """Build the error for a name that is not in a table.

    Example:
        >>> print(one_of("activation", "rellu", ["relu"]))
        activation: received 'rellu'; did you mean 'relu'? Allowed: relu
    """
    return InputError(f"{kind}: {choices(received, allowed)}")


def one_line(error: BaseException) -> str:
    """Put an error of any library in one line of at most 500 characters.

    Example:
        >>> one_line(KeyError("x"))
        "KeyError: 'x'"
        >>> one_line(InputError("epochs: received 0"))
        'epochs: received 0'
    """
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, InvactError) else f"{type(error).__name__}: {text}"


@contextlib.contextmanager
def within(place: str) -> Iterator[None]:
    """Name the file or the key in front of an InputError that is raised inside.

    Example:
        >>> with within("my.toml"):
        ...     raise InputError("epochs: received 0")
        Traceback (most recent call last):
        ...
        invact.errors.InputError: my.toml: epochs: received 0
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
