"""Files: writing whole files, reading TOML, finding what is shipped, and the folders of the cache."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from invact.errors import EnvironmentFault, InputError, one_of

__all__ = ["beside", "cache_folder", "data_folder", "find", "read_toml", "shipped", "write_atomically"]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Raises:
        EnvironmentFault: it cannot be written.
    """
    # In the same folder, as a rename does not cross file systems.
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        # The folder may be no folder, which is the error being reported.
        if draft.parent.is_dir():
            draft.unlink(missing_ok=True)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        InputError: the file cannot be read, or does not parse (with line and column).
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}") from None


def _shelf(kind: str) -> Path:
    package = Path(__file__).parent
    # In a wheel the folder lies inside the package, in a checkout beside it.
    inside = package / "shipped" / kind
    return inside if inside.is_dir() else package.parent / kind


def shipped(kind: str) -> list[str]:
    """Name the files that come with invact.

    Args:
        kind: `search_spaces` or `sweeps`.

    Example:
        >>> "cnn" in shipped("search_spaces")
        True
    """
    return sorted(path.stem for path in _shelf(kind).glob("*.toml"))


def find(kind: str, reference: str | Path, folder: Path | None = None) -> Path:
    """Find the TOML file that a user means: a path is taken as a path, a bare name is a shipped one.

    Args:
        kind: `search_spaces` or `sweeps`.
        reference: a bare name, or a path (it has a separator or ends in `.toml`).
        folder: what a relative path is relative to; the current folder unless given.

    Raises:
        InputError: no such file, or no such shipped name (names the nearest).

    Example:
        >>> find("search_spaces", "cnn").name
        'cnn.toml'
    """
    text = str(reference)
    if "\0" in text:
        raise InputError(f"{kind}: received {text!r}. Allowed: a name or a path without NUL")
    if isinstance(reference, Path) or text.endswith(".toml") or "/" in text or os.sep in text:
        path = (folder or Path()) / reference
        try:
            found = path.is_file()
        except OSError:
            found = False
        if not found:
            raise InputError(f"{text!r}: no such file")
        return path
    if text not in shipped(kind):
        raise one_of(kind, text, shipped(kind))
    return _shelf(kind) / f"{text}.toml"


def beside(file: Path, reference: str) -> str:
    """Resolve a path that a file names: relative to that file. A bare name stays as it is.

    Example:
        >>> beside(Path("/here/my.toml"), "digits")
        'digits'
        >>> beside(Path("/here/my.toml"), "images/my.npz")
        '/here/images/my.npz'
    """
    is_path = "/" in reference or os.sep in reference or Path(reference).suffix
    return str(file.parent.absolute() / reference) if is_path else reference


def cache_folder() -> Path:
    """Return the folder for what can be measured or fetched again: `$INVACT_CACHE`, or the system's own.

    The system's own is `~/.cache/invact` on Linux, and the user's cache folder on macOS and Windows.
    """
    return Path(os.environ.get("INVACT_CACHE") or user_cache_path("invact", appauthor=False))


def data_folder() -> Path:
    """Return the folder of the data sets: `$INVACT_DATA`, or `datasets` in the system's cache folder."""
    given = os.environ.get("INVACT_DATA")
    return Path(given) if given else user_cache_path("invact", appauthor=False) / "datasets"
