"""A check of the user's script, which new processes import: the import must not run the script again."""

from __future__ import annotations

import ast
import multiprocessing
import sys
from pathlib import Path
from types import FrameType, ModuleType

from invact.errors import EnvironmentFault
from invact.process.streams import tell

__all__ = ["GUARD", "check_script", "imports_script"]

GUARD = 'if __name__ == "__main__":'
"""The line under which a script starts processes."""

_DASK_WORKER = "Dask Worker process (from Nanny)"


class _Unguarded(EnvironmentFault, SystemExit):
    """A fault that ends a script in one line and with the exit code of the command, unless it is caught.

    Python prints no traceback for a `SystemExit`. The line names the place in the script, so it has all that
    a traceback would show.
    """

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.code = self.exit_code
        tell(f"invact: {line}")


def check_script() -> None:
    """Refuse a script that the processes to be started would run again, or could not import.

    A process that Python starts anew, such as a worker, imports the script of the process that starts it. So
    the script must be a file, and the call that starts processes must not be part of the import. A notebook,
    an interactive interpreter and `python -m package` have no script to import.

    A call inside any `if` is accepted, because the condition may be false in the new process. If it is true
    there, a Dask worker ends at once when it comes to this check, and the engine reports the same line.

    Raises:
        EnvironmentFault: the script is not a file, or the call is not inside an `if`.
    """
    # Python sets this attribute while a new process imports the script of its parent.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        if multiprocessing.current_process().name == _DASK_WORKER:
            # The parent reports the failed start. More lines from each worker would hide its line.
            raise SystemExit(EnvironmentFault.exit_code)
        raise _Unguarded(f"a process that imports this script starts a training. {_remedy()}")
    if not imports_script():
        return
    main = sys.modules["__main__"]
    script = Path(getattr(multiprocessing.process, "ORIGINAL_DIR", None) or "", main.__file__ or "")
    if not script.is_file():
        raise _Unguarded(
            f"each worker process imports the script that starts it, and {main.__file__!r} is not a file. "
            f"Allowed: a script in a file, with the call under `{GUARD}`"
        )
    line = _unguarded(main, script)
    if line is not None:
        raise _Unguarded(
            f"{script}: each worker process imports this script, and line {line} would run again in each of "
            f"them. {_remedy()}"
        )


def imports_script() -> bool:
    """Return whether a new process imports the script of this process.

    Example:
        >>> import sys, types, unittest.mock
        >>> with unittest.mock.patch.dict(sys.modules, __main__=types.ModuleType("__main__")):
        ...     imports_script()  # as in a notebook
        False
    """
    main = sys.modules["__main__"]
    # These are the rules of `multiprocessing.spawn`.
    name = getattr(main.__spec__, "name", None)
    if name is not None:
        return not (name == "__main__" or name.endswith(".__main__"))
    file = getattr(main, "__file__", None)
    return file is not None and Path(file).stem != "ipython"


def _remedy() -> str:
    return f"Allowed: the call under `{GUARD}`"


def _unguarded(main: ModuleType, script: Path) -> int | None:
    """The line of the script whose import calls this function; None if an `if` may prevent the call."""
    lines = _lines(main, script.name, sys._getframe(1))
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    if not lines or any(_conditional(tree, line) for line in lines):
        return None
    return lines[-1]


def _lines(main: ModuleType, script: str, frame: FrameType | None) -> list[int]:
    """The lines of the script that are being executed, the line of its import last; empty without it."""
    lines = []
    while frame is not None:
        # The name excludes the cells of an interactive interpreter in which a script has run before.
        if Path(frame.f_code.co_filename).name == script and frame.f_globals is main.__dict__:
            lines.append(frame.f_lineno)
            if frame.f_code.co_name == "<module>":
                return lines
        frame = frame.f_back
    return []


def _conditional(tree: ast.AST, line: int) -> bool:
    """Whether a line is inside an `if`, a conditional expression or a `match`, at any level."""
    branches = (ast.If, ast.IfExp, ast.match_case, ast.While, ast.BoolOp, ast.ExceptHandler)
    return any(isinstance(node, branches) and _first(node) <= line <= _last(node) for node in ast.walk(tree))


def _first(node: ast.AST) -> int:
    return min((getattr(each, "lineno", sys.maxsize) for each in ast.walk(node)), default=sys.maxsize)


def _last(node: ast.AST) -> int:
    return max((getattr(each, "end_lineno", 0) or 0 for each in ast.walk(node)), default=0)
