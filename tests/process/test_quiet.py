"""TensorFlow is loaded only if Keras uses it; otherwise the answer is one line, before anything else."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import invact
from invact.errors import EnvironmentFault
from invact.process.quiet import check_backend, load_tensorflow, stdout_to_stderr, warn


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A process in which nobody has loaded Keras, with a home of its own and an empty Keras."""
    monkeypatch.delitem(sys.modules, "keras")
    (tmp_path / "keras.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("KERAS_BACKEND", "KERAS_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def settings(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "keras.json").write_text(text)
    return folder / "keras.json"


@pytest.mark.parametrize("name", ["jax", "torch", "openvino", "nonsense"])
def test_another_backend_in_the_environment_is_refused(name: str, fresh: Path, monkeypatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", name)
    with pytest.raises(EnvironmentFault) as fault:
        load_tensorflow()
    assert str(fault.value).startswith(f"KERAS_BACKEND: received {name!r}. Allowed: 'tensorflow'")


@pytest.mark.parametrize("variable", [None, "KERAS_HOME"])
def test_another_backend_in_a_file_is_refused_unless_the_environment_says_otherwise(
    variable: str | None, fresh: Path, monkeypatch
) -> None:
    folder = fresh / ".keras" if variable is None else fresh / "other"
    if variable:
        monkeypatch.setenv(variable, str(folder))
    path = settings(folder, '{"backend": "jax"}')
    with pytest.raises(EnvironmentFault, match=f"{path}: backend: received 'jax'"):
        load_tensorflow()
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    load_tensorflow()


@pytest.mark.parametrize(
    "text", ["{}", "[]", "not JSON", '{"floatx": "float16"}', '{"backend": "tensorflow"}']
)
def test_a_file_that_names_no_other_backend_is_no_fault(text: str, fresh: Path) -> None:
    settings(fresh / ".keras", text)
    load_tensorflow()


def test_settings_that_keras_refuses_are_an_error_of_one_line(fresh: Path) -> None:
    text = "Invalid `floatx` configuration. Received: floatx=bfloat16"
    (fresh / "keras.py").write_text(f"raise ValueError({text!r})")
    with pytest.raises(EnvironmentFault) as fault:
        load_tensorflow()
    place = fresh / ".keras" / "keras.json"
    assert str(fault.value) == (
        f"{place}, or a variable KERAS_...: a value that Keras refuses (ValueError: {text})"
    )


def test_the_backend_that_keras_uses_counts(monkeypatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    load_tensorflow()
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    with pytest.raises(EnvironmentFault, match="the backend of Keras: received 'torch'"):
        load_tensorflow()


def test_the_command_answers_in_one_line_before_anything_else(tmp_path: Path) -> None:
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-m", "invact", "cost", "digits_claim"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1), done.stderr
    assert done.stderr.startswith("invact: KERAS_BACKEND: received 'jax'. Allowed: 'tensorflow'")


def test_a_warning_is_one_line(capsys) -> None:
    warn("two\nlines")
    assert capsys.readouterr() == ("", "invact: warning: two lines\n")


@pytest.mark.parametrize(
    "call",
    [
        "run_sweep('digits')",
        "run_claim('digits_claim')",
        "plan_claim('digits_claim')",
        "confirm_front('digits', 3)",
        "measure_latency({})",
        "train(Config(), 0, None)",
    ],
)
def test_functions_that_need_tensorflow_refuse_before_they_do_anything(call: str, monkeypatch) -> None:
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(EnvironmentFault, match="the backend of Keras: received 'jax'"):
        eval(call, {name: getattr(invact, name) for name in [*invact.__all__]})
    with pytest.raises(EnvironmentFault):
        check_backend()


PRINTS = """
import ctypes, os, subprocess, sys
from invact.process.quiet import stdout_to_stderr
stream = sys.stdout
print("before")
with stdout_to_stderr():
    print("from Python")
    print("to the stream that a module has kept", file=stream)
    os.write(1, b"to the descriptor\\n")
    ctypes.CDLL(None).printf(b"from C\\n")
    subprocess.run([sys.executable, "-c", "print('from a process')"], check=True)
print("after")
"""


def test_everything_that_is_printed_in_the_block_goes_to_standard_error() -> None:
    done = subprocess.run([sys.executable, "-c", PRINTS], capture_output=True, text=True, check=True)
    assert done.stdout == "before\nafter\n"
    assert sorted(done.stderr.splitlines()) == [
        "from C",
        "from Python",
        "from a process",
        "to the descriptor",
        "to the stream that a module has kept",
    ]


def test_standard_output_is_restored_after_an_error(capfd) -> None:
    with pytest.raises(KeyError), stdout_to_stderr():
        raise KeyError("x")
    print("after")
    assert capfd.readouterr().out == "after\n"


def test_a_closed_standard_output_does_no_harm() -> None:
    code = (
        "from invact.process.quiet import stdout_to_stderr\nwith stdout_to_stderr():\n    print('building')"
    )
    done = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -c "$0" >&-', code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "building\n")
