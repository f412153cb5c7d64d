"""Fixtures that the files of this folder share."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from invact.errors import EnvironmentFault
from invact.tracking.record import Record
from invact.tracking.store import Store, open_store


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    open_store(folder)
    return folder / "mlflow.db"


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    # A copy, because MLflow needs two seconds to create the tables.
    folder = tmp_path / "store"
    folder.mkdir()
    with closing(sqlite3.connect(template)) as source, closing(sqlite3.connect(folder / "mlflow.db")) as copy:
        source.backup(copy)
    return folder


@pytest.fixture
def store(folder: Path) -> Store:
    return open_store(folder)


@pytest.fixture
def record(store: Store) -> Iterator[Record]:
    record = store.record("mine", "sweep", "abc123")
    yield record
    with suppress(EnvironmentFault):
        record.close()
