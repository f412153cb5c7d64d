"""A sweep or claim that is killed at any write to the store is completed by the same command."""

from collections import Counter

import pytest
from killed import Killed, faults_of, keys_of, killed_at

from invact.claims.run import run_claim
from invact.errors import InputError
from invact.search.halving import Arrival
from invact.search.pruning import Pruner
from invact.sweeps.file import load_sweep
from invact.sweeps.recorded import find_sweep
from invact.sweeps.run import run_sweep
from invact.tracking.decisions import Decision
from invact.tracking.store import open_store
from invact.tracking.table import SEED, TRIAL

KINDS = {
    "one seed": "",
    "two seeds": "seeds = [0, 1]",
    "over budget": "seeds = [0, 1]\n[objective]\nkind = 'pareto'\nmax_macs = 2500",
    "pruner": "pruner = { slack = 0.0 }\nseeds = [0, 1]\n[objective]\nkind = 'pareto'",
}


EPOCHS = 4
"""Epochs of the sweep with a pruner, which has rungs at 1 and 3."""


def swept(store) -> None:
    run_sweep(load_sweep("./tiny.toml"), store=store, show=False)


def writes_of(folder) -> int:
    with killed_at(None) as done:
        swept(folder / "whole")
    return done.total()


def kill_and_continue(folder, write: int, seeds: int) -> list[str]:
    store = folder / f"killed-{write}"
    with killed_at(write), pytest.raises(Killed):
        swept(store)
    try:
        before = keys_of(find_sweep("tiny", None, store, None))
    except InputError:  # killed before there was a record
        before = set()
    arrived = decisions_of(store)
    with killed_at(None):
        swept(store)
    after = decisions_of(store)
    lost = [f"lost decision: {one}" for one in arrived if one not in after]
    return lost + unsound(after) + faults_of("tiny", seeds, before, store)


def decisions_of(store) -> list[Decision]:
    try:
        decisions, _ = find_sweep("tiny", None, store, None).race()
    except InputError:
        return []
    return decisions


def unsound(decisions: list[Decision]) -> list[str]:
    """Return what is wrong with the decisions of a record: their order, one that occurs twice, the rule."""
    found = [f"order: {one}" for number, one in enumerate(decisions) if one.order != number]
    times = Counter((one.trial, one.epoch) for one in decisions)
    found += [f"decided twice: {key}" for key, count in times.items() if count > 1]
    rule = Pruner(slack=0.0).rule(EPOCHS, images=225)
    for number, one in enumerate(decisions):
        earlier = [Arrival(each.trial, each.epoch, each.accuracy, each.cost) for each in decisions[:number]]
        new = Arrival(one.trial, one.epoch, one.accuracy, one.cost)
        if one.epoch in rule.rungs and rule.goes_on(earlier, new) != one.goes_on:
            found.append(f"not the rule: {one}")
    return found


@pytest.fixture
def kind(request, write, stand_in) -> tuple[str, int]:
    path = write(more=KINDS[request.param])
    if request.param == "pruner":
        path.write_text(path.read_text().replace("epochs = 1", f"epochs = {EPOCHS}"))
        stand_in.slots = 2
    return request.param, 1 if request.param == "one seed" else 2


@pytest.mark.parametrize("kind", ["over budget", "pruner"], indirect=True)
def test_a_sweep_that_is_killed_at_some_writes_is_completed(kind, folder) -> None:
    writes = writes_of(folder)
    for write in range(7, writes, 29 if kind[0] == "over budget" else 61):
        assert kill_and_continue(folder, write, kind[1]) == [], f"killed at write {write} of {writes}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, indirect=True)
def test_a_sweep_that_is_killed_at_any_write_is_completed(kind, folder) -> None:
    writes = writes_of(folder)
    found = {write: kill_and_continue(folder, write, kind[1]) for write in range(writes)}
    assert {write: faults for write, faults in found.items() if faults} == {}
    print(f"{kind[0]}: {len(found)} kills")


QUICK = {"ratios": "[0.125]", "margin": "3"}


def evidence(result) -> tuple[object, ...]:
    """Return the verdicts and the results of all runs; the reasons name the time of the registration."""
    (one,) = result.sets
    columns = ["param.step", "param.key", "seed", "status", "validation_accuracy", "test_accuracy"]
    rows = sorted(one.table[columns].itertuples(index=False, name=None))
    return result.verdict, result.filters_verdict, rows


def claim_killed_at(path, folder, write: int, expected: tuple[object, ...]) -> None:
    store = folder / f"killed-{write}"
    with killed_at(write), pytest.raises(Killed):
        run_claim(path, store=store, show=False)
    with killed_at(None):
        again = run_claim(path, store=store, show=False)
    assert evidence(again) == expected, f"killed at write {write}"
    record = open_store(store, read_only=True).latest("tiny_claim", "claim")
    counted = Counter(
        (run.data.tags[TRIAL], run.data.tags[SEED])
        for run in record._search()
        if SEED in run.data.tags and run.info.status == "FINISHED"
    )
    assert set(counted.values()) == {1}, f"killed at write {write}"


@pytest.fixture
def claim(write_claim, folder, stand_in):
    path = write_claim("", **QUICK)
    with killed_at(None) as done:
        expected = evidence(run_claim(path, store=folder / "whole", show=False))
    return path, expected, done.total()


def test_a_claim_that_is_killed_comes_to_the_same_verdict(claim, folder) -> None:
    path, expected, writes = claim
    claim_killed_at(path, folder, writes // 2, expected)


@pytest.mark.slow
def test_a_claim_that_is_killed_at_any_write_comes_to_the_same_verdict(claim, folder) -> None:
    path, expected, writes = claim
    for write in range(0, writes, 3):
        claim_killed_at(path, folder, write, expected)
    print(f"claim: {len(range(0, writes, 3))} kills")
