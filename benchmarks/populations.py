"""Experiments with seeds and test items, to measure intervals for the population of items after stopping."""

import math
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.interpolate import CubicSpline

from invact.statistics.comparison.population import mean_squares, population_variance
from invact.statistics.sequential.boundaries import LOOKS
from invact.statistics.sequential.group_sequential import Stops, _theta_at, stops

STOPS = tuple(field.name for field in fields(Stops))

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ends:
    """Adjusted intervals and estimates of `group_sequential` for many series at once, by interpolation in t.

    Each end, measured from -margin in standard deviations, is a function of t alone. For the few t outside
    the table, the function of the library is called.
    """

    alpha: float
    looks: tuple[int, ...]
    curves: dict[tuple[int, float], CubicSpline]

    @classmethod
    def of(cls, alpha: float, looks: tuple[int, ...] = LOOKS, nodes: int = 31) -> Self:
        """Tabulate a design with `nodes` values of t per look; errors are below 0.003 standard deviations."""
        curves = {}
        for look, n in enumerate(looks):
            angles = np.linspace(*np.arctan(np.array([-2.5, 12]) / math.sqrt(n - 1)), nodes)
            t = math.sqrt(n - 1) * np.tan(angles)
            for level in (alpha, 0.5, 1 - alpha):
                ends = [_theta_at(level, one, look, alpha, looks, level != alpha) for one in t]
                curves[look, level] = CubicSpline(angles, np.cos(angles) * ends, extrapolate=False)
        return cls(alpha, looks, curves)

    def __call__(self, found: Stops, level: float, margin: float) -> Floats:
        """Lower end for the level alpha, upper end for 1 - alpha, estimate for 0.5."""
        ends = np.empty_like(found.t)
        for look, n in enumerate(self.looks):
            here = np.flatnonzero(found.look == look)
            angles = np.arctan(found.t[here] / math.sqrt(n - 1))
            ends[here] = self.curves[look, level](angles) / np.cos(angles)
            for row in here[np.isnan(ends[here])]:
                t = float(found.t[row])
                ends[row] = _theta_at(level, t, look, self.alpha, self.looks, level != self.alpha)
        return ends * found.sd - margin


@dataclass(frozen=True)
class World:
    """Probit model of correct and wrong answers for seeds and test items."""

    seed_sd: float
    item_sd: float
    truth: float
    margin: float = 0.03
    items: int = 200

    def draw(self, rng: np.random.Generator, replications: int, seeds: int) -> NDArray[np.float32]:
        """Draw treatment - control for each seed and item, shape (replications, seeds, items)."""
        level = 1.5
        total = math.sqrt(1 + 2**2 + self.seed_sd**2 + self.item_sd**2)
        levels = level, total * special.ndtri(special.ndtr(level / total) + self.truth)

        def normal(sd: float, *shape: int) -> NDArray[np.float32]:
            return sd * rng.standard_normal((replications, *shape), dtype=np.float32)

        difficulty = normal(2, 1, self.items)
        old, new = (
            level
            + normal(self.seed_sd, seeds, 1)
            + difficulty
            + normal(self.item_sd, 1, self.items)
            + normal(1, seeds, self.items)
            > 0
            for level in levels
        )
        return new.astype(np.float32) - old


def population_ends(
    world: World, ends: Ends, replications: int, seed: int
) -> dict[str, tuple[Floats, Floats]]:
    """Compute intervals of the difference for the population of items, after the sequential test stopped."""
    rng, batch, found = np.random.default_rng(seed), 200, []
    for _ in range(replications // batch):
        differences = world.draw(rng, batch, ends.looks[-1])
        stop = stops(differences.mean(axis=2, dtype=float), world.margin, ends.alpha, ends.looks)
        squares = np.empty((3, batch))
        for look, n in enumerate(ends.looks):
            here = stop.look == look
            squares[:, here] = mean_squares(differences[here, :n].astype(float))
        found.append((stop, squares))
    stop = Stops(*(np.concatenate([getattr(one, name) for one, _ in found]) for name in STOPS))
    a, b, e = np.concatenate([squares for _, squares in found], axis=1)
    n = np.array(ends.looks)[stop.look]
    low, middle, high = (ends(stop, level, world.margin) for level in (ends.alpha, 0.5, 1 - ends.alpha))
    variance, df = population_variance(a, b, e, n, world.items)
    seeds = -special.stdtrit(n - 1, ends.alpha) * np.sqrt(a / (n * world.items))
    both = -special.stdtrit(df, ends.alpha) * np.sqrt(variance)
    normal = special.ndtri(ends.alpha) ** 2 * np.maximum(b - e, 0) / (n * world.items)

    def moved(added: Floats) -> tuple[Floats, Floats]:
        return middle - np.sqrt((middle - low) ** 2 + added), middle + np.sqrt((high - middle) ** 2 + added)

    return {
        "seeds alone": (low, high),
        "fixed n": (stop.mean - both, stop.mean + both),
        "population_interval": moved(np.maximum(both**2 - seeds**2, 0)),
        "normal quantile for items": moved(normal),
    }
