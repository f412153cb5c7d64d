"""Standard streams that are full or closed, or that nobody reads."""

import contextlib
import errno
import io
import os
import subprocess
import sys

import pytest

from invact.execution.display.progress import make_progress
from invact.execution.display.stages import track
from invact.process.quiet import load_tensorflow
from invact.process.streams import is_terminal, steady_output, tell
from invact.sweeps.file import load_sweep
from invact.sweeps.run import run_sweep
from invact.training.results import Status

INVACT = f"{sys.executable} -m invact"
FULL = "invact: standard output: cannot be written: No space left on device\n"
CLOSED = "invact: standard output: closed. Allowed: a terminal, a file, a pipe or /dev/null\n"


def shell(command: str, **env: str) -> subprocess.CompletedProcess[str]:
    # Python writes at once in some environments, and only at the end in others.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"} | env
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "code", "err"),
    [
        (f"{INVACT} --help > /dev/full", 3, FULL),
        (f"{INVACT} list --json > /dev/full", 3, FULL),
        (f"{INVACT} list > /dev/full", 3, FULL),
        (f"{INVACT} --help >&-", 3, CLOSED),
        (f"{INVACT} --help >&- 2>&-", 3, ""),
        (f"{INVACT} --help > /dev/full 2> /dev/full", 3, ""),
        (f"{INVACT} sweep no_such 2> /dev/full", 2, ""),
        (f"{INVACT} sweep no_such 2>&-", 2, ""),
        (f"{INVACT} --no-such 2>&-", 2, ""),
        (f"{INVACT} --help <&-", 0, ""),
        (f"{INVACT} list --json 2>&- | tail -1", 0, ""),
        # A reader that stops is no failure.
        (f"{INVACT} list --json | true", 0, ""),
        (f"{INVACT} list | true", 0, ""),
    ],
)
def test_a_stream_that_fails_takes_one_line(folder, command: str, code: int, err: str) -> None:
    done = shell(command)
    assert (done.returncode, done.stderr) == (code, err)


@pytest.mark.parametrize("env", [{"PYTHONUNBUFFERED": "1"}, {"PYTHONIOENCODING": "ascii"}])
def test_the_kind_of_the_stream_does_not_matter(folder, env: dict[str, str]) -> None:
    done = shell(f"{INVACT} list --json > /dev/full", **env)
    assert (done.returncode, done.stderr) == (3, FULL)


def test_a_script_with_a_closed_standard_error_still_works() -> None:
    code = (
        "import sys\n"
        "from invact.execution.display.progress import LineProgress, make_progress\n"
        "from invact.process.quiet import silent_stderr\n"
        "with silent_stderr(), make_progress(3) as progress:\n"
        "    progress.message('lost')\n"
        "print(type(progress).__name__)\n"
    )
    for redirect in ("2>&-", "2> /dev/full"):
        done = shell(f"{sys.executable} - {redirect} <<'END'\n{code}END")
        # Python itself ends with 120 if standard error still has something to write.
        assert (done.stdout, done.stderr) == ("LineProgress\n", "")
        assert done.returncode in ((0,) if redirect == "2>&-" else (0, 120))


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("stream", [None, Full()])
def test_a_sweep_runs_to_its_end_without_standard_error(
    write, stand_in, monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None
) -> None:
    sweep = load_sweep(write(), {"trials": 1})
    load_tensorflow()  # It would keep the stream for its log.
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", stream)
        result = run_sweep(sweep, store="store")
    assert result.count(Status.FINISHED) == 1


@pytest.mark.parametrize("stream", [None, Full(), io.StringIO()])
def test_a_message_that_cannot_be_written_is_lost(monkeypatch: pytest.MonkeyPatch, capfd, stream) -> None:
    if type(stream) is io.StringIO:
        stream.close()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", stream)
        tell("lost")
        assert not is_terminal()
        with make_progress(2) as progress:
            progress.message("lost")
        assert list(track([1, 2], "lost")) == [1, 2]
    assert capfd.readouterr() == ("", "")


def test_a_stream_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr("sys.stdout", written)
    with contextlib.suppress(KeyError), steady_output():
        print("one")
        raise KeyError
    assert sys.stdout is written
    assert written.getvalue() == "one\n"
