"""The `Store`, which begins, finds and lists the records of sweeps and claims."""

from __future__ import annotations

import getpass
import json
import os
import socket
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from invact.config import digest
from invact.errors import EnvironmentFault, InputError, one_line, one_of
from invact.tracking.lease import Lease
from invact.tracking.lock import exclusive
from invact.tracking.provenance import continued, provenance_tags
from invact.tracking.record import Record
from invact.tracking.table import COUNTED, ROOT, count, current, tagged
from invact.tracking.ui import Server, serve
from invact.tracking.values import text_of
from invact.training.results import Status
from invact.validation import check_name

if TYPE_CHECKING:
    from invact.data.dataset import Dataset
    from invact.tracking.mlflow import MlflowRuns

__all__ = ["FOLDER", "RecordInfo", "Store", "has_store", "open_existing", "open_store"]

KIND, IDENTITY, DRIVER = "invact.kind", "invact.identity", "invact.driver"
SERVERS = ("http", "https")
DATABASE = "mlflow.db"
FOLDER = "mlruns"
"""Folder of the store, unless a user gives one."""
DATABASES = ("postgresql", "mysql", "mssql")


@dataclass(frozen=True)
class RecordInfo:
    """One entry in the list of records: a sweep, a claim or a confirmation.

    Attributes:
        name: name of the sweep or the claim; a confirmation has the name of its sweep.
        kind: `sweep`, `claim` or `confirmation`.
        driver: the driver of a sweep; empty for other records.
        identity: hash of everything that decides the results.
        status: status in MLflow: RUNNING, FINISHED, FAILED or KILLED.
        started: time at which the record was begun.
        counts: number of runs with each status.
        run_id: id of the parent run in MLflow.
        experiment: id of its experiment in MLflow.
    """

    name: str
    kind: str
    driver: str
    identity: str
    status: str
    started: datetime
    counts: Mapping[Status, int]
    run_id: str
    experiment: str


@dataclass(frozen=True)
class Store:
    """An MLflow store: a folder with a database and the files of its runs, or a tracking server.

    Made by `invact.tracking.store.open_store`.

    Attributes:
        runs: the MLflow runs of the store.
        folder: the folder of the store; None for a server.
    """

    runs: MlflowRuns
    folder: Path | None

    @property
    def uri(self) -> str:
        """The address of the store in MLflow."""
        return self.runs.uri

    def record(
        self,
        name: str,
        kind: Literal["sweep", "claim", "confirmation"],
        identity: str,
        files: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        driver: str = "",
        data: Dataset | None = None,
        tags: Mapping[str, str] | None = None,
        earlier: Sequence[str] = (),
    ) -> Record:
        """Begin a record, or continue the newest record with the same name, kind and identity.

        Runs that a killed coordinator left unfinished are set to KILLED. On one machine only one process at a
        time can hold the record, until `Record.close` or the end of the process.

        Args:
            name: name of the sweep or claim, and of its experiment in MLflow.
            kind: `sweep`, `claim` or `confirmation`.
            identity: hash of everything that decides the results.
            files: texts to store by file name, such as the file of the sweep.
            params: settings to show in MLflow.
            driver: the driver of a sweep.
            data: the data set of the runs; each run refers to it.
            tags: more tags to show in MLflow.
            earlier: identities that earlier versions of invact gave the same record.

        Raises:
            InputError: the name or the identity has characters that are not allowed.
            EnvironmentFault: another process holds the record, or the store fails.
        """
        check_name(name)
        check_name(identity, "identity")
        lock = exclusive(self._locks() / f"{digest([self.uri, name, kind, identity])}.lock", f"{kind} {name}")
        try:
            experiment = self.runs.experiment(name, self._location(name))
            provenance = {**provenance_tags(), "mlflow.user": getpass.getuser()}
            told = {
                KIND: kind,
                IDENTITY: identity,
                "invact.coordinator": f"{os.getpid()} on {socket.gethostname()}",
            }
            told |= provenance | ({DRIVER: driver} if driver else {}) | dict(tags or {})
            found: list[Any] = []
            for one in (identity, *earlier):
                found = found or self._parents([experiment], {KIND: kind, IDENTITY: one})
            if found:
                run_id = found[0].info.run_id
            else:
                title = name if kind in ("sweep", "claim") else f"{name} {kind}"
                run_id = self.runs.begin(experiment, title, told)
                # If another process has begun the same record at the same moment, the earlier one stays.
                same = self._parents([experiment], {KIND: kind, IDENTITY: identity})
                first = min(same, key=lambda run: (run.info.start_time, run.info.run_id))
                if first.info.run_id != run_id:
                    self.runs.delete(run_id)
                    run_id, found = first.info.run_id, [first]
            lease = Lease(self.runs, run_id, f"{kind} {name}")
            lock.callback(lease.release)
            if found:
                told |= continued(found[0].data.tags, provenance, f"{kind} {name}")
                told[IDENTITY] = found[0].data.tags[IDENTITY]
                self.runs.resume(run_id)
            elif data is not None:
                self.runs.log_data(run_id, data)
            # MLflow cannot change a param, so a different setting of this session becomes a tag.
            known = found[0].data.params if found else {}
            texts = {key: text_of(value) for key, value in (params or {}).items()}
            told |= {f"now.{key}": text for key, text in texts.items() if known.get(key, text) != text}
            self.runs.log(
                run_id, params={key: text for key, text in texts.items() if key not in known}, tags=told
            )
            self.runs.keep(run_id, {key: text.encode() for key, text in (files or {}).items()})
            return Record(
                *(self.runs, experiment, run_id),
                resumed=bool(found),
                data=data,
                tags=provenance,
                lock=lock,
                lease=lease,
            )
        except BaseException:
            lock.close()
            raise

    def latest(
        self, name: str, kind: str | None = None, driver: str | None = None, identity: str | None = None
    ) -> Record:
        """Return the newest record with a name, to read it or to add files.

        Args:
            name: name of the sweep or claim.
            kind: required kind; None allows any kind.
            driver: required driver; None allows any driver.
            identity: required identity; None allows any identity.

        Raises:
            InputError: there is no such record; the message suggests the most similar name.
        """
        check_name(name)
        known = {}
        for run in self._parents(list(names := self.runs.experiments())):
            tags = run.data.tags
            known[names[run.info.experiment_id]] = True
            if (
                names[run.info.experiment_id] == name
                and kind in (None, tags[KIND])
                and driver in (None, tags.get(DRIVER))
                and identity in (None, tags[IDENTITY])
            ):
                return Record(self.runs, run.info.experiment_id, run.info.run_id)
        if not known:
            raise InputError(f"name: received {name!r}. Allowed: no name, {self.uri} has no records yet")
        if name not in known:
            raise one_of("name", name, sorted(known))
        wanted = " ".join(filter(None, [driver, kind]))
        raise InputError(
            f"name: received {name!r}, which has no {wanted or 'record'}. Allowed: see `invact list`"
        )

    def records(self, name: str | None = None) -> list[RecordInfo]:
        """List the records with one name, or all records, newest first."""
        names = {key: value for key, value in self.runs.experiments().items() if name in (None, value)}
        return [
            RecordInfo(
                name=names[run.info.experiment_id],
                kind=run.data.tags[KIND],
                driver=run.data.tags.get(DRIVER, ""),
                identity=run.data.tags[IDENTITY],
                status=run.info.status,
                started=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
                counts=self._counts(run),
                run_id=run.info.run_id,
                experiment=run.info.experiment_id,
            )
            for run in self._parents(list(names))
        ]

    def tagged(self, key: str, value: str) -> list[tuple[str, str, datetime]]:
        """Find the parent runs with a tag, oldest first, including those that were deleted.

        Returns:
            Name of the experiment, id and start of each run.
        """
        names = self.runs.experiments(deleted=True)
        found = self.runs.search(list(names), tagged(key, value), deleted=True)
        return sorted(
            (
                (
                    names[run.info.experiment_id],
                    run.info.run_id,
                    datetime.fromtimestamp(run.info.start_time / 1000, UTC),
                )
                for run in found
            ),
            key=lambda one: one[2],
        )

    def ui(self, port: int = 5000) -> Server:
        """Start the MLflow server on the store, to show its pages; see `invact.tracking.ui.serve`.

        Raises:
            InputError: the store is a server, which has its own pages.
            EnvironmentFault: the port is taken, or the server does not answer.
        """
        if urlsplit(self.uri).scheme in SERVERS:
            raise InputError(
                f"{self.uri}: received a server, which has its own pages. Allowed: a store in a folder"
            )
        return serve(self.uri, self.folder and self.folder / "artifacts", port)

    def _parents(self, experiments: Sequence[str], tags: Mapping[str, str] | None = None) -> list[Any]:
        conditions = [
            f"tags.`{KIND}` != ''",
            *(tagged(key, value) for key, value in (tags or {}).items()),
        ]
        return self.runs.search(experiments, " and ".join(conditions))

    def _counts(self, run: Any) -> Mapping[Status, int]:
        # Reading all runs is slow (2 s for a thousand), and a closed record stores its counts.
        if run.info.status != "RUNNING" and COUNTED in run.data.tags:
            return {Status(name): number for name, number in json.loads(run.data.tags[COUNTED]).items()}
        return count(current(self.runs.search([run.info.experiment_id], tagged(ROOT, run.info.run_id))))

    def _location(self, name: str) -> str | None:
        return None if self.folder is None else (self.folder / "artifacts" / name).as_uri()

    def _locks(self) -> Path:
        return (
            self.folder / "locks"
            if self.folder
            else Path(tempfile.gettempdir()) / f"invact-{getpass.getuser()}"
        )


def has_store(folder: str | Path | None = None, tracking_uri: str | None = None) -> bool:
    """Return whether there is a store to read, without creating one as `open_store` does.

    An address always counts as a store. Only a request could tell whether it is one.
    """
    return tracking_uri is not None or Path(FOLDER if folder is None else folder).exists()


def open_existing(what: str, folder: str | Path | None = None, tracking_uri: str | None = None) -> Store:
    """Open a store to read it. Unlike `open_store`, it creates none.

    Args:
        what: what the store must hold, for the message.
        folder: as for `open_store`.
        tracking_uri: as for `open_store`.

    Raises:
        InputError: the folder does not exist; or as `open_store`.
        EnvironmentFault: as `open_store`.
    """
    if not has_store(folder, tracking_uri):
        name = str(Path(FOLDER if folder is None else folder))
        raise InputError(f"store: received {name!r}, which does not exist. Allowed: a folder with {what}")
    return open_store(folder, tracking_uri)


def open_store(folder: str | Path | None = None, tracking_uri: str | None = None) -> Store:
    """Open the store, and create it if it does not exist. Only a coordinator opens it, never a worker.

    Args:
        folder: folder of the database and the files; default: `mlruns`.
        tracking_uri: instead of a folder, the address of a tracking server (`http`, `https`) or of a database
            (`sqlite`, `postgresql`, `mysql`, `mssql`).

    Raises:
        InputError: both arguments are given, or MLflow 3 does not support the address.
        EnvironmentFault: the folder cannot be written, the database is damaged or made by a newer MLflow, or
            the server cannot be reached.
    """
    # Imported here, because the import of MLflow takes 2 s.
    from invact.tracking.mlflow import MlflowRuns, connect

    if tracking_uri is None:
        return _open_local(Path(FOLDER if folder is None else folder) / DATABASE)
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
    return Store(MlflowRuns(tracking_uri, connect(tracking_uri)), None)


def _open_local(database: Path) -> Store:
    from invact.tracking.database import check, create
    from invact.tracking.mlflow import MlflowRuns, connect

    database = Path.cwd() / database
    if unfit := {"%", "?", "\0"} & set(str(database)):
        # MLflow decodes the percent signs of a database address in some places but not in others.
        raise InputError(
            f"store: received {str(database)!r}. Allowed: a path without {' '.join(map(repr, unfit))}"
        )
    database = database.resolve()
    uri = f"sqlite:///{database}"
    # If two processes create the tables at the same time, they damage the database.
    with exclusive(database.parent / "locks" / "open.lock", f"the opening of {database}", timeout=60):
        try:
            if not database.exists():
                create(database)
            check(database)
        except (sqlite3.Error, OSError) as error:
            raise EnvironmentFault(f"{database}: {one_line(error)}") from error
        return Store(MlflowRuns(uri, connect(uri)), database.parent)


def _reach(uri: str) -> None:
    # MLflow itself tries to connect for minutes.
    address = urlsplit(uri)
    try:
        port = address.port or {"http": 80, "https": 443}[address.scheme]
        socket.create_connection((address.hostname, port), timeout=5).close()
    except ValueError as error:
        raise InputError(f"tracking_uri: received {uri!r}: {error}") from None
    except OSError as error:
        raise EnvironmentFault(f"{uri}: no server answers: {error.strerror or error}") from error
