"""The names of the records in a local store, read without MLflow, whose import takes seconds."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import quote

from invact.errors import InputError, one_of

__all__ = ["check_recorded"]

_NAMES = """
SELECT DISTINCT experiments.name
FROM experiments JOIN runs USING (experiment_id) JOIN tags USING (run_uuid)
WHERE tags.key = 'invact.kind' AND experiments.lifecycle_stage = 'active' AND runs.lifecycle_stage = 'active'
"""
"""The experiments of the sweeps and claims; these tables have been the same since MLflow 1."""


def check_recorded(name: str, database: Path) -> None:
    """Refuse a name that no record in a database has.

    A mistake is so answered at once. If the database cannot be read, nothing happens, because `open_store`
    explains what is wrong with it.

    Raises:
        InputError: no sweep or claim has the name; the message suggests the most similar name.
    """
    try:
        # A reader changes nothing, not even the mode of the database.
        address = f"file:{quote(str(database.absolute()))}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=1)) as connection:
            names = sorted(name for (name,) in connection.execute(_NAMES))
    except sqlite3.Error:
        return
    if not names:
        raise InputError(f"name: received {name!r}. Allowed: no name, {database} has no records yet")
    if name not in names:
        raise one_of("name", name, names)
