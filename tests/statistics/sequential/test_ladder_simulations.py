import importlib
import math
from pathlib import Path

import numpy as np
import pytest

from invact.statistics.sequential.group_sequential import stops
from invact.statistics.sequential.ladder import Series, Verdict, climb
from invact.statistics.sequential.procedures import Method, Procedure

REPLICATIONS = 20_000
# Short procedures, and only a few series for the sequential one, because its adjusted intervals are slow.
SHORT = (
    (Procedure(looks=(4, 6)), 4),
    (Procedure(Method.FIXED, looks=(6,)), 12),
    (Procedure(Method.ANYTIME, looks=(12,)), 12),
)


@pytest.fixture(scope="module")
def ladders():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[3]))
        yield importlib.import_module("benchmarks.ladder")


@pytest.mark.parametrize(("procedure", "rows"), SHORT)
def test_decide_agrees_with_the_procedure(ladders, procedure, rows):
    series = np.random.default_rng(1).normal(-0.001, 0.003, (rows, 30))
    pairs, won = ladders.decide(procedure, ladders.t_after_each(series + 0.003))
    for row, values in enumerate(series):
        found = procedure.test(values, 0.003)
        assert found.ended
        assert (pairs[row], won[row]) == (found.n, found.shown)


def test_decide_agrees_with_stops(ladders):
    series = np.random.default_rng(2).normal(-0.001, 0.003, (2_000, 30))
    for margin, rule in ((0.003, Procedure()), (0.0, Procedure(futility=False))):
        pairs, won = ladders.decide(rule, ladders.t_after_each(series + margin))
        expected = stops(series[:, : rule.most], margin, rule.alpha, rule.looks, rule.futility)
        assert pairs.tolist() == np.array(rule.looks)[expected.look].tolist()
        assert won.tolist() == expected.crossed.tolist()


def train_as_asked(runs, truth, sd, row, procedure, ladders):
    """Test one ladder; train only the runs that it requests."""
    means = {"treatment": 0.0, "placebo": truth.placebo, "matched": truth.matched}

    def series(arm, rung, count):
        mean = 0.9 if arm == "control" else 0.9 + truth.control[rung]
        if arm in ("placebo", "matched"):
            mean -= means[arm][rung]
        return Series(mean + sd * runs[arm, rung][row, :count])

    counts = {("control", 0): 0}
    while True:
        arms = {
            ratio: {
                arm: series(arm, rung, counts.get((arm, rung), 0))
                for arm in ("treatment", "placebo", "matched")
            }
            for rung, ratio in enumerate(ladders.RATIOS)
        }
        rungs = climb(
            series("control", 0, counts["control", 0]),
            arms,
            dict(zip(ladders.RATIOS, ladders.MACS, strict=True)),
            ladders.MARGIN,
            procedure,
        )
        if not rungs[-1].wanted:
            return rungs, sum(counts.values())
        for arm, count in rungs[-1].wanted.items():
            key = (arm, 0 if arm == "control" else len(rungs) - 1)
            counts[key] = max(counts.get(key, 0), count)


@pytest.mark.parametrize(("procedure", "rows"), SHORT)
def test_simulate_agrees_with_climb(ladders, procedure, rows):
    truth = ladders.Truth("mixed", (0.001, 0.0, -0.001), (0.004, 0.003, 0.003), (0.0, 0.002, 0.002))
    runs = ladders.noise("normal", rows, seed=4)
    (found,) = ladders.simulate(truth, 0.0015, runs, procedure)
    for row in range(rows):
        rungs, trainings = train_as_asked(runs, truth, 0.0015, row, procedure, ladders)
        rest = [False] * (3 - len(rungs))
        assert [rung.verdict is Verdict.SUPPORTED for rung in rungs] + rest == found.filters[row].tolist()
        assert [rung.macs_verdict is Verdict.SUPPORTED for rung in rungs] + rest == found.macs[row].tolist()
        assert trainings == found.trainings[row]
    assert 0 < found.filters.sum() < found.filters.size


@pytest.mark.parametrize("kind", ["normal", "skewed"])
def test_family_wise_error(ladders, kind):
    runs = ladders.noise(kind, REPLICATIONS, seed=5)
    bound = 0.05 + 2 * math.sqrt(0.05 * 0.95 / REPLICATIONS)
    for truth in ladders.WORLDS:
        results = ladders.simulate(truth, 0.002, runs, *ladders.PROCEDURES.values())
        for name, found in zip(ladders.PROCEDURES, results, strict=True):
            for claim, others in ladders.CLAIMS.items():
                false = truth.false(*others)
                rate = getattr(found, claim.lower())[:, false].any(axis=1).mean()
                assert rate <= bound, (truth.name, name, claim)
                if truth.name == "two equal, the last at the margin" and not name.startswith("anytime"):
                    # Each ratio is tested at the full alpha. A Bonferroni correction would give a far lower
                    # rate.
                    assert rate > 0.035


@pytest.mark.parametrize("sd", [0.0015, 0.002, 0.0025])
def test_cost_is_at_most_a_third(ladders, sd):
    runs = ladders.noise("normal", 4_000, seed=6)
    for truth in ladders.COSTS:
        (found,) = ladders.simulate(truth, sd, runs, ladders.PROCEDURES["sequential"])
        assert found.trainings.mean() <= 9 * ladders.MOST / 3
