import itertools
import math
import re

import numpy as np
import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invact.config import Config
from invact.errors import InputError
from invact.files import find, shipped
from invact.spaces.domains import Choice, Integers, Reals
from invact.spaces.space import load_space, parse_space

MINE = "package.module:function"


def ranges(scale):
    numbers = st.integers(1, 50)
    return st.builds(
        lambda low, count, step, how: {
            "low": low * scale,
            "high": (low + (count * step if how == "step" else count)) * scale,
            **({"step": step * scale} if how == "step" else {"log": True} if how == "log" else {}),
        },
        numbers,
        st.integers(0, 5),
        st.integers(1, 4),
        st.sampled_from(["step", "log", "plain"]),
    )


domains = st.one_of(
    st.lists(st.sampled_from("abcd"), min_size=1, unique=True).map(lambda values: {"choices": values}),
    st.lists(st.booleans(), min_size=1, unique=True).map(lambda values: {"choices": values}),
    st.lists(st.integers(-3, 3), min_size=1, unique=True).map(lambda values: {"choices": values}),
    st.integers(-5, 5),
    ranges(1),
    ranges(0.125),
)


def finite(table):
    return (
        not isinstance(table, dict)
        or "choices" in table
        or "step" in table
        or table["low"] == table["high"]
        or isinstance(table["low"], int)
    )


def listed(table):
    if not isinstance(table, dict):
        return [table]
    if "choices" in table:
        return table["choices"]
    if table["low"] == table["high"]:
        return [table["low"]]
    step = table.get("step", 1)
    return [table["low"] + step * i for i in range(round((table["high"] - table["low"]) / step) + 1)]


@st.composite
def spaces(draw, only_finite=False):
    """Up to five options of a user's builder, each perhaps conditional on others before or after it."""
    names = draw(st.permutations(["p0", "p1", "p2", "p3", "p4"]))[: draw(st.integers(1, 5))]
    tables = {"model": MINE}
    for index, name in enumerate(names):
        table = draw(domains.filter(finite) if only_finite else domains)
        parents = [other for other in names[:index] if finite(tables[other])]
        when = {
            parent: draw(st.lists(st.sampled_from(listed(tables[parent])), min_size=1, unique=True))
            for parent in draw(
                st.lists(st.sampled_from(parents), unique=True, max_size=2) if parents else st.just([])
            )
        }
        if when:
            table = dict(table) if isinstance(table, dict) else {"choices": [table]}
            table["when"] = when
        tables[name] = table
    order = draw(st.permutations(list(tables)))
    return {name: tables[name] for name in order}


def active(name, tables, values):
    when = tables[name].get("when", {}) if isinstance(tables[name], dict) else {}
    return all(
        active(parent, tables, values) and values[parent] in allowed for parent, allowed in when.items()
    )


def brute_force(tables):
    """Every combination of all values, inactive ones cut off afterwards."""
    found = set()
    for combination in itertools.product(*(listed(table) for table in tables.values())):
        values = dict(zip(tables, combination, strict=True))
        found.add(frozenset((name, values[name]) for name in tables if active(name, tables, values)))
    return found


@given(spaces(only_finite=True))
def test_the_grid_is_every_active_combination_once(tables):
    space = parse_space(tables)
    grid = list(space.grid())
    assert all(space.contains(values) for values in grid)
    as_sets = [frozenset(values.items()) for values in grid]
    assert len(set(as_sets)) == len(grid) == space.size()
    assert set(as_sets) == brute_force(tables)


@given(spaces(), st.integers(0, 2**32 - 1))
def test_samples_are_in_the_space(tables, seed):
    space = parse_space(tables)
    values = space.sample(np.random.default_rng(seed))
    assert space.contains(values)
    assert space.sample(np.random.default_rng(seed)) == values
    assert set(values) == {name for name in tables if name in values and active(name, tables, values)}
    assert {name for name in tables if active(name, tables, {**dict.fromkeys(tables), **values})} == set(
        values
    )
    config = space.config(values)
    assert config.model == MINE
    assert config.options == {name: value for name, value in values.items() if name != "model"}


@settings(max_examples=60, deadline=None)
@given(spaces(), st.integers(0, 2**16))
def test_optuna_and_keras_tuner_stay_in_the_space(tables, seed):
    import keras_tuner

    space = parse_space(tables)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    suggested = space.suggest(trial)
    assert space.contains(suggested)
    assert space.suggest(optuna.trial.FixedTrial(suggested)) == suggested
    searched = {p.name for p in space.parameters if not (isinstance(p.domain, Choice) and p.domain.size == 1)}
    assert set(trial.params) == searched & set(suggested)

    hp = keras_tuner.HyperParameters()
    assert space.contains(space.hyperparameters(hp))
    assert {entry.name for entry in hp.space} == set(tables)
    hp.values = {**{entry.name: entry.default for entry in hp.space}, **suggested}
    assert space.hyperparameters(hp) == suggested
    for draw in range(3):  # As its oracles draw: parents first, the active ones only.
        drawn = keras_tuner.HyperParameters()
        for entry in hp.space:
            drawn.merge([entry])
            if drawn.is_active(entry):
                drawn.values[entry.name] = entry.random_sample(seed + draw)
        assert space.contains(space.hyperparameters(drawn))


@given(spaces(), st.data())
def test_contains_is_exact(tables, data):
    space = parse_space(tables)
    values = space.sample(np.random.default_rng(data.draw(st.integers(0, 99))))
    name = data.draw(st.sampled_from(sorted(values)))
    assert not space.contains({key: value for key, value in values.items() if key != name})
    assert not space.contains({**values, "stranger": 1})
    assert not space.contains({**values, name: "stranger"})
    for parameter in space.parameters:
        if parameter.name not in values:
            assert not space.contains({**values, parameter.name: parameter.domain.bounds[0]})
    constants = {p.name for p in space.parameters if p.domain.size == 1}
    assert space.check({key: v for key, v in values.items() if key not in constants}, "enqueue") == values


@given(spaces(), st.integers(0, 99))
def test_a_fixed_space_is_a_part_of_the_space(tables, seed):
    space = parse_space(tables)
    rng = np.random.default_rng(seed)
    fixed = {name: value for name, value in space.sample(rng).items() if rng.random() < 0.5}
    part = space.fix(**fixed, epochs=7)
    for _ in range(3):
        values = part.sample(rng)
        assert values.pop("epochs") == 7
        assert space.contains(values)
        assert all(values[name] == value for name, value in fixed.items() if name in values)


@pytest.mark.parametrize(
    ("domain", "endpoints"),
    [
        (Integers(1, 9), {1, 9}),
        (Integers(1, 9, 2), {1, 9}),
        (Integers(1, 9, log=True), {1, 9}),
        (Reals(0.0, 0.5, 0.1), {0.0, 0.5}),
    ],
)
def test_every_value_is_drawn(domain, endpoints):
    rng = np.random.default_rng(0)
    drawn = {domain.sample(rng) for _ in range(500)}
    assert drawn == set(domain.values()) >= endpoints


def test_log_draws_evenly_in_the_logarithm():
    rng = np.random.default_rng(0)
    reals = [Reals(1e-4, 1.0, log=True).sample(rng) for _ in range(4000)]
    assert np.mean([value < 1e-2 for value in reals]) == pytest.approx(0.5, abs=0.03)
    integers = [Integers(1, 1000, log=True).sample(rng) for _ in range(4000)]
    assert np.median(integers) < 40


def test_keras_tuner_at_probability_one_stays_within_bounds():
    import keras_tuner

    space = parse_space(
        {
            "filters": {"low": 4, "high": 32, "log": True},
            "learning_rate": {"low": 1e-4, "high": 0.3, "log": True},
        }
    )
    hp = keras_tuner.HyperParameters()
    space.hyperparameters(hp)
    hp.values = {entry.name: entry.prob_to_value(1.0) for entry in hp.space}
    assert space.hyperparameters(hp) == {"filters": 32, "learning_rate": 0.3}


STAGED = {
    "depth": {"low": 1, "high": 3},
    "activation": {"choices": ["relu", "inverse"], "per_stage": True},
}


def test_keras_tuner_takes_conditions_on_unrelated_parents():
    import keras_tuner

    tables = {
        "model": MINE,
        "a": {"choices": [1, 2]},
        "b": {"choices": [1, 2]},
        "c": {"choices": [1, 2], "when": {"a": 1, "b": 1}},
        "d": {"choices": [1, 2], "when": {"c": 2}},
    }
    space = parse_space(tables)
    hp = keras_tuner.HyperParameters()
    space.hyperparameters(hp)
    defaults = {entry.name: entry.default for entry in hp.space}
    for values in space.grid():
        hp.values = {**defaults, **values}
        assert space.hyperparameters(hp) == values


def test_stages_follow_the_depth():
    space = parse_space(STAGED)
    assert space.size() == 2 + 4 + 8
    for values in space.grid():
        config = space.config(values)
        assert config.activation == tuple(
            values[f"activation.{stage}"] for stage in range(1, values["depth"] + 1)
        )
    assert parse_space({"activation": STAGED["activation"]}).size() == 2 ** Config().depth
    assert parse_space({**STAGED, "depth": 4}).size() == 16
    assert parse_space({**STAGED, "depth": {"choices": [3, 1]}}).size() == 8 + 2
    assert space.fix(depth=3).size() == 8
    assert space.fix(activation="inverse").size() == 3
    assert space.fix(**{"activation.2": "inverse"}).size() == 2 + 2 + 4
    twelve = {"activation": STAGED["activation"], "depth": 12}
    values = parse_space(twelve).sample(np.random.default_rng(1))
    assert parse_space(twelve).config(values).activation == tuple(
        values[f"activation.{i}"] for i in range(1, 13)
    )


def test_a_condition_holds_through_its_parents():
    tables = {
        "dropout": {"low": 0, "high": 0.5, "when": {"normalization": "none"}},
        "normalization": {"choices": ["none", "batch"], "when": {"depth": [2, 3]}},
        "depth": {"low": 1, "high": 3},
    }
    space = parse_space(tables)
    assert [p.name for p in space.parameters] == ["depth", "normalization", "dropout"]
    assert space.contains({"depth": 1})
    assert space.contains({"depth": 2, "normalization": "none", "dropout": 0.0})
    assert not space.contains({"depth": 1, "dropout": 0.0})
    assert math.isinf(space.size())
    assert space.fix(normalization="batch").size() == 3
    with pytest.raises(
        InputError, match=r"e: dropout: received 0.1, but it is active only when normalization = 'none'"
    ):
        space.check({"depth": 1, "dropout": 0.1}, "e")


def choose(*values):
    return {"choices": list(values)}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"filter": 8}, "parameters.filter: unknown key, received 'filter'; did you mean 'filters'?"),
        ({"options": 8}, "parameters.options: received 'options'"),
        (
            {"activation": choose("relu", "inverze")},
            "parameters.activation: received 'inverze'; did you mean 'inverse'?",
        ),
        ({"model": "cn"}, "parameters.model: received 'cn'; did you mean 'cnn'?"),
        ({"normalization": "btach"}, "parameters.normalization: received 'btach'; did you mean 'batch'?"),
        (
            {"filters": 10**12},
            "parameters.filters: received 1000000000000. Allowed: less than or equal to 4096",
        ),
        ({"filters": choose(4, -4)}, "parameters.filters: received -4"),
        ({"filters": {"low": 0, "high": 4}}, "parameters.filters: received 0"),
        ({"filters": 2.5}, "parameters.filters: received 2.5"),
        ({"filters": {"low": 2.0, "high": 4.0}}, "parameters.filters: received 2.0"),
        ({"filters": True}, "parameters.filters: received True"),
        ({"filters": [8, 16]}, "parameters.filters: received [8, 16]. Allowed: one value, or a table"),
        ({"dropout": True}, "parameters.dropout: received True. Allowed: a number"),
        ({"dropout": "0.1"}, "parameters.dropout: received '0.1'. Allowed: a number"),
        ({"dropout": 1}, "parameters.dropout: received 1.0. Allowed: less than 1"),
        ({"dropout": math.nan}, "parameters.dropout.choices: received nan. Allowed: finite numbers"),
        ({"learning_rate": {"low": 1e-4, "high": math.inf}}, "learning_rate.high: received inf"),
        ({"filters": choose()}, "parameters.filters.choices: received []. Allowed: at least one value"),
        ({"filters": choose(4, 4)}, "parameters.filters.choices: received [4, 4]. Allowed: each value once"),
        ({"dropout": choose(0, 0.0)}, "received [0, 0.0]. Allowed: each value once"),
        (
            {"filters": choose(4, "a")},
            "parameters.filters.choices: received [4, 'a']. Allowed: values of one type",
        ),
        ({"filters": choose(1, True)}, "received [1, True]. Allowed: values of one type"),
        ({"filters": {"low": 8, "high": 4}}, "parameters.filters.low: received 8. Allowed: at most high, 4"),
        ({"filters": {"low": 4}}, "parameters.filters.high: missing key"),
        ({"filters": {}}, "parameters.filters.low: missing key"),
        (
            {"filters": {"lo": 4, "high": 8}},
            "parameters.filters: lo: unknown key, received 'lo'; did you mean 'low'?",
        ),
        ({"filters": {"low": True, "high": 8}}, "parameters.filters: low: received True"),
        (
            {"filters": {"low": 4, "high": 8, "step": 0}},
            "parameters.filters.step: received 0. Allowed: above 0",
        ),
        (
            {"filters": {"low": 4, "high": 8, "step": -2}},
            "parameters.filters.step: received -2. Allowed: above 0",
        ),
        (
            {"filters": {"low": 4, "high": 9, "step": 2}},
            "filters.high: received 9. Allowed: low plus a multiple of step, such as 8",
        ),
        ({"dropout": {"low": 0.0, "high": 0.55, "step": 0.1}}, "dropout.high: received 0.55"),
        ({"dropout": {"low": 0.0, "high": 0.5, "step": 1e-9}}, "parameters.dropout.step: received 1e-09"),
        (
            {"weight_decay": {"low": 0, "high": 0.1, "log": True}},
            "weight_decay.low: received 0. Allowed: above 0 with log",
        ),
        (
            {"filters": {"low": 1, "high": 8, "step": 2, "log": True}},
            "filters.step: received 2. Allowed: step or log",
        ),
        (
            {"filters": {"low": 1, "high": 8, "choices": [1]}},
            "filters.low: received 1. Allowed: either choices",
        ),
        (
            {"epochs": {"low": 1, "high": 2, "per_stage": True}},
            "epochs.per_stage: received True. Allowed: with activation or filters",
        ),
        (
            {"filters": {"choices": [4], "when": {"dept": 2}}, "depth": 2},
            "filters.when: received 'dept'; did you mean 'depth'?",
        ),
        (
            {"filters": {"choices": [4], "when": {"depth": 9}}, "depth": 2},
            "filters.when.depth: received 9. Allowed: 2",
        ),
        (
            {
                "filters": {"choices": [4], "when": {"normalization": "bach"}},
                "normalization": choose("none", "batch"),
            },
            "did you mean 'batch'?",
        ),
        (
            {"filters": {"choices": [4], "when": {"dropout": 0.1}}, "dropout": {"low": 0.0, "high": 0.5}},
            "a parent with choices, integers or a step",
        ),
        ({"filters": {"choices": [4], "when": {"filters": 4}}}, "received a cycle, filters -> filters"),
        (
            {
                "filters": {"choices": [4], "when": {"epochs": 1}},
                "epochs": {"choices": [1], "when": {"filters": 4}},
            },
            "received a cycle, filters -> epochs -> filters",
        ),
        ({"filters": {"choices": [4], "when": {"depth": []}}, "depth": 2}, "parameters.filters: when.depth"),
        ({"model": choose("cnn", MINE), "width": 3}, "parameters.width: unknown key"),
        ({"depth": 2.5, "activation": STAGED["activation"]}, "parameters.depth: received 2.5"),
        (
            {"depth": {"low": 1, "high": 10**9}, "activation": STAGED["activation"]},
            "parameters.depth: received 1000000000",
        ),
    ],
)
def test_refusals_name_file_key_received_and_allowed(tables, message):
    with pytest.raises(InputError) as error:
        parse_space(tables, "my.toml")
    assert message in str(error.value)
    assert str(error.value).startswith("my.toml: parameters.")
    assert "\n" not in str(error.value)


def test_options_may_belong_to_one_of_several_models():
    space = parse_space(
        {"model": choose("cnn", MINE), "width": {"low": 1, "high": 3, "when": {"model": MINE}}}
    )
    assert space.size() == 1 + 3
    assert [space.config(values).options for values in space.grid()] == [
        {},
        {"width": 1},
        {"width": 2},
        {"width": 3},
    ]


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"depth": 9}, "depth: received 9. Allowed: integers from 1 to 3"),
        ({"activation": "elu"}, "activation.1: received 'elu'. Allowed: 'relu', 'inverse'"),
        ({"epoch": 3}, "epoch: unknown key, received 'epoch'; did you mean 'epochs'?"),
        ({"epochs": 0}, "epochs: received 0. Allowed: greater than or equal to 1"),
        ({"learning_rate": math.nan}, "received nan"),
        ({"filters": [4, 8]}, "received [4, 8]"),
    ],
)
def test_fixing_is_validated(fixed, message):
    with pytest.raises(InputError) as error:
        parse_space(STAGED).fix(**fixed)
    assert message in str(error.value)


def test_a_grid_of_an_interval_is_refused():
    with pytest.raises(InputError, match=r"parameters.dropout: received an interval without step"):
        parse_space({"dropout": {"low": 0.0, "high": 0.5}}).grid()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "parameters: received none"),
        ("[parameters]", "parameters: received none"),
        ("parameters = 3", "parameters: received none"),
        ("[parameter]\nfilters = 8", "key: received 'parameter'; did you mean 'parameters'?"),
        ("[parameters]\nfilters = ", "not TOML"),
        ("[parameters]\nfilters = 1979-05-27", "parameters.filters: received datetime.date(1979, 5, 27)"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, message):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(InputError) as error:
        load_space("mine.toml", tmp_path)
    assert message in str(error.value)
    assert "mine.toml: " in str(error.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(tmp_path, text):
    path = tmp_path / "any.toml"
    path.write_bytes(f"[parameters]\nfilters = 8\n{text}".encode(errors="surrogatepass"))
    try:
        load_space(path)
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017


def test_a_width_target_wants_its_rule_wherever_it_is_active():
    target = {"choices": [5000, 9000]}
    assert parse_space({"width_rule": "params", "width_target": target}).size() == 2
    rules = {"choices": ["filters", "macs"]}
    conditional = parse_space(
        {"width_rule": rules, "width_target": target | {"when": {"width_rule": "macs"}}}
    )
    assert conditional.size() == 3
    for table in ({"width_target": target}, {"width_rule": rules, "width_target": target}):
        with pytest.raises(
            InputError, match=r'width_target: received 5000\. Allowed: with width_rule = "macs"'
        ):
            parse_space(table)


@pytest.mark.parametrize("name", shipped("search_spaces"))
def test_shipped_spaces_say_what_they_are(name):
    question, size, *_ = find("search_spaces", name).read_text().splitlines()
    assert re.fullmatch(r"# .*\?.*", question)
    space = load_space(name)
    assert space["model"].domain.size == 1
    assert {"relu", "inverse"} <= set(
        space["activation.1" if name == "early_layers" else "activation"].domain.values()
    )
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = space.sample(rng)
        assert space.contains(values)
        space.config(values)
    if math.isinf(space.size()):
        searched = [parameter for parameter in space.parameters if parameter.domain.size > 1]
        assert size.startswith(f"# {len(searched)} choices and ranges; infinite")
    else:
        assert size.startswith(f"# {space.size()} configurations")
