"""Files: write a file atomically, read TOML, find the files that invact ships, and locate cache folders."""

from __future__ import annotations

import codecs
import os
import tomllib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from invact.errors import EnvironmentFault, InputError, one_of

__all__ = [
    "beside",
    "cache_folder",
    "data_folder",
    "find",
    "formats_of",
    "install",
    "read_text",
    "read_toml",
    "shipped",
    "write_atomically",
]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees either the old content or the new content, never a part of it.

    Raises:
        EnvironmentFault: the file cannot be written.
    """
    # The draft is in the same folder, because a rename cannot move a file to another file system.
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made anew, because in a folder that others can write, a file of this name may be a link of theirs.
        draft.unlink(missing_ok=True)
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        # If the parent is not a folder, that is the error that is being reported.
        if draft.parent.is_dir():
            draft.unlink(missing_ok=True)


def read_text(path: Path) -> str:
    """Read a text file of the user. The text does not contain the byte order mark of the file.

    Raises:
        InputError: the file cannot be read, or is not UTF-8. UTF-16 is named, because some editors and shells
            of Windows write it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{path}: received UTF-16 text. Allowed: UTF-8; save the file in this encoding")
    if b"\0" in content:
        raise InputError(
            f"{path}: received NUL bytes, as in UTF-16 text or in a file that is no text. Allowed: UTF-8 text"
        )
    try:
        # As when a file is opened as text, a line may end in CR LF.
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file, with or without a byte order mark.

    Raises:
        InputError: the file cannot be read, or is not TOML; the message gives the line and the column.
    """
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}") from None


def formats_of(names: Iterable[str], allowed: Collection[str], key: str = "format") -> list[str]:
    """Return the names of the formats to write, each once.

    Raises:
        InputError: a format is unknown; the message suggests the most similar one.

    Example:
        >>> formats_of(["csv", "png", "csv"], ["csv", "png", "svg"])
        ['csv', 'png']
    """
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        if name not in allowed:
            raise one_of(key, name, allowed)
    return chosen


_FOLDERS = {"recipe": "sweeps/recipes"}
"""The folder of a kind, if its name is not that of the kind."""


def _shelf(kind: str) -> Path:
    package, folder = Path(__file__).parent, _FOLDERS.get(kind, kind)
    # A wheel contains the folder inside the package; in a checkout it is next to the package.
    inside = package / "shipped" / folder
    return inside if inside.is_dir() else package.parent / folder


def shipped(kind: str) -> list[str]:
    """List the names of the files of one kind that invact ships.

    Args:
        kind: `search_spaces`, `sweeps` or `recipe`.

    Example:
        >>> "cnn" in shipped("search_spaces")
        True
    """
    return sorted(path.stem for path in _shelf(kind).glob("*.toml"))


def find(kind: str, reference: str | Path, folder: Path | None = None) -> Path:
    """Find the TOML file that a user refers to by a path, or by the name of a shipped file.

    Args:
        kind: `search_spaces`, `sweeps` or `recipe`; it starts the message of an error.
        reference: the name of a shipped file, or a path. A text is a path if it contains a separator or ends
            in `.toml`.
        folder: the folder that a relative path starts from; by default the current folder.

    Raises:
        InputError: there is no such file, or no shipped file of that name; the message then suggests the
            most similar name.

    Example:
        >>> find("search_spaces", "cnn").name
        'cnn.toml'
    """
    text = str(reference)
    if "\0" in text:
        raise InputError(f"{kind}: received {text!r}. Allowed: a name or a path without a NUL character")
    if isinstance(reference, Path) or text.endswith(".toml") or "/" in text or os.sep in text:
        path = (folder or Path()) / reference
        if not _is_file(path):
            raise InputError(f"{text!r}: no such file")
        return path
    if text not in shipped(kind):
        if _is_file(Path(text)):
            raise InputError(
                f"{text!r}: not a TOML file. Allowed: a path that ends in .toml, or the name of one of "
                f"{', '.join(shipped(kind))}"
            )
        raise one_of(kind, text, shipped(kind))
    return _shelf(kind) / f"{text}.toml"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # for example a name that is too long
        return False


def beside(file: Path, reference: str) -> str:
    """Resolve a path that is written in a file, relative to the folder of that file.

    A reference without a separator and without a suffix is a name, not a path, and is returned unchanged.

    Example:
        >>> beside(Path("/here/my.toml"), "digits")
        'digits'
        >>> beside(Path("/here/my.toml"), "images/my.npz")
        '/here/images/my.npz'
    """
    is_path = "/" in reference or os.sep in reference or Path(reference).suffix
    return str(file.parent.absolute() / reference) if is_path else reference


def cache_folder() -> Path:
    """Return the folder for results that can be measured again: `$INVACT_CACHE`, or a default.

    The default is `~/.cache/invact` on Linux, and the user's cache folder on macOS and Windows.
    """
    return Path(os.environ.get("INVACT_CACHE") or user_cache_path("invact", appauthor=False))


def data_folder() -> Path:
    """Return the folder of data sets: `$INVACT_DATA`, or `invact/datasets` in the user's cache folder."""
    given = os.environ.get("INVACT_DATA")
    return Path(given) if given else user_cache_path("invact", appauthor=False) / "datasets"


def install(extra: str) -> str:
    """Return the command that installs an extra of invact; in a checkout, it names the folder.

    Example:
        >>> install("onnx").startswith("pip install ")
        True
    """
    root = Path(__file__).parents[1]
    # `invact` alone may be unknown to pip, or be another version than this checkout.
    if (root / "pyproject.toml").is_file():
        return f"pip install -e '{root}[{extra}]'"
    return f"pip install 'invact[{extra}]'"
