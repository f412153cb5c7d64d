import math

import numpy as np
import pytest

from benchmarks import pruning
from benchmarks.pruning import Curve, Ended, Table
from invact.search.drivers.ledger import proposal_key
from invact.search.halving import SuccessiveHalving
from invact.spaces.space import parse_space

RULE = SuccessiveHalving(9, 1, 3, 0.01)


@pytest.fixture(scope="module")
def table():
    return pruning.read("fashion_mnist")


def curve(macs, *accuracy):
    return Curve({"filters": macs}, macs, accuracy, accuracy[-1])


def ended(*curves_and_epochs, spent=(), time=()):
    spent = spent or np.cumsum([epochs for _, epochs in curves_and_epochs]).tolist()
    return [
        Ended(one, epochs, so_far, 2.0 * so_far)
        for (one, epochs), so_far in zip(curves_and_epochs, spent, strict=True)
    ]


@pytest.mark.parametrize(("name", "images"), [("digits", 225), ("fashion_mnist", 10_000)])
def test_the_table_holds_every_curve_once(name, images):
    table = pruning.read(name)
    assert set(table.curves) == {proposal_key(values) for values in table.space.grid()}
    path = pruning.FOLDER / f"{name}.csv"
    assert len(path.read_text().splitlines()) == 1 + len(table.curves) >= 1 + 60
    assert path.stat().st_size < 40_000
    counts = np.array([one.accuracy for one in table.curves.values()]) * images
    assert counts.shape == (len(table.curves), table.epochs)
    np.testing.assert_allclose(counts, counts.round(), atol=0.1)  # rounded to five digits
    assert {table.space.config(dict(key[0])).epochs for key in table.curves} == {table.epochs}


@pytest.mark.parametrize("sampler", pruning.SAMPLERS)
def test_a_full_search_trains_every_network_to_the_end(table, sampler):
    found = pruning.search(table, sampler, 0, 12, None)
    assert len({id(one.curve) for one in found}) == len(found) == 12
    assert all(one.whole for one in found)
    assert found[-1].spent == 12 * table.epochs
    assert [one.time for one in found] == sorted(one.time for one in found)
    # Two workers: the time is about half of the sum.
    alone = sum(1 + one.curve.seconds(table.epochs) for one in found)
    assert alone / 2 <= found[-1].time < alone


@pytest.mark.parametrize("how", pruning.TOLD)
@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_pruned_trainings_stop_at_rungs_and_are_not_repeated(table, sampler, how):
    found = pruning.search(table, sampler, 0, 12, RULE, how)
    assert len({id(one.curve) for one in found}) == len(found) == 12
    assert {one.epochs for one in found} <= {*RULE.rungs, table.epochs}
    assert found[-1].spent == sum(one.epochs for one in found) < 12 * table.epochs


def test_random_searches_propose_the_same_networks_with_and_without_pruning(table):
    full, short = (pruning.search(table, "random", 3, 20, rule) for rule in (None, RULE))
    proposed = [{proposal_key(one.curve.values) for one in found} for found in (full, short)]
    assert proposed[0] == proposed[1]


def test_workers_interleave_as_computed_by_hand(monkeypatch):
    # The quick network is trained twice in the time of the slow one: 1 + 2 epochs of 1 or of 3.
    space = parse_space({"filters": {"choices": [1, 2, 3]}})
    macs = {1: 200_000, 2: 0, 3: 0}
    curves = {
        proposal_key(values): Curve(values, macs[values["filters"]], (0.5, 0.25 * values["filters"]), 0.5)
        for values in space.grid()
    }
    table = Table(space, curves)
    monkeypatch.setattr(pruning, "make_driver", lambda *_: InOrder(space))
    found = pruning.search(table, "", 0, 3, None)
    assert [(one.curve.values["filters"], one.spent, one.time) for one in found] == [
        (2, 2, 3.0),
        (3, 5, 6.0),
        (1, 6, 7.0),
    ]


class InOrder:
    def __init__(self, space):
        self._left = iter(enumerate(space.grid()))

    def ask(self):
        number, values = next(self._left, (None, None))
        return None if values is None else pruning.Proposal(number, values)

    def tell(self, proposal, outcome):
        assert outcome.accuracy == 0.25 * proposal.values["filters"]


def test_measures_equal_a_calculation_by_hand():
    cheap, costly, bad = curve(100, 0.5, 0.8), curve(200, 0.5, 0.9), curve(300, 0.1, 0.6)
    space = parse_space({"filters": {"choices": [100, 200, 300]}})
    table = Table(space, {proposal_key(one.values): one for one in (cheap, costly, bad)})
    accuracy, cost = table.reference
    assert (accuracy, cost) == (pytest.approx(0.79), pytest.approx(math.log(330)))
    first = 0.01 * math.log(3.3)
    both = 0.01 * math.log(2) + 0.11 * math.log(1.65)
    found = ended((cheap, 2), (bad, 1), (costly, 2))
    np.testing.assert_allclose(pruning.volumes(table, found), [first, first, both])
    volume = pruning.volumes(table, found)
    assert pruning.reached(found, volume, both) == (5, 10.0)
    assert pruning.reached(found, volume, first) == (2, 4.0)
    assert pruning.reached(found, volume, 2 * both) == (math.inf, math.inf)
    assert pruning.front_of([bad, costly, cheap]) == [costly, cheap]
    assert pruning.lost(found, [cheap, costly]) == (0, 2)
    assert pruning.lost(ended((cheap, 1), (bad, 1)), [cheap, costly]) == (1, 1)
    assert pruning.tested(table, found) == pytest.approx(both)


def test_a_rule_that_stops_nothing_gives_the_full_search(table):
    full = pruning.search(table, "tpe", 0, 10, None)
    found = pruning.compare(table, "tpe", 0, full, SuccessiveHalving(9, 8, 3, 0.99))
    assert (found.spent, found.same, found.lost, found.lost_best) == (1, 1, 0, 0)
    assert found.members >= 1


def test_quartiles_count_searches_that_never_reach_the_target():
    assert pruning.quartiles([0.1, 0.2, 0.3, 0.4, np.inf]) == "0.30 (0.20 to 0.40)"
    assert pruning.quartiles([0.1, np.inf, np.inf]) == "inf (0.10 to inf)"


def test_the_tables_have_all_rows(table, monkeypatch, capsys):
    monkeypatch.setattr(pruning, "SLACKS", (0.0, 1.0))
    pruning.print_settings(table, 6, 1, 10_000)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(pruning.FIRST) * len(pruning.ETAS) * 2
    pruning.print_searches(table, 6, 1, RULE)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) == 3 * (2 + 3)
    assert all(line.count("|") == rows[0].count("|") for line in rows[:5])
    pruning.print_told(table, 6, 1, RULE)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 2 * len(pruning.TOLD)


def test_a_part_of_the_table_is_a_table_of_its_own(table):
    part = table.part({"activation": "inverse"})
    assert set(part.curves) == {proposal_key(values) for values in part.space.grid()}
    assert 2 * len(part.curves) == len(table.curves)
    assert len(pruning.search(part, "random", 0, 100, None)) == len(part.curves)


@pytest.mark.slow
def test_curves_are_recorded(monkeypatch, tmp_path):
    (tmp_path / "tiny.toml").write_text(
        'space = "tiny_space.toml"\ndata = "digits"\nsampler = "grid"\ntrials = 2\n'
        "[config]\nepochs = 2\nbatch_size = 256\n"
    )
    (tmp_path / "tiny_space.toml").write_text(
        '[parameters]\nmodel = "cnn"\nfilters = { choices = [1, 2] }\ndepth = 1\nlearning_rate = 3e-3\n'
    )
    monkeypatch.setattr(pruning, "FOLDER", tmp_path)
    pruning.record("tiny", tmp_path / "store")
    table = pruning.read("tiny")
    assert set(table.curves) == {proposal_key(values) for values in table.space.grid()}
    assert table.epochs == 2
    small, large = table.curves.values()
    assert 0 < small.macs < large.macs
    assert all(0 < one.final < 1 and 0 < one.test < 1 for one in table.curves.values())
