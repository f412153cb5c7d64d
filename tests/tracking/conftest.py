"""Fixtures that the files of this folder share."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from invact.errors import EnvironmentFault
from invact.tracking.record import Record
from invact.tracking.store import Store, open_store


@pytest.fixture
def folder(empty_store: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    shutil.copy(empty_store, folder)
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
