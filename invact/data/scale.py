"""The pixel range of a data set: the two pixel values that a network scales to -1 and 1."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from invact.errors import InputError

__all__ = ["PixelRange", "check_range", "ends_of", "plain_range", "range_of", "remark_of"]

FEWEST, RARE = 20, 500
"""From `FEWEST` images on, one image of `RARE`, and at least one, may have a wild pixel."""

FARTHEST = 3.0
"""Scaled pixels this far from 0 are remarked on, although the user has chosen the range."""


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if not value[0] < value[1]:
        raise ValueError(f"received {list(value)}. Allowed: [low, high] with low below high")
    return value


_Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]

PixelRange = Annotated[tuple[_Finite, _Finite], AfterValidator(_ordered)]
"""The key `pixel_range` of a file: `[low, high]`."""


def check_range(low: float, high: float) -> tuple[float, float]:
    """Return a range as floats, or refuse it.

    Raises:
        InputError: an end is not finite, or `low` is not below `high`.

    Example:
        >>> check_range(0, 16)
        (0.0, 16.0)
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"pixel_range: received {[low, high]}. Allowed: finite [low, high], low below high")
    return float(low), float(high)


def plain_range(x: NDArray[Any], white: float = 255.0) -> tuple[float, float]:
    """The range from 0 to `white` for integers, and from 0 to the largest magnitude for floats.

    Versions of invact before the key `pixel_range` used it for all data. A data set with this range has the
    digest that it had then.
    """
    return 0.0, white if x.dtype == np.uint8 else float(max(x.max(), -x.min()))


def ends_of(x: NDArray[Any]) -> tuple[float, float]:
    """The lowest and the highest pixel, without wild ones.

    A pixel is wild if it lies farther beyond the other images than their whole span, and if no more than one
    image of 500 (or a single image) has such pixels. In a set of fewer than 20 images no pixel is wild.

    Args:
        x: images, shape (n, height, width, channels).

    Example:
        >>> x = np.linspace(0, 16, 100).reshape(100, 1, 1, 1)
        >>> ends_of(x)
        (0.0, 16.0)
        >>> x[3] = 255
        >>> ends_of(x)
        (0.0, 16.0)
    """
    axes = tuple(range(1, x.ndim))
    lows, highs = np.sort(x.min(axis=axes)), np.sort(x.max(axis=axes))
    low, high = float(lows[0]), float(highs[-1])
    if len(x) >= FEWEST:
        few = max(1, len(x) // RARE)
        others_low, others_high = float(lows[few]), float(highs[-1 - few])
        span = others_high - others_low
        if 0 < span < others_low - low:
            low = others_low
        if 0 < span < high - others_high:
            high = others_high
    return low, high


def range_of(x: NDArray[Any], white: float = 255.0) -> tuple[float, float]:
    """The range that a network scales to [-1, 1], from both ends of the training images.

    Data with both signs keep their zero: the range is [-m, m] for the largest magnitude m. All other data
    have the first of these ranges of which they fill at least half:

    - integers: from 0 to `white`
    - from 0 to the end that is farthest from 0
    - from the lowest to the highest pixel

    Wild pixels do not count; see `ends_of`.

    Args:
        x: training images, uint8 or float, shape (n, height, width, channels).
        white: the highest value that the integers can have.

    Example:
        >>> range_of(np.arange(17, dtype=np.uint8).reshape(-1, 1, 1, 1))
        (0.0, 16.0)
        >>> range_of(np.linspace(-2, 3, 50).reshape(-1, 1, 1, 1))
        (-3.0, 3.0)
    """
    low, high = ends_of(x)
    if low < 0 < high:
        largest = max(-low, high)
        return -largest, largest
    ranges = [(0.0, white)] if x.dtype == np.uint8 else []
    ranges.append((min(low, 0.0), max(high, 0.0)))
    wide = (each for each in ranges if high - low >= (each[1] - each[0]) / 2)
    return next(wide, (low, high))


def remark_of(x: NDArray[Any], used: tuple[float, float], plain: tuple[float, float], chosen: bool) -> str:
    """Describe a scale that is unusual; an empty text if it is not.

    A range that invact has derived is unusual if it is not the plain one. One that the user has chosen is
    unusual if the images fill less than half of it, or reach far beyond it.

    Args:
        x: training images.
        used: the range that is scaled to [-1, 1].
        plain: the result of `plain_range`.
        chosen: whether the user has chosen the range.
    """
    low, high = ends_of(x)
    kind = "integers" if x.dtype == np.uint8 else "floats"
    found = f"the pixels of the training images are {kind} from {x.min():g} to {x.max():g}"
    if chosen:
        width = (used[1] - used[0]) / 2
        scaled = [(end - used[0]) / width - 1 for end in (low, high)]
        if scaled[1] - scaled[0] >= 1 and max(-scaled[0], scaled[1]) < FARTHEST:
            return ""
        becomes = f"[{scaled[0]:.3g}, {scaled[1]:.3g}]"
        return f"{found}, and pixel_range = [{used[0]:g}, {used[1]:g}] scales them to {becomes}"
    if used == plain:
        return ""
    outside = np.logical_or(x < used[0], x > used[1]).any(axis=tuple(range(1, x.ndim))).sum()
    but = f" ({outside} of {len(x)} images reach beyond)" if outside else ""
    return (
        f"{found}; networks scale [{used[0]:g}, {used[1]:g}] to [-1, 1]{but}. "
        "To scale another range, set pixel_range = [low, high]"
    )
