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


_SYNONYMS = {
    other: names
    for names, others in {
        ("learning_rate",): ("lr", "eta", "step_size"),
        ("batch_size",): ("bs", "batch", "minibatch"),
        ("filters",): ("width", "widths", "channels", "units", "neurons", "num_filters", "n_filters"),
        ("activation",): ("act", "nonlinearity", "arm"),
        ("weight_decay",): ("wd", "l2", "decay"),
        ("depth",): ("layers", "stages", "blocks", "num_layers", "n_layers"),
        ("normalization",): ("norm", "bn"),
        ("optimizer",): ("opt", "optimiser"),
        ("schedule",): ("scheduler", "lr_schedule"),
        ("augmentation",): ("aug", "augment"),
        ("precision",): ("dtype", "amp", "mixed_precision"),
        ("model",): ("architecture", "arch", "network", "net", "builder"),
        ("trials",): ("n_trials", "num_trials", "max_trials"),
        ("epochs",): ("n_epochs", "num_epochs", "max_epochs"),
        ("data",): ("dataset", "data_set"),
        ("max_macs",): ("macs", "flops", "max_flops", "budget"),
        ("max_params",): ("params", "parameters", "max_parameters"),
        ("max_latency_ms",): ("latency", "max_latency"),
        ("runs", "seeds"): ("repeats", "n_seeds", "num_seeds"),
        ("silu",): ("swish",),
        ("inverse",): ("crelu",),
    }.items()
    for other in others
}
"""Names that other libraries use, with the names that invact uses for the same thing."""


def choices(received: object, allowed: Iterable[str]) -> str:
    """Return the words of an error: the received value, the most similar allowed name, and all allowed names.

    Example:
        >>> choices("rellu", ["elu", "relu"])
        "received 'rellu'; did you mean 'relu'? Allowed: elu, relu"
        >>> choices(3, ["elu", "relu"])
        'received 3. Allowed: elu, relu'
        >>> choices("lr", ["learning_rate", "lambda"])
        "received 'lr'; did you mean 'learning_rate'? Allowed: learning_rate, lambda"
    """
    names = list(allowed)
    near = [name for name in _SYNONYMS.get(str(received).lower(), ()) if name in names]
    near = near or difflib.get_close_matches(str(received), names, n=1)
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
