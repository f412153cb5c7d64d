"""Validation of user input: it becomes checked values, or is refused with a message of one line."""

from __future__ import annotations

import copy
import importlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
)

from invact.errors import InputError, choices, one_line

__all__ = ["Frozen", "check_name", "import_all", "override", "validate"]


_Model = TypeVar("_Model", bound=BaseModel)


class Frozen(BaseModel):
    """Base class of all models that are read from files: immutable, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def validate(cls: type[_Model], values: object, source: str) -> _Model:
    """Create a pydantic model from the values, or explain in one line what is wrong with them.

    Args:
        cls: class of the pydantic model.
        values: the values that were read.
        source: the file or the command option that the values come from.

    Raises:
        InputError: the values are invalid; the message gives the source, the key, the received value and
            the allowed values.

    Example:
        >>> from invact.config import Config
        >>> validate(Config, {"epochs": 0}, "my.toml")
        Traceback (most recent call last):
        ...
        invact.errors.InputError: my.toml: epochs: received 0. Allowed: greater than or equal to 1
        >>> validate(Config, {"epoch": 3}, "my.toml")
        Traceback (most recent call last):
        ...
        invact.errors.InputError: my.toml: epoch: unknown key, received 'epoch'; did you mean 'epochs'? ...
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{source}: {_explain(cls, values, error)}") from None


def _explain(cls: type[BaseModel], values: object, error: ValidationError) -> str:
    details = [(_path(values, detail["loc"]), detail) for detail in error.errors(include_url=False)]
    first = details[0][0][:1]
    path, detail = max((item for item in details if item[0][:1] == first), key=lambda item: len(item[0]))
    key = ".".join(text if (text := str(part)).isprintable() else repr(part) for part in path)
    if detail["type"] == "extra_forbidden":
        allowed = _fields(cls, path[:-1])
        return f"{key}: unknown key, {choices(path[-1], allowed)}"
    if detail["type"] == "value_error":
        text = str(detail["ctx"]["error"])
        return f"{key}: {text}" if key else text
    if detail["type"] == "missing":
        return f"{key}: missing key"
    if detail["type"] == "literal_error":
        names = re.findall(r"'(\w+)'", detail["ctx"]["expected"])
        return f"{key}: {choices(detail['input'], names)}"
    # For a union, pydantic reports one error for each member. The message lists all alternatives.
    expected = dict.fromkeys(
        other["msg"].removeprefix("Input should be ").replace("valid tuple", "list")
        for where, other in details
        if where == path
    )
    return f"{key}: received {detail['input']!r}. Allowed: {', or '.join(expected)}"


def _path(values: object, location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Remove the names of union members from pydantic's location, because no user has written them."""
    path: list[int | str] = []
    for depth, part in enumerate(location):
        if isinstance(values, Mapping) and part in values:
            values = values[part]
        elif isinstance(values, list | tuple) and isinstance(part, int) and part < len(values):
            values = values[part]
        elif not (isinstance(values, Mapping) and depth == len(location) - 1):
            continue
        path.append(part)
    return tuple(path)


def _fields(cls: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        annotation = cls.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        cls = annotation
    return list(cls.model_fields)


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def check_name(name: str, what: str = "name") -> str:
    """Return a name if it is safe as the name of a file and of an experiment, or refuse it.

    Args:
        name: the name to check.
        what: the word for the name in the message.

    Raises:
        InputError: the name is empty, has more than 64 characters, has a character other than letters,
            digits, `_`, `.` and `-`, or does not start with a letter or digit.

    Example:
        >>> check_name("../x")
        Traceback (most recent call last):
        ...
        invact.errors.InputError: name: received '../x'. Allowed: 1 to 64 letters, ...
    """
    if not _NAME.fullmatch(name):
        received = repr(name if len(name) <= 80 else name[:77] + "...")
        raise InputError(
            f'{what}: received {received}. Allowed: 1 to 64 letters, digits, "_", "." and "-", '
            "starting with a letter or digit"
        )
    return name


def override(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of nested tables in which some values are replaced; dots separate the parts of a key.

    Args:
        values: the nested tables.
        changes: new values by dotted key; missing tables are created.

    Raises:
        InputError: a part of a key, except the last, names a value that is not a table.

    Example:
        >>> override({"trials": 20, "config": {"epochs": 5}}, {"config.epochs": 2})
        {'trials': 20, 'config': {'epochs': 2}}
    """
    result = copy.deepcopy(dict(values))
    for key, value in changes.items():
        *tables, last = key.split(".")
        table: Any = result
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise InputError(
                    f"{key}: received a key inside {name!r}. Allowed: a key inside a table; "
                    f"{name!r} is not a table"
                )
        table[last] = value
    return result


def import_all(modules: Iterable[str], place: str = "imports") -> None:
    """Import modules of the user, which can register arms, layers and MAC rules.

    Args:
        modules: the names of the modules.
        place: the key or option that names them, for the message of an error.

    Raises:
        InputError: a module cannot be imported.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:
            raise InputError(f"{place}: cannot import {module!r}: {one_line(error)}") from None
