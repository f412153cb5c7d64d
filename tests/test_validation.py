import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from invact.config import Config
from invact.errors import InputError
from invact.search.objectives import Objective
from invact.validation import Frozen, check_name, import_all, override, points, quantity, validate

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


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(), max_size=3),
    st.dictionaries(st.sampled_from("abc"), st.integers(), max_size=3),
)
def test_a_table_replaces_the_keys_that_it_has(table: dict[str, int], changes: dict[str, int]) -> None:
    merged = {"config": {**table, **changes}, "trials": 3}
    dotted = {f"config.{key}": value for key, value in changes.items()}
    before = {"config": table, "trials": 3}
    assert override(before, {"config": changes}) == override(before, dotted) == merged
    assert override({"deep": before}, {"deep": {"config": changes}}) == {"deep": merged}
    assert override({"deep": before}, {"deep.config": None}) == {"deep": {"config": None, "trials": 3}}


@given(st.integers(1, 10**12), st.sampled_from([("", 0), ("k", 3), ("K", 3), ("M", 6), ("G", 9), ("T", 12)]))
def test_a_quantity_is_read_as_it_is_printed(number: int, prefix: tuple[str, int]) -> None:
    letter, power = prefix
    for text in (f"{number}{letter}", f"{number} {letter}", f"{number:_}{letter}"):
        assert quantity(text) == number * 10**power
    assert quantity(f"{number}.5{letter}" if power else str(number)) == number * 10**power + 10**power // 2


@pytest.mark.parametrize(
    "text", ["", "k", "1.5", "0.0005k", "2m", "2 kM", "-2k", "1e5", "nan", "2ki", "1,000"]
)
def test_a_text_that_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(
        InputError, match=r"max_macs: received .*Allowed: a whole number such as 200000, '200k'"
    ):
        validate(Objective, {"max_macs": text}, "f")


def test_a_quantity_as_text_is_the_same_as_its_number() -> None:
    for key in ("max_macs", "max_params", "max_activation_bytes", "max_bytes_moved"):
        assert Objective(**{key: "1.5M"}) == Objective(**{key: 1_500_000})
    assert Objective(kind="weighted", target="200k") == Objective(kind="weighted", target=200_000)
    text, number = (Config(width_rule="macs", width_target=each) for each in ("200k", 200_000))
    assert text.digest() == number.digest()


@pytest.mark.parametrize("value", [0.005, 0.003, 0.02, 0.049])
def test_a_margin_that_looks_like_a_fraction_is_asked_about(value: float) -> None:
    with pytest.raises(ValueError, match=f"received {value}, points or fraction.*{100 * value:g} points"):
        points(value)
    assert points(100 * value) == 100 * value


def test_values_in_python_are_refused_as_those_of_a_file() -> None:
    for cls, values in (
        (Config, {"epochs": "5"}),
        (Config, {"epoch": 5}),
        (Config, {"activation": ["relu"], "depth": 2}),
        (Objective, {"kind": "cost"}),
        (Outer, {"inner": {"wide": "x"}}),
    ):
        with pytest.raises(InputError) as file:
            validate(cls, values, cls.__name__)
        with pytest.raises(InputError) as python:
            cls(**values)
        assert str(python.value) == str(file.value)
        assert "\n" not in str(python.value)


def test_a_module_that_cannot_be_imported_is_refused_in_one_line(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "breaks.py").write_text("raise ValueError('a\\nb')")
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("breaks", "no_such_module", "", ".relative"):
        with pytest.raises(InputError, match=r"^imports: ") as error:
            import_all([module])
        assert "\n" not in str(error.value)
