"""Reading a local store without MLflow, whose import alone takes two to three seconds.

`StoredRuns` has the reading methods of `invact.tracking.backend.mlflow.MlflowRuns`. It reads the tables
`experiments`, `runs`, `tags`, `params` and `latest_metrics`, whose columns are those of MLflow 1 to 3, and
`inputs` and `datasets`, and changes nothing.
"""

from __future__ import annotations

import contextlib
import math
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from invact.errors import EnvironmentFault, InputError, one_line
from invact.tracking.backend.places import moved, place_of
from invact.tracking.stored import object_of

if TYPE_CHECKING:
    from invact.tracking.backend.mlflow import MlflowRuns

__all__ = ["StoredRuns"]

_CONDITION = re.compile(r"(?:tags\.`([^`']+)`|attributes\.(status)|dataset\.(digest)) (=|!=) '([^']*)'")
_MOST = 500
"""Runs in one query; SQLite allows 999 values."""


@dataclass(frozen=True)
class _Info:
    run_id: str
    experiment_id: str
    run_name: str
    status: str
    start_time: int
    end_time: int | None
    lifecycle_stage: str
    artifact_uri: str


@dataclass(frozen=True)
class _Data:
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Run:
    """A run with the attributes of `mlflow.entities.Run` that invact uses."""

    info: _Info
    data: _Data


_COLUMNS = (
    "run_uuid, experiment_id, name, status, start_time, end_time, lifecycle_stage, coalesce(artifact_uri, '')"
)


class StoredRuns:
    """The runs of the MLflow store in a database file; see `invact.tracking.backend.mlflow.MlflowRuns`.

    The methods raise EnvironmentFault, with a message of one line, if the database cannot be read. A method
    that is not here, such as one that writes, is that of `MlflowRuns`: its first use imports MLflow.

    Args:
        database: the file of the database, an absolute path.
        write: opens the store with MLflow, to write.

    Attributes:
        uri: the address of the store in MLflow.
        shown: the same address, for messages.
        tags_alone: whether `marked` reads only tags; it then takes half a second for 10,000 runs.
    """

    tags_alone = True

    def __init__(self, database: Path, write: Callable[[], MlflowRuns]) -> None:
        self._database = database
        self._write = write
        self.uri = self.shown = f"sqlite:///{database}"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mlflow, name)

    def opened(self) -> MlflowRuns:
        """Return the store as MLflow opens it, for example for its server."""
        return self._mlflow

    @cached_property
    def moved(self) -> dict[str, str]:
        """Where the files of experiments are, if the store was moved; see `places.moved`."""
        rows = self._rows("SELECT name, artifact_location FROM experiments")
        known = [(str(name), address) for name, address in rows if isinstance(address, str)]
        return moved(known, self._database.parent)

    def experiments(self, *, deleted: bool = False) -> dict[str, str]:
        """Return the names of all experiments by id; with `deleted`, those that were deleted, too."""
        stages = "" if deleted else "WHERE lifecycle_stage = 'active'"
        rows = self._rows(f"SELECT experiment_id, name FROM experiments {stages} ORDER BY experiment_id DESC")
        return {str(key): str(name) for key, name in rows}

    def search(
        self, experiments: Sequence[str], query: str, *, deleted: bool = False, params: bool = True
    ) -> list[Any]:
        """Return all runs that match a query, newest first; with `deleted`, those that were deleted, too.

        The query joins conditions on tags, the status and the digest of the data by `and`, as
        `invact.tracking.table.tagged` makes them. A run without a tag does not match a condition on it.
        Without `params`, the params are not read, which saves time if there are thousands of runs.
        """
        where, values = _where(experiments, query, deleted)
        rows = self._rows(
            f"SELECT {_COLUMNS} FROM runs WHERE {where} ORDER BY start_time DESC, run_uuid", values
        )
        return self._complete(rows, ("tags", "params") if params else ("tags",))

    def marked(
        self, experiments: Sequence[str], query: str, keys: Sequence[str]
    ) -> dict[str, dict[str, str]]:
        """Return tags of all runs that match a query, by the id of the run, oldest first.

        Args:
            experiments: ids of the experiments.
            query: the query, as for `search`.
            keys: the keys of the tags; one that ends in `.` is the beginning of keys.
        """
        where, values = _where(experiments, query)
        wanted = " OR ".join("substr(key, 1, ?) = ?" if key.endswith(".") else "key = ?" for key in keys)
        named = [part for key in keys for part in ((len(key), key) if key.endswith(".") else (key,))]
        found: dict[str, dict[str, str]] = {}
        matching = f"SELECT run_uuid, start_time FROM runs WHERE {where}"
        for run_id, key, value in self._rows(
            f"SELECT run_uuid, key, value FROM tags JOIN ({matching}) USING (run_uuid) WHERE {wanted} "
            "ORDER BY start_time, run_uuid",
            [*values, *named],
        ):
            found.setdefault(run_id, {})[key] = value
        return found

    def run(self, run_id: str) -> Any:
        """Return a run."""
        rows = self._rows(f"SELECT {_COLUMNS} FROM runs WHERE run_uuid = ?", [run_id])
        if not rows:
            raise EnvironmentFault(f"{self._database}: there is no run {run_id}")
        return self._complete(rows)[0]

    def history(self, run_id: str, keys: Sequence[str]) -> list[tuple[str, int, float]]:
        """Return the name, the step and the value of each measurement of some metrics."""
        rows = self._rows(
            f"SELECT key, step, value, is_nan FROM metrics WHERE run_uuid = ? AND key IN "
            f"({', '.join('?' * len(keys))}) ORDER BY step, timestamp",
            [run_id, *keys],
        )
        return [(key, step, math.nan if is_nan else float(value)) for key, step, value, is_nan in rows]

    def tags(self, run_id: str) -> dict[str, str]:
        """Return the tags of a run."""
        return dict(self._rows("SELECT key, value FROM tags WHERE run_uuid = ?", [run_id]))

    def profile(self, run_id: str) -> dict[str, int]:
        """Return the counts of the data set of a run; empty if none is noted."""
        rows = self._rows(
            "SELECT dataset_profile FROM datasets JOIN inputs ON dataset_uuid = source_id "
            "WHERE destination_id = ? AND source_type = 'DATASET'",
            [run_id],
        )
        return object_of(run_id, "profile of the data set", rows[0][0]) if rows else {}

    def has(self, run_id: str, name: str) -> bool:
        """Return whether a file is stored with a run, `name` or `folder/name`."""
        folder = self._folder(run_id)
        return bool(self._mlflow.has(run_id, name)) if folder is None else (folder / name).is_file()

    def read(self, run_id: str, name: str) -> bytes:
        """Read a file that is stored with a run, `name` or `folder/name`.

        Raises:
            InputError: the run does not have the file.
        """
        folder = self._folder(run_id)
        if folder is None:
            return bytes(self._mlflow.read(run_id, name))
        try:
            return (folder / name).read_bytes()
        except FileNotFoundError:
            raise InputError(f"run {run_id}: has no file {name!r} in {folder.as_uri()}") from None
        except OSError as error:
            raise EnvironmentFault(f"{folder / name}: {error.strerror or error}") from None

    def readable(self) -> bool:
        """Return whether the file is a database that has the tables."""
        try:
            for table in ("tags", "params", "latest_metrics"):
                self._rows(f"SELECT run_uuid, key, value FROM {table} LIMIT 0")
            self._rows(f"SELECT {_COLUMNS} FROM runs LIMIT 0")
            self.experiments()
        except EnvironmentFault:
            return False
        return True

    @cached_property
    def _mlflow(self) -> MlflowRuns:
        return self._write()

    def _folder(self, run_id: str) -> Path | None:
        """The folder of the files of a run; None if it is not on this machine."""
        found = self._rows("SELECT artifact_uri FROM runs WHERE run_uuid = ?", [run_id])
        place = urlsplit(place_of(str(found[0][0]), self.moved) if found else "")
        return Path(unquote(place.path)) if place.scheme in ("", "file") and place.path else None

    def _complete(
        self, rows: Sequence[tuple[Any, ...]], texts: Sequence[str] = ("tags", "params")
    ) -> list[_Run]:
        runs = {str(row[0]): _Run(_Info(str(row[0]), str(row[1]), *row[2:]), _Data()) for row in rows}
        # Most names and many values, such as those of versions, are equal in thousands of runs.
        same: dict[str, str] = {}
        for some in _in_parts(list(runs)):
            chosen = f"run_uuid IN ({', '.join('?' * len(some))})"
            for table in texts:
                for run_id, key, value in self._rows(
                    f"SELECT run_uuid, key, value FROM {table} WHERE {chosen}", some
                ):
                    found: dict[str, str] = getattr(runs[run_id].data, table)
                    found[same.setdefault(key, key)] = same.setdefault(value, value)
            metrics = f"SELECT run_uuid, key, value, is_nan FROM latest_metrics WHERE {chosen}"
            for run_id, key, value, is_nan in self._rows(metrics, some):
                number = math.nan if is_nan else float(value)
                runs[run_id].data.metrics[same.setdefault(key, key)] = number
        return list(runs.values())

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        address = f"file:{quote(str(self._database))}?mode=ro"
        try:
            with contextlib.closing(sqlite3.connect(address, uri=True, timeout=20)) as connection:
                return connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise EnvironmentFault(f"{self._database}: {one_line(error)}") from None


def _where(experiments: Sequence[str], query: str, deleted: bool = False) -> tuple[str, list[Any]]:
    """Return the condition of SQL for a query of MLflow, and its values."""
    conditions = [f"experiment_id IN ({', '.join('?' * len(experiments))})"]
    values: list[Any] = list(experiments)
    if not deleted:
        conditions.append("lifecycle_stage = 'active'")
    for text in filter(None, query.split(" and ")):
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise ValueError(
                f"query: received {text!r}. Allowed: a condition on a tag, the status or the data"
            )
        tag, status, _, sign, value = found.groups()
        if tag:
            conditions.append(f"run_uuid IN (SELECT run_uuid FROM tags WHERE key = ? AND value {sign} ?)")
            values += [tag, value]
        elif status:
            conditions.append(f"status {sign} ?")
            values.append(value)
        else:
            conditions.append(
                "run_uuid IN (SELECT destination_id FROM inputs JOIN datasets ON dataset_uuid = source_id "
                f"WHERE source_type = 'DATASET' AND digest {sign} ?)"
            )
            values.append(value)
    return " AND ".join(conditions), values


def _in_parts(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _MOST):
        yield names[start : start + _MOST]
