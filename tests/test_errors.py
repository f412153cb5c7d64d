import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invact.arms import ARMS
from invact.claims.keys import ClaimFile
from invact.config import Config
from invact.errors import (
    _SYNONYMS,
    BuildError,
    EnvironmentFault,
    Incomplete,
    InputError,
    InvactError,
    choices,
    one_line,
    one_of,
    within,
)
from invact.search.objectives import Objective
from invact.sweeps.file import SweepFile


@pytest.mark.parametrize(
    ("error", "builtin", "code"),
    [
        (InputError, ValueError, 2),
        (BuildError, InputError, 2),
        (EnvironmentFault, RuntimeError, 3),
        (Incomplete, RuntimeError, 4),
    ],
)
def test_each_error_has_an_exit_code_and_a_builtin_base(error, builtin, code) -> None:
    assert issubclass(error, InvactError)
    assert issubclass(error, builtin)
    assert error.exit_code == code


@given(st.text())
def test_choices_always_names_the_received_and_the_allowed_values(received: str) -> None:
    text = choices(received, ["relu", "inverse"])
    assert repr(received) in text
    assert text.endswith("Allowed: relu, inverse")


@pytest.mark.parametrize(("typo", "meant"), [("rellu", "relu"), ("invers", "inverse"), ("RELU", None)])
def test_a_typo_gets_the_most_similar_name(typo: str, meant: str | None) -> None:
    assert (f"did you mean {meant!r}?" in str(one_of("arm", typo, ["relu", "inverse"]))) == (
        meant is not None
    )


@given(st.text(), st.sampled_from([ValueError, KeyError, OSError, InputError]))
def test_an_error_becomes_one_short_line(text: str, kind: type[Exception]) -> None:
    line = one_line(kind(text))
    assert len(line.splitlines()) <= 1
    assert len(line) < 600


@pytest.mark.parametrize(
    ("other", "meant"),
    [
        ("lr", "learning_rate"),
        ("bs", "batch_size"),
        ("width", "filters"),
        ("act", "activation"),
        ("WD", "weight_decay"),
    ],
)
def test_a_name_of_other_libraries_gets_the_name_of_invact(other: str, meant: str) -> None:
    assert f"did you mean {meant!r}?" in choices(other, Config.model_fields)
    assert "did you mean" not in choices(other, ["relu", "inverse"])


def test_every_synonym_leads_to_a_name_that_exists() -> None:
    names = {
        *Config.model_fields,
        *SweepFile.model_fields,
        *ClaimFile.model_fields,
        *ARMS,
        *Objective.model_fields,
    }
    assert {name for meant in _SYNONYMS.values() for name in meant} <= names


def test_within_adds_the_place_to_input_errors_only() -> None:
    with pytest.raises(InputError, match=r"^a\.toml: key: received 0$"), within("a.toml"), within("key"):
        raise InputError("received 0")
    with pytest.raises(EnvironmentFault, match=r"^no disk$"), within("a.toml"):
        raise EnvironmentFault("no disk")
    with pytest.raises(BuildError, match=r"^a\.toml: too small$"), within("a.toml"):
        raise BuildError("too small")


def test_the_message_of_an_error_in_a_layer_is_what_stands_in_bold() -> None:
    text = (
        "Exception encountered when calling Layer.call().\n\n\x1b[1mtoo\nsmall\x1b[0m\n\nArguments received:"
    )
    assert one_line(ValueError(text)) == "ValueError: too small"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["sweep", "--help"], ["ui", "--help"]])
def test_help_and_version_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; sys.argv = ['invact', *sys.argv[1:]]\n"
        "from invact.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'tensorflow', 'keras', 'mlflow', 'optuna', 'keras_tuner', 'distributed', 'pandas',"
        " 'sklearn', 'matplotlib', 'plotly'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not done.stderr
