"""Family-wise error and cost in trainings of the ladder over ratios, from simulations with a known truth.

    python -m benchmarks.ladder

The printed tables are part of docs/statistics.md. Accuracies are points (percent) there and fractions here.
"""

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from invact.statistics.sequential.anytime import SCALE, _reach
from invact.statistics.sequential.boundaries import LOOKS, critical, futility_bounds
from invact.statistics.sequential.procedures import Method, Procedure

MARGIN, ALPHA, SEED, MOST = 0.003, 0.05, 20260101, 30
RATIOS = (0.75, 0.625, 0.5)
MACS = tuple(2 * ratio**2 for ratio in RATIOS)
"""MACs of the treatment / MACs of the control: 2 q^2 for a ratio of filters q. The first ratio saves none."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Truth:
    """True differences, treatment minus each other arm, at each ratio from the largest to the smallest."""

    name: str
    control: tuple[float, float, float]
    placebo: tuple[float, float, float]
    matched: tuple[float, float, float]

    def false(self, *others: str) -> list[bool]:
        """Whether a claim that must beat these arms is false, for each ratio."""
        bounds = {"control": -MARGIN, "placebo": 0.0, "matched": 0.0}
        return [any(getattr(self, arm)[rung] <= bounds[arm] for arm in others) for rung in range(len(RATIOS))]


def noise(kind: str, replications: int, seed: int = SEED) -> dict[tuple[str, int], Floats]:
    """Draw runs of each arm at each ratio with mean 0 and standard deviation 1; shape (replications, MOST).

    All ratios share one control. Skewed noise is exponential, with a skewness of 2 and the long tail towards
    low accuracies.
    """
    rng = np.random.default_rng(seed)
    runs = {}
    for arm, rung in [("control", 0)] + [
        (arm, rung) for rung in range(len(RATIOS)) for arm in ("treatment", "placebo", "matched")
    ]:
        shape = (replications, MOST)
        runs[arm, rung] = (
            rng.standard_normal(shape) if kind == "normal" else 1 - rng.standard_exponential(shape)
        )
    return runs


def t_after_each(x: Floats) -> Floats:
    """Compute Student's t of the mean of x after each pair, shape (replications, pairs); the first is 0."""
    n = np.arange(1, x.shape[1] + 1)
    total = np.cumsum(x, axis=1)
    squares = np.cumsum(x**2, axis=1) - total**2 / n
    squares[:, 0] = np.inf
    return total / np.sqrt(squares * n / np.maximum(n - 1, 1))


def decide(procedure: Procedure, t: Floats) -> tuple[NDArray[np.int_], Flags]:
    """Apply `Procedure.test` to many series; return the pairs used and whether the result is shown."""
    if procedure.method is Method.ANYTIME:
        looks = np.arange(1, procedure.most + 1)
        upper = np.array([_reach(int(n), procedure.alpha, SCALE) for n in looks])
        lower = -upper
    else:
        looks = np.array(procedure.looks)
        upper = critical(procedure.levels(), procedure.looks)
        lower = np.full(len(looks), -np.inf)
        if procedure.method is Method.SEQUENTIAL:
            lower = futility_bounds(procedure.looks, procedure.futility)
    at = t[:, looks - 1]
    won = (at >= upper) & np.isfinite(upper)
    ended = won | ((at <= lower) & np.isfinite(lower))
    ended[:, -1] = True
    first = ended.argmax(axis=1)
    return looks[first], won[np.arange(len(t)), first]


@dataclass(frozen=True)
class Ladders:
    """Results of many ladders.

    Attributes:
        filters: whether the claim on filters is SUPPORTED, shape (replications, ratios).
        macs: whether the claim on MACs is SUPPORTED, shape (replications, ratios).
        trainings: number of trainings of all arms, shape (replications,).
    """

    filters: Flags
    macs: Flags
    trainings: NDArray[np.int_]


def simulate(
    truth: Truth, sd: float, runs: Mapping[tuple[str, int], Floats], *procedures: Procedure
) -> list[Ladders]:
    """Test many ladders at once as `climb` does, and count only the trainings that it requests.

    Placebo and matched arm start after non-inferiority is shown; the treatment continues together with them.
    """
    statistics = []
    for rung in range(len(RATIOS)):
        treatment = runs["treatment", rung]
        statistics.append(
            {
                arm: t_after_each(effect[rung] + bound + sd * (treatment - runs[arm, own]))
                for arm, effect, bound, own in (
                    ("control", truth.control, MARGIN, 0),
                    ("placebo", truth.placebo, 0.0, rung),
                    ("matched", truth.matched, 0.0, rung),
                )
                if arm != "matched" or MACS[rung] < 1
            }
        )
    return [_climb(procedure, statistics) for procedure in procedures]


def _climb(procedure: Procedure, statistics: list[dict[str, Floats]]) -> Ladders:
    replications = len(statistics[0]["control"])
    begun, macs_open = np.ones(replications, dtype=bool), np.ones(replications, dtype=bool)
    control, trainings = np.zeros(replications, dtype=int), np.zeros(replications, dtype=int)
    filters, macs = [], []
    for of in statistics:
        pairs, won = decide(procedure, of["control"])
        won &= begun
        control = np.maximum(control, np.where(begun, pairs, 0))
        treatment = pairs
        supported = saving = np.zeros(replications, dtype=bool)
        for arm, needed in (("placebo", won), ("matched", won & macs_open)):
            if arm in of:
                others, better = decide(procedure, of[arm])
                trainings += np.where(needed, others, 0)
                treatment = np.where(needed, np.maximum(treatment, others), treatment)
                if arm == "placebo":
                    supported = won & better
                else:
                    macs_open = saving = supported & needed & better
        trainings += np.where(begun, treatment, 0)
        filters.append(supported)
        macs.append(saving)
        begun = supported
    return Ladders(np.array(filters).T, np.array(macs).T, trainings + control)


CLAIMS = {"filters": ("control", "placebo"), "MACs": ("control", "placebo", "matched")}
FAR, NONE = (0.02, 0.02, 0.02), (0.0, 0.0, 0.0)
WORLDS = (
    Truth("all at the margin", (-MARGIN, -MARGIN, -MARGIN), FAR, FAR),
    Truth("the first equal, the others at the margin", (0.0, -MARGIN, -MARGIN), FAR, FAR),
    Truth("two equal, the last at the margin", (0.0, 0.0, -MARGIN), FAR, FAR),
    Truth("equal to the placebo", NONE, NONE, FAR),
    Truth(
        "one equal, one equal to the placebo, one at the margin", (0.0, 0.0, -MARGIN), (0.02, 0.0, 0.02), FAR
    ),
    Truth("equal to the matched arm", NONE, FAR, NONE),
    Truth("equal to the matched arm at the last ratio", NONE, FAR, (0.02, 0.02, 0.0)),
    Truth("at the margin, and equal to placebo and matched arm", (-MARGIN, -MARGIN, -MARGIN), NONE, NONE),
)
PROCEDURES = {
    "sequential": Procedure(alpha=ALPHA),
    f"fixed n = {LOOKS[-1]}": Procedure(Method.FIXED, ALPHA, (LOOKS[-1],)),
    f"anytime to {MOST}": Procedure(Method.ANYTIME, ALPHA, (MOST,)),
}


def row(*cells: object) -> None:
    print("| " + " | ".join(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |")


def family_wise(replications: int) -> None:
    error = math.sqrt(ALPHA * (1 - ALPHA) / replications)
    print(f"\n### Family-wise error of the ladder (alpha 0.05, 2 Monte Carlo errors: {2 * error:.4f})\n")
    row("truth", "noise", "claim", *PROCEDURES)
    row(*["---"] * (3 + len(PROCEDURES)))
    for kind in ("normal", "skewed"):
        runs = noise(kind, replications)
        for truth in WORLDS:
            found = simulate(truth, 0.002, runs, *PROCEDURES.values())
            for claim, others in CLAIMS.items():
                false = truth.false(*others)
                if any(false):
                    errors = [getattr(one, claim.lower())[:, false].any(axis=1).mean() for one in found]
                    row(truth.name, kind, claim, *map(float, errors))


GAINS = ((0.005, 0.008, 0.010), (0.005, 0.005, 0.005))
COSTS = (
    Truth("0, 0, 0", (0.0, 0.0, 0.0), *GAINS),
    Truth("0, -0.1, -0.2", (0.0, -0.001, -0.002), *GAINS),
    Truth("0, -0.3, -0.6", (0.0, -0.003, -0.006), *GAINS),
    Truth("-0.3, -0.5, -0.8", (-0.003, -0.005, -0.008), *GAINS),
    Truth("-0.6, -0.9, -1.2", (-0.006, -0.009, -0.012), *GAINS),
)


def cost(replications: int) -> None:
    """Compare with nine arms: the control, three treatments, three placebos and two matched arms."""
    everything = 9 * MOST
    print(f"\n### Cost of the ladder in trainings; nine arms with {MOST} runs are {everything}\n")
    fixed = Procedure(Method.FIXED, ALPHA, (MOST,))
    names = (f"fixed {MOST}, stepwise", "sequential", f"anytime to {MOST}")
    shares = (f"sequential / {everything}", "sequential / stepwise")
    row("truth", "sd", *names, *shares, *(f"supported, {name}" for name in names))
    row(*["---"] * 10)
    runs = noise("normal", replications)
    for truth in COSTS:
        for sd in (0.0015, 0.002, 0.0025):
            found = simulate(
                truth, sd, runs, fixed, PROCEDURES["sequential"], PROCEDURES[f"anytime to {MOST}"]
            )
            trained = [float(one.trainings.mean()) for one in found]
            row(
                truth.name,
                f"{100 * sd:.2f}",
                *(f"{count:.1f}" for count in trained),
                *(f"{trained[1] / most:.2f}" for most in (everything, trained[0])),
                *(f"{one.filters.sum(axis=1).mean():.2f}" for one in found),
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=50_000)
    replications = parser.parse_args().replications
    for part in (family_wise, cost):
        part(replications)


if __name__ == "__main__":
    main()
