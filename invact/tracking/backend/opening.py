"""Opening a store: a folder, a database or a server, to write to it or only to read."""
# MLflow is imported inside the functions: the import takes 2 s, and a mistake is answered before it.

from __future__ import annotations

import shutil
import socket
import sqlite3
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from invact.errors import EnvironmentFault, InputError, masked, one_line
from invact.tracking.backend.lock import exclusive
from invact.tracking.backend.reading import StoredRuns

if TYPE_CHECKING:
    from invact.tracking.backend.mlflow import MlflowRuns

__all__ = ["FOLDER", "SERVERS", "SQLITE", "has_store", "open_runs", "without_user"]

SERVERS = ("http", "https")
DATABASES = ("postgresql", "mysql", "mssql")
SQLITE = "sqlite:///"
DATABASE = "mlflow.db"
FOLDER = "mlruns"
"""Folder of the store, unless a user gives one."""


def has_store(folder: str | Path | None = None, tracking_uri: str | None = None) -> bool:
    """Return whether there is a store to read, without creating one as `open_store` does.

    An address always counts as a store. Only a request could tell whether it is one.
    """
    place = Path(FOLDER if folder is None else folder)
    # A file in the place of the folder is a fault, which the opening reports.
    return tracking_uri is not None or (place / DATABASE).exists() or place.is_file()


def open_runs(
    folder: str | Path | None, tracking_uri: str | None, *, read_only: bool
) -> tuple[MlflowRuns, Path | None]:
    """Return the MLflow runs of a store, and the folder of a local one; see `Store` and `open_store`."""
    if tracking_uri is None:
        return _open_local(Path(FOLDER if folder is None else folder) / DATABASE, read_only)
    if folder is not None:
        shown = masked(tracking_uri, tracking_uri)
        raise InputError(
            f"tracking_uri: received {shown!r} and a folder, {str(folder)!r}. Allowed: one of them"
        )
    try:
        address = urlsplit(tracking_uri)
    except ValueError as error:
        raise _refused(tracking_uri, one_line(error, tracking_uri)) from None
    scheme = address.scheme.partition("+")[0]
    if tracking_uri.startswith(SQLITE):
        return _open_local(Path(tracking_uri.removeprefix(SQLITE)), read_only)
    if scheme not in (*SERVERS, *DATABASES) or not address.netloc:
        allowed = "http://..., https://..., sqlite:///FILE, postgresql://..., mysql://..., mssql://..."
        raise _refused(tracking_uri, f"Allowed: {allowed}")
    if scheme in SERVERS:
        _reach(tracking_uri)
    from invact.tracking.backend.mlflow import MlflowRuns, check_tables, connect

    if scheme in DATABASES:
        check_tables(tracking_uri, read_only=read_only)
    return MlflowRuns(tracking_uri, connect(tracking_uri)), None


def _open_local(database: Path, read_only: bool) -> tuple[MlflowRuns, Path]:
    given, database = database.parent, Path.cwd() / database
    if unfit := {"%", "?", "\0"} & set(str(database)):
        # MLflow decodes the percent signs of a database address in some places but not in others.
        raise InputError(
            f"store: received {str(database)!r}. Allowed: a path without {' '.join(map(repr, unfit))}"
        )
    database = database.resolve()
    uri, folder = f"{SQLITE}{database}", database.parent
    if folder.is_file():
        raise EnvironmentFault(f"store: received {str(given)!r}, which is a file. Allowed: a folder")
    if read_only and not database.is_file():
        lacks = f"has no {database.name}" if folder.is_dir() else "does not exist"
        raise InputError(
            f"store: received {str(given)!r}, which {lacks}. Allowed: a folder with recorded sweeps or claims"
        )
    if read_only:
        runs = StoredRuns(database, lambda: _by_mlflow(database))
        # A damaged database gets the explanation of MLflow.
        return (cast("MlflowRuns", runs) if runs.readable() else _by_mlflow(database)), folder
    from invact.tracking.backend.database import create, prepare
    from invact.tracking.backend.mlflow import MlflowRuns, connect

    try:
        # If two processes create the tables at the same time, they damage the database.
        with exclusive(folder / "locks" / "open.lock", f"the opening of {database}", timeout=60):
            if not database.exists():
                create(database)
            prepare(database)
            opened = MlflowRuns(uri, connect(uri))
            # MLflow writes. Reading a run by SQL takes a tenth of the time, and the lease is read before each
            # write.
            return cast("MlflowRuns", StoredRuns(database, lambda: opened)), folder
    except (sqlite3.Error, OSError) as error:
        raise EnvironmentFault(f"{database}: {one_line(error)}") from error


def _by_mlflow(database: Path) -> MlflowRuns:
    """Open a database with MLflow, only to read."""
    from invact.tracking.backend.database import is_old, moved_in, snapshot, writable
    from invact.tracking.backend.mlflow import MlflowRuns, connect

    uri, folder = f"{SQLITE}{database}", database.parent
    try:
        if writable(database) and not is_old(database):
            return MlflowRuns(uri, connect(uri), moved=moved_in(database))
        temporary = tempfile.mkdtemp(prefix="invact-")
        try:
            copy = snapshot(database, Path(temporary))
            client = connect(f"{SQLITE}{copy}")
        except BaseException:
            shutil.rmtree(temporary)
            raise
        weakref.finalize(client, shutil.rmtree, temporary, ignore_errors=True)
        places = moved_in(copy, folder)
        return MlflowRuns(f"{SQLITE}{copy}", client, moved=places, shown=uri)
    except (sqlite3.Error, OSError) as error:
        raise EnvironmentFault(f"{database}: {one_line(error)}") from error


def without_user(uri: str) -> str:
    """Return an address without its user and password.

    Example:
        >>> without_user("http://ann:secret@host:5000")
        'http://host:5000'
    """
    scheme, mark, rest = uri.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}" if mark else uri


def _refused(uri: str, reason: str) -> InputError:
    return InputError(f"tracking_uri: received {masked(uri, uri)!r}. {reason}")


def _reach(uri: str) -> None:
    # MLflow itself tries to connect for minutes.
    address = urlsplit(uri)
    try:
        port = address.port or {"http": 80, "https": 443}[address.scheme]
        socket.create_connection((address.hostname, port), timeout=5).close()
    except ValueError as error:
        raise _refused(uri, one_line(error, uri)) from None
    except OSError as error:
        raise EnvironmentFault(f"{masked(uri, uri)}: no server answers: {error.strerror or error}") from None
