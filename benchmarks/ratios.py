"""Coverage of ratios and of gaps between fronts, from simulations with a known truth.

    python -m benchmarks.ratios [--replications N]

The printed tables are part of docs/ratios.md.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from invact.statistics.fronts.gaps import front_gap
from invact.statistics.fronts.uncertainty import Candidates
from invact.statistics.intervals import t_quantile
from invact.statistics.ratios import shared_curve as fitting
from invact.statistics.ratios.equivalence import curve_ratio
from invact.statistics.ratios.local import half_width, influence, local_ratio, powers, spread
from invact.statistics.ratios.observations import estimates, observations, residual
from invact.statistics.ratios.parallel_line import limits

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

LOCAL = np.repeat([2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 11.0, 16.0], 4)
"""Widths of the runs of the treatment, for the local ratio."""
NARROW = np.repeat([3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0], 4)
OWN, OWN_RUNS = 8.0, 8
"""Width of the control, and its number of runs."""
LAWS = {0.0: "constant", 0.5: "as width^-1/2", 1.0: "as 1 / width"}
RISE = 0.05
"""Rise of the treatment's accuracy from its smallest to its largest width, as a fraction."""

Curve = Callable[[np.ndarray], np.ndarray]


def logistic(slope: float) -> Curve:
    """Logistic curve in log2(width), steepest at two filters; the slope is in octaves."""
    return lambda width: 1 / (1 + np.exp((1 - np.log2(width)) / slope))


CURVES: dict[str, Curve] = {
    "power law, exponent 0.5": lambda width: -(width**-0.5),
    "power law, exponent 1": lambda width: -1 / width,
    "exponential, scale 8": lambda width: -np.exp(-width / 8),
    "exponential, scale 4": lambda width: -np.exp(-width / 4),
    "logistic, slope 1.4": logistic(1.4),
    "logistic, slope 1": logistic(1.0),
}
SHARPER: dict[str, Curve] = {
    "power law, exponent 1.5": lambda width: -(width**-1.5),
    "exponential, scale 3": lambda width: -np.exp(-width / 3),
    "logistic, slope 0.7": logistic(0.7),
}
"""Curves that level off within few widths, so that a cubic follows them less closely."""


Shape = tuple[int, int]
Noise = Callable[[np.random.Generator, Shape], np.ndarray]
"""Draws deviations with mean 0 and variance 1 of shape (runs, replications)."""

NOISES: dict[str, Noise] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "exponential, tail below": lambda rng, shape: 1 - rng.standard_exponential(shape),
}
FURTHER: dict[str, Noise] = {
    "exponential, tail above": lambda rng, shape: rng.standard_exponential(shape) - 1,
    "uniform": lambda rng, shape: rng.uniform(-math.sqrt(3), math.sqrt(3), shape),
    "two groups": lambda rng, shape: rng.choice([-0.95, 0.95], shape) + rng.normal(0, 0.3, shape),
    "t, 3 degrees of freedom": lambda rng, shape: rng.standard_t(3, shape) / math.sqrt(3),
    "one run in ten is 3 sd lower": lambda rng, shape: (
        (rng.standard_normal(shape) + 0.3 - 3 * (rng.random(shape) < 0.1)) / math.sqrt(1.81)
    ),
}


@dataclass(frozen=True)
class World:
    """A true curve of the treatment, and how its runs and those of the control vary.

    Attributes:
        curve: name in CURVES or SHARPER.
        precision: rise of the curve, divided by the standard deviation of a run with eight filters.
        law: the standard deviation of a run is proportional to width^-law.
        noise: name in NOISES or FURTHER.
        ratio: true ratio of filters.
        images: number of test images, to which accuracies are rounded; 0 for no rounding.
        macs: whether the curve is fitted over MACs, not over filters.
        narrow: whether the treatment has 3 to 12 filters, not 2 to 16.
    """

    curve: str
    precision: int = 20
    law: float = 0.0
    noise: str = "normal"
    ratio: float = 0.625
    images: int = 0
    macs: bool = False
    narrow: bool = False

    @property
    def widths(self) -> np.ndarray:
        """Width of each run of the treatment."""
        return NARROW if self.narrow else LOCAL

    @property
    def floor(self) -> float:
        """Smallest standard deviation of a run: half an image."""
        return 0.5 / self.images if self.images else 0.0

    def dose(self, widths: np.ndarray) -> np.ndarray:
        """Filters, or the MACs of the treatment in the shipped claim on digits."""
        return widths * (736 + 576 * widths) if self.macs else widths

    def accuracy(self, widths: np.ndarray) -> np.ndarray:
        """True accuracy of the treatment."""
        curve = (CURVES | SHARPER)[self.curve]
        ends = curve(LOCAL[[0, -1]])
        return 0.9 + RISE * (curve(widths) - ends[1]) / (ends[1] - ends[0])

    def deviations(self, rng: np.random.Generator, widths: np.ndarray, count: int) -> np.ndarray:
        """Deviations of `count` runs at each width, shape (widths, count)."""
        unit = (NOISES | FURTHER)[self.noise](rng, (len(widths), count))
        return RISE / self.precision * (OWN / widths[:, None]) ** self.law * unit

    def draw(self, rng: np.random.Generator, replications: int) -> tuple[np.ndarray, np.ndarray]:
        """Accuracies of the treatment and the control, shape (runs, replications)."""
        level = self.accuracy(np.array([OWN * self.ratio]))
        treated = self.accuracy(self.widths)[:, None] + self.deviations(rng, self.widths, replications)
        control = level + self.deviations(rng, np.full(OWN_RUNS, OWN), replications)
        if self.images:
            treated, control = (np.round(arm * self.images) / self.images for arm in (treated, control))
        return treated, control


def worlds(
    curves: Sequence[str] = tuple(CURVES),
    precisions: Sequence[int] = (10, 20, 40),
    noises: Sequence[str] = tuple(NOISES),
) -> list[World]:
    """All combinations of curve, precision, law, noise and ratio: 432 by default."""
    ratios = (0.5, 0.625, 0.75, 1.0)
    return [World(*values) for values in itertools.product(curves, precisions, LAWS, noises, ratios)]


def outcomes(world: World, y: np.ndarray, control: np.ndarray, degree: int = 3) -> tuple[np.ndarray, ...]:
    """Whether the interval of each replication contains the true ratio, and has a lower and an upper end.

    The same steps as `local_ratio`, for all replications at once and with fewer points of the grid. A curve
    that is significantly below or above at all its widths does not contain the true ratio.
    """
    low, high = np.log2(world.dose(world.widths[[0, -1]]))

    def place(widths: np.ndarray) -> np.ndarray:
        return 2 * (np.log2(world.dose(widths)) - low) / (high - low) - 1

    x, truth = place(world.widths), place(np.array([OWN * world.ratio]))
    inverse, leverage = influence(x, degree)
    squares = spread(x, y, inverse, leverage, world.floor)
    at = np.sort(np.append(np.linspace(-1, 1, 17), truth))
    here = int(np.searchsorted(at, truth[0]))
    weights = powers(at, degree) @ inverse
    error = np.maximum(control.var(axis=0, ddof=1), world.floor**2) / len(control)
    half = half_width(weights**2 @ squares, len(x) - degree - 1, error, len(control) - 1, 0.95)
    gap = weights @ y - control.mean(axis=0)
    below, above = gap + half < 0, gap - half > 0
    # The lower end lies above the truth if the curve is significantly below at all widths up to the truth.
    missed = below[: here + 1].all(axis=0) | above[here:].all(axis=0)
    return ~missed, below[0] & ~below.all(axis=0), above[-1] & ~above.all(axis=0)


def local(every: Sequence[World], replications: int, seed: int = 0, degree: int = 3) -> np.ndarray:
    """Coverage, share with both ends and share with an end, of each world; shape (worlds, 3)."""
    rng = np.random.default_rng(seed)
    shares = []
    for world in every:
        covered, low, high = outcomes(world, *world.draw(rng, replications), degree)
        shares.append([covered.mean(), (low & high).mean(), (low | high).mean()])
    return np.array(shares)


def local_rows(replications: int) -> Iterator[tuple[str, np.ndarray]]:
    """The shares of groups of worlds."""
    every = worlds()
    shares = local(every, replications)
    yield "all", shares
    texts: dict[str, Callable[[World], str]] = {
        "sd of a run": lambda world: LAWS[world.law],
        "curve": lambda world: world.curve,
        "rise": lambda world: f"{world.precision} sd",
        "deviations": lambda world: world.noise,
        "true ratio": lambda world: f"{world.ratio:g}",
    }
    for name, text in texts.items():
        for value in dict.fromkeys(text(world) for world in every):
            yield f"{name}: {value}", shares[[text(world) == value for world in every]]
    middle = worlds(precisions=[20])
    for noise in FURTHER:
        yield (
            f"rise: 20 sd, deviations: {noise}",
            local(worlds(precisions=[20], noises=[noise]), replications),
        )
    coarse = [replace(world, images=360) for world in every]
    yield "all, in whole images of 360", local(coarse, replications // 4)
    yield "rise: 20 sd, over MACs", local([replace(world, macs=True) for world in middle], replications // 4)
    yield "all, but with a quadratic", local(every, replications // 4, degree=2)
    yield "rise: 80 sd", local(worlds(precisions=[80]), replications // 4)
    for precision in (20, 40, 80):
        sharper = worlds([*SHARPER], [precision])
        yield f"sharper curves, rise: {precision} sd", local(sharper, replications // 4)
    narrow = [replace(world, narrow=True) for world in sharper]
    yield "sharper curves, rise: 80 sd, 3 to 12 filters", local(narrow, replications // 4)


COMPARED = (
    ("", World("power law, exponent 1")),
    ("", World("power law, exponent 1", law=0.5)),
    ("", World("power law, exponent 1", law=1.0)),
    ("", World("exponential, scale 8")),
    ("", World("exponential, scale 4")),
    ("", World("logistic, slope 1")),
    ("exponential, scale 4", World("power law, exponent 1")),
    ("exponential, scale 4", World("logistic, slope 1")),
)
"""Curve of the control ("" for that of the treatment, shifted), and the world of the treatment."""


def compared(control: str, world: World, replications: int, seed: int) -> list[float]:
    """Both ends and coverage of `local_ratio`, then identifiable and coverage of these of `curve_ratio`.

    The control's curve goes through the same accuracy at its own width. It is the treatment's curve, shifted,
    or another one if `control` names it.
    """
    rng = np.random.default_rng(seed)
    own = np.repeat([4.0, 5.0, 6.0, 8.0, 8.0, 11.0, 16.0], 4)
    widths, treated = np.concatenate([own, LOCAL]), np.repeat([False, True], [len(own), len(LOCAL)])
    level = world.accuracy(np.array([OWN * world.ratio]))
    mean = world.accuracy(own * world.ratio)
    if control:
        other = replace(world, curve=control)
        mean = level + other.accuracy(own) - other.accuracy(np.array([OWN]))
    truth = np.concatenate([mean, world.accuracy(LOCAL)])
    found = np.zeros(4)
    for y in (truth[:, None] + world.deviations(rng, widths, replications)).T:
        one = local_ratio(LOCAL, y[treated], OWN, y[~treated & (widths == OWN)])
        low, high = one.low or 0.0, one.high or math.inf
        found[:2] += one.identifiable, low <= world.ratio <= high
        two = curve_ratio(widths, y, treated)
        if two.interval is not None:
            found[2:] += 1, two.interval[0] <= world.ratio <= two.interval[1]
    both, covered, passed, held = found.tolist()
    share = held / passed if passed else math.nan
    return [both / replications, covered / replications, passed / replications, share]


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
    data = observations(widths, np.zeros(len(x)), treated)
    design = np.column_stack([np.ones(len(x)), treated, x])
    y = slope * (x + truth * treated)[:, None] + rng.normal(0, spread, (len(x), replications))
    left, df = residual(data.cell_columns(), y)
    effects, unit = estimates(design, y)
    variance = left / df
    t = t_quantile(df, 0.95)
    covariance = variance[:, None, None] * unit[1:, 1:]
    low, high, g = limits(effects[1], effects[2], covariance, t**2)
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
    """The other simulations; those that fit one data set at a time have fewer replications."""
    for seeds, slope in ((5, 0.03), (8, 0.03), (5, 0.0015)):
        yield from parallel_lines(replications, seeds, slope)
    for seeds in (5, 8):
        yield from shared_curve(replications // 2, seeds)
    for seeds, gap, largest in ((5, 0.0, 0.0), (8, 0.0, 0.0), (8, 0.005, -0.003), (8, 0.005, 0.0)):
        yield from fronts(replications // 10, seeds, gap, largest)


def main(replications: int) -> None:
    start = time.process_time()
    print("| worlds | number | coverage | worst world | both ends | an end, worst world |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, shares in local_rows(replications):
        coverage, both, _ = shares.mean(axis=0)
        worst, _, one = shares.min(axis=0)
        print(
            f"| {name} | {len(shares)} | {coverage:.3f} | {worst:.3f} | {both:.3f} | {one:.3f} |", flush=True
        )
    columns = "curve of the treatment | curve of the control | sd of a run"
    print(f"\n| {columns} | both ends | coverage | identifiable | coverage |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: |")
    for seed, (control, world) in enumerate(COMPARED):
        figures = compared(control, world, replications // 10, seed)
        texts = [world.curve, control or "the same", LAWS[world.law], *(f"{value:.3f}" for value in figures)]
        print(f"| {' | '.join(texts).replace('nan', 'none')} |", flush=True)
    print("\n| quantity | scenario | runs | share | error | promised |")
    print("| --- | --- | ---: | ---: | ---: | --- |")
    for rate in rates(replications):
        promised = "" if rate.promised is None else f"{rate.promised[0]:g} to {rate.promised[1]:g}"
        figures = f"{rate.replications} | {rate.share:.4f} | {rate.error:.4f} | {promised}"
        print(f"| {rate.name} | {rate.scenario} | {figures} |", flush=True)
    print(f"\nCPU time: {time.process_time() - start:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=10_000)
    main(parser.parse_args().replications)
