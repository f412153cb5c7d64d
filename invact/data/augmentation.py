"""Augmentation in the TensorFlow graph; its random draws depend on (seed, epoch, step) only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

from invact.errors import InputError, one_of

__all__ = ["Tensor", "augment", "batch_key", "check_augmentations", "rectangle"]

Tensor: TypeAlias = Any
"""A `tf.Tensor`. TensorFlow is imported inside functions, because `check_augmentations` does not need it."""

_MIRRORED_DIFFERS = ("digits", "mnist")


def check_augmentations(names: Iterable[str], dataset: str) -> None:
    """Refuse an unknown augmentation, and one that makes the labels of a data set wrong.

    Raises:
        InputError: an augmentation does not exist, or it mirrors digits.

    Example:
        >>> check_augmentations(("shift", "flip"), "cifar10")
        >>> check_augmentations(("shift", "flip"), "mnist")
        Traceback (most recent call last):
        ...
        invact.errors.InputError: augmentation: received 'flip' for mnist, but a mirrored digit is not a valid
        digit. Allowed: shift, cutout, crop
    """
    for name in names:
        if name not in _AUGMENTATIONS:
            raise one_of("augmentation", name, _AUGMENTATIONS)
        if name == "flip" and dataset in _MIRRORED_DIFFERS:
            allowed = ", ".join(other for other in _AUGMENTATIONS if other != "flip")
            raise InputError(
                f"augmentation: received 'flip' for {dataset}, but a mirrored digit is not a valid digit. "
                f"Allowed: {allowed}"
            )


def augment(
    images: Tensor,
    names: tuple[str, ...],
    seed: int | Tensor,
    epoch: int | Tensor,
    step: int | Tensor,
    background: float = 0.0,
) -> Tensor:
    """Augment a batch; each image gets its own random draws, and augmentations run in the given order.

    - `shift` moves an image vertically and horizontally by a whole number of pixels. The largest move is an
      eighth of the side, and at least one pixel. New pixels get the value of the background. For images of
      32 x 32 pixels, this is a random crop of the image that is padded with 4 pixels on each side (He et
      al., 2015, https://arxiv.org/abs/1512.03385).
    - `flip` mirrors an image left to right with probability 1/2.
    - `cutout` sets a square to the background. Its side is a quarter of the shorter side of the image. Its
      centre can be any pixel of the image, so the border may clip the square (DeVries and Taylor, 2017,
      https://arxiv.org/abs/1708.04552; they use this side for CIFAR-100).
    - `crop` pads an image on each side and cuts an image of the old size out of it. It moves the image as
      `shift` does, but the new pixels are a reflection of the image at its border (Zagoruyko and Komodakis,
      2016, https://arxiv.org/abs/1605.07146).

    The draws of one augmentation do not depend on the other augmentations in `names`.

    Args:
        images: stored pixels, shape (n, height, width, channels), any number type. Height and width must be
            known when the graph is traced; n may be unknown.
        names: names of augmentations from `invact.config.AUGMENTATIONS`.
        seed: 0 to 2^63 - 1.
        epoch: number of the epoch, below 2^31.
        step: number of the batch in the epoch, below 2^32.
        background: value of new pixels.

    Returns:
        The augmented images, with the same shape and type.

    Example:
        >>> import numpy as np
        >>> images = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
        >>> once = augment(images, ("shift", "cutout"), seed=0, epoch=1, step=0)
        >>> again = augment(images, ("shift", "cutout"), seed=0, epoch=1, step=0)
        >>> bool((once == again).numpy().all())
        True
    """
    import tensorflow as tf

    images = tf.convert_to_tensor(images)
    if not names:
        return images
    key = batch_key(seed, epoch, step)
    # Each augmentation and image gets two numbers, also if they are unused, so that the draws of one
    # augmentation do not depend on the others. Philox gives the same numbers on every device.
    shape = tf.stack([len(_AUGMENTATIONS), 2, tf.shape(images)[0]])
    uniform = tf.unstack(tf.random.stateless_uniform(shape, key, alg="philox"))
    draws = dict(zip(_AUGMENTATIONS, uniform, strict=True))
    for name in names:
        images = _AUGMENTATIONS[name](images, draws[name], background)
    return images


def batch_key(seed: int | Tensor, epoch: int | Tensor, step: int | Tensor) -> Tensor:
    """Return the seed of one batch for the stateless generators of TensorFlow, shape (2,), int64.

    No part of it is negative.

    Args:
        seed: 0 to 2^63 - 1.
        epoch: number of the epoch, below 2^31.
        step: number of the batch in the epoch, below 2^32.
    """
    import tensorflow as tf

    batch = tf.cast(epoch, tf.int64) * 2**32 + tf.cast(step, tf.int64)
    return tf.stack([tf.cast(seed, tf.int64), batch])


def rectangle(centres: Tensor, image: Sequence[int], sides: Sequence[int | Tensor]) -> Tensor:
    """Return which pixels are in a rectangle of each image, shape (n, height, width); the border clips it.

    Args:
        centres: numbers in [0, 1), shape (2, n), from the first row and column to the last.
        image: height and width of the images.
        sides: height and width of the rectangles; integers of shape () or (n, 1).
    """
    import tensorflow as tf

    inside = []
    for draw, length, side in zip(tf.unstack(centres), image, sides, strict=True):
        first = _integers(draw, length)[:, tf.newaxis] - side // 2
        inside.append((tf.range(length) >= first) & (tf.range(length) < first + side))
    return inside[0][:, :, tf.newaxis] & inside[1][:, tf.newaxis, :]


def _shift(images: Tensor, draws: Tensor, background: float) -> Tensor:
    import tensorflow as tf

    new = tf.cast(background, images.dtype)
    for axis in (1, 2):
        most, index = _places(images.shape[axis], draws[axis - 1])
        padding = [[0, 0]] * 4
        padding[axis] = [most, most]
        images = tf.gather(tf.pad(images, padding, constant_values=new), index, axis=axis, batch_dims=1)
    return images


def _crop(images: Tensor, draws: Tensor, background: float) -> Tensor:
    import tensorflow as tf

    for axis in (1, 2):
        most, index = _places(images.shape[axis], draws[axis - 1])
        last = images.shape[axis] - 1
        # Places before the first pixel, and behind the last one, are reflected at it.
        index = last - tf.abs(last - tf.abs(index - most))
        images = tf.gather(images, index, axis=axis, batch_dims=1)
    return images


def _places(side: int, draws: Tensor) -> tuple[int, Tensor]:
    """Return the largest move along a side, and the places of the moved pixels in the padded side."""
    import tensorflow as tf

    most = min(max(1, side // 8), side - 1)
    start = _integers(draws, 2 * most + 1)
    return most, start[:, tf.newaxis] + tf.range(side)


def _flip(images: Tensor, draws: Tensor, background: float) -> Tensor:
    import tensorflow as tf

    columns = tf.range(images.shape[2])
    mirrored = _integers(draws[0], 2)[:, tf.newaxis] == 1
    index = tf.where(mirrored, columns[::-1], columns)
    return tf.gather(images, index, axis=2, batch_dims=1)


def _cutout(images: Tensor, draws: Tensor, background: float) -> Tensor:
    import tensorflow as tf

    height, width = images.shape[1:3]
    square = max(1, min(height, width) // 4)
    kept = tf.logical_not(rectangle(draws, (height, width), (square, square)))
    return tf.where(kept[..., tf.newaxis], images, tf.cast(background, images.dtype))


def _integers(draws: Tensor, count: int) -> Tensor:
    import tensorflow as tf

    # A draw is at most 1 - 2^-23, so the product is below `count` in float32 too.
    return tf.cast(draws * count, tf.int32)


_AUGMENTATIONS: Mapping[str, Callable[[Tensor, Tensor, float], Tensor]] = MappingProxyType(
    {"shift": _shift, "flip": _flip, "cutout": _cutout, "crop": _crop}
)
