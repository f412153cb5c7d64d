"""The trials of an earlier sweep guide a sampler; they are no trials of the new sweep."""

from pathlib import Path

import pytest

from invact.config import Config
from invact.errors import EnvironmentFault, InputError
from invact.search.drivers import Outcome
from invact.search.search import Search
from invact.spaces.space import parse_space
from invact.sweeps.file import load_sweep
from invact.sweeps.recorded import find_sweep
from invact.sweeps.run import SweepResult, run_sweep
from invact.sweeps.warm import WARM, values_in
from invact.tracking.store import open_store
from invact.training.results import Status

SPACE = '[parameters]\nactivation = { choices = ["relu", "inverse"] }\nfilters = { low = 2, high = 5 }\n'


def swept(path: Path, *, show: bool = False, **changes: object) -> SweepResult:
    return run_sweep(load_sweep(path, {"trials": 4} | changes), show=show)


@pytest.fixture
def learned(monkeypatch) -> list[tuple[dict[str, object], Outcome]]:
    """What a search is told of other searches."""
    told: list[tuple[dict[str, object], Outcome]] = []
    learn = Search.learn

    def noted(search: Search, values: dict[str, object], outcome: Outcome) -> None:
        told.append((values, outcome))
        learn(search, values, outcome)

    monkeypatch.setattr(Search, "learn", noted)
    return told


def test_a_sampler_is_told_the_trials_of_an_earlier_sweep_under_its_own_budgets(
    stand_in, write, learned, trained, capfd
) -> None:
    first = swept(write(more="sampler = 'grid'\n", config="dropout = 0.1", space=SPACE), trials=8)
    budget = int(first.table["macs"].median())
    space = SPACE.replace("high = 5", "high = 4")
    # The earlier sweep may have the same name.
    more = f"warm_start = ['tiny']\n[objective]\nkind = 'pareto'\nmax_macs = {budget}\n"
    del trained[:]
    capfd.readouterr()
    second = swept(write(more=more, config="dropout = 0.1", space=space), show=True)
    assert second.run_id != first.run_id
    inside = first.table[first.table["param.filters"] <= 4]
    assert len(learned) == len(inside) == 6
    for values, outcome in learned:
        (row,) = inside[
            (inside["param.filters"] == values["filters"])
            & (inside["param.activation"] == values["activation"])
        ].to_dict("records")
        over = row["macs"] > budget
        assert outcome.status is (Status.OVER_BUDGET if over else Status.FINISHED)
        assert outcome.accuracy == (None if over else row["validation_accuracy"])
        assert (outcome.costs["macs"], outcome.costs["params"]) == (row["macs"], row["params"])
    assert {outcome.status for _, outcome in learned} == {Status.OVER_BUDGET, Status.FINISHED}
    assert (
        "tiny: warm start: 6 of 8 trials of 'tiny' are told; 2 have a value that this search space lacks or "
        "forbids (filters 2)\n" in capfd.readouterr().err
    )
    # They are no trials of the sweep, and their configurations are taken over when they are proposed.
    assert len(second.table) == 4
    assert trained == []
    # What was told stays, although there is a newer sweep of the name.
    told = [*learned]
    del learned[:]
    newer = swept(write(more="sampler = 'grid'\n", config="dropout = 0.2", space=space), trials=1)
    again = swept(write(more=more, config="dropout = 0.1", space=space), trials=5)
    assert again.run_id == second.run_id != newer.run_id
    assert learned == told
    (record,) = [one for one in open_store().records("tiny") if one.run_id == second.run_id]
    kept = open_store().latest("tiny", identity=record.identity).json(WARM)
    assert kept["sweeps"] == {"tiny": first.run_id}


def test_a_warm_start_is_part_of_the_identity(write, digits) -> None:
    plain, warm, other = (
        load_sweep(write(more=more)) for more in ("", "warm_start = ['a']", "warm_start = ['b']")
    )
    assert len({each.identity(digits) for each in (plain, warm, other)}) == 3
    assert load_sweep(write(more="warm_start = []")).identity(digits) == plain.identity(digits)


def test_a_warm_start_that_cannot_be_is_refused_before_any_training(stand_in, write, trained) -> None:
    swept(write(space=SPACE), trials=1)
    for more, config, message in (
        ("warm_start = ['tinny']", "", r"two.toml: warm_start: name: received 'tinny'; .*'tiny'"),
        ("warm_start = ['two']", "", r"warm_start: name: received 'two'. Allowed: tiny"),
        ("warm_start = ['../x']", "", r"warm_start: received '../x'. Allowed: 1 to 64 letters"),
        (
            "warm_start = ['tiny']\nsampler = 'random'",
            "",
            r"warm_start: received \['tiny'\] with sampler = 'random', which reads no .*: tpe, nsga2",
        ),
        (
            "warm_start = ['tiny']",
            "dropout = 0.5",
            r"warm_start: 0 of 1 trials of 'tiny' are told; 1 have a value .* \(dropout 1\). Allowed: a",
        ),
    ):
        with pytest.raises(InputError, match=message):
            swept(write("two", more, config, SPACE))
    assert len(trained) == 1
    with pytest.raises(InputError, match="two"):
        find_sweep("two", None, None, None)


def test_accuracies_on_other_data_are_refused_and_a_damaged_file_is_named(
    stand_in, write, folder, monkeypatch
) -> None:
    swept(write(space=SPACE), trials=1)
    path = write("two", "warm_start = ['tiny']", space=SPACE)
    with monkeypatch.context() as patch:
        patch.setattr("invact.tracking.record.Record.json", lambda *a, **k: {"name": "mnist", "digest": "0"})
        with pytest.raises(InputError, match=r"'tiny', a sweep on 'mnist'. Allowed: a sweep on 'digits'"):
            swept(path)
    swept(path, trials=1)
    record = find_sweep("two", None, None, None)
    record.keep({WARM: b'{"trials": [{"values": {}}]}'})
    with pytest.raises(EnvironmentFault, match=r"file 'warm_start.json': received .*Allowed: a trial of"):
        swept(path, trials=2)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"filters": 6, "activation": ("relu", "elu")}, ""),
        ({"filters": 9, "activation": ("relu", "elu")}, "filters"),
        ({"filters": (6, 6), "activation": ("relu", "elu")}, "filters"),
        ({"filters": 6, "activation": "relu"}, "activation"),
        ({"filters": 6, "activation": ("relu", "silu")}, "activation"),
        ({"filters": 6, "depth": 3, "activation": ("relu", "elu", "elu")}, "depth"),
        ({"filters": 6, "activation": ("relu", "elu"), "normalization": "batch", "dropout": 0.5}, ""),
        ({"filters": 6, "activation": ("relu", "elu"), "dropout": 0.5}, "dropout"),
        ({"filters": 6, "activation": ("relu", "elu"), "epochs": 9}, "epochs"),
        ({"filters": 6, "activation": ("relu", "elu"), "model": "my:net"}, "model"),
    ],
)
def test_the_values_of_a_configuration_are_found_or_the_parameter_that_forbids_it(config, expected) -> None:
    space = parse_space(
        {
            "depth": 2,
            "activation": {"choices": ["relu", "elu"], "per_stage": True},
            "filters": {"low": 4, "high": 8},
            "normalization": {"choices": ["none", "batch"]},
            "dropout": {"low": 0.0, "high": 0.5, "when": {"normalization": "batch"}},
        }
    )
    config = Config(**config)
    values, reason = values_in(space, config)
    assert reason == expected
    if not reason:
        assert space.contains(values)
        assert space.config(values) == config
