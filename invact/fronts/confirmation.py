"""Confirmation of a front on fresh seeds: the optimism of selection, and the points that stay on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from invact.fronts.images import Images, noise_of
from invact.fronts.pareto import ParetoFront, Point
from invact.statistics.fronts.dominance import non_dominated
from invact.statistics.fronts.places import Place, leads
from invact.statistics.fronts.probability import front_probability
from invact.statistics.fronts.uncertainty import DIGITS
from invact.statistics.intervals import t_quantile
from invact.text import html_of, leading
from invact.training.results import Status

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["CONFIDENCE", "Confirmation", "ConfirmedPoint", "Mean", "confirm_points", "mean_over"]

CONFIDENCE = 0.95
"""Confidence level of the intervals of means over seeds."""


@dataclass(frozen=True)
class Mean:
    """A mean over seeds, or another estimate, with its interval, as fractions. One seed has no interval."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ConfirmedPoint:
    """A point of the front that was trained again on fresh seeds.

    Attributes:
        point: the point as the sweep found it; its `accuracy` selected it.
        seeds: number of fresh seeds with a finished or diverged run. A diverged run counts with its accuracy.
        validation: validation accuracy on the fresh seeds; None without such a run.
        test: test accuracy on the fresh seeds; None without such a run.
        optimism: accuracy that selected the point minus `validation`.
        non_dominated: whether the point stays on the front: no other point has at least its fresh test
            accuracy at equal or lower cost.
        p_non_dominated: probability that the point is on the front of the true accuracies of the points, from
            test accuracies on the fresh seeds; None while a run of any point is missing.
        place: with seeds until the places are decided: the place of the point; None otherwise.
        lead: with these: test accuracy minus that of the most accurate cheaper point, with its credible
            interval, for the images of the test set; None for the cheapest point.
    """

    point: Point
    seeds: int
    validation: Mean | None
    test: Mean | None
    optimism: Mean | None
    non_dominated: bool | None
    p_non_dominated: float | None
    place: Place | None = None
    lead: Mean | None = None


@dataclass(frozen=True)
class Confirmation:
    """A front that was confirmed on fresh seeds.

    Attributes:
        name: name of the sweep.
        run_id: parent run of the confirmation in MLflow.
        seeds: the fresh seeds; a point may have fewer if seeds were given until the places are decided.
        front: the front as the sweep found it.
        points: its points with their fresh accuracies, by increasing cost.
        optimism: mean optimism over the points; None while a run is missing.
        failed: number of runs that failed. They are tried again when the front is confirmed again.
        table: table of runs, one row for each (configuration, fresh seed).
        margin: with seeds until the places are decided: the largest difference that counts as equal, as a
            fraction; None otherwise.
    """

    name: str
    run_id: str
    seeds: tuple[int, ...]
    front: ParetoFront
    points: tuple[ConfirmedPoint, ...]
    optimism: Mean | None
    failed: int
    table: pd.DataFrame
    margin: float | None = None

    @property
    def undecided(self) -> tuple[ConfirmedPoint, ...]:
        """The points whose place is not decided, if seeds were given until it is."""
        return tuple(one for one in self.points if one.place is Place.UNDECIDED)

    @property
    def counted(self) -> str:
        """The number of seeds in words: of all points, or the range over the points."""
        counts = sorted({one.seeds for one in self.points}) if self.margin is not None else []
        return f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(len(self.seeds))

    def to_pandas(self) -> pd.DataFrame:
        """Return the points as a table with one row for each; accuracies are fractions.

        The first columns are label, MACs, and the accuracies that selected the point and of the fresh seeds.
        """
        import pandas as pd

        rows = []
        for one in self.points:
            known = dict.fromkeys(("trial", "config", "label", "macs", self.front.measure))
            row = {name: getattr(one.point, name) for name in known} | {"selected": one.point.accuracy}
            decided = self.margin is not None
            for name in ("validation", "test", "optimism", *(["lead"] if decided else [])):
                mean: Mean | None = getattr(one, name)
                ends = (mean.value, mean.low, mean.high) if mean else (None, None, None)
                row |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
            last = ("seeds", "non_dominated", "p_non_dominated", *(["place"] if decided else []))
            rows.append(row | {name: getattr(one, name) for name in last})
        return leading(pd.DataFrame(rows), "label", "macs", "selected", "validation", "test")

    def __repr__(self) -> str:
        return f"Confirmation({self.name!r}: {self._counts()})"

    def _repr_html_(self) -> str:
        return html_of(self.name, [self._counts()], self.to_pandas())

    def _counts(self) -> str:
        stay = sum(bool(one.non_dominated) for one in self.points)
        return f"{stay} of {len(self.points)} points stay on the front, on {self.counted} fresh seeds"


def confirm_points(
    front: ParetoFront,
    table: pd.DataFrame,
    seeds: Sequence[int],
    run_id: str = "",
    images: Images | None = None,
    margin: float | None = None,
) -> Confirmation:
    """Compare the points of a front with their runs on fresh seeds, at the costs that the sweep found.

    Args:
        front: the front as the sweep found it.
        table: table of runs, one row for each (trial, seed), see `Record.table`. Rows of other configurations
            or seeds are ignored.
        seeds: the fresh seeds.
        run_id: parent run of the confirmation in MLflow.
        images: what is known about the images. Without it, the noise of the images is left out.
        margin: the largest difference that counts as equal, as a fraction, if seeds were given until the
            places are decided. A point may then have fewer seeds than another one.
    """
    configs = [point.config for point in front.points]
    mine = table[table["config"].isin(configs) & table["seed"].isin(seeds)]
    ended = mine[(mine["status"] != Status.FAILED) & mine["test_accuracy"].notna()]
    by_config = {config: ended[ended["config"] == config].set_index("seed") for config in configs}
    validation, test = (
        {config: rows[column].astype(float) for config, rows in by_config.items()}
        for column in ("validation_accuracy", "test_accuracy")
    )
    cost = [point.cost for point in front.points]
    scores = [test[config].mean() for config in configs]
    stay = non_dominated(np.round(scores, DIGITS), cost)
    shares: Sequence[float | None] = [None] * len(configs)
    optimism = None
    common = [seed for seed in seeds if all(seed in rows.index for rows in by_config.values())]
    places: Sequence[Place | None] = [None] * len(configs)
    lead: Sequence[Mean | None] = [None] * len(configs)
    if margin is not None:
        places = [Place.UNDECIDED] * len(configs)
    if len(common) == len(seeds) or (margin is not None and len(common) > 1):
        fresh = np.array([test[config].reindex(list(seeds)) for config in configs])
        # The hits of the seeds that all points have are enough for the noise of the images.
        ids = [by_config[config]["run_id"].loc[common].tolist() for config in configs]
        root, _ = noise_of(images or Images(), ids, np.nanmean(fresh, axis=1), "test")
        shares = front_probability(fresh, cost, root).tolist()
        drops = [point.accuracy - validation[point.config].loc[common] for point in front.points]
        optimism = mean_over(np.mean(drops, axis=0))
        if margin is not None:
            found = leads(fresh, cost, margin, CONFIDENCE)
            places = found.places
            lead = [_credible(drawn) for drawn in found.drawn.T]
    return Confirmation(
        name=front.name,
        run_id=run_id,
        seeds=tuple(seeds),
        front=front,
        points=tuple(
            ConfirmedPoint(
                point=point,
                seeds=len(by_config[point.config]),
                validation=mean_over(validation[point.config]),
                test=mean_over(test[point.config]),
                optimism=mean_over(point.accuracy - validation[point.config]),
                non_dominated=bool(stays) if len(by_config[point.config]) else None,
                p_non_dominated=share,
                place=place,
                lead=ahead,
            )
            for point, stays, share, place, ahead in zip(
                *(front.points, stay, shares, places, lead), strict=True
            )
        ),
        optimism=optimism,
        failed=int((mine["status"] == Status.FAILED).sum()),
        table=mine.reset_index(drop=True),
        margin=margin,
    )


def _credible(drawn: NDArray[np.float64]) -> Mean | None:
    if not np.isfinite(drawn).all():
        return None
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Mean(float(drawn.mean()), float(low), float(high))


def mean_over(values: Iterable[float]) -> Mean | None:
    """Mean of the runs of a configuration with its t interval over the seeds; None without a run.

    Example:
        >>> mean_over([0.90, 0.92]).value, mean_over([0.90]), mean_over([])
        (0.91, Mean(value=0.9, low=None, high=None), None)
    """
    of = np.asarray(list(values), dtype=float)
    if not of.size:
        return None
    mean = float(of.mean())
    if of.size == 1:
        return Mean(mean, None, None)
    half = t_quantile(of.size - 1, CONFIDENCE) * float(of.std(ddof=1)) / float(np.sqrt(of.size))
    return Mean(mean, mean - half, mean + half)
