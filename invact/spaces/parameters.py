"""Parameters of a search space, and the code that reads them from TOML and checks them against `Config`."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, NoReturn, TypeAlias

from pydantic import Field, StrictBool, StrictFloat, StrictInt

from invact.config import Config, Scalar
from invact.errors import InputError, choices, one_of
from invact.spaces.domains import Choice, Domain, Integers, Reals
from invact.validation import Frozen, quantity, validate

__all__ = [
    "FIELDS",
    "Condition",
    "Parameter",
    "Values",
    "constant",
    "parents_first",
    "plain",
    "read_parameters",
]

Values: TypeAlias = Mapping[str, Scalar]
"""One configuration as flat values: active parameters by name; `activation.1` belongs to the first stage."""

_Number = StrictInt | StrictFloat

FIELDS = tuple(name for name in Config.model_fields if name != "options")
"""Fields of `Config` that can be searched."""

_REALS = {name for name in FIELDS if Config.model_fields[name].annotation is float}
_PER_STAGE = ("activation", "filters")
_QUANTITIES = ("width_target",)
_BESIDE: Mapping[str, Mapping[str, Scalar]] = {
    "width_target": {"width_rule": "macs"},
    "momentum": {"optimizer": "sgd"},
    "nesterov": {"optimizer": "sgd"},
    "stochastic_depth": {"model": "resnet"},
    "convolutions": {"model": "plain"},
    "warmup_epochs": {"epochs": 100_000},
}
"""Fields that `Config` accepts only together with another field, and a value of that other field."""

_MOST_POINTS = 10_000


@dataclass(frozen=True)
class Condition:
    """A parameter is active only when `parent` has one of `values`."""

    parent: str
    values: tuple[Scalar, ...]

    def __str__(self) -> str:
        return f"{self.parent} = {' or '.join(map(repr, self.values))}"


@dataclass(frozen=True)
class Parameter:
    """One parameter: flat name, allowed values, and conditions. It is active if all conditions hold."""

    name: str
    domain: Domain
    when: tuple[Condition, ...] = ()

    def active(self, values: Values) -> bool:
        """Return whether all conditions hold for the values of the earlier parameters."""
        return all(values.get(condition.parent) in condition.values for condition in self.when)


class _Table(Frozen):
    """The TOML table of one parameter."""

    choices: list[Scalar] | None = None
    low: _Number | None = None
    high: _Number | None = None
    step: _Number | None = None
    log: StrictBool = False
    when: dict[str, Scalar | Annotated[list[Scalar], Field(min_length=1)]] = Field(default_factory=dict)
    per_stage: StrictBool = False


def read_parameters(tables: Mapping[str, Any], source: str) -> dict[str, Parameter]:
    """Read the `[parameters]` table: one parameter for each key, or one for each stage with `per_stage`.

    Raises:
        InputError: a key or a value is wrong; the message names the source, the key, the received value and
            the allowed values.
    """
    rows = {key: _row(key, row, f"{source}: parameters.{key}") for key, row in tables.items()}
    domains = {key: _domain(key, row, f"{source}: parameters.{key}") for key, row in rows.items()}
    models = domains["model"].values() if "model" in domains else (Config().model,)
    parameters: dict[str, Parameter] = {}
    for key, row in rows.items():
        where = f"{source}: parameters.{key}"
        when = {
            parent: tuple(value) if isinstance(value, list) else (value,)
            for parent, value in row.when.items()
        }
        _check_key(key, when.get("model", models), where)
        for value in _ends(domains[key]):
            _check_value(key, value, where)
        conditions = tuple(Condition(parent, values) for parent, values in when.items())
        if row.per_stage:
            if key not in _PER_STAGE:
                _refuse(f"{where}.per_stage", True, f"only for {' or '.join(_PER_STAGE)}")
            for name, depths in _stages(key, domains.get("depth"), source).items():
                parameters[name] = Parameter(name, domains[key], conditions + depths)
        else:
            parameters[key] = Parameter(key, domains[key], conditions)
    return parameters


def _stages(key: str, depth: Domain | None, source: str) -> dict[str, tuple[Condition, ...]]:
    if depth is None:
        return {f"{key}.{stage}": () for stage in range(1, Config().depth + 1)}
    for value in _ends(depth):
        _check_value("depth", value, f"{source}: parameters.depth")
    depths = [value for value in depth.values() if isinstance(value, int)]
    return {
        f"{key}.{stage}": (Condition("depth", tuple(value for value in depths if value >= stage)),)
        for stage in range(1, max(depths) + 1)
    }


def constant(key: str, value: Scalar, models: Collection[Scalar], source: str) -> Parameter:
    """Make a parameter with one value, like a bare value in TOML.

    Args:
        key: name of the parameter.
        value: the value.
        models: the models that the space has.
        source: the words of an error in front of the key, such as `"my.toml: config."`.

    Raises:
        InputError: `Config` does not have the field, or refuses the value.
    """
    where = f"{source}{key}"
    _check_key(key, models, where)
    domain = _domain(key, _row(key, value, where), where)
    for option in _ends(domain):
        _check_value(key, option, where)
    return Parameter(key, domain)


def _refuse(where: str, received: object, allowed: str) -> NoReturn:
    raise InputError(f"{where}: received {received!r}. Allowed: {allowed}")


def _row(key: str, row: Any, where: str) -> _Table:
    row = plain(key, row, where)
    if isinstance(row, str | bool | int | float):
        return _Table(choices=[row])
    if not isinstance(row, Mapping):
        _refuse(where, row, "one value, or a table such as { choices = [...] } or { low = 1, high = 2 }")
    return validate(_Table, row, where)


def plain(key: str, value: Any, where: str) -> Any:
    """Convert each text of a parameter that counts something, such as "200k", to a number.

    Raises:
        InputError: the text is no number, or a number is not finite.
    """
    if isinstance(value, float) and not math.isfinite(value):
        _refuse(where, value, "a finite number")
    if key not in _QUANTITIES:
        return value
    if isinstance(value, Mapping):
        # The values of a condition belong to other parameters.
        return {
            name: each if name == "when" else plain(key, each, f"{where}.{name}")
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [plain(key, each, where) for each in value]
    try:
        return quantity(value)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None


def _domain(key: str, row: _Table, where: str) -> Domain:
    for name in ("choices", "low", "high", "step"):
        value = getattr(row, name)
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                _refuse(f"{where}.{name}", number, "finite numbers")
    if row.choices is not None:
        for name in ("low", "high", "step", "log"):
            if name in row.model_fields_set:
                _refuse(f"{where}.{name}", getattr(row, name), "either choices, or low and high")
        return _choice(key, row.choices, f"{where}.choices")
    if row.low is None or row.high is None:
        missing = "low" if row.low is None else "high"
        raise InputError(f"{where}.{missing}: missing key. Allowed: choices, or low and high")
    return _range(key, row.low, row.high, row.step, row.log, where)


def _choice(key: str, received: list[Scalar], where: str) -> Choice:
    kinds = {type(option) for option in received}
    if kinds <= {int, float} and (key in _REALS or float in kinds):
        options: list[Scalar] = [float(option) for option in received]
    elif len(kinds) > 1:
        _refuse(where, received, "values of one type")
    else:
        options = received
    if not options:
        _refuse(where, received, "at least one value")
    if len(set(options)) < len(options):
        _refuse(where, received, "each value once")
    return Choice(tuple(options))


def _range(key: str, low: float, high: float, step: float | None, log: bool, where: str) -> Integers | Reals:
    if low > high:
        _refuse(f"{where}.low", low, f"at most high, {high!r}")
    if log and step is not None:
        _refuse(f"{where}.step", step, "step or log, not both")
    if log and low <= 0:
        _refuse(f"{where}.low", low, "above 0 when log = true")
    if step is not None and step <= 0:
        _refuse(f"{where}.step", step, "above 0")
    domain: Integers | Reals
    if isinstance(low, int) and isinstance(high, int) and not isinstance(step, float) and key not in _REALS:
        domain = Integers(low, high, step or 1, log)
    else:
        domain = Reals(float(low), float(high), None if step is None else float(step), log)
        if step is not None and domain.size > _MOST_POINTS:
            _refuse(f"{where}.step", step, f"at most {_MOST_POINTS} points, or no step for an interval")
    if step is not None and (last := domain.values()[-1]) != high:
        # Optuna and Keras Tuner would shorten such a range in different ways.
        _refuse(f"{where}.high", high, f"low plus a multiple of step, such as {last}")
    return domain


def _ends(domain: Domain) -> tuple[Scalar, ...]:
    """Return the values to check with `Config`: all choices, or both ends of a range."""
    return domain.options if isinstance(domain, Choice) else domain.bounds


def _check_key(key: str, models: Collection[Scalar], where: str) -> None:
    if key in FIELDS:
        return
    if key == "options":
        _refuse(where, key, "each option as a parameter of its own")
    if not key.isidentifier() or not all(":" in str(model) for model in models):
        raise InputError(
            f"{where}: unknown key, {choices(key, FIELDS)}; "
            'with your own builder, model = "package.module:function", also its keyword arguments'
        )


def _check_value(key: str, value: Scalar, where: str) -> None:
    if key in _REALS and not isinstance(value, float):  # Pydantic would take true and "0.1".
        _refuse(where, value, "a number")
    if key in FIELDS:
        try:
            validate(Config, {**_BESIDE.get(key, {}), key: value}, "")
        except InputError as error:
            message = str(error).removeprefix(": ").removeprefix(f"{key}: ")
            raise InputError(f"{where}: {message}") from None


def parents_first(parameters: Mapping[str, Parameter], source: str) -> tuple[Parameter, ...]:
    """Sort the parameters so that each comes after its parents, and check the conditions.

    Raises:
        InputError: conditions form a cycle, or name an unknown parent or a value that the parent never has.
    """
    ordered: dict[str, Parameter] = {}

    def place(name: str, path: tuple[str, ...]) -> None:
        where = f"{source}: parameters.{name}.when"
        if name in path:
            cycle = " -> ".join((*path[path.index(name) :], name))
            raise InputError(f"{where}: received a cycle, {cycle}. Allowed: no cycle")
        if name in ordered:
            return
        conditions = []
        for condition in parameters[name].when:
            if condition.parent not in parameters:
                raise one_of(where, condition.parent, [other for other in parameters if other != name])
            place(condition.parent, (*path, name))
            conditions.append(_checked(condition, parameters[condition.parent].domain, where))
        ordered[name] = replace(parameters[name], when=tuple(conditions))

    for name in parameters:
        place(name, ())
    return tuple(ordered.values())


def _checked(condition: Condition, domain: Domain, where: str) -> Condition:
    where = f"{where}.{condition.parent}"
    if math.isinf(domain.size):
        _refuse(where, domain, "a parent with choices, integers or a step")
    values = tuple(domain.coerce(value) for value in condition.values)
    for value in values:
        if value not in domain:
            if isinstance(domain, Choice) and isinstance(value, str):
                raise one_of(where, value, map(str, domain.options))
            _refuse(where, value, str(domain))
    return replace(condition, values=values)
