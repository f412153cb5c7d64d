"""The small networks of a search space, where the search for one within the budgets looks first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from invact.config import BUILDERS, Config
from invact.spaces.domains import Choice
from invact.spaces.parameters import FIELDS

if TYPE_CHECKING:
    from invact.config import Scalar
    from invact.spaces.parameters import Parameter, Values
    from invact.spaces.space import SearchSpace

__all__ = ["lowered", "neighbours", "small_part", "smallest"]

_COSTLY = {
    *("model", "activation", "filters", "depth", "convolutions", "normalization", "precision"),
    *("width_rule", "reference", "width_target"),
}
"""Fields of `Config` that change the costs of a network; options of a user's builder may do so too."""

_MOST_VALUES = 12
"""Most values of one parameter that `neighbours` tries."""


def small_part(space: SearchSpace) -> SearchSpace:
    """Return the part of a space that contains a network for which each measure has its smallest value.

    A parameter that cannot change the costs keeps one value. So does a parameter with which the costs only
    rise: `filters` and `width_target` of the shipped builders, at their smallest value. Filters of single
    stages are not of this kind if a width rule scales them, because the scaled numbers are rounded. Every
    other parameter keeps all its values, because more depth may cost less, and text has no order; numbers
    come in rising order.

    Example:
        >>> from invact.spaces.space import parse_space
        >>> space = parse_space({"filters": {"choices": [32, 8, 2]}, "depth": {"choices": [2, 1]}})
        >>> list(small_part(space).grid())
        [{'filters': 2, 'depth': 1}, {'filters': 2, 'depth': 2}]
    """
    costly, rising = _costly(space), _rising(space)

    def small(parameter: Parameter) -> Parameter:
        domain = parameter.domain
        if parameter.name in rising or parameter.name not in costly:
            return replace(parameter, domain=Choice((domain.bounds[0],)))
        if isinstance(domain, Choice) and isinstance(domain.bounds[0], int | float):
            return replace(parameter, domain=Choice(tuple(sorted(domain.options))))
        return parameter

    return replace(space, parameters=tuple(map(small, space.parameters)))


def smallest(part: SearchSpace) -> dict[str, Scalar]:
    """Return the configuration of a `small_part` in which every number is the smallest.

    It need not be the smallest network, because more depth may cost less.
    """
    return _complete(part, {})


def lowered(part: SearchSpace, values: Values) -> dict[str, Scalar]:
    """Return the configuration of a `small_part` that is nearest to a configuration of the whole space.

    Its network costs at most as much.

    Example:
        >>> from invact.spaces.space import parse_space
        >>> part = small_part(parse_space({"filters": {"choices": [8, 2]}, "depth": {"choices": [2, 1]}}))
        >>> lowered(part, {"filters": 8, "depth": 2})
        {'filters': 2, 'depth': 2}
    """
    return _complete(part, values)


def neighbours(part: SearchSpace, values: Values) -> Iterator[dict[str, Scalar]]:
    """Yield the configurations that differ from a configuration in one parameter and what depends on it.

    Of a parameter with many values, some that are spread over its range are tried.
    """
    for parameter in part.parameters:
        if parameter.name in values and parameter.domain.size > 1:
            for value in _spread(parameter):
                if value != values[parameter.name]:
                    yield _complete(part, {**values, parameter.name: value})


def _complete(part: SearchSpace, wanted: Values) -> dict[str, Scalar]:
    values: dict[str, Scalar] = {}
    for parameter in part.parameters:
        if parameter.active(values):
            value = wanted.get(parameter.name)
            values[parameter.name] = (
                value if value is not None and value in parameter.domain else parameter.domain.bounds[0]
            )
    return values


def _spread(parameter: Parameter) -> list[Scalar]:
    domain = parameter.domain
    if domain.size <= _MOST_VALUES:
        return list(domain.values())
    if domain.size < float("inf"):
        every, last = domain.values(), int(domain.size) - 1
        return [every[round(last * step / (_MOST_VALUES - 1))] for step in range(_MOST_VALUES)]
    low, high = map(float, domain.bounds)
    return [low + (high - low) * step / (_MOST_VALUES - 1) for step in range(_MOST_VALUES)]


def _costly(space: SearchSpace) -> set[str]:
    """Return the parameters that can change the costs, or whether a parameter that can is active."""
    costly: set[str] = set()
    for parameter in reversed(space.parameters):  # Children come after their parents.
        key = parameter.name.split(".")[0]
        if key in _COSTLY or key not in FIELDS or parameter.name in costly:
            costly |= {parameter.name, *(condition.parent for condition in parameter.when)}
    return costly


def _rising(space: SearchSpace) -> set[str]:
    """Return the parameters with which every measure rises or stays equal, whatever the others are."""
    domains = {parameter.name: parameter.domain for parameter in space.parameters}
    models = domains["model"].values() if "model" in domains else (Config().model,)
    rules = domains["width_rule"].values() if "width_rule" in domains else (Config().width_rule,)
    if not set(models) <= set(BUILDERS):
        return set()
    scaled = not set(rules) <= {"filters", "channels"}
    parents = {condition.parent for parameter in space.parameters for condition in parameter.when}
    rising = {"width_target", "filters", *(name for name in domains if name.startswith("filters."))}
    if scaled:
        rising -= {name for name in domains if name.startswith("filters.")}
    return (rising & set(domains)) - parents
