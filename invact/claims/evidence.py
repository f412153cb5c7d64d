"""The evidence of a claim: the accuracies of the runs in its record."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from invact.claims.cells import Cell
from invact.statistics.sequential.failures import Runs
from invact.training.results import Status

if TYPE_CHECKING:
    import pandas as pd

    from invact.data.dataset import Dataset

__all__ = ["Results"]


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
        return self._networks.get((step, cell.key, cell.config.digest()), self.table.iloc[:0])

    @cached_property
    def _networks(self) -> dict[Any, pd.DataFrame]:
        """The runs that did not fail, by step, key and configuration of their network."""
        if not len(self.table):
            return {}
        good = self.table[self.table["status"] != Status.FAILED]
        return dict(iter(good.groupby(["param.step", "param.key", "config"], sort=False)))

    def rows(self, step: str, cell: Cell, seeds: Sequence[int]) -> pd.DataFrame:
        """The runs of the first seeds, in their order, up to the first seed without a run; by seed."""
        rows = self.of(step, cell).set_index("seed")
        done = list(itertools.takewhile(lambda seed: seed in rows.index, seeds))
        return rows.loc[done]

    def runs(self, step: str, cell: Cell, seeds: Sequence[int]) -> Runs:
        """Accuracies of `rows`; the validation accuracy of a run that diverged is NaN."""
        rows = self.rows(step, cell, seeds)
        if not len(rows):
            return Runs()
        seen = rows["validation_accuracy"].where(rows["status"] != Status.DIVERGED).to_numpy(float)
        return Runs(seen, rows["test_accuracy"].to_numpy(float))

    def failed(self, step: str) -> pd.DataFrame:
        """The runs of a step that failed with an error."""
        if not len(self.table):
            return self.table
        return self.table[(self.table["param.step"] == step) & (self.table["status"] == Status.FAILED)]
