import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_spaces import MINE, STAGED

from invact.errors import InputError
from invact.spaces.space import load_space, parse_space


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
        ({"dropout": math.nan}, "parameters.dropout: received nan. Allowed: a finite number"),
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
            "weight_decay.low: received 0. Allowed: above 0 when log = true",
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
            "epochs.per_stage: received True. Allowed: only for activation or filters",
        ),
        (
            {"reference": choose("relu") | {"per_stage": True}},
            "reference.per_stage: received True. Allowed: only for activation or filters",
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
def test_error_messages_name_file_key_received_and_allowed(tables, message):
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
        ({"activation": "elu"}, "activation: received 'elu'. Allowed: 'relu', 'inverse', as in search space"),
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
def test_any_text_is_read_or_raises_an_input_error(tmp_path, text):
    path = tmp_path / "any.toml"
    path.write_bytes(f"[parameters]\nfilters = 8\n{text}".encode(errors="surrogatepass"))
    try:
        load_space(path)
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017


def test_a_width_target_needs_its_rule_whenever_it_is_active():
    target = {"choices": [5000, 9000]}
    assert parse_space({"width_rule": "params", "width_target": target}).size() == 2
    rules = {"choices": ["filters", "macs"]}
    conditional = parse_space(
        {"width_rule": rules, "width_target": target | {"when": {"width_rule": "macs"}}}
    )
    assert conditional.size() == 3
    for table in ({"width_target": target}, {"width_rule": rules, "width_target": target}):
        with pytest.raises(
            InputError, match=r'width_target: received 5000\. Allowed: only with width_rule = "macs"'
        ):
            parse_space(table)


def test_a_space_may_search_the_options_of_the_training():
    off = {"choices": [0, 0.2]}
    space = parse_space(
        {
            "optimizer": {"choices": ["adam", "sgd"]},
            "momentum": {"choices": [0, 0.9], "when": {"optimizer": "sgd"}},
            "nesterov": {"choices": [True, False], "when": {"momentum": 0.9}},
            "epochs": 20,
            "warmup_epochs": {"low": 0, "high": 10, "step": 5},
            "mixup": off,
            "cutmix": off | {"when": {"mixup": 0}},
        }
    )
    assert space.size() == (1 + 1 + 2) * 3 * (2 + 1)
    configs = {space.config(values).digest() for values in space.grid()}
    # Nesterov's momentum 0.9 is the default, and Adam has no momentum.
    assert len(configs) == space.size()
    choices = {"choices": ["cosine", "constant", "step"]}
    other = {"low": 0.1, "high": 1.0, "when": {"schedule": ["constant", "step"]}}
    assert parse_space(
        {"schedule": choices, "mixup": {**other, "when": {"schedule": "cosine"}}, "cutmix": other}
    )


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"optimizer": {"choices": ["sgd", "adam"]}, "momentum": 0.8},
            "momentum: received 0.8. Allowed: only",
        ),
        ({"optimizer": "sgd", "nesterov": True, "momentum": {"low": 0.0, "high": 0.9}}, "nesterov: received"),
        (
            {"epochs": {"low": 3, "high": 9}, "warmup_epochs": {"low": 0.0, "high": 3.0}},
            "less than the 3 epochs",
        ),
        (
            {"mixup": {"choices": [0, 0.2]}, "cutmix": {"choices": [0, 1.0]}},
            "mixup: received 0.2. Allowed: one",
        ),
        (
            {"model": {"choices": ["resnet", "vgg"]}, "stochastic_depth": {"low": 0.0, "high": 0.5}},
            "stochastic_depth: received 0.5. Allowed: only with",
        ),
        (
            {"model": {"choices": ["plain", "vgg"]}, "convolutions": {"low": 1, "high": 4}},
            "convolutions: received 4. Allowed: 1, or more with",
        ),
    ],
)
def test_options_that_do_not_fit_together_are_found_before_a_search(tables, message):
    with pytest.raises(InputError) as error:
        parse_space(tables, "my.toml")
    assert str(error.value).startswith("my.toml: ")
    assert message in str(error.value)


def test_convolutions_are_searched_where_the_network_has_them():
    table = {"choices": [4, 2], "when": {"model": "plain"}}
    space = parse_space({"model": {"choices": ["cnn", "plain"]}, "convolutions": table})
    found = [(config.model, config.convolutions) for config in map(space.config, space.grid())]
    assert sorted(found) == [("cnn", 1), ("plain", 2), ("plain", 4)]


def test_a_number_with_a_letter_is_a_number_of_the_space() -> None:
    rule = {"width_rule": "macs"}
    for text, number in (
        ("200k", 200_000),
        ({"choices": ["200k", "1.5M"]}, {"choices": [200_000, 1_500_000]}),
        ({"low": "1k", "high": "2M", "log": True}, {"low": 1000, "high": 2_000_000, "log": True}),
    ):
        assert parse_space(rule | {"width_target": text}) == parse_space(rule | {"width_target": number})
    space = parse_space(rule)
    assert space.fix(width_target="200k") == space.fix(width_target=200_000)
    with pytest.raises(
        InputError, match=r"^my\.toml: config\.width_target: received '2x'\. Allowed: a whole"
    ):
        space.fixed({"width_target": "2x"}, "my.toml: config.")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("tables", [{"filters": 3}, {"learning_rate": {"low": 0.1, "high": 0.2}}])
def test_a_fixed_value_that_is_not_finite_is_refused_in_its_own_place(tables, value: float) -> None:
    with pytest.raises(
        InputError, match=r"^my\.toml: config\.learning_rate: received -?(nan|inf)\. Allowed: "
    ):
        parse_space(tables, "space.toml").fixed({"learning_rate": value}, "my.toml: config.")
