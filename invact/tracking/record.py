"""The `Record` of a sweep or a claim, which writes results as MLflow runs and reads them back as a table."""
# The sweep or claim is a parent run in MLflow. Each configuration is a child run, and each of its seeds is a
# grandchild. With a single seed, the child is the run of that seed. Only runs with a seed are read back; the
# others are for the pages of MLflow.

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from invact.errors import InputError, InvactError
from invact.tracking.table import (
    COLUMNS,
    CONFIG,
    CONFIG_JSON,
    COUNTED,
    COUNTS,
    ERROR,
    LABEL,
    METRICS,
    ROOT,
    SEED,
    STATUS,
    TRIAL,
    VARIED,
    count,
    current,
    metrics_of,
    row_of,
    tagged,
)
from invact.tracking.values import MAX_TAG
from invact.training.results import Status, TrialResult

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from invact.config import Config, Scalar
    from invact.data.dataset import Dataset
    from invact.tracking.mlflow import MlflowRuns
    from invact.training.results import Epoch

__all__ = ["Record"]


PARENT = "mlflow.parentRunId"

RUNNING = "attributes.status = 'RUNNING'"
CORRECT = {"test": "correct.npy", "validation": "correct_validation.npy"}
COST, MODEL = "cost.csv", "model.keras"


class Record:
    """The record of one sweep or claim. One coordinator writes it; any process can read it.

    Made by `Store.record` and `Store.latest`. As a context manager it closes the record at the end, with
    status FINISHED, KILLED after an interrupt, or FAILED after any other exception.

    Attributes:
        run_id: id of the parent run in MLflow.
        experiment: id of the experiment of the parent run.
        resumed: whether an earlier session began the record.
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
        lock: contextlib.ExitStack | None = None,
    ) -> None:
        self.run_id = run_id
        self.experiment = experiment
        self.resumed = resumed
        self._runs = runs
        self._data = data
        self._tags = dict(tags or {})
        self._lock = lock
        # For each trial: the digest of its configuration, and the id of the parent run of its seeds.
        self._trials: dict[int, tuple[str, str]] = {}
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

    def start(
        self, trial: int, config: Config, seed: int, seeds: int, label: str, varied: Mapping[str, Scalar]
    ) -> str:
        """Begin the run of one seed of a configuration.

        Args:
            trial: number of the trial.
            config: the configuration.
            seed: the training seed.
            seeds: number of seeds that the configuration is trained with.
            label: a short name for tables and pictures.
            varied: the parameters that distinguish the trial from the other trials.

        Returns:
            The id of the run in MLflow.

        Raises:
            InputError: the configuration is longer than MLflow's limit for a tag.
        """
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
        }
        params = _flat(config, varied)
        name = f"{trial} {label}".strip()
        if seeds > 1:
            tags[PARENT] = self._trial(trial, config, name, tags, params)
            name = f"{name} seed {seed}"
        return self._begin(name, tags | {SEED: str(seed)}, params | {"seed": seed})

    def epoch(self, run_id: str, epoch: Epoch) -> None:
        """Log the measurements of one epoch."""
        metrics = {"time/epoch_seconds": epoch.seconds}
        for split, scores in {"train": epoch.train, "validation": epoch.validation}.items():
            metrics |= {f"{split}/accuracy": scores.accuracy, f"{split}/loss": scores.loss}
        self._runs.log(run_id, metrics, step=epoch.number)

    def finish(self, run_id: str, result: TrialResult, known: Mapping[str, float] | None = None) -> None:
        """Log a result and end its run. After that the run counts, unless it FAILED.

        Args:
            run_id: the id that `start` returned.
            result: the result of the run.
            known: values that were known before training, by column of `METRICS`.
        """
        files = {}
        if result.cost is not None:
            files[COST] = result.cost.to_pandas().to_csv(index=False).encode()
        for split, bits in {"test": result.correct, "validation": result.validation_correct}.items():
            if bits:
                with io.BytesIO() as buffer:
                    np.save(buffer, np.frombuffer(bits, np.uint8))
                    files[CORRECT[split]] = buffer.getvalue()
        if result.model:
            files[MODEL] = result.model
        self._runs.keep(run_id, files)
        tags = {STATUS: result.status.value} | ({ERROR: result.error} if result.error else {})
        self._runs.log(run_id, metrics_of(result, known or {}), tags=tags, step=len(result.epochs))
        # The status is set last, so that a run that counts is complete.
        self._runs.end(run_id, "FAILED" if result.status is Status.FAILED else "FINISHED")

    def finish_trial(self, trial: int) -> None:
        """Log the means and the status of a trial with several seeds. A trial with one seed needs nothing.

        The means are shown on the pages of MLflow only; the table has one row for each seed.
        """
        if trial not in self._trials:
            return
        _, run_id = self._trials[trial]
        results = current(self._runs.search([self.experiment], tagged(PARENT, run_id)))
        statuses = count(results)
        status = next(
            (each for each in (Status.FAILED, Status.DIVERGED) if each in statuses),
            statuses.most_common(1)[0][0] if statuses else Status.FAILED,
        )
        means = {}
        for name in METRICS.values():
            values = [run.data.metrics[name] for run in results if name in run.data.metrics]
            if values:
                means[name] = math.fsum(values) / len(values)
        self._runs.log(run_id, means, tags={STATUS: status.value, COUNTED: json.dumps(statuses)})
        self._runs.end(run_id, "FAILED" if status is Status.FAILED else "FINISHED")

    def table(self) -> pd.DataFrame:
        """Read the results: one row for each (trial, seed) that counts, sorted by trial and seed.

        A FAILED run has a row until a later run of the same trial and seed ends with another status.

        Returns:
            A table with the columns `COLUMNS`, then `param.<name>` with the original value of each varied
            parameter, then `config_json`. Counts are `Int64` and scores are float64. A value that was not
            measured or is not finite is missing.
        """
        import pandas as pd

        rows = [
            row_of(run) for run in current(self._runs.search([self.experiment], tagged(ROOT, self.run_id)))
        ]
        varied = list(dict.fromkeys(name for row in rows for name in row if name.startswith("param.")))
        table = pd.DataFrame(rows, columns=[*COLUMNS, *varied, "config_json"])
        for name in varied:
            # If a trial lacks a parameter, pandas would convert the integers of the other trials to floats.
            values = [row.get(name) for row in rows]
            table[name] = pd.Series(values, dtype=object if None in values else None)
        kinds = dict.fromkeys(METRICS, "float64") | dict.fromkeys(COUNTS, "Int64")
        return table.astype(kinds | {"trial": "int64", "seed": "int64"})

    def read(self, name: str) -> bytes:
        """Read a file of the parent run, for example one that was passed to `Store.record`.

        Raises:
            InputError: there is no file with this name.
        """
        return self._runs.read(self.run_id, name)

    @property
    def tags(self) -> dict[str, str]:
        """The tags of the parent run."""
        return self._runs.tags(self.run_id)

    def correct(
        self, run_id: str, count: int, split: Literal["test", "validation"] = "test"
    ) -> NDArray[np.bool_]:
        """Read which images a run classified correctly; shape (count,).

        Args:
            run_id: the id of the run.
            count: number of images in the split.
            split: the split. Records of old versions have no data for `validation`.

        Raises:
            InputError: the run has no such data, or has them for another number of images.
        """
        packed = np.load(io.BytesIO(self._runs.read(run_id, CORRECT[split])), allow_pickle=False)
        if packed.size != math.ceil(count / 8):
            raise InputError(
                f"count: received {count}. Allowed: {max(8 * packed.size - 7, 0)} to {8 * packed.size}"
            )
        return np.unpackbits(packed, count=count).astype(bool)

    def images(self) -> dict[str, int]:
        """Number of images in each split, as noted with the parent run; empty if it is not known."""
        return {split: count for split, count in self._runs.profile(self.run_id).items() if split in CORRECT}

    def model(self, run_id: str) -> bytes:
        """Read the `.keras` archive of a run.

        Raises:
            InputError: the run has no archive.
        """
        return self._runs.read(run_id, MODEL)

    def log_model(self, run_id: str, model: bytes) -> None:
        """Store a `.keras` archive with a run. The run may have ended."""
        self._runs.keep(run_id, {MODEL: model})

    def keep(self, files: Mapping[str, bytes]) -> None:
        """Store files by name with the parent run; a file with the same name is replaced."""
        self._runs.keep(self.run_id, files)

    def log_folder(self, folder: Path, name: str) -> None:
        """Store a folder's files with the parent run, in a folder `name`. MLflow shows CSV as a table."""
        self._runs.keep_folder(self.run_id, folder, name)

    def summarize(self, metrics: Mapping[str, float], tags: Mapping[str, str] | None = None) -> None:
        """Log metrics and tags of the whole sweep or claim on the parent run."""
        self._runs.log(self.run_id, metrics, tags=tags)

    def close(self, status: str = "FINISHED") -> None:
        """End the record with status FINISHED, FAILED or KILLED. Runs that have not ended become KILLED."""
        try:
            self._kill()
            results = current(self._runs.search([self.experiment], tagged(ROOT, self.run_id)))
            self._runs.log(self.run_id, tags={COUNTED: json.dumps(count(results))})
            self._runs.end(self.run_id, status)
        finally:
            if self._lock is not None:
                self._lock.close()

    def _begin(self, name: str, tags: Mapping[str, str], params: Mapping[str, Any]) -> str:
        run_id = self._runs.begin(self.experiment, name, tags)
        self._runs.log(run_id, params=params)
        if self._data is not None:
            self._runs.log_data(run_id, self._data)
        return run_id

    def _trial(
        self, trial: int, config: Config, name: str, tags: Mapping[str, str], params: Mapping[str, Any]
    ) -> str:
        known, run_id = self._trials.get(trial, ("", ""))
        if known != config.digest():
            run_id = self._begin(name, tags, params)
            self._trials[trial] = (config.digest(), run_id)
        return run_id

    def _kill(self) -> None:
        for run in self._runs.search([self.experiment], f"{tagged(ROOT, self.run_id)} and {RUNNING}"):
            self._runs.end(run.info.run_id, "KILLED")

    def _take_over(self) -> None:
        self._kill()
        # The search returns the newest run first; in reverse order, the newest run of a trial is kept.
        for run in reversed(self._runs.search([self.experiment], tagged(PARENT, self.run_id))):
            if SEED not in run.data.tags:
                tags = run.data.tags
                self._trials[int(tags[TRIAL])] = (tags[CONFIG], run.info.run_id)


def _flat(config: Config, varied: Mapping[str, Scalar]) -> dict[str, Any]:
    """Flatten a configuration to MLflow params; varied parameters are repeated as `param.<name>`."""
    values = config.model_dump(mode="json")
    options = values.pop("options")
    values |= {f"options.{name}": value for name, value in options.items()}
    return values | {f"param.{name}": value for name, value in varied.items()}
