"""Coverage of intervals for the population of images, from simulated runs with a known truth.

    python -m benchmarks.populations

The printed table is part of docs/statistics.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from invact.statistics.comparison.population import image_variance

__all__ = ["RUNS", "WORLDS", "Rate", "World", "coverage", "welch_interval"]

LEVEL, SEED = 0.025, 20260101
RUNS = ((6, 6), (10, 10), (18, 18), (18, 6))
"""Numbers of runs of control and treatment."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class World:
    """Probit model of correct and wrong answers.

    An answer is correct if the level of the arm + the difficulty of the image + effects + noise of standard
    deviation 1 is positive. The difficulty has standard deviation 2 and is common to both arms.

    Attributes:
        runs: standard deviation of the effect of a run, in the control and in the treatment.
        arm_images: standard deviation of the effect of an image in one arm.
        truth: accuracy of the treatment - accuracy of the control in the population, as a fraction.
        images: number of images of a test set.
    """

    runs: tuple[float, float]
    arm_images: float
    truth: float
    images: int = 200

    def draw(self, rng: np.random.Generator, replications: int, runs: tuple[int, int]) -> tuple[Bools, Bools]:
        """Draw answers of control and treatment, each of shape (replications, runs, images)."""

        def normal(sd: float, *shape: int) -> NDArray[np.float32]:
            return np.float32(sd) * rng.standard_normal((replications, *shape), dtype=np.float32)

        difficulty = normal(2, 1, self.images)
        # The accuracy of the control is the same in all worlds, so that the truth is exact in each.
        accuracy, arms = 0.75, []
        for n, sd, share in zip(runs, self.runs, (accuracy, accuracy + self.truth), strict=True):
            level = math.sqrt(1 + 2**2 + sd**2 + self.arm_images**2) * special.ndtri(share)
            effects = normal(sd, n, 1) + difficulty + normal(self.arm_images, 1, self.images)
            arms.append(effects + normal(1, n, self.images) > -level)
        return arms[0], arms[1]


WORLDS = tuple(
    World(runs, arm_images, truth)
    for runs, arm_images in (((0.05, 0.05), 0.7), ((0.2, 0.2), 0.5), ((0.05, 0.2), 0.5), ((0.1, 0.1), 0.0))
    for truth in (-0.03, 0.0)
)


@dataclass(frozen=True)
class Rate:
    """Coverage of the truth of the population.

    Attributes:
        test_set: share of the intervals of Welch's test that contain the truth. They are for the test set.
        population: share of the intervals of `population_interval` that contain it.
    """

    test_set: float
    population: float


def welch_interval(control: Bools, treatment: Bools, level: float) -> tuple[Floats, Floats]:
    """Difference of the mean accuracies, and half the width of Welch's interval; shape (replications,)."""
    means, parts, df = [], [], []
    for arm in (control, treatment):
        accuracies = arm.mean(axis=2)
        means.append(accuracies.mean(axis=1))
        parts.append(accuracies.var(axis=1, ddof=1) / arm.shape[1])
        df.append(arm.shape[1] - 1)
    square = parts[0] + parts[1]
    together = square**2 / (parts[0] ** 2 / df[0] + parts[1] ** 2 / df[1])
    return means[1] - means[0], special.stdtrit(together, 1 - level) * np.sqrt(square)


def coverage(
    world: World, runs: tuple[int, int], replications: int, level: float = LEVEL, seed: int = SEED
) -> Rate:
    """Compute the coverage at error `level` on each side, with as many runs as planned."""
    rng = np.random.default_rng(seed)
    inside = np.zeros(2)
    batch = min(200, replications)
    for _ in range(replications // batch):
        control, treatment = world.draw(rng, batch, runs)
        difference, half = welch_interval(control, treatment, level)
        moved = np.sqrt(half**2 + special.ndtri(level) ** 2 * image_variance(control, treatment))
        off = np.abs(difference - world.truth)
        inside += [(off < half).sum(), (off < moved).sum()]
    return Rate(*(inside / (replications // batch * batch)).tolist())


def rows(replications: int) -> Iterator[tuple[World, tuple[int, int], Rate]]:
    """Compute all rows of the table."""
    for world in WORLDS:
        for runs in RUNS:
            yield world, runs, coverage(world, runs, replications)


def main(replications: int) -> None:
    """Print the table."""
    print("| sd of runs | sd of arm x image | truth | runs | this test set alone | population_interval |")
    print("| --- | --- | --- | --- | --- | --- |")
    for world, runs, rate in rows(replications):
        sd = " and ".join(f"{one:g}" for one in world.runs)
        counts = f"{runs[0]} and {runs[1]}"
        found = f"{rate.test_set:.4f} | {rate.population:.4f}"
        print(f"| {sd} | {world.arm_images:g} | {world.truth:g} | {counts} | {found} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--replications", type=int, default=10_000)
    main(parser.parse_args().replications)
