"""A sweep or claim with a recipe is, after reading, the same as one with the values in `[config]`."""

import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invact.claims.cells import Hyperparameters
from invact.claims.file import load_claim
from invact.config import Config
from invact.errors import BuildError, InputError
from invact.files import find, read_toml, shipped
from invact.networks.widths import network_cost
from invact.recipes import Recipe, read_recipe
from invact.sweeps.file import load_sweep

DATA = SimpleNamespace(digest="DATA")
SHAPES = {"mnist": (28, 28, 1), "fashion_mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
NAMES = {f"{data}_{kind}": data for data in SHAPES for kind in ("fast", "headline")}

SWEEP = 'space = "cnn"\ndata = "digits"\n'
CLAIM = 'data = "digits"\nratios = [0.5]\n'
RECIPE = """
model = "cnn"
filters = 24
depth = 3
learning_rate = 2e-3
optimizer = "sgd"
momentum = 0.8
epochs = 7
"""


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write(tmp_path, RECIPE, "recipes/own.toml")


def test_each_data_set_has_a_fast_and_a_headline_recipe() -> None:
    assert set(shipped("recipe")) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_macs_in_the_header_of_a_recipe_are_counted(name: str) -> None:
    path, shape = find("recipe", name), SHAPES[NAMES[name]]
    header = path.read_text().partition("\nmodel")[0]
    stated = [int(number.replace(",", "")) for number in re.findall(r"\d+(?:,\d{3})+", header)]
    configs = [Config(**read_toml(path), activation=arm) for arm in ("relu", "inverse")]
    assert stated == [network_cost(config, shape, 10).macs for config in configs]
    if name.endswith("headline"):
        assert 10e6 <= stated[1] <= 25e6


@pytest.mark.parametrize("space", shipped("search_spaces"))
@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_adds_to_each_shipped_space_and_leaves_its_parameters(
    tmp_path: Path, name: str, space: str
) -> None:
    text = f'space = "{space}"\ndata = "{NAMES[name]}"\n'
    alone = load_sweep(write(tmp_path, text)).space
    found = load_sweep(write(tmp_path, f'{text}recipe = "{name}"\n')).space
    added = {one.name: one.domain.values() for one in found.parameters[: -len(alone.parameters)]}
    assert found.parameters[-len(alone.parameters) :] == alone.parameters
    searched = read_toml(find("search_spaces", space))["parameters"]
    values = read_toml(find("recipe", name))
    assert added == {key: (value,) for key, value in values.items() if key not in searched}


@pytest.mark.parametrize("name", NAMES)
def test_a_claim_takes_each_shipped_recipe(tmp_path: Path, name: str) -> None:
    claim = load_claim(write(tmp_path, f'data = "{NAMES[name]}"\nratios = [0.5]\nrecipe = "{name}"\n'))
    values = read_toml(find("recipe", name))
    assert claim.file.config == values
    assert claim.cells()["control"].config == Config(**values)
    assert claim.cells()["treatment 0.5"].config == Config(
        **values | {"activation": "inverse", "filters": values["filters"] // 2}
    )


def test_a_sweep_has_the_identity_of_one_with_the_values_in_config(tmp_path: Path, recipe: Path) -> None:
    # The space searches model, filters, depth and the learning rate.
    kept = 'optimizer = "sgd"\nmomentum = 0.8\nepochs = 7\n'
    named = load_sweep(write(tmp_path, f'{SWEEP}recipe = "recipes/own.toml"\n[config]\nema = 0.9\n'))
    plain = load_sweep(write(tmp_path, f"{SWEEP}[config]\n{kept}ema = 0.9\n"))
    assert named.identity(DATA) == plain.identity(DATA)
    assert named.earlier_identities(DATA) == plain.earlier_identities(DATA)
    assert named.file.model_dump_json() == plain.file.model_dump_json()
    assert (named.space, named.epochs) == (plain.space, 7)
    assert named.identity(DATA) != load_sweep(write(tmp_path, SWEEP)).identity(DATA)
    # The path of the recipe does not count.
    recipe.rename(tmp_path / "other.toml")
    moved = load_sweep(write(tmp_path, f'{SWEEP}recipe = "other.toml"\n[config]\nema = 0.9\n'))
    assert moved.identity(DATA) == plain.identity(DATA)


def test_a_claim_is_that_with_the_values_in_config(tmp_path: Path, recipe: Path) -> None:
    named = load_claim(write(tmp_path, f'{CLAIM}recipe = "recipes/own.toml"\n[config]\nepochs = 9\n'))
    plain = load_claim(write(tmp_path, f"{CLAIM}[config]\n{RECIPE.replace('epochs = 7', 'epochs = 9')}"))
    assert named.file.config == plain.file.config
    # The dump is what a registration stores and compares.
    assert named.file.model_dump(mode="json") == plain.file.model_dump(mode="json")
    assert "recipe" not in named.file.model_dump()
    assert named.cells() == plain.cells()
    assert named.seeds("pilot", "control", 3) == plain.seeds("pilot", "control", 3)


def test_tuned_values_win_over_those_of_a_recipe(tmp_path: Path, recipe: Path) -> None:
    tuning = "[tuning]\ntrials = 2\nlearning_rate = [1e-3, 1e-2]\n"
    claim = load_claim(write(tmp_path, f'{CLAIM}recipe = "recipes/own.toml"\n{tuning}'))
    (control, *_) = claim.cells({"control": Hyperparameters(5e-3, 0.1)}).values()
    assert (control.config.learning_rate, control.config.weight_decay) == (5e-3, 0.1)
    assert claim.cells()["control"].config.learning_rate == 2e-3


VALUES = {
    "filters": st.integers(2, 64),
    "batch_size": st.integers(1, 512),
    "epochs": st.integers(1, 50),
    "ema": st.sampled_from([0.0, 0.9]),
    "augmentation": st.sampled_from(["none", "shift"]),
}
TABLES = st.fixed_dictionaries({}, optional=VALUES)


def toml(values: dict[str, object]) -> str:
    return "".join(f"{key} = {value!r}\n" for key, value in values.items())


@given(TABLES, TABLES, TABLES)
@settings(max_examples=30)
def test_overrides_win_over_config_and_config_over_the_recipe(
    tmp_path_factory: pytest.TempPathFactory,
    own: dict[str, object],
    config: dict[str, object],
    changes: dict[str, object],
) -> None:
    folder = tmp_path_factory.mktemp("recipes")
    write(folder, toml(own), "own.toml")
    overrides = {f"config.{key}": value for key, value in changes.items()}
    claim = load_claim(
        write(folder, f'{CLAIM}recipe = "own.toml"\n[config]\n{toml({"filters": 8} | config)}'), overrides
    )
    assert claim.file.config == own | {"filters": 8} | config | changes
    text = f'space = "space.toml"\ndata = "digits"\nrecipe = "own.toml"\n[config]\n{toml(config)}'
    write(folder, '[parameters]\nactivation = { choices = ["relu", "inverse"] }\n', "space.toml")
    sweep = load_sweep(write(folder, text), overrides)
    assert sweep.file.config == own | config | changes
    assert sweep.space.config({"activation": "relu", **sweep.file.config}) == Config(**own | config | changes)


def test_config_fixes_a_parameter_that_a_recipe_leaves(tmp_path: Path, recipe: Path) -> None:
    text = f'{SWEEP}recipe = "recipes/own.toml"\n'
    space = load_sweep(write(tmp_path, text)).space
    assert (space["filters"].domain.values()[0], space["filters"].domain.size) == (4, 8)
    fixed = load_sweep(write(tmp_path, f"{text}[config]\nfilters = 24\n")).space
    assert fixed["filters"].domain.values() == (24,)
    assert load_sweep(tmp_path / "mine.toml", {"config.filters": 8}).space["filters"].domain.values() == (8,)
    # A parameter for each stage is a parameter of the space too.
    write(tmp_path, 'activation = "elu"\nfilters = 24\n', "recipes/own.toml")
    staged = load_sweep(write(tmp_path, text), {"space": "early_layers"}).space
    assert staged["activation.1"].domain.values() == ("relu", "inverse")


def test_an_override_names_a_recipe_relative_to_the_file(
    tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = write(tmp_path, f'{CLAIM}recipe = "mnist_fast"\n')
    assert load_claim(path, {"recipe": "recipes/own.toml"}).file.config["epochs"] == 7


REFUSED = {
    "a name": ("", {"recipe": "mnist_fats"}, "recipe: received 'mnist_fats'; did you mean 'mnist_fast'?"),
    "a sweep's name": ("", {"recipe": "digits"}, "recipe: received 'digits'"),
    "a path": ("", {"recipe": "none.toml"}, "'none.toml': no such file"),
    "a number": ("", {"recipe": 3}, "recipe: received 3"),
    "no TOML": ("epochs = = 3", {}, "own.toml: not TOML"),
    "a key": ("epoch = 3", {}, "own.toml: epoch: unknown key, received 'epoch'; did you mean 'epochs'?"),
    "a table": ("[config]\nepochs = 3", {}, "own.toml: config: unknown key, received 'config'"),
    "another recipe": ('recipe = "mnist_fast"', {}, "own.toml: recipe: unknown key"),
    "a value": ("epochs = 0", {}, "own.toml: epochs: received 0. Allowed: greater than or equal to 1"),
    "a mirrored digit": ('augmentation = "flip"', {}, "own.toml: augmentation: received 'flip' for digits"),
    "a value without effect": (
        'optimizer = "sgd"\nmomentum = 0.8',
        {"config.optimizer": "adam"},
        'own.toml: momentum: received 0.8. Allowed: only with optimizer = "sgd"',
    ),
    "a rise as long as the training": (
        "warmup_epochs = 2.0",
        {"config.epochs": 2},
        "own.toml: warmup_epochs: received 2.0. Allowed: less than the 2 epochs",
    ),
    "a value of config": (
        "batch_size = 0",
        {"config.batch_size": -1},
        re.compile(r"mine\.toml: config(\.|: )batch_size: received -1"),
    ),
}


@pytest.mark.parametrize("load", [load_sweep, load_claim])
@pytest.mark.parametrize("what", REFUSED)
def test_a_bad_recipe_is_refused_in_one_line_with_its_file(tmp_path: Path, load, what: str) -> None:
    text, changes, message = REFUSED[what]
    write(tmp_path, text, "own.toml")
    path = write(tmp_path, f'{SWEEP if load is load_sweep else CLAIM}recipe = "own.toml"\n')
    with pytest.raises(InputError) as error:
        load(path, changes)
    assert str(error.value).startswith(f"{path}: ")
    assert re.search(message if isinstance(message, re.Pattern) else re.escape(message), str(error.value))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('activation = "relu"', "activation: cannot be set in a claim; use `control` and `treatment`"),
        ('width_rule = "macs"', "width_rule: cannot be set in a claim"),
        ('reference = "elu"', "reference: cannot be set in a claim"),
        ('width_target = "200k"', "width_target: cannot be set in a claim"),
    ],
)
def test_a_claim_refuses_what_it_sets_itself(tmp_path: Path, text: str, words: str) -> None:
    own = write(tmp_path, text, "own.toml")
    path = write(tmp_path, f'{CLAIM}recipe = "own.toml"\n')
    with pytest.raises(InputError, match=re.escape(f"{path}: {own}: {words}")):
        load_claim(path)
    # In `[config]`, it is not the recipe that is wrong.
    with pytest.raises(InputError, match=re.escape(f"{path}: config: {words}")):
        load_claim(path, {f"config.{key}": value for key, value in tomllib.loads(text).items()})


def test_only_errors_about_its_values_are_blamed_on_a_recipe() -> None:
    recipe = read_recipe("mnist_fast", Path("my.toml")).without({"epochs"})
    for message, expected in {
        "config.filters: received 0": f"{recipe.path}: filters: received 0",
        "config: filters.1: received 0": f"{recipe.path}: filters.1: received 0",
        "filters: received 0": f"{recipe.path}: filters: received 0",
        "config: epochs: received 0": "config: epochs: received 0",
        "config: received 3": "config: received 3",
        "filters": "filters",
    }.items():
        with pytest.raises(BuildError) as error, recipe.blamed():
            raise BuildError(message)
        assert str(error.value) == expected
    with pytest.raises(InputError, match=r"^filters: received 0$"), Recipe(Path("my.toml"), {}).blamed():
        raise InputError("filters: received 0")
