"""What LiteRT and ONNX Runtime share: Keras' own export, in silence, and batches to calibrate with."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.quiet import silent_stderr

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["batches", "exported"]


def exported(model: Any, kind: str, suffix: str, batch: int | None, **options: Any) -> bytes:
    """Export a model with Keras, for a batch or any, and return the file.

    Args:
        model: of one input.
        kind: what Keras calls the format.
        suffix: what Keras wants the file's name to end in.
        batch: how many images at a time; any number for None.
        **options: of Keras' exporter.
    """
    import keras

    (image,) = model.inputs
    signature = [keras.InputSpec(shape=(batch, *image.shape[1:]), dtype=image.dtype)]
    with tempfile.TemporaryDirectory() as folder, silent_stderr(), warnings.catch_warnings():
        # Keras 3.15 asks NumPy for a name that it means to bring back.
        warnings.filterwarnings("ignore", "In the future `np.object` will be defined", FutureWarning)
        path = Path(folder) / f"model{suffix}"
        model.export(path, format=kind, verbose=False, input_signature=signature, **options)
        return path.read_bytes()


def batches(images: NDArray[Any], batch: int | None) -> Iterator[NDArray[np.float32]]:
    """Split images for a network of a fixed batch, one at a time for any; the last are filled up.

    Example:
        >>> [part.tolist() for part in batches(np.array([[1], [2], [3]]), 2)]
        [[[1.0], [2.0]], [[3.0], [1.0]]]
    """
    size = batch or 1
    count = -(-len(images) // size)
    # Repeated from the first image on.
    filled = np.resize(images, (count * size, *images.shape[1:])).astype(np.float32)
    yield from np.split(filled, count)
