"""A store of many runs: what coordination, `front`, `list` and resume cost at 100 and at 10,000 runs.

The trainings are made up, and everything else is real: search, coordinator, lease, MLflow, and the commands.

    python -m benchmarks.scale [--runs 100 10000] [--epochs 3] [--sampler random] [--repeats 3]

The first table has the time of one trial while the store grows, in windows of as many trials as the smallest
number of runs: the trainings cost nothing, so this is coordination. The second one has the commands on stores
of each size. The third one has the samplers alone: the time of a proposal after that many results.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]

from benchmarks.machine import machine
from invact.config import Config
from invact.cost.count import Cost, LayerCost
from invact.data.dataset import Dataset
from invact.execution.agenda import Ended, Trial
from invact.execution.coordinator import Coordinator
from invact.execution.display.progress import Progress
from invact.execution.schedule import Worker
from invact.execution.workers.engine import EpochDone, Job, JobDone
from invact.files import read_text
from invact.measures import Costs
from invact.search.drivers import Outcome, make_driver
from invact.search.gate import Gate
from invact.search.search import Search
from invact.seeding import derive_seed
from invact.sweeps.file import Sweep, load_sweep
from invact.sweeps.recorded import SETTINGS, SOURCE
from invact.tracking.backend.mlflow import MlflowRuns
from invact.tracking.store import open_store
from invact.training.results import Epoch, Scores, Status, TrialResult

__all__ = ["Filled", "fill", "proposal_seconds"]

SWEEP = """
space = "space.toml"
data = "digits"
trials = {trials}
sampler = "{sampler}"
objective = {{ kind = "pareto" }}
[config]
model = "mlp"
epochs = {epochs}
"""
SPACE = """
[parameters]
activation = { choices = ["relu", "inverse"] }
filters = { low = 2, high = 512, log = true }
learning_rate = { low = 1e-4, high = 1e-1, log = true }
"""
WRITES = ("begin", "resume", "end", "log", "log_data", "keep", "keep_folder")


class NoTraining:
    """The interface of `Engine` with two workers; results are made up from the configuration and the seed."""

    def __init__(self, data: Dataset) -> None:
        self._data = data
        self._events: deque[EpochDone | JobDone] = deque()

    def workers(self) -> tuple[Worker, ...]:
        """Two workers, each of which is busy until its job has ended."""
        busy = sum(isinstance(event, JobDone) for event in self._events)
        return tuple(Worker(str(number), "busy" if number < busy else "") for number in range(2))

    def submit(self, job: Job, worker: str) -> None:
        result = made(job.config, job.seed, self._data)
        self._events.extend(EpochDone(job.key, epoch) for epoch in result.epochs)
        self._events.append(JobDone(job.key, result))

    def next_event(self, timeout: float | None = None) -> EpochDone | JobDone | None:
        return self._events.popleft() if self._events else None


class MadeGate(Gate):
    """A gate that builds no networks: a made-up cost grows with the filters."""

    def costs(self, config: Config) -> tuple[Cost, Costs]:
        """Return the made-up cost."""
        cost = cost_of(config)
        return cost, dict(cost.counted)

    def known(self, config: Config, costs: Costs) -> dict[str, float]:
        """Return the costs."""
        return dict(costs)


@cache
def cost_at(filters: int) -> Cost:
    return Cost((LayerCost("dense", "Dense", (None, filters), 64 * filters, 65 * filters, filters, 0),))


def cost_of(config: Config) -> Cost:
    """The made-up cost of a network."""
    assert isinstance(config.filters, int)
    return cost_at(config.filters)


def made(config: Config, seed: int, data: Dataset) -> TrialResult:
    """Make up the result of a run, with curves and the images that it classified correctly."""
    rng = np.random.default_rng(derive_seed("scale", seed, config.digest()))
    cost = cost_of(config)
    accuracy = float(np.clip(0.9 - 5 / np.sqrt(cost.macs) + rng.normal(0, 0.01), 0, 1))
    seen, scored = (rng.random(count) < accuracy for count in (data.validation_count, data.test_count))
    scores = Scores(float(seen.mean()), 1 - accuracy)
    return TrialResult(
        *(config, seed, Status.FINISHED, cost),
        epochs=tuple(Epoch(number + 1, scores, scores, 0.01) for number in range(config.epochs)),
        train=scores,
        validation=scores,
        test=Scores(float(scored.mean()), 1 - accuracy),
        seconds=0.01 * config.epochs,
        images_per_second=1e5,
        correct=np.packbits(scored).tobytes(),
        validation_correct=np.packbits(seen).tobytes(),
        model=b"a made-up network",
    )


def sweep_of(folder: Path, trials: int, epochs: int, sampler: str) -> Sweep:
    """Write and read the file of a sweep."""
    (folder / "space.toml").write_text(SPACE)
    path = folder / "scale.toml"
    path.write_text(SWEEP.format(trials=trials, epochs=epochs, sampler=sampler))
    return load_sweep(path)


@dataclass(frozen=True)
class Filled:
    """How a store was filled.

    Attributes:
        seconds: clock time at which each trial was complete, from the start; shape (trials,).
        processor: the same in seconds of the processor.
        memory: MB that the process held then.
        calls: number of calls of MLflow by name, of all trials.
    """

    seconds: tuple[float, ...]
    processor: tuple[float, ...]
    memory: tuple[float, ...]
    calls: Counter[str]


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the writes to MLflow by name."""
    calls: Counter[str] = Counter()
    originals = {name: getattr(MlflowRuns, name) for name in WRITES}

    def counting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            return method(*arguments, **options)

        return call

    for name, method in originals.items():
        setattr(MlflowRuns, name, counting(name, method))
    try:
        yield calls
    finally:
        for name, method in originals.items():
            setattr(MlflowRuns, name, method)


def fill(folder: Path, trials: int, epochs: int = 3, sampler: str = "random") -> Filled:
    """Run a sweep of `trials` made-up trainings into the store `folder/mlruns`."""
    sweep = sweep_of(folder, trials, epochs, sampler)
    file, data = sweep.file, sweep.source.load()
    gate = MadeGate(sweep.space, file.objective, data)
    search = Search(
        *(sweep.space, file.objective, gate),
        driver=file.driver,
        sampler=sweep.sampler,
        seed=file.seed,
        trials=file.trials,
        seeds=file.seeds,
    )
    engine: Any = NoTraining(data)
    process = psutil.Process()
    points: list[tuple[float, float, float]] = []
    with open_store(folder / "mlruns").record(
        *(sweep.name, "sweep", sweep.identity(data)),
        files={
            sweep.path.name: read_text(sweep.path),
            SETTINGS: file.model_dump_json(indent=1),
            SOURCE: json.dumps(asdict(sweep.source) | {"digest": data.digest}, indent=1),
        },
        driver=file.driver,
        data=data,
    ) as record:
        coordinator = Coordinator(
            *(record, Progress(), lambda: engine, record.table(), []), measure=file.objective.cost
        )
        start = time.perf_counter(), time.process_time()

        def on_end(trial: Trial, runs: Sequence[Ended]) -> bool:
            leads = search.on_end(trial, runs)
            clock, processor = time.perf_counter() - start[0], time.process_time() - start[1]
            points.append((clock, processor, process.memory_info().rss / 1e6))
            return leads

        with counted() as calls:
            coordinator.run(search.propose, on_end)
    seconds, processor, memory = zip(*points, strict=True)
    return Filled(seconds, processor, memory, calls)


def proposal_seconds(sampler: str, known: int, asked: int = 10) -> float:
    """Median time in which a sampler proposes a configuration and takes its result, after `known` results."""
    with tempfile.TemporaryDirectory() as folder:
        sweep = sweep_of(Path(folder), known + asked + 1, 3, sampler)
    space, rng = sweep.space, np.random.default_rng(0)
    driver = make_driver(*("optuna", sampler, space, sweep.file.objective), seed=0, trials=sweep.file.trials)

    def outcome(config: Config) -> Outcome:
        cost = cost_of(config)
        accuracy = float(0.9 - 5 / np.sqrt(cost.macs) + rng.normal(0, 0.01))
        return Outcome(Status.FINISHED, dict(cost.counted), accuracy)

    for _ in range(known):
        values = space.sample(rng)
        driver.know(values, outcome(space.config(values)))
    times = []
    for _ in range(asked + 1):
        start = time.perf_counter()
        proposal = driver.ask()
        assert proposal is not None
        driver.tell(proposal, outcome(space.config(proposal.values)))
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])  # the first one rebuilds the study


@dataclass(frozen=True)
class Command:
    """The cost of one command: seconds of the clock and of the processor, and the largest memory in MB."""

    seconds: float
    processor: float
    memory: float


def run(arguments: Sequence[str], folder: Path) -> Command:
    """Run a command of invact in a process of its own."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "invact", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise SystemExit(f"invact {' '.join(arguments)}: {said.decode()}")
    return Command(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3)


COMMANDS = {
    "list": ["list"],
    "front, csv and json": ["front", "scale", "--format", "csv,json", "-o", "out"],
    "front": ["front", "scale", "-o", "out"],
    "resume": ["sweep", "scale.toml"],
}


def show_filled(filled: Filled, window: int) -> None:
    """Print the time and the memory of one trial, in windows of trials."""
    last = len(filled.seconds)
    ends = [end for end in (window, 10 * window, 100 * window) if end < last] + [last]
    print("\n| trials | ms a trial | ms of the processor | MB |\n| --- | ---: | ---: | ---: |")
    first = None
    for end in ends:
        # The first trial of all starts the clock, so it belongs to no window.
        begin = max(end - window, 0)
        count = end - 1 - begin
        clock, processor = (
            1e3 * (times[end - 1] - times[begin]) / max(count, 1)
            for times in (filled.seconds, filled.processor)
        )
        first = first or (clock, processor)
        print(
            f"| {begin + 1:,} to {end:,} | {clock:.1f} ({clock / first[0]:.2f}x) | "
            f"{processor:.1f} ({processor / first[1]:.2f}x) | {filled.memory[end - 1]:.0f} |"
        )
    shares = ", ".join(f"{name} {count / last:.2f}" for name, count in filled.calls.most_common())
    print(f"\nWrites to MLflow for each trial: {shares}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--repeats", type=int, default=3, help="how often each command runs")
    options = parser.parse_args()
    sizes = sorted(options.runs)
    print(machine())
    with tempfile.TemporaryDirectory() as place:
        folders = {size: Path(place) / str(size) for size in sizes}
        for size, folder in folders.items():
            folder.mkdir()
            filled = fill(folder, size, options.epochs, options.sampler)
        show_filled(filled, sizes[0])
        print(f"\n| command | {' | '.join(f'{size:,} runs' for size in sizes)} |")
        print(f"| --- |{' ---: |' * len(sizes)}")
        for name, arguments in COMMANDS.items():
            cells = []
            for folder in folders.values():
                found = [run(arguments, folder) for _ in range(options.repeats)]
                middle = statistics.median(one.seconds for one in found)
                cells.append(
                    f"{middle:.2f} s, {min(one.processor for one in found):.2f} s of the processor, "
                    f"{max(one.memory for one in found):.0f} MB"
                )
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print(f"\n| sampler alone, ms a proposal | {' | '.join(f'{size:,} known' for size in sizes)} |")
    print(f"| --- |{' ---: |' * len(sizes)}")
    for sampler in ("random", "tpe", "nsga2"):
        cells = [f"{1e3 * proposal_seconds(sampler, size):.1f}" for size in sizes]
        print(f"| {sampler} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
