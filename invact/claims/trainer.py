"""The runs of a claim: trains what a step wants and the record lacks, and reads accuracies back."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from invact.claims.cells import Cell
from invact.claims.evidence import Results
from invact.errors import Incomplete, InputError
from invact.execution.coordinator import Coordinator, Trial
from invact.execution.engine import Engine
from invact.execution.progress import make_progress

if TYPE_CHECKING:
    from invact.data.dataset import Dataset, Source
    from invact.tracking.record import Record

__all__ = ["RERUNS", "ClaimTrainer"]

RERUNS = 2
"""How often a session tries a run again, with the same seed, that failed for a fault of the machine."""
FILE = "reruns.json"


class ClaimTrainer:
    """What has been trained for a claim, and the means to train more; a context manager.

    The workers start with the first training that is missing, and stay for the next steps.

    Args:
        name: the claim's.
        record: where runs are written.
        source: where the data come from.
        data: the coordinator's copy.
        imports: the user's modules.
        workers: processes to train with.
        scheduler: address of a cluster that is up.
        show: whether to show progress.

    Attributes:
        results: what there is.
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
        """Train what is wanted and not there; a run that fails for the machine's fault is tried again.

        Args:
            step: of the protocol; a network of two steps is two trials.
            wanted: networks and their seeds.
            note: for the line that announces it.

        Raises:
            Incomplete: a run still fails.
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
                f"{self._name}: {len(failed)} runs of the {step} failed {1 + RERUNS} times, so no verdict; "
                f"the same command tries them again. The first: {first['label']}, seed {first['seed']}: "
                f"{first['error']}"
            )

    @property
    def reruns(self) -> list[dict[str, Any]]:
        """The runs that failed for the machine's fault and were tried again, in all sessions."""
        try:
            found: list[dict[str, Any]] = json.loads(self._record.read(FILE))
        except InputError:
            return []
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
