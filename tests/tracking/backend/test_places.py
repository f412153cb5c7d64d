import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording import BITS, write

from invact.config import Config
from invact.errors import InputError
from invact.tracking.backend.places import location_of, moved, place_of
from invact.tracking.store import open_store


@pytest.mark.parametrize(
    ("name", "address", "new"),
    [
        ("digits", "file:///old/artifacts/digits", "digits"),
        ("digits", "/old/artifacts/digits", "digits"),
        ("artifacts", "file:///old/artifacts/artifacts", "artifacts"),
        ("a b#c", "file:///old/artifacts/a%20b%23c", "a%20b%23c"),
        # The server gives a folder the number of the experiment.
        ("mine", "file:///old/artifacts/42", "42"),
        ("mine", "file:///old/artifacts/43", None),
        ("mine", "file:///old/elsewhere/mine", None),
        ("mine", "s3://bucket/artifacts/mine", None),
        ("mine", "mlflow-artifacts:/artifacts/mine", None),
        ("mine", "http://[/artifacts/mine", None),
        ("mine", "", None),
    ],
)
def test_files_are_beside_the_database_whatever_it_says(tmp_path, name, address, new):
    (tmp_path / "artifacts" / "42").mkdir(parents=True)
    expected = {} if new is None else {address: f"{tmp_path.as_uri()}/artifacts/{new}"}
    assert moved([(name, address)], tmp_path) == expected
    here = location_of(tmp_path, name)
    assert moved([(name, here), (name, here.removeprefix("file://"))], tmp_path) == {}


# A file system has no names with surrogates that stand alone.
characters = st.characters(min_codepoint=32, exclude_characters="/%?#", exclude_categories=["Cs"])
names = st.text(characters, min_size=1, max_size=8).filter(lambda name: name not in (".", ".."))


@given(st.sets(names, min_size=1, max_size=4), st.sampled_from(["", "/1", "/1/artifacts", "/models/m-1"]))
def test_every_address_below_a_moved_experiment_moves_with_it(experiments, below):
    old, new = Path("/scratch/a"), Path("/home/b")
    table = moved([(name, location_of(old, name)) for name in experiments], new)
    for name in experiments:
        assert place_of(location_of(old, name) + below, table) == location_of(new, name) + below
    for other in (location_of(old, "x" * 9), "s3://bucket/1", ""):
        assert place_of(other, table) == other


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def copied(store, folder: Path, name: str) -> Path:
    """Copy a store while it is open, as `cp -r` would do it."""
    return Path(shutil.copytree(folder, folder.with_name(name)))


@pytest.mark.parametrize("read_only", [True, False])
def test_a_copy_is_read_and_written_without_the_original(store, folder, read_only):
    with store.record("mine", "sweep", "abc", {"a.toml": "text"}) as record:
        run_id, _ = write(record, 0, Config(), model=b"model")
    copy = copied(store, folder, "copy")
    original = files(folder)
    # The original has other files now, and later none at all.
    for path in (folder / "artifacts").rglob("*.*"):
        path.write_bytes(b"original")
    found = open_store(copy, read_only=read_only).latest("mine")
    assert found.read("a.toml") == b"text"
    assert found.model(run_id) == b"model"
    np.testing.assert_array_equal(found.correct(run_id, BITS.size), BITS)
    shutil.rmtree(folder / "artifacts")
    found.log_model(run_id, b"other")
    found.keep({"b.toml": b"more"})
    assert found.model(run_id) == b"other"
    assert not (folder / "artifacts").exists()
    for path, content in original.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    assert store.latest("mine").model(run_id) == b"model", "the original has its own files, in one process"


def test_a_copy_that_is_continued_leaves_the_original_as_it_is(store, folder):
    with store.record("mine", "sweep", "abc", {"a.toml": "text"}) as record:
        write(record, 0, Config())
    copy = copied(store, folder, "copy")
    before = files(folder)
    with open_store(copy).record("mine", "sweep", "abc", {"a.toml": "text"}) as record:
        assert record.resumed
        run_id, _ = write(record, 1, Config(), model=b"model")
        record.keep({"b.toml": b"more"})
    assert files(folder) == before
    assert (copy / "artifacts" / "mine" / run_id / "artifacts" / "model.keras").read_bytes() == b"model"
    assert len(open_store(copy, read_only=True).latest("mine").table()) == 2


def test_a_store_that_moves_twice_is_found_again(store, folder):
    with store.record("mine", "sweep", "abc") as record:
        run_id, _ = write(record, 0, Config(), model=b"model")
    for name in ("second", "third"):
        folder = folder.rename(folder.with_name(name))
        assert open_store(folder, read_only=True).latest("mine").model(run_id) == b"model"
        assert open_store(folder).latest("mine").model(run_id) == b"model"


OTHERS = {
    "logged_models": ("artifact_location", "/models/m-1/artifacts"),
    "model_versions": ("source", "/1/artifacts/model"),
    "trace_tags": ("value", "/traces/tr-1/artifacts"),
}


def test_every_address_in_the_database_of_a_moved_store_is_replaced(store, folder):
    with store.record("mine", "sweep", "abc") as record:
        write(record, 0, Config())
    here = location_of(folder, "mine")
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        for table, (column, below) in OTHERS.items():
            filled = {}
            for _, name, kind, required, default, _ in connection.execute(f"PRAGMA table_info({table})"):
                if required and default is None:
                    filled[name] = 1 if "INT" in kind else "x"
            filled[column] = here + below
            marks = ", ".join("?" * len(filled))
            connection.execute(
                f"INSERT INTO {table} ({', '.join(filled)}) VALUES ({marks})", [*filled.values()]
            )
        connection.commit()
    moved_to = folder.rename(folder.with_name("moved"))
    open_store(moved_to)
    with closing(sqlite3.connect(moved_to / "mlflow.db")) as connection:
        text = "\n".join(connection.iterdump())
        there = location_of(moved_to, "mine")
        for table, (column, below) in OTHERS.items():
            assert connection.execute(f"SELECT {column} FROM {table}").fetchall() == [(there + below,)]
    assert folder.as_uri() + "/" not in text
    assert text.count(f"{there}/") >= 2 + len(OTHERS)


def test_a_file_that_is_missing_is_named_with_its_place(store, folder):
    store.record("mine", "sweep", "abc").close()
    moved_to = folder.rename(folder.with_name("moved"))
    with pytest.raises(InputError, match=rf"has no file 'a\.toml' in {moved_to.as_uri()}/artifacts/mine/"):
        open_store(moved_to, read_only=True).latest("mine").read("a.toml")
