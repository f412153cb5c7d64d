"""Dominance: which points of accuracy and cost no other point beats, and the area that they dominate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from invact.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["hypervolume", "non_dominated"]


def non_dominated(accuracy: ArrayLike, cost: ArrayLike) -> NDArray[np.bool_]:
    """Mark the points that no other point dominates.

    One point dominates another if it is at least as accurate, costs at most as much, and is better in one of
    the two. If points are equal, the first one is marked. A point that is not finite is never marked. The
    running time is O(n log n).

    Args:
        accuracy: shape (n,), to maximise.
        cost: shape (n,), to minimise.

    Returns:
        Mask, shape (n,).

    Raises:
        InputError: the shapes differ.

    Example:
        >>> non_dominated([0.9, 0.8, 0.95, 0.9], [100, 200, 300, 100]).tolist()
        [True, False, True, False]
    """
    gain, loss = _pair(accuracy, cost)
    mask = np.zeros(len(gain), dtype=bool)
    known = np.flatnonzero(np.isfinite(gain) & np.isfinite(loss))
    # Cheapest first, then most accurate, then as received: a point is non-dominated if it is more accurate
    # than all points before it.
    order = known[np.lexsort((known, -gain[known], loss[known]))]
    best_before = np.maximum.accumulate(np.concatenate(([-np.inf], gain[order])))[:-1]
    mask[order[gain[order] > best_before]] = True
    return mask


def hypervolume(accuracy: ArrayLike, cost: ArrayLike, reference: tuple[float, float]) -> float:
    """Compute the area that the points dominate, up to a reference point; larger is better.

    The front is sorted by cost, c_1 < ... < c_k, and c_{k+1} is the cost of the reference. The area is
    sum_i (accuracy_i - accuracy_reference) (c_{i+1} - c_i). Points that do not dominate the reference add
    nothing.

    Args:
        accuracy: fractions, shape (n,).
        cost: shape (n,), in any measure.
        reference: (accuracy, cost) of the reference point, which bounds the area.

    Returns:
        The area, in accuracy fractions times the unit of the cost.

    Raises:
        InputError: the shapes differ, or the reference is not finite.

    Source: Zitzler and Thiele, IEEE Transactions on Evolutionary Computation 3, 1999.

    Example:
        >>> hypervolume([0.5, 0.75], [100, 200], reference=(0.0, 300))
        125.0
    """
    gain, loss = _pair(accuracy, cost)
    if not np.isfinite(reference).all():
        raise InputError(f"reference: received {reference}. Allowed: two finite numbers, (accuracy, cost)")
    inside = non_dominated(gain, loss) & (gain > reference[0]) & (loss < reference[1])
    order = np.flatnonzero(inside)[np.argsort(loss[inside])]
    widths = np.diff(np.append(loss[order], reference[1]))
    return float(np.sum((gain[order] - reference[0]) * widths))


def _pair(accuracy: ArrayLike, cost: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    gain, loss = np.asarray(accuracy, dtype=float), np.asarray(cost, dtype=float)
    if gain.ndim != 1 or gain.shape != loss.shape:
        raise InputError(
            f"accuracy, cost: received shapes {gain.shape} and {loss.shape}. Allowed: equal shapes, (n,)"
        )
    return gain, loss
