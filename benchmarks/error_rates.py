"""Error rates, coverage and cost of the non-inferiority tests, from simulations with a known truth.

    python -m benchmarks.error_rates

The printed tables are part of docs/statistics.md.
"""

import argparse
import math

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.interpolate import RectBivariateSpline

from benchmarks.populations import Ends, World, population_ends
from invact.statistics.sequential.anytime import e_values
from invact.statistics.sequential.boundaries import (
    LOOKS,
    critical,
    nominal_levels,
    spending_bounds,
    stagewise_p,
)
from invact.statistics.sequential.crossing import t_exits
from invact.statistics.sequential.group_sequential import Stops, stops
from invact.statistics.sequential.power import expected_pairs, power, sample_size, tost_power

MARGIN, ALPHA, SEED = 0.003, 0.05, 20260101
NOISES = ("normal", "skewed", "one arm skewed left", "one arm skewed right")

Floats = NDArray[np.float64]


def differences(
    noise: str, correlation: float, sd: float, truth: float, shape: tuple[int, int], seed: int = SEED
) -> Floats:
    """Draw differences treatment - control. Each arm has the standard deviation `sd`.

    `correlation` is the share of the variance that both arms have in common. Skewed noise is exponential,
    with a skewness of 2. If both arms have it, the difference is symmetric with long tails. If only one arm
    has it (the other arm then has no noise), the difference is skewed.
    """
    rng = np.random.default_rng(seed)

    def draw() -> Floats:
        if noise == "normal":
            return rng.standard_normal(shape)
        return rng.exponential(size=shape) - 1

    if noise.startswith("one arm"):
        return truth + sd * draw() * (1 if noise.endswith("right") else -1)
    common, treatment, control = draw(), draw(), draw()
    own, shared = math.sqrt(1 - correlation), math.sqrt(correlation)
    return truth + sd * ((own * treatment + shared * common) - (own * control + shared * common))


def fixed(values: Floats, alpha: float = ALPHA, margin: float = MARGIN) -> NDArray[np.bool_]:
    """Whether the test with a fixed number of pairs rejects, for each series."""
    n = values.shape[1]
    t = (values.mean(axis=1) + margin) / values.std(axis=1, ddof=1) * math.sqrt(n)
    return special.stdtr(n - 1, -t) < alpha


def ever(values: Floats, alpha: float = ALPHA, margin: float = MARGIN) -> NDArray[np.bool_]:
    """Whether the e-process ever reaches 1 / alpha, for each series."""
    return (e_values(values, margin) >= 1 / alpha).any(axis=1)


def tables(alpha: float) -> dict[tuple[int, bool], RectBivariateSpline]:
    """Tables of p values over the shift and the angle of t, for each look and for (non-)binding futility."""
    shifts, angles = np.linspace(0, 10, 151), np.linspace(-1.56, 1.56, 81)
    found = {}
    for look, n in enumerate(LOOKS):
        t = math.sqrt(n - 1) * np.tan(angles)
        for futility in (False, True):
            p_values = [stagewise_p(t, look, shift, alpha, LOOKS, futility) for shift in shifts]
            found[look, futility] = RectBivariateSpline(shifts, angles, np.array(p_values), kx=1, ky=3)
    return found


def covered(
    found: Stops, truth: float, alpha: float, splines: dict[tuple[int, bool], RectBivariateSpline]
) -> tuple[float, float, float]:
    """Shares of the series with the truth above the lower end, below the upper end, above the estimate."""
    loose, binding = np.empty_like(found.t), np.empty_like(found.t)
    for look, n in enumerate(LOOKS):
        here = found.look == look
        away = (found.mean[here] - truth) / found.sd[here]
        shift = (truth + MARGIN) / found.sd[here] / np.hypot(math.sqrt(1 - 1 / n), away)
        angle = np.arctan(away * math.sqrt(n / (n - 1)))
        loose[here] = splines[look, False].ev(np.minimum(shift, 10), angle)
        binding[here] = splines[look, True].ev(np.minimum(shift, 10), angle)
    return float(np.mean(loose > alpha)), float(np.mean(binding < 1 - alpha)), float(np.mean(binding > 0.5))


def row(*cells: object) -> None:
    print("| " + " | ".join(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |")


def boundaries(replications: int) -> None:
    published = (0.00064, 0.00362, 0.00937, 0.02299, 0.0380)
    print("\n### Nominal one-sided levels\n")
    row("alpha", *(f"n = {n}" for n in LOOKS), "total, exact", "total, simulated", "normal levels, exact")
    row(*["---"] * 9)
    for alpha in (0.05, 0.025):
        levels = nominal_levels(LOOKS, alpha)
        exact = sum(t_exits(critical(levels, LOOKS), LOOKS).upper)
        values = differences("normal", 0, 0.002, -MARGIN, (replications, LOOKS[-1]))
        found = float(stops(values, MARGIN, alpha, LOOKS, futility=False).crossed.mean())
        normal = special.ndtr(-spending_bounds(LOOKS, alpha))
        uncalibrated = sum(t_exits(critical(normal, LOOKS), LOOKS).upper)
        row(alpha, *(f"{level:.5f}" for level in levels), exact, found, uncalibrated)
    total = sum(t_exits(critical(published, LOOKS), LOOKS).upper)
    print(f"\nThe levels {', '.join(map(str, published))} have a total of {total:.4f}.")


def type_one(replications: int) -> None:
    error = math.sqrt(ALPHA * (1 - ALPHA) / replications)
    print(f"\n### Type I error at the margin (alpha 0.05, 2 Monte Carlo errors: {2 * error:.4f})\n")
    row(
        "test",
        "noise",
        "correlation",
        "fixed n = 5",
        "fixed n = 15",
        "sequential",
        "without futility",
        "anytime to 60",
    )
    row(*["---"] * 8)
    for margin in (MARGIN, 0.0):
        for noise in NOISES if margin else NOISES[:2]:
            for correlation in (0, 0.5) if not noise.startswith("one") else (0,):
                seed = SEED + int(10 * correlation) + (100 if margin == 0 else 0)
                values = differences(noise, correlation, 0.002, -margin, (replications, 60), seed)
                first = values[:, : LOOKS[-1]]
                row(
                    "non-inferiority" if margin else "superiority",
                    noise,
                    correlation,
                    float(fixed(values[:, :5], margin=margin).mean()),
                    float(fixed(first, margin=margin).mean()),
                    float(stops(first, margin, ALPHA).crossed.mean()),
                    float(stops(first, margin, ALPHA, futility=False).crossed.mean()),
                    float(ever(values, margin=margin).mean()),
                )


def coverage(replications: int) -> None:
    print("\n### Coverage of the adjusted interval, and share of series with the truth above the estimate\n")
    row(
        "level",
        "truth / margin",
        "sd / margin",
        "both sides",
        "lower end",
        "upper end",
        "above the estimate",
        "naive",
    )
    row(*["---"] * 8)
    for alpha in (0.025, 0.05):
        splines = tables(alpha)
        for truth in (-MARGIN, -MARGIN / 2, 0.0, MARGIN / 2):
            # If the truth is the margin, the result does not depend on the spread.
            for ratio in (1.0,) if truth == -MARGIN else (0.5, 0.7, 1.0, 1.5):
                sd = ratio * MARGIN
                values = differences("normal", 0, sd / math.sqrt(2), truth, (replications, LOOKS[-1]))
                found = stops(values, MARGIN, alpha)
                lower, upper, above = covered(found, truth, alpha, splines)
                n = np.array(LOOKS)[found.look]
                reach = -special.stdtrit(n - 1, alpha) * found.sd / np.sqrt(n)
                naive = float(np.mean(np.abs(found.mean - truth) < reach))
                name = f"{1 - 2 * alpha:.0%}"
                row(name, truth / MARGIN, ratio, lower + upper - 1, lower, upper, above, naive)


def population(replications: int) -> None:
    """Use a fifth of the replications, because each one simulates every item of its own test set."""
    print("\n### Coverage for the population of images, after stopping (95 %)\n")
    names = ("seeds alone", "fixed n", "population_interval", "normal quantile for items")
    row("sd of seeds", "sd of arm x item", "truth / margin", *names)
    row(*["---"] * 7)
    ends = Ends.of(0.025)
    for seed_sd, item_sd in ((0.05, 0.7), (0.2, 0.5)):
        for share in (-1.0, 0.0, 0.5):
            world = World(seed_sd, item_sd, share * World.margin)
            found = population_ends(world, ends, replications // 5, SEED)
            inside = [(found[name][0] < world.truth) & (world.truth < found[name][1]) for name in names]
            row(seed_sd, item_sd, share, *(float(one.mean()) for one in inside))


def promise(replications: int) -> None:
    print("\n### Power: calculated by the plan, and simulated\n")
    row("test", "sd / margin", "calculated", "simulated")
    row(*["---"] * 4)
    for ratio in (0.75, 1.0, 1.5):
        sd = ratio * MARGIN
        values = differences("normal", 0, sd / math.sqrt(2), 0.0, (replications, 60))
        n = sample_size(sd, MARGIN)
        row(f"fixed n = {n}", ratio, power(n, sd, MARGIN), float(fixed(values[:, :n]).mean()))
        plan = expected_pairs(sd, MARGIN)
        found = stops(values[:, : LOOKS[-1]], MARGIN, ALPHA)
        row("sequential", ratio, plan.power, float(found.crossed.mean()))
        row("sequential, number of pairs", ratio, plan.pairs, float(np.array(LOOKS)[found.look].mean()))
    for n, expected in ((3, 0.0386), (8, 0.28871), (15, 0.69339), (30, 0.94326), (50, 0.99458)):
        print(f"\nTOST, two samples of {n}: {tost_power(n, 18, 19.2, -4):.5f} (published {expected})", end="")
    print()


def cost(replications: int) -> None:
    """Compare with a fixed n of 30 per arm, which needs 60 trainings."""
    print("\n### Cost at equal error: trainings for one ratio, compared with 60 at a fixed n of 30 per arm\n")
    row(
        "truth",
        "sd",
        "power, fixed 30",
        "power, sequential",
        "trainings",
        "share",
        "power, anytime to 30",
        "trainings",
    )
    row(*["---"] * 8)
    for truth in (0.0, -0.001, -0.003):
        for arm in (0.0015, 0.002, 0.0025):
            sd = arm * math.sqrt(2)
            plan = expected_pairs(sd, MARGIN, truth)
            values = differences("normal", 0, arm, truth, (replications, 30))
            reached = e_values(values, MARGIN) >= 1 / ALPHA
            refuted = e_values(-values, -MARGIN) >= 1 / ALPHA
            stop = reached | refuted
            pairs = np.where(stop.any(axis=1), stop.argmax(axis=1) + 1, 30)
            shown = float(reached[np.arange(replications), pairs - 1].mean())
            row(
                f"{100 * truth:.1f}",
                f"{100 * arm:.2f}",
                power(30, sd, MARGIN, truth),
                plan.power,
                f"{2 * plan.pairs:.1f}",
                f"{plan.pairs / 30:.2f}",
                shown,
                f"{2 * pairs.mean():.1f}",
            )


PARTS = {part.__name__: part for part in (boundaries, type_one, coverage, population, promise, cost)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=100_000)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    asked = parser.parse_args()
    for name in asked.only:
        PARTS[name](asked.replications)


if __name__ == "__main__":
    main()
