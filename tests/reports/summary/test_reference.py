"""Published figures: what a `[[reference]]` may say, and which configurations it finds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invact.claims.file import load_claim
from invact.errors import InputError
from invact.reports.summary.reference import Reference, check_in_space, flat_values
from invact.spaces.space import parse_space
from invact.sweeps.file import load_sweep

AUTHOR = {"where": {"activation": "inverse"}, "source": "author, one run", "test_accuracy": 94.33}
SPACE = """
[parameters]
activation = { choices = ["relu", "inverse"] }
filters = { low = 2, high = 5 }
mixup = { choices = [0.0, 0.2] }
cutmix = { choices = [0.0, 1.0], when = { mixup = 0.0 } }
"""

BAD = [
    ({"sorce": "x"}, "reference.0.sorce: unknown key, received 'sorce'; did you mean 'source'?"),
    ({"source": None}, "reference.0.source: missing key"),
    ({"source": " "}, "reference.0.source: received ' '. Allowed: who published the figures"),
    ({"where": None}, "reference.0.where: missing key"),
    ({"where": {}}, "reference.0.where: received no key. Allowed: at least one"),
    ({"test_accuracy": None}, "reference.0: received no figure. Allowed: one or more of validation_accuracy"),
    ({"test_accuracy": 0.9433}, "test_accuracy: received 0.9433, percent or fraction?"),
    ({"test_accuracy": 101}, "test_accuracy: received 101. Allowed: less than or equal to 100"),
    ({"test_accuracy": 0}, "test_accuracy: received 0. Allowed: greater than 0"),
    ({"test_accuracy": "94"}, "test_accuracy: received '94'. Allowed: "),
    ({"test_accuracy": math.nan}, "test_accuracy: received nan. Allowed: "),
    ({"validation_loss": -0.1}, "validation_loss: received -0.1. Allowed: greater than or equal to 0"),
    ({"test_loss": math.inf}, "test_loss: received inf. Allowed: "),
    ({"where": {"activation": "inverze"}}, "where.activation: received 'inverze'; did you mean 'inverse'?"),
    ({"where": {"filter": 4}}, "reference.0.where: received 'filter'; did you mean 'filters'?"),
    ({"where": {"filters": 9}}, "where.filters: received 9. Allowed: integers from 2 to 5"),
    ({"where": {"filters": 4.0}}, "where.filters: received 4.0. Allowed: integers from 2 to 5"),
    # A key that the space does not have has one value, that of [config] or the default.
    ({"where": {"batch_size": 32}}, "where.batch_size: received 32. Allowed: 64"),
    ({"where": {"augmentation": "shift"}}, "where.augmentation: received 'shift'"),
    (
        {"where": {"mixup": 0.2, "cutmix": 1.0}},
        "where: received {'mixup': 0.2, 'cutmix': 1.0}. Allowed: values that one configuration",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_a_bad_reference_of_a_sweep_is_refused_in_one_line(write, changes, message) -> None:
    reference = {key: value for key, value in (AUTHOR | changes).items() if value is not None}
    path = write(space=SPACE)
    with pytest.raises(InputError) as error:
        load_sweep(path, {"reference": [reference]})
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_reference_is_read_from_the_file(write) -> None:
    more = (
        '[[reference]]\nwhere = { activation = "inverse", augmentation = "none", epochs = 1, depth = 1 }\n'
        'source = "author"\nvalidation_accuracy = 99\ntest_accuracy = 57.1\ntest_loss = 0.178\n'
    )
    path = write()
    path.write_text(path.read_text() + more)
    (found,) = load_sweep(path).file.reference
    # 57.1 / 100 is another float than 0.571.
    assert found.figures == {"validation_accuracy": 0.99, "test_accuracy": 0.571, "test_loss": 0.178}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"arms": "treatment"}, "reference.0.where: received 'arms'; did you mean 'arm'?"),
        ({"arm": "inverse"}, "reference.0.where.arm: received 'inverse'. Allowed: control, treatment"),
        ({"arm": "treatmant"}, "did you mean 'treatment'?"),
        ({"ratio": 0.3}, "reference.0.where.ratio: received 0.3. Allowed: 1.0, 0.5, 0.75"),
        ({"data": "mnist"}, "reference.0.where.data: received 'mnist'. Allowed: digits"),
        ({"arm": "control", "ratio": 0.5}, "Allowed: values that one network of the claim has together"),
        ({}, "reference.0.where: received no key"),
    ],
)
def test_a_reference_that_no_network_of_a_claim_matches_is_refused(write_claim, where, message) -> None:
    path = write_claim()
    with pytest.raises(InputError) as error:
        load_claim(path, {"reference": [AUTHOR | {"where": where}]})
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_a_claim_takes_references_to_its_arms(write_claim) -> None:
    path = write_claim(also='["linear_negated"]')
    wheres = [{"arm": "control"}, {"arm": "linear_negated", "ratio": 0.5}, {"ratio": 1}, {"data": "digits"}]
    claim = load_claim(path, {"reference": [AUTHOR | {"where": where} for where in wheres]})
    assert [dict(one.where) for one in claim.file.reference] == wheres


TABLES = {
    "model": "cnn",
    "depth": {"low": 1, "high": 2},
    "activation": {"choices": ["relu", "inverse"], "per_stage": True},
    "optimizer": {"choices": ["adam", "sgd"]},
    "momentum": {"choices": [0.0, 0.9], "when": {"optimizer": "sgd"}},
    "nesterov": {"choices": [True, False], "when": {"momentum": 0.9}},
    "mixup": {"choices": [0.0, 0.2]},
    "cutmix": {"choices": [0.0, 1.0], "when": {"mixup": 0.0}},
}
SMALL = parse_space(TABLES)
CONFIGS = [flat_values(SMALL.config(values).model_dump(mode="json")) for values in SMALL.grid()]
CHOICES = {
    "depth": [1, 2],
    **{name: ["relu", "inverse"] for name in ("activation", "activation.1", "activation.2")},
    "optimizer": ["adam", "sgd"],
    "momentum": [0.0, 0.9],
    "nesterov": [True, False],
    "mixup": [0.0, 0.2],
    "cutmix": [0.0, 1.0],
    "augmentation": ["none"],
}


def active(where: dict[str, object]) -> bool:
    """Whether any configuration of the space has the values among its own parameters."""
    for values in SMALL.grid():
        arms = {value for name, value in values.items() if name.startswith("activation")}
        own = values | ({"activation": min(arms)} if len(arms) == 1 else {}) | {"augmentation": "none"}
        if all(name in own and own[name] == value for name, value in where.items()):
            return True
    return False


wheres = st.fixed_dictionaries({}, optional={name: st.sampled_from(each) for name, each in CHOICES.items()})


@given(wheres.filter(bool))
def test_a_reference_is_accepted_exactly_if_a_configuration_matches_it(where) -> None:
    reference = Reference(where=where, source="author", test_loss=0.1)
    try:
        check_in_space([reference], SMALL)
    except InputError:
        assert not active(where)
    else:
        assert active(where)
        assert any(map(reference.matches, CONFIGS))


def test_the_values_of_a_configuration_are_flat_and_complete() -> None:
    space = parse_space({"model": "users:build", "width": {"choices": [3, 5]}, "learning_rate": 1e-3})
    values = flat_values(space.config({"model": "users:build", "width": 5}).model_dump(mode="json"))
    assert values["width"] == 5, "an option of the user's own builder"
    assert (values["learning_rate"], values["momentum"], values["activation"]) == (1e-3, 0.9, "relu")
    mixed = flat_values({"activation": ["inverse", "relu"]})
    assert (mixed["activation.1"], mixed["activation.2"]) == ("inverse", "relu")
    assert "activation" not in mixed
