"""A script that its workers would run again, or cannot import, is refused at once and in one line."""

import subprocess
import sys
from pathlib import Path

import pytest
import warm

CHECK = "from invact.process.spawning import check_script\n"


def python(*arguments: object, text: str | None = None, cwd: Path | None = None):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        input=text,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def one_line_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("invact: ")
    assert not done.stdout
    return done.stderr


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("check_script()", 2),
        ("for seed in [0]:\n    check_script()", 3),
        ("def run():\n    check_script()\n\nrun()", 5),
        ("import sys\nif not sys.argv:\n    pass\nelse:\n    pass\ncheck_script()", 7),
        ("with open(__file__):\n    try:\n        check_script()\n    finally:\n        pass", 4),
    ],
)
def test_a_call_that_a_worker_would_repeat_is_refused(folder: Path, text: str, line: int) -> None:
    (folder / "script.py").write_text(CHECK + text)
    words = one_line_of(python("script.py", cwd=folder))
    assert f"line {line} would run again" in words
    assert 'Allowed: the call under `if __name__ == "__main__":`' in words


@pytest.mark.parametrize(
    "text",
    [
        'if __name__ == "__main__":\n    check_script()',
        'if __name__ != "__main__":\n    pass\nelse:\n    check_script()',
        'def run():\n    if __name__ == "__main__":\n        check_script()\n\nrun()',
        "import multiprocessing\nif multiprocessing.parent_process() is None:\n    check_script()",
        'def run():\n    check_script()\n\nif __name__ == "__main__":\n    run()',
        "import threading\nthread = threading.Thread(target=check_script)\nthread.start()",
    ],
)
def test_a_call_that_may_be_guarded_is_accepted(folder: Path, text: str) -> None:
    (folder / "script.py").write_text(CHECK + text)
    done = python("script.py", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_module_is_a_script_too_but_a_package_is_not_imported_again(folder: Path) -> None:
    (folder / "package").mkdir()
    for name in ("__init__", "__main__", "module"):
        (folder / "package" / f"{name}.py").write_text("" if name == "__init__" else f"{CHECK}check_script()")
    assert python("-m", "package", cwd=folder).returncode == 0
    assert "line 2 would run again" in one_line_of(python("-m", "package.module", cwd=folder))


def test_a_script_from_standard_input_is_refused_and_an_interpreter_is_not(folder: Path) -> None:
    words = one_line_of(python("-", text=f"{CHECK}check_script()"))
    assert "'<stdin>' is not a file. Allowed: a script in a file" in words
    assert python("-c", f"{CHECK}check_script()").returncode == 0
    # As in a notebook: `__main__` has no file.
    assert python("-i", "-q", text=f"{CHECK}check_script()\n").returncode == 0


def test_a_process_that_imports_the_script_ends_there(folder: Path) -> None:
    text = (
        "import multiprocessing, sys\n"
        "if len(sys.argv) < 2:\n"
        "    check_script()\n"
        "    process = multiprocessing.get_context('spawn').Process(target=print, name=NAME)\n"
        "    process.start()\n"
        "    process.join()\n"
        "    sys.exit(process.exitcode)\n"
    )
    path = folder / "script.py"
    path.write_text(CHECK + text.replace("NAME", "'mine'"))
    assert "a process that imports this script starts a training" in one_line_of(python(path))
    # The coordinator reports the failed start of a Dask worker, so the worker says nothing.
    path.write_text(CHECK + text.replace("NAME", "'Dask Worker process (from Nanny)'"))
    done = python(path)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


def test_a_caught_refusal_is_an_environment_fault() -> None:
    text = (
        f"from invact import EnvironmentFault\n{CHECK}"
        "try:\n    check_script()\nexcept EnvironmentFault as fault:\n    print(fault.exit_code, fault)\n"
    )
    done = python("-", text=text)
    assert done.returncode == 0
    assert done.stdout.startswith("3 each worker")


@pytest.mark.parametrize(
    "call",
    [
        "run_sweep('./tiny.toml', store='store')",
        "run_claim('digits_claim', store='store')",
        "confirm_front('tiny', 2, store='store')",
        "measure_latency({}, 1)",
    ],
)
def test_everything_that_starts_processes_is_refused_before_it_begins(folder: Path, write, call: str) -> None:
    write()
    name = call.partition("(")[0]
    (folder / "script.py").write_text(f"from invact import {name}\n{call}\n")
    words = one_line_of(warm.run([folder / "script.py"], cwd=folder))
    assert "script.py: each worker process imports this script, and line 2 would run again" in words
    assert not (folder / "store").exists()
