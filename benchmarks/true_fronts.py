"""Fronts of simulated sweeps whose true front is known: is a probability of being on it right?

    python -m benchmarks.true_fronts [--worlds N] [--only PART ...]

The printed tables are part of docs/fronts.md. Each world has 20 configurations. Their true accuracies (the
mean over all seeds and all images) lie around a curve over the cost. Whether a run is correct on an image
depends on the accuracy of the configuration, on how hard the image is for all networks, on how hard it is for
this configuration, on the seed, and on chance. All configurations are measured on the same images.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from invact.fronts.images import Known
from invact.statistics.fronts.dominance import non_dominated
from invact.statistics.fronts.noise import binomial_root, image_root
from invact.statistics.fronts.probability import front_probability
from invact.statistics.fronts.uncertainty import Candidates, Selection, front_bootstrap

__all__ = ["EDGES", "KINDS", "Drawn", "Setting", "bins", "bootstrap_share", "draw", "single_seed", "supposed"]

Floats = NDArray[np.float64]

Truth = Callable[[np.random.Generator, Floats], Floats]

SEED, CONFIGURATIONS = 20260101, 20
EDGES = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)
"""Limits of the bins of P."""

HARD = 0.7
"""Share of the latent variance on an image that is common to all networks."""


def _curve(top: float, rise: float, bend: float, spread: float) -> Truth:
    return lambda rng, x: top - rise * np.exp(-bend * x) + rng.normal(0, spread, len(x))


def _arms(rng: np.random.Generator, x: Floats) -> Floats:
    return _curve(0.97, 0.08, 3, 0.0015)(rng, x) + 0.006 * (rng.random(len(x)) < 0.5)


def _poor(rng: np.random.Generator, x: Floats) -> Floats:
    tail = np.where(rng.random(len(x)) < 0.3, rng.exponential(0.03, len(x)), 0)
    return _curve(0.975, 0.06, 3, 0.003)(rng, x) - tail


KINDS: dict[str, Truth] = {
    "around a curve, sd 0.5 points": _curve(0.98, 0.08, 3, 0.005),
    "around a curve, sd 0.2 points": _curve(0.97, 0.03, 2, 0.002),
    "two arms, 0.6 points apart": _arms,
    "hard data, sd 1 point": _curve(0.70, 0.20, 2, 0.010),
    "three in ten are poor": _poor,
}
"""True accuracies of the configurations, from x in [0, 1], which is the logarithm of the cost."""

LIMITS: dict[str, Truth] = {
    "on a curve, sd 0.02 points": _curve(0.98, 0.08, 3, 0.0002),
    "all alike, sd 0.1 points": _curve(0.95, 0, 1, 0.001),
}
"""Worlds whose differences are far below the noise, so that no data of this size can show them."""


@dataclass(frozen=True)
class Setting:
    """How the runs of a world are measured.

    Attributes:
        kind: a key of `KINDS`.
        seeds: number of seeds.
        images: number of images.
        sd: standard deviation of a run over the seeds, in points. That of a configuration is 0.5, 1 or 2
            times as large.
        own: share of the latent variance on an image that belongs to one configuration, for all its seeds.
            It lets a fixed split favour single networks.
    """

    kind: str
    seeds: int = 3
    images: int = 2000
    sd: float = 0.3
    own: float = 0.05


@dataclass(frozen=True)
class Drawn:
    """A world: cost and true accuracy of the configurations, and the answers of their runs on both splits.

    Attributes:
        cost: shape (configurations,).
        truth: shape (configurations,).
        validation: shape (configurations, seeds, images).
        test: the same for other images.
    """

    cost: Floats
    truth: Floats
    validation: NDArray[np.bool_]
    test: NDArray[np.bool_]

    @property
    def on_front(self) -> NDArray[np.bool_]:
        """Whether each configuration is on the true front."""
        return non_dominated(self.truth, self.cost)


def draw(rng: np.random.Generator, setting: Setting, test: bool = False) -> Drawn:
    """Draw a world, with test images only if requested."""
    x = np.sort(rng.random(CONFIGURATIONS))
    truth = np.clip((KINDS | LIMITS)[setting.kind](rng, x), 0.05, 0.998)
    level = special.ndtri(truth)
    # The slope of the normal distribution turns a deviation of the accuracy into one of the latent scale.
    slope = np.exp(-(level**2) / 2) / np.sqrt(2 * np.pi)
    sd = setting.sd / 100 * rng.choice([0.5, 1, 2], CONFIGURATIONS)
    luck = np.minimum((sd / slope) ** 2, 0.2)[:, None]
    run = (level[:, None] + np.sqrt(luck) * rng.standard_normal((CONFIGURATIONS, setting.seeds)))[..., None]
    rest = np.sqrt(1 - HARD - setting.own - luck)[..., None]

    def answers() -> NDArray[np.bool_]:
        image = np.sqrt(HARD) * rng.standard_normal(setting.images, dtype=np.float32)
        own = np.sqrt(setting.own) * rng.standard_normal(
            (CONFIGURATIONS, 1, setting.images), dtype=np.float32
        )
        noise = rest * rng.standard_normal((*run.shape[:2], setting.images), dtype=np.float32)
        return np.asarray(run + image + own + noise > 0)

    seen = answers()
    return Drawn(10 ** (4 + 2 * x), truth, seen, answers() if test else seen[..., :0])


def supposed(world: Drawn, known: Known = Known.HITS, draws: int = 2_000) -> Floats:
    """Compute P of each configuration, with what is known about the images."""
    accuracy = world.validation.mean(axis=2)
    images = {
        Known.HITS: lambda: image_root(world.validation),
        Known.COUNT: lambda: binomial_root(accuracy.mean(axis=1), world.validation.shape[2]),
        Known.NOTHING: lambda: None,
    }[known]()
    return front_probability(accuracy, world.cost, images, draws)


def bootstrap_share(world: Drawn, draws: int = 2_000) -> Floats:
    """For comparison: share of the resamples of the seeds whose front contains a configuration."""
    accuracy = world.validation.mean(axis=2)
    seeds = accuracy.shape[1]
    weights = np.random.default_rng(0).multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds
    fronts = [non_dominated(one, world.cost) for one in (weights @ accuracy.T).round(12)]
    return np.asarray(np.mean(fronts, axis=0))


def bins(
    p: Floats, on_front: NDArray[np.bool_], edges: Sequence[float] = EDGES
) -> list[tuple[int, float, float]]:
    """For each bin of P: number of configurations, mean P, and share that is truly on the front."""
    place = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, len(edges) - 2)
    chosen = [place == number for number in range(len(edges) - 1)]
    return [
        (int(one.sum()), float(p[one].mean()), float(on_front[one].mean()))
        if one.any()
        else (0, np.nan, np.nan)
        for one in chosen
    ]


def single_seed(rng: np.random.Generator, setting: Setting, worlds: int) -> tuple[float, float]:
    """Shares of wrong points on a front of one seed, and of true points that are missing there."""
    shown = wrong = true = missing = 0
    for _ in range(worlds):
        world = draw(rng, setting)
        front = non_dominated(world.validation[:, 0].mean(axis=1), world.cost)
        shown += int(front.sum())
        wrong += int((front & ~world.on_front).sum())
        true += int(world.on_front.sum())
        missing += int((world.on_front & ~front).sum())
    return wrong / shown, missing / true


def band_coverage(
    rng: np.random.Generator, setting: Setting, worlds: int, images: bool
) -> tuple[float, float]:
    """How often the band contains the true accuracy of what is selected: at each budget, and at all."""
    alone = together = 0.0
    for _ in range(worlds):
        world = draw(rng, setting, test=True)
        seen, test = world.validation.mean(axis=2), world.test.mean(axis=2)
        roots = (image_root(world.validation), image_root(world.test)) if images else ()
        band = front_bootstrap(Candidates(seen, test, world.cost, *roots), resamples=400)
        chosen = Selection(world.cost, seen.mean(axis=1)[None], world.truth[None], world.cost)
        inside = (np.array(band.low) <= chosen.test[0]) & (chosen.test[0] <= np.array(band.high))
        alone += float(inside.mean()) / worlds
        together += float(inside.all()) / worlds
    return alone, together


Method = Callable[[Drawn], Floats]
METHODS: dict[str, Method] = {
    "P": supposed,
    "P, number of images only": lambda world: supposed(world, Known.COUNT),
    "P, without the images": lambda world: supposed(world, Known.NOTHING),
    "share of resampled seeds": bootstrap_share,
}


def calibration(
    settings: Iterable[Setting], methods: Iterable[str], worlds: int
) -> dict[str, list[tuple[int, float, float]]]:
    """The bins of several methods over the same worlds of several settings."""
    found: dict[str, list[Floats]] = {name: [] for name in methods}
    truth = []
    for number, setting in enumerate(settings):
        rng = np.random.default_rng([SEED, number])
        for _ in range(worlds):
            world = draw(rng, setting)
            truth.append(world.on_front)
            for name, shares in found.items():
                shares.append(METHODS[name](world))
    return {name: bins(np.concatenate(p), np.concatenate(truth)) for name, p in found.items()}


def _one_seed(worlds: int) -> None:
    print("| worlds | do not belong there | true points that are missing |\n| --- | ---: | ---: |")
    found = []
    for kind in KINDS:
        found.append(single_seed(np.random.default_rng(SEED), Setting(kind, seeds=1), worlds))
        print(f"| {kind} | {found[-1][0]:.2f} | {found[-1][1]:.2f} |")
    wrong, missing = np.mean(found, axis=0)
    print(f"| mean | {wrong:.2f} | {missing:.2f} |")


def _table(rows: Iterable[tuple[str, list[Setting], Iterable[str]]], worlds: int) -> None:
    heads = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(EDGES)]
    print(f"| worlds | method | {' | '.join(heads)} |\n| --- | --- |{' ---: |' * len(heads)}")
    for name, settings, methods in rows:
        for method, found in calibration(settings, methods, worlds).items():
            # A difference with a standard error above 0.03 says nothing.
            cells = [f"{share - p:+.2f}" if count >= 280 else "" for count, p, share in found]
            print(f"| {name} | {method} | {' | '.join(cells)} |", flush=True)


def _bins(worlds: int) -> None:
    def pooled(**options: float) -> list[Setting]:
        return [Setting(kind, **options) for kind in KINDS]  # type: ignore[arg-type]

    both = ("P", "share of resampled seeds")
    _table(
        [
            ("3 seeds", pooled(), METHODS),
            ("2 seeds", pooled(seeds=2), both),
            ("5 seeds", pooled(seeds=5), both),
            ("10 seeds", pooled(seeds=10), both),
            ("3 seeds, 500 images", pooled(images=500), both),
            ("10 seeds, images favour single networks", pooled(seeds=10, own=0.15), both),
        ],
        worlds,
    )


def _kinds(worlds: int) -> None:
    names = [*KINDS, *LIMITS]
    _table(
        [(f"3 seeds, {name}", [Setting(name)], ("P", "share of resampled seeds")) for name in names],
        3 * worlds,
    )


def _band(worlds: int) -> None:
    print("| worlds | noise of the images | each budget | all budgets |\n| --- | --- | ---: | ---: |")
    for seeds in (3, 5, 10):
        for images in (True, False):
            rng = np.random.default_rng(SEED)
            each = [band_coverage(rng, Setting(kind, seeds), worlds, images) for kind in KINDS]
            alone, together = np.mean(each, axis=0)
            print(
                f"| {seeds} seeds | {'yes' if images else 'no'} | {alone:.2f} | {together:.2f} |", flush=True
            )


PARTS = {"one-seed": _one_seed, "bins": _bins, "kinds": _kinds, "band": _band}


def main(worlds: int, only: Sequence[str]) -> None:
    """Print the tables."""
    for name in only:
        print(f"\n{name}\n")
        PARTS[name](worlds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=200, help="worlds of each kind (default: 200)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    arguments = parser.parse_args()
    main(arguments.worlds, arguments.only)
