import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from invact.arms import ARMS
from invact.config import AUGMENTATIONS, Config, digest
from invact.errors import InputError
from invact.files import beside, find, read_toml, shipped
from invact.validation import Frozen, check_name, import_all, override, validate

configs = st.builds(
    Config,
    activation=st.sampled_from(sorted(ARMS)),
    filters=st.integers(1, 4096),
    depth=st.integers(1, 64),
    dropout=st.floats(0, 1, exclude_max=True),
    learning_rate=st.floats(0, 100, exclude_min=True),
    augmentation=st.lists(st.sampled_from(AUGMENTATIONS), min_size=1, unique=True).map("+".join),
)


@given(configs)
def test_a_configuration_survives_json_and_its_digest_with_it(config: Config) -> None:
    again = Config.model_validate_json(config.model_dump_json())
    assert again == config
    assert again.digest() == config.digest()
    assert config.activations == (config.activation,) * config.depth
    assert "+".join(config.augmentations) == config.augmentation


@given(configs, configs)
def test_digests_tell_configurations_apart(one: Config, other: Config) -> None:
    assert (one.digest() == other.digest()) == (one == other)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"filters": 0}, "filters: received 0. Allowed: greater than or equal to 1, or a list"),
        ({"filters": -3}, "filters: received -3."),
        ({"filters": 10**12}, "filters: received 1000000000000. Allowed: less than or equal to 4096"),
        ({"filters": 16.5}, "filters: received 16.5. Allowed: a valid integer"),
        ({"filters": True}, "filters: received True."),
        ({"filters": "8"}, "filters: received '8'."),
        ({"filters": [8, 0]}, "filters.1: received 0. Allowed: greater than or equal to 1"),
        ({"filters": [8, 8, 8]}, "filters: received 3 values. Allowed: one, or 2, one for each stage"),
        ({"depth": 0}, "depth: received 0."),
        ({"activation": "rellu"}, "activation: received 'rellu'; did you mean 'relu'?"),
        ({"activation": ["relu", "invers"]}, "activation.1: received 'invers'; did you mean 'inverse'?"),
        ({"activation": ["relu"]}, "activation: received 1 values."),
        ({"reference": "rel"}, "reference: received 'rel'; did you mean 'relu'?"),
        ({"model": "cn"}, "model: received 'cn'; did you mean 'cnn'?"),
        ({"model": "os.system"}, "model: received 'os.system'."),
        ({"normalization": "batc"}, "normalization: received 'batc'; did you mean 'batch'?"),
        ({"width_rule": "channel"}, "width_rule: received 'channel'; did you mean 'channels'?"),
        ({"augmentation": "shift+flop"}, "augmentation: received 'flop'; did you mean 'flip'?"),
        (
            {"augmentation": "flip+flip"},
            "augmentation: received 'flip+flip'. Allowed: each",
        ),
        ({"dropout": 1}, "dropout: received 1. Allowed: less than 1"),
        ({"learning_rate": 0}, "learning_rate: received 0. Allowed: greater than 0"),
        ({"learning_rate": float("nan")}, "learning_rate: received nan."),
        ({"learning_rate": float("inf")}, "learning_rate: received inf."),
        ({"weight_decay": True}, "weight_decay: received True. Allowed: a valid number"),
        ({"epoch": 3}, "epoch: unknown key, received 'epoch'; did you mean 'epochs'?"),
        ({"options": {"a": 1}}, "options: received ['a']. Allowed: with a builder of your own only"),
        ({"options": {"a": [1]}}, "options.a: received [1]."),
    ],
)
def test_bad_values_are_explained_in_one_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        validate(Config, values, "my.toml")
    assert str(error.value).startswith(f"my.toml: {message}")
    assert "\n" not in str(error.value)


def test_a_builder_of_ones_own_takes_options() -> None:
    config = validate(Config, {"model": "mine.nets:build", "options": {"width": 3}}, "my.toml")
    assert config.options == {"width": 3}


@given(st.dictionaries(st.text(max_size=3), st.integers(), max_size=5))
def test_the_digest_owes_nothing_to_the_order_of_keys(values: dict[str, int]) -> None:
    assert digest(values) == digest(dict(reversed(values.items())))


@given(st.text(max_size=80))
def test_a_name_that_is_taken_cannot_leave_its_folder(name: str) -> None:
    with contextlib.suppress(InputError):
        check_name(name)
        assert (Path("/store") / name).resolve().parent == Path("/store")
        assert name.isprintable()
        assert len(name) <= 64


@given(st.text(max_size=80))
def test_a_name_that_is_refused_is_refused_in_one_line(name: str) -> None:
    if not name.isprintable() or "/" in name:
        with pytest.raises(InputError) as error:
            check_name(name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["", "../x", "/etc/passwd", "a/b", "a\0b", "a\nb", "x" * 300, ".", "..", "-x"]
)
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        check_name(name)


@pytest.mark.parametrize("kind", ["search_spaces", "sweeps"])
def test_shipped_files_are_found_by_bare_name_and_open_with_a_comment(kind: str) -> None:
    assert shipped(kind)
    for name in shipped(kind):
        path = find(kind, name)
        assert path.stem == name
        assert path.read_text().startswith("# ")
        if kind == "sweeps":
            assert f"#   invact {'claim' if name.endswith('claim') else 'sweep'} {name}\n" in path.read_text()


@pytest.mark.parametrize("reference", ["no.toml", "folder/no", "a\0b.toml", "x" * 300 + ".toml", "cnm"])
def test_files_that_are_not_there(reference: str, folder: Path) -> None:
    with pytest.raises(InputError) as error:
        find("search_spaces", reference)
    assert "\n" not in str(error.value)


def test_toml_that_does_not_parse_says_where(folder: Path) -> None:
    (folder / "bad.toml").write_text("a = 1\nb = = 2\n")
    with pytest.raises(InputError, match=r"bad\.toml: not TOML: .*line 2"):
        read_toml(folder / "bad.toml")
    (folder / "latin.toml").write_bytes(b"a = '\xe9'")
    with pytest.raises(InputError, match="not UTF-8"):
        read_toml(folder / "latin.toml")
    with pytest.raises(InputError, match="Is a directory"):
        read_toml(folder)


@given(st.dictionaries(st.sampled_from("abc"), st.integers(), max_size=3), st.integers())
def test_overrides_replace_and_leave_the_rest(table: dict[str, int], value: int) -> None:
    before = {"config": table, "trials": 3}
    after = override(before, {"config.b": value, "seed": 1})
    assert after == {"config": {**table, "b": value}, "trials": 3, "seed": 1}
    assert before == {"config": table, "trials": 3}
    with pytest.raises(InputError, match=r"trials\.x"):
        override(before, {"trials.x": 1})


def test_paths_in_a_file_are_relative_to_it(folder: Path) -> None:
    assert beside(folder / "sweep.toml", "mnist") == "mnist"
    assert beside(folder / "sweep.toml", "own.npz") == str(folder / "own.npz")
    assert beside(Path("sweep.toml"), "data/own.npz") == str(folder / "data" / "own.npz")


class Inner(Frozen):
    wide: int = 1


class Outer(Frozen):
    inner: Inner = Inner()
    seeds: tuple[int, ...] = ()
    table: dict[str, int] = Field(default_factory=dict)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_the_digest_of_a_configuration_stays() -> None:
    """Seeds of initialisation are made of it: another digest, and no number of an old run comes again."""
    assert Config().digest() == "f1a61e0a5c32"


def test_every_field_of_a_configuration_is_in_its_digest() -> None:
    fixed = {"model": "a:b", "depth": 2, "width_rule": "macs"}
    base = Config(**fixed)
    changes = {
        "model": "a:c",
        "activation": "inverse",
        "filters": 8,
        "depth": 3,
        "normalization": "batch",
        "dropout": 0.1,
        "width_rule": "channels",
        "reference": "elu",
        "width_target": 9,
        "options": {"x": 1},
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "schedule": "constant",
        "weight_decay": 0.1,
        "batch_size": 1,
        "epochs": 1,
        "augmentation": "shift",
        "precision": "mixed_bfloat16",
    }
    assert set(changes) == set(Config.model_fields)
    digests = {Config(**fixed | {key: value}).digest() for key, value in changes.items()}
    assert len(digests | {base.digest()}) == len(changes) + 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"wid": 1}}, "inner.wid: unknown key, received 'wid'; did you mean 'wide'? Allowed: wide"),
        ({"inner": {"wide": "x"}}, "inner.wide: received 'x'"),
        ({"inner": 3}, "inner: received 3"),
        ({"seeds": [1, "x"]}, "seeds.1: received 'x'"),
        ({"table": {"a": "x"}}, "table.a: received 'x'"),
    ],
)
def test_nested_keys_are_named_with_dots(values, message) -> None:
    with pytest.raises(InputError) as error:
        validate(Outer, values, "f")
    assert message in str(error.value)


def refusal(values: object) -> str:
    """Say why the values are no configuration; nothing if they are one."""
    try:
        assert isinstance(validate(Config, values, "f"), Config)
    except InputError as error:
        return str(error)
    return ""


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_whatever_a_file_holds_it_is_an_input_error_or_a_configuration(values) -> None:
    assert len(refusal(values).splitlines()) <= 1


@given(
    st.sampled_from(list(Config.model_fields)),
    JSON,
)
def test_whatever_a_field_holds_it_is_an_input_error_or_a_configuration(field, value) -> None:
    assert refusal({field: value}) == "" or field in refusal({field: value})


def test_a_bare_name_is_a_shipped_file_and_anything_else_a_path(tmp_path: Path, monkeypatch) -> None:
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


def test_a_module_that_cannot_be_imported_is_one_line(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "breaks.py").write_text("raise ValueError('a\\nb')")
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("breaks", "no_such_module", "", ".relative"):
        with pytest.raises(InputError, match=r"^imports: ") as error:
            import_all([module])
        assert "\n" not in str(error.value)
