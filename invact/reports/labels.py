"""Labels of the rows of a table: what they share, and how they are shortened."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["shorten", "split_shared"]

DOTS = "\N{HORIZONTAL ELLIPSIS}"


def split_shared(labels: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the parts, between commas, that all labels have from the rest of each label.

    Returns:
        The shared parts, and what is left of each label. No part is shared if a label would be left empty.

    Example:
        >>> split_shared(["relu, filters 8, epochs 5", "inverse, filters 4, epochs 5"])
        (['epochs 5'], ['relu, filters 8', 'inverse, filters 4'])
        >>> split_shared(["relu", "relu, filters 4"])
        ([], ['relu', 'relu, filters 4'])
    """
    parts = [label.split(", ") for label in labels]
    shared = [part for part in dict.fromkeys(parts[0]) if all(part in each for each in parts)]
    rest = [", ".join(part for part in each if part not in shared) for each in parts]
    return (shared, rest) if all(rest) else ([], list(labels))


def shorten(texts: Sequence[str], width: int) -> list[str]:
    """Cut texts to a width with an ellipsis, in the place that leaves most of them different: end or middle.

    A number inside a text is left out as a whole, because a part of it would be another number.

    Example:
        >>> shorten(["inverse, filters 128, batch", "relu, filters 8"], 20)
        ['inverse, filters…', 'relu, filters 8']
        >>> shorten(["/home/me/results/digits.onnx", "/home/me/results/digits.tflite"], 16)
        ['/home/me…ts.onnx', '/home/me….tflite']
    """
    ends, middles = ([_cut(text, width, share) for text in texts] for share in (0.0, 0.5))
    return middles if len(set(middles)) > len(set(ends)) else ends


def _cut(text: str, width: int, share: float) -> str:
    from rich.cells import cell_len

    if cell_len(text) <= width:
        return text
    room = max(width - 1, 0)
    tail = text[len(text) - _fitting(text[::-1], int(room * share)) :]
    head = text[: _fitting(text, room - cell_len(tail))]
    if head[-1:].isdigit() and text[len(head)].isdigit():
        head = head.rstrip("0123456789.,")
    if tail[:1].isdigit() and text[-len(tail) - 1].isdigit():
        tail = tail.lstrip("0123456789.,")
    return f"{head.rstrip(' ,')}{DOTS}{tail}"[: max(width, 1)]


def _fitting(text: str, width: int) -> int:
    """Number of characters from the start of a text that fit into a width."""
    from rich.cells import cell_len

    count = min(len(text), width)
    while cell_len(text[:count]) > width:
        count -= 1
    return count
