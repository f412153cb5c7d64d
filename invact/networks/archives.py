"""Functions that write a Keras model as the bytes of a `.keras` file, and read one without running code."""

from __future__ import annotations

import re
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

from invact.errors import InputError, one_line
from invact.networks.settings import keras_settings

__all__ = ["brief", "pack", "read_model", "unpack"]


def pack(model: Any) -> bytes:
    """Return a Keras model as the bytes of a `.keras` archive.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((4, 3)), keras.layers.Flatten()])
        >>> unpack(pack(model)).output_shape
        (None, 12)
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        _save(model, path)
        return path.read_bytes()


def unpack(content: bytes, place: str = "archive") -> Any:
    """Read a model that `pack` has written, in safe mode as `read_model` does.

    The global settings of Keras do not change the model; see `keras_settings`.

    Args:
        content: the bytes.
        place: the name for the bytes in an error message.

    Raises:
        InputError: the bytes are not a `.keras` archive, or cannot be read safely.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        path.write_bytes(content)
        with keras_settings():
            return _load(path, place)


def saved_copy(model: Any) -> Any:
    """Save a model and read it again in safe mode, as `unpack` does; raise the errors of Keras as they are.

    Example:
        >>> import keras
        >>> saved_copy(keras.Sequential([keras.Input((4, 3)), keras.layers.Flatten()])).output_shape
        (None, 12)
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        _save(model, path)
        with keras_settings():
            return _read(path)


def read_model(path: Path) -> Any:
    """Read a `.keras` file in safe mode, because it may come from an unknown source.

    Raises:
        InputError: there is no such file, or it cannot be read safely.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return _load(path, str(path))


def brief(error: BaseException) -> str:
    """Write the first sentence of an error of Keras' saving, whose messages contain whole configurations.

    Example:
        >>> brief(TypeError("Model could not be read. Exception encountered: No class 'A'. Full config: {}"))
        "TypeError: No class 'A'"
    """
    text = one_line(InputError(str(error).rpartition("Exception encountered: ")[2]))
    return f"{type(error).__name__}: {re.split('[.:] |[.:]$', text, maxsplit=1)[0][:200]}"


def _save(model: Any, path: Path) -> None:
    with warnings.catch_warnings():
        # Keras 3.15 converts a TensorFlow variable in a way that NumPy 2 deprecates.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        model.save(path)


def _read(path: Path) -> Any:
    import keras

    from invact import layers  # noqa: F401 registers the layers that the file may use

    # Safe mode keeps a model from an unknown source from running code.
    return keras.saving.load_model(path, compile=False, safe_mode=True)


def _load(path: Path, place: str) -> Any:
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise InputError(f"{place}: {error.strerror or error}") from None
    if not zipfile.is_zipfile(path):
        # Keras says of such a file that it is not found.
        raise InputError(
            f"{place}: {_kind(start)}. Allowed: a .keras file, as model.save writes it in Keras 3"
        )
    try:
        return _read(path)
    except Exception as error:
        reason = brief(error).replace(str(path), path.name)
        raise InputError(f"{place}: not a .keras model that can be read safely ({reason})") from None


def _kind(start: bytes) -> str:
    """Name the kind of a file that is no archive, from its first eight bytes."""
    if start == b"\x89HDF\r\n\x1a\n":
        return "an HDF5 file"
    if start[4:] == b"TFL3":
        return "a LiteRT file"
    if start[:2] == b"PK":
        return "a damaged .keras file, not complete"
    return "not a .keras file" if start else "an empty file"
