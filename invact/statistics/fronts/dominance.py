"""Dominance: which points of accuracy and cost no other point beats, and the area that they dominate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from invact.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["best_so_far", "hypervolume", "non_dominated", "non_dominated_draws"]


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


def best_so_far(accuracy: NDArray[np.float64]) -> NDArray[np.intp]:
    """Find, for each column, the most accurate of this and all earlier columns; the first one among equals.

    Args:
        accuracy: shape (draws, n).

    Returns:
        Numbers of columns, shape (draws, n).

    Example:
        >>> best_so_far(np.array([[0.8, 0.7, 0.9, 0.9]])).tolist()
        [[0, 0, 2, 2]]
    """
    record = np.maximum.accumulate(accuracy, axis=1)
    new = np.ones(accuracy.shape, dtype=bool)
    new[:, 1:] = accuracy[:, 1:] > record[:, :-1]
    found: NDArray[np.intp] = np.maximum.accumulate(np.where(new, np.arange(accuracy.shape[1]), 0), axis=1)
    return found


def non_dominated_draws(accuracy: NDArray[np.float64], cost: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the non-dominated points of each of many draws of the accuracies, as `non_dominated` does.

    Args:
        accuracy: finite, shape (draws, n).
        cost: finite, the same in all draws, shape (n,).

    Returns:
        Mask, shape (draws, n).

    Example:
        >>> non_dominated_draws(np.array([[0.9, 0.8], [0.7, 0.8]]), np.array([100.0, 200.0])).tolist()
        [[True, False], [True, True]]
    """
    order = np.argsort(cost, kind="stable")
    best = best_so_far(accuracy[:, order])
    # Once all points of one cost are compared, the most accurate one so far is on the front.
    last = np.append(np.diff(cost[order]) > 0, True)
    ranked = np.zeros(accuracy.shape, dtype=bool)
    np.put_along_axis(ranked, best[:, last], True, axis=1)
    mask = np.empty_like(ranked)
    mask[:, order] = ranked
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
