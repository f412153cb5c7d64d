"""The errors that users see, each with a message of one line and an exit code, and helpers to write them."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from typing import ClassVar

__all__ = [
    "BuildError",
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
    """Base class of the failures that invact explains in one line.

    Attributes:
        exit_code: exit code of the command: 2 for bad input, 3 for the environment, 4 for incomplete work.
    """

    exit_code: ClassVar[int] = 1


class InputError(InvactError, ValueError):
    """The input is wrong and is refused before any training (exit code 2)."""

    exit_code = 2


class BuildError(InputError):
    """The network of one configuration cannot be built, or it breaks the builder's contract (exit code 2).

    A search records such a configuration as FAILED and tries the others.
    """


class EnvironmentFault(InvactError, RuntimeError):
    """The machine lacks something: a data set, a cluster, an extra, a writable store (exit code 3)."""

    exit_code = 3


class Incomplete(InvactError, RuntimeError):
    """Runs that the result needs have failed; the finished runs are kept (exit code 4)."""

    exit_code = 4


def choices(received: object, allowed: Iterable[str]) -> str:
    """Return the words of an error: the received value, the most similar allowed name, and all allowed names.

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
    """Return the error for a name that is not one of the allowed names.

    Args:
        kind: what the name names; it starts the message.
        received: the name that was received.
        allowed: the allowed names.

    Example:
        >>> print(one_of("activation", "rellu", ["relu"]))
        activation: received 'rellu'; did you mean 'relu'? Allowed: relu
    """
    return InputError(f"{kind}: {choices(received, allowed)}")


def one_line(error: BaseException) -> str:
    """Write an error of any library as one line, with at most 500 characters of its message.

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
    """Put the name of a file or key in front of the message of an InputError that is raised in the block.

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
