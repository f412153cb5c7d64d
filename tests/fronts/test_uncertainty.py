import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from invact.errors import InputError
from invact.fronts.pareto import pareto_front_of
from invact.fronts.uncertainty import ArmGap, uncertainty_of
from invact.statistics.fronts.gaps import FrontGap, front_gap
from invact.statistics.fronts.uncertainty import Candidates, front_bootstrap


def a_table(arms=("relu", "inverse"), seeds=5, per_arm=3, better=0.02, sd=0.001):
    """Runs of several configurations of each arm; every later arm is better than the one before."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "trial": number * per_arm + size,
            "config": f"{arm}{size}",
            "label": f"{arm} {size}",
            "seed": seed,
            "status": "FINISHED",
            "macs": 1_000 * (size + 1),
            "params": 10,
            "filters": 4,
            "validation_accuracy": level + rng.normal(0, sd),
            "test_accuracy": level - 0.005 + rng.normal(0, sd),
            "run_id": f"{arm}{size}-{seed}",
            "param.activation": arm,
        }
        for number, arm in enumerate(arms)
        for size in range(per_arm)
        for level in [0.7 + 0.01 * size + better * number]
        for seed in range(seeds)
    )


def candidates_of(table):
    rows = table.sort_values(["trial", "seed"])
    shape = (rows["config"].nunique(), -1)
    validation, test = (
        rows[f"{split}_accuracy"].to_numpy().reshape(shape) for split in ("validation", "test")
    )
    return Candidates(validation, test, rows["macs"].to_numpy().reshape(shape)[:, 0])


def test_only_configurations_with_all_seeds_take_part():
    table = a_table(sd=0.01)
    lacking = table[(table["config"] == "relu1") & (table["seed"] == 3)].index
    unmeasured = table[(table["config"] == "inverse0") & (table["seed"] == 0)].index
    table = table.drop(lacking)
    table.loc[unmeasured, "test_accuracy"] = math.nan
    found = uncertainty_of(table.sample(frac=1, random_state=0))
    whole = table[~table["config"].isin(["relu1", "inverse0"])]
    assert found.configs == ("relu0", "relu2", "inverse1", "inverse2")
    assert found.seeds == (0, 1, 2, 3, 4)
    assert found.band == front_bootstrap(candidates_of(whole))
    (gap,) = found.gaps
    arms = [candidates_of(whole[whole["param.activation"] == arm]) for arm in ("relu", "inverse")]
    assert gap.gap == front_gap(*arms, margin=0.003)
    assert (gap.control, gap.treatment, gap.confidence) == ("relu", "inverse", 0.95)


@pytest.mark.parametrize("table", [pd.DataFrame(), a_table(seeds=1)], ids=["nothing", "one seed"])
def test_one_seed_gives_no_uncertainty(table):
    assert uncertainty_of(table) is None
    if len(table):
        front = pareto_front_of(table, "one")
        assert front.uncertainty is None
        assert {point.p_non_dominated for point in (*front.points, *front.dominated)} == {None}
        assert "p_non_dominated" not in front.to_pandas()


def test_no_configuration_with_all_seeds():
    table = a_table(seeds=2, per_arm=1)
    assert uncertainty_of(table[[True, False, False, True]]) is None


def test_gaps_need_three_seeds_and_two_activations():
    assert uncertainty_of(a_table(seeds=2)).gaps == ()
    assert uncertainty_of(a_table(arms=["inverse"])).gaps == ()
    assert uncertainty_of(a_table().drop(columns="param.activation")).gaps == ()
    assert len(uncertainty_of(a_table(seeds=3)).gaps) == 1


def test_every_other_arm_is_compared_with_relu_at_the_bonferroni_level():
    arms = ["a_users", "inverse", "linear_negated", "relu"]
    found = uncertainty_of(a_table(arms=arms))
    assert [gap.control for gap in found.gaps] == ["relu"] * 3
    assert {gap.treatment for gap in found.gaps} == set(arms) - {"relu"}
    assert {round(gap.confidence, 12) for gap in found.gaps} == {round(1 - 0.05 / 3, 12)}
    table = a_table(arms=arms)
    relu, inverse = (candidates_of(table[table["param.activation"] == arm]) for arm in ("relu", "inverse"))
    (gap,) = [gap for gap in found.gaps if gap.treatment == "inverse"]
    assert gap.gap == front_gap(relu, inverse, 0.003, confidence=1 - 0.05 / 3)


def test_without_relu_the_first_known_arm_is_the_control():
    (gap,) = uncertainty_of(a_table(arms=["users", "inverse"])).gaps
    assert (gap.control, gap.treatment) == ("inverse", "users")


def test_the_verdict_names_the_better_front():
    (gap,) = uncertainty_of(a_table(arms=["relu", "inverse"])).gaps
    assert gap.verdict == "inverse's front dominates relu's"
    (gap,) = uncertainty_of(a_table(arms=["inverse", "relu"])).gaps
    assert gap.verdict == "relu's front dominates inverse's"
    (gap,) = uncertainty_of(a_table(better=0.0, sd=0.02)).gaps
    assert gap.verdict == "neither front dominates"
    (gap,) = uncertainty_of(a_table(better=0.0), margin=2.0).gaps
    assert gap.verdict == "equal within the margin at all budgets"


@pytest.mark.parametrize(
    ("low", "high", "margin", "verdict"),
    [
        ((0.001, 0.0), (0.02, 0.01), 0.003, "b's front dominates a's"),
        ((0.001, -0.004), (0.02, 0.01), 0.003, "neither front dominates"),
        ((-0.02, -0.01), (-0.001, 0.002), 0.003, "a's front dominates b's"),
        ((-0.002, -0.001), (0.002, 0.001), 0.003, "equal within the margin at all budgets"),
        # One front is better at one budget and worse at the other, both by less than the margin.
        ((0.001, -0.002), (0.002, -0.001), 0.003, "equal within the margin at all budgets"),
    ],
)
def test_verdicts(low, high, margin, verdict):
    gap = tuple(np.mean([low, high], axis=0))
    dominates = min(low) > -margin and max(low) > 0
    dominated = max(high) < margin and min(high) < 0
    found = FrontGap((1.0, 2.0), gap, low, high, margin, dominates, dominated)
    assert ArmGap("a", "b", 0.95, found).verdict == verdict


@pytest.mark.parametrize("margin", [0, -0.3, 100, math.nan, math.inf])
def test_a_bad_margin_is_refused(margin):
    with pytest.raises(InputError, match="margin: received"):
        uncertainty_of(a_table(), margin=margin)
    with pytest.raises(InputError, match="margin: received"):
        pareto_front_of(a_table(seeds=1), "one", margin=margin)


def test_a_front_has_the_uncertainty_of_its_configurations():
    table = a_table()
    front = pareto_front_of(table, "study")
    shares = dict(zip(front.uncertainty.configs, front.uncertainty.band.p_non_dominated, strict=True))
    points = (*front.points, *front.dominated)
    assert {point.config: point.p_non_dominated for point in points} == shares
    assert front.to_pandas().set_index("config")["p_non_dominated"].to_dict() == shares
    assert front.uncertainty.surfaces == ()
    assert len(pareto_front_of(table, "study", attainment=True).uncertainty.surfaces) == 3


@pytest.mark.parametrize("measure", ["activation_bytes", "latency_ms"])
def test_bands_over_another_measure(measure):
    table = a_table(sd=0.01)
    # The most expensive configuration in MACs is the cheapest by this measure.
    cost = (4_000 - table["macs"]) / (4_000 if measure == "latency_ms" else 1)
    turned = table.assign(**{measure: cost})
    found = uncertainty_of(turned, measure=measure)
    assert found == uncertainty_of(table.assign(macs=cost))
    assert found != uncertainty_of(table)
    assert found.band.budgets == tuple(sorted(set(cost)))
    assert found.gaps[0].gap.budgets == found.band.budgets
    assert pareto_front_of(turned, "study", measure=measure).uncertainty == found
    surfaces = pareto_front_of(turned, "study", measure=measure, attainment=True).uncertainty.surfaces
    assert {at for surface in surfaces for at in surface.cost} <= set(cost)


def test_rounding_does_not_break_a_tie():
    # Both configurations have the same mean of counts out of 225, and the second costs more MACs. Without
    # rounding, some of these means differ in floating point.
    ties = [((k, k, k), (k + 1, k - 2, k + 1)) for k in range(150, 224, 4)]
    assert any(sum(n / 225 for n in one) < sum(n / 225 for n in other) for one, other in ties)
    for cheap, costly in ties:
        table = a_table(arms=["relu"], seeds=3, per_arm=2)
        table["validation_accuracy"] = np.array([*cheap, *costly]) / 225
        front = pareto_front_of(table, "tie")
        assert [point.config for point in front.points] == ["relu0"]
        # The configurations differ by nothing but noise.
        assert front.dominated[0].p_non_dominated == pytest.approx(0.5, abs=0.03)


def test_all_values_are_plain_python_values():
    values = dataclasses.asdict(uncertainty_of(a_table()))
    assert type(values["seeds"][0]) is int
    assert type(values["gaps"][0]["gap"]["dominates"]) is bool
