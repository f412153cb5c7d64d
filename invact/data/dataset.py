"""Data sets: three parts of images and labels, identified by a digest."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invact.data.sources import DATASETS, Location, is_available, locate, read
from invact.errors import InputError

__all__ = ["DATASETS", "Dataset", "Location", "Source", "is_available", "load", "locate"]

VALIDATION_FRACTION = 1 / 6
"""Of 60,000 images it leaves 50,000, the split of most work on MNIST."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images and labels in three parts; the arrays are read-only.

    Images are as they were stored, (n, height, width, channels), uint8 or float32: a model scales them.
    Labels are int64, 0 to classes - 1, (n,).

    Attributes:
        name: what was asked for.
        x_train: images to fit weights on.
        y_train: their labels.
        x_validation: images that selection reads; a stratified part of the stored training set.
        y_validation: their labels.
        x_test: images that verdicts read; stored apart.
        y_test: their labels.
        classes: number of classes.
        split_seed: decides which images validate.
        validation_fraction: part of the stored training set that validates.
        maximum: the pixel value that means white: 255 for uint8, 16 for `digits`; for floats the largest
            magnitude in the stored training set.
        digest: 12 hexadecimal digits of the SHA-256 of the arrays and the split. Part of a run's identity.
    """

    name: str
    x_train: NDArray[Any]
    y_train: NDArray[np.int64]
    x_validation: NDArray[Any]
    y_validation: NDArray[np.int64]
    x_test: NDArray[Any]
    y_test: NDArray[np.int64]
    classes: int
    split_seed: int
    validation_fraction: float
    maximum: float
    digest: str

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        height, width, channels = self.x_train.shape[1:]
        return height, width, channels

    @property
    def train_count(self) -> int:
        """Number of images to fit weights on."""
        return len(self.x_train)

    @property
    def validation_count(self) -> int:
        """Number of images that selection reads."""
        return len(self.x_validation)

    @property
    def test_count(self) -> int:
        """Number of images that verdicts read."""
        return len(self.x_test)

    def __repr__(self) -> str:
        counts = f"{self.train_count} + {self.validation_count} + {self.test_count}"
        shape = "x".join(map(str, self.input_shape))
        return f"Dataset({self.name!r}: {counts} images of {shape}, {self.classes} classes, {self.digest})"


@dataclass(frozen=True)
class Source:
    """What to load: small, so that it travels to a worker, which loads the data itself.

    Attributes:
        name: a name in `DATASETS`, or a path; absolute where it is to travel.
        split_seed: decides which images validate.
        validation_fraction: part of the stored training set that validates.
    """

    name: str
    split_seed: int = 0
    validation_fraction: float = VALIDATION_FRACTION

    def load(self) -> Dataset:
        """Load the data set; see `load`."""
        return load(self.name, split_seed=self.split_seed, validation_fraction=self.validation_fraction)


def load(
    name: str | Path, *, split_seed: int = 0, validation_fraction: float = VALIDATION_FRACTION
) -> Dataset:
    """Load a data set and split its training set; a second call in the same process returns the same object.

    The first of these that exists: `NAME.npz` in `$INVACT_DATA` (`~/.cache/invact/datasets` unless set);
    for Fashion-MNIST the folder of Debian's `dataset-fashion-mnist`; `keras.datasets`, which downloads, and
    whose data are then kept in the first place. `digits` comes with scikit-learn, and has no test set: a
    stratified quarter, the same whatever the seed, is its test set here.

    A file of one's own is an `.npz` with `x_train, y_train, x_test, y_test`. Images have shape (n, height,
    width) or (n, height, width, channels), and are integers from 0 to 255 or finite floats; a table of f
    features is (n, 1, f). Labels are integers from 0 to k - 1, each of them in `y_train` twice at least.

    Args:
        name: a name in `DATASETS`, or a path: it has a separator or ends in `.npz`.
        split_seed: decides which images validate, 0 to 2^32 - 1.
        validation_fraction: part of the training set that validates, in (0, 1), stratified by class.

    Raises:
        InputError: no such name, or no such file, or it holds something else, or the split is impossible.
        EnvironmentFault: a data set that has a name is nowhere, or its file is damaged.

    Example:
        >>> data = load("digits")
        >>> data.input_shape, data.train_count, data.validation_count, data.test_count
        ((8, 8, 1), 1122, 225, 450)
        >>> load("fashion-mnist")
        Traceback (most recent call last):
        ...
        invact.errors.InputError: dataset: received 'fashion-mnist'; did you mean 'fashion_mnist'? ...
    """
    if not 0 <= split_seed < 2**32:
        raise InputError(f"split_seed: received {split_seed}. Allowed: 0 to 4294967295")
    if not 0 < validation_fraction < 1:
        raise InputError(
            f"validation_fraction: received {validation_fraction}. Allowed: between 0 and 1, exclusive"
        )
    return _load(locate(name), int(split_seed), float(validation_fraction))


# Two: a data set may take some hundred megabytes.
@functools.lru_cache(maxsize=2)
def _load(location: Location, split_seed: int, fraction: float) -> Dataset:
    x, y, x_test, y_test = read(location).values()
    x_train, x_validation, y_train, y_validation = _split(x, y, split_seed, fraction)
    parts = (x_train, y_train, x_validation, y_validation, x_test, y_test)
    sha = hashlib.sha256(repr((split_seed, fraction)).encode())
    for array in parts:
        sha.update(f"{array.shape}{array.dtype.str}".encode())
        sha.update(array.data)
        array.setflags(write=False)
    white = 16 if location.kind == "scikit-learn" else 255
    maximum = float(white if x.dtype == np.uint8 else max(x.max(), -x.min()))
    classes = int(y.max()) + 1
    return Dataset(location.name, *parts, classes, split_seed, fraction, maximum, sha.hexdigest()[:12])


def _split(x: NDArray[Any], y: NDArray[Any], seed: int, fraction: float) -> list[NDArray[Any]]:
    from sklearn.model_selection import train_test_split

    classes = int(y.max()) + 1
    with contextlib.suppress(ValueError):  # A part is smaller than the number of classes.
        parts: list[NDArray[Any]] = train_test_split(x, y, test_size=fraction, random_state=seed, stratify=y)
        if np.unique(parts[2]).size == classes:
            return parts
    raise InputError(
        f"validation_fraction: received {fraction}, of {len(y)} images in {classes} classes. "
        "Allowed: one that leaves images of every class to train on, and as many to validate as classes"
    )
