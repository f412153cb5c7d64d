from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invact.claims.planning.registration import changes_between, read, register, sha256
from invact.errors import EnvironmentFault
from invact.tracking.store import open_store


@pytest.fixture
def record(folder: Path, quick_stores: None):
    with open_store(folder / "mlruns").record("mine", "claim", "abc") as opened:
        yield opened


def test_a_registration_is_read_back_with_its_hash(record) -> None:
    assert read(record) is None
    made = register(record, {"settings": {"alpha": 0.05, "looks": (5, 7)}, "margin": 0.003})
    found = read(record)
    assert found == made
    assert found.sha256 == sha256(found.registered)
    assert not found.changes({"alpha": 0.05, "looks": [5, 7]})
    assert found.changes({"alpha": 0.1, "looks": [5, 7]}) == {"alpha": (0.05, 0.1)}


def test_a_deviation_does_not_replace_the_registered_design(record) -> None:
    first = register(record, {"settings": {"alpha": 0.05}})
    second = register(record, {"settings": {"alpha": 0.1}}, "a typing error")
    found = read(record)
    assert found == second
    assert found.registered == first.registered
    assert found.design["settings"] == {"alpha": 0.1}
    assert "a typing error (settings.alpha: 0.05 -> 0.1)" in str(found.deviations[0])


def test_a_changed_registration_is_detected(record) -> None:
    register(record, {"settings": {"alpha": 0.05}})
    text = record.read("preregistration.json").decode().replace("0.05", "0.06")
    record.keep({"preregistration.json": text.encode()})
    with pytest.raises(EnvironmentFault, match="was changed after it was registered"):
        read(record)


tables = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=6,
).filter(lambda value: isinstance(value, dict))


@given(tables)
def test_a_table_has_no_changes_against_itself(table) -> None:
    assert changes_between(table, table) == {}
    assert changes_between(table, {**table, "zzz": 1}) == {"zzz": (None, 1)}
