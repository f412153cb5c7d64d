"""The SQLite database of MLflow: it is created, checked, upgraded, copied, and told where its files are."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from invact.errors import EnvironmentFault, InputError
from invact.process.streams import tell
from invact.tracking.backend.mlflow import VERSION, connect, knows_schema, latest_schema, upgrade
from invact.tracking.backend.places import moved

__all__ = ["adopt", "create", "is_old", "moved_in", "prepare", "snapshot", "writable"]

ADDRESSES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
    "trace_tags": ("value",),
}
"""The columns of MLflow's tables that hold addresses of files."""

TIMEOUT = 20


def create(database: Path) -> None:
    """Create the database.

    The tables are made in a file with another name, which is then renamed: MLflow cannot continue a database
    that a killed process left incomplete.
    """
    partial = database.with_name(f"{database.name}.new")
    for path in (partial, partial.with_name(f"{partial.name}-journal")):
        path.unlink(missing_ok=True)
    connect(f"sqlite:///{partial}")
    partial.rename(database)


def prepare(database: Path) -> None:
    """Make an existing database ready for writing.

    Sets the WAL mode, in which readers do not wait for writers. Upgrades tables of an older MLflow, and keeps
    a copy of the old database. Replaces the addresses of a store that was moved.

    Raises:
        InputError: the file is not a database of MLflow.
        EnvironmentFault: a newer MLflow made the database, or its upgrade failed.
    """
    if is_old(database):
        kept = _free(database.with_name(f"{database.name}.before-{VERSION}"))
        draft = database.with_name(f"{database.name}.upgraded")
        try:
            _copy(database, draft)
            upgrade(draft)
            _copy(database, kept)
            # In one transaction: an upgrade that is interrupted, or that fails, changes nothing.
            _replace(database, draft)
        finally:
            draft.unlink(missing_ok=True)
        _say(f"{database}: an older MLflow made it. It is now upgraded; the old database is {kept.name}")
    with contextlib.closing(_open(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    if places := moved_in(database):
        adopt(database, places)


def snapshot(database: Path, folder: Path) -> Path:
    """Copy a database that cannot be written to a folder, and upgrade the copy if its tables are old.

    SQLite reads a database in WAL mode only where it can write beside it.

    Raises:
        InputError: the file is not a database of MLflow.
        EnvironmentFault: a newer MLflow made the database, or its upgrade failed.
    """
    copy = folder / database.name
    _copy(database, copy)
    if is_old(copy, database):
        upgrade(copy)
        _say(f"{database}: an older MLflow made it. It is read from an upgraded copy, and is not changed")
    return copy


def writable(database: Path) -> bool:
    """Return whether this process can write the database, and the files that SQLite puts beside it."""
    return os.access(database, os.W_OK) and os.access(database.parent, os.W_OK)


def is_old(database: Path, shown: Path | None = None) -> bool:
    """Return whether an older MLflow made the tables of a database.

    Args:
        database: the file.
        shown: the name for the file in messages.

    Raises:
        InputError: the file is not a database of MLflow.
        EnvironmentFault: a newer MLflow made the database.
    """
    shown = shown or database
    with contextlib.closing(_open(database)) as connection:
        tables = {
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        if not {"experiments", "runs"} <= tables:
            raise InputError(
                f"store: received {str(shown)!r}, {_kind(tables)}. Allowed: a database of MLflow"
            )
        revisions = []
        if "alembic_version" in tables:
            revisions = [
                str(name) for (name,) in connection.execute("SELECT version_num FROM alembic_version")
            ]
    for revision in revisions:
        # MLflow itself would start to write before it detects this.
        if not knows_schema(revision):
            raise EnvironmentFault(
                f"{shown}: made by a newer MLflow (schema {revision}) than the installed one, {VERSION}"
            )
    return revisions != [latest_schema()]


def moved_in(database: Path, folder: Path | None = None) -> dict[str, str]:
    """Return which addresses in a database must be replaced; see `invact.tracking.backend.places.moved`.

    Args:
        database: the file.
        folder: the folder of the store, if the file is a copy.
    """
    with contextlib.closing(_open(database)) as connection:
        found = connection.execute("SELECT name, artifact_location FROM experiments").fetchall()
    rows = [(str(name), address) for name, address in found if isinstance(address, str)]
    return moved(rows, folder or database.parent)


def adopt(database: Path, places: Mapping[str, str]) -> None:
    """Replace the addresses in the database of a store that was moved, so that MLflow finds its files."""
    with contextlib.closing(_open(database)) as connection, connection:
        connection.execute("BEGIN IMMEDIATE")
        for table, columns in ADDRESSES.items():
            present = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            for column in present & {*columns}:
                for old, new in places.items():
                    connection.execute(
                        f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "
                        f"WHERE {column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/'",
                        {"old": old, "new": new},
                    )


def _open(database: Path) -> sqlite3.Connection:
    # In this mode SQLite does not create a file that is missing.
    return sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=TIMEOUT)


def _replace(database: Path, source: Path) -> None:
    with contextlib.closing(_open(source)) as new, contextlib.closing(_open(database)) as old:
        new.backup(old)


def _copy(database: Path, copy: Path) -> None:
    draft = copy.with_name(f"{copy.name}.new")
    draft.unlink(missing_ok=True)
    try:
        with (
            contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(draft)) as target,
        ):
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.OperationalError:
        # In a folder that is read-only, SQLite cannot open a database in WAL mode that nobody has open.
        draft.unlink(missing_ok=True)
        log, log_copy = (path.with_name(f"{path.name}-wal") for path in (database, copy))
        if log.exists():
            shutil.copyfile(log, log_copy)
        shutil.copyfile(database, draft)
    draft.replace(copy)


def _free(path: Path) -> Path:
    names = (path if number == 0 else path.with_name(f"{path.name}.{number}") for number in itertools.count())
    return next(name for name in names if not name.exists())


def _kind(tables: set[str]) -> str:
    if {"studies", "trials"} <= tables:
        return "a database of Optuna"
    if not tables:
        return "a database without tables"
    return f"a database with other tables ({', '.join(sorted(tables)[:3])})"


def _say(text: str) -> None:
    tell(f"invact: {text}")
