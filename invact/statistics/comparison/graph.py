"""Several hypotheses in a graph: a rejected hypothesis passes its share of the level on to others."""
# A graph can test the ladders of several data sets together. Holm's method cannot: it ignores that a rung
# matters only if the rungs before it are rejected.

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from invact.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["graphical", "ladders_graph"]

Floats: TypeAlias = "NDArray[np.float64]"

_ROUNDING = 1e-9
"""Sums that exceed 1 by less are equal to 1, because shares such as 1/3 are rounded."""


def graphical(p_values: ArrayLike, weights: ArrayLike, transitions: ArrayLike) -> Floats:
    """Adjust p values by the graphical procedure, which keeps the family-wise error at alpha.

    Hypothesis i is tested at the level alpha w_i. Each step removes the hypothesis j with the smallest
    p_j / w_j among those that are left. This ratio is its adjusted p value, but at least that of the step
    before and at most 1. Then the graph is updated for all l and k that are left (l is not k):

        w_l      <- w_l + w_j g_jl
        g_lk     <- (g_lk + g_lj g_jk) / (1 - g_lj g_jl), or 0 if g_lj g_jl = 1

    Reject the hypotheses whose adjusted p value is at most alpha. The p values may have any dependence. The
    result is that of a closed test with a weighted Bonferroni test of every intersection.

    Args:
        p_values: p_i, shape (m,), in [0, 1].
        weights: w_i, shape (m,), not negative, with a sum of at most 1. The adjusted p value of a hypothesis
            is 1 as long as its weight is 0.
        transitions: g_ij, the share of the weight of i that j gets when i is rejected; shape (m, m), not
            negative, with a diagonal of 0 and row sums of at most 1.

    Returns:
        Adjusted p values, shape (m,), in the order received.

    Raises:
        InputError: an argument is not as described.

    Source: Bretz, Maurer, Brannath and Posch, Statistics in Medicine 28, 2009 (algorithms 1 and 2).

    Example:
        >>> graphical([0.02, 0.04, 0.01], [0.5, 0, 0.5], [[0, 1, 0], [0, 0, 1], [1, 0, 0]]).tolist()
        [0.02, 0.04, 0.02]
    """
    p, shares, passed = _checked(p_values, weights, transitions)
    adjusted, reached = np.ones(len(p)), 0.0
    left = np.ones(len(p), dtype=bool)
    for _ in range(len(p)):
        ratios = np.full(len(p), math.inf)
        np.divide(p, shares, out=ratios, where=left & (shares > 0))
        j = int(np.argmin(ratios))
        reached = max(reached, float(ratios[j]))
        if reached >= 1:  # This includes the case that no weight is left. All others keep the value 1.
            break
        adjusted[j] = reached
        left[j] = False
        shares, passed = _without(shares, passed, j)
    return adjusted


def ladders_graph(sizes: Sequence[int]) -> tuple[Floats, Floats]:
    """Make the graph of several data sets, each with a ladder of hypotheses that are tested in order.

    The first rung of each data set has the weight 1 / sets. A rejected rung passes its weight to the next
    rung of its data set. The last rung passes it to the first rungs of the other data sets, in equal parts.
    In this way, a data set whose whole ladder is rejected makes the tests of the others easier.

    With one rung in each data set this is Holm's procedure. With one data set it is the fixed sequence.

    Args:
        sizes: number of rungs of each data set, each 1 or more.

    Returns:
        Weights, shape (m,), and transitions, shape (m, m), for `graphical`; m is the sum of the sizes. The
        rungs of the first data set come first.

    Raises:
        InputError: the sizes are not as described.

    Source: Bretz, Maurer, Brannath and Posch, Statistics in Medicine 28, 2009.

    Example:
        >>> weights, transitions = ladders_graph([2, 1])
        >>> weights.tolist()
        [0.5, 0.0, 0.5]
        >>> transitions.tolist()
        [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
        >>> graphical([0.01, 0.04, 0.03], weights, transitions).tolist()
        [0.02, 0.06, 0.06]
    """
    whole = all(isinstance(size, (int, np.integer)) and not isinstance(size, bool) for size in sizes)
    if not len(sizes) or not whole or min(sizes) < 1:
        raise InputError(f"sizes: received {list(sizes)}. Allowed: whole numbers of 1 or more, at least one")
    ends = np.cumsum(sizes)
    first = ends - np.asarray(sizes)
    weights = np.zeros(ends[-1])
    weights[first] = 1 / len(sizes)
    transitions = np.eye(ends[-1], k=1)
    for own, end in zip(first, ends, strict=True):
        transitions[end - 1] = 0
        others = first[first != own]
        transitions[end - 1, others] = 1 / max(1, len(others))
    return weights, transitions


def _without(weights: Floats, transitions: Floats, j: int) -> tuple[Floats, Floats]:
    """Remove hypothesis j: the others get its weight, and the ways through j become direct ways."""
    to, out = transitions[:, j], transitions[j]
    back = 1 - to * out
    # If two hypotheses pass everything to each other, removing one leaves the other with no way out.
    ways = np.where(back > _ROUNDING, 1 / np.maximum(back, _ROUNDING), 0.0)
    updated = (transitions + np.outer(to, out)) * ways[:, None]
    np.fill_diagonal(updated, 0)
    updated[j] = updated[:, j] = 0
    shared = weights + weights[j] * out
    shared[j] = 0
    return shared, updated


def _checked(
    p_values: ArrayLike, weights: ArrayLike, transitions: ArrayLike
) -> tuple[Floats, Floats, Floats]:
    p, shares, passed = (np.asarray(each, dtype=float) for each in (p_values, weights, transitions))
    # NaN fails these comparisons, too.
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise InputError(f"p values: received {p.tolist()}. Allowed: a sequence of values in [0, 1]")
    if shares.shape != p.shape or not (shares >= 0).all() or not shares.sum() <= 1 + _ROUNDING:
        raise InputError(
            f"weights: received {shares.tolist()}. Allowed: {len(p)} values of 0 or more, with a "
            "sum of at most 1"
        )
    shaped = passed.shape == (len(p), len(p))
    if not shaped or not (passed >= 0).all() or not (passed.sum(axis=1) <= 1 + _ROUNDING).all():
        raise InputError(
            f"transitions: received {passed.tolist()}. Allowed: shape ({len(p)}, {len(p)}), values that are "
            "not negative, with row sums of at most 1"
        )
    if np.diagonal(passed).any():
        raise InputError(
            f"transitions: received the diagonal {np.diagonal(passed).tolist()}. Allowed: only 0, because a "
            "hypothesis passes nothing to itself"
        )
    return p, shares, passed
