"""Tracking: MLflow is the one record of results. A run that is FINISHED counts, nothing else does."""
# The only module that loads MLflow, and slow to load for that (2 s): import it where it is used.

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import os
import socket
import sqlite3
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import urlsplit

from invact.errors import EnvironmentFault, InputError, one_line
from invact.lock import exclusive
from invact.record import MAX_TAG, Record, text_of
from invact.store import SERVERS, RecordInfo, Store

# MLflow reads these while it is loaded.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

with warnings.catch_warnings():
    # MLflow 3.17 does, while it is loaded, what SQLAlchemy 2.1 deprecates.
    warnings.filterwarnings("ignore", "The ``noload`` loader strategy", DeprecationWarning)
    import mlflow
    import mlflow.store.tracking.sqlalchemy_store
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import Dataset as DatasetEntity
    from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
    from mlflow.exceptions import MlflowException

for _logger in ("mlflow", "alembic"):
    # Their errors are raised as well, and told in one line.
    logging.getLogger(_logger).setLevel(logging.CRITICAL)

if TYPE_CHECKING:
    from invact.data import Dataset

__all__ = ["Record", "RecordInfo", "Store", "open_store"]

DATABASE = "mlflow.db"
DATABASES = ("postgresql", "mysql", "mssql")
MAX_PARAMS = 100
MAX_PARAM = 6000

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def _explained(
    method: Callable[Concatenate[Runs, _Arguments], _Result],
) -> Callable[Concatenate[Runs, _Arguments], _Result]:
    """Turn what MLflow, its database and the disk raise into an EnvironmentFault that names the store."""

    @functools.wraps(method)
    def explained(self: Runs, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        try:
            return method(self, *args, **kwargs)
        except (MlflowException, OSError) as error:
            raise EnvironmentFault(f"{self.uri}: {one_line(error)}") from error

    return explained  # type: ignore[return-value]


@dataclass(frozen=True)
class Runs:
    """The runs of an MLflow store, and the few things that invact does with them.

    Its faults are told in one line; it keeps nothing between calls.

    Attributes:
        uri: what MLflow knows the store by.
        client: MLflow's client.
        page: how many runs are read at a time.
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
        """Set a run RUNNING again."""
        self.client.update_run(run_id, status="RUNNING")

    @_explained
    def end(self, run_id: str, status: str) -> None:
        """End a run: FINISHED, FAILED or KILLED."""
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
        """Log values to a run, in one call unless there are over a hundred params. None is left out."""
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
        """Log which data a run uses: by name and digest, not the arrays."""
        split = {"split_seed": data.split_seed, "validation_fraction": data.validation_fraction}
        source = CodeDatasetSource({"name": data.name} | split)
        described = MetaDataset(source, name=data.name, digest=data.digest).to_dict()
        counts = {part: getattr(data, f"{part}_count") for part in ("train", "validation", "test")}
        entity = DatasetEntity(**described, profile=json.dumps(counts | {"classes": data.classes}))
        self.client.log_inputs(run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])

    @_explained
    def keep(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Keep files with a run."""
        if not files:
            return
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            self.client.log_artifacts(run_id, folder)

    @_explained
    def keep_folder(self, run_id: str, folder: Path, under: str) -> None:
        """Keep a folder's files with a run, in a folder of the run's."""
        self.client.log_artifacts(run_id, str(folder), under)

    @_explained
    def read(self, run_id: str, name: str) -> bytes:
        """Read a file that is kept with a run.

        Raises:
            InputError: it has no such file.
        """
        if name not in [file.path for file in self.client.list_artifacts(run_id)]:
            raise InputError(f"run {run_id}: has no file {name!r}")
        with tempfile.TemporaryDirectory() as folder:
            return Path(self.client.download_artifacts(run_id, name, folder)).read_bytes()

    @_explained
    def search(self, experiments: Sequence[str], query: str) -> list[Any]:
        """Find all runs that match, newest first."""
        runs: list[Any] = []
        token = None
        while experiments:
            found = self.client.search_runs(experiments, query, max_results=self.page, page_token=token)
            runs.extend(found)
            token = found.token
            if not token:
                break
        return runs

    @_explained
    def experiments(self) -> dict[str, str]:
        """Name all experiments, by id."""
        names: dict[str, str] = {}
        token = None
        while True:
            found = self.client.search_experiments(page_token=token)
            names |= {experiment.experiment_id: experiment.name for experiment in found}
            token = found.token
            if not token:
                return names

    @_explained
    def experiment(self, name: str, location: str | None) -> str:
        """Find an experiment, or make it, and return its id.

        Args:
            name: its name.
            location: where the files of its runs go; None lets a server decide.

        Raises:
            InputError: the name is MLflow's own.
            EnvironmentFault: the experiment was deleted.
        """
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            return str(self.client.create_experiment(name, artifact_location=location))
        if experiment.experiment_id == "0":
            raise InputError(f"name: received {name!r}. Allowed: any but this, it is MLflow's own")
        if experiment.lifecycle_stage != "active":
            restore = f"mlflow experiments restore -x {experiment.experiment_id}"
            raise EnvironmentFault(f"{self.uri}: experiment {name!r} was deleted. To have it back: {restore}")
        return str(experiment.experiment_id)


def open_store(folder: Path | None = None, tracking_uri: str | None = None) -> Store:
    """Open the store, and make it where there is none. Only a coordinator does this, never a worker.

    Args:
        folder: where its database and files are; `mlruns` unless given.
        tracking_uri: the address of a tracking server (`http`, `https`) or of a database
            (`sqlite`, `postgresql`, `mysql`, `mssql`) instead.

    Raises:
        InputError: both, or an address that MLflow 3 does not take.
        EnvironmentFault: the folder cannot be written, the database is damaged or of a newer MLflow, or the
            server cannot be reached.
    """
    if tracking_uri is None:
        return _open_local((Path("mlruns") if folder is None else folder) / DATABASE)
    if folder is not None:
        raise InputError(
            f"tracking_uri: received {tracking_uri!r} and a folder, {str(folder)!r}. Allowed: one of them"
        )
    address = urlsplit(tracking_uri)
    scheme = address.scheme.partition("+")[0]
    if tracking_uri.startswith("sqlite:///"):
        return _open_local(Path(tracking_uri.removeprefix("sqlite:///")))
    if scheme not in (*SERVERS, *DATABASES) or not address.netloc:
        allowed = "http://..., https://..., sqlite:///FILE, postgresql://..., mysql://..., mssql://..."
        raise InputError(f"tracking_uri: received {tracking_uri!r}. Allowed: {allowed}")
    if scheme in SERVERS:
        _reach(tracking_uri)
    return Store(Runs(tracking_uri, _connect(tracking_uri)), None)


def _open_local(database: Path) -> Store:
    database = Path.cwd() / database
    if unfit := {"%", "?", "\0"} & set(str(database)):
        # MLflow decodes the address of a database in some places and not in others.
        raise InputError(
            f"store: received {str(database)!r}. Allowed: a path without {' '.join(map(repr, unfit))}"
        )
    database = database.resolve()
    uri = f"sqlite:///{database}"
    # Two processes that make the tables at once break the database.
    with exclusive(database.parent / "locks" / "open.lock", f"the opening of {database}", timeout=60):
        try:
            if not database.exists():
                _create(database)
            _check(database)
        except (sqlite3.Error, OSError) as error:
            raise EnvironmentFault(f"{database}: {one_line(error)}") from error
        return Store(Runs(uri, _connect(uri)), database.parent)


def _create(database: Path) -> None:
    # Under another name until it is whole: MLflow cannot go on where a killed process stopped.
    partial = database.with_name(f"{database.name}.new")
    for path in (partial, partial.with_name(f"{partial.name}-journal")):
        path.unlink(missing_ok=True)
    _connect(f"sqlite:///{partial}")
    partial.rename(database)


def _check(database: Path) -> None:
    """Put the database in WAL mode, in which reading does not wait for writing, and look at its version."""
    with contextlib.closing(sqlite3.connect(database, timeout=20)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        revisions = [name for (name,) in connection.execute("SELECT version_num FROM alembic_version")]
    steps = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    for revision in revisions:
        # MLflow would begin to write before it found out.
        if not any(steps.glob(f"{revision}_*.py")):
            raise EnvironmentFault(
                f"{database}: made by a newer MLflow (schema {revision}) than this, {mlflow.__version__}"
            )


def _connect(uri: str) -> Any:
    try:
        client = mlflow.MlflowClient(uri)
        client.search_experiments(max_results=1)
    except Exception as error:  # SQLAlchemy's, Alembic's and drivers' errors come through as they are.
        raise EnvironmentFault(f"{uri}: {one_line(error)}") from error
    return client


def _reach(uri: str) -> None:
    # MLflow itself tries for minutes.
    address = urlsplit(uri)
    try:
        port = address.port or {"http": 80, "https": 443}[address.scheme]
        socket.create_connection((address.hostname, port), timeout=5).close()
    except ValueError as error:
        raise InputError(f"tracking_uri: received {uri!r}: {error}") from None
    except OSError as error:
        raise EnvironmentFault(f"{uri}: no server answers: {error.strerror or error}") from error
