import math
import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from invact.config import Config
from invact.cost.count import count_macs
from invact.data.dataset import Dataset
from invact.errors import BuildError, InputError
from invact.networks.build import build_model
from invact.search.gate import Feasibility, Gate, small_configurations
from invact.search.objectives import Objective
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
    with pytest.raises(InputError, match=r"received max_latency_ms 0\.19.*smallest network of .*: 0\.2 ms$"):
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


@given(st.integers(1, 400), st.data())
def test_the_interval_is_that_of_clopper_and_pearson(sampled, data):
    within = data.draw(st.integers(0, sampled))
    low = beta.ppf(0.025, within, sampled - within + 1) if within else 0.0
    high = beta.ppf(0.975, within + 1, sampled - within) if within < sampled else 1.0
    shown = re.search(r"95 % interval (\d+)% to (\d+)%", str(Feasibility(sampled, within)))
    assert [int(end) for end in shown.groups()] == pytest.approx([100 * low, 100 * high], abs=0.501)


def test_small_configurations_have_the_first_value_of_everything_but_structure() -> None:
    small = list(small_configurations(SPACE))
    assert [each["activation"] for each in small] == ["relu", "inverse"]
    assert {(each["filters"], each["learning_rate"]) for each in small} == {(2, 1e-3)}


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
        match=r"^model 'users_gate:none': ValueError: 2 filters\. None of the 2 configurations that were",
    ) as caught:
        users(model="users_gate:none").check()
    assert "\n" not in str(caught.value)


def test_a_builder_that_cannot_be_found_is_refused_although_another_one_can(users) -> None:
    models = {"choices": ["users_gate:some", "users_gate:soms"]}
    with pytest.raises(InputError, match=r"no such function, received 'soms'; did you mean 'some'\?"):
        users(model=models).check()
