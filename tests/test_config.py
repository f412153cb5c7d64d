import pytest
from hypothesis import given
from hypothesis import strategies as st

from invact.arms import ARMS
from invact.config import AUGMENTATIONS, LATER, Config, digest
from invact.errors import InputError
from invact.validation import validate

configs = st.builds(
    Config,
    activation=st.sampled_from(sorted(ARMS)),
    filters=st.integers(1, 4096),
    depth=st.integers(1, 64),
    dropout=st.floats(0, 1, exclude_max=True),
    learning_rate=st.floats(0, 100, exclude_min=True),
    augmentation=st.lists(st.sampled_from(AUGMENTATIONS), min_size=1, unique=True).map("+".join),
)


@given(configs)
def test_a_configuration_and_its_digest_survive_json(config: Config) -> None:
    again = Config.model_validate_json(config.model_dump_json())
    assert again == config
    assert again.digest() == config.digest()
    assert config.activations == (config.activation,) * config.depth
    assert config.references == ("relu",) * config.depth
    assert "+".join(config.augmentations) == config.augmentation


@given(configs, configs)
def test_different_configurations_have_different_digests(one: Config, other: Config) -> None:
    assert (one.digest() == other.digest()) == (one == other)


@given(st.dictionaries(st.text(max_size=3), st.integers(), max_size=5))
def test_the_digest_does_not_depend_on_the_order_of_keys(values: dict[str, int]) -> None:
    assert digest(values) == digest(dict(reversed(values.items())))


def test_the_digest_of_a_configuration_does_not_change() -> None:
    """Initial weights depend on the digest: if it changes, no old run can be repeated."""
    assert Config().digest() == "f1a61e0a5c32"
    assert Config(activation="inverse", width_rule="macs").digest() == "c0379c7fa63b"
    targeted = Config(activation="inverse", width_rule="params", width_target=9000)
    assert targeted.digest() == "1f25d19fad8b"
    assert Config(width_rule="channels", filters=(3, 4)).digest() == "9e2a9629666e"


def test_every_field_of_a_configuration_is_in_its_digest() -> None:
    fixed = {"model": "a:b", "depth": 2, "width_rule": "macs", "optimizer": "sgd"}
    base = Config(**fixed)
    changes = {
        "model": "a:c",
        "activation": "inverse",
        "filters": 8,
        "depth": 3,
        "convolutions": 2,
        "normalization": "batch",
        "dropout": 0.1,
        "width_rule": "channels",
        "reference": "elu",
        "width_target": 9,
        "options": {"x": 1},
        "optimizer": "adam",
        "momentum": 0.8,
        "nesterov": False,
        "learning_rate": 0.1,
        "schedule": "constant",
        "weight_decay": 0.1,
        "batch_size": 1,
        "epochs": 1,
        "augmentation": "shift",
        "stochastic_depth": 0.1,
        "warmup_epochs": 0.5,
        "clip_norm": 1.0,
        "ema": 0.9,
        "label_smoothing": 0.1,
        "mixup": 0.2,
        "cutmix": 1.0,
        "precision": "mixed_bfloat16",
    }
    assert set(changes) == set(Config.model_fields)
    digests = {Config(**fixed | {key: value}).digest() for key, value in changes.items()}
    assert len(digests | {base.digest()}) == len(changes) + 1


@pytest.mark.parametrize("key", LATER)
def test_the_default_of_a_later_key_is_in_no_dump(key: str) -> None:
    """Digests, registered designs and params of older versions do not have the key."""
    base = {"optimizer": "sgd", "model": "resnet"}
    default = Config.model_fields[key].default
    explicit = Config(**base | {key: default})
    assert explicit.digest() == Config(**base).digest() == "ff5bcab6fecb"
    assert explicit == Config(**base)
    assert explicit.model_dump_json() == Config(**base).model_dump_json()
    assert key not in explicit.model_dump()
    other = {"convolutions": {"model": "plain", key: 2}}
    changed = Config(**base | other.get(key, {key: not default if isinstance(default, bool) else 0.125}))
    assert changed.model_dump()[key] == getattr(changed, key)
    assert Config.model_validate(changed.model_dump()) == changed
    assert set(changed.model_dump()) == set(Config.model_fields) - {*LATER} | {key}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"momentum": 0.9}, 'momentum: received 0.9. Allowed: only with optimizer = "sgd"'),
        ({"momentum": 1.0, "optimizer": "sgd"}, "momentum: received 1.0. Allowed: less than 1"),
        ({"nesterov": True, "optimizer": "adamw"}, "nesterov: received True. Allowed: only with optimizer"),
        ({"nesterov": 1, "optimizer": "sgd"}, "nesterov: received 1. Allowed: a valid boolean"),
        (
            {"nesterov": True, "momentum": 0.0, "optimizer": "sgd"},
            "nesterov: received True. Allowed: only with a momentum above 0",
        ),
        ({"stochastic_depth": 0.2}, 'stochastic_depth: received 0.2. Allowed: only with model = "resnet" or'),
        (
            {"convolutions": 2},
            'convolutions: received 2. Allowed: 1, or more with model = "plain" or with a builder of',
        ),
        ({"convolutions": 0, "model": "plain"}, "convolutions: received 0. Allowed: greater than or equal"),
        ({"convolutions": 2.0, "model": "plain"}, "convolutions: received 2.0. Allowed: a valid integer"),
        ({"convs": 2}, "convs: unknown key, received 'convs'; did you mean 'convolutions'?"),
        (
            {"warmup_epochs": 5},
            "warmup_epochs: received 5.0. Allowed: less than the 5 epochs of the training",
        ),
        ({"warmup_epochs": float("inf")}, "warmup_epochs: received inf. Allowed: a finite number"),
        (
            {"mixup": 0.2, "cutmix": 1.0},
            "mixup: received 0.2. Allowed: one of mixup and cutmix; cutmix is 1.0",
        ),
        ({"mixup": 101}, "mixup: received 101. Allowed: less than or equal to 100"),
        ({"cutmix": -1}, "cutmix: received -1. Allowed: greater than or equal to 0"),
        ({"ema": 1.0}, "ema: received 1.0. Allowed: less than 1"),
        ({"label_smoothing": 1}, "label_smoothing: received 1. Allowed: less than 1"),
        ({"clip_norm": -1.0}, "clip_norm: received -1.0. Allowed: greater than or equal to 0"),
        ({"schedule": "onecycle"}, "schedule: received 'onecycle'; did you mean 'one_cycle'?"),
        ({"augmentation": "crops"}, "augmentation: received 'crops'; did you mean 'crop'?"),
        (
            {"drop_path": 0.1},
            "drop_path: unknown key, received 'drop_path'; did you mean 'stochastic_depth'?",
        ),
        ({"filters": 0}, "filters: received 0. Allowed: greater than or equal to 1, or a list"),
        ({"filters": -3}, "filters: received -3."),
        ({"filters": 10**12}, "filters: received 1000000000000. Allowed: less than or equal to 4096"),
        ({"filters": 16.5}, "filters: received 16.5. Allowed: a valid integer"),
        ({"filters": True}, "filters: received True."),
        ({"filters": "8"}, "filters: received '8'."),
        ({"filters": [8, 0]}, "filters.1: received 0. Allowed: greater than or equal to 1"),
        (
            {"filters": [8, 8, 8]},
            "filters: received 3 values. Allowed: one value for all stages, or a list of 2",
        ),
        ({"depth": 0}, "depth: received 0."),
        ({"activation": "rellu"}, "activation: received 'rellu'; did you mean 'relu'?"),
        ({"activation": ["relu", "invers"]}, "activation.1: received 'invers'; did you mean 'inverse'?"),
        ({"activation": ["relu"]}, "activation: received 1 values."),
        (
            {"reference": ["relu"]},
            "reference: received 1 values. Allowed: one value for all stages, or a list of 2",
        ),
        ({"reference": "rel"}, "reference: received 'rel'; did you mean 'relu'?"),
        ({"model": "cn"}, "model: received 'cn'; did you mean 'cnn'?"),
        ({"model": "os.system"}, "model: received 'os.system'."),
        ({"normalization": "batc"}, "normalization: received 'batc'; did you mean 'batch'?"),
        ({"width_rule": "channel"}, "width_rule: received 'channel'; did you mean 'channels'?"),
        ({"augmentation": "shift+flop"}, "augmentation: received 'flop'; did you mean 'flip'?"),
        (
            {"augmentation": "flip+flip"},
            "augmentation: received 'flip+flip'. Allowed: each",
        ),
        ({"dropout": 1}, "dropout: received 1. Allowed: less than 1"),
        ({"learning_rate": 0}, "learning_rate: received 0. Allowed: greater than 0"),
        ({"learning_rate": float("nan")}, "learning_rate: received nan."),
        ({"learning_rate": float("inf")}, "learning_rate: received inf."),
        ({"weight_decay": True}, "weight_decay: received True. Allowed: a valid number"),
        ({"epoch": 3}, "epoch: unknown key, received 'epoch'; did you mean 'epochs'?"),
        ({"options": {"a": 1}}, "options: received ['a']. Allowed: only with a builder of your own"),
        ({"options": {"a": [1]}}, "options.a: received [1]."),
    ],
)
def test_bad_values_are_explained_in_one_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        validate(Config, values, "my.toml")
    assert str(error.value).startswith(f"my.toml: {message}")
    assert "\n" not in str(error.value)


def test_a_users_own_builder_takes_options() -> None:
    values = {"model": "mine.nets:build", "options": {"width": 3}, "convolutions": 3}
    config = validate(Config, values, "my.toml")
    assert (config.options, config.convolutions) == ({"width": 3}, 3)


def test_the_arms_of_the_stages_survive_json() -> None:
    arms = ("inverse", "relu", "abs")
    config = Config(depth=3, activation=arms, reference=arms)
    assert config.activations == config.references == arms
    again = Config.model_validate_json(config.model_dump_json())
    assert (again, again.digest()) == (config, config.digest())
