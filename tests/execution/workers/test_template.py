import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from invact.execution.workers.engine import in_advance
from invact.process.noise import EXTRAS

ROOT = Path(__file__).parents[3]

# The template of a process that has no other, in a folder with a file that would hide a library.
SCRIPT = """
import contextlib, multiprocessing, sys
from invact.execution.workers.template import METHOD, start_template

NAMES = [*sys.argv[1:], "tensorflow", "keras", "distributed.nanny", "invact.training.loop", "mlflow"]

def found():
    import signal
    from tensorflow.python.eager import context
    loaded = sorted(name for name in NAMES if name in sys.modules)
    return loaded, signal.getsignal(signal.SIGINT) is signal.SIG_IGN, context.context()._initialized

if __name__ == "__main__":
    with contextlib.ExitStack() as resources:
        start_template(resources)
        start_template(resources)
        with multiprocessing.get_context(METHOD).Pool(1) as pool:
            print(pool.apply(found))
    print("closed")
"""


@pytest.mark.slow
def test_a_worker_of_the_template_has_imported_what_a_training_needs_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "keras.py").write_text("raise SystemExit('a file of the user hides a library')")
    (tmp_path / "script").mkdir()
    script = tmp_path / "script" / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script, *EXTRAS],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    loaded = ["distributed.nanny", "invact.training.loop", "keras", "tensorflow"]
    assert done.stdout == f"{(loaded, True, False)}\nclosed\n"


def test_an_engine_that_starts_in_advance_is_closed_with_its_error_or_without(tmp_path: Path) -> None:
    seen = []

    class Engine:
        def __enter__(self):
            time.sleep(0.05)
            seen.append("open")
            return self

        def __exit__(self, *error):
            seen.append("closed")

    with contextlib.ExitStack() as resources:
        engine = in_advance(resources, lambda: resources.enter_context(Engine()))
        assert engine() is engine()
    assert seen == ["open", "closed"]
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as resources:
        in_advance(resources, lambda: resources.enter_context(Engine()))
        raise KeyboardInterrupt
    assert seen == ["open", "closed"] * 2
    with contextlib.ExitStack() as resources:
        engine = in_advance(resources, lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine()
