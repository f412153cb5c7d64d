"""The evidence of a claim: the accuracies of the runs in its record."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from invact.claims.cells import Cell
from invact.statistics.sequential.ladder import Series
from invact.training.results import Status

if TYPE_CHECKING:
    import pandas as pd

    from invact.data.dataset import Dataset

__all__ = ["Results", "chance_of", "collapsed_at"]


@dataclass(frozen=True)
class Results:
    """The runs that have been trained for a claim.

    Attributes:
        table: table of runs with one row for each (network, seed), as `Record.table` returns it.
        data: the data set that the networks were trained on.
    """

    table: pd.DataFrame
    data: Dataset

    def of(self, step: str, cell: Cell) -> pd.DataFrame:
        """The runs of a network in a step, without those that failed."""
        if not len(self.table):
            return self.table
        mine = (self.table["param.step"] == step) & (self.table["param.key"] == cell.key)
        mine &= self.table["config"] == cell.config.digest()
        return self.table[mine & (self.table["status"] != Status.FAILED)]

    def rows(self, step: str, cell: Cell, seeds: Sequence[int]) -> pd.DataFrame:
        """The runs of the first seeds, in their order, up to the first seed without a run; by seed."""
        rows = self.of(step, cell).set_index("seed")
        done = list(itertools.takewhile(lambda seed: seed in rows.index, seeds))
        return rows.loc[done]

    def series(self, step: str, cell: Cell, seeds: Sequence[int]) -> Series:
        """Test accuracies of `rows`; a run that diverged or collapsed counts at chance level, as failed."""
        rows = self.rows(step, cell, seeds)
        failed = (rows["status"] == Status.DIVERGED) | ~(
            rows["validation_accuracy"] > collapsed_at(self.data)
        )
        accuracy = rows["test_accuracy"].where(~failed, chance_of(self.data))
        return Series(accuracy.to_numpy(float), failed.to_numpy(bool))

    def failed(self, step: str) -> pd.DataFrame:
        """The runs of a step that failed with an error."""
        if not len(self.table):
            return self.table
        return self.table[(self.table["param.step"] == step) & (self.table["status"] == Status.FAILED)]


def chance_of(data: Dataset) -> float:
    """Chance level, the accuracy of guessing: 1 / classes."""
    return 1 / data.classes


def collapsed_at(data: Dataset) -> float:
    """A run with at most this validation accuracy has collapsed: chance + (1 - chance) / 10."""
    return float(np.round(chance_of(data) + 0.1 * (1 - chance_of(data)), 6))
