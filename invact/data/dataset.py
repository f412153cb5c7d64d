"""The `Dataset` type (images and labels in three parts, identified by a digest) and how to load one."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invact.data.scale import check_range, plain_range, range_of, remark_of
from invact.data.sources import DATASETS, Location, is_available, locate, read
from invact.errors import InputError
from invact.process.quiet import warn

__all__ = ["DATASETS", "Dataset", "Location", "Source", "digest_of", "is_available", "load", "locate"]

VALIDATION_FRACTION = 1 / 6
"""Part of the training set that validates. It leaves 50,000 of 60,000 images, the usual split of MNIST."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images and labels in three parts; the arrays are read-only.

    Images keep their stored pixel values, because the model scales them. Their shape is (n, height, width,
    channels), their type uint8 or float32. Labels are int64 from 0 to classes - 1, shape (n,).

    Attributes:
        name: the name or path that was requested.
        x_train: images for fitting the weights.
        y_train: labels of `x_train`.
        x_validation: images for selection, a stratified part of the stored training set.
        y_validation: labels of `x_validation`.
        x_test: images for verdicts, from the stored test set.
        y_test: labels of `x_test`.
        classes: number of classes.
        split_seed: seed of the split; it decides which images are in the validation set.
        validation_fraction: part of the stored training set that becomes the validation set.
        pixel_range: the pixel values that networks scale to -1 and 1: (0, 255) for ordinary uint8, (0, 16)
            for `digits`; `invact.data.scale.range_of` has the rule for the stored training set.
        digest: first 12 hexadecimal digits of the SHA-256 of the arrays and the split, and of the pixel range
            if it is not the plain one. It is part of the identity of a run.
        remark: a sentence on the pixel range if it is unusual, otherwise empty.
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
    pixel_range: tuple[float, float]
    digest: str
    remark: str = ""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        height, width, channels = self.x_train.shape[1:]
        return height, width, channels

    @property
    def train_count(self) -> int:
        """Number of images for fitting the weights."""
        return len(self.x_train)

    @property
    def validation_count(self) -> int:
        """Number of images for selection."""
        return len(self.x_validation)

    @property
    def test_count(self) -> int:
        """Number of images for verdicts."""
        return len(self.x_test)

    @property
    def plain_range(self) -> tuple[float, float]:
        """The pixel range that versions of invact before the key `pixel_range` used."""
        parts = (plain_range(x, _white(self.name)) for x in (self.x_train, self.x_validation))
        return 0.0, max(high for _, high in parts)

    def report(self) -> None:
        """Print the remark on standard error, as one line; nothing if there is none."""
        if self.remark:
            warn(f"data {self.name!r}: {self.remark}")

    def __repr__(self) -> str:
        counts = f"{self.train_count} + {self.validation_count} + {self.test_count}"
        shape = "x".join(map(str, self.input_shape))
        return f"Dataset({self.name!r}: {counts} images of {shape}, {self.classes} classes, {self.digest})"


@dataclass(frozen=True)
class Source:
    """The description of a data set, from which a process loads it.

    Attributes:
        name: a name in `DATASETS`, or a path. A path must be absolute if the source is sent to a worker.
        split_seed: seed of the split; it decides which images are in the validation set.
        validation_fraction: part of the stored training set that becomes the validation set.
        pixel_range: the pixel values that networks scale to -1 and 1; None derives them from the images.
    """

    name: str
    split_seed: int = 0
    validation_fraction: float = VALIDATION_FRACTION
    pixel_range: tuple[float, float] | None = None

    def load(self) -> Dataset:
        """Load the data set; see `load`."""
        return load(
            self.name,
            split_seed=self.split_seed,
            validation_fraction=self.validation_fraction,
            pixel_range=self.pixel_range,
        )


def load(
    name: str | Path,
    *,
    split_seed: int = 0,
    validation_fraction: float = VALIDATION_FRACTION,
    pixel_range: Sequence[float] | None = None,
) -> Dataset:
    """Load a data set and split its training set; a second call in the same process returns the same object.

    A named data set is read from the first of these places that has it:

    1. `NAME.npz` in `$INVACT_DATA` (default: `~/.cache/invact/datasets`).
    2. For Fashion-MNIST, the folder of the Debian package `dataset-fashion-mnist`.
    3. `keras.datasets`, which downloads the data. invact then saves them in the first place.

    `digits` comes with scikit-learn. It has no test set there, so a stratified quarter becomes the test set;
    this quarter does not depend on `split_seed`.

    Your own file is an `.npz` with the arrays `x_train, y_train, x_test, y_test`. Images have shape (n,
    height, width) or (n, height, width, channels), and are integers from 0 to 255 or finite floats; a table
    of f features has shape (n, 1, f). Labels are integers from 0 to k - 1, and `y_train` has each label at
    least twice.

    Args:
        name: a name in `DATASETS`, or a path. A path contains a separator or ends in `.npz`.
        split_seed: seed of the split, 0 to 2^32 - 1; it decides which images are in the validation set.
        validation_fraction: part of the training set that becomes the validation set, in (0, 1), stratified
            by class.
        pixel_range: the pixel values that networks scale to -1 and 1, low and high; None derives them from
            the stored training set, see `invact.data.scale.range_of`.

    Raises:
        InputError: the name or the file does not exist, the file has the wrong content, the split is
            impossible, or the pixel range is empty.
        EnvironmentFault: a named data set cannot be found or downloaded, or its file is damaged.

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
    chosen = None if pixel_range is None else check_range(*pixel_range)
    return _load(locate(name), int(split_seed), float(validation_fraction), chosen)


# Only two are cached, because a data set may take some hundred megabytes.
@functools.lru_cache(maxsize=2)
def _load(
    location: Location, split_seed: int, fraction: float, chosen: tuple[float, float] | None
) -> Dataset:
    x, y, x_test, y_test = read(location).values()
    x_train, x_validation, y_train, y_validation = _split(x, y, split_seed, fraction)
    parts = (x_train, y_train, x_validation, y_validation, x_test, y_test)
    for array in parts:
        array.setflags(write=False)
    white = _white(location.name)
    plain, used = plain_range(x, white), chosen or range_of(x, white)
    remark = remark_of(x, used, plain, chosen is not None)
    classes = int(y.max()) + 1
    data = Dataset(location.name, *parts, classes, split_seed, fraction, used, "", remark)
    return replace(data, digest=digest_of(data))


def digest_of(data: Dataset) -> str:
    """Compute the digest of a data set from its arrays, its split and its pixel range.

    Example:
        >>> digest_of(load("digits")) == load("digits").digest
        True
    """
    sha = hashlib.sha256(repr((data.split_seed, data.validation_fraction)).encode())
    for part in ("train", "validation", "test"):
        for array in (getattr(data, f"x_{part}"), getattr(data, f"y_{part}")):
            sha.update(f"{array.shape}{array.dtype.str}".encode())
            sha.update(array.data)
    if data.pixel_range != data.plain_range:
        sha.update(f"pixels from {data.pixel_range[0]!r} to {data.pixel_range[1]!r}".encode())
    return sha.hexdigest()[:12]


def _white(name: str) -> float:
    """The highest value that the integers of a data set can have."""
    return 16.0 if name == "digits" else 255.0


def _split(x: NDArray[Any], y: NDArray[Any], seed: int, fraction: float) -> list[NDArray[Any]]:
    from sklearn.model_selection import train_test_split

    classes = int(y.max()) + 1
    with contextlib.suppress(ValueError):  # Raised if a part has fewer images than there are classes.
        parts: list[NDArray[Any]] = train_test_split(x, y, test_size=fraction, random_state=seed, stratify=y)
        if np.unique(parts[2]).size == classes:
            return parts
    raise InputError(
        f"validation_fraction: received {fraction} for {len(y)} images in {classes} classes. "
        "Allowed: a fraction that leaves training images of every class, and at least as many validation "
        "images as classes"
    )
