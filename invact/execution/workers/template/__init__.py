"""The template: a process that has imported what a training needs, and from which all workers are forked.

It is the server of Python's start method `forkserver`. It imports TensorFlow once for all workers of this
machine, at the same time as the coordinator imports its own libraries, and the workers share its memory.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import sys

import psutil  # type: ignore[import-untyped]

__all__ = ["METHOD", "start_template"]

METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""How workers are started. A fork after such imports is safe on Linux; it is not on macOS."""


def start_template(resources: contextlib.ExitStack) -> None:
    """Start the template, and return at once; do nothing if it runs, or if workers are not forked here.

    Args:
        resources: stops the template, because after an error nobody waits until it has imported everything.
    """
    if METHOD != "forkserver" or _servers():
        return
    from multiprocessing import forkserver

    multiprocessing.set_forkserver_preload([f"{__name__}.__main__"])
    forkserver.ensure_running()
    for process in _servers():
        resources.callback(_stop, process)


def _servers() -> list[psutil.Process]:
    """The fork servers of this process; there is at most one."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any("multiprocessing.forkserver" in part for part in child.cmdline()):
                found.append(child)
    return found


def _stop(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error):
        process.kill()
