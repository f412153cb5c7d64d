"""Confirming a front with `--confirm auto`, against `--confirm K`: trainings, and how often a place is wrong.

    python -m benchmarks.confirmation [--worlds N] [--only replay simulated]
    python -m benchmarks.confirmation --record STORE

The printed tables are part of docs/fronts.md. A confirmation is simulated many times in worlds whose truth is
known. In the replay, a run is drawn from a table of real runs (`confirmation.csv`: configurations of the
sweep `digits` over many seeds); the mean over the table is the truth, and the validation accuracy of one run
selects the front. In the simulated worlds, runs are normal. `--record` writes the table of the replay from a
store with the sweep `digits`, for example of `invact sweep digits --set "seeds=[0, 1, 2, 3, 4, 5, 6, 7]"`.

Both ways decide places by the same rule. `auto` has a budget of 10 trainings for each point. For comparison,
K is the number of seeds with which the same share of the places is decided, on average over the worlds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.true_fronts import KINDS
from invact.statistics.fronts.dominance import non_dominated
from invact.statistics.fronts.places import Place, leads, next_point

__all__ = ["SIMULATED", "Score", "World", "automatic", "fixed", "replayed", "simulated"]

Floats = NDArray[np.float64]

SEED, POINTS, BUDGET, MARGIN = 20260102, 8, 10, 0.003
TABLE = Path(__file__).with_name("confirmation.csv")
SEEDS = (3, 4, 5, 6, 8, 10, 12, 15, 20, 30)
"""Numbers of seeds that are tried for `--confirm K`; those between are interpolated."""


@dataclass(frozen=True)
class World:
    """A front whose true accuracies are known.

    Attributes:
        cost: costs of its points, increasing.
        truth: their true accuracies.
        run: from the number of a point to the test accuracy of a new run.
    """

    cost: Floats
    truth: Floats
    run: Callable[[int], float]

    def runs(self, seeds: int) -> Floats:
        """Test accuracies, shape (points, seeds)."""
        return np.array([[self.run(point) for _ in range(seeds)] for point in range(len(self.cost))])


@dataclass(frozen=True)
class Score:
    """What a confirmation found about the points behind the cheapest one.

    Attributes:
        trainings: trainings used.
        decided: share of the places that are decided.
        wrong: share of the places that are decided and wrong.
        far: share of the places that are wrong although the lead is at least the margin.
    """

    trainings: float
    decided: float
    wrong: float
    far: float


def score(world: World, runs: Floats) -> Score:
    """Compare the places that the runs decide with the truth."""
    lead = (world.truth[1:] - np.maximum.accumulate(world.truth)[:-1]).round(12)
    places = leads(runs, world.cost, MARGIN).places[1:]
    wrong = np.array(
        [
            (place is Place.STAYS and true <= 0)
            or (place is Place.DOMINATED and true > 0)
            or (place is Place.EQUAL and abs(true) >= MARGIN)
            for place, true in zip(places, lead, strict=True)
        ]
    )
    decided = np.mean([place is not Place.UNDECIDED for place in places])
    far = wrong & (np.abs(lead) >= MARGIN)
    return Score(int(np.isfinite(runs).sum()), float(decided), float(wrong.mean()), float(far.mean()))


def automatic(world: World) -> Score:
    """Confirm a front as `--confirm auto` does, with one worker."""
    points = len(world.cost)
    count = np.zeros(points, dtype=int)
    runs = np.full((points, 1), np.nan)
    while count.sum() < BUDGET * points:
        point = next_point(runs, world.cost, MARGIN)
        if point is None:
            break
        if count[point] == runs.shape[1]:
            runs = np.hstack([runs, np.full((points, 1), np.nan)])
        runs[point, count[point]] = world.run(point)
        count[point] += 1
    return score(world, runs)


def fixed(world: World, seeds: int) -> Score:
    """Confirm a front as `--confirm K` does."""
    return score(world, world.runs(seeds))


def replayed(rng: np.random.Generator, table: pd.DataFrame) -> Iterator[World]:
    """Worlds whose runs are drawn, with replacement, from a table of real ones."""
    groups = [group for _, group in table.groupby("macs")]
    validation, test = ([group[name].to_numpy() for group in groups] for name in ("validation", "test"))
    cost = np.array([float(group["macs"].iloc[0]) for group in groups])
    while True:
        seen = np.array([rng.choice(values) for values in validation])
        front = np.flatnonzero(non_dominated(seen, cost))
        if len(front) > 1:
            mine = [test[number] for number in front]

            def run(point: int, mine: list[Floats] = mine) -> float:
                return float(rng.choice(mine[point]))

            yield World(cost[front], np.array([values.mean() for values in mine]), run)


SIMULATED: dict[str, tuple[str, float, bool, float]] = {
    **{kind: (kind, 0.3, False, 0.0) for kind in KINDS},
    "every second point is a tie": ("around a curve, sd 0.5 points", 0.3, True, 0.0),
    "all points are equal": ("equal", 0.3, False, 0.0),
    "each point leads by the margin": ("steps", 0.3, False, 0.0),
    "3 % of the runs collapse": ("around a curve, sd 0.5 points", 0.3, False, 0.03),
}
"""Kinds of worlds: their true accuracies, standard deviation of a run in points, ties, share of collapses."""


def simulated(rng: np.random.Generator, name: str) -> Iterator[World]:
    """Worlds of a kind whose runs are normal; the standard deviation is 0.5, 1 or 2 times as large."""
    kind, points, tied, collapses = SIMULATED[name]
    x = np.linspace(0, 1, POINTS)
    while True:
        truth = {"equal": np.full(POINTS, 0.95), "steps": 0.93 + MARGIN * np.arange(POINTS)}.get(kind)
        truth = KINDS[kind](rng, x) if truth is None else truth
        for point in range(1, POINTS, 2) if tied else ():
            truth[point] = truth[:point].max()
        sd = points / 100 * rng.choice([0.5, 1, 2], POINTS)

        def run(point: int, truth: Floats = truth, sd: Floats = sd) -> float:
            loss = 0.3 if rng.random() < collapses else 0.0
            return float(truth[point] + sd[point] * rng.standard_normal() - loss)

        yield World(10 ** (4 + 2 * x), truth - 0.3 * collapses, run)


def record(store: Path) -> pd.DataFrame:
    """Make the table of the replay from the runs of the sweep `digits` in a store."""
    from invact.tracking.store import open_store

    runs = open_store(store, read_only=True).latest("digits", "sweep").table()
    runs = runs[runs["status"] == "FINISHED"].sort_values(["macs", "seed"])
    names = {"validation_accuracy": "validation", "test_accuracy": "test"}
    return runs.rename(columns=names)[["label", "macs", "seed", "validation", "test"]]


def _row(name: str, number: int, worlds: Iterator[World]) -> list[float]:
    chosen = [world for world, _ in zip(worlds, range(number), strict=False)]

    def mean(scores: list[Score]) -> Score:
        parts = [(one.trainings, one.decided, one.wrong, one.far) for one in scores]
        return Score(*np.mean(parts, axis=0).tolist())

    auto = mean([automatic(world) for world in chosen])
    points = float(np.mean([len(world.cost) for world in chosen]))
    tried: list[Score] = []
    for seeds in SEEDS:
        tried.append(mean([fixed(world, seeds) for world in chosen]))
        if tried[-1].decided >= auto.decided:
            break
    shares = np.maximum.accumulate([one.decided for one in tried])
    needed = float(np.interp(auto.decided, shares, SEEDS[: len(tried)]))
    more = "> " if shares[-1] < auto.decided else ""
    ratio = auto.trainings / (needed * points)
    cells = [
        f"{auto.trainings:.0f}",
        f"{auto.decided:.2f}",
        f"{auto.wrong / auto.decided:.3f}",
        f"{auto.far / auto.decided:.3f}",
        f"{more}{needed:.1f}",
        f"{more}{needed * points:.0f}",
        f"{tried[-1].wrong / max(tried[-1].decided, 1e-9):.3f}",
        f"{'< ' if more else ''}{ratio:.2f}",
    ]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)
    return [ratio, auto.wrong, auto.decided]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--worlds", type=int, default=100, help="worlds of each kind")
    parser.add_argument("--only", nargs="+", choices=("replay", "simulated"), default=("replay", "simulated"))
    parser.add_argument("--record", type=Path, metavar="STORE", help="write the table of the replay")
    options = parser.parse_args()
    if options.record is not None:
        record(options.record).to_csv(TABLE, index=False, float_format="%.6f")
        return
    heads = (
        "trainings",
        "decided",
        "wrong",
        "wrong by the margin or more",
        "K",
        "trainings of K",
        "wrong at K",
    )
    print(f"| worlds | {' | '.join(heads)} | ratio |\n| --- |{' ---: |' * (len(heads) + 1)}")
    found = []
    if "replay" in options.only:
        worlds = replayed(np.random.default_rng(SEED), pd.read_csv(TABLE))
        found.append(_row("digits, real runs", options.worlds, worlds))
    if "simulated" in options.only:
        for number, name in enumerate(SIMULATED):
            found.append(_row(name, options.worlds, simulated(np.random.default_rng([SEED, number]), name)))
    ratios, wrong, decided = np.array(found).T
    print(f"\nmedian ratio {np.median(ratios):.2f}; wrong of the decided {wrong.sum() / decided.sum():.3f}")


if __name__ == "__main__":
    main()
