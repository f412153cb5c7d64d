"""Attainment surfaces of a front: what a quarter, half and three quarters of its resamples reach."""
# The only module that loads moocore, an extra.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from invact.errors import EnvironmentFault, InputError
from invact.statistics.fronts.uncertainty import Candidates, Selection, resample

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Surface", "attainment_surfaces"]


@dataclass(frozen=True)
class Surface:
    """The best test accuracy that a share of the fronts attains, over budgets.

    Attributes:
        share: of the resampled fronts, at least.
        cost: where the accuracy rises, ascending.
        accuracy: attained from each of `cost` on, ascending.
    """

    share: float
    cost: tuple[float, ...]
    accuracy: tuple[float, ...]


def attainment_surfaces(
    candidates: Candidates,
    shares: Sequence[float] = (0.25, 0.5, 0.75),
    resamples: int = 2_000,
    seed: int = 0,
) -> tuple[Surface, ...]:
    """Summarise the empirical attainment function of the resampled fronts, by `moocore.eaf`.

    A resample's front is what is non-dominated in validation accuracy against cost, scored by (cost, test
    accuracy). A point (c, a) is attained by it when one of its configurations costs at most c and has at
    least a. The surface of share p bounds what p of the resamples attain. Any configuration of the front
    counts, also a cheaper one that the test set happens to prefer: where test accuracy falls with the budget
    a surface stays above `attainment`, which scores only what validation selects.

    Args:
        candidates: accuracies and costs.
        shares: in (0, 1].
        resamples: 100 or more.
        seed: of the resampling.

    Returns:
        One surface for each share, in their order.

    Raises:
        InputError: an argument is out of range.
        EnvironmentFault: moocore is not installed.

    Source: Fonseca, Guerreiro, Lopez-Ibanez and Paquete, Evolutionary Multi-Criterion Optimization, 2011.

    Example:
        >>> seen = [[0.80, 0.80, 0.80], [0.90, 0.90, 0.90]]
        >>> attainment_surfaces(Candidates(seen, seen, [100, 200]), [0.5])
        (Surface(share=0.5, cost=(100.0, 200.0), accuracy=(0.8, 0.9)),)
    """
    for share in shares:
        if not 0 < share <= 1:
            raise InputError(f"shares: received {share!r}. Allowed: (0, 1], such as 0.5")
    try:
        from moocore import eaf
    except ImportError:
        raise EnvironmentFault("attainment surfaces need moocore: pip install 'invact[eaf]'") from None
    weights = resample(candidates.test.shape[1], resamples, 0.95, seed)
    fronts, configurations = np.nonzero(Selection(candidates, weights, candidates.cost).non_dominated)
    # moocore minimises.
    losses = -(weights @ candidates.test.T)[fronts, configurations]
    points = np.column_stack([candidates.cost[configurations], losses])
    surfaces = []
    for share in shares:
        corners = eaf(points, fronts, percentiles=[100 * share])
        corners = corners[np.argsort(corners[:, 0])]
        surfaces.append(Surface(share, tuple(corners[:, 0].tolist()), tuple((-corners[:, 1]).tolist())))
    return tuple(surfaces)
