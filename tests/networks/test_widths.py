import itertools
import math
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invact.arms import ARMS
from invact.config import Config
from invact.cost.count import count_macs
from invact.errors import InputError
from invact.networks import widths
from invact.networks.build import build_model
from invact.networks.builders import BUILDERS
from invact.networks.widths import network_cost, network_key, stage_filters, width_slack
from invact.validation import validate

SHAPE = (8, 8, 1)


def test_an_integer_doubles_from_stage_to_stage():
    assert stage_filters(Config(filters=3, depth=4), (8, 8, 1), 10) == (3, 6, 12, 24)
    assert stage_filters(Config(model="mlp", filters=3, depth=4), (8, 8, 1), 10) == (3, 3, 3, 3)
    assert stage_filters(Config(filters=(3, 9), depth=2), (8, 8, 1), 10) == (3, 9)


def test_channels_rule_gives_the_same_channels():
    values = {"filters": 8, "depth": 3, "width_rule": "channels"}
    assert stage_filters(Config(activation=("inverse", "relu", "inverse"), **values), (8, 8, 1), 10) == (
        4,
        16,
        16,
    )
    assert stage_filters(Config(activation="inverse", filters=1, width_rule="channels"), (8, 8, 1), 10) == (
        1,
        1,
    )
    plain, doubled = (
        build_model(Config(activation=arm, **values), (8, 8, 1), 10) for arm in ("relu", "inverse")
    )
    assert plain.get_layer("flatten").output.shape == doubled.get_layer("flatten").output.shape


MODELS = [{"model": model, "filters": 7} for model in BUILDERS]
MATCHED = [
    {"filters": 1},
    {"filters": 12, "activation": ("inverse", "relu")},
    {"filters": (9, 4)},
    {"filters": 6, "activation": "relu", "reference": "inverse"},
    {"filters": 6, "activation": "relu", "reference": ("inverse", "relu")},
]


@pytest.mark.parametrize(
    ("rule", "values"),
    [*itertools.product(["macs", "params"], MODELS), *(("macs", values) for values in MATCHED)],
)
def test_matching_rules_are_closest_among_their_neighbours(rule, values):
    values = {"activation": "inverse", **values}
    filters = values["filters"]

    def cost(**changes):
        network = build_model(Config(**{**values, **changes}), (8, 8, 1), 10)
        return network.count_params() if rule == "params" else count_macs(network).macs

    def scaled(scale):
        if isinstance(filters, int):
            return scale
        return tuple(max(1, math.floor(count * scale / max(filters) + 0.5)) for count in filters)

    target = cost(activation=values.get("reference", "relu"))
    found = stage_filters(Config(**values, width_rule=rule), (8, 8, 1), 10)
    scale = found[0] if isinstance(filters, int) else max(found)
    distance = abs(cost(width_rule=rule) - target)
    assert distance <= abs(cost(filters=scaled(scale + 1)) - target)
    assert scale == 1 or distance < abs(cost(filters=scaled(scale - 1)) - target)


def test_the_reference_arm_keeps_its_filters():
    for rule in ("macs", "macs_at_least", "params"):
        for reference in ("relu", "inverse", ("inverse", "relu")):
            config = Config(activation=reference, reference=reference, width_rule=rule, filters=9)
            assert stage_filters(config, (8, 8, 1), 10) == (9, 18)
            assert width_slack(config, (8, 8, 1), 10) == 0
    # Another arm with equal costs keeps its filters, too.
    for rule in ("macs", "macs_at_least"):
        config = Config(activation="gelu", width_rule=rule, filters=9)
        assert stage_filters(config, (8, 8, 1), 10) == (9, 18)


CONTROL = {"activation": "relu", "reference": "inverse"}
AT_LEAST = [CONTROL | {"model": model, "filters": 3, "depth": 2} for model in BUILDERS]
AT_LEAST += [
    CONTROL | {"filters": (4, 3)},
    {"filters": 4, "depth": 3, "activation": ("inverse", "relu", "relu"), "reference": "inverse"},
    {"filters": 1, "activation": "inverse", "reference": "relu"},
    {"filters": 4, "depth": 3, "activation": "relu", "reference": ("inverse", "relu", "relu")},
    CONTROL | {"filters": 3, "model": "plain", "convolutions": 3},
]
MORE = [CONTROL | {"model": model, "filters": 5, "depth": 1} for model in BUILDERS]
MORE += [{"model": model, "filters": 6, "activation": "inverse"} for model in BUILDERS]


@pytest.mark.parametrize(
    ("values", "shape"),
    [(values, SHAPE) for values in AT_LEAST]
    + [pytest.param(values, (9, 7, 3), marks=pytest.mark.slow) for values in AT_LEAST + MORE],
)
def test_at_least_takes_the_smallest_network_that_reaches_the_reference(values, shape):
    filters = values["filters"]

    def cost(scale, **changes):
        scaled = scale
        if not isinstance(filters, int):
            scaled = tuple(max(1, math.floor(each * scale / max(filters) + 0.5)) for each in filters)
        return count_macs(build_model(Config(**values | changes | {"filters": scaled}), shape, 10)).macs

    given = filters if isinstance(filters, int) else max(filters)
    target = cost(given, activation=values.get("reference", "relu"))
    # The search is by hand, from the smallest network upwards.
    scale = 1
    while (least := cost(scale)) < target:
        scale += 1
    config = Config(**values, width_rule="macs_at_least")
    found = stage_filters(config, shape, 10)
    assert (found[0] if isinstance(filters, int) else max(found)) == scale
    assert network_cost(config, shape, 10).macs == least
    assert width_slack(config, shape, 10) == 1 - least / target <= 0


@pytest.mark.slow
def test_the_documented_excess_of_at_least():
    page = (Path(__file__).parents[2] / "docs" / "budgets.md").read_text(encoding="utf-8")
    every = []
    for width in (4, 8, 16, 32):
        excess = []
        for ratio, depth in itertools.product((0.5, 0.75), (1, 2, 3)):
            for shape in ((8, 8, 1), (28, 28, 1), (32, 32, 3)):
                values = {"filters": round(ratio * width), "depth": depth, "reference": "inverse"}
                excess.append(-width_slack(Config(**values, width_rule="macs_at_least"), shape, 10))
        every += excess
        assert f"\n| {width} | {summary(excess)} |\n" in page
    assert f"\n| all | {summary(every)} |\n" in page


def summary(values):
    return " | ".join(f"{value:.1%}" for value in (min(values), statistics.median(values), max(values)))


def test_matching_builds_few_networks():
    widths._cost.cache_clear()
    config = Config(activation="inverse", width_rule="macs", filters=64, depth=2)
    stage_filters(config, (8, 8, 1), 10)
    assert widths._cost.cache_info().misses <= 5
    training = config.model_copy(update={"learning_rate": 0.1, "width_rule": "params"})
    before = widths._cost.cache_info().misses
    stage_filters(config.model_copy(update={"learning_rate": 0.1}), (8, 8, 1), 10)
    assert widths._cost.cache_info().misses == before
    stage_filters(training, (8, 8, 1), 10)


@given(
    quadratic=st.integers(0, 50),
    linear=st.integers(1, 5000),
    constant=st.integers(0, 10**6),
    target=st.integers(1, 10**6),
    start=st.integers(1, 200),
)
def test_the_bracket_contains_the_closest_scale_for_any_growing_cost(
    quadratic, linear, constant, target, start
):
    asked = []

    def cost(scale):
        asked.append(scale)
        return quadratic * scale**2 + linear * scale + constant

    found = widths._bracket(cost, target, start)
    if found is None:
        assert cost(64 * start) < target
        return
    assert len(asked) == len(set(asked)) <= 30
    scales = range(1, max(asked) + 2)
    assert found.closest == min(scales, key=lambda scale: (abs(cost(scale) - target), scale))
    assert found.within == max((scale for scale in scales if cost(scale) <= target), default=1)
    assert found.high == min(scale for scale in scales if cost(scale) >= target)


@pytest.mark.parametrize(
    ("model", "rule", "target"),
    [
        *((model, rule, 9_000) for model in BUILDERS for rule in ("macs", "params")),
        *(("cnn", rule, 1) for rule in ("macs", "params")),
        # Other numbers of filters of the same networks.
        *(
            pytest.param(model, rule, target, marks=pytest.mark.slow)
            for model in BUILDERS
            for rule in ("macs", "params")
            for target in (1, 61_234)
        ),
    ],
)
def test_every_arm_gets_the_most_filters_that_do_not_exceed_the_target(model, rule, target):
    for arm in ("relu", "inverse"):
        values = {"model": model, "activation": arm, "width_rule": rule}
        # The value of `filters` makes no difference.
        configs = [Config(**values, width_target=target, filters=filters) for filters in (3, 16)]
        first, other = (stage_filters(config, SHAPE, 10) for config in configs)
        assert first == other

        def cost(scale, model=model, arm=arm, rule=rule):
            network = build_model(Config(model=model, activation=arm, filters=scale), SHAPE, 10)
            return network.count_params() if rule == "params" else count_macs(network).macs

        found, next_one = cost(first[0]), cost(first[0] + 1)
        assert next_one > target
        assert found <= target or first[0] == 1
        assert width_slack(configs[0], SHAPE, 10) == 1 - found / target


def test_slack_is_the_relative_difference_to_the_reference():
    config = Config(activation="inverse", width_rule="macs", filters=7)
    mine, theirs = (
        count_macs(build_model(each, SHAPE, 10)).macs
        for each in (config, Config(activation="relu", filters=7))
    )
    assert width_slack(config, SHAPE, 10) == 1 - mine / theirs != 0
    assert width_slack(Config(activation="relu", width_rule="macs", filters=7), SHAPE, 10) == 0
    assert width_slack(Config(filters=7), SHAPE, 10) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"width_target": 9}, 'width_target: received 9. Allowed: only with width_rule = "macs" or "params"'),
        ({"width_target": 9, "width_rule": "channels"}, "width_target: received 9"),
        (
            {"width_target": 9, "width_rule": "macs_at_least"},
            'width_target: received 9. Allowed: only with width_rule = "macs" or "params", whose networks do',
        ),
        ({"width_target": 0, "width_rule": "macs"}, "width_target: received 0"),
        ({"width_target": 1.5, "width_rule": "macs"}, "width_target: received 1.5"),
    ],
)
def test_a_target_without_its_rule_is_refused(values, words):
    with pytest.raises(InputError) as error:
        validate(Config, values, "f.toml")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("arm", ARMS)
def test_the_cost_of_a_configuration_is_the_cost_of_its_network(arm):
    config = Config(activation=arm, filters=5, width_rule="channels", normalization="batch")
    assert network_cost(config, SHAPE, 10) == count_macs(build_model(config, SHAPE, 10))


def test_layers_without_a_cost_are_listed_whatever_was_counted_before():
    plain = Config(filters=5)
    names = [
        [layer.name for layer in network_cost(plain.model_copy(update=change), SHAPE, 10).layers]
        for change in ({}, {"dropout": 0.5}, {"dropout": 0.25}, {})
    ]
    assert ["dropout" in each for each in names] == [False, True, True, False]


def test_only_equal_networks_have_equal_keys():
    base = Config(activation="inverse", filters=8)
    recipe = {"epochs": 9, "learning_rate": 0.1, "dropout": 0.5, "augmentation": "shift"}
    same = [base.model_copy(update=recipe), Config(activation="inverse", filters=16, width_rule="channels")]
    keys = {network_key(each, SHAPE, 10) for each in (base, *same)}
    assert len(keys) == 1
    changes = [{"filters": 9}, {"activation": "relu"}, {"normalization": "batch"}, {"depth": 3}]
    changes += [{"precision": "mixed_bfloat16"}, {"model": "vgg"}]
    changes += [{"model": "plain"}, {"model": "plain", "convolutions": 2}]
    others = {network_key(base.model_copy(update=change), SHAPE, 10) for change in changes}
    others |= {network_key(base, (9, 8, 1), 10), network_key(base, SHAPE, 9)}
    assert len(others | keys) == 11
