"""The `SearchSpace` type: typed parameters, some of them conditional on others, and its TOML reader.

The same space works with Optuna (`suggest`), Keras Tuner (`hyperparameters`) and plain loops (`sample`,
`grid`), and imports neither library.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invact.config import Config, Scalar
from invact.errors import InputError, one_of
from invact.files import find, read_toml
from invact.spaces.domains import Choice, Domain, KerasTunerHyperParameters, OptunaTrial
from invact.spaces.parameters import (
    FIELDS,
    Condition,
    Parameter,
    Values,
    constant,
    parents_first,
    plain,
    read_parameters,
)
from invact.validation import validate

if TYPE_CHECKING:
    import numpy as np

__all__ = ["SearchSpace", "Values", "load_space", "parse_space"]


@dataclass(frozen=True)
class SearchSpace:
    """The parameters of a search; each comes after the parameters it depends on.

    Attributes:
        parameters: the parameters in the order of the file, but parents before children.
        source: name of the file or object that declares them, for error messages.

    Example:
        >>> space = parse_space({"activation": {"choices": ["relu", "inverse"]}, "epochs": 3})
        >>> list(space.grid())
        [{'activation': 'relu', 'epochs': 3}, {'activation': 'inverse', 'epochs': 3}]
    """

    parameters: tuple[Parameter, ...]
    source: str = "search space"

    def __getitem__(self, name: str) -> Parameter:
        """Return the parameter with the given flat name; raise KeyError if there is none."""
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        raise KeyError(name)

    def _walk(self, draw: Callable[[Parameter], Scalar]) -> dict[str, Scalar]:
        values: dict[str, Scalar] = {}
        for parameter in self.parameters:
            if parameter.active(values):
                values[parameter.name] = draw(parameter)
        return values

    def sample(self, rng: np.random.Generator) -> dict[str, Scalar]:
        """Draw a configuration at random: the value of each active parameter is uniform over its domain."""
        return self._walk(lambda parameter: parameter.domain.sample(rng))

    def suggest(self, trial: OptunaTrial) -> dict[str, Scalar]:
        """Return the configuration that an Optuna trial suggests. Call it in any objective function.

        Example:
            >>> import optuna
            >>> space = parse_space({"filters": {"low": 4, "high": 16, "step": 4}, "depth": 2})
            >>> space.suggest(optuna.trial.FixedTrial({"filters": 8}))
            {'filters': 8, 'depth': 2}
        """
        return self._walk(lambda parameter: parameter.domain.suggest(parameter.name, trial))

    def hyperparameters(self, hp: KerasTunerHyperParameters) -> dict[str, Scalar]:
        """Return the configuration of Keras Tuner's `HyperParameters`. Call it in any `HyperModel.build`.

        Every parameter is declared, conditional ones in a `conditional_scope`. Keras Tuner supports chains of
        conditions, but not two conditions on unrelated parents. In this case the parameter is declared with
        its longest chain, and the value is left out if the other condition does not hold.
        """
        values: dict[str, Scalar] = {}
        chains: dict[str, tuple[Condition, ...]] = {}
        for parameter in self.parameters:
            ways = ((*chains[condition.parent], condition) for condition in parameter.when)
            chains[parameter.name] = max(ways, key=len, default=())
            with ExitStack() as scopes:
                for condition in chains[parameter.name]:
                    scopes.enter_context(hp.conditional_scope(condition.parent, list(condition.values)))
                value = parameter.domain.declare(parameter.name, hp)
            if value is not None and parameter.active(values):
                values[parameter.name] = value
        return values

    def grid(self) -> Iterator[dict[str, Scalar]]:
        """Iterate over all configurations; each comes once.

        Raises:
            InputError: a range of reals has no step.
        """
        for parameter in self.parameters:
            if math.isinf(parameter.domain.size):
                raise InputError(
                    f"{self.source}: parameters.{parameter.name}: received an interval without step. "
                    "Allowed in a grid: choices, integers, or low, high and step"
                )
        return self._branches({}, 0)

    def _branches(self, values: dict[str, Scalar], index: int) -> Iterator[dict[str, Scalar]]:
        while index < len(self.parameters) and not self.parameters[index].active(values):
            index += 1
        if index == len(self.parameters):
            yield values
            return
        parameter = self.parameters[index]
        for value in parameter.domain.values():
            yield from self._branches({**values, parameter.name: value}, index + 1)

    @property
    def longest(self) -> int:
        """The largest number of epochs of a training.

        Example:
            >>> parse_space({"epochs": {"low": 3, "high": 9}}).longest, parse_space({"filters": 8}).longest
            (9, 5)
        """
        epochs = [each.domain.bounds[1] for each in self.parameters if each.name == "epochs"]
        return int(max(epochs, default=Config().epochs))

    def size(self) -> float:
        """Return the number of configurations; infinity if a range of reals that can be active has no step.

        Example:
            >>> parse_space({"filters": {"low": 4, "high": 16, "step": 4}}).size()
            4
        """
        parents = {condition.parent for parameter in self.parameters for condition in parameter.when}
        return self._count({}, 0, parents)

    def _count(self, values: dict[str, Scalar], index: int, parents: set[str]) -> float:
        total: float = 1
        for position in range(index, len(self.parameters)):
            parameter = self.parameters[position]
            if not parameter.active(values):
                continue
            if parameter.name in parents:  # Only the value of a parent changes the later count.
                return total * sum(
                    self._count({**values, parameter.name: value}, position + 1, parents)
                    for value in parameter.domain.values()
                )
            total *= parameter.domain.size
        return total

    def contains(self, values: Values) -> bool:
        """Return whether the values are exactly those of the active parameters, each within its domain."""
        try:
            return self.check(values, "") == dict(values)
        except InputError:
            return False

    def check(self, values: Values, source: str) -> dict[str, Scalar]:
        """Check a configuration that a user wrote, and return it completed with the constants.

        Args:
            values: flat values. Constants may be left out, and an integer is allowed for a real.
            source: name of the place that the values come from, for error messages.

        Raises:
            InputError: a parameter is unknown, inactive, missing or outside its domain.

        Example:
            >>> parse_space({"epochs": 3, "activation": {"choices": ["relu", "elu"]}}).check({}, "enqueue")
            Traceback (most recent call last):
            ...
            invact.errors.InputError: enqueue: activation: missing. Allowed: 'relu', 'elu'
        """
        for name in values:
            if name not in (names := [parameter.name for parameter in self.parameters]):
                raise one_of(f"{source}: parameter", name, names)
        checked: dict[str, Scalar] = {}
        for parameter in self.parameters:
            name, domain = parameter.name, parameter.domain
            if not parameter.active(checked):
                if name in values:
                    reason = f"it is active only when {' and '.join(map(str, parameter.when))}"
                    raise InputError(f"{source}: {name}: received {values[name]!r}, but {reason}")
                continue
            if name not in values and domain.size > 1:
                raise InputError(f"{source}: {name}: missing. Allowed: {domain}")
            value = domain.coerce(values[name]) if name in values else domain.values()[0]
            if value not in domain:
                raise InputError(f"{source}: {name}: received {value!r}. Allowed: {domain}")
            checked[name] = value
        return checked

    def fix(self, **values: Scalar) -> SearchSpace:
        """Return the part of the space in which the parameters have the given values.

        A key that the space does not have is added as a constant. The name of a per-stage parameter fixes it
        in every stage.

        Raises:
            InputError: a value is outside its parameter's domain, or `Config` refuses it.

        Example:
            >>> parse_space({"activation": {"choices": ["relu", "elu"]}}).fix(activation="elu").size()
            1
        """
        return self.fixed(values, f"{self.source}: ")

    def fixed(self, values: Mapping[str, Any], source: str) -> SearchSpace:
        """Return the part of the space in which the parameters have the given values, as `fix` does.

        Args:
            values: the values by key.
            source: the words of an error in front of the key, such as `"my.toml: config."`.

        Raises:
            InputError: a value is outside its parameter's domain, or `Config` refuses it.
        """
        kept, extra = {parameter.name: parameter for parameter in self.parameters}, {}
        models = kept["model"].domain.values() if "model" in kept else (Config().model,)
        for key, value in values.items():
            names = [name for name in kept if name == key or name.rpartition(".")[0] == key]
            for name in names:
                domain = kept[name].domain
                if (fixed := domain.coerce(plain(key, value, f"{source}{key}"))) not in domain:
                    raise InputError(
                        f"{source}{key}: received {value!r}. Allowed: {domain}, as in {self.source}"
                    )
                kept[name] = replace(kept[name], domain=Choice((fixed,)))
            if not names:
                extra[key] = constant(key, value, models, source)
        return _sound(SearchSpace((*extra.values(), *kept.values()), self.source), source.rstrip(".: "))

    def config(self, values: Values, **fixed: Any) -> Config:
        """Make a `Config`: per-stage values become a tuple, and keys that are not fields become `options`.

        Args:
            values: flat values of the active parameters.
            fixed: fields of `Config` that override these values.

        Example:
            >>> values = {"depth": 2, "activation.1": "relu", "activation.2": "elu"}
            >>> parse_space({"depth": 2}).config(values).activation
            ('relu', 'elu')
        """
        fields: dict[str, Any] = {}
        options: dict[str, Scalar] = {}
        for name, value in values.items():
            key, _, stage = name.rpartition(".")
            if key:
                fields.setdefault(key, []).append((int(stage), value))
            else:
                (fields if name in FIELDS else options)[name] = value
        staged = {
            key: tuple(value for _, value in sorted(stages))
            for key, stages in fields.items()
            if isinstance(stages, list)
        }
        return validate(Config, {**fields, **staged, "options": options, **fixed}, self.source)


def load_space(reference: str | Path, folder: Path | None = None) -> SearchSpace:
    """Read a search space from a TOML file.

    Args:
        reference: the bare name of a shipped search space, or a path.
        folder: the folder that a relative path starts from.

    Raises:
        InputError: a key or a value is wrong; the message names the file, the key, the received value and the
            allowed values.

    Example:
        >>> load_space("cnn")["model"].domain.values()
        ('cnn',)
    """
    path = find("search_spaces", reference, folder)
    table = read_toml(path)
    for key in table:
        if key != "parameters":
            raise one_of(f"{path}: key", key, ["parameters"])
    if not isinstance(table.get("parameters"), dict) or not table["parameters"]:
        raise InputError(f"{path}: parameters: received none. Allowed: a table with at least one parameter")
    return parse_space(table["parameters"], str(path))


def parse_space(tables: Mapping[str, Any], source: str = "search space") -> SearchSpace:
    """Make a search space from the `[parameters]` table of a TOML file.

    A bare value is a constant. A table has `choices`, or `low` and `high` with an optional `step` or `log`.
    `when` gives the conditions under which the parameter is active; `per_stage` makes one parameter for each
    stage.

    Raises:
        InputError: a key or a value is wrong; the message names the source, the key, the received value and
            the allowed values.

    Example:
        >>> parse_space({"filters": {"low": 4, "high": 16, "step": 0}})
        Traceback (most recent call last):
        ...
        invact.errors.InputError: search space: parameters.filters.step: received 0. Allowed: above 0
    """
    return _sound(SearchSpace(parents_first(read_parameters(tables, source), source), source), source)


_COUPLED = (
    *("width_rule", "optimizer", "model", "epochs", "warmup_epochs", "momentum", "nesterov"),
    *("mixup", "cutmix", "stochastic_depth", "convolutions"),
)
"""Fields whose values decide together what `Config` accepts."""


def _sound(space: SearchSpace, source: str) -> SearchSpace:
    """Make a configuration for each combination of coupled fields, to find those that `Config` refuses."""
    coupled = [each for each in space.parameters if each.name in _COUPLED]
    tried: dict[str, list[Scalar]] = {each.name: [] for each in coupled}
    for each in coupled:
        for condition in each.when:
            tried.setdefault(condition.parent, []).extend(condition.values)
    reduced = [
        replace(each, domain=Choice(_ends_and(tried.get(each.name), each.domain)))
        for each in space.parameters
    ]
    for values in SearchSpace(tuple(reduced)).grid():
        replace(space, source=source).config(values)
    return space


def _ends_and(others: Iterable[Scalar] | None, domain: Domain) -> tuple[Scalar, ...]:
    """Return the ends of a domain and other values of it, or all texts; the lower end if `others` is None."""
    first, last = domain.bounds
    if others is None:
        return (first,)
    # `Config` accepts what is between two numbers that it accepts.
    return tuple(domain.values()) if isinstance(first, str) else tuple(dict.fromkeys((first, last, *others)))
