"""The `Store`, which begins, finds and lists the records of sweeps and claims."""

from __future__ import annotations

import getpass
import os
import socket
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from invact.config import digest
from invact.errors import EnvironmentFault, InputError, one_line, one_of
from invact.tracking.backend.lock import exclusive, private_folder
from invact.tracking.backend.opening import SERVERS, SQLITE, has_store, open_runs, without_user
from invact.tracking.backend.places import ARTIFACTS, location_of
from invact.tracking.backend.values import text_of
from invact.tracking.lease import Lease
from invact.tracking.provenance import continued, provenance_tags
from invact.tracking.record import Record
from invact.tracking.stored import counts_of, started, text_in
from invact.tracking.table import COUNTED, ROOT, count, current, tagged
from invact.tracking.ui import Server, serve
from invact.training.results import Status
from invact.validation import check_name

if TYPE_CHECKING:
    from invact.data.dataset import Dataset
    from invact.tracking.backend.mlflow import MlflowRuns

__all__ = ["RecordInfo", "Store", "has_store", "open_store"]

KIND, IDENTITY, DRIVER = "invact.kind", "invact.identity", "invact.driver"


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
        imports: the user's modules of a sweep, as JSON; empty if they are not known.
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
    imports: str = ""


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
        imports: Sequence[str] = (),
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
            imports: modules of the user that the workers import.
            earlier: identities that earlier versions of invact gave the same record.

        Raises:
            InputError: the name or the identity has characters that are not allowed.
            EnvironmentFault: another process holds the record, or the store fails.
        """
        check_name(name)
        check_name(identity, "identity")
        # Two passwords or users of one server have the same lock.
        named = digest([without_user(self.uri), name, kind, identity])
        lock = exclusive(self._locks() / f"{named}.lock", f"{kind} {name}")
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
                imports=imports,
                lock=lock,
                lease=lease,
            )
        except BaseException:
            lock.close()
            raise

    def latest(
        self,
        name: str,
        kind: str | None = None,
        driver: str | None = None,
        identity: str | None = None,
        apart: str | None = None,
    ) -> Record:
        """Return the newest record with a name, to read it or to add files.

        Args:
            name: name of the sweep or claim.
            kind: required kind; None allows any kind.
            driver: required driver; None allows any driver.
            identity: required identity; None allows any identity.
            apart: an identity that is left out.

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
                and kind in (None, tags.get(KIND))
                and driver in (None, tags.get(DRIVER))
                and identity in (None, tags.get(IDENTITY))
                and apart != tags.get(IDENTITY)
            ):
                return Record(self.runs, run.info.experiment_id, run.info.run_id)
        if not known:
            raise InputError(
                f"name: received {name!r}. Allowed: no name, {self.runs.shown} has no records yet"
            )
        if name not in known:
            raise one_of("name", name, sorted(known))
        wanted = " ".join(filter(None, [driver, kind]))
        raise InputError(
            f"name: received {name!r}, which has no {wanted or 'record'}. Allowed: see `invact list`"
        )

    def records(self, name: str | None = None, *, counted: bool = True) -> list[RecordInfo]:
        """List the records with one name, or all records, newest first.

        Args:
            name: the name; None lists all records.
            counted: whether to count the runs, which reads all runs of a record that is not closed.

        Raises:
            EnvironmentFault: a tag of a record is damaged.
        """
        names = {key: value for key, value in self.runs.experiments().items() if name in (None, value)}
        return [
            RecordInfo(
                name=names[run.info.experiment_id],
                kind=text_in(run, KIND),
                driver=text_in(run, DRIVER) if DRIVER in run.data.tags else "",
                identity=text_in(run, IDENTITY),
                status=run.info.status,
                started=started(run),
                counts=self._counts(run) if counted else {},
                imports=run.data.params.get("imports", ""),
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
            ((names[run.info.experiment_id], run.info.run_id, started(run)) for run in found),
            key=lambda one: one[2],
        )

    def ui(self, port: int = 5000) -> Server:
        """Start the MLflow server on the store, to show its pages; see `invact.tracking.ui.serve`.

        In the database of a store that was moved, the addresses of files are replaced, because the server
        would look for the files where they were.

        Raises:
            InputError: the store is a server, which has its own pages.
            EnvironmentFault: the port is taken, or the server does not answer.
        """
        if urlsplit(self.uri).scheme in SERVERS:
            raise InputError(
                f"{self.runs.shown}: received a server, which has its own pages. Allowed: a store in a folder"
            )
        runs = self.runs.opened()
        if runs.moved:
            from invact.tracking.backend.database import adopt

            try:
                adopt(Path(runs.uri.removeprefix(SQLITE)), runs.moved)
            except sqlite3.Error as error:
                raise EnvironmentFault(f"{runs.shown}: {one_line(error)}") from error
        return serve(runs.uri, self.folder and self.folder / ARTIFACTS, port)

    def _parents(self, experiments: Sequence[str], tags: Mapping[str, str] | None = None) -> list[Any]:
        conditions = [
            f"tags.`{KIND}` != ''",
            *(tagged(key, value) for key, value in (tags or {}).items()),
        ]
        return self.runs.search(experiments, " and ".join(conditions))

    def _counts(self, run: Any) -> Mapping[Status, int]:
        # Reading all runs is slow (2 s for a thousand), and a closed record stores its counts.
        if run.info.status != "RUNNING" and COUNTED in run.data.tags:
            return counts_of(run.info.run_id, f"tag {COUNTED!r}", run.data.tags[COUNTED])
        return count(current(self.runs.search([run.info.experiment_id], tagged(ROOT, run.info.run_id))))

    def _location(self, name: str) -> str | None:
        return None if self.folder is None else location_of(self.folder, name)

    def _locks(self) -> Path:
        return self.folder / "locks" if self.folder else private_folder("locks")


def open_store(
    folder: str | Path | None = None, tracking_uri: str | None = None, *, read_only: bool = False
) -> Store:
    """Open the store, and create it if it does not exist. Only a coordinator opens it, never a worker.

    The files of a store in a folder are those beside its database, also if the folder was moved or copied.

    Args:
        folder: folder of the database and the files; default: `mlruns`.
        tracking_uri: instead of a folder, the address of a tracking server (`http`, `https`) or of a database
            (`sqlite`, `postgresql`, `mysql`, `mssql`).
        read_only: whether only to read. Then nothing is created or upgraded, and a folder that cannot be
            written can be read. Without it, a database of an older MLflow is upgraded, and a copy is kept.

    Raises:
        InputError: both arguments are given, MLflow 3 does not support the address, the database is not one
            of MLflow, or there is no store to read.
        EnvironmentFault: the folder cannot be written, the database is damaged or made by a newer MLflow, or
            the server cannot be reached.
    """
    return Store(*open_runs(folder, tracking_uri, read_only=read_only))
