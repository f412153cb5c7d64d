import importlib.metadata

import pytest

from invact.process import sources
from invact.process.sources import source_digest


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A package of a user beside a module, which import each other in every way."""
    monkeypatch.syspath_prepend(str(tmp_path))
    files = {
        "src_top.py": "import src_pack.models\nimport keras, numpy\nimport scipy.special\n",
        "src_pack/__init__.py": "",
        "src_pack/models.py": "def f():\n    from . import parts\n    from .deep.more import VALUE\n",
        "src_pack/parts.py": "import src_beside as other\n",
        "src_pack/deep/more.py": "VALUE = 1\n",  # a package without __init__.py
        "src_pack/unused.py": "",
        "src_beside.py": "try:\n    import not_installed\nexcept ImportError:\n    pass\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("src_top.py", True),
        ("src_pack/__init__.py", True),
        ("src_pack/models.py", True),
        ("src_pack/parts.py", True),
        ("src_pack/deep/more.py", True),
        ("src_beside.py", True),
        ("src_pack/unused.py", False),
    ],
)
def test_every_file_that_a_module_imports_is_hashed(project, file, counts) -> None:
    before = source_digest(["src_top"])
    assert before == source_digest(["src_top"])
    path = project / file
    path.write_text(path.read_text() + "# changed\n")
    assert (source_digest(["src_top"]) != before) == counts


def test_the_version_of_a_library_is_hashed(project, monkeypatch) -> None:
    before = source_digest(["src_top"])
    found = importlib.metadata.version
    monkeypatch.setattr(sources, "version", lambda name: "0" if name == "scipy" else found(name))
    assert source_digest(["src_top"]) not in (before, None)


@pytest.mark.parametrize(
    "text",
    [
        "import importlib\nimportlib.import_module('src_beside')\n",
        "exec(open('code.txt').read())\n",
        "__import__('src_beside')\n",
        "this is no Python\n",
        "from ..above import x\n",
    ],
)
def test_code_that_may_load_other_code_is_not_known(project, text) -> None:
    assert source_digest(["src_beside"])
    (project / "src_beside.py").write_text(text)
    assert source_digest(["src_top"]) is None


def test_a_module_of_a_library_or_without_a_file_is_not_known() -> None:
    for name in ("keras", "json", "scipy.special", "no_such_module", "sys"):
        assert source_digest([name]) is None
    assert source_digest(["users"])
