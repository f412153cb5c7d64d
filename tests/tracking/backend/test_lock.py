import os
import stat
from pathlib import Path

import pytest

from invact.errors import EnvironmentFault
from invact.files import write_atomically
from invact.tracking.backend.lock import exclusive, private_folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "invact"


def test_locks_of_servers_are_in_a_folder_of_the_user_alone(cache):
    before = os.umask(0)
    try:
        assert private_folder("locks") == cache / "locks"
    finally:
        os.umask(before)
    assert stat.S_IMODE((cache / "locks").stat().st_mode) == 0o700
    (cache / "locks").chmod(0o777)
    private_folder("locks")
    assert stat.S_IMODE((cache / "locks").stat().st_mode) == 0o700


def test_a_private_folder_that_another_user_prepared_is_refused(cache, tmp_path, monkeypatch):
    cache.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (cache / "locks").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EnvironmentFault, match="received a link or a folder of another user"):
        private_folder("locks")
    (cache / "locks").unlink()
    (cache / "locks").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(EnvironmentFault, match="received a link or a folder of another user"):
        private_folder("locks")
    (cache / "locks").rmdir()
    (cache / "locks").write_text("a file")
    with pytest.raises(EnvironmentFault, match="XDG_CACHE_HOME"):
        private_folder("locks")


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_no_link_is_followed(tmp_path, link):
    target = tmp_path / "target"
    target.write_text("precious")

    def prepare(path: Path) -> Path:
        path.symlink_to(target) if link == "symbolic" else path.hardlink_to(target)
        return path

    if link == "symbolic":
        prepare(tmp_path / "a.lock")
        with pytest.raises(EnvironmentFault, match=r"a\.lock: cannot be locked: Too many levels of symbolic"):
            exclusive(tmp_path / "a.lock", "a")
    holder = prepare(tmp_path / "b.holder")
    with exclusive(tmp_path / "b.lock", "b"):
        assert holder.read_text().startswith(f"{os.getpid()} on ")
    draft = prepare(tmp_path / f".c.{os.getpid()}.tmp")
    write_atomically(tmp_path / "c", b"new")
    assert (tmp_path / "c").read_bytes() == b"new"
    assert not draft.exists()
    assert target.read_text() == "precious"


def test_the_holder_is_named_in_one_line_whatever_the_file_has(tmp_path):
    for content, words in (
        (b"\xff\xfe", "is being run by another process"),
        (b"7\non here", "process 7 on here"),
    ):
        with exclusive(tmp_path / "a.lock", "the sweep"):
            (tmp_path / "a.holder").write_bytes(content)
            with pytest.raises(EnvironmentFault, match=words):
                exclusive(tmp_path / "a.lock", "the sweep")
