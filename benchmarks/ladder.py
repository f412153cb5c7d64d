"""The two ways to find the smallest ratio of filters at equal accuracy: the screen, and the ladder.

    python -m benchmarks.ladder [--replications N]

The screen tests one ratio, which validation accuracy selects. The ladder tests all ratios, from the largest
to the smallest. The printed table is part of docs/statistics.md.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.error_rates import CURVE
from benchmarks.simulated_claims import PROTOCOL
from benchmarks.worlds import SEED, World, follow
from invact.statistics.sequential.course import Rules
from invact.statistics.sequential.ladder import Verdict

__all__ = ["Found", "find"]


@dataclass(frozen=True)
class Found:
    """Results of simulated claims.

    Attributes:
        replications: number of claims.
        smallest: ratio -> number of claims in which it is the smallest one with fewer filters SUPPORTED; None
            if there is no such ratio.
        on_macs: the same for fewer MACs.
        trainings: mean number of trainings, without those of the curve.
    """

    replications: int
    smallest: Counter[float | None]
    on_macs: Counter[float | None]
    trainings: float


def find(rules: Rules, world: World, replications: int, seed: int = SEED) -> Found:
    """Follow many claims of one world."""
    rng = np.random.default_rng(seed)
    smallest: Counter[float | None] = Counter()
    on_macs: Counter[float | None] = Counter()
    trainings = 0
    for _ in range(replications):
        course, trained = follow(rules, world, rng)
        # A negative control that fails takes the claim back.
        rungs = () if course.taken_back else course.rungs
        filters = [rung.ratio for rung in rungs if rung.verdict is Verdict.SUPPORTED]
        macs = [rung.ratio for rung in rungs if rung.macs_verdict is Verdict.SUPPORTED]
        smallest[min(filters, default=None)] += 1
        on_macs[min(macs, default=None)] += 1
        trainings += trained.total()
    return Found(replications, smallest, on_macs, trainings / replications)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=10_000)
    replications = parser.parse_args().replications
    print(f"\n### Smallest ratio that is SUPPORTED ({replications} claims)\n")
    ratios = PROTOCOL[0].rules.ratios
    names = ", ".join(f"{ratio:g}" for ratio in ratios)
    print(f"| world | way | trainings with the curve | filters: {names}, none | MACs: {names}, none |")
    print("| --- | --- | --- | --- | --- |")
    for claim in PROTOCOL:
        for way, ladder in (("screen", False), ("ladder", True)):
            found = find(replace(claim.rules, ladder=ladder), claim.world, replications)
            shares = (
                ", ".join(f"{counts[ratio] / replications:.4f}" for ratio in (*ratios, None))
                for counts in (found.smallest, found.on_macs)
            )
            cells = (claim.name, way, f"{found.trainings + CURVE:.1f}", *shares)
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
