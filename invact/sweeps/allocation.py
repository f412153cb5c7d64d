"""The `Allocation` of fresh seeds to the points of a front: each goes where it helps to decide a place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from invact.execution.agenda import Ended, Key, Trial
from invact.statistics.fronts.places import START, next_point
from invact.training.results import Status

__all__ = ["Allocation"]


class Allocation:
    """Proposes trainings until each place is decided or the budget is used.

    A proposal depends on nothing but the runs that have ended and those that train, so a continued session
    goes on as the first one would have.

    Args:
        points: one trial for each point of the front, by increasing cost, with all the seeds that it may get.
        cost: the costs of the points, increasing.
        budget: largest number of trainings, with those of earlier sessions.
        margin: the largest difference that counts as equal, as a fraction.
        runs: the runs that earlier sessions have ended.
    """

    def __init__(
        self,
        points: Sequence[Trial],
        cost: Sequence[float],
        budget: int,
        margin: float,
        runs: Mapping[Key, Ended],
    ) -> None:
        self._points = tuple(points)
        self._cost = tuple(cost)
        self._budget = budget
        self._margin = margin
        self._count = []
        for point in points:
            known = [n for n, seed in enumerate(point.seeds, start=1) if (point.number, seed) in runs]
            self._count.append(max([START, *known]))

    @property
    def trials(self) -> list[Trial]:
        """The trials so far, each with the seeds that it has got."""
        return [
            replace(point, seeds=point.seeds[:count])
            for point, count in zip(self._points, self._count, strict=True)
        ]

    @property
    def used(self) -> int:
        """Number of trainings so far, with those that train now."""
        return sum(self._count)

    def propose(self, runs: Mapping[Key, Ended]) -> Trial | None:
        """Give the next seed to a point; None if there is nothing to train now.

        A point with a failed run gets no further seed in this session.
        """
        if self.used >= self._budget:
            return None
        accuracy = np.full((len(self._points), max(self._count)), np.nan)
        pending, closed = [0] * len(self._points), set()
        for row, trial in enumerate(self.trials):
            ended = [runs.get((trial.number, seed)) for seed in trial.seeds]
            for column, run in enumerate(ended):
                if run is None:
                    pending[row] += 1
                elif run.test is not None and run.status is not Status.FAILED:
                    accuracy[row, column] = run.test.accuracy
            if len(trial.seeds) == len(self._points[row].seeds) or any(
                run is not None and run.status is Status.FAILED for run in ended
            ):
                closed.add(row)
        chosen = next_point(accuracy, self._cost, self._margin, pending=pending, closed=closed)
        if chosen is None:
            return None
        self._count[chosen] += 1
        return self.trials[chosen]
