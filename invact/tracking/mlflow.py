"""The operations on MLflow runs that invact uses; their errors have one line."""
# Only this module imports MLflow, because the import takes 2 s.

from __future__ import annotations

import functools
import json
import logging
import math
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from invact.errors import EnvironmentFault, InputError, one_line
from invact.tracking.values import MAX_TAG, text_of

# MLflow reads these variables when it is imported.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

with warnings.catch_warnings():
    # The import of MLflow 3.17 uses a feature that SQLAlchemy 2.1 deprecates.
    warnings.filterwarnings("ignore", "The ``noload`` loader strategy", DeprecationWarning)
    import mlflow
    import mlflow.store.tracking.sqlalchemy_store
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import Dataset as DatasetEntity
    from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag, ViewType
    from mlflow.exceptions import MlflowException

for _logger in ("mlflow", "alembic"):
    # Their errors are also raised, and invact reports them in one line.
    logging.getLogger(_logger).setLevel(logging.CRITICAL)

if TYPE_CHECKING:
    from invact.data.dataset import Dataset

__all__ = ["VERSION", "MlflowRuns", "connect", "knows_schema"]

VERSION: str = mlflow.__version__

MAX_PARAMS = 100
MAX_PARAM = 6000

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def _explained(
    method: Callable[Concatenate[MlflowRuns, _Arguments], _Result],
) -> Callable[Concatenate[MlflowRuns, _Arguments], _Result]:
    """Convert exceptions of MLflow, its database and the disk to an EnvironmentFault that names the store."""

    @functools.wraps(method)
    def explained(self: MlflowRuns, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        try:
            return method(self, *args, **kwargs)
        except (MlflowException, OSError) as error:
            raise EnvironmentFault(f"{self.uri}: {one_line(error)}") from error

    return explained  # type: ignore[return-value]


@dataclass(frozen=True)
class MlflowRuns:
    """The runs of an MLflow store, with the operations that invact uses.

    Every method raises EnvironmentFault, with a message of one line, if MLflow or the disk fails. The object
    keeps no state between calls.

    Attributes:
        uri: the address of the store in MLflow.
        client: the MLflow client.
        page: number of runs to read in one request.
    """

    uri: str
    client: Any = field(repr=False)
    page: int = 1000

    @_explained
    def begin(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        """Create a run and return its id."""
        return str(self.client.create_run(experiment, tags=dict(tags), run_name=name).info.run_id)

    @_explained
    def resume(self, run_id: str) -> None:
        """Set the status of a run to RUNNING again."""
        self.client.update_run(run_id, status="RUNNING")

    @_explained
    def end(self, run_id: str, status: str) -> None:
        """End a run with status FINISHED, FAILED or KILLED."""
        self.client.set_terminated(run_id, status)

    @_explained
    def log(
        self,
        run_id: str,
        metrics: Mapping[str, float | None] | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        step: int = 0,
    ) -> None:
        """Log values to a run, in one request for at most 100 params. A metric that is None is skipped."""
        now = time.time_ns() // 1_000_000
        # MLflow would store infinity as the largest finite number.
        values = [
            Metric(key, value if math.isfinite(value) else math.nan, now, step)
            for key, value in (metrics or {}).items()
            if value is not None
        ]
        pairs = [Param(key, text_of(value)[:MAX_PARAM]) for key, value in (params or {}).items()]
        words = [RunTag(key, value[:MAX_TAG]) for key, value in (tags or {}).items()]
        for start in range(MAX_PARAMS, len(pairs), MAX_PARAMS):
            self.client.log_batch(run_id, params=pairs[start : start + MAX_PARAMS], synchronous=True)
        self.client.log_batch(run_id, values, pairs[:MAX_PARAMS], words, synchronous=True)

    @_explained
    def log_data(self, run_id: str, data: Dataset) -> None:
        """Log the name and the digest of the data set of a run, but not the arrays."""
        split = {"split_seed": data.split_seed, "validation_fraction": data.validation_fraction}
        source = CodeDatasetSource({"name": data.name} | split)
        described = MetaDataset(source, name=data.name, digest=data.digest).to_dict()
        counts = {part: getattr(data, f"{part}_count") for part in ("train", "validation", "test")}
        entity = DatasetEntity(**described, profile=json.dumps(counts | {"classes": data.classes}))
        self.client.log_inputs(run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])

    @_explained
    def profile(self, run_id: str) -> dict[str, int]:
        """Return the counts of the data set of a run, see `log_data`; empty if none is noted."""
        inputs = self.client.get_run(run_id).inputs.dataset_inputs
        return dict(json.loads(inputs[0].dataset.profile)) if inputs else {}

    @_explained
    def keep(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Store files with a run."""
        if not files:
            return
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            self.client.log_artifacts(run_id, folder)

    @_explained
    def keep_folder(self, run_id: str, folder: Path, under: str) -> None:
        """Store the files of a folder with a run, in the run's folder `under`."""
        self.client.log_artifacts(run_id, str(folder), under)

    @_explained
    def read(self, run_id: str, name: str) -> bytes:
        """Read a file that is stored with a run, `name` or `folder/name`.

        Raises:
            InputError: the run does not have the file.
        """
        folder = name.rpartition("/")[0]
        if name not in [file.path for file in self.client.list_artifacts(run_id, folder or None)]:
            raise InputError(f"run {run_id}: has no file {name!r}")
        with tempfile.TemporaryDirectory() as folder:
            return Path(self.client.download_artifacts(run_id, name, folder)).read_bytes()

    @_explained
    def search(self, experiments: Sequence[str], query: str, *, deleted: bool = False) -> list[Any]:
        """Return all runs that match a query, newest first; with `deleted`, those that were deleted, too."""
        view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
        runs: list[Any] = []
        token = None
        while experiments:
            found = self.client.search_runs(experiments, query, view, self.page, page_token=token)
            runs.extend(found)
            token = found.token
            if not token:
                break
        return runs

    @_explained
    def tags(self, run_id: str) -> dict[str, str]:
        """Return the tags of a run."""
        return dict(self.client.get_run(run_id).data.tags)

    @_explained
    def experiments(self, *, deleted: bool = False) -> dict[str, str]:
        """Return the names of all experiments by id; with `deleted`, those that were deleted, too."""
        view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
        names: dict[str, str] = {}
        token = None
        while True:
            found = self.client.search_experiments(view, page_token=token)
            names |= {experiment.experiment_id: experiment.name for experiment in found}
            token = found.token
            if not token:
                return names

    @_explained
    def experiment(self, name: str, location: str | None) -> str:
        """Return the id of an experiment, and create the experiment if it does not exist.

        Args:
            name: name of the experiment.
            location: where to store the files of its runs; None lets a server decide.

        Raises:
            InputError: MLflow reserves the name.
            EnvironmentFault: the experiment was deleted.
        """
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            return str(self.client.create_experiment(name, artifact_location=location))
        if experiment.experiment_id == "0":
            raise InputError(f"name: received {name!r}. Allowed: any other name; MLflow reserves this one")
        if experiment.lifecycle_stage != "active":
            restore = f"mlflow experiments restore -x {experiment.experiment_id}"
            raise EnvironmentFault(f"{self.uri}: experiment {name!r} was deleted. To restore it: {restore}")
        return str(experiment.experiment_id)


def connect(uri: str) -> Any:
    """Return an MLflow client for a store, after a first request that checks the connection.

    Raises:
        EnvironmentFault: the store cannot be reached or read.
    """
    try:
        client = mlflow.MlflowClient(uri)
        client.search_experiments(max_results=1)
    except Exception as error:  # MLflow does not wrap errors of SQLAlchemy, Alembic and drivers.
        raise EnvironmentFault(f"{uri}: {one_line(error)}") from error
    return client


def knows_schema(revision: str) -> bool:
    """Return whether the installed MLflow knows a revision of the database tables."""
    steps = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    return any(steps.glob(f"{revision}_*.py"))
