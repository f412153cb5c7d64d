"""Creation and check of the SQLite database of MLflow."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from invact.errors import EnvironmentFault
from invact.tracking.mlflow import VERSION, connect, knows_schema

__all__ = ["check", "create"]


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


def check(database: Path) -> None:
    """Set the WAL mode, in which readers do not wait for writers, and check the version of the tables.

    Raises:
        EnvironmentFault: a newer MLflow made the database.
    """
    with contextlib.closing(sqlite3.connect(database, timeout=20)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        revisions = [name for (name,) in connection.execute("SELECT version_num FROM alembic_version")]
    for revision in revisions:
        # MLflow itself would start to write before it detects this.
        if not knows_schema(revision):
            raise EnvironmentFault(
                f"{database}: made by a newer MLflow (schema {revision}) than the installed one, {VERSION}"
            )
