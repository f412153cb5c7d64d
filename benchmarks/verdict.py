"""The time to a verdict: the sequential protocol against a plain script of 30 seeds for each arm and ratio.

    python -m benchmarks.verdict [rounds] [--claim digits_claim] [--runs 30] [--processes 1 2]
                                 [--replications 2000]

First, simulated claims count the trainings of both ways at equal error rates. The plain design has the same
one-sided level of 0.025 and tests the ratios in the same order, each with Welch's t test: the treatment must
be non-inferior to the control and better than the placebo. Its 30 runs are what a plain study has. The table
also has the number of runs with which the plain design is right as often as the protocol in the same world.
Nobody knows this number beforehand, because it depends on the spread of the runs.

Then both are run for real, in turn: `invact claim`, and `benchmarks/plain_claim.py`, which trains the
control, and at each ratio treatment and placebo, with `model.fit` on arrays. It trains the control once for
all ratios, and no matched arm, no further arm and no curve, all of which favours the script. The last table
has trainings times measured seconds for the simulated claims. With 0 rounds nothing is run for real.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from benchmarks.simulated_claims import POWER, PROTOCOL
from benchmarks.worlds import MARGIN, SEED, World, simulate
from invact.claims.cells import CONTROL, PLACEBO, TREATMENT, cell_key
from invact.claims.file import Claim, load_claim
from invact.config import Config
from invact.networks.widths import stage_filters
from invact.statistics.comparison.inference import welch
from invact.statistics.sequential.course import CONFIRMATION, Rules
from invact.statistics.sequential.ladder import Verdict
from invact.tracking.store import open_store

__all__ = ["Replay", "Times", "plain_task", "replay", "run_plain", "share_of"]

RUNS = 30
"""Runs of each arm in the plain design."""
COUNTS = (*range(2, 41), *range(45, 101, 5))
"""Numbers of runs of the plain design whose power is compared with that of the protocol."""
WORLDS = [
    *((f"one ratio, {one.name}", one) for one in POWER if "collapse" not in one.name),
    *((f"three ratios, {one.name}", one) for one in PROTOCOL),
]


def plain_trainings(runs: int, ratios: int) -> int:
    """Trainings of the plain design: the control once, treatment and placebo at each ratio."""
    return runs * (1 + 2 * ratios)


def plain_verdicts(
    rules: Rules, world: World, counts: Sequence[int], rng: np.random.Generator
) -> list[Verdict]:
    """Judge one plain study at each of several numbers of runs, which are nested."""
    assert rules.margin is not None
    alpha, floor = rules.procedure.alpha, rules.floor
    drawn = {
        network: np.asarray(world.draw(rng, network).test)
        for network in [("control", 1.0)]
        + [(role, ratio) for ratio in rules.ratios for role in ("treatment", "placebo")]
    }
    found = []
    for n in counts:
        verdict = Verdict.INCONCLUSIVE
        for ratio in sorted(rules.ratios, reverse=True):
            treatment = drawn["treatment", ratio][:n]
            against = welch(treatment, drawn["control", 1.0][:n], rules.margin, floor)
            better = welch(treatment, drawn["placebo", ratio][:n], 0.0, floor)
            if against.p_value >= alpha or better.p_value >= alpha:
                if verdict is Verdict.INCONCLUSIVE and against.p_inferior < alpha:
                    verdict = Verdict.REFUTED
                break
            verdict = Verdict.SUPPORTED
        found.append(verdict)
    return found


def share_of(
    rules: Rules, world: World, counts: Sequence[int], verdict: Verdict, replications: int, seed: int = SEED
) -> list[float]:
    """Share of plain studies with a verdict, at each number of runs."""
    rng = np.random.default_rng(seed)
    ends = [plain_verdicts(rules, world, counts, rng) for _ in range(replications)]
    return [statistics.fmean(end[at] is verdict for end in ends) for at in range(len(counts))]


@dataclass(frozen=True)
class Replay:
    """One world: how often each way comes to the right verdict, and with how many trainings.

    Attributes:
        share: share of the claims with the right verdict.
        trainings: mean trainings of a claim, without those of a curve, which the plain design does not have.
        plain_share: share of the plain studies of `RUNS` runs with the right verdict.
        plain: trainings of such a study.
        enough: smallest number of runs with which the plain design is right as often; None if it never is.
        equal: trainings of the plain design with as many runs.
    """

    share: float
    trainings: float
    plain_share: float
    plain: int
    enough: int | None
    equal: int | None


def replay(rules: Rules, world: World, verdict: Verdict, replications: int) -> Replay:
    """Simulate both ways in one world."""
    claims = simulate(rules, world, replications)
    plain, *shares = share_of(rules, world, (RUNS, *COUNTS), verdict, replications)
    share, ratios = claims.share(verdict), len(rules.ratios)
    enough = next((n for n, found in zip(COUNTS, shares, strict=True) if found >= share), None)
    return Replay(
        *(share, claims.trainings, plain, plain_trainings(RUNS, ratios), enough),
        None if enough is None else plain_trainings(enough, ratios),
    )


def plain_task(claim: Claim, folder: Path, runs: int) -> dict[str, Any]:
    """Write the task and the data of the plain script, and return the task.

    Raises:
        SystemExit: the script cannot build the networks of the claim.
    """
    (source,) = claim.sources
    data, cells = source.load(), claim.cells()
    config = cells[CONTROL].config
    known = Config(optimizer="adam", schedule="cosine", augmentation="none", normalization="none")
    fixed = ("model", "optimizer", "schedule", "augmentation", "normalization", "dropout", "weight_decay")
    if any(getattr(config, name) != getattr(known, name) for name in fixed):
        raise SystemExit(f"{claim.path}: the plain script has only the defaults of {', '.join(fixed)}")
    chosen = [CONTROL] + [cell_key(role, ratio) for ratio in claim.ratios for role in (TREATMENT, PLACEBO)]
    networks = {}
    for key in chosen:
        (arm,) = set(cells[key].config.activations)
        filters = stage_filters(cells[key].config, data.input_shape, data.classes)
        networks[key] = {"arm": arm, "filters": filters}
    task = {
        "networks": networks,
        "runs": runs,
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
    }
    (folder / "task.json").write_text(json.dumps(task))
    low, high = data.pixel_range
    scaled = {
        name: ((getattr(data, name).astype("float32") - low) / (high - low) * 2 - 1)
        for name in ("x_train", "x_test")
    }
    np.savez(folder / "data.npz", **scaled, y_train=data.y_train, y_test=data.y_test)
    return task


@dataclass(frozen=True)
class Times:
    """A measured way to a verdict: seconds from the command to the end, trainings, and verdict."""

    seconds: float
    trainings: int
    verdict: str


def run_plain(claim: Claim, folder: Path, runs: int, processes: int) -> Times:
    """Run the plain script in one or more processes at once, and judge its accuracies."""
    task = plain_task(claim, folder, runs)
    script = Path(__file__).with_name("plain_claim.py")
    start = time.perf_counter()
    files = [folder / f"{part}.json" for part in range(processes)]
    running = [
        subprocess.Popen(
            [sys.executable, script, "task.json", "data.npz", file, str(part), str(processes)], cwd=folder
        )
        for part, file in enumerate(files)
    ]
    ended = [process.wait() for process in running]
    if any(ended):
        raise SystemExit("the plain script has failed")
    told = [json.loads(file.read_text()) for file in files]
    accuracies = {
        key: [accuracy for one in told for accuracy in one["accuracies"][key]] for key in task["networks"]
    }
    verdict = plain_verdict(claim, accuracies)
    seconds = time.perf_counter() - start
    costs = claim.costs(claim.sources[0].load())
    if any(costs[key].params != count for key, count in told[0]["params"].items()):
        raise SystemExit("the plain script has other networks than the claim")
    return Times(seconds, sum(map(len, accuracies.values())), verdict)


def plain_verdict(claim: Claim, accuracies: Mapping[str, Sequence[float]]) -> str:
    """Judge the accuracies of the plain script, with the largest margin of the claim."""
    margin, alpha = claim.file.margin or claim.file.margin_cap, claim.file.alpha
    found = "INCONCLUSIVE"
    for ratio in sorted(claim.ratios, reverse=True):
        ours = accuracies[cell_key(TREATMENT, ratio)]
        against = welch(ours, accuracies[CONTROL], margin / 100, 1e-9)
        better = welch(ours, accuracies[cell_key(PLACEBO, ratio)], 0.0, 1e-9)
        if max(against.p_value, better.p_value) >= alpha:
            refuted = found == "INCONCLUSIVE" and against.p_inferior < alpha
            return f"REFUTED at {ratio:g}" if refuted else found
        found = f"SUPPORTED at {ratio:g}"
    return found


def run_claim(claim: Claim, folder: Path) -> Times:
    """Run the claim by its command, in a new store."""
    store = folder / "mlruns"
    shutil.rmtree(store, ignore_errors=True)
    start = time.perf_counter()
    # The file, because a name would find the shipped one with other values.
    done = subprocess.run(
        [sys.executable, "-m", "invact", "claim", str(claim.path.resolve()), "--store", str(store)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    record = open_store(store, read_only=True).latest(claim.name, "claim")
    verdict = record.tags["invact.filters_verdict"]
    rungs = record.table()["param.step"].eq(CONFIRMATION).sum()
    return Times(seconds, len(record.table()), f"{verdict} ({rungs} runs in the confirmation)")


def measure(claim: Claim, rounds: int, runs: int, processes: Sequence[int]) -> dict[str, list[Times]]:
    """Run all ways in turn, `rounds` times."""
    names = {count: f"plain script, {count} process{'es' * (count > 1)}" for count in processes}
    found: dict[str, list[Times]] = {"invact claim": [], **{name: [] for name in names.values()}}

    def add(number: int, name: str, times: Times) -> None:
        print(f"round {number}, {name}: {times.seconds:.0f} s", file=sys.stderr, flush=True)
        found[name].append(times)

    for number in range(1, rounds + 1):
        with tempfile.TemporaryDirectory() as place:
            add(number, "invact claim", run_claim(claim, Path(place)))
        for count, name in names.items():
            with tempfile.TemporaryDirectory() as place:
                add(number, name, run_plain(claim, Path(place), runs, count))
    return found


def show_replays(replications: int) -> dict[str, Replay]:
    """Print the trainings of both ways in the simulated worlds."""
    print(f"\nMargin {MARGIN} points; {replications:,} simulated claims in each world.\n")
    print("| world | right: claim | trainings | right: 30 runs | trainings | equal power: runs | trainings |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    found = {}
    for name, one in WORLDS:
        found[name] = each = replay(one.rules, one.world, one.verdict, replications)
        enough = f"{each.enough} | {each.equal}" if each.enough else f"more than {COUNTS[-1]} | "
        print(
            f"| {name} | {each.share:.3f} | {each.trainings:.1f} | {each.plain_share:.3f} | {each.plain} | "
            f"{enough} |",
            flush=True,
        )
    return found


def show_times(found: Mapping[str, Sequence[Times]]) -> dict[str, float]:
    """Print the measured times, and return the seconds of one training of each way."""
    print("\n| way | seconds, median | trainings | seconds a training | claim / this way | verdict |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    claims, *_ = found.values()
    each = {}
    for name, times in found.items():
        middle = statistics.median(one.seconds for one in times)
        ratio = statistics.median(mine.seconds / one.seconds for mine, one in zip(claims, times, strict=True))
        each[name] = middle / times[0].trainings
        print(
            f"| {name} | {middle:.0f} | {times[0].trainings} | {each[name]:.2f} | {ratio:.2f} | "
            f"{times[0].verdict} |"
        )
    return each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", type=int, nargs="?", default=1)
    parser.add_argument("--claim", default="digits_claim")
    parser.add_argument("--runs", type=int, default=RUNS, help="runs of each arm of the plain script")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--replications", type=int, default=2_000)
    options = parser.parse_args()
    claim = load_claim(options.claim)
    print(machine())
    replays = show_replays(options.replications)
    if not options.rounds:
        return
    each = show_times(measure(claim, options.rounds, options.runs, options.processes))
    ours, *theirs = each
    print("\nTrainings times measured seconds, claim / plain script, at 30 runs and at equal power:\n")
    print(f"| world | {' | '.join(theirs)} |\n| --- |{' ---: |' * len(theirs)}")
    for name, one in replays.items():
        mine = one.trainings * each[ours]
        cells = [
            f"{mine / (one.plain * each[way]):.2f}, "
            f"{mine / (one.equal * each[way]) if one.equal else math.nan:.2f}"
            for way in theirs
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
