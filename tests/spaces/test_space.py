import itertools
import math
import re

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_spaces import MINE, STAGED

from invact.config import Config
from invact.errors import InputError
from invact.files import find, shipped
from invact.spaces.domains import Choice, Integers, Reals
from invact.spaces.space import load_space, parse_space


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
    """Up to five options of a user's builder; each can be conditional on others before or after it."""
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
    """All combinations of all values, without the inactive values."""
    found = set()
    for combination in itertools.product(*(listed(table) for table in tables.values())):
        values = dict(zip(tables, combination, strict=True))
        found.add(frozenset((name, values[name]) for name in tables if active(name, tables, values)))
    return found


@given(spaces(only_finite=True))
def test_the_grid_has_every_active_combination_once(tables):
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
    searched = {p.name for p in space.parameters if p.domain.size > 1}
    assert set(trial.params) == searched & set(suggested)

    hp = keras_tuner.HyperParameters()
    assert space.contains(space.hyperparameters(hp))
    assert {entry.name for entry in hp.space} == set(tables)
    hp.values = {**{entry.name: entry.default for entry in hp.space}, **suggested}
    assert space.hyperparameters(hp) == suggested
    for draw in range(3):  # As the oracles draw: parents first, and only active parameters.
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
def test_a_fixed_space_is_a_subset_of_the_space(tables, seed):
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


SINGLES = [
    *(Choice((value,)) for value in ("relu", True, 3, 0.5)),
    *(Integers(3, 3), Integers(3, 3, 2), Integers(3, 3, log=True), Integers(3, 4, 5)),
    *(Reals(0.5, 0.5), Reals(0.5, 0.5, 0.1), Reals(0.5, 0.5, log=True), Reals(0.5, 0.6, 0.25)),
]


@pytest.mark.parametrize("domain", SINGLES, ids=repr)
def test_a_single_value_is_a_constant_for_which_nobody_is_asked(domain):
    import keras_tuner

    (value,) = domain.values()
    assert (domain.size, domain.bounds) == (1, (value, value))
    assert value in domain
    assert domain.sample(np.random.default_rng(0)) == value
    assert domain.suggest("p", optuna.trial.FixedTrial({})) == value
    parameters = keras_tuner.HyperParameters()
    assert domain.declare("p", parameters) == value
    assert [type(each).__name__ for each in parameters.space] == ["Fixed"]


@given(st.lists(st.integers(-9, 9), min_size=1, unique=True), st.booleans())
def test_the_bounds_of_choices_are_values_not_positions(values, real):
    options = tuple(float(value) if real else value for value in values)
    assert Choice(options).bounds == (min(options), max(options))
    assert Choice(tuple(map(str, options))).bounds == (str(options[0]), str(options[-1]))


def test_log_draws_uniformly_on_a_logarithmic_scale():
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


def test_keras_tuner_supports_conditions_on_unrelated_parents():
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


def test_a_child_is_inactive_if_its_parent_is_inactive():
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


@pytest.mark.parametrize("name", shipped("search_spaces"))
def test_shipped_spaces_state_their_question_and_their_size(name):
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
        assert size.startswith(f"# {len(searched)} parameters vary. The space is infinite")
    else:
        assert size.startswith(f"# {space.size()} configurations")
