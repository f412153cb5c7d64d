"""The identity of a sweep: it changes with everything that decides results, and with nothing else."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import Field, create_model

from invact.data.dataset import Dataset
from invact.measures import MEASURES
from invact.search.objectives import Objective
from invact.spaces.space import parse_space
from invact.sweeps.file import SweepFile, load_sweep
from invact.sweeps.identity import earlier_identity, identity_of
from invact.tracking.store import open_store

OLD = Path(__file__).parents[1] / "end_to_end" / "old_store" / "old_sweep.toml"
DATA = SimpleNamespace(digest="DATA")
SPACE = """
[parameters]
model = { choices = ["cnn", "resnet"] }
depth = { low = 1, high = 3 }
activation = { choices = ["relu", "inverse"], per_stage = true }
filters = { low = 4, high = 64, log = true }
dropout = { low = 0.0, high = 0.5, step = 0.25, when = { model = "cnn" } }
learning_rate = { low = 1e-4, high = 1e-2, log = true }
epochs = 3
"""
FULL = """
space = "space.toml"
data = "digits"
split_seed = 3
validation_fraction = 0.25
driver = "keras_tuner"
sampler = "bayesian"
trials = 5
seed = 7
seeds = [1, 2]
imports = ["json"]
objective = { kind = "weighted", cost = "latency_ms", target = 2, max_macs = 1000 }
timing = { runtime = "litert", batch = 2 }
[config]
batch_size = 64
[[enqueue]]
model = "resnet"
depth = 1
"activation.1" = "relu"
filters = 8
learning_rate = 1e-3
"""
LEAST = 'space = "cnn"\ndata = "digits"\n'

DIGESTS = {  # of the formula before, computed with the version that had it; then of today's
    "digits": ("232db020041f", "b3c797a8977b"),
    "mnist": ("31c46e8e6ee4", "721a2cd1d090"),
    "fashion_mnist": ("222c90f60bd9", "afd05d6a8cea"),
    "cifar10": ("c0b15fae7b05", "1b6115eec515"),
    "old_sweep": ("05d1fe1a9068", "c2f3c7f9dad2"),
    "full": ("ee91ad4096e4", "62b9fc42fc42"),
    "least": ("23007cfd706d", "46a2af34190f"),
}


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, object]:
    (tmp_path / "space.toml").write_text(SPACE)
    own = {"full": FULL, "least": LEAST}
    for name, text in own.items():
        (tmp_path / f"{name}.toml").write_text(text)
    return {"old_sweep": OLD} | {name: tmp_path / f"{name}.toml" for name in own}


@pytest.mark.parametrize("name", DIGESTS)
def test_identities_stay_as_they_are(name: str, paths: dict[str, object]) -> None:
    sweep = load_sweep(paths.get(name, name))
    assert (sweep.earlier_identities(DATA), sweep.identity(DATA)) == ((DIGESTS[name][0],), DIGESTS[name][1])


CHANGES = {
    "driver": "keras_tuner",
    "sampler": "random",
    "pruner": "successive_halving",
    "warm_start": ["another"],
    "seed": 1,
    "seeds": [1],
    "imports": ["json"],
    "recipe": "mnist_fast",  # its values count, as `tests/test_recipes.py` shows
    "objective.max_macs": 100_000,
    "objective.kind": "pareto",
    "enqueue": [
        {"activation": "relu", "filters": 8, "depth": 2, "normalization": "none", "learning_rate": 1e-3}
    ],
    "config.epochs": 7,
    "config.batch_size": 64,
    "space": "mlp",
}
SAME = {
    "trials": 99,
    "driver": "optuna",
    "sampler": "tpe",
    "pruner": "none",
    "seed": 0,
    "seeds": [0],
    "objective.kind": "accuracy",
    "objective.exponent": None,
    "timing.batch": 2,  # nothing is timed
    "data": "mnist",  # the digest of the data counts, not their name
    "reference": [{"where": {"activation": "relu"}, "source": "a paper", "test_accuracy": 94.3}],
}


def test_what_decides_results_changes_the_identity_and_nothing_else_does(paths: dict[str, object]) -> None:
    def identity(changes: dict[str, object]) -> str:
        return load_sweep(paths["least"], changes).identity(DATA)

    plain = identity({})
    different = {identity({key: value}) for key, value in CHANGES.items()}
    assert len(different | {plain}) == len(CHANGES) + 1
    for key, value in SAME.items():
        if value is not None:
            assert identity({key: value}) == plain, key
    timed = {"objective": {"max_latency_ms": 1.0}}
    assert identity(timed) != identity(timed | {"timing.batch": 2})
    keys = {key.partition(".")[0] for key in [*CHANGES, *SAME]}
    # The digest of the data contains these three; `tests/data` shows it.
    assert keys == set(SweepFile.model_fields) - {"split_seed", "validation_fraction", "pixel_range"}
    sweep = load_sweep(paths["least"])
    assert sweep.identity(SimpleNamespace(digest="other")) != plain


def test_published_figures_change_neither_the_identity_nor_the_earlier_one(paths: dict[str, object]) -> None:
    for name in DIGESTS:
        sweep = load_sweep(paths.get(name, name))
        values = sweep.file.model_dump(exclude_unset=True)
        reference = {"where": {"epochs": sweep.epochs}, "source": "a paper", "test_loss": 0.2}
        with_figures = replace(sweep, file=SweepFile(**values, reference=(reference,)))
        assert with_figures.identity(DATA) == DIGESTS[name][1]
        assert with_figures.earlier_identities(DATA) == (DIGESTS[name][0],)


def test_the_defaults_mean_what_they_meant() -> None:
    # A default that changes would give other results the identity of the old ones.
    budgets = dict.fromkeys(f"max_{name}" for name in MEASURES)
    assert SweepFile(space="", data="").model_dump(mode="json") == {
        "space": "",
        "data": "",
        "split_seed": 0,
        "validation_fraction": 1 / 6,
        "pixel_range": None,
        "objective": {"kind": "accuracy", "cost": "macs", "min_accuracy": None, "target": None}
        | {"exponent": -0.07, **budgets},
        "timing": {"runtime": "tensorflow", "batch": 1, "threads": 1},
        "driver": "optuna",
        "sampler": None,
        "pruner": None,
        "warm_start": [],
        "trials": 20,
        "seed": 0,
        "seeds": [0],
        "imports": [],
        "config": {},
        "enqueue": [],
        "reference": [],
    }


def test_a_new_key_of_the_file_changes_an_identity_only_if_it_is_used(paths: dict[str, object]) -> None:
    sweep = load_sweep(paths["full"])
    wide = create_model("Wide", __base__=Objective, later=(int, 4))
    later = create_model("Later", __base__=SweepFile, objective=(wide, wide()), patience=(int, Field(3)))
    values = sweep.file.model_dump(exclude_unset=True)

    def grown(**more: object) -> tuple[tuple[str, ...], str]:
        file = later.model_validate(values | more)
        one = replace(sweep, file=file)
        return one.earlier_identities(DATA), one.identity(DATA)

    assert grown() == (sweep.earlier_identities(DATA), sweep.identity(DATA))
    assert grown(patience=3) == grown()
    assert grown(patience=4)[0] == (), "no earlier version knew such a sweep"
    assert grown(patience=4)[1] != grown()[1]
    used = grown(objective=values["objective"] | {"later": 5})
    assert used[0] == ()
    assert used[1] not in (grown()[1], grown(patience=4)[1])


def test_the_type_of_a_number_and_the_order_of_parameters_count() -> None:
    tables = {"filters": {"low": 4, "high": 8}, "dropout": {"choices": [0.0, 0.5]}}
    spaces = [
        tables,
        dict(reversed(tables.items())),
        tables | {"filters": {"low": 4, "high": 8, "step": 2}},
        tables | {"filters": {"low": 4, "high": 8, "log": True}},
        tables | {"filters": {"choices": [4, 8]}},
        tables | {"dropout": {"low": 0.0, "high": 0.5}},
        tables | {"dropout": {"choices": [0.0, 0.5], "when": {"filters": 4}}},
        tables | {"dropout": {"choices": [0.0, 0.5], "when": {"filters": [4, 5]}}},
    ]
    found = {identity_of({}, parse_space(each), "tpe", "DATA") for each in spaces}
    assert len(found) == len(spaces)


def test_a_record_of_an_earlier_version_is_continued_and_keeps_its_identity(
    run, write, digits: Dataset, trained: list[object]
) -> None:
    path = write()
    sweep = load_sweep(path, {"trials": 2})
    every = sweep.file.model_dump(mode="json")
    old = earlier_identity(every, {}, sweep.space, "tpe", digits.digest)
    assert old is not None
    with open_store().record("tiny", "sweep", old, driver="optuna") as earlier:
        pass
    for trials in (2, 3):
        found = run(path, trials=trials)
        assert found.run_id == earlier.run_id
        assert len(trained) == trials
    (listed,) = open_store().records("tiny")
    assert listed.identity == old
