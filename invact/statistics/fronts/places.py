"""The places of the points of a front: what fresh seeds decide, and which point needs the next run."""
# The probabilities come from the model of `front_probability`. In that model, a probability means the same at
# whichever run it is read, so there is no correction for looking at the data after each run. docs/fronts.md
# shows how often a place is wrong in worlds with a known truth, also with ties.

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from invact.statistics.fronts.noise import seed_noise
from invact.statistics.fronts.probability import true_accuracies

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["START", "Leads", "Place", "leads", "next_point"]

START = 3
"""Runs of each point before the first decision."""

DRAWS = 4_000
"""Draws from the model; the standard error of a probability of 0.95 is then 0.0035."""


WANDERING = 5
"""By which factor the error of a sign must be below that of `EQUAL`."""
# The probability of the sign of a lead that is exactly 0 wanders while runs are added. With 0.95 for it, 13 %
# of the decided places were wrong in worlds in which every second point is a tie.


class Place(StrEnum):
    """Where a point is, compared with all cheaper points."""

    STAYS = "stays"
    """It is more accurate than every cheaper point, so it stays on the front."""
    EQUAL = "equal"
    """It is as accurate as the best cheaper point, within the margin on both sides."""
    DOMINATED = "dominated"
    """A cheaper point is more accurate."""
    UNDECIDED = "undecided"
    """None of these is probable enough."""


@dataclass(frozen=True, eq=False)
class Leads:
    """Leads of points over the most accurate cheaper point, in fractions, by increasing cost.

    The cheapest point leads by inf, and a point that is far behind a cheaper one by -inf.

    Attributes:
        drawn: leads that were drawn from the model, shape (draws, points).
        shares: how often the cheaper point (column) was the most accurate of those that are cheaper than a
            point (row); shape (points, points).
        margin: the largest difference that counts as equal.
        confidence: the probability from which a point is `EQUAL`. With 1 - confidence = e, that of the other
            places is 1 - e / 5, which makes up for the choice of when to stop.
    """

    drawn: Floats
    shares: Floats
    margin: float
    confidence: float

    @property
    def places(self) -> tuple[Place, ...]:
        """The place of each point."""
        better = (self.drawn > 0).mean(axis=0)
        equal = (np.abs(self.drawn) < self.margin).mean(axis=0)
        return tuple(map(self._place, better, equal))

    def _place(self, better: float, equal: float) -> Place:
        error = (1 - self.confidence) / WANDERING
        if better >= 1 - error:
            return Place.STAYS
        if better <= error:
            return Place.DOMINATED
        return Place.EQUAL if equal >= self.confidence else Place.UNDECIDED


def leads(accuracy: ArrayLike, cost: ArrayLike, margin: float, confidence: float = 0.95) -> Leads:
    """Draw the leads of the points of a front over the most accurate cheaper point.

    Args:
        accuracy: shape (points, seeds), by increasing cost, with two runs or more of each point; nan where a
            point has no run.
        cost: shape (points,), increasing.
        margin: the largest difference that counts as equal, as a fraction.
        confidence: the probability from which a place is decided, see `Leads`.

    Raises:
        InputError: a point has fewer than two runs ("insufficient").

    Example:
        >>> runs = [[0.90, 0.91, 0.90, 0.91], [0.95, 0.95, 0.96, 0.96], [0.94, 0.93, 0.94, 0.93]]
        >>> [str(place) for place in leads(runs, [100, 200, 300], margin=0.003).places]
        ['stays', 'stays', 'dominated']
    """
    scores = np.asarray(accuracy, dtype=float)
    points = len(scores)
    chosen, truth = true_accuracies(scores, cost, draws=DRAWS)
    drawn, shares = np.full((len(truth), points), -np.inf), np.zeros((points, points))
    drawn[:, chosen[0]] = np.inf
    for number, point in enumerate(chosen[1:], start=1):
        cheaper = truth[:, :number]
        drawn[:, point] = truth[:, number] - cheaper.max(axis=1)
        shares[point, chosen[:number]] = np.bincount(cheaper.argmax(axis=1), minlength=number) / len(truth)
    return Leads(drawn, shares, margin, confidence)


def next_point(
    accuracy: ArrayLike,
    cost: ArrayLike,
    margin: float,
    confidence: float = 0.95,
    pending: ArrayLike | None = None,
    closed: Collection[int] = (),
) -> int | None:
    """Choose the point that gets the next run, a pure function of the runs so far.

    First, every point gets `START` runs. Then the undecided point that needs the fewest further runs is
    served, so that a budget decides as many places as it can. The lead L_i = mu_i - max_j mu_j of point i
    over all cheaper points j has the variance

        Var(L_i) = sum_k w_k^2 v_k / n_k,    w_i = 1,    w_j = P(j is the most accurate cheaper point),

    to first order, where v_k / n_k is the variance of a mean over n_k runs. If the measured lead is below
    half the margin, the standard deviation must shrink until the point is `EQUAL`, and otherwise until its
    lead is not 0. The need is the growth of the runs for this, if the variance is proportional to 1 / n. Of
    the points k, the one whose next run removes the most of Var(L_i) gets it.

    Args:
        accuracy: shape (points, seeds), by increasing cost; nan where a point has no run.
        cost: shape (points,), increasing.
        margin: the largest difference that counts as equal, as a fraction.
        confidence: the probability from which a place is decided, see `Leads`.
        pending: number of runs of each point that train now, shape (points,).
        closed: points that get no further run.

    Returns:
        The number of the point. None if all places are decided, if the pending runs are expected to decide
        them, or if no point may get a run that helps.

    Source: the idea to give runs to the comparisons that are the least certain is that of Chen et al.,
    Discrete Event Dynamic Systems 10, 2000, and of Gabillon et al., NeurIPS 25, 2012.

    Example:
        >>> next_point([[0.90, 0.91, 0.90], [0.95, 0.95, 0.96], [0.94, 0.96, 0.95]], [1, 2, 3], margin=0.003)
        1
        >>> next_point([[0.90, 0.91, 0.90], [0.95, 0.95, 0.96]], [1, 2], margin=0.003) is None
        True
    """
    scores = np.asarray(accuracy, dtype=float)
    runs = np.isfinite(scores).sum(axis=1)
    ahead = runs if pending is None else runs + np.asarray(pending)
    usable = np.array([point not in closed for point in range(len(runs))])
    if early := [int(point) for point in np.flatnonzero(usable) if ahead[point] < START]:
        return min(early, key=lambda point: int(ahead[point]))
    if runs.min() < 2:
        return None
    found = leads(scores, cost, margin, confidence)
    variance = seed_noise(scores).variance
    chosen, least = None, math.inf
    for point, place in enumerate(found.places):
        if place is not Place.UNDECIDED:
            continue
        weight = found.shares[point] ** 2
        weight[point] = 1.0
        now, then = (float(weight @ (variance / each)) for each in (runs, ahead))
        lead = float(found.drawn[:, point].mean())
        distance = max(abs(lead), margin - abs(lead))
        error = (1 - confidence) / (WANDERING if abs(lead) >= margin / 2 else 2)
        half = -special.ndtri(error) * float(found.drawn[:, point].std())
        growth = (half / distance) ** 2 * then / now - 1
        if then < now and growth <= 0:
            continue
        need = max(growth, 0.0) * float(np.sqrt(weight) @ ahead)
        gain = usable * weight * variance / (ahead * (ahead + 1))
        if gain.any() and need < least:
            chosen, least = int(gain.argmax()), need
    return chosen
