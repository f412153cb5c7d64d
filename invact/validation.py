"""Validation of user input: it becomes checked values, or is refused with a message of one line."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
)

from invact.errors import InputError, choices, one_line
from invact.process.quiet import load_tensorflow

__all__ = ["Frozen", "check_name", "check_points", "import_all", "override", "points", "quantity", "validate"]


_Model = TypeVar("_Model", bound=BaseModel)


class Frozen(BaseModel):
    """Base class of all models that are read from files: immutable, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, /, **values: Any) -> None:
        """Check the values.

        Raises:
            InputError: a value is wrong; the message is that of a file with the name of the class.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError(f"{type(self).__name__}: {_explain(type(self), values, error)}") from None

    # Without this mark, pydantic calls `__init__` for every table in a file, and keys lose their tables.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


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
        if isinstance(part, int):  # a place in a list of tables
            continue
        annotation = cls.model_fields[part].annotation
        # A table that may be left out is a union with None.
        members = (annotation, *get_args(annotation))
        tables = [each for each in members if isinstance(each, type) and issubclass(each, BaseModel)]
        if not tables:
            return []
        cls = tables[0]
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

    A table changes the keys that it has, and keeps the other keys of the table that it changes.

    Args:
        values: the nested tables.
        changes: new values by dotted key; missing tables are created.

    Raises:
        InputError: a part of a key, except the last, names a value that is not a table.

    Example:
        >>> override({"trials": 20, "config": {"epochs": 5}}, {"config.epochs": 2})
        {'trials': 20, 'config': {'epochs': 2}}
        >>> override({"config": {"epochs": 5, "filters": 8}}, {"config": {"epochs": 2}})
        {'config': {'epochs': 2, 'filters': 8}}
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
        inner = table.get(last)
        merged = isinstance(value, Mapping) and isinstance(inner, dict)
        table[last] = override(inner, value) if merged else copy.deepcopy(value)
    return result


_QUANTITY = re.compile(r"\s*(\d+(?:_\d+)*(?:\.\d+)?)\s*([kKMGT]?)\s*")
_PREFIXES = {"": 0, "k": 3, "K": 3, "M": 6, "G": 9, "T": 12}


def quantity(value: object) -> object:
    """Convert a text such as `"200k"` or `"1.5M"` to an integer, and return any other value unchanged.

    Raises:
        ValueError: the text is not a whole number of MACs, parameters or bytes.

    Example:
        >>> quantity("200k"), quantity("1.5 M"), quantity(12)
        (200000, 1500000, 12)
        >>> quantity("0.5")
        Traceback (most recent call last):
        ...
        ValueError: received '0.5'. Allowed: a whole number such as 200000, '200k' or '1.5M'
    """
    if not isinstance(value, str):
        return value
    if found := _QUANTITY.fullmatch(value):
        number = Decimal(found[1]).scaleb(_PREFIXES[found[2]])
        if number == number.to_integral_value():
            return int(number)
    raise ValueError(f"received {value!r}. Allowed: a whole number such as 200000, '200k' or '1.5M'")


LEAST_POINTS = 0.05
"""The least margin, in points. To show a smaller difference between networks takes hundreds of runs."""


def points(value: float) -> float:
    """Return a margin in percentage points, or ask whether a very small one is a fraction.

    Raises:
        ValueError: the margin is less than 0.05 points.

    Example:
        >>> points(0.3)
        0.3
        >>> points(0.005)
        Traceback (most recent call last):
        ...
        ValueError: received 0.005, points or fraction? Allowed: at least 0.05 points; ...
    """
    if 0 < value < LEAST_POINTS:
        raise ValueError(
            f"received {value:g}, points or fraction? Allowed: at least {LEAST_POINTS} points; the fraction "
            f"{value:g} is {100 * value:g} points"
        )
    return value


def check_points(value: float, key: str) -> None:
    """Check a margin in percentage points that was given as an argument.

    Raises:
        InputError: it is not in (0, 100), or it may be a fraction; see `points`.

    Example:
        >>> check_points(0, "margin")
        Traceback (most recent call last):
        ...
        invact.errors.InputError: margin: received 0. Allowed: points in (0, 100), for example 0.3
    """
    if not 0 < value < 100:
        raise InputError(f"{key}: received {value:g}. Allowed: points in (0, 100), for example 0.3")
    try:
        points(value)
    except ValueError as error:
        raise InputError(f"{key}: {error}") from None


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
            # Most of these modules import TensorFlow, which must not print its start messages.
            if importlib.util.find_spec(module.partition(".")[0]) is not None:
                load_tensorflow()
            importlib.import_module(module)
        except (Exception, SystemExit) as error:
            raise InputError(f"{place}: cannot import {module!r}: {one_line(error)}") from None
