"""MLflow's SQLite database: made whole, checked, and opened."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from invact.errors import EnvironmentFault
from invact.tracking.mlflow import VERSION, connect, knows_schema

__all__ = ["check", "create"]


def create(database: Path) -> None:
    """Make the tables under another name, then rename: MLflow cannot go on where a killed process stopped."""
    partial = database.with_name(f"{database.name}.new")
    for path in (partial, partial.with_name(f"{partial.name}-journal")):
        path.unlink(missing_ok=True)
    connect(f"sqlite:///{partial}")
    partial.rename(database)


def check(database: Path) -> None:
    """Put the database in WAL mode, in which reading does not wait for writing, and look at its version."""
    with contextlib.closing(sqlite3.connect(database, timeout=20)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        revisions = [name for (name,) in connection.execute("SELECT version_num FROM alembic_version")]
    for revision in revisions:
        # MLflow would begin to write before it found out.
        if not knows_schema(revision):
            raise EnvironmentFault(
                f"{database}: made by a newer MLflow (schema {revision}) than this, {VERSION}"
            )
