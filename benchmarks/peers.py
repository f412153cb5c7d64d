"""The same list of trainings with invact and with the libraries that people use today, side by side.

The list is the network `cnn` with ReLU and with inverse activation, at each of some numbers of filters, with
the same images (all of Fashion-MNIST), epochs, batch and optimizer. Each system runs in a process tree of its
own on the same processors. The systems take turns in each round, and each round starts with another system,
so that other work of the machine slows all of them. The scripts are in `benchmarks/peer_scripts.py`.

With `--prune`, trainings are stopped early: by invact's pruner, and by the pruners of Optuna and Ray Tune,
which know the accuracy alone. The table then has the seconds to a hypervolume that all systems reach.

Keras Tuner and Ray Tune need packages that invact does not need, so they have an environment of their own:
    python3 -m venv peers
    peers/bin/pip install "ray[tune]>=2.60" "tensorflow==2.21.*" "optuna==5.*" "mlflow==3.17.*" \
        "keras-tuner==1.4.8" tensorboard six

Run: python -m benchmarks.peers --python peers/bin/python [--rounds 3] [--epochs 2] [--prune]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.peer_scripts import ACTIVATIONS, BATCH, RATE, Task
from invact.config import Config
from invact.data.dataset import Dataset, load
from invact.execution.usage import sgemm_peak
from invact.measures import training_flop
from invact.process.processors import allowed_processors
from invact.statistics.fronts.dominance import hypervolume
from invact.tracking.store import open_store
from invact.tracking.table import CONFIG_JSON, METRICS, SEED, STATUS, tagged
from invact.training.results import Status

SYSTEMS: Mapping[str, str] = {
    "optuna": "Optuna, one process",
    "optuna_processes": "Optuna, two processes",
    "keras_tuner": "Keras Tuner, autologging",
    "ray": "Ray Tune, Optuna search",
    "invact": "invact",
}
PRUNERS = ("optuna_processes", "ray", "invact")
FILTERS = (8, 12, 16, 20, 24, 32)
FILE = """
space = "space.toml"
data = "{data}"
objective = {{ kind = "pareto" }}
sampler = "grid"
trials = {trials}
seeds = [{seed}]
{pruner}
[config]
model = "cnn"
epochs = {epochs}
batch_size = {batch}
learning_rate = {rate}
schedule = "constant"
"""
SPACE = """
[parameters]
activation = {{ choices = {activations} }}
filters = {{ choices = {filters} }}
"""


@dataclass(frozen=True)
class Result:
    """A configuration that a system has finished: its cost, its scores, and the seconds since the command."""

    macs: int
    epochs: int
    validation_accuracy: float
    test_accuracy: float
    seconds: float


@dataclass(frozen=True)
class Race:
    """One run of one system: its results, the seconds until its command ended, and its peak memory in GiB."""

    results: tuple[Result, ...]
    end: float
    memory: float

    @property
    def seconds(self) -> float:
        """Seconds from the command to the last result."""
        return max(one.seconds for one in self.results)


def command_of(system: str, task: Task, python: str, data: str) -> list[str]:
    """The command that trains the list, with the files that it reads."""
    if system != "invact":
        return [python, str(Path(__file__).with_name("peer_scripts.py")), system, *task.arguments()]
    pruner = 'pruner = "successive_halving"' if task.prune else ""
    trials = len(task.configurations)
    values = {
        "trials": trials,
        "seed": task.seed,
        "epochs": task.epochs,
        "batch": BATCH,
        "rate": RATE,
        "data": data,
    }
    (task.folder / "peers.toml").write_text(FILE.format(**values, pruner=pruner))
    lists = {"activations": json.dumps(ACTIVATIONS), "filters": json.dumps(task.filters)}
    (task.folder / "space.toml").write_text(SPACE.format(**lists))
    file, store = task.folder / "peers.toml", task.folder / "store"
    return [sys.executable, "-m", "invact", "sweep", str(file), "--store", str(store)]


def results_of(system: str, task: Task, start: float, costs: Mapping[tuple[str, int], int]) -> list[Result]:
    """Read what a system has written; `start` is the time of its command."""
    if system == "invact":
        return invact_results(task.folder / "store", start)
    lines = (task.folder / "results.jsonl").read_text().splitlines()
    return [
        Result(
            costs[one["activation"], one["filters"]],
            one["epochs"],
            one["validation_accuracy"],
            one["test_accuracy"],
            one["at"] - start,
        )
        for one in map(json.loads, lines)
    ]


def invact_results(store: Path, start: float) -> list[Result]:
    """Read the finished runs of invact's store."""
    runs = open_store(store, read_only=True).runs
    finished = runs.search(list(runs.experiments()), tagged(STATUS, Status.FINISHED.value))
    return [
        Result(
            int(one.data.metrics[METRICS["macs"]]),
            json.loads(one.data.tags[CONFIG_JSON])["epochs"],
            one.data.metrics[METRICS["validation_accuracy"]],
            one.data.metrics[METRICS["test_accuracy"]],
            one.info.end_time / 1000 - start,
        )
        for one in finished
        if SEED in one.data.tags
    ]


def race(system: str, task: Task, python: str, data: str, costs: Mapping[tuple[str, int], int]) -> Race:
    """Run one system in a process tree of its own and watch the memory of the tree."""
    command, log = command_of(system, task, python, data), task.folder / "log"
    with log.open("w") as output, memory_of() as peak:
        start = time.time()
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, cwd=task.folder, env=environment()
        )
        peak.pid = process.pid
        if process.wait():
            raise SystemExit(f"{system}: exit code {process.returncode}\n{log.read_text()[-3000:]}")
        end = time.time() - start
    return Race(tuple(results_of(system, task, start, costs)), end, peak.highest / 2**30)


def environment() -> dict[str, str]:
    """The environment of all systems: no messages of TensorFlow, and no telemetry of MLflow."""
    root = str(Path(__file__).parents[1])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_DISABLE_TELEMETRY": "true", "RAY_AUTH_MODE": "disabled"}
    return {**os.environ, **quiet, "PYTHONPATH": paths}


class Peak:
    """The highest memory of a process tree so far, in bytes. Shared pages count once (PSS)."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self.highest = 0

    def look(self) -> None:
        """Measure once."""
        total = 0
        with contextlib.suppress(psutil.NoSuchProcess):
            if self.pid is not None:
                parent = psutil.Process(self.pid)
                for one in (parent, *parent.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        total += one.memory_full_info().pss
        self.highest = max(self.highest, total)


@contextlib.contextmanager
def memory_of() -> Iterator[Peak]:
    """Watch a process tree from a thread, once a second."""
    peak, ended = Peak(), threading.Event()

    def watch() -> None:
        while not ended.wait(1):
            peak.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def costs_of(filters: Sequence[int], data: Dataset) -> dict[tuple[str, int], int]:
    """Count the MACs of each network of the list."""
    from invact.networks.widths import network_cost

    return {
        (activation, count): network_cost(
            Config(activation=activation, filters=count), data.input_shape, data.classes
        ).macs
        for activation in ACTIVATIONS
        for count in filters
    }


def work_of(results: Sequence[Result], data: Dataset) -> float:
    """The floating-point operations of the results, two for each MAC; an evaluation is one forward pass."""
    seen = len(data.x_validation)
    return sum(
        training_flop(one.macs, one.epochs * len(data.x_train))
        + 2.0 * one.macs * (one.epochs * seen + len(data.x_test))
        for one in results
    )


def time_to(results: Sequence[Result], volume: float, reference: tuple[float, float]) -> float:
    """The seconds until the finished results dominate a hypervolume; infinite if they never do."""
    known: list[Result] = []
    for one in sorted(results, key=lambda one: one.seconds):
        known.append(one)
        if volume_of(known, reference) >= volume:
            return one.seconds
    return float("inf")


def volume_of(results: Sequence[Result], reference: tuple[float, float]) -> float:
    """The hypervolume of results by validation accuracy and MACs."""
    return hypervolume([one.validation_accuracy for one in results], [one.macs for one in results], reference)


def table(races: Mapping[str, Sequence[Race]], data: Dataset, trainings: int) -> list[str]:
    """One row for each system: medians over the rounds, and ratios to invact within each round."""
    peak = 1e9 * sgemm_peak() * len(allowed_processors())
    rows = [
        f"{'':26} {'seconds':>8} {'ratio':>6} {'to prompt':>9} {'per hour':>8} {'GFLOP/s':>8} {'of peak':>8} "
        f"{'GiB':>5} {'test accuracy':>14}"
    ]
    for system, each in races.items():
        seconds = [one.seconds for one in each]
        ratios = [one.seconds / ours.seconds for one, ours in zip(each, races["invact"], strict=True)]
        speed = statistics.median(work_of(one.results, data) / one.seconds for one in each)
        means = [statistics.mean(result.test_accuracy for result in one.results) for one in each]
        middle = statistics.median(seconds)
        rows.append(
            f"{SYSTEMS[system]:26} {middle:8.1f} {statistics.median(ratios):5.2f}x "
            f"{statistics.median(one.end for one in each):9.1f} {3600 * trainings / middle:8.0f} "
            f"{speed / 1e9:8.1f} {speed / peak:8.1%} {max(one.memory for one in each):5.1f} "
            f"{statistics.mean(means):8.2%} {np.ptp(means):5.2%}"
        )
    rows.append(f"peak of sgemm with all processors: {peak / 1e9:.0f} GFLOP/s")
    return rows


def pruned_table(races: Mapping[str, Sequence[Race]]) -> list[str]:
    """One row for each system: the seconds to the hypervolume that all systems of a round reach."""
    rows = [f"{'':26} {'seconds':>8} {'ratio':>6} {'finished':>9} {'all seconds':>12}"]
    most = max(one.macs for each in races.values() for run in each for one in run.results)
    reference = (0.0, 1.01 * most)
    goals = [
        min(volume_of(one.results, reference) for one in turn) for turn in zip(*races.values(), strict=True)
    ]
    ours = [time_to(one.results, goal, reference) for one, goal in zip(races["invact"], goals, strict=True)]
    for system, each in races.items():
        seconds = [time_to(one.results, goal, reference) for one, goal in zip(each, goals, strict=True)]
        ratios = [one / mine for one, mine in zip(seconds, ours, strict=True)]
        finished = statistics.median(len(one.results) for one in each)
        rows.append(
            f"{SYSTEMS[system]:26} {statistics.median(seconds):8.1f} {statistics.median(ratios):5.2f}x "
            f"{finished:9.0f} {statistics.median(one.end for one in each):12.1f}"
        )
    return rows


def export(data: Dataset, folder: Path) -> None:
    """Write the arrays that the scripts of the others read."""
    splits = {
        f"{kind}_{split}": getattr(data, f"{kind}_{split}")
        for kind in "xy"
        for split in ("train", "validation", "test")
    }
    np.savez(folder / "data.npz", highest=data.pixel_range[1], **splits)


def run(
    systems: Sequence[str],
    data: Dataset,
    *,
    python: str,
    rounds: int,
    epochs: int,
    filters: Sequence[int],
    prune: bool,
) -> dict[str, list[Race]]:
    """Run the systems in turns and return their races, by system."""
    work = Path(tempfile.mkdtemp())
    races: dict[str, list[Race]] = {system: [] for system in systems}
    costs = costs_of(filters, data)
    try:
        export(data, work)
        for number in range(rounds):
            turn = number % len(systems)
            for system in (*systems[turn:], *systems[:turn]):
                folder = work / f"{system}-{number}"
                folder.mkdir()
                (folder / "data.npz").symlink_to(work / "data.npz")
                task = Task(folder, tuple(filters), epochs, number, prune)
                races[system].append(found := race(system, task, python, data.name, costs))
                print(
                    f"round {number + 1}, {SYSTEMS[system]}: {found.seconds:.1f} s",
                    file=sys.stderr,
                    flush=True,
                )
    finally:
        shutil.rmtree(work)
    return races


def main(arguments: Sequence[str] | None = None, data: Dataset | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the other systems")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="names, joined by commas")
    parser.add_argument("--data", default="fashion_mnist")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--filters", default=",".join(map(str, FILTERS)))
    parser.add_argument("--prune", action="store_true")
    given = parser.parse_args(arguments)
    filters = tuple(map(int, given.filters.split(",")))
    systems = [one for one in given.systems.split(",") if not given.prune or one in PRUNERS]
    data = load(given.data)
    options: dict[str, Any] = {"rounds": given.rounds, "epochs": given.epochs, "prune": given.prune}
    races = run(systems, data, python=given.python, filters=filters, **options)
    trainings = len(ACTIVATIONS) * len(filters)
    print(f"{trainings} trainings of {given.epochs} epochs, medians of {given.rounds} rounds")
    print("\n".join(pruned_table(races) if given.prune else table(races, data, trainings)))


if __name__ == "__main__":
    main()
