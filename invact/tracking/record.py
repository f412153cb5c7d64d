"""The `Record` of a sweep or a claim, which writes results as MLflow runs; `RecordReader` reads them."""
# The sweep or claim is a parent run in MLflow. Each configuration is a child run, and each of its seeds is a
# grandchild. With a single seed, the child is the run of that seed. Only runs with a seed are read back; the
# others are for the pages of MLflow.

from __future__ import annotations

import contextlib
import functools
import io
import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.errors import InputError, InvactError
from invact.process.sources import source_digest
from invact.text import csv_of
from invact.tracking.backend.values import MAX_TAG
from invact.tracking.decisions import tag_of_decision
from invact.tracking.lease import Lease
from invact.tracking.page import tag_of, view_of
from invact.tracking.provenance import CODE, code_of
from invact.tracking.reader import CORRECT, MODEL, RecordReader
from invact.tracking.stored import counts_of, text_in, whole_number
from invact.tracking.table import (
    CONFIG,
    CONFIG_JSON,
    COUNTED,
    ERROR,
    LABEL,
    METRICS,
    ROOT,
    SEED,
    STATUS,
    TRIAL,
    VARIED,
    WINNER,
    count,
    current,
    curve_of,
    metrics_of,
    tagged,
)
from invact.training.results import Status, TrialResult

if TYPE_CHECKING:
    from invact.config import Config, Scalar
    from invact.data.dataset import Dataset
    from invact.tracking.backend.mlflow import MlflowRuns
    from invact.tracking.decisions import Decision
    from invact.training.results import Epoch

__all__ = ["Record"]


PARENT = "mlflow.parentRunId"

RUNNING = "attributes.status = 'RUNNING'"
COST = "cost.csv"


class Record(RecordReader):
    """The record of one sweep or claim. One coordinator writes it; any process can read it.

    Made by `Store.record` and `Store.latest`. As a context manager it closes the record at the end, with
    status FINISHED, KILLED after an interrupt, or FAILED after any other exception.

    Attributes:
        resumed: whether an earlier session began the record.
        summaries: for each trial with several seeds whose summary is stored, the number of its runs with each
            status. Only the record of a coordinator has them.
    """

    def __init__(
        self,
        runs: MlflowRuns,
        experiment: str,
        run_id: str,
        *,
        resumed: bool = True,
        data: Dataset | None = None,
        tags: Mapping[str, str] | None = None,
        imports: Sequence[str] = (),
        lock: contextlib.ExitStack | None = None,
        lease: Lease | None = None,
    ) -> None:
        super().__init__(runs, experiment, run_id)
        self.resumed = resumed
        self._data = data
        self._tags = dict(tags or {})
        self._lock = lock
        self._lease = lease
        self._imports = tuple(imports)
        # Read once, because each worker imports a module once.
        self._digest_of = functools.cache(source_digest)
        # For each trial: the digest of its configuration, and the id of the parent run of its seeds.
        self._trials: dict[int, tuple[str, str]] = {}
        self.summaries: dict[int, Counter[Status]] = {}
        # For each run that has not ended: the seconds in which this process wrote it.
        self._spent: defaultdict[str, float] = defaultdict(float)
        # The params of runs that have no values yet. They are written together with the first values.
        self._params: dict[str, Mapping[str, Any]] = {}
        if lock is not None and resumed:
            self._take_over()

    def __enter__(self) -> Record:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        # The user must see the first error, so an error while closing is ignored.
        with contextlib.suppress(InvactError):
            self.close("FAILED" if isinstance(error, Exception) else "KILLED")

    def code(self, config: Config) -> str:
        """Return the hash of the user's code that may decide the numbers of a run; see `code_of`."""
        return code_of(config, self._imports, self._digest_of)

    def start(
        self,
        trial: int,
        config: Config,
        seed: int,
        seeds: int,
        label: str,
        varied: Mapping[str, Scalar],
        more: Mapping[str, str] | None = None,
    ) -> str:
        """Begin the run of one seed of a configuration.

        Args:
            trial: number of the trial.
            config: the configuration.
            seed: the training seed.
            seeds: number of seeds that the configuration is trained with.
            label: a short name for tables and pictures.
            varied: the parameters that distinguish the trial from the other trials.
            more: more tags of this run.

        Returns:
            The id of the run in MLflow.

        Raises:
            InputError: the configuration is longer than MLflow's limit for a tag.
        """
        begin = time.perf_counter()
        self._hold()
        text = config.model_dump_json()
        if len(text) > MAX_TAG:
            raise InputError(f"config: received {len(text)} characters of JSON. Allowed: {MAX_TAG}")
        tags = self._tags | {
            ROOT: self.run_id,
            PARENT: self.run_id,
            TRIAL: str(trial),
            LABEL: label,
            CONFIG: config.digest(),
            CONFIG_JSON: text,
            VARIED: json.dumps(dict(varied)),
            CODE: self.code(config),
        }
        params = _flat(config, varied)
        name = f"{trial} {label}".strip()
        if seeds > 1:
            tags[PARENT] = self._trial(trial, config, name, tags, params)
            name = f"{name} seed {seed}"
        tags |= {SEED: str(seed), **(more or {})}
        run_id = self._begin(name, tags, params | {"seed": seed})
        self._spent[run_id] += time.perf_counter() - begin
        return run_id

    def epoch(self, run_id: str, epoch: Epoch) -> None:
        """Log the measurements of one epoch."""
        begin = time.perf_counter()
        self._log(run_id, curve_of(epoch), step=epoch.number)
        self._spent[run_id] += time.perf_counter() - begin

    def curve(self, run_id: str, epochs: Sequence[Epoch]) -> None:
        """Log the measurements of several epochs in as few requests as possible."""
        self._runs.log_steps(run_id, {epoch.number: curve_of(epoch) for epoch in epochs})

    def decide(self, run_id: str, decision: Decision) -> None:
        """Note with a run what was decided at a rung, before it is carried out; see `RecordReader.race`."""
        self._hold()
        self._runs.log(run_id, tags=tag_of_decision(decision))

    def finish(self, run_id: str, result: TrialResult, known: Mapping[str, float] | None = None) -> None:
        """Log a result and end its run. After that the run counts, unless it FAILED.

        Args:
            run_id: the id that `start` returned.
            result: the result of the run.
            known: values that were known before training, by column of `METRICS`.
        """
        begin = time.perf_counter()
        self._hold()
        files = {}
        if result.cost is not None:
            files[COST] = csv_of(result.cost.to_pandas()).encode()
        for split, bits in {"test": result.correct, "validation": result.validation_correct}.items():
            if bits:
                with io.BytesIO() as buffer:
                    np.save(buffer, np.frombuffer(bits, np.uint8))
                    files[CORRECT[split]] = buffer.getvalue()
        if result.model:
            files[MODEL] = result.model
        self._runs.keep(run_id, files)
        tags = {STATUS: result.status.value} | ({ERROR: result.error} if result.error else {})
        # The last two calls are not part of the time, because one of them writes it.
        spent = self._spent.pop(run_id, 0.0) + time.perf_counter() - begin
        metrics = metrics_of(result, {**(known or {}), "record_seconds": spent})
        self._log(run_id, metrics, tags=tags, step=len(result.epochs))
        # The status is set last, so that a run that counts is complete.
        self._runs.end(run_id, "FAILED" if result.status is Status.FAILED else "FINISHED")

    def finish_trial(self, trial: int) -> Counter[Status]:
        """Log the means and the status of a trial with several seeds, and return the counts of its statuses.

        The means are shown on the pages of MLflow only; the table has one row for each seed.
        """
        self._hold()
        _, run_id = self._trials[trial]
        mine = f"{tagged(ROOT, self.run_id)} and {tagged(TRIAL, str(trial))}"
        results = current(self._runs.search([self.experiment], mine))
        statuses = count(results)
        status = next(
            (each for each in (Status.FAILED, Status.DIVERGED, Status.PRUNED) if each in statuses),
            statuses.most_common(1)[0][0] if statuses else Status.FAILED,
        )
        means = {}
        for name in METRICS.values():
            values = [run.data.metrics[name] for run in results if name in run.data.metrics]
            if values:
                means[name] = math.fsum(values) / len(values)
        self._runs.log(run_id, means, tags={STATUS: status.value, COUNTED: json.dumps(statuses)})
        self._runs.end(run_id, "FAILED" if status is Status.FAILED else "FINISHED")
        self.summaries[trial] = statuses
        return statuses

    def log_model(self, run_id: str, model: bytes) -> None:
        """Store a `.keras` archive with a run. The run may have ended."""
        self._hold()
        self._runs.keep(run_id, {MODEL: model})

    def keep(self, files: Mapping[str, bytes]) -> None:
        """Store files by name with the parent run; a file with the same name is replaced."""
        self._hold()
        self._runs.keep(self.run_id, files)

    def log_folder(self, folder: Path, name: str) -> None:
        """Store a folder's files with the parent run, in a folder `name`. MLflow shows CSV as a table."""
        self._hold()
        self._runs.keep_folder(self.run_id, folder, name)

    def summarize(self, metrics: Mapping[str, float], tags: Mapping[str, str] | None = None) -> None:
        """Log metrics and tags of the whole sweep or claim on the parent run."""
        self._hold()
        self._runs.log(self.run_id, metrics, tags=tags)

    def show(self, params: Sequence[str], metrics: Sequence[str]) -> None:
        """Choose what `page` shows; see `view_of`."""
        self._hold()
        self._runs.tag_experiment(self.experiment, tag_of(self.run_id), view_of(self.run_id, params, metrics))

    def crown(self, winner: tuple[int, str] | None) -> None:
        """Tag the runs of the winner: all its seeds and their parent run. An earlier winner loses the tag.

        Args:
            winner: trial and digest of the configuration; None if there is no winner.
        """
        self._hold()
        for run in self._search():
            tags = run.data.tags
            wins = (
                run.info.status == "FINISHED" and (whole_number(run, TRIAL), text_in(run, CONFIG)) == winner
            )
            if wins != (tags.get(WINNER) == "true"):
                self._runs.log(run.info.run_id, tags={WINNER: str(wins).lower()})

    def close(self, status: str = "FINISHED") -> None:
        """End the record with status FINISHED, FAILED or KILLED. Runs that have not ended become KILLED."""
        try:
            self._hold()
            self._kill()
            results = current(self._search())
            self._runs.log(self.run_id, tags={COUNTED: json.dumps(count(results))})
            self._runs.end(self.run_id, status)
        finally:
            if self._lock is not None:
                self._lock.close()
                self._lease = None

    def _hold(self) -> None:
        """Check that this process may still write, before each write except those of single epochs."""
        if self._lease is not None:
            self._lease.check()

    def _begin(self, name: str, tags: Mapping[str, str], params: Mapping[str, Any]) -> str:
        run_id = self._runs.begin(self.experiment, name, tags)
        self._params[run_id] = params
        if self._data is not None:
            self._runs.log_data(run_id, self._data)
        return run_id

    def _log(
        self,
        run_id: str,
        metrics: Mapping[str, float | None],
        tags: Mapping[str, str] | None = None,
        step: int = 0,
    ) -> None:
        self._runs.log(run_id, metrics, self._params.pop(run_id, None), tags, step)

    def _trial(
        self, trial: int, config: Config, name: str, tags: Mapping[str, str], params: Mapping[str, Any]
    ) -> str:
        known, run_id = self._trials.get(trial, ("", ""))
        if known != config.digest():
            run_id = self._begin(name, tags, params)
            # Another session may write its first values, after a kill.
            self._log(run_id, {})
            self._trials[trial] = (config.digest(), run_id)
        return run_id

    def _kill(self) -> None:
        for run in self._runs.search([self.experiment], f"{tagged(ROOT, self.run_id)} and {RUNNING}"):
            self._runs.end(run.info.run_id, "KILLED")

    def _take_over(self) -> None:
        self._kill()
        # The search returns the newest run first; in reverse order, the newest run of a trial is kept.
        for run in reversed(self._runs.search([self.experiment], tagged(PARENT, self.run_id))):
            tags = run.data.tags
            if SEED not in tags:
                number = whole_number(run, TRIAL)
                self._trials[number] = (text_in(run, CONFIG), run.info.run_id)
                self.summaries.pop(number, None)
                # The status is set last, so that a run which has ended has all of its summary.
                if run.info.status in ("FINISHED", "FAILED") and COUNTED in tags:
                    counts = counts_of(run.info.run_id, f"tag {COUNTED!r}", tags[COUNTED])
                    self.summaries[number] = Counter(counts)


def _flat(config: Config, varied: Mapping[str, Scalar]) -> dict[str, Any]:
    """Flatten a configuration to MLflow params; varied parameters are repeated as `param.<name>`."""
    values = config.model_dump(mode="json")
    options = values.pop("options")
    values |= {f"options.{name}": value for name, value in options.items()}
    return values | {f"param.{name}": value for name, value in varied.items()}
