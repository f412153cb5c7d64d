from pathlib import Path

import pytest

from invact.errors import InputError
from invact.files import beside, find, install, read_text, read_toml, shipped


@pytest.mark.parametrize("kind", ["search_spaces", "sweeps", "recipe"])
def test_shipped_files_are_found_by_name_and_start_with_a_comment(kind: str) -> None:
    assert shipped(kind)
    for name in shipped(kind):
        path = find(kind, name)
        assert path.stem == name
        assert path.read_text().startswith("# ")
        if kind == "sweeps":
            assert f"#   invact {'claim' if name.endswith('claim') else 'sweep'} {name}\n" in path.read_text()
        if kind == "recipe":
            assert f'#   recipe = "{name}"\n' in path.read_text()
            assert name not in shipped("sweeps")


@pytest.mark.parametrize("reference", ["no.toml", "folder/no", "a\0b.toml", "x" * 300 + ".toml", "cnm"])
def test_missing_files_are_refused_in_one_line(reference: str, folder: Path) -> None:
    with pytest.raises(InputError) as error:
        find("search_spaces", reference)
    assert "\n" not in str(error.value)


def test_a_file_of_another_kind_is_not_taken_for_a_name(folder: Path) -> None:
    (folder / "net.h5").write_bytes(b"x")
    with pytest.raises(
        InputError, match=r"^'net\.h5': not a TOML file\. Allowed: a path that ends in \.toml"
    ):
        find("sweeps", "net.h5")
    # A file in the current folder does not hide a shipped one.
    (folder / "digits").write_bytes(b"x")
    assert find("sweeps", "digits").name == "digits.toml"


def test_invalid_toml_is_refused_with_its_place(folder: Path) -> None:
    (folder / "bad.toml").write_text("a = 1\nb = = 2\n")
    with pytest.raises(InputError, match=r"bad\.toml: not TOML: .*line 2"):
        read_toml(folder / "bad.toml")
    (folder / "latin.toml").write_bytes(b"a = '\xe9'")
    with pytest.raises(InputError, match="not UTF-8"):
        read_toml(folder / "latin.toml")
    with pytest.raises(InputError, match="Is a directory"):
        read_toml(folder)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_byte_order_mark_is_not_part_of_the_text(folder: Path, newline: str) -> None:
    path = folder / "mark.toml"
    path.write_bytes(newline.join(("a = 1", "b = 'é'", "")).encode("utf-8-sig"))
    assert read_toml(path) == {"a": 1, "b": "é"}
    assert read_text(path) == "a = 1\nb = 'é'\n"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_of_windows_are_named(folder: Path, encoding: str) -> None:
    (folder / "wide.toml").write_bytes("a = 1\n".encode(encoding))
    with pytest.raises(InputError, match=r"wide\.toml: received .*UTF-16.*Allowed: UTF-8") as error:
        read_toml(folder / "wide.toml")
    assert "\n" not in str(error.value)


def test_the_hint_for_an_extra_works_in_a_checkout_and_elsewhere(folder: Path, monkeypatch) -> None:
    root = Path(__file__).parents[1]
    assert install("onnx") == f"pip install -e '{root}[onnx]'"
    monkeypatch.setattr("invact.files.__file__", str(folder / "invact" / "files.py"))
    assert install("onnx") == "pip install 'invact[onnx]'"


def test_a_bare_name_is_a_shipped_file_and_anything_else_is_a_path(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").write_text("")
    (tmp_path / "mine.toml").write_text("")
    assert find("sweeps", "digits") != tmp_path / "digits"
    assert find("sweeps", "mine.toml").samefile(tmp_path / "mine.toml")
    assert find("sweeps", "./mine.toml").samefile(tmp_path / "mine.toml")
    assert find("sweeps", tmp_path / "mine.toml") == tmp_path / "mine.toml"
    assert find("search_spaces", "mine.toml", tmp_path) == tmp_path / "mine.toml"
    for reference in ("no.toml", "./digitz", ".", "..", "x/" * 3000):
        with pytest.raises(InputError):
            find("sweeps", reference)


def test_paths_in_a_file_are_relative_to_the_file(folder: Path) -> None:
    assert beside(folder / "sweep.toml", "mnist") == "mnist"
    assert beside(folder / "sweep.toml", "own.npz") == str(folder / "own.npz")
    assert beside(Path("sweep.toml"), "data/own.npz") == str(folder / "data" / "own.npz")
