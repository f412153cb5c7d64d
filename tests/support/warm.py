"""Child processes that have TensorFlow from the start, because loading it takes longer than most tests.

They are forked from a server that has imported libraries and done nothing else. A test of which libraries an
import loads, or of another backend, starts a process of its own.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import types
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

import dask
import pytest
from distributed import utils


@functools.cache
def context() -> multiprocessing.context.ForkServerContext:
    """Start the server, whose processes have what it has imported. The workers of Dask come from it, too."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preloaded"])
    dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
    # Dask would replace the list of modules.
    utils._forkserver_preload_set = True
    with pytest.MonkeyPatch.context() as patch:
        # The server ignores an import that fails, and it looks only here.
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, Path(__file__).resolve().parents[:3:2])))
        forkserver.ensure_running()
    return context


def start(
    arguments: Sequence[object],
    out: Path,
    err: Path,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> BaseProcess:
    """Start `python arguments...` in a session of its own; the output goes to files.

    The arguments are `-c CODE ...`, `-m MODULE ...` or `SCRIPT ...`.
    """
    target = list(map(str, arguments)), out, err, cwd or Path.cwd(), dict(os.environ if env is None else env)
    for path in (out, err):
        path.touch()
    process = context().Process(target=_run, args=target)
    process.start()
    return process


def run(
    arguments: Sequence[object],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Do what `subprocess.run` does with a list that starts with `sys.executable`; capture the output."""
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = start(arguments, out, err, cwd=cwd, env=env)
        process.join(timeout)
        if (code := process.exitcode) is None:
            process.kill()
            process.join()
            raise AssertionError(f"{arguments}: no end in {timeout} s\n{out.read_text()}\n{err.read_text()}")
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())


def _run(arguments: list[str], out: Path, err: Path, cwd: Path, env: dict[str, str]) -> None:
    for path, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), descriptor)
    os.setsid()
    # A test run in the background of a shell ignores this signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    kind, *rest = arguments
    if kind in ("-c", "-m"):
        sys.path.insert(0, "")
    if kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), vars(sys.modules["__main__"]))
    else:
        sys.argv = arguments
        runpy.run_path(kind, run_name="__main__")
