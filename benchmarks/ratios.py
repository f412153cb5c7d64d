"""Coverage of ratios, scopes and gaps between fronts, from simulations with a known truth.

    python benchmarks/ratios.py [replications]

The printed tables are part of docs/ratios.md.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import special

from invact.statistics.comparison.population import mean_squares, population_variance
from invact.statistics.fronts.gaps import front_gap
from invact.statistics.fronts.uncertainty import Candidates
from invact.statistics.intervals import t_quantile
from invact.statistics.ratios import parallel_line
from invact.statistics.ratios import shared_curve as fitting
from invact.statistics.ratios.equivalence import curve_ratio

CONTROL, TREATMENT = (6.0, 10.0, 16.0, 26.0, 42.0), (5.0, 8.0, 13.0, 21.0, 34.0)
RATIO = 0.6
SD = 0.002


@dataclass(frozen=True)
class Rate:
    """A share of replications, in [0, 1], and the range that it must have (None: no requirement)."""

    name: str
    scenario: str
    replications: int
    share: float
    promised: tuple[float, float] | None

    @property
    def error(self) -> float:
        """Monte Carlo standard error."""
        return math.sqrt(self.share * (1 - self.share) / self.replications)


COVERAGE = (0.94, 0.96)


def layout(seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Widths and arms of all runs of one experiment."""
    widths = np.repeat(np.concatenate([CONTROL, TREATMENT]), seeds)
    return widths, np.repeat([False, True], 5 * seeds)


def parallel_lines(replications: int, seeds: int, slope: float, spread: float = SD) -> Iterator[Rate]:
    """Coverage of Fieller's interval and, for comparison, of the delta method, on lines in ln(width)."""
    rng = np.random.default_rng(seeds)
    widths, treated = layout(seeds)
    x = np.log(widths)
    truth = -math.log(RATIO)
    data = parallel_line.observations(widths, np.zeros(len(x)), treated)
    design = np.column_stack([np.ones(len(x)), treated, x])
    y = slope * (x + truth * treated)[:, None] + rng.normal(0, spread, (len(x), replications))
    left, df = parallel_line.residual(data.cell_columns(), y)
    effects, unit = parallel_line.estimates(design, y)
    variance = left / df
    t = t_quantile(df, 0.95)
    covariance = variance[:, None, None] * unit[1:, 1:]
    low, high, g = parallel_line.limits(effects[1], effects[2], covariance, t**2)
    ratio = effects[1] / effects[2]
    mix = np.stack([np.ones(replications), -ratio])
    delta = t * np.sqrt(variance * np.einsum("ir,ij,jr->r", mix, unit[1:, 1:], mix)) / np.abs(effects[2])
    scenario = f"{seeds} seeds, median g {np.median(g):.2g}"
    covered = np.mean((low <= truth) & (truth <= high))
    yield Rate("parallel lines, Fieller", scenario, replications, float(covered), COVERAGE)
    covered = np.mean(np.abs(ratio - truth) <= delta)
    yield Rate("parallel lines, delta method", scenario, replications, float(covered), None)


def accuracy(widths: np.ndarray, treated: np.ndarray) -> np.ndarray:
    """Accuracy by a power law, from 0.85 at the smallest width to 0.91 at the largest."""
    return 0.92 - 0.4 / (widths * np.where(treated, 1 / RATIO, 1))


def shared_curve(replications: int, seeds: int) -> Iterator[Rate]:
    """Coverage of both intervals of the shared curve: the t interval and the profile interval."""
    rng = np.random.default_rng(seeds)
    widths, treated = layout(seeds)
    truth, z = -math.log(RATIO), treated.astype(float)
    x = np.log(widths) - np.log(widths).mean()
    df = len(x) - 4
    t = t_quantile(df, 0.95)
    covered = np.zeros(3)
    for _ in range(replications):
        y = accuracy(widths, treated) + rng.normal(0, SD, len(x))
        fit = fitting.best_fit(x, y, z)
        variance = 2 * fit.cost / df
        covered[0] += abs(fit.x[3] - truth) <= t * math.sqrt(variance * fitting.inverse(fit.jac)[3, 3])
        covered[1] += 2 * (fitting.solve(x, y, z, fit.x[:3], fixed=truth).cost - fit.cost) <= t**2 * variance
        covered[2] += bool(fitting.faults(fit))
    share = (covered / replications).tolist()
    scenario = f"{seeds} seeds, R {RATIO}"
    yield Rate("shared curve, t interval", scenario, replications, share[0], COVERAGE)
    yield Rate("shared curve, profile", scenario, replications, share[1], COVERAGE)
    yield Rate("shared curve, fit with a problem", scenario, replications, share[2], (0.0, 0.001))


def gated(replications: int, seeds: int) -> Iterator[Rate]:
    """Share of ratios that pass the gates, and the coverage of these ratios."""
    rng = np.random.default_rng(100 + seeds)
    widths, treated = layout(seeds)
    passed = held = profile = 0
    for _ in range(replications):
        found = curve_ratio(widths, accuracy(widths, treated) + rng.normal(0, SD, len(widths)), treated)
        if found.interval is not None:
            passed += 1
            held += found.interval[0] <= RATIO <= found.interval[1]
            profile += found.fit.profile[0] <= RATIO <= found.fit.profile[1]
    scenario = f"{seeds} seeds, R {RATIO}"
    yield Rate("shared curve, identifiable", scenario, replications, passed / replications, None)
    yield Rate("identifiable, t interval", scenario, passed, held / passed, None)
    yield Rate("identifiable, profile", scenario, passed, profile / passed, None)


def two_scopes(replications: int, seeds: int, arm_item_sd: float, seed_sd: float) -> Iterator[Rate]:
    """Coverage for the population of items, drawn from a probit model: by seeds alone and two-way."""
    rng = np.random.default_rng(seeds)
    items, batch, levels = 500, 100, (1.5, 1.6)
    total = math.sqrt(1 + 2**2 + seed_sd**2 + arm_item_sd**2)
    truth = special.ndtr(levels[1] / total) - special.ndtr(levels[0] / total)

    def normal(sd: float, *shape: int) -> np.ndarray:
        return sd * rng.standard_normal((batch, *shape), dtype=np.float32)

    found = []
    for _ in range(replications // batch):
        difficulty = normal(2, 1, items)
        old, new = (
            level
            + normal(seed_sd, seeds, 1)
            + difficulty
            + normal(arm_item_sd, 1, items)
            + normal(1, seeds, items)
            > 0
            for level in levels
        )
        differences = new.astype(float) - old
        found.append([differences.mean(axis=(1, 2)), *mean_squares(differences)])
    mean, a, b, e = np.concatenate(found, axis=1)
    off = np.abs(mean - truth)
    scenario = f"{seeds} seeds, {items} items, sd {arm_item_sd} of arm x item, {seed_sd} of seed"
    half = special.stdtrit(seeds - 1, 0.975) * np.sqrt(a / (seeds * items))
    yield Rate("population, by seeds alone", scenario, len(mean), float(np.mean(off <= half)), None)
    variance, df = population_variance(a, b, e, seeds, items)
    half = special.stdtrit(df, 0.975) * np.sqrt(variance)
    yield Rate("population, two-way", scenario, len(mean), float(np.mean(off <= half)), COVERAGE)


def fronts(replications: int, seeds: int, gap: float, largest: float) -> Iterator[Rate]:
    """Coverage of the simultaneous band of the gap, and the share of fronts that dominate the other."""
    rng = np.random.default_rng(seeds)
    macs, margin = np.array([100.0, 200.0, 300.0, 400.0, 800.0]), 0.003
    # The third configuration is dominated by the second.
    control = np.array([0.860, 0.880, 0.870, 0.895, 0.905])
    gaps = np.array([gap, gap, gap, gap, largest])
    held = dominates = 0
    for number in range(replications):
        arms = []
        for level in (control, control + gaps):
            # Part of the noise comes from the training and is common to validation and test; the rest is not.
            trained = level[:, None] + rng.normal(0, 0.0015, (len(macs), seeds))
            arms.append(Candidates(*(trained + rng.normal(0, 0.0015, (2, *trained.shape))), macs))
        found = front_gap(*arms, margin=margin, resamples=400, seed=number)
        held += (np.array(found.low) <= gaps).all() and (gaps <= np.array(found.high)).all()
        dominates += found.dominates
    scenario = f"{seeds} seeds, gap {100 * gap:+.1f} points, largest budget {100 * largest:+.1f}"
    yield Rate("gap of fronts, simultaneous band", scenario, replications, held / replications, None)
    # "Dominates" is false if no budget is better, or if one budget is worse by the margin.
    false = gap <= 0 or largest <= -margin
    promised = (0.0, 0.025) if false else None
    yield Rate("front dominates", scenario, replications, dominates / replications, promised)


def rates(replications: int) -> Iterator[Rate]:
    """Run all simulations: `replications` each, a tenth of them for the gated fit, a quarter for fronts."""
    for seeds, slope in ((5, 0.03), (8, 0.03), (5, 0.0015)):
        yield from parallel_lines(replications, seeds, slope)
    for seeds in (5, 8):
        yield from shared_curve(replications, seeds)
        yield from gated(replications // 10, seeds)
    for seeds in (5, 8, 15):
        yield from two_scopes(replications, seeds, 0.7, 0.03)
    yield from two_scopes(replications, 5, 0.5, 0.2)
    for seeds, gap, largest in ((5, 0.0, 0.0), (8, 0.0, 0.0), (8, 0.005, -0.003), (8, 0.005, 0.0)):
        yield from fronts(replications // 4, seeds, gap, largest)


def main(replications: int) -> None:
    print(f"| {'quantity':33} | {'scenario':61} | runs | share | error | promised |")
    print("| --- | --- | ---: | ---: | ---: | --- |")
    start = time.process_time()
    for rate in rates(replications):
        promised = "" if rate.promised is None else f"{rate.promised[0]:g} to {rate.promised[1]:g}"
        figures = f"{rate.replications} | {rate.share:.4f} | {rate.error:.4f} | {promised}"
        print(f"| {rate.name:33} | {rate.scenario:61} | {figures} |", flush=True)
    print(f"\nCPU time: {time.process_time() - start:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 20_000)
