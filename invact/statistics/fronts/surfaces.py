"""Attainment surfaces of a front: the accuracy that a given share of its resamples reaches."""
# moocore is an optional dependency. No other module imports it.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from invact.errors import EnvironmentFault, InputError
from invact.files import install
from invact.statistics.fronts.dominance import non_dominated_draws
from invact.statistics.fronts.uncertainty import DIGITS, Candidates, resample

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Surface", "attainment_surfaces"]


@dataclass(frozen=True)
class Surface:
    """Best test accuracy that a given share of the resampled fronts attains, over budgets.

    Attributes:
        share: smallest share of the resampled fronts that attain the surface.
        cost: costs at which the accuracy rises, ascending.
        accuracy: accuracy that is attained from each cost on, ascending.
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
    """Summarise the empirical attainment function of the resampled fronts with `moocore.eaf`.

    The front of a resample contains the configurations that are non-dominated in validation accuracy and
    cost; each is then represented by (cost, test accuracy). A front attains the point (c, a) if one of its
    configurations costs at most c and has a test accuracy of at least a. The surface of share p is the
    boundary of the points that a share p of the resamples attains.

    All configurations of the front count, also a cheaper one that has a higher test accuracy by chance. If
    the test accuracy falls as the budget rises, a surface is therefore above `attainment`, which uses only
    the configuration that validation selects.

    Args:
        candidates: accuracies and costs.
        shares: shares of the resamples, each in (0, 1].
        resamples: number of resamples, 100 or more.
        seed: seed of the resampling.

    Returns:
        One surface for each share, in the order of the shares.

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
        raise EnvironmentFault(f"attainment surfaces need moocore: {install('eaf')}") from None
    validation, test = resample(candidates, resamples, 0.95, seed)
    fronts, configurations = np.nonzero(non_dominated_draws(validation.round(DIGITS), candidates.cost))
    # moocore minimises all objectives.
    losses = -test[fronts, configurations]
    points = np.column_stack([candidates.cost[configurations], losses])
    surfaces = []
    for share in shares:
        corners = eaf(points, fronts, percentiles=[100 * share])
        corners = corners[np.argsort(corners[:, 0])]
        surfaces.append(Surface(share, tuple(corners[:, 0].tolist()), tuple((-corners[:, 1]).tolist())))
    return tuple(surfaces)
