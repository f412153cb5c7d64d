"""The trainer of a claim: it trains the runs that a step needs and the record does not have yet."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from invact.claims.cells import Cell
from invact.claims.evidence import Results
from invact.errors import EnvironmentFault, Incomplete, InputError, one_line
from invact.execution.coordinator import Coordinator, Trial
from invact.execution.engine import Engine
from invact.execution.progress import make_progress

if TYPE_CHECKING:
    from invact.data.dataset import Dataset, Source
    from invact.tracking.record import Record

__all__ = ["RERUNS", "ClaimTrainer"]

RERUNS = 2
"""How often one session repeats a run, with the same seed, after a fault of the machine."""
FILE = "reruns.json"


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
        self._engine: Engine | None = None
        self._make: Callable[[], Engine] = partial(
            Engine, source, data, workers=workers, scheduler=scheduler, imports=imports
        )
        self._resources = contextlib.ExitStack()
        self.results = Results(record.table(), data)

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
        wanted = list(wanted)
        for attempt in range(1 + RERUNS):
            trials = self._trials(step, wanted)
            missing = [trial for trial in trials if len(trial.recorded) < len(trial.seeds)]
            if not missing:
                return
            if attempt:
                self._log_reruns(step)
            self._train(step, trials, missing, note)
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
        """The runs that were repeated after a fault of the machine, in all sessions."""
        try:
            found: list[dict[str, Any]] = json.loads(self._record.read(FILE))
        except InputError:
            return []
        except ValueError as error:
            raise EnvironmentFault(f"{FILE} of run {self._record.run_id}: {one_line(error)}") from None
        return found

    def _trials(self, step: str, wanted: list[tuple[Cell, Sequence[int]]]) -> list[Trial]:
        known: dict[tuple[str, str, str], int] = {}
        table = self.results.table
        if len(table):
            keys = zip(*(table[name] for name in ("param.step", "param.key", "config")), strict=True)
            known = dict(zip(keys, table["trial"], strict=True))
        following = max(known.values(), default=-1) + 1
        trials = []
        for cell, seeds in wanted:
            number = known.get((step, cell.key, cell.config.digest()))
            if number is None:
                number, following = following, following + 1
            trials.append(
                Trial(
                    number,
                    cell.config,
                    tuple(seeds),
                    f"{step}: {cell.label}",
                    {"step": step, "key": cell.key, "role": cell.role, "ratio": cell.ratio},
                    frozenset(self.results.of(step, cell)["seed"]) & frozenset(seeds),
                )
            )
        return trials

    def _train(self, step: str, trials: list[Trial], missing: list[Trial], note: str) -> None:
        if self._engine is None:
            self._engine = self._resources.enter_context(self._make())
        total = sum(len(trial.seeds) for trial in trials)
        done = sum(len(trial.recorded) for trial in trials)
        queue = iter(missing)
        with make_progress(total, done, show=self._show) as progress:
            about = f"{self._name}, {step}{f' ({note})' if note else ''}"
            progress.message(
                f"{about}: {total - done} trainings, {self._engine.slots} workers, {self._data!r}"
            )
            coordinator = Coordinator(self._engine, self._record, progress)
            coordinator.run(lambda: next(queue, None), lambda trial, runs: None)

    def _log_reruns(self, step: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        again = [
            {"step": step, "label": row["label"], "seed": row["seed"], "error": row["error"], "at": now}
            for row in self.results.failed(step).to_dict("records")
        ]
        self._record.keep({FILE: json.dumps(self.reruns + again, indent=1).encode()})
