import subprocess
import sys

import pytest

from invact.quiet import stdout_to_stderr

PRINTS = """
import ctypes, os, subprocess, sys
from invact.quiet import stdout_to_stderr
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
    code = "from invact.quiet import stdout_to_stderr\nwith stdout_to_stderr():\n    print('building')"
    done = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -c "$0" >&-', code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "building\n")
