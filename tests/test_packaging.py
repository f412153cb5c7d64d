import contextlib
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling import build as backend

ROOT = Path(__file__).parent.parent


def build(source: Path, out: Path, kind: str) -> Path:
    """Call what every front end of PEP 517 calls, without its processes."""
    out.mkdir(exist_ok=True)
    with contextlib.chdir(source):
        return out / getattr(backend, f"build_{kind}")(str(out))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    return build(ROOT, tmp_path_factory.mktemp("sdist"), "sdist")


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_the_package_its_data_and_nothing_else(wheel):
    modules = [path.relative_to(ROOT) for path in (ROOT / "invact").rglob("*.py")]
    data = [
        "invact/shipped" / path.relative_to(ROOT)
        for folder in ("search_spaces", "sweeps")
        for path in (ROOT / folder).rglob("*.toml")
    ]
    expected = {path.as_posix() for path in (*modules, *data)} | {"invact/py.typed"}
    held = contents(wheel)
    assert {name for name in held if ".dist-info/" not in name} == expected
    for name in ("licenses/LICENSE", "entry_points.txt"):
        assert any(member.endswith(f".dist-info/{name}") for member in held)


def test_the_sdist_builds_the_same_wheel(wheel, sdist, tmp_path):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path / "tree", filter="data")
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "invact/py.typed"} <= names
    assert {"tests/test_packaging.py", "search_spaces/cnn.toml", "sweeps/digits.toml"} <= names
    assert not any(name.startswith(("mlruns", ".venv", ".hypothesis")) for name in names)
    (tree,) = (tmp_path / "tree").iterdir()
    again = build(tree, tmp_path / "again", "wheel")
    assert again.name == wheel.name
    assert contents(again) == contents(wheel)


def test_the_installed_wheel_finds_what_is_shipped_from_an_empty_folder(wheel, tmp_path):
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    env = os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=empty, env=env, check=True, capture_output=True, text=True).stdout

    assert Path(run("-c", "import invact; print(invact.__file__)").strip()).is_relative_to(site)
    listed = json.loads(run("-m", "invact", "list", "--json"))
    spaces = {path.stem for path in (ROOT / "search_spaces").glob("*.toml")}
    sweeps = {path.stem for path in (ROOT / "sweeps").glob("*.toml")}
    recipes = {path.stem for path in (ROOT / "sweeps" / "recipes").glob("*.toml")}
    assert {row["name"] for row in listed["search_spaces"]} == spaces
    assert {row["name"] for key in ("sweeps", "claims") for row in listed[key]} == sweeps
    assert {row["name"] for row in listed["recipes"]} == recipes
    assert list(empty.iterdir()) == []
