"""The names of the classes of the data sets that have some."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["class_names"]

_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "fashion_mnist": (
            *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
            *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
        ),
        "cifar10": (
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
    }
)


def class_names(data: str, classes: int) -> tuple[str, ...]:
    """Return the names of a data set's classes in the order of the logits; their numbers if they have none.

    Args:
        data: the name of the data set, or a path.
        classes: the number of classes.

    Example:
        >>> class_names("cifar10", 10)[:2], class_names("digits", 3)
        (('airplane', 'automobile'), ('0', '1', '2'))
    """
    return _NAMES.get(data, tuple(map(str, range(classes))))
