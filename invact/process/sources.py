"""The source code of a user's modules: a hash of their files, and of all that they import."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from importlib.metadata import packages_distributions, version
from pathlib import Path

__all__ = ["source_digest"]

_DYNAMIC = {"__import__", "eval", "exec", "import_module", "run_module", "run_path"}
"""Functions that may load code which no import statement names."""

_SETTLED = {"invact", "keras", "numpy", "tensorflow"}
"""Libraries whose version each run has as a tag."""


def source_digest(modules: Iterable[str]) -> str | None:
    """Hash the source files of modules of the user, and of the user's other modules that they import.

    The import statements of each file are followed, also those inside functions. A module in the standard
    library is left out. Of a library that is installed, the version is hashed. What a module reads from other
    files, or from the environment, is not part of the hash.

    Args:
        modules: names of modules; `__main__` is the script that runs.

    Returns:
        16 hexadecimal digits. None if the code is not known: a module has no file or is part of a library, a
        file is no Python, or it loads code by other means than an import statement.

    Example:
        >>> source_digest(["no_such_module"]) is None
        True
    """
    found: dict[str, str] = {}
    waiting = list(modules)
    starts = {*waiting}
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        file = _file(name)
        if file is None:
            if name in starts:
                return None
            found[name] = _release(name.partition(".")[0])
            continue
        try:
            content = file.read_bytes()
            imported = () if file.name.endswith(tuple(EXTENSION_SUFFIXES)) else _imports(content, name, file)
        except (ImportError, OSError, SyntaxError, ValueError):
            return None
        found[name] = hashlib.sha256(content).hexdigest()
        # A package is imported before its modules.
        waiting += [".".join(name.split(".")[:depth]) for depth in range(1, name.count(".") + 1)]
        waiting += imported
    text = json.dumps(sorted((name, what) for name, what in found.items() if what))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _imports(content: bytes, name: str, file: Path) -> list[str]:
    """Return the modules that a file may import; ValueError if it may load others."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    found: list[str] = []
    for node in ast.walk(ast.parse(content)):
        match node:
            case ast.Import(names=names):
                found += [alias.name for alias in names]
            case ast.ImportFrom(module=module, names=names, level=level):
                base = module or ""
                if level:
                    base = importlib.util.resolve_name("." * level + base, package)
                # A name may be a module, or a value in the module.
                found += [base, *(f"{base}.{alias.name}" for alias in names)]
            case ast.Name(id=called) | ast.Attribute(attr=called) if called in _DYNAMIC:
                raise ValueError(f"{name}: {called}")
    return found


def _file(name: str) -> Path | None:
    """The file of a module of the user; None if there is none, or if it is part of a library."""
    if name == "__main__":
        given = getattr(sys.modules["__main__"], "__file__", None)
        return Path(given) if given else None
    top, *rest = name.split(".")
    if top in _SETTLED or top in sys.stdlib_module_names:
        return None
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        # Unlike `importlib.util.find_spec`, this imports no package. It knows the folders of the package, so
        # it needs only the last part of the name.
        spec = PathFinder.find_spec(part, [*spec.submodule_search_locations])
    return _place(spec)


def _place(spec: ModuleSpec | None) -> Path | None:
    if spec is None or spec.origin is None or not spec.has_location:
        return None
    path = Path(spec.origin)
    installed = any(path.is_relative_to(folder) for folder in _libraries())
    return None if installed or {"site-packages", "dist-packages"} & {*path.parts} else path


@functools.cache
def _libraries() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    named = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return tuple(os.path.realpath(folder) for folder in [*named, site.getusersitepackages()])


def _release(top: str) -> str:
    """The versions of the installed library that a top-level module belongs to; empty if there is none."""
    if top in _SETTLED or top in sys.stdlib_module_names:
        return ""
    return ", ".join(_versions(top))


def _versions(top: str) -> Iterator[str]:
    for distribution in sorted({*_distributions().get(top, ())}):
        yield f"{distribution} {version(distribution)}"


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()
