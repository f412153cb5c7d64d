"""A mistake is answered before a library is imported that takes a second or more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from invact.tracking.store import open_store

HEAVY = (
    *("tensorflow", "keras", "mlflow", "optuna", "keras_tuner", "distributed", "pandas", "sklearn"),
    *("matplotlib", "plotly", "scipy.stats", "scipy.optimize", "sqlalchemy", "torch", "jax"),
)

SCRIPT = """
import contextlib, io, json, sys
from invact.cli.main import main

answers = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["invact", *arguments]
    code, err, heavy = None, io.StringIO(), json.loads(sys.stdin.readline())
    with contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
    answers.append([code, err.getvalue(), [name for name in heavy if name in sys.modules]])
print(json.dumps(answers))
"""

MISTAKES = {
    "the name of a sweep": ["sweep", "no_such"],
    "an unknown key": ["sweep", "digits", "--set", "trails=3"],
    "an unknown key of the configuration": ["sweep", "digits", "--set", "config.lr=3"],
    "a bad value": ["sweep", "digits", "--trials", "0"],
    "a budget": ["sweep", "digits", "--max-macs", "2x"],
    "a sampler": ["sweep", "digits", "--sampler", "hyperband"],
    "data": ["sweep", "digits", "--set", "data=no_such"],
    "a recipe": ["sweep", "digits", "--set", "recipe=mnist_fats"],
    "a recipe of a claim": ["claim", "digits_claim", "--set", "recipe=mnist_fats"],
    "an option": ["sweep", "digits", "--no-such"],
    "a number": ["sweep", "digits", "--trials", "x"],
    "a claim for a sweep": ["sweep", "digits_claim"],
    "the name of a claim": ["claim", "no_such"],
    "a margin": ["claim", "digits_claim", "--margin", "0.005"],
    "the arm of a claim": ["claim", "digits_claim", "--set", "treatment=no_such"],
    "the arms of the stages of a claim": ["claim", "digits_claim", "--set", 'treatment=["inverse"]'],
    "the data of a claim": ["claim", "digits_claim", "--set", "data=no_such"],
    "a file to count": ["cost", "no_such.toml"],
    "a model to count": ["cost", "no_such.keras"],
    "an input shape": ["cost", "digits", "--input-shape", "x"],
    "a network to time": ["latency", "no_such"],
    "a batch": ["latency", "digits", "--batch", "0"],
    "a runtime": ["latency", "digits", "--runtime", "no_such"],
    "a store": ["front", "digits", "--store", "no_such"],
    "a store to export from": ["export", "digits", "--store", "no_such"],
    "a recorded sweep": ["front", "no_such", "--store", "STORE"],
    "a recorded sweep to export": ["export", "no_such", "--store", "STORE"],
    "the format of a front": ["front", "mine", "--store", "STORE", "--format", "no_such"],
    "the seeds of a confirmation": ["front", "mine", "--store", "STORE", "--confirm", "1"],
    "a record to report": ["report", "mine", "no_such", "--store", "STORE"],
    "the format of a report": ["report", "mine", "--store", "STORE", "--format", "no_such"],
    "a published figure": [
        *("sweep", "digits", "--set"),
        'reference=[{ where = { activation = "relu" }, source = "a paper", test_accuracy = 0.94 }]',
    ],
    "the format of an export": ["export", "mine", "--store", "STORE", "--format", "no_such"],
}


@pytest.fixture
def store(folder: Path, quick_stores: None) -> Path:
    settings = {"settings.json": json.dumps({"objective": {}})}
    open_store(folder / "store").record("mine", "sweep", "1", settings, driver="optuna").close()
    return folder / "store"


def answers(commands: list[list[str]], heavy: tuple[str, ...], cwd: Path) -> list[tuple[int, str, list[str]]]:
    """Run commands in one process; return their exit codes, standard errors, and the heavy modules so far."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(commands)],
        input=f"{json.dumps(heavy)}\n" * len(commands),
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_list_and_front_read_a_folder_without_mlflow(store: Path) -> None:
    heavy = ("tensorflow", "mlflow", "sqlalchemy", "scipy.stats", "matplotlib", "plotly")
    front = ["front", "mine", "--store", str(store), "--format", "csv,json"]
    for code, err, loaded in answers([["list", "--store", str(store)], front], heavy, store.parent):
        assert (code, loaded) == (0, []), err


def test_a_mistake_is_answered_without_the_libraries_that_train_draw_or_record(store: Path) -> None:
    commands = [[str(store) if word == "STORE" else word for word in words] for words in MISTAKES.values()]
    for what, (code, err, loaded) in zip(MISTAKES, answers(commands, HEAVY, store.parent), strict=True):
        assert (what, code, loaded) == (what, 2, [])
        assert err, what
        assert "Traceback" not in err, what
        assert what in ("an option", "a number") or err.count("\n") == 1, err
