import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from invact.config import Config
from invact.errors import InputError
from invact.validation import Frozen, check_name, import_all, override, validate

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Inner(Frozen):
    wide: int = 1


class Outer(Frozen):
    inner: Inner = Inner()
    seeds: tuple[int, ...] = ()
    table: dict[str, int] = Field(default_factory=dict)


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
    """Return the reason why the values are not a configuration; empty if they are one."""
    try:
        assert isinstance(validate(Config, values, "f"), Config)
    except InputError as error:
        return str(error)
    return ""


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_any_file_content_gives_a_configuration_or_an_input_error(values) -> None:
    assert len(refusal(values).splitlines()) <= 1


@given(st.sampled_from(list(Config.model_fields)), JSON)
def test_any_field_value_gives_a_configuration_or_an_input_error(field, value) -> None:
    assert refusal({field: value}) == "" or field in refusal({field: value})


@given(st.text(max_size=80))
def test_an_accepted_name_stays_in_its_folder(name: str) -> None:
    with contextlib.suppress(InputError):
        check_name(name)
        assert (Path("/store") / name).resolve().parent == Path("/store")
        assert name.isprintable()
        assert len(name) <= 64


@given(st.text(max_size=80))
def test_a_bad_name_is_refused_in_one_line(name: str) -> None:
    if not name.isprintable() or "/" in name:
        with pytest.raises(InputError) as error:
            check_name(name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["", "../x", "/etc/passwd", "a/b", "a\0b", "a\nb", "x" * 300, ".", "..", "-x"]
)
def test_names_that_are_not_safe_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        check_name(name)


@given(st.dictionaries(st.sampled_from("abc"), st.integers(), max_size=3), st.integers())
def test_overrides_replace_values_and_keep_the_others(table: dict[str, int], value: int) -> None:
    before = {"config": table, "trials": 3}
    after = override(before, {"config.b": value, "seed": 1})
    assert after == {"config": {**table, "b": value}, "trials": 3, "seed": 1}
    assert before == {"config": table, "trials": 3}
    with pytest.raises(InputError, match=r"trials\.x"):
        override(before, {"trials.x": 1})


def test_a_module_that_cannot_be_imported_is_refused_in_one_line(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "breaks.py").write_text("raise ValueError('a\\nb')")
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("breaks", "no_such_module", "", ".relative"):
        with pytest.raises(InputError, match=r"^imports: ") as error:
            import_all([module])
        assert "\n" not in str(error.value)
