"""Functions that LiteRT and ONNX Runtime share: a silent Keras export, and batches for calibration."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.process.quiet import silent_stderr

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["batches", "exported"]


def exported(model: Any, kind: str, suffix: str, batch: int | None, **options: Any) -> bytes:
    """Export a model with Keras, and return the bytes of the file.

    Args:
        model: a model with one input.
        kind: Keras' name of the format.
        suffix: the suffix that Keras requires for the file.
        batch: number of images at a time; None allows any number.
        **options: options of Keras' exporter.
    """
    import keras

    (image,) = model.inputs
    signature = [keras.InputSpec(shape=(batch, *image.shape[1:]), dtype=image.dtype, name=image.name)]
    with tempfile.TemporaryDirectory() as folder, silent_stderr(), warnings.catch_warnings():
        # Keras 3.15 uses a name that NumPy warns about.
        warnings.filterwarnings("ignore", "In the future `np.object` will be defined", FutureWarning)
        path = Path(folder) / f"model{suffix}"
        model.export(path, format=kind, verbose=False, input_signature=signature, **options)
        return path.read_bytes()


def batches(images: NDArray[Any], batch: int | None) -> Iterator[NDArray[np.float32]]:
    """Split images into full batches; without a fixed batch, each image is one batch.

    Example:
        >>> [part.tolist() for part in batches(np.array([[1], [2], [3]]), 2)]
        [[[1.0], [2.0]], [[3.0], [1.0]]]
    """
    size = batch or 1
    count = -(-len(images) // size)
    # `resize` fills the last batch with the first images again.
    filled = np.resize(images, (count * size, *images.shape[1:])).astype(np.float32)
    yield from np.split(filled, count)
