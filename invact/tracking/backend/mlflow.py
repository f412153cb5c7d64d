"""The operations on MLflow runs that invact uses; their errors have one line."""
# Only this module imports MLflow, because the import takes 2 s.

from __future__ import annotations

import contextlib
import functools
import glob
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
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, TypeVar

from invact.errors import EnvironmentFault, InputError, masked, one_line
from invact.tracking.backend.places import place_of
from invact.tracking.backend.values import MAX_TAG, text_of

# MLflow reads these variables when it is imported.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

with warnings.catch_warnings():
    # The import of MLflow 3.17 uses a feature that SQLAlchemy 2.1 deprecates.
    warnings.filterwarnings("ignore", "The ``noload`` loader strategy", DeprecationWarning)
    import mlflow
    import mlflow.store.db.utils
    import mlflow.store.tracking.sqlalchemy_store
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import Dataset as DatasetEntity
    from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag, ViewType
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

for _logger in ("mlflow", "alembic", "sqlalchemy.pool"):
    # Their errors are also raised, and invact reports them in one line. The pool logs an interruption as one.
    logging.getLogger(_logger).setLevel(logging.CRITICAL)

if TYPE_CHECKING:
    from invact.data.dataset import Dataset

__all__ = ["VERSION", "MlflowRuns", "check_tables", "connect", "knows_schema", "latest_schema", "upgrade"]

VERSION: str = mlflow.__version__

MAX_PARAMS = 100
MAX_METRICS = 1000
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
            raise _fault(self.shown, error, self.uri) from _cause(error, self.uri)

    return explained  # type: ignore[return-value]


def _fault(place: str, error: BaseException, uri: str) -> EnvironmentFault:
    return EnvironmentFault(f"{place}: {one_line(error, uri)}")


def _cause(error: BaseException, uri: str) -> BaseException | None:
    """Return the error, to show it in a traceback; None if it, or an error before it, shows the password."""
    one: BaseException | None = error
    while one is not None:
        if masked(str(one), uri) != str(one):
            return None
        one = one.__cause__ or one.__context__
    return error


@dataclass(frozen=True)
class MlflowRuns:
    """The runs of an MLflow store, with the operations that invact uses.

    Every method raises EnvironmentFault, with a message of one line, if MLflow or the disk fails. Between
    calls the object keeps only the addresses of the files of runs that it has begun and not ended.

    Attributes:
        uri: the address of the store in MLflow.
        client: the MLflow client.
        page: number of runs to read in one request.
        moved: where the files of experiments are, by the address that the database has for them, if that is
            another place; see `invact.tracking.backend.places.moved`.
        shown: the address of the store in messages, without a password.
        tags_alone: whether `marked` reads only tags. MLflow also reads all other values, which takes half a
            minute for 10,000 runs.
    """

    tags_alone: ClassVar[bool] = False

    uri: str = field(repr=False)
    client: Any = field(repr=False)
    page: int = 1000
    moved: Mapping[str, str] = field(default_factory=dict, repr=False)
    shown: str = ""
    _addresses: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.shown:
            object.__setattr__(self, "shown", masked(self.uri, self.uri))

    def opened(self) -> MlflowRuns:
        """Return the store as MLflow opens it, which is this object."""
        return self

    @_explained
    def begin(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        """Create a run and return its id."""
        info = self.client.create_run(experiment, tags=dict(tags), run_name=name).info
        self._addresses[info.run_id] = info.artifact_uri
        return str(info.run_id)

    @_explained
    def resume(self, run_id: str) -> None:
        """Set the status of a run to RUNNING again."""
        self.client.update_run(run_id, status="RUNNING")

    @_explained
    def end(self, run_id: str, status: str) -> None:
        """End a run with status FINISHED, FAILED or KILLED."""
        self.client.set_terminated(run_id, status)
        self._addresses.pop(run_id, None)

    @_explained
    def delete(self, run_id: str) -> None:
        """Mark a run as deleted. MLflow keeps it until its own clean-up."""
        self.client.delete_run(run_id)

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
        values = _metrics(metrics or {}, step)
        pairs = [Param(key, text_of(value)[:MAX_PARAM]) for key, value in (params or {}).items()]
        words = [RunTag(key, value[:MAX_TAG]) for key, value in (tags or {}).items()]
        for start in range(MAX_PARAMS, len(pairs), MAX_PARAMS):
            self.client.log_batch(run_id, params=pairs[start : start + MAX_PARAMS], synchronous=True)
        self.client.log_batch(run_id, values, pairs[:MAX_PARAMS], words, synchronous=True)

    @_explained
    def log_steps(self, run_id: str, steps: Mapping[int, Mapping[str, float]]) -> None:
        """Log metrics of many steps, in one request for at most 1,000 values."""
        values = [metric for step, metrics in steps.items() for metric in _metrics(metrics, step)]
        for start in range(0, len(values), MAX_METRICS):
            self.client.log_batch(run_id, values[start : start + MAX_METRICS], synchronous=True)

    @_explained
    def tag_experiment(self, experiment: str, key: str, value: str) -> None:
        """Set a tag of an experiment."""
        self.client.set_experiment_tag(experiment, key, value)

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
            self._files(run_id).log_artifacts(folder)

    @_explained
    def keep_folder(self, run_id: str, folder: Path, under: str) -> None:
        """Store the files of a folder with a run, in the run's folder `under`."""
        self._files(run_id).log_artifacts(str(folder), under)

    @_explained
    def has(self, run_id: str, name: str) -> bool:
        """Return whether a file is stored with a run, `name` or `folder/name`."""
        folder = name.rpartition("/")[0]
        return name in [file.path for file in self._files(run_id).list_artifacts(folder or None)]

    @_explained
    def read(self, run_id: str, name: str) -> bytes:
        """Read a file that is stored with a run, `name` or `folder/name`.

        Raises:
            InputError: the run does not have the file.
        """
        files = self._files(run_id)
        if not self.has(run_id, name):
            raise InputError(f"run {run_id}: has no file {name!r} in {files.artifact_uri}")
        with tempfile.TemporaryDirectory() as folder:
            return Path(files.download_artifacts(name, folder)).read_bytes()

    def _files(self, run_id: str) -> Any:
        # Not the client's own functions: they know only the address in the database, and keep it by run for
        # the whole process, so that a store and its copy would have the same files.
        address = self._addresses.get(run_id) or self.client.get_run(run_id).info.artifact_uri
        return get_artifact_repository(place_of(address, self.moved), tracking_uri=self.uri)

    @_explained
    def search(
        self, experiments: Sequence[str], query: str, *, deleted: bool = False, params: bool = True
    ) -> list[Any]:
        """Return all runs that match a query, newest first; with `deleted`, those that were deleted, too.

        MLflow returns the params of runs also without `params`; see `StoredRuns.search`.
        """
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

    def marked(
        self, experiments: Sequence[str], query: str, keys: Sequence[str]
    ) -> dict[str, dict[str, str]]:
        """Return tags of all runs that match a query, by the id of the run, oldest first.

        Args:
            experiments: ids of the experiments.
            query: the query, as for `search`.
            keys: the keys of the tags; one that ends in `.` is the beginning of keys.
        """
        return {
            run.info.run_id: {
                key: value for key, value in run.data.tags.items() if any(map(_matches(key), keys))
            }
            for run in reversed(self.search(experiments, query))
        }

    @_explained
    def run(self, run_id: str) -> Any:
        """Return a run."""
        return self.client.get_run(run_id)

    @_explained
    def history(self, run_id: str, keys: Sequence[str]) -> list[tuple[str, int, float]]:
        """Return the name, the step and the value of each measurement of some metrics, in this order."""
        return [
            (key, metric.step, metric.value)
            for key in keys
            for metric in self.client.get_metric_history(run_id, key)
        ]

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
            raise EnvironmentFault(f"{self.shown}: experiment {name!r} was deleted. To restore it: {restore}")
        return str(experiment.experiment_id)


def _metrics(values: Mapping[str, float | None], step: int) -> list[Metric]:
    now = time.time_ns() // 1_000_000
    # MLflow would store infinity as the largest finite number.
    return [
        Metric(key, value if math.isfinite(value) else math.nan, now, step)
        for key, value in values.items()
        if value is not None
    ]


def _matches(key: str) -> Callable[[str], bool]:
    return lambda wanted: key == wanted or (wanted.endswith(".") and key.startswith(wanted))


def connect(uri: str) -> Any:
    """Return an MLflow client for a store, after a first request that checks the connection.

    Raises:
        EnvironmentFault: the store cannot be reached or read.
    """
    try:
        client = mlflow.MlflowClient(uri)
        client.search_experiments(max_results=1)
    except Exception as error:  # MLflow does not wrap errors of SQLAlchemy, Alembic and drivers.
        raise _fault(masked(uri, uri), error, uri) from _cause(error, uri)
    return client


def check_tables(uri: str, *, read_only: bool) -> None:
    """Check the tables of a database server, because MLflow creates or upgrades them when it opens one.

    Args:
        uri: the address of the database.
        read_only: whether a database without tables is refused, too.

    Raises:
        InputError: the database has no tables of MLflow, and is only to be read.
        EnvironmentFault: an older MLflow made the tables, or the database cannot be reached.
    """
    place, latest = masked(uri, uri), latest_schema()
    try:
        engine = mlflow.store.db.utils.create_sqlalchemy_engine_with_retry(uri)
        with contextlib.ExitStack() as stack:
            stack.callback(engine.dispose)
            empty = mlflow.store.db.utils._is_empty_database(engine)
            found = None if empty else mlflow.store.db.utils._get_schema_version(engine)
    except Exception as error:  # As in `connect`.
        raise _fault(place, error, uri) from _cause(error, uri)
    if empty and read_only:
        raise InputError(f"tracking_uri: received {place!r}, which has no tables of MLflow. Allowed: a store")
    if not empty and found != latest:
        raise EnvironmentFault(
            f"{place}: its tables have schema {found}. Allowed: {latest}, that of MLflow {VERSION}; after a "
            "copy of the database, run `mlflow db upgrade` for older tables"
        )


def knows_schema(revision: str) -> bool:
    """Return whether the installed MLflow knows a revision of the database tables."""
    steps = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    return any(steps.glob(f"{glob.escape(revision)}_*.py"))


def latest_schema() -> str:
    """Return the revision of the database tables that the installed MLflow works with."""
    return str(mlflow.store.db.utils._get_latest_schema_revision())


def upgrade(database: Path) -> None:
    """Bring the tables of a SQLite database to the latest revision, as `mlflow db upgrade` does.

    Raises:
        EnvironmentFault: a step of the upgrade fails.
    """
    uri = f"sqlite:///{database}"
    try:
        engine = mlflow.store.db.utils.create_sqlalchemy_engine_with_retry(uri)
        with contextlib.ExitStack() as stack:
            stack.callback(engine.dispose)
            # Steps that MLflow wrote for older versions of Alembic and SQLAlchemy.
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            mlflow.store.db.utils._upgrade_db(engine)
    except Exception as error:  # As in `connect`.
        raise EnvironmentFault(f"{database}: the upgrade of its tables failed: {one_line(error)}") from error
