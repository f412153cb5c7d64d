"""Functions that write a Keras model as the bytes of a `.keras` file, and read one without running code."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

from invact.errors import InputError, one_line
from invact.networks.settings import keras_settings

__all__ = ["pack", "read_model", "unpack"]


def pack(model: Any) -> bytes:
    """Return a Keras model as the bytes of a `.keras` archive.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((4, 3)), keras.layers.Flatten()])
        >>> unpack(pack(model)).output_shape
        (None, 12)
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # Keras 3.15 converts a TensorFlow variable in a way that NumPy 2 deprecates.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        path = Path(folder) / "model.keras"
        model.save(path)
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


def read_model(path: Path) -> Any:
    """Read a `.keras` file in safe mode, because it may come from an unknown source.

    Raises:
        InputError: there is no such file, or it cannot be read safely.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return _load(path, str(path))


def _load(path: Path, place: str) -> Any:
    import keras

    from invact import layers  # noqa: F401 registers the layers that the file may use

    try:
        # Safe mode keeps a model from an unknown source from running code.
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        reason = one_line(error).replace(str(path), path.name)
        raise InputError(f"{place}: not a .keras model that can be read safely ({reason})") from None
