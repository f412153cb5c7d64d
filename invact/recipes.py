"""Recipes: values of `[config]` in files of their own, which sweeps and claims name with the key `recipe`."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from invact.errors import InputError
from invact.files import find, read_toml

__all__ = ["Recipe", "read_recipe"]

# What reads `[config]` starts a message with "config.KEY: ", "config: KEY: " or "KEY: ".
_MESSAGE = re.compile(r"(?:config(?:\.|: ))?(\w+)([.:].*)", re.DOTALL)


@dataclass(frozen=True)
class Recipe:
    """The values of a recipe.

    Attributes:
        path: the file of the recipe.
        values: values of `[config]` by key. They are not checked: what a key allows depends on the other
            values of the sweep or claim.
    """

    path: Path
    values: Mapping[str, Any]

    def without(self, keys: Container[str]) -> Recipe:
        """Return the recipe without the keys that are given elsewhere.

        Example:
            >>> recipe = Recipe(Path("mine.toml"), {"epochs": 8, "filters": 16})
            >>> recipe.without({"epochs": 2}).values
            {'filters': 16}
        """
        return replace(self, values={key: value for key, value in self.values.items() if key not in keys})

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Let an error about a value of the recipe name the file of the recipe instead of `config`.

        Example:
            >>> with Recipe(Path("mine.toml"), {"epochs": 0}).blamed():
            ...     raise InputError("config: epochs: received 0")
            Traceback (most recent call last):
            ...
            invact.errors.InputError: mine.toml: epochs: received 0
        """
        try:
            yield
        except InputError as error:
            found = _MESSAGE.fullmatch(str(error))
            if found is None or found[1] not in self.values:
                raise
            raise type(error)(f"{self.path}: {found[1]}{found[2]}") from None


def read_recipe(reference: str | None, file: Path) -> Recipe:
    """Read the recipe that a file names.

    Args:
        reference: the name of a shipped recipe, or a path relative to the file; None gives a recipe without
            values.
        file: the file of the sweep or claim.

    Raises:
        InputError: there is no such recipe, or it is not TOML.

    Example:
        >>> read_recipe("mnist_fast", Path("my.toml")).values["model"]
        'cnn'
        >>> read_recipe("mnist_fats", Path("my.toml"))
        Traceback (most recent call last):
        ...
        invact.errors.InputError: recipe: received 'mnist_fats'; did you mean 'mnist_fast'? Allowed: ...
    """
    if reference is None:
        return Recipe(file, {})
    path = find("recipe", reference, file.parent)
    return Recipe(path, read_toml(path))
