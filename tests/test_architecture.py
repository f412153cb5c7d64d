"""The pages on the architecture agree with the import contract and with the code."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    """The script that draws the picture, which is in no package."""
    spec = importlib.util.spec_from_file_location("draw_architecture", ROOT / "docs" / "draw_architecture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reachable(pairs: set[tuple[str, str]], start: str) -> set[str]:
    direct = {other for one, other in pairs if one == start}
    return direct.union(*(reachable(pairs, other) for other in direct))


def test_the_readme_lists_every_package_in_the_order_of_the_layers(drawing: ModuleType) -> None:
    rows = re.findall(r"^\| (`invact/\w+`.*?) \|", README, re.M)
    listed = [name for row in rows for name in re.findall(r"`invact/(\w+)`", row)]
    layers = drawing.layers()
    packages = {path.parent.name for path in (ROOT / "invact").glob("*/__init__.py")} - {"process"}
    assert sorted(listed) == sorted(packages) == sorted(name for layer in layers for name in layer)
    depth = {name: number for number, layer in enumerate(layers) for name in layer}
    depths = [depth[name] for name in listed]
    assert depths == sorted(depths)


def test_the_picture_has_a_purpose_and_a_place_for_every_package(drawing: ModuleType) -> None:
    packages = sorted(name for layer in drawing.layers() for name in layer)
    assert sorted(drawing.PURPOSES) == packages
    assert sorted(drawing.CENTRES) == packages


def test_the_arrows_go_down_and_imply_every_import(drawing: ModuleType) -> None:
    imports = drawing.imports()
    arrows = drawing.reduced(imports)
    depth = {name: number for number, layer in enumerate(drawing.layers()) for name in layer}
    assert all(depth[one] < depth[other] for one, other in imports)
    assert arrows <= imports
    for one, other in imports:
        assert other in reachable(arrows, one)


def test_the_script_draws_a_picture(drawing: ModuleType, tmp_path: Path) -> None:
    drawing.draw(tmp_path / "architecture.png")
    assert (tmp_path / "architecture.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_names_functions_where_they_are() -> None:
    named = re.findall(r"`(\w+(?:\.\w+)?)`\s+\(`([a-z_.]+)`\)", PAGE)
    assert len(named) >= 10
    for name, module in named:
        path = ROOT / "invact" / f"{module.replace('.', '/')}.py"
        last = name.rpartition(".")[2]
        assert re.search(rf"^ *(def|class) {last}\b", path.read_text(encoding="utf-8"), re.M), name
