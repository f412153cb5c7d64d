"""Contract suites: subclass one in a test file, name your own part in it, and pytest runs its tests.

The modules need pytest: `pip install 'invact[testing]'`.

Example:
    >>> from invact.testing import BuilderContract
    >>> class TestMine(BuilderContract):
    ...     builder = "my_models:strided"
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from invact.testing.builders import BuilderContract
    from invact.testing.drivers import DriverContract
    from invact.testing.procedures import ProcedureContract
    from invact.testing.runtimes import RuntimeContract

_HOMES = {
    "BuilderContract": f"{__name__}.builders",
    "DriverContract": f"{__name__}.drivers",
    "ProcedureContract": f"{__name__}.procedures",
    "RuntimeContract": f"{__name__}.runtimes",
}

# Without this, a failing assert in a suite would not show its values.
pytest.register_assert_rewrite(*_HOMES.values())

__all__ = ["BuilderContract", "DriverContract", "ProcedureContract", "RuntimeContract"]


def __getattr__(name: str) -> Any:
    # Lazy, because only some of the suites need TensorFlow.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
