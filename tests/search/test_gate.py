import itertools
import math
import re
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from invact.config import Config
from invact.cost.count import count_macs
from invact.data.dataset import Dataset
from invact.errors import BuildError, InputError
from invact.networks.build import build_model
from invact.networks.widths import network_cost
from invact.search.gate import Feasibility, Gate
from invact.search.objectives import Objective
from invact.search.small import small_part
from invact.spaces.space import parse_space

SPACE = parse_space(
    {
        "activation": {"choices": ["relu", "inverse"]},
        "filters": {"low": 2, "high": 20},
        "depth": 1,
        "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
    },
    "space.toml",
)


@pytest.fixture
def gate(digits: Dataset) -> Callable[..., Gate]:
    def make(latency_ms: Callable[[Config], float] | None = None, **budgets: float) -> Gate:
        return Gate(SPACE, Objective(**budgets), digits, latency_ms)

    return make


def counted(config: Config) -> dict[str, int]:
    return count_macs(build_model(config, (8, 8, 1), 10)).counted


def by_filters(config: Config) -> float:
    """A latency without noise: a tenth of the filters, in milliseconds."""
    return config.filters / 10


def test_known_values_are_the_costs_and_the_slack_of_each_budget(gate) -> None:
    made = gate(by_filters, max_macs=20_000, max_params=2_000, max_latency_ms=0.3)
    config = Config(activation="inverse", filters=4, depth=1)
    cost, costs = made.costs(config)
    assert (cost.macs, cost.params) == (counted(config)["macs"], counted(config)["params"])
    assert costs == counted(config) | {"latency_ms": 0.4}
    known = made.known(config, costs)
    assert known["slack_macs"] == 1 - costs["macs"] / 20_000
    assert known["slack_params"] == 1 - costs["params"] / 2_000
    assert known["slack_latency_ms"] == pytest.approx(-1 / 3)
    assert known["overrun"] == -known["slack_latency_ms"]
    assert "width_slack" not in known
    ruled = config.model_copy(update={"width_rule": "macs"})
    assert made.known(ruled, costs)["width_slack"] < 0.5


def test_a_configuration_over_a_counted_budget_is_not_timed(gate) -> None:
    timed: list[Config] = []
    made = gate(lambda config: timed.append(config) or 1.0, max_macs=5_000, max_latency_ms=9.0)
    cheap, expensive = Config(filters=2, depth=1), Config(filters=20, depth=1)
    assert "latency_ms" in made.costs(cheap)[1]
    assert "latency_ms" not in made.costs(expensive)[1]
    assert timed == [cheap]


@pytest.mark.parametrize("measure", ["macs", "params", "activation_bytes", "bytes_moved"])
def test_a_space_with_no_network_within_a_budget_is_refused_with_its_smallest_cost(gate, measure) -> None:
    smallest = counted(Config(activation="relu", filters=2, depth=1))[measure]
    gate(**{f"max_{measure}": smallest}).check()
    with pytest.raises(
        InputError, match=rf"received max_{measure} .*smallest network of space.toml: {smallest:,} "
    ):
        gate(**{f"max_{measure}": smallest - 1}).check()


def test_a_latency_budget_that_no_network_meets_is_refused_with_the_lowest_latency(gate) -> None:
    gate(by_filters, max_latency_ms=0.2).check()
    with pytest.raises(InputError, match=r"max_latency_ms 0\.19.*fastest of 8 networks .*: 0\.2 ms$"):
        gate(by_filters, max_latency_ms=0.19).check()
    # A counted budget that no network meets is reported whatever the latency is.
    with pytest.raises(InputError, match="max_params 5, max_latency_ms 9"):
        gate(by_filters, max_params=5, max_latency_ms=9.0).check()


def test_the_feasible_share_agrees_with_the_whole_space(gate) -> None:
    made = gate(max_macs=9_000)
    grid = list(
        parse_space(
            {"activation": {"choices": ["relu", "inverse"]}, "filters": {"low": 2, "high": 20}, "depth": 1}
        ).grid()
    )
    truth = np.mean([counted(SPACE.config(values))["macs"] <= 9_000 for values in grid])
    found = made.feasibility(seed=0)
    assert found.sampled == 100
    assert abs(found.share - truth) < 4 * math.sqrt(truth * (1 - truth) / 100)
    assert made.feasibility(seed=0) == found
    timed = gate(by_filters, max_macs=9_000, max_latency_ms=0.4).feasibility(seed=0)
    assert (timed.sampled, timed.within) == (found.sampled, found.within)
    assert 0 < timed.fast < timed.timed == 6
    assert timed.share == found.share * timed.fast / timed.timed


@settings(max_examples=40)
@given(st.integers(1, 400), st.data())
def test_the_interval_is_that_of_clopper_and_pearson(sampled, data):
    within = data.draw(st.integers(0, sampled))
    low, high = binomtest(within, sampled).proportion_ci(0.95, "exact")
    found = Feasibility(sampled, within)
    assert found.interval == pytest.approx((low, high), abs=1e-6)
    shown = re.search(r"95 % interval (\d+)% to (\d+)%", str(found))
    assert [int(end) for end in shown.groups()] == pytest.approx([100 * low, 100 * high], abs=0.501)


@given(st.integers(1, 100), st.integers(0, 6), st.data())
def test_the_interval_contains_the_share(within, timed, data):
    fast = data.draw(st.integers(0, timed))
    found = Feasibility(100, within, timed, fast)
    low, high = found.interval
    assert 0 <= low <= high <= 1
    if timed:
        assert low <= found.share <= high


@pytest.fixture(scope="module")
def intervals() -> np.ndarray:
    """The interval for each number of 100 that is within the counted budgets, and of 6 that is fast."""
    pairs = itertools.product(range(101), range(7))
    ends = [
        Feasibility(100, within, min(6, within), min(fast, within)).interval if fast <= within else (0, 1)
        for within, fast in pairs
    ]
    return np.array(ends).reshape(101, 7, 2)


@pytest.mark.parametrize("counted", [0.005, 0.02, 0.1, 0.5, 0.97])
@pytest.mark.parametrize("timely", [0.02, 0.3, 0.5, 0.9, 1.0])
def test_the_interval_covers_the_share_of_both_budgets(intervals, counted, timely):
    """The sum over all outcomes, and as a check of the sum a simulation of the sample."""
    low, high = intervals[..., 0], intervals[..., 1]
    covers = (low <= counted * timely) & (counted * timely <= high)
    within = np.arange(101)
    fast = binom.pmf(np.arange(7), np.minimum(6, within)[:, None], timely)
    coverage = float((binom.pmf(within, 100, counted)[:, None] * fast * covers).sum())
    assert 0.95 <= coverage <= 1 + 1e-12
    rng = np.random.default_rng(0)
    first = rng.binomial(100, counted, 4000)
    simulated = covers[first, rng.binomial(np.minimum(6, first), timely)].mean()
    assert simulated == pytest.approx(coverage, abs=0.015)


def test_the_share_of_one_budget_is_not_covered_by_the_interval_of_the_other():
    """The interval of the counted share alone would miss the share of both budgets."""
    counted_only, both = Feasibility(100, 40), Feasibility(100, 40, 6, 1)
    assert not counted_only.interval[0] <= both.share <= counted_only.interval[1]
    assert both.interval[0] <= both.share <= both.interval[1]
    assert "7%" in str(both)
    assert "40 of 100 sampled are within the counted budgets, 1 of 6 timed are fast enough" in str(both)
    assert Feasibility(100, 0, 0).interval[0] == 0 < Feasibility(100, 0, 0).interval[1] < 0.05


def test_the_small_part_has_the_fewest_filters_of_everything_that_may_cost_more() -> None:
    small = list(small_part(SPACE).grid())
    assert [each["activation"] for each in small] == ["relu", "inverse"]
    assert {(each["filters"], each["learning_rate"]) for each in small} == {(2, 1e-3)}


def test_the_small_part_keeps_every_number_of_convolutions() -> None:
    tables = {"model": "plain", "convolutions": {"choices": [4, 1]}, "filters": {"low": 2, "high": 9}}
    small = small_part(parse_space(tables)).grid()
    assert [(each["convolutions"], each["filters"]) for each in small] == [(1, 2), (4, 2)]


@pytest.mark.parametrize("filters", list(itertools.permutations([2, 8, 32])))
def test_the_order_of_choices_does_not_matter(digits, filters) -> None:
    tables = {"filters": {"choices": list(filters)}, "depth": {"choices": [2, 1]}, "model": "mlp"}
    smallest = counted_mlp(2, 1)
    Gate(parse_space(tables), Objective(max_macs=smallest), digits).check()
    with pytest.raises(InputError, match=rf"smallest network of search space: {smallest:,} MACs$"):
        Gate(parse_space(tables), Objective(max_macs=smallest - 1), digits).check()


def counted_mlp(filters: int, depth: int) -> int:
    return 64 * filters + (depth - 1) * filters**2 + filters * 10


@contextmanager
def cheap_costs(cost: Callable[[Config], int], most: int = 100):
    """Replace the count of a network; yield the configurations that were counted."""
    seen: list[Config] = []

    def count(config: Config, shape: object, classes: object) -> SimpleNamespace:
        seen.append(config)
        return SimpleNamespace(counted={"macs": cost(config), "bytes_moved": cost(config)})

    builders = patch("invact.search.gate.get_builder")
    with (
        builders,
        patch("invact.search.gate.trainable_cost", count),
        patch("invact.search.gate.MOST_BUILDS", most),
    ):
        yield seen


def made_cost(config: Config) -> int:
    """A cost that rises with the filters, and changes in no order with the arm, the depth and the rule."""
    kind = (*config.activations, config.depth, config.normalization, config.width_rule)
    weight = 1 + zlib.crc32(repr(kind).encode()) % 50
    width = config.filters if config.width_target is None else 3 * config.width_target
    return weight * (width if isinstance(width, int) else sum(width))


def chosen(*values):
    lists = st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)
    return lists.map(lambda some: {"choices": some})


@st.composite
def small_spaces(draw):
    tables = {
        "filters": draw(chosen(1, 2, 3, 5, 9, 17) | st.just({"low": 3, "high": 9, "step": 2})),
        "activation": draw(chosen("relu", "inverse", "elu", "gelu")),
        "depth": draw(chosen(1, 2)),
        "normalization": draw(chosen("none", "batch")),
        "batch_size": draw(chosen(8, 16)),
        "width_rule": draw(chosen("filters", "macs")),
    }
    if "macs" in tables["width_rule"]["choices"] and draw(st.booleans()):
        tables["width_target"] = draw(chosen(40, 7, 100)) | {"when": {"width_rule": "macs"}}
    if draw(st.booleans()):
        batch = draw(st.sampled_from(tables["batch_size"]["choices"]))
        tables["filters"] = {**tables["filters"], "when": {"batch_size": batch}}
    if draw(st.booleans()):
        few = draw(st.sampled_from(tables["depth"]["choices"]))
        tables["normalization"] = tables["normalization"] | {"when": {"depth": few}}
    if draw(st.booleans()) and tables["width_rule"]["choices"] == ["filters"]:
        tables["filters"] = {**tables["filters"], "per_stage": True}
    order = draw(st.permutations(list(tables)))
    return parse_space({name: tables[name] for name in order})


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(small_spaces(), st.integers(0, 400), st.sampled_from([2, 5, 4000]), st.integers(0, 3))
def test_a_space_is_refused_exactly_if_no_configuration_fits(digits, space, budget, most, seed):
    least = min(made_cost(space.config(values)) for values in space.grid())
    gate = Gate(space, Objective(max_macs=budget + 1), digits)
    with cheap_costs(made_cost, most) as counted:
        try:
            gate.check(seed)
            refusal = ""
        except InputError as error:
            refusal = str(error)
        looked_at = len(counted)
        if not refusal:
            assert least <= budget + 1
            return
        if "looked at" in refusal:
            assert gate.feasibility(seed).within == 0
            assert f"the smallest of {looked_at} networks of search space that were looked at: " in refusal
            assert len({config.model_dump_json() for config in counted[:looked_at]}) == looked_at
        else:
            assert f"the smallest network of search space: {least:,} MACs" in refusal
            assert least > budget + 1


DIALS = {
    f"p{index}": {"choices": list(np.random.default_rng(index).permutation(10).tolist())}
    for index in range(4)
}


def test_a_rare_network_is_found_among_ten_thousand(digits):
    space = parse_space({"model": "mine:build", "lr": {"low": 0.0, "high": 1.0}, **DIALS})

    def cost(config: Config) -> int:
        return 10 + sum(abs(config.options[name] - 7) for name in DIALS) + round(5 * config.options["lr"])

    with cheap_costs(cost) as counted:
        Gate(space, Objective(max_macs=10), digits).check()
        assert 100 < len(counted) <= 200
        counted.clear()
        with pytest.raises(InputError, match="looked at: 10 MACs") as refusal:
            Gate(space, Objective(max_macs=9), digits).check()
        assert f"the smallest of {len(counted)} networks of search space" in str(refusal.value)


MONOTONE = [
    *(("filters", model) for model in ("cnn", "vgg", "plain", "resnet", "separable", "mlp")),
    ("channels", "cnn"),
    *((rule, "mlp") for rule in ("macs", "macs_at_least", "params")),
]


@pytest.mark.parametrize(("rule", "model"), MONOTONE)
def test_costs_rise_with_the_filters(rule, model):
    """This is why the fewest filters are enough to find the smallest network."""
    config = Config(model=model, activation=("inverse", "relu"), width_rule=rule)
    costs = [
        network_cost(config.model_copy(update={"filters": filters}), (8, 8, 1), 10).counted
        for filters in (1, 2, 3, 5)
    ]
    for smaller, larger in itertools.pairwise(costs):
        assert all(smaller[name] <= larger[name] for name in smaller)


@pytest.mark.parametrize("model", ["cnn", "resnet", "mlp"])
@pytest.mark.parametrize("stage", [0, 1])
def test_costs_rise_with_the_filters_of_each_stage(model, stage):
    config = Config(model=model, activation="inverse", depth=2)
    several = [(3, each) if stage else (each, 3) for each in (1, 2, 3, 6)]
    costs = [
        network_cost(config.model_copy(update={"filters": filters}), (8, 8, 1), 10).counted
        for filters in several
    ]
    for smaller, larger in itertools.pairwise(costs):
        assert all(smaller[name] <= larger[name] for name in smaller)


def test_costs_rise_with_the_target_of_the_width():
    config = Config(model="mlp", activation="inverse", width_rule="macs", filters=4, depth=2)
    targets = (100, 1_000, 2_000, 9_000)
    costs = [
        network_cost(config.model_copy(update={"width_target": each}), (8, 8, 1), 10).macs for each in targets
    ]
    assert costs == sorted(costs)


def test_each_activation_is_timed_before_the_search(digits):
    """A runtime that cannot run one of them is noticed now, even if others are within the budgets."""
    timed: list[str] = []

    def latency(config: Config) -> float:
        timed.append(config.activation)
        if config.activation == "gelu":
            raise InputError("latency of 'mlp': cannot be converted")
        return 1.0

    arms = ["relu", "elu", "gelu"]
    space = parse_space({"activation": {"choices": arms}, "model": "mlp", "filters": {"low": 2, "high": 9}})
    for objective in (Objective(kind="pareto", cost="latency_ms"), Objective(max_latency_ms=9.0)):
        timed.clear()
        with pytest.raises(InputError, match=r"^activation gelu: latency of 'mlp': cannot be converted$"):
            Gate(space, objective, digits, latency).check()
        assert timed == arms
    Gate(space.fix(activation="elu"), objective, digits, latency).check()


def test_more_networks_are_timed_before_a_latency_budget_is_refused(digits):
    """The network that moves the fewest bytes is not always the fastest."""
    space = parse_space(
        {"depth": {"choices": [1, 2, 3, 4]}, "model": "mlp", "filters": {"low": 2, "high": 9}}
    )
    for fastest in range(1, 5):

        def latency(config: Config, fastest: int = fastest) -> float:
            return 1.0 if config.depth == fastest else 2.0

        Gate(space, Objective(max_latency_ms=1.0), digits, latency).check()
        with pytest.raises(InputError, match=r"the fastest of \d+ networks of .* timed: 1 ms$"):
            Gate(space, Objective(max_latency_ms=0.9), digits, latency).check()


MODULE = """
import keras

def some(config, input_shape, classes, units=2):
    if config.activations[0] == "inverse":
        raise RuntimeError(f"no inverse for {input_shape}")
    if config.filters[0] > 5:
        return keras.Sequential([keras.Input(input_shape)])
    x = inputs = keras.Input(input_shape)
    x = keras.layers.Dense(classes)(keras.layers.Flatten()(keras.layers.Dense(config.filters[0])(x)))
    return keras.Model(inputs, x)

def none(config, input_shape, classes):
    raise ValueError(f"{config.filters[0]} filters")
"""


@pytest.fixture
def users(tmp_path, monkeypatch, digits: Dataset) -> Callable[..., Gate]:
    (tmp_path / "users_gate.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def make(filters: int = 9, budgets: dict[str, int] | None = None, **model: object) -> Gate:
        arms = {"choices": ["inverse", "relu"]}
        space = {"activation": arms, "filters": {"low": 2, "high": filters}, "depth": 1, **model}
        return Gate(parse_space(space, "space.toml"), Objective(**(budgets or {})), digits)

    return make


def test_a_configuration_that_cannot_be_built_is_skipped(users) -> None:
    made = users(model="users_gate:some")
    made.check()
    for config, words in (
        (
            Config(model="users_gate:some", activation="inverse", filters=2, depth=1),
            "RuntimeError: no inverse",
        ),
        (Config(model="users_gate:some", filters=6, depth=1), "outputs shape"),
    ):
        with pytest.raises(BuildError, match=words):
            made.costs(config)
    # Half of the space has an arm that fails, and half of the rest has too many filters.
    found = users(model="users_gate:some", budgets={"max_macs": 10**9}).feasibility(seed=0)
    assert found.sampled == 100
    assert 15 <= found.within <= 35


def test_a_space_of_which_nothing_can_be_built_is_refused_with_the_first_failure(users) -> None:
    with pytest.raises(
        InputError,
        match=r"^model 'users_gate:none': ValueError: 2 filters\. None of the 16 configurations that were",
    ) as caught:
        users(model="users_gate:none").check()
    assert "\n" not in str(caught.value)


def test_a_builder_that_cannot_be_found_is_refused_although_another_one_can(users) -> None:
    models = {"choices": ["users_gate:some", "users_gate:soms"]}
    with pytest.raises(InputError, match=r"no such function, received 'soms'; did you mean 'some'\?"):
        users(model=models).check()
