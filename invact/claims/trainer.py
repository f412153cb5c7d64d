"""The trainer of a claim: it trains the runs that a step needs and the record does not have yet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from invact.claims.cells import Cell
from invact.claims.evidence import Results
from invact.errors import Incomplete
from invact.execution.agenda import Trial, done_of, ended_runs
from invact.execution.coordinator import Coordinator
from invact.execution.display.progress import make_progress
from invact.execution.usage import Usage
from invact.execution.workers.engine import on_demand
from invact.networks.widths import network_cost

if TYPE_CHECKING:
    from invact.config import Scalar
    from invact.data.dataset import Dataset, Source
    from invact.tracking.record import Record

__all__ = ["RERUNS", "ClaimTrainer"]

RERUNS = 2
"""How often one session repeats a run, with the same seed, after a fault of the machine."""


class ClaimTrainer:
    """A context manager that knows the runs of a claim and trains more of them.

    The workers start when the first run has to be trained, and they stay for the next steps.

    Args:
        name: name of the claim.
        record: the record that the runs are written to.
        source: where the workers load the data from.
        data: the coordinator's copy of the data.
        imports: modules of the user that the workers import.
        workers: number of processes to train with.
        scheduler: address of a running Dask cluster.
        show: whether to show progress.

    Attributes:
        results: the runs in the record.
        usage: what the trainings of this session have cost.
    """

    def __init__(
        self,
        name: str,
        record: Record,
        source: Source,
        data: Dataset,
        *,
        imports: tuple[str, ...] = (),
        workers: int | None = None,
        scheduler: str | None = None,
        show: bool = True,
    ) -> None:
        self._name = name
        self._record = record
        self._data = data
        self._show = show
        self._resources = contextlib.ExitStack()
        self._engine = on_demand(
            *(self._resources, source, data), workers=workers, scheduler=scheduler, imports=imports
        )
        self.results = Results(record.table(), data)
        self.usage = Usage()

    def __enter__(self) -> ClaimTrainer:
        return self

    def __exit__(self, *details: Any) -> None:
        self._resources.__exit__(*details)

    def train(self, step: str, wanted: Iterable[tuple[Cell, Sequence[int]]], note: str = "") -> None:
        """Train the wanted runs that the record does not have; repeat a run after a fault of the machine.

        Args:
            step: step of the protocol. A network that occurs in two steps is two trials.
            wanted: networks with their seeds.
            note: a remark for the line of progress that announces the step.

        Raises:
            Incomplete: a run still fails after the last repetition.
        """
        trials = self._trials(step, wanted)
        table = self.results.table
        total = sum(len(trial.seeds) for trial in trials)
        done = done_of(trials, ended_runs(table))
        with make_progress(total, done, show=self._show) as progress:
            about = f"{self._name}, {step}{f' ({note})' if note else ''}: {total - done} trainings"
            coordinator = Coordinator(
                *(self._record, progress, self._engine, table, trials),
                about=about,
                attempts=1 + RERUNS,
            )
            coordinator.run()
        self.usage += coordinator.usage
        self.results = Results(self._record.table(), self._data)
        failed = self.results.failed(step)
        if len(failed):
            first = failed.iloc[0]
            raise Incomplete(
                f"{self._name}: {len(failed)} runs of the {step} failed {1 + RERUNS} times, so there is no "
                f"verdict. The same command tries them again. First failure: {first['label']}, seed "
                f"{first['seed']}: {first['error']}"
            )

    @property
    def reruns(self) -> list[dict[str, Any]]:
        """The runs that were repeated after a fault of the machine, in all sessions, oldest first."""
        return [
            {
                "step": values.get("step", ""),
                "label": label,
                "seed": seed,
                "error": error,
                "at": at.isoformat(),
            }
            for label, seed, values, error, at in self._record.replaced()
        ]

    def _trials(self, step: str, wanted: Iterable[tuple[Cell, Sequence[int]]]) -> list[Trial]:
        known: dict[tuple[str, str, str], int] = {}
        table = self.results.table
        if len(table):
            keys = zip(*(table[name] for name in ("param.step", "param.key", "config")), strict=True)
            known = dict(zip(keys, table["trial"].tolist(), strict=True))
        following = max(known.values(), default=-1) + 1
        trials = []
        shape = self._data.input_shape, self._data.classes
        for cell, seeds in wanted:
            number = known.get((step, cell.key, cell.config.digest()))
            if number is None:
                number, following = following, following + 1
            values: dict[str, Scalar] = {
                "step": step,
                "key": cell.key,
                "role": cell.role,
                "ratio": cell.ratio,
            }
            # The longest training comes first.
            known_macs = {"macs": network_cost(cell.config, *shape).macs}
            trials.append(
                Trial(number, cell.config, tuple(seeds), f"{step}: {cell.label}", values, known_macs)
            )
        return trials
