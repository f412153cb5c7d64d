import json
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
import warm
from recording import BITS, write

from invact.config import Config
from invact.errors import EnvironmentFault, InputError
from invact.tracking.backend.mlflow import VERSION, check_tables
from invact.tracking.store import has_store, open_store


def everything(folder: Path) -> dict[str, bytes]:
    """The content of every file, but for SQLite's own files beside a database that is open."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("mlflow.db-")
    }


def closed(folder: Path, to: Path) -> Path:
    """Copy a store as it is when no process has it open."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Path(shutil.copytree(folder, to, ignore=shutil.ignore_patterns("mlflow.db-*")))


def make_old(folder: Path) -> Path:
    """Take the last step of MLflow's own upgrades back."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config

    database = folder / "mlflow.db"
    config = _get_alembic_config(f"sqlite:///{database}")
    command.downgrade(config, "-1")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    return database


def revision(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]


@pytest.fixture
def old_folder(folder):
    with open_store(folder).record("mine", "sweep", "abc") as record:
        write(record, 0, Config())
    copy = closed(folder, folder.with_name("old"))
    make_old(copy)
    return copy


@pytest.mark.parametrize("kind", ["missing", "empty", "files"])
def test_reading_creates_no_store(tmp_path, monkeypatch, kind):
    folder = tmp_path / "there"
    if kind != "missing":
        folder.mkdir()
    if kind == "files":
        (folder / "README.md").write_text("runs")
    before = sorted(tmp_path.rglob("*"))
    assert not has_store(folder)
    words = "does not exist" if kind == "missing" else r"has no mlflow\.db"
    for arguments in ({"folder": folder}, {"tracking_uri": f"sqlite:///{folder}/mlflow.db"}):
        with pytest.raises(InputError, match=f"received '{folder}', which {words}"):
            open_store(**arguments, read_only=True)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "command", [["list"], ["front", "x"], ["export", "x"], ["ui"], ["claim", "x", "--report"]]
)
@pytest.mark.parametrize("folder_exists", [True, False])
def test_commands_that_read_create_nothing(invact, tmp_path, monkeypatch, command, folder_exists):
    monkeypatch.chdir(tmp_path)
    if folder_exists:
        (tmp_path / "mlruns").mkdir()
    answer = invact(*command)
    assert answer.code == (0 if command == ["list"] else 2), answer
    assert command == ["list"] or answer.err.count("\n") == 1
    assert [*tmp_path.rglob("*")] == [tmp_path / "mlruns"] * folder_exists


OPTUNA = [
    "CREATE TABLE studies (study_id INTEGER)",
    "CREATE TABLE trials (trial_id INTEGER)",
    "CREATE TABLE alembic_version (version_num VARCHAR(32))",
    "INSERT INTO alembic_version VALUES ('v3.2.0.a')",
]


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (OPTUNA, "a database of Optuna"),
        (["CREATE TABLE songs (name TEXT)"], r"a database with other tables \(songs\)"),
        ([], "a database without tables"),
    ],
)
@pytest.mark.parametrize("read_only", [True, False])
def test_a_database_of_another_program_is_named_and_not_changed(tmp_path, statements, words, read_only):
    path = tmp_path / "study.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM")
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(InputError, match=rf"received '{path}', {words}\. Allowed: a database of MLflow"):
        open_store(tracking_uri=f"sqlite:///{path}", read_only=read_only)
    assert path.read_bytes() == before


def test_reading_a_database_of_an_older_mlflow_does_not_change_it(old_folder, capfd):
    before = everything(old_folder)
    store = open_store(old_folder, read_only=True)
    (info,) = store.records()
    assert (info.name, sum(info.counts.values())) == ("mine", 1)
    assert capfd.readouterr() == ("", ""), "the tables are read as they are"
    # MLflow itself reads only tables of its own version.
    assert len(store.runs.opened().experiments()) == 2
    assert everything(old_folder) == before
    out, err = capfd.readouterr()
    assert not out
    assert err == (
        f"invact: {old_folder}/mlflow.db: an older MLflow made it. It is read from an upgraded copy, "
        "and is not changed\n"
    )


def test_writing_upgrades_a_database_of_an_older_mlflow_and_keeps_a_copy(old_folder, folder, capfd):
    database, kept = old_folder / "mlflow.db", old_folder / f"mlflow.db.before-{VERSION}"
    before = revision(database)
    with open_store(old_folder).record("mine", "sweep", "abc") as record:
        assert record.resumed
        write(record, 1, Config())
    assert f"the old database is {kept.name}\n" in capfd.readouterr().err
    assert revision(kept) == before != revision(database) == revision(folder / "mlflow.db")
    with closing(sqlite3.connect(kept)) as connection:
        assert connection.execute("SELECT count(*) FROM tags WHERE key = 'invact.seed'").fetchone() == (1,)
    assert len(open_store(old_folder, read_only=True).latest("mine").table()) == 2
    assert capfd.readouterr().err == ""
    assert not [*old_folder.glob("*upgraded*"), *old_folder.glob("*.new")]


def test_an_upgrade_that_fails_changes_nothing(folder, capfd):
    database = folder / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection:
        # The tables are those of the latest revision, so the first step finds its table there already.
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        connection.commit()
    before = database.read_bytes()
    for _ in range(2):
        with pytest.raises(
            EnvironmentFault, match=r"the upgrade of its tables failed: .* already exists"
        ) as caught:
            open_store(folder)
        assert "\n" not in str(caught.value)
    assert database.read_bytes() == before
    assert sorted(path.name for path in folder.glob("mlflow.db*")) == ["mlflow.db"]
    assert capfd.readouterr().err == ""


def test_the_tables_of_a_database_server_are_checked_before_mlflow_changes_them(old_folder, folder, tmp_path):
    # A file stands for the server: MLflow opens both in the same way.
    check_tables(f"sqlite:///{folder}/mlflow.db", read_only=True)
    before = (old_folder / "mlflow.db").read_bytes()
    with pytest.raises(EnvironmentFault, match=r"its tables have schema .* run `mlflow db upgrade`"):
        check_tables(f"sqlite:///{old_folder}/mlflow.db", read_only=False)
    assert (old_folder / "mlflow.db").read_bytes() == before
    check_tables(f"sqlite:///{tmp_path}/new.db", read_only=False)
    with pytest.raises(InputError, match="which has no tables of MLflow"):
        check_tables(f"sqlite:///{tmp_path}/new.db", read_only=True)


READER = """
import sys, permissions
permissions.obey_permissions()
from invact.cli.main import main
main()
"""


@pytest.fixture
def read_only(folder, store):
    """A function that makes a read-only copy of a store with a sweep, closed or open in this process."""
    record = store.record("mine", "sweep", "abc", {"settings.json": '{"objective": {}}'})
    write(record, 0, Config())
    record.close()
    made = []

    def make(kind: str) -> Path:
        copy = folder.with_name(f"kept-{kind}")
        if kind == "closed":
            closed(folder, copy)
        else:
            # The last writes are only in the log beside the database.
            shutil.copytree(folder, copy)
            assert (copy / "mlflow.db-wal").stat().st_size > 0
        if kind == "without its index":
            (copy / "mlflow.db-shm").unlink()
        made.append(copy)
        for path in [copy, *copy.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        return copy

    yield make
    for copy in made:
        for path in [copy, *copy.rglob("*")]:
            path.chmod(path.stat().st_mode | stat.S_IRWXU)


@pytest.mark.parametrize("kind", ["closed", "open", "without its index"])
def test_a_store_without_write_permission_can_be_read_but_not_written(read_only, kind, tmp_path):
    store = read_only(kind)
    before = {path: path.stat().st_mtime_ns for path in [store, *store.rglob("*")]}

    def invact(*arguments: object):
        code = READER.replace("main()\n", f"sys.argv = {['invact', *map(str, arguments)]!r}\nmain()\n")
        return warm.run(["-c", code], cwd=tmp_path)

    answer = invact("list", "--store", store, "--json")
    assert (answer.returncode, answer.stderr) == (0, ""), answer
    (other,) = json.loads(answer.stdout)["others"]
    assert (other["name"], other["records"][0]["runs"]) == ("mine", {"FINISHED": 1})
    answer = invact("front", "mine", "--store", store, "--json", "--format", "csv", "-o", tmp_path)
    assert answer.returncode == 0, answer
    assert len(json.loads(answer.stdout)["front"]) == 1
    assert {path: path.stat().st_mtime_ns for path in [store, *store.rglob("*")]} == before
    code = "import sys, permissions\npermissions.obey_permissions()\n" + WRITER.format(store=str(store))
    assert "can" in warm.run(["-c", code]).stdout


WRITER = """
from invact.errors import EnvironmentFault
from invact.tracking.store import open_store
try:
    open_store({store!r})
except EnvironmentFault as error:
    assert "Permission denied" in str(error), error
    print("cannot write")
"""


def test_the_temporary_copy_is_private_and_removed_with_the_store(old_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    store = open_store(old_folder, read_only=True)
    store.runs.opened()
    (made,) = (tmp_path / "temporary").iterdir()
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    record = store.latest("mine")
    run_id = record.table()["run_id"].iloc[0]
    assert record.correct(run_id, BITS.size).tolist() == BITS.tolist(), "files come from the store itself"
    del store, record
    assert [*(tmp_path / "temporary").iterdir()] == []
