"""The memory that tensors use while a model runs, each from the call that writes it to its last use."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

__all__ = ["BufferUse", "live_bytes"]


@dataclass(frozen=True)
class BufferUse:
    """The buffers that one call reads and writes.

    Attributes:
        reads: names of the buffers that the call reads.
        writes: size in bytes of each buffer that the call writes, by name. A buffer that exists already is
            written in place.
    """

    reads: frozenset[Hashable]
    writes: dict[Hashable, int]


def live_bytes(
    inputs: dict[Hashable, int], steps: Sequence[BufferUse], outputs: frozenset[Hashable]
) -> list[int]:
    """Return the number of bytes of all buffers that are alive during each step.

    A buffer is alive from the first step that writes it to the last step that reads or writes it. An input
    is alive from the start, and an output is alive to the end.

    Formula:
        live(t) = sum of bytes(b) over the buffers b with first(b) <= t <= last(b)

    Args:
        inputs: size in bytes of each buffer that exists at the start, by name.
        steps: the steps, in the order in which they run.
        outputs: names of the buffers that are kept to the end.

    Returns:
        One number for each step; the peak is the largest of them.

    Source:
        Liveness analysis of straight-line code: Aho et al., Compilers, 2nd ed., 2006, section 9.2.5.

    Example:
        A chain x -> a -> b, and then b + x -> y. The last step reads x, so x stays alive until then.

        >>> chain = [
        ...     BufferUse(frozenset("x"), {"a": 40}),
        ...     BufferUse(frozenset("a"), {"b": 20}),
        ...     BufferUse(frozenset("bx"), {"y": 10}),
        ... ]
        >>> live_bytes({"x": 10}, chain, frozenset("y"))
        [50, 70, 40]
    """
    sizes, first, last = dict(inputs), dict.fromkeys(inputs, 0), dict.fromkeys(inputs, -1)
    for time, step in enumerate(steps):
        for buffer, size in step.writes.items():
            sizes.setdefault(buffer, size)
            first.setdefault(buffer, time)
        last.update(dict.fromkeys([*step.reads, *step.writes], time))
    last.update(dict.fromkeys(outputs & sizes.keys(), len(steps) - 1))
    change = [0] * (len(steps) + 1)
    for buffer, size in sizes.items():
        if last[buffer] >= first[buffer]:
            change[first[buffer]] += size
            change[last[buffer] + 1] -= size
    live, total = [], 0
    for difference in change[:-1]:
        total += difference
        live.append(total)
    return live
