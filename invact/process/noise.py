"""How invact's own processes load TensorFlow, silently and quickly, and hide the warnings of libraries."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TextIO

from invact.process.quiet import silent_stderr

__all__ = ["hide_start_messages", "own_imports", "own_warnings"]

EXTRAS = ("jax", "matplotlib", "pandas", "pyarrow", "sklearn")
"""Libraries that TensorFlow and Keras import if they are installed, for functions that invact never calls."""

OWN = "shows_own_warnings"
"""The attribute of the function that `own_warnings` has set, which is set once however often it is called."""


def hide_start_messages() -> None:
    """Discard what TensorFlow prints when it is loaded, whoever loads it.

    Keras, Keras Tuner and the user's own modules import TensorFlow, too. Some of its messages ignore
    `TF_CPP_MIN_LOG_LEVEL`.
    """
    if "tensorflow" not in sys.modules and not any(isinstance(each, _Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def own_imports() -> None:
    """Let TensorFlow be loaded without its `EXTRAS`, which take half of the time and 250 MB.

    Keras then does not know a table of pandas when it gets one, so only a process of invact's own calls this.
    The extras themselves can be imported as always, before and after.
    """
    hide_start_messages()
    for each in sys.meta_path:
        if isinstance(each, _Finder):
            each.without = EXTRAS


@contextlib.contextmanager
def _hidden(names: Sequence[str]) -> Iterator[None]:
    """Let imports of libraries fail in the block, unless they were imported before."""
    hidden = [name for name in names if name not in sys.modules]
    # Python raises a ModuleNotFoundError for a name whose module is None.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


class _Finder:
    """Finds TensorFlow as Python does, and lets it be loaded in silence and without some libraries."""

    without: Sequence[str] = ()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def in_silence(module: ModuleType) -> None:
                with silent_stderr(), _hidden(self.without):
                    load(module)

            spec.loader.exec_module = in_silence  # type: ignore[method-assign]
        return spec


def own_warnings() -> None:
    """Show Python's warnings only if they concern the user's own files, and not those of libraries.

    Warnings that `python -W` turns into errors are still raised.
    """
    show = warnings.showwarning
    if getattr(show, OWN, False):
        return
    libraries = (sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    folders = [Path(folder).resolve() for folder in (*libraries, str(Path(__file__).parents[1]))]

    def showwarning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not any(Path(filename).resolve().is_relative_to(folder) for folder in folders):
            show(message, category, filename, lineno, file, line)

    setattr(showwarning, OWN, True)
    warnings.showwarning = showwarning
