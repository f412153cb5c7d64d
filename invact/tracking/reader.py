"""The `RecordReader`, which reads the results of a sweep or a claim from its MLflow runs."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from invact.errors import InputError
from invact.tracking.decisions import begun, decisions_of
from invact.tracking.page import address_of, server_of
from invact.tracking.stored import bits_of, damaged, object_of
from invact.tracking.table import (
    CURVE,
    METRICS,
    ROOT,
    current,
    epochs_of,
    frame_of,
    replaced_of,
    row_of,
    table_of,
    tagged,
)
from invact.training.results import Scores, Status, TrialResult

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from invact.config import Config
    from invact.tracking.backend.mlflow import MlflowRuns
    from invact.tracking.decisions import Decision

__all__ = ["CORRECT", "MODEL", "SETTINGS", "RecordReader"]

CORRECT = {"test": "correct.npy", "validation": "correct_validation.npy"}
"""The files that say for each image of a split whether the run classified it correctly."""

MODEL = "model.keras"

SETTINGS = "settings.json"
"""The file of a parent run with the values of the file of the sweep or claim, after the overrides."""


class RecordReader:
    """Reads the record of one sweep or claim.

    Args:
        runs: the store.
        experiment: id of the experiment of the parent run.
        run_id: id of the parent run in MLflow.

    Attributes:
        run_id: id of the parent run in MLflow.
        experiment: id of the experiment of the parent run.
    """

    def __init__(self, runs: MlflowRuns, experiment: str, run_id: str) -> None:
        self.run_id = run_id
        self.experiment = experiment
        self._runs = runs

    def table(self) -> pd.DataFrame:
        """Read the results: one row for each (trial, seed) that counts, sorted by trial and seed.

        A FAILED run has a row until a later run of the same trial and seed ends with another status.

        Returns:
            A table with the columns `COLUMNS`, then `param.<name>` with the original value of each varied
            parameter, then `config_json`. Counts are `Int64` and scores are float64. A value that was not
            measured or is not finite is missing.
        """
        return frame_of(self._search())

    def result(self, run_id: str, config: Config, seed: int) -> TrialResult:
        """Read the result of a run that has ended, without its network and its cost by layer.

        Args:
            run_id: the id of the run.
            config: the configuration of the run.
            seed: the seed of the run.

        Raises:
            EnvironmentFault: a value is damaged, or a part of a finished run is missing.
        """
        run = self._runs.run(run_id)
        row = row_of(run)
        status = Status(row["status"])
        epochs = epochs_of(self._runs.history(run_id, CURVE))
        bits = {
            split: bits_of(run_id, f"file {name!r}", self._runs.read(run_id, name)).tobytes()
            for split, name in CORRECT.items()
            if self._runs.has(run_id, name)
        }
        if status is Status.FINISHED and ("test" not in bits or len(epochs) != config.epochs):
            received = f"{len(epochs)} epochs, {' and '.join(bits) or 'no split'}"
            raise damaged(run_id, "results", received, f"{config.epochs} epochs, and the answers of the test")

        def scores(split: str) -> Scores | None:
            measured = METRICS[f"{split}_accuracy"] in run.data.metrics
            return Scores(row[f"{split}_accuracy"], row[f"{split}_loss"]) if measured else None

        return TrialResult(
            config=config,
            seed=seed,
            status=status,
            epochs=epochs,
            train=scores("train"),
            validation=scores("validation"),
            test=scores("test"),
            seconds=row["seconds"],
            images_per_second=row["images_per_second"],
            correct=bits.get("test", b""),
            validation_correct=bits.get("validation", b""),
            error=row["error"],
        )

    def replaced(self) -> list[tuple[str, int, dict[str, Any], str, datetime]]:
        """Find the runs that FAILED and were tried again, oldest first.

        Returns:
            Label, seed, varied parameters, error and end of each.
        """
        return replaced_of(self._search())

    def race(self) -> tuple[list[Decision], pd.DataFrame]:
        """Read what a pruner has decided.

        Returns:
            The decisions in their order. Then a table like `table`, without a status and results, with one
            row for each trial that has decisions and no run that has ended: it was stopped from outside.
        """
        runs = self._search()
        open_trials = begun(runs, current(runs))
        return decisions_of(runs), table_of([row_of(run, ended=False) for run in open_trials])

    def read(self, name: str) -> bytes:
        """Read a file of the parent run, for example one that was passed to `Store.record`.

        Raises:
            InputError: there is no file with this name.
        """
        return self._runs.read(self.run_id, name)

    def has(self, name: str) -> bool:
        """Return whether a file is stored with the parent run, `name` or `folder/name`."""
        return self._runs.has(self.run_id, name)

    def json(self, name: str, /, **kinds: type) -> dict[str, Any]:
        """Read a file of the parent run that is a JSON object.

        Args:
            name: name of the file.
            kinds: keys that the object must have, with the types of their values.

        Raises:
            InputError: there is no file with this name.
            EnvironmentFault: the file is damaged, or lacks one of the keys.
        """
        return object_of(self.run_id, f"file {name!r}", self.read(name), **kinds)

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
            EnvironmentFault: the file is damaged.
        """
        name = CORRECT[split]
        packed = bits_of(run_id, f"file {name!r}", self._runs.read(run_id, name))
        if packed.size != math.ceil(count / 8):
            raise InputError(
                f"count: received {count}. Allowed: {max(8 * packed.size - 7, 0)} to {8 * packed.size}"
            )
        return np.unpackbits(packed, count=count).astype(bool)

    def images(self) -> dict[str, int]:
        """Number of images in each split, as noted with the parent run; empty if it is not known."""
        return {split: count for split, count in self._runs.profile(self.run_id).items() if split in CORRECT}

    def classes(self) -> int | None:
        """Number of classes of the data, as noted with the parent run; None if it is not known."""
        return self._runs.profile(self.run_id).get("classes")

    def model(self, run_id: str) -> bytes:
        """Read the `.keras` archive of a run.

        Raises:
            InputError: the run has no archive.
        """
        return self._runs.read(run_id, MODEL)

    def has_model(self, run_id: str) -> bool:
        """Return whether the `.keras` archive of a run is stored."""
        return self._runs.has(run_id, MODEL)

    def page(self, server: str | None = None) -> str:
        """Return the address of the page in MLflow that shows the runs.

        Args:
            server: address of the server; unless given, the server that holds the record, or `invact ui`.
        """
        return address_of(server or server_of(self._runs.uri), self.experiment, self.run_id)

    def _search(self) -> list[Any]:
        # No value that is read back is a param.
        return self._runs.search([self.experiment], tagged(ROOT, self.run_id), params=False)
