import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invact.config import Config
from invact.tracking.provenance import (
    NO_CODE,
    UNSET,
    VARIABLES,
    code_of,
    commit,
    continued,
    differences,
    environment,
    numerics,
    provenance_tags,
    versions,
)


def test_the_arms_of_shipped_stages_are_no_code_of_the_user():
    config = Config(activation=("inverse", "relu"), reference=("relu", "abs"))
    assert code_of(config) == NO_CODE


def test_the_commit_is_that_of_the_working_tree(tmp_path):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)
        return done.stdout.decode().strip()

    assert commit(tmp_path) is None
    git("init", "--quiet")
    assert commit(tmp_path) is None
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "--quiet", "-m", "one")
    assert commit(tmp_path) == (git("rev-parse", "HEAD"), False)
    (tmp_path / "a").write_text("2")
    assert commit(tmp_path) == (git("rev-parse", "HEAD"), True)


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_that_changes_numbers_is_recorded_when_it_is_set(name, monkeypatch):
    before = numerics()
    assert not environment()
    monkeypatch.setenv(name, "0")
    assert environment() == {name: "0"}
    assert differences(before, numerics()) == {name: (UNSET, "0")}
    assert differences(numerics(), before) == {name: ("0", UNSET)}
    assert provenance_tags()[f"environment.{name}"] == "0"


def test_what_decides_numbers_is_that_of_the_loaded_libraries():
    import keras
    import numpy as np
    import tensorflow as tf

    loaded = {"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__}
    found = numerics()
    assert {name: found[name] for name in loaded} == loaded
    assert found["python"].split(".")[:2] == [str(part) for part in os.sys.version_info[:2]]
    assert found.items() <= versions().items()


tags = st.dictionaries(
    st.sampled_from(["version.keras", "environment.XLA_FLAGS", "a"]), st.sampled_from("123")
)


@given(tags, tags)
def test_a_record_that_continues_under_other_versions_is_told_in_one_line(was, now):
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("invact.tracking.provenance.warn", lines.append)
        kept = was | now | continued(was, now, "sweep tiny")
        names = ("version.keras", "environment.XLA_FLAGS")
        changed = [name for name in names if was.get(name) != now.get(name)]
        assert len(lines) == bool(changed)
        for name in changed:
            short = name.partition(".")[2]
            assert f"{short} {was.get(name, UNSET)} -> {now.get(name, UNSET)}" in lines[0]
        # The next session under the same versions says nothing.
        lines.clear()
        continued(kept, now, "sweep tiny")
        assert bool(lines) is ("version.keras" in was and "version.keras" not in now)
