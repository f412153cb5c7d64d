import pytest

from invact.claims.file import identity_of, load_claim
from invact.claims.planning.pilots import earlier_pilots
from invact.data.dataset import load
from invact.tracking.store import open_store


@pytest.fixture
def pilots(folder, quick_stores, digits, write_claim):
    """Names of the earlier pilots that a claim lists, which differs from the first one by these values."""
    store = open_store(folder / "mlruns")

    def list_pilots(name, data=digits, **changes):
        claim = load_claim(write_claim(), {key.replace("__", "."): value for key, value in changes.items()})
        with store.record(name, "claim", identity_of(data.name)) as record:
            found = earlier_pilots(store, record, claim, data)
        return [pilot.claim for pilot in found], record

    return list_pilots


def test_other_recipes_and_splits_do_not_hide_a_pilot(pilots) -> None:
    assert pilots("first")[0] == []
    assert pilots("second", config__epochs=1, config__learning_rate=0.5, margin=2.0)[0] == ["first"]
    other_split = load("digits", split_seed=3)
    assert pilots("third", data=other_split, split_seed=3, ratios=[0.25])[0] == ["first", "second"]
    # A claim that is continued has the pilots that were there before it.
    assert pilots("second")[0] == ["first"]
    # A list of equal arms is the same arm.
    assert pilots("fourth", treatment=["inverse"])[0] == ["first", "second", "third"]


@pytest.mark.parametrize(
    "changes",
    [
        {"config__filters": 16},
        {"config__normalization": "batch"},
        {"config__convolutions": 2},
        {"treatment": "gelu"},
    ],
)
def test_another_network_or_arm_is_another_task(pilots, changes) -> None:
    pilots("first", config__model="plain")
    assert pilots("second", config__model="plain", **changes)[0] == []


def test_a_pilot_that_was_deleted_is_listed(pilots) -> None:
    _, record = pilots("first")
    store = open_store(None)
    store.runs.client.delete_run(record.run_id)
    assert pilots("second")[0] == ["first"]
    store.runs.client.delete_experiment(record.experiment)
    assert pilots("third")[0] == ["first", "second"]
