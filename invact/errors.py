"""The errors that users see, each with a message of one line and an exit code, and helpers to write them."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator
from typing import ClassVar
from urllib.parse import quote, quote_plus, unquote, unquote_plus

__all__ = [
    "BuildError",
    "EnvironmentFault",
    "Incomplete",
    "InputError",
    "InvactError",
    "choices",
    "masked",
    "one_line",
    "one_of",
    "within",
]


_HIDDEN = "***"
_USER = re.compile(r"([A-Za-z][\w+.-]*://)([^\s/@:?#]*)(?::(\S*))?@")
_PORT = re.compile(r"\d{1,5}[/?#]")
# Quotes and a full stop at the end of a value belong to the sentence around the address.
_QUERY = re.compile(
    r"([?&;](?:[\w.-]*(?:pass|pwd|secret|token|key)[\w.-]*|odbc_connect)=)([^&\s]*?)"
    r"(?=['\"]?[.,:;)]*(?:[&\s]|$))",
    re.IGNORECASE,
)


def masked(text: str, *addresses: str) -> str:
    """Replace the passwords of addresses in a text by `***`.

    A password is the part between the user and the host, or a value in the query whose key says so. A user
    without a password is replaced only in an address of the web, where it can be a token.

    Args:
        text: the text, such as the message of a library.
        addresses: addresses whose passwords are replaced wherever they stand in the text, also outside of an
            address and in other encodings.

    Example:
        >>> masked("http://ann:secret@host/x?token=abc&page=2: no answer")
        'http://ann:***@host/x?token=***&page=2: no answer'
        >>> masked("no login with 'p@ss'", "postgresql://ann:p%40ss@host/runs")
        "no login with '***'"
    """
    text = _QUERY.sub(rf"\1{_HIDDEN}", _USER.sub(_without_password, text))
    known = {secret for address in addresses for secret in _secrets(address)}
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


def _without_password(found: re.Match[str]) -> str:
    scheme, user, password = found.groups()
    web = scheme.lower().startswith("http")
    if password is None:
        return f"{scheme}{_HIDDEN if web else user}@"
    if web and _PORT.match(password):  # A port, and a path with the character `@`.
        return found.group()
    return f"{scheme}{user}:{_HIDDEN}@"


def _secrets(address: str) -> set[str]:
    found = set()
    scheme, mark, rest = address.partition("://")
    if at := re.match(r"([^/@:]*)(?::(.*))?@", rest if mark else scheme, re.DOTALL):
        user, password = at.groups()
        if password is not None:
            # Libraries do not agree on where a password with the characters `@` and `/` ends.
            found |= {password, password.partition("@")[0]}
        elif address.startswith("http"):
            found.add(user)
    found |= {value.group(2) for value in _QUERY.finditer(address)}
    forms = {form(one) for one in found for form in (str, unquote, unquote_plus)}
    forms |= {form(one) for one in forms for form in (quote, quote_plus, lambda text: repr(text)[1:-1])}
    # To replace a shorter text everywhere would make the message unreadable.
    return {one for one in forms if len(one) > 2}


class InvactError(Exception):
    """Base class of the failures that invact explains in one line. Passwords in the message are masked.

    Attributes:
        exit_code: exit code of the command: 2 for bad input, 3 for the environment, 4 for incomplete work.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(masked(one) if isinstance(one, str) else one for one in arguments))


class InputError(InvactError, ValueError):
    """The input is wrong and is refused before any training (exit code 2)."""

    exit_code = 2


class BuildError(InputError):
    """The network of one configuration cannot be built, or it breaks the builder's contract (exit code 2).

    A search records such a configuration as FAILED and tries the others. Any other `InputError` ends it.
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
        ("convolutions",): ("convs", "num_convs", "n_convs", "convs_per_stage", "conv_layers"),
        ("normalization",): ("norm", "bn"),
        ("optimizer",): ("opt", "optimiser"),
        ("schedule",): ("scheduler", "lr_schedule"),
        ("warmup_epochs",): ("warmup", "warm_up", "warmup_steps"),
        ("label_smoothing",): ("smoothing",),
        ("clip_norm",): ("clipnorm", "global_clipnorm", "grad_clip", "clip_grad", "clip"),
        ("ema",): ("use_ema", "ema_decay", "ema_momentum", "weight_averaging"),
        ("stochastic_depth",): ("drop_path", "droppath", "drop_connect", "survival_probability"),
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


def one_line(error: BaseException, *addresses: str) -> str:
    """Write an error of any library as one line, with at most 500 characters of its message.

    Args:
        error: the error.
        addresses: addresses whose passwords are masked in the message; see `masked`.

    Example:
        >>> one_line(KeyError("x"))
        "KeyError: 'x'"
        >>> one_line(InputError("epochs: received 0"))
        'epochs: received 0'
    """
    # Keras prints the message of an error in a layer in bold, between explanations of many lines.
    bold = re.search(r"\x1b\[1m(.*?)\x1b\[0m", str(error), re.DOTALL)
    # Masked before it is shortened, so that no part of a password remains at the end.
    text = " ".join(masked(bold[1] if bold else str(error), *addresses).split())[:500]
    return text if isinstance(error, InvactError) else f"{type(error).__name__}: {text}"


@contextlib.contextmanager
def within(place: str) -> Iterator[None]:
    """Put the name of a file or key in front of the message of an InputError that is raised in the block.

    The class of the error stays the same.

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
        raise type(error)(f"{place}: {error}") from None
