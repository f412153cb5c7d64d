import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from invact.config import Config
from invact.process.noise import own_warnings

ROOT = Path(__file__).parents[2]
LOAD = "from invact.process import quiet; quiet.load_tensorflow()"
LOUD = """
import os, sys
print("a start message of Python", file=sys.stderr)
os.write(2, b"a start message of C\\n")
{end}
"""


def fresh(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process in which nothing is loaded."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    env["PYTHONPATH"] = os.pathsep.join(map(str, (*paths, ROOT)))
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("code", ["import invact, tensorflow", LOAD])
def test_start_messages_are_hidden_and_later_ones_are_not(tmp_path: Path, code: str) -> None:
    (tmp_path / "tensorflow.py").write_text(LOUD.format(end=""), encoding="utf-8")
    (tmp_path / "keras.py").touch()
    done = fresh(f"{code}; import os; os.write(2, b'later')", tmp_path)
    assert (done.returncode, done.stderr) == (0, "later")


def test_an_error_while_tensorflow_is_loaded_is_seen(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text(LOUD.format(end="raise ImportError('no AVX')"), encoding="utf-8")
    done = fresh("import invact, tensorflow", tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ImportError: no AVX"
    assert "start message of C" not in done.stderr


@pytest.mark.slow
def test_tensorflow_itself_is_silent() -> None:
    done = fresh("import invact, keras; keras.random.normal((2, 2)); invact.train")
    assert (done.returncode, done.stderr) == (0, "")


def test_networks_that_follow_each_other_are_not_reported_as_retracing(digits) -> None:
    from invact.training.loop import train

    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    try:
        for filters in range(1, 6):
            train(Config(model="mlp", filters=filters, depth=1, epochs=1), 0, digits)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert not logged


def test_warnings_of_libraries_are_hidden_and_those_of_users_are_shown(tmp_path: Path) -> None:
    shown: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *details: shown.append(str(message))
        own_warnings()
        once = warnings.showwarning
        own_warnings()
        assert warnings.showwarning is once
        for name, file in {
            "of a library": np.__file__,
            "of the standard library": os.__file__,
            "of invact": str(ROOT / "invact" / "process" / "quiet.py"),
            "of a user": str(tmp_path / "my_arms.py"),
        }.items():
            warnings.warn_explicit(name, UserWarning, file, 1)
        assert shown == ["of a user"]
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="raised"):
            warnings.warn_explicit("raised", UserWarning, np.__file__, 1)
