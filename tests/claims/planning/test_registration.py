import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invact.claims.keys import ClaimFile, CurveFile
from invact.claims.planning.registration import changes_between, fix, read, register, sha256
from invact.errors import EnvironmentFault, InputError
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


class Later(ClaimFile):
    """The keys of a later version: two more, and one more in an inner table."""

    class LaterCurve(CurveFile):
        degree: int = 3

    curve: LaterCurve | None = None
    patience: int = 4
    extra: tuple[str, ...] = ()


def test_a_key_of_a_later_version_changes_a_registered_claim_only_if_it_is_used(record, monkeypatch) -> None:
    values = {"data": ["digits"], "ratios": [0.5], "curve": {"treatment": [2, 4, 8]}}
    register(record, {"settings": ClaimFile(**values).model_dump(mode="json")})
    monkeypatch.setattr("invact.claims.planning.registration.ClaimFile", Later)
    found = read(record)
    assert found.changes(Later(**values).model_dump(mode="json")) == {}
    changed = values | {"patience": 5, "extra": ["a"], "curve": values["curve"] | {"degree": 1}}
    settings = Later(**changed).model_dump(mode="json")
    expected = {"curve.degree": (3, 1), "extra": ([], ["a"]), "patience": (4, 5)}
    assert found.changes(settings) == expected
    made = register(record, {"settings": settings}, "a reason")
    assert made.deviations[0].changes == {f"settings.{key}": change for key, change in expected.items()}


def test_published_figures_change_no_registered_claim(record) -> None:
    values = {"data": ["digits"], "ratios": [0.5]}
    figures = {"where": {"arm": "control"}, "source": "a paper", "test_accuracy": 94.3}
    plain, told = (ClaimFile(**values, **more) for more in ({}, {"reference": (figures,)}))
    assert plain.settings() == told.settings()
    assert "reference" not in told.settings()
    assert sha256({"settings": plain.settings()}) == sha256({"settings": told.settings()})
    # A record of a version that registered the key, or did not know it, has no change either.
    for settings in (plain.settings(), plain.settings() | {"reference": []}):
        register(record, {"settings": settings}, "a reason")
        assert read(record).changes(told.settings()) == {}


def test_a_deviation_does_not_replace_the_registered_design(record) -> None:
    first = register(record, {"settings": {"alpha": 0.05}})
    second = register(record, {"settings": {"alpha": 0.1}}, "a typing error")
    found = read(record)
    assert found == second
    assert found.registered == first.registered
    assert found.design["settings"] == {"alpha": 0.1}
    assert "a typing error (settings.alpha: 0.05 -> 0.1)" in str(found.deviations[0])


def edit(record, name: str, change) -> None:
    values = json.loads(record.read(name))
    change(values)
    record.keep({name: json.dumps(values).encode()})


def test_an_edited_registration_is_refused_although_its_hash_is_recomputed(record) -> None:
    register(record, {"settings": {"alpha": 0.025, "margin": 0.3}, "rules": {"margin": 0.003}})

    def wider(values) -> None:
        values["design"]["rules"]["margin"] = 0.004
        values["sha256"] = sha256(values["design"])

    edit(record, "preregistration.json", wider)
    words = r"was changed after it was registered: rules.margin: received 0.004, registered 0.003$"
    with pytest.raises(EnvironmentFault, match=words):
        read(record)


def test_a_long_part_of_the_design_is_compared_by_its_hash(record) -> None:
    register(record, {"settings": {}, "seeds": {str(key): key for key in range(1000)}})

    def other(values) -> None:
        values["design"]["seeds"]["7"] = 8
        values["sha256"] = sha256(values["design"])

    edit(record, "preregistration.json", other)
    with pytest.raises(EnvironmentFault, match="seeds differs from the hash that was recorded"):
        read(record)


def test_a_hash_that_does_not_fit_the_design_is_refused(record) -> None:
    register(record, {"settings": {"alpha": 0.025}})
    edit(record, "preregistration.json", lambda values: values["design"]["settings"].update(alpha=0.06))
    with pytest.raises(EnvironmentFault, match=r"settings.alpha: received 0.06, registered 0.025"):
        read(record)


@pytest.mark.parametrize("name", ["preregistration.json", "pilot.json", "deviations.json"])
def test_a_missing_or_damaged_file_is_refused(record, name) -> None:
    known = register(record, {"settings": {"alpha": 0.025}})
    fix(record, register(record, {"settings": {"alpha": 0.05}}, "a reason"), {"margin": 0.003})
    assert read(record).registered == known.registered
    record.keep({name: b"{"})
    with pytest.raises(EnvironmentFault, match=f"{name} of run .* is not JSON"):
        read(record)
    for content in (b"[3]", b"null", b'{"design": 3}', b'{"values": []}'):
        record.keep({name: content})
        with pytest.raises(EnvironmentFault, match=f"{name}"):
            read(record)
    (path,) = Path("mlruns/artifacts/mine").glob(f"*/artifacts/{name}")
    path.unlink()
    with pytest.raises(EnvironmentFault, match=f"{name} of run .* is missing"):
        read(record)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("pilot.json", lambda values: values["values"].update(margin=0.004)),
        ("deviations.json", lambda values: values[0].update(reason="another reason")),
        ("deviations.json", lambda values: values.clear()),
    ],
)
def test_edited_values_of_the_pilot_and_edited_deviations_are_refused(record, name, change) -> None:
    register(record, {"settings": {"alpha": 0.025}})
    fix(record, register(record, {"settings": {"alpha": 0.05}}, "a reason"), {"margin": 0.003})
    edit(record, name, change)
    with pytest.raises(EnvironmentFault, match=f"{name} of run .* was changed"):
        read(record)


def test_what_the_pilot_fixes_changes_only_with_a_reason(record) -> None:
    known = fix(record, register(record, {"settings": {}}), {"margin": 0.003, "selected": (0.5,)})
    assert known.fixed == {"margin": 0.003, "selected": [0.5]}
    assert read(record) == known
    assert fix(record, known, {"margin": 0.003, "selected": (0.5,)}) == known
    other = {"margin": 0.002, "selected": (0.75,)}
    with pytest.raises(EnvironmentFault, match=r"margin: received 0.002 from the runs, fixed 0.003"):
        fix(record, known, other)
    assert read(record) == known
    changed = fix(record, known, other, "a run was lost")
    assert changed.fixed == {"margin": 0.002, "selected": [0.75]}
    assert read(record) == changed
    assert "a run was lost (pilot.json: margin: 0.003 -> 0.002" in str(changed.deviations[0])
    # An earlier deviation does not excuse a later change.
    with pytest.raises(EnvironmentFault, match="--deviation"):
        fix(record, changed, {"margin": 0.003, "selected": (0.5,)})


def test_a_registration_with_pairs_of_seeds_is_refused(record) -> None:
    design = {"schema": "invact.preregistration/1", "settings": {}}
    record.keep({"preregistration.json": json.dumps({"design": design, "sha256": "0"}).encode()})
    words = r"received 'invact.preregistration/1', with pairs of seeds"
    with pytest.raises(InputError, match=words) as error:
        read(record)
    assert "--report prints the report; a new file name starts a new claim" in str(error.value)


tables = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=6,
).filter(lambda value: isinstance(value, dict))


@given(tables)
def test_a_table_has_no_changes_against_itself(table) -> None:
    assert changes_between(table, table) == {}
    assert changes_between(table, {**table, "zzz": 1}) == {"zzz": (None, 1)}
