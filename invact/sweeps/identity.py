"""The identity of a sweep: a hash of everything that decides its results."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from invact.config import digest
from invact.spaces.space import SearchSpace

__all__ = ["earlier_identity", "identity_of"]

_EARLIER_KEYS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("driver", "enqueue", "imports", "sampler", "seed", "seeds", "split_seed", "validation_fraction"), ()
    ),
    "objective": (
        *("kind", "cost", "max_macs", "max_params", "max_activation_bytes", "max_bytes_moved"),
        *("max_latency_ms", "min_accuracy", "target", "exponent"),
    ),
    "timing": ("runtime", "batch", "threads"),
}
"""The keys of a sweep's file, and of its tables, when the earlier formula was in use."""


def identity_of(settings: Mapping[str, Any], space: SearchSpace, sampler: str, data: str) -> str:
    """Hash what decides the results of a sweep, as canonical JSON.

    Everything that has its default value is left out. So a new key of the file, or a new field of a domain,
    changes no identity, as long as its default means what was done before.

    Args:
        settings: the values of the file that are not their defaults, JSON-like.
        space: the search space, with the file's `config` fixed in it.
        sampler: the sampler of the driver.
        data: the digest of the data set.

    Example:
        >>> from invact.spaces.space import parse_space
        >>> space = parse_space({"filters": {"low": 4, "high": 8}})
        >>> same = parse_space({"filters": {"low": 4, "high": 8, "step": 1}})
        >>> identity_of({}, space, "tpe", "abc") == identity_of({}, same, "tpe", "abc")
        True
        >>> identity_of({}, space, "tpe", "abc") == identity_of({"seed": 1}, space, "tpe", "abc")
        False
    """
    parameters = [
        {"name": each.name, "domain": _changed(each.domain)}
        | ({"when": [[one.parent, list(one.values)] for one in each.when]} if each.when else {})
        for each in space.parameters
    ]
    return digest({"settings": dict(settings), "space": parameters, "sampler": sampler, "data": data})


def _changed(domain: Any) -> dict[str, Any]:
    """The fields of a domain that are not their defaults; a domain of integers has other JSON than reals."""
    values = {
        field.name: (getattr(domain, field.name), field.default) for field in dataclasses.fields(domain)
    }
    return {name: value for name, (value, default) in values.items() if value != default}


def earlier_identity(
    every: Mapping[str, Any], settings: Mapping[str, Any], space: SearchSpace, sampler: str, data: str
) -> str | None:
    """The identity that the versions before `identity_of` gave a sweep, so that its record is found.

    Args:
        every: all values of the file, JSON-like.
        settings: those of them that are not their defaults.
        space: the search space, with the file's `config` fixed in it.
        sampler: the sampler of the driver.
        data: the digest of the data set.

    Returns:
        None if the file has a value that those versions did not know.
    """
    if _known(settings) != settings:
        return None
    named = {"space": repr(space.parameters), "data": data, "sampler": sampler}
    return digest(_known(every) | named)


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: {name: value[name] for name in inner if name in value}
        if (inner := _EARLIER_KEYS[key])
        else value
        for key, value in values.items()
        if key in _EARLIER_KEYS
    }
