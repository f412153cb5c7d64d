"""The seconds until a command answers: mistakes, help, `list`, `front` on a small store, the first training.

Each command runs in a process of its own. The commands take turns, so that other work of the machine slows
all of them. The table has the median and the fastest of the turns, and the processor time of the fastest.

Run: python -m benchmarks.startup [rounds]
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

COMMANDS = {
    "help": ["--help"],
    "a name of no sweep": ["sweep", "no_such"],
    "an unknown key": ["sweep", "digits", "--set", "config.lr=3"],
    "a bad value": ["sweep", "digits", "--trials", "0"],
    "an unknown option": ["sweep", "digits", "--no-such"],
    "a bad value of a claim": ["claim", "digits_claim", "--margin", "0"],
    "a file that is not there": ["cost", "no_such.keras"],
    "a store that is not there": ["front", "small", "--store", "no_such"],
    "a name of no record": ["front", "no_such"],
    "list": ["list"],
    "front, csv and json": ["front", "small", "--format", "csv,json"],
    "front": ["front", "small"],
}
TRAININGS = {
    "first training of a sweep": ["sweep", "digits"],
    "first training of a claim": ["claim", "digits_claim"],
}
"""These end at the first training. Their processor time includes that of the workers and of the end."""

SWEEP = """
space = "space.toml"
data = "digits"
trials = 2
objective = { kind = "pareto" }
[config]
model = "mlp"
epochs = 1
"""
SPACE = """
[parameters]
activation = { choices = ["relu", "inverse"] }
"""


def run(arguments: Sequence[str], folder: Path) -> tuple[float, float]:
    """Run a command and return its seconds, of the clock and of the processor."""
    before, start = os.times(), time.perf_counter()
    command = [sys.executable, "-m", "invact", *arguments]
    subprocess.run(command, cwd=folder, capture_output=True, check=False)
    seconds, after = time.perf_counter() - start, os.times()
    return seconds, sum(after[2:4]) - sum(before[2:4])


def until_training(arguments: Sequence[str], folder: Path) -> tuple[float, float]:
    """Run a command until its first training starts, and return its seconds, as `run` does.

    The line that says how many workers there are is printed when the first training is sent to a worker.
    """
    shutil.rmtree(folder / "mlruns", ignore_errors=True)
    before, start = os.times(), time.perf_counter()
    command = [sys.executable, "-m", "invact", *arguments]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if re.search(r" \d+ workers$", line):
                break
        seconds = time.perf_counter() - start
        process.send_signal(signal.SIGINT)
        process.communicate()
    after = os.times()
    return seconds, sum(after[2:4]) - sum(before[2:4])


def in_turns(
    commands: Sequence[Sequence[str]], rounds: int, take: Callable[[Sequence[str]], tuple[float, float]]
) -> list[list[tuple[float, float]]]:
    """Run each command once in each round, after a first round that is not counted."""
    turns = [[take(command) for command in commands] for _ in range(rounds + 1)]
    return [list(column) for column in zip(*turns[1:], strict=True)]


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "space.toml").write_text(SPACE)
        (folder / "small.toml").write_text(SWEEP)
        subprocess.run(
            [sys.executable, "-m", "invact", "sweep", "small.toml", "--workers", "1"],
            cwd=folder,
            capture_output=True,
            check=True,
        )
        found = in_turns(list(COMMANDS.values()), rounds, lambda arguments: run(arguments, folder))
        found += in_turns(list(TRAININGS.values()), rounds, lambda each: until_training(each, folder))
    finally:
        shutil.rmtree(folder)
    print(f"{'':26} {'median':>8} {'fastest':>8} {'processor':>10}")
    for name, turns in zip((*COMMANDS, *TRAININGS), found, strict=True):
        clock = [seconds for seconds, _ in turns]
        print(
            f"{name:26} {statistics.median(clock):6.2f} s {min(clock):6.2f} s {min(turns)[1]:8.2f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
