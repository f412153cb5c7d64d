"""Finding, reading and checking the arrays of a data set."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from invact.errors import EnvironmentFault, InputError, one_of
from invact.files import data_folder

__all__ = ["DATASETS", "Arrays", "Location", "is_available", "locate", "read"]

DATASETS: Mapping[str, str] = MappingProxyType(
    {
        "digits": "1,797 handwritten digits, 8x8, 10 classes; comes with scikit-learn",
        "mnist": "70,000 handwritten digits, 28x28, 10 classes",
        "fashion_mnist": "70,000 pictures of clothes, 28x28, 10 classes",
        "cifar10": "60,000 photographs, 32x32 in colour, 10 classes",
    }
)
"""The data sets that have a name, each with a one-line description. Any other data set comes from a path."""

_DIGITS_TEST_FRACTION = 1 / 4

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""The folder in which the Debian package `dataset-fashion-mnist` installs its files."""

_IDX_FILES = {
    "x_train": "train-images-idx3-ubyte.gz",
    "y_train": "train-labels-idx1-ubyte.gz",
    "x_test": "t10k-images-idx3-ubyte.gz",
    "y_test": "t10k-labels-idx1-ubyte.gz",
}

_STALL_SECONDS = 30.0

Arrays = dict[str, NDArray[Any]]
"""The arrays of a data set by key: `x_train`, `y_train`, `x_test`, `y_test`."""


@dataclass(frozen=True)
class Location:
    """The place from which a data set is loaded. `str` gives the path, or the name of a library.

    Attributes:
        name: a name in `DATASETS`, or the path as the user gave it.
        kind: `scikit-learn`; `npz`, a file; `idx`, a folder of gzipped IDX files; or `download`.
        path: the file or folder.
        stamp: size and modification time of each file, so that a changed file is read again.
    """

    name: str
    kind: Literal["scikit-learn", "npz", "idx", "download"]
    path: Path = Path()
    stamp: tuple[int, ...] = ()

    def __str__(self) -> str:
        words = {"scikit-learn": "scikit-learn", "download": "keras.datasets, which downloads"}
        return words.get(self.kind, str(self.path))


def locate(name: str | Path) -> Location:
    """Find the place from which a data set is loaded, without loading or downloading anything.

    Raises:
        InputError: the name or the file does not exist.

    Example:
        >>> print(locate("digits"))
        scikit-learn
    """
    text = str(name)
    if isinstance(name, Path) or text.endswith(".npz") or "/" in text or os.sep in text:
        if not text.isprintable():
            raise InputError(f"dataset: received {text!r}. Allowed: a path without control characters")
        path = Path(text).absolute()
        try:
            return Location(text, "npz", path, _stamp(path))
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None
    if text not in DATASETS:
        raise one_of("dataset", text, [*DATASETS, "a path to an .npz file"])
    if text == "digits":
        return Location(text, "scikit-learn")
    with contextlib.suppress(OSError):
        return Location(text, "npz", _kept(text), _stamp(_kept(text)))
    if text == "fashion_mnist":
        with contextlib.suppress(OSError):
            stamp = _stamp(*(DEBIAN_FOLDER / file for file in _IDX_FILES.values()))
            return Location(text, "idx", DEBIAN_FOLDER, stamp)
    return Location(text, "download", _kept(text))


def is_available(name: str | Path) -> bool:
    """Return whether the data set is already on this machine.

    Raises:
        InputError: the name or the file does not exist.

    Example:
        >>> is_available("digits")
        True
    """
    return locate(name).kind != "download"


def _kept(name: str) -> Path:
    return data_folder().expanduser().absolute() / f"{name}.npz"


def _stamp(*paths: Path) -> tuple[int, ...]:
    stamp: list[int] = []
    for path in paths:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a file")
        stamp += [status.st_size, status.st_mtime_ns]
    return tuple(stamp)


def read(location: Location) -> Arrays:
    """Read and check the arrays of a data set.

    Returns:
        `x_train`, `y_train`, `x_test` and `y_test`, in this order. Images are uint8 or float32, shape (n,
        height, width, channels); labels are int64 from 0 to k - 1, shape (n,).

    Raises:
        InputError: the user's file cannot be read or has the wrong content; the message names the array.
        EnvironmentFault: a named data set cannot be downloaded, or its file is damaged.

    Example:
        >>> [array.shape for array in read(locate("digits")).values()]
        [(1347, 8, 8, 1), (1347,), (450, 8, 8, 1), (450,)]
    """
    reader = {"scikit-learn": _digits, "npz": _npz, "idx": _idx, "download": _download}[location.kind]
    try:
        return _checked(reader(location))
    except ValueError as error:
        if location.name not in DATASETS:
            raise InputError(f"{location.path}: {error}") from None
        remedy = "reinstall dataset-fashion-mnist" if location.kind == "idx" else "delete it and try again"
        raise EnvironmentFault(f"{location.path}: {error}; {remedy}") from None


def _digits(location: Location) -> Arrays:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8).astype(np.uint8)
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=_DIGITS_TEST_FRACTION, random_state=0, stratify=y
    )
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def _npz(location: Location) -> Arrays:
    # NumPy and zipfile raise many types of exceptions on a damaged file, so all of them are caught. The file
    # is opened here because NumPy does not close it after such an exception.
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(location.path.open("rb"))
            start = file.read(6)
            file.seek(0)
            if start[:2] != b"PK" and start != b"\x93NUMPY":
                # NumPy takes any other file for a pickle, and says how to allow one.
                raise ValueError("it is no ZIP archive, as NumPy writes one")
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("a single array")
            stack.enter_context(archive)
        except Exception as error:
            raise ValueError(f"not an .npz file ({_words(error)})") from None
        return {key: _member(archive, key) for key in _IDX_FILES}


def _member(archive: Mapping[str, Any], key: str) -> NDArray[Any]:
    if key not in archive:
        raise ValueError(f"{key}: missing array. Received: {sorted(archive)[:8]}")
    try:
        array = archive[key]
    except Exception as error:
        raise ValueError(f"{key}: cannot be read ({_words(error)})") from None
    # NumPy returns a member as bytes if it is not an array.
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{key}: not an array")
    return array


def _idx(location: Location) -> Arrays:
    """Read the IDX format of http://yann.lecun.com/exdb/mnist: 0, 0, 8 for bytes, rank, sizes, values."""
    arrays = {}
    for key, file in _IDX_FILES.items():
        try:
            content = gzip.decompress((location.path / file).read_bytes())
            rank = 3 if key.startswith("x") else 1
            if content[:4] != bytes([0, 0, 8, rank]):
                raise ValueError(f"not an IDX file of bytes with rank {rank}")
            shape = np.frombuffer(content, ">u4", rank, offset=4)
            arrays[key] = np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)
        except Exception as error:
            raise ValueError(f"{file}: cannot be read ({_words(error)})") from None
    return arrays


def _download(location: Location) -> Arrays:
    # Keras draws a progress bar on stdout, and waits for ever if a connection stalls.
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_STALL_SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            from invact.process.quiet import load_tensorflow

            load_tensorflow()
            import keras

            train, test = getattr(keras.datasets, location.name).load_data()
        arrays = _checked(dict(zip(_IDX_FILES, (*train, *test), strict=True)))
    except Exception as error:
        package = " install Debian's dataset-fashion-mnist," if location.name == "fashion_mnist" else ""
        raise EnvironmentFault(
            f"{location.name}: not on this machine, and the download failed ({_words(error)}). Put it at "
            f"{location.path}, or set INVACT_DATA to a folder that has {location.path.name},{package} "
            "or connect to the network"
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)
    _keep(arrays, location.path)
    return arrays


def _keep(arrays: Arrays, path: Path) -> None:
    # The arrays are already in memory, so a folder without write permission is not an error.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.unlink(missing_ok=True)
            with temporary.open("xb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _checked(arrays: Arrays) -> Arrays:
    """Convert the arrays to one form, in the order of `_IDX_FILES`; a ValueError names the wrong array."""
    checked = {key: (_images if key.startswith("x") else _labels)(key, arrays[key]) for key in _IDX_FILES}
    x_train, y_train, x_test, y_test = checked.values()
    for part in ("train", "test"):
        images, labels = len(checked[f"x_{part}"]), len(checked[f"y_{part}"])
        if images != labels:
            raise ValueError(f"y_{part}: received {labels} labels. Allowed: {images}, one for each image")
    if x_test.shape[1:] != x_train.shape[1:] or x_test.dtype != x_train.dtype:
        train, test = (f"{x.dtype} images of shape {x.shape[1:]}" for x in (x_train, x_test))
        raise ValueError(f"x_test: received {test}. Allowed: {train}, as in x_train")
    if x_train.min() == x_train.max():
        raise ValueError(f"x_train: received {x_train.min()} in every pixel. Allowed: images that differ")
    classes, counts = np.unique(y_train, return_counts=True)
    if classes.size < 2:
        raise ValueError(f"y_train: received one class, {classes[0]}. Allowed: two or more classes")
    if classes[0] != 0 or classes[-1] != classes.size - 1:
        raise ValueError(
            f"y_train: received {classes.size} different labels from {classes[0]} to {classes[-1]}. "
            f"Allowed: 0 to {classes.size - 1} for {classes.size} classes"
        )
    if counts.min() < 2:
        raise ValueError(
            f"y_train: received one image of class {counts.argmin()}. "
            "Allowed: two or more of each class, because the split needs one for each part"
        )
    unknown = np.setdiff1d(y_test, classes)
    if unknown.size:
        raise ValueError(f"y_test: received label {unknown[0]}. Allowed: 0 to {classes[-1]}, as in y_train")
    return checked


def _images(key: str, x: NDArray[Any]) -> NDArray[Any]:
    if x.ndim not in (3, 4):
        raise ValueError(
            f"{key}: received shape {x.shape}. Allowed: (n, height, width) or (n, height, width, channels); "
            "a table of f features as (n, 1, f)"
        )
    if 0 in x.shape:
        raise ValueError(f"{key}: received shape {x.shape}. Allowed: at least one image and one pixel")
    if x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[2] == x.shape[3] > 4:
        raise ValueError(f"{key}: received shape {x.shape}, channels first. Allowed: channels last")
    if x.dtype.kind in "iu":
        if x.min() < 0 or x.max() > 255:
            raise ValueError(
                f"{key}: received integers from {x.min()} to {x.max()}. Allowed: 0 to 255, or floats"
            )
        x = x.astype(np.uint8, copy=False)
    elif x.dtype.kind == "f":
        with np.errstate(over="ignore"):
            x = x.astype(np.float32, copy=False)
        finite = np.isfinite(x).all(axis=tuple(range(1, x.ndim)))
        if not finite.all():
            raise ValueError(
                f"{key}: received NaN or infinity in image {finite.argmin()}. Allowed: finite float32"
            )
    else:
        raise ValueError(f"{key}: received dtype {x.dtype}. Allowed: integers from 0 to 255, or floats")
    return np.ascontiguousarray(x if x.ndim == 4 else x[..., np.newaxis])


def _labels(key: str, y: NDArray[Any]) -> NDArray[np.int64]:
    if y.ndim != 1 and y.shape[1:] != (1,):  # CIFAR-10 stores labels as a column.
        raise ValueError(f"{key}: received shape {y.shape}. Allowed: (n,), one label for each image")
    if y.dtype.kind not in "iu":
        raise ValueError(f"{key}: received dtype {y.dtype}. Allowed: integers from 0 to k - 1")
    return y.astype(np.int64).ravel()


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
