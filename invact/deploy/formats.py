"""Formats: the kinds of file that a network is exported to, and functions that write and run them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.deploy.runtimes import Session, convert, load
from invact.deploy.sidecar import presented
from invact.errors import EnvironmentFault
from invact.files import write_atomically
from invact.networks.archives import pack, unpack
from invact.networks.settings import keras_settings
from invact.process.quiet import silent_stderr

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FORMATS", "Format", "draft_folder", "open_format", "publish", "size_of", "write_format"]


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        suffix: the end of the file's name. A suffix without a dot stands for a folder.
        runtime: the runtime that runs the file, a key of `invact.deploy.runtimes.RUNTIMES`.
    """

    suffix: str
    runtime: str


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "keras": Format(".keras", "tensorflow"),
        "litert": Format(".tflite", "litert"),
        "onnx": Format(".onnx", "onnx"),
        "saved_model": Format("_saved_model", "tensorflow"),
    }
)
"""The formats that `export_point` can write, by name."""


@keras_settings()  # No setting of the user changes the file.
def write_format(
    path: Path,
    name: str,
    archive: bytes,
    precision: str = "float32",
    calibration: NDArray[Any] | None = None,
    *,
    softmax: bool = False,
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write a network to a file, or to a folder for `saved_model`.

    The input is named `image`, and the output `logits` or `probabilities`. In LiteRT and in a SavedModel,
    these are the names of the signature `serving_default`.

    Args:
        path: the path to write to; its suffix must be the suffix of the format.
        name: a key of `FORMATS`.
        archive: the network, as the bytes of a `.keras` archive.
        precision: a precision of the format's runtime.
        calibration: images for `int8`; see `invact.deploy.runtimes.convert`.
        softmax: whether the output is the softmax of the logits.
        metadata: texts to store in the file, by key; only ONNX can do so.

    Raises:
        InputError: the network cannot be read or converted.
        EnvironmentFault: a library is missing, or the file cannot be written.
    """
    import keras

    model = presented(unpack(archive), softmax=softmax)
    if name == "keras":
        write_atomically(path, pack(model))
        return
    (output,) = model.outputs
    # The keys of a dictionary become the names of the outputs.
    model = keras.Model(model.inputs, {model.output_names[0]: output}, name=model.name)
    if name == "saved_model":
        (image,) = model.inputs
        signature = [keras.InputSpec(shape=image.shape, dtype=image.dtype, name=image.name)]
        with silent_stderr():
            model.export(path, format="tf_saved_model", verbose=False, input_signature=signature)
        return
    content = convert(model, FORMATS[name].runtime, precision, calibration=calibration)
    write_atomically(path, _with_metadata(content, metadata) if name == "onnx" else content)


def _with_metadata(content: bytes, metadata: Mapping[str, str]) -> bytes:
    import onnx

    model = onnx.load_from_string(content)
    onnx.helper.set_model_props(model, dict(metadata))
    changed: bytes = model.SerializeToString()
    return changed


def open_format(path: Path, name: str) -> Session:
    """Load a file or folder that `write_format` wrote, ready to run."""
    if name != "saved_model":
        return load(path.read_bytes(), FORMATS[name].runtime)
    import tensorflow as tf

    # The session must keep a reference, because the variables are deleted together with `loaded`.
    loaded = tf.saved_model.load(str(path))

    def session(images: NDArray[Any]) -> NDArray[np.float32]:
        (outputs,) = loaded.serve(tf.constant(images, tf.float32)).values()
        found: NDArray[np.float32] = outputs.numpy()
        return found

    return session


def size_of(path: Path) -> int:
    """Return the size in bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


@contextlib.contextmanager
def draft_folder(folder: Path) -> Iterator[Path]:
    """Make a temporary folder inside a folder, so that `publish` can rename a draft to its final path.

    Raises:
        EnvironmentFault: the folder cannot be written.
    """
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        drafts = tempfile.TemporaryDirectory(prefix=".invact-", dir=folder)
    with drafts as inside:
        yield Path(inside)


def publish(draft: Path, path: Path, sidecar: Path) -> None:
    """Rename a draft and its sidecar to their final paths, and replace an existing file or folder.

    If the process is killed in between, there is no sidecar that belongs to another file.

    Args:
        draft: the draft; its sidecar is in the same folder and has the final name.
        path: the final path.
        sidecar: the final path of the sidecar.

    Raises:
        EnvironmentFault: a path cannot be written.
    """
    with _writing(sidecar):
        sidecar.unlink(missing_ok=True)
    with _writing(path):
        if draft.is_dir() and path.exists():
            # A rename cannot replace a folder that contains files.
            path.replace(draft.with_name("old"))
        draft.replace(path)
    with _writing(sidecar):
        draft.with_name(sidecar.name).replace(sidecar)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written: {error.strerror or error}") from None
