"""The images that the runs of a front were measured on, and the noise that their choice causes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

import numpy as np

from invact.statistics.fronts.noise import binomial_root, image_root

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Hits = NDArray[np.bool_]

__all__ = ["Images", "Known", "Split", "noise_of"]

Split = Literal["test", "validation"]


class Known(StrEnum):
    """What the noise of the images is estimated from."""

    HITS = "hits"
    """The runs noted for each image of the split whether it was classified correctly."""
    TEST_HITS = "test hits"
    """They noted this for the test images only; validation images are taken to be of the same kind."""
    COUNT = "count"
    """Only the number of images is known. Independent binomial noise overestimates that of differences."""
    NOTHING = "nothing"
    """The noise of the images is left out."""


@dataclass(frozen=True)
class Images:
    """The images of both splits, as far as a record knows them.

    Attributes:
        counts: number of images by split, `validation` and `test`; a split that is not known is missing.
        hits: from a run and a split to one bool for each image, whether it was classified correctly; None if
            the run did not note it.
    """

    counts: dict[str, int] = field(default_factory=dict)
    hits: Callable[[str, Split], Hits | None] = lambda run_id, split: None


def noise_of(
    images: Images, runs: Sequence[Sequence[str]], accuracy: Floats, split: Split
) -> tuple[Floats | None, Known]:
    """Estimate the noise of the accuracies on a split that comes from the choice of its images.

    Args:
        images: what is known about the images.
        runs: ids of the runs of each configuration, one for each seed.
        accuracy: mean accuracy of each configuration on the split.
        split: the split.

    Returns:
        The root of the noise (see `image_root`), and what it comes from.

    Example:
        >>> root, known = noise_of(Images({"test": 100}), [["a"]], np.array([0.9]), "test")
        >>> root.round(3).tolist(), str(known)
        ([[0.03]], 'count')
    """
    counts = images.counts
    if (root := _root(images, runs, split)) is not None:
        return root, Known.HITS
    if split not in counts:
        return None, Known.NOTHING
    if split == "validation" and (root := _root(images, runs, "test")) is not None:
        return root * np.sqrt(counts["test"] / counts[split]), Known.TEST_HITS
    return binomial_root(accuracy, counts[split]), Known.COUNT


def _root(images: Images, runs: Sequence[Sequence[str]], split: Split) -> Floats | None:
    if images.counts.get(split, 0) < 2:
        return None
    found = []
    for ids in runs:
        hits = [images.hits(run_id, split) for run_id in ids]
        known = [one for one in hits if one is not None]
        if len(known) < len(hits):
            return None
        found.append(known)
    return image_root(np.array(found))
