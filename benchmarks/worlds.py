"""Simulated claims: the code that gives the verdict, with drawn accuracies instead of trainings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from invact.statistics.sequential.course import CONFIRMATION, PILOT, SCREEN, Course, Network, Rules, advance
from invact.statistics.sequential.course import follow as follow_course
from invact.statistics.sequential.failures import FENCE, Runs, runs_needed
from invact.statistics.sequential.ladder import Verdict

__all__ = [
    "MARGIN",
    "SD",
    "SEED",
    "Noise",
    "Simulated",
    "World",
    "at_once",
    "bimodal",
    "centred",
    "dips",
    "drifting",
    "exponential",
    "follow",
    "heavy",
    "normal",
    "right",
    "scaled",
    "simulate",
    "step_by_step",
    "uniform",
]

MARGIN, SD, SEED = 0.3, 0.2, 20260101
"""Margin and standard deviation of a run, in points; and the seed."""

Floats = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], Floats]
"""Draws deviations from the mean of the runs that train, in points."""
MOST = 120
"""More runs than any network can need: a plan has at most 100, and two may fail."""


def normal(sd: float) -> Noise:
    """Normal deviations."""
    return lambda rng, n: rng.normal(0, sd, n)


def centred(noise: Noise, margin: float = MARGIN) -> Noise:
    """Shift deviations so that the runs that train have a mean of 0.

    A run trains if it is at most 4 margins below the median. Dips that are deeper have no part in the mean.
    """
    drawn = noise(np.random.default_rng(SEED), 1_000_000)
    mean = float(drawn[drawn >= np.median(drawn) - FENCE * margin].mean())
    return lambda rng, n: noise(rng, n) - mean


def exponential(rng: np.random.Generator, n: int) -> Floats:
    """Long tail towards low accuracies, with a skewness of -2."""
    return -SD * rng.exponential(size=n)


def right(rng: np.random.Generator, n: int) -> Floats:
    """Long tail towards high accuracies, with a skewness of 2."""
    return SD * rng.exponential(size=n)


def dips(share: float, low: float, high: float, sd: float = SD) -> Noise:
    """Normal deviations; a share of the runs is lower by `low` to `high` points."""
    return lambda rng, n: rng.normal(0, sd, n) - (rng.random(n) < share) * rng.uniform(low, high, n)


def uniform(rng: np.random.Generator, n: int) -> Floats:
    """Uniform deviations."""
    return rng.uniform(-SD * math.sqrt(3), SD * math.sqrt(3), n)


def bimodal(rng: np.random.Generator, n: int) -> Floats:
    """Two groups of runs, which differ by about two standard deviations."""
    return rng.choice([-0.95, 0.95], n) * SD + rng.normal(0, 0.3 * SD, n)


def heavy(rng: np.random.Generator, n: int) -> Floats:
    """Student's t with 3 degrees of freedom."""
    return SD * rng.standard_t(3, n) / math.sqrt(3)


def drifting(rng: np.random.Generator, n: int) -> Floats:
    """A standard deviation of its own for each network and step, from half to twice `SD`."""
    return rng.normal(0, SD * 2 ** rng.uniform(-1, 1), n)


def scaled(noise: Noise, factor: float) -> Noise:
    """Deviations times a factor."""
    return lambda rng, n: factor * noise(rng, n)


@dataclass(frozen=True)
class World:
    """The truth of a simulated claim.

    Attributes:
        loss: network -> mean of the runs that train, in points below the control.
        noise: role -> deviations in points; `other` for the roles that are not named.
        collapse: role -> probability that a run falls to chance level.
        validation: standard deviation of validation - test accuracy of one run, in points.
        images: number of test images, of which the test accuracy is a count; 0 for accuracies that are not
            counts. A count is rounded up or down at random, so that its mean is the mean before rounding.
        top: mean test accuracy of the control, as a fraction.
    """

    loss: Mapping[Network, float]
    noise: Mapping[str, Noise]
    collapse: Mapping[str, float] = field(default_factory=dict)
    validation: float = 0.1
    images: int = 0
    top: float = 0.9

    def draw(self, rng: np.random.Generator, network: Network) -> Runs:
        """Draw the runs of one network in one step."""
        noise = self.noise.get(network[0], self.noise["other"])
        points = noise(rng, MOST) - self.loss.get(network, 0.0)
        test = self.top + points / 100
        seen = test + rng.normal(0, self.validation / 100, MOST)
        if chance := self.collapse.get(network[0], 0.0):
            down = rng.random(MOST) < chance
            test, seen = np.where(down, 0.1, test), np.where(down, 0.1, seen)
        if self.images:
            test = np.floor(test * self.images + rng.random(MOST)) / self.images
        return Runs(np.clip(seen, 0, 1), np.clip(test, 0, 1))


Trained = Counter[tuple[str, Network]]
"""Number of runs that were trained, by step and network."""
Draw = Callable[[str, Network], Runs]
"""Returns the same `MOST` runs of a network in a step at each call."""


def follow(rules: Rules, world: World, rng: np.random.Generator) -> tuple[Course, Trained]:
    """Follow one claim to its end, and count its trainings."""
    drawn: dict[tuple[str, Network], Runs] = {}

    def draw(step: str, network: Network) -> Runs:
        if (step, network) not in drawn:
            drawn[step, network] = world.draw(rng, network)
        return drawn[step, network]

    return at_once(rules, draw) or step_by_step(rules, draw)


def _first(runs: Runs, count: int) -> Runs:
    return Runs(runs.validation[:count], runs.test[:count])


def step_by_step(rules: Rules, draw: Draw) -> tuple[Course, Trained]:
    """Give a claim the runs that it wants until it wants no more."""
    return follow_course(
        rules, lambda step, network, count: _first(draw(step, network), count) if count else Runs()
    )


def at_once(rules: Rules, draw: Draw) -> tuple[Course, Trained] | None:
    """Give a claim all runs that it can want, and count those that it needs: the result of `step_by_step`.

    This takes a third of the time. It is possible because a test does not use the runs after its stop.

    Returns:
        The end and the trainings; None if they are not so simple, for example because runs have failed.
    """
    counts = {PILOT: rules.pilot, SCREEN: rules.screen, CONFIRMATION: rules.procedure.most}
    given: set[tuple[str, Network]] = set()

    def runs(step: str, network: Network) -> Runs:
        given.add((step, network))
        return _first(draw(step, network), counts[step])

    if rules.ladder or rules.power:
        return None
    course = advance(rules, runs)
    if course.failed or course.wanted or not course.rungs:
        return None
    (rung,) = course.rungs
    trained = Counter({one: counts[one[0]] for one in given if one[0] != CONFIRMATION})
    seen: dict[Network, list[Floats]] = {}
    for step, network in given:
        seen.setdefault(network, []).append(draw(step, network).validation[: counts[step]])
    assert course.margin is not None
    # No run of a network can then be below any fence, of whichever of its runs the median is.
    if max(float(np.ptp(np.concatenate(arms))) for arms in seen.values()) > FENCE * course.margin:
        return None
    tests = {("control", 1.0): rung.non_inferiority}
    least = 0
    if rung.placebo:
        if not rung.placebo.shown:
            return None
        least = runs_needed(0) - rules.screen
        tests["placebo", rung.ratio] = rung.placebo
        if rung.matched:
            tests["matched", rung.ratio] = rung.matched
    for network, test in tests.items():
        trained[CONFIRMATION, network] = test.n
    trained[CONFIRMATION, ("treatment", rung.ratio)] = max(least, *(test.n for test in tests.values()))
    return course, trained


@dataclass(frozen=True)
class Simulated:
    """Results of simulated claims.

    Attributes:
        replications: number of claims.
        verdicts: verdict on filters -> number of claims.
        macs_verdicts: verdict on MACs -> number of claims.
        trainings: mean number of trainings, without those of the curve.
        runs: mean number of runs of the treatment at the last look against the control.
        covered: share of the claims with such a look whose interval contains the true difference.
        selected: selected ratio -> number of claims.
        failed: number of claims that ended because of failures.
        controlled: number of claims that came to the negative control.
        alarms: number of claims whose negative control failed.
        planned: largest number of runs of an arm in the tests of each claim that came to the confirmation.
    """

    replications: int
    verdicts: Counter[Verdict]
    macs_verdicts: Counter[Verdict]
    trainings: float
    runs: float
    covered: float
    selected: Counter[float]
    failed: int
    controlled: int
    alarms: int
    planned: tuple[int, ...]

    def share(self, verdict: Verdict = Verdict.SUPPORTED, *, macs: bool = False) -> float:
        """Share of the claims with a verdict."""
        return (self.macs_verdicts if macs else self.verdicts)[verdict] / self.replications


def simulate(rules: Rules, world: World, replications: int, seed: int = SEED) -> Simulated:
    """Follow many claims of one world."""
    rng = np.random.default_rng(seed)
    ends = [follow(rules, world, rng) for _ in range(replications)]
    courses = [course for course, _ in ends]
    looks, inside = [], []
    for course in courses:
        if course.rungs and (interval := course.rungs[0].non_inferiority.interval):
            looks.append(course.rungs[0].non_inferiority.n)
            truth = -world.loss["treatment", course.rungs[0].ratio] / 100
            inside.append(interval[0] <= truth <= interval[1])
    controls = [course.negative for course in courses if course.negative]
    return Simulated(
        replications,
        Counter(course.verdict for course in courses),
        Counter(course.macs_verdict for course in courses),
        float(np.mean([trained.total() for _, trained in ends])),
        float(np.mean(looks)) if looks else math.nan,
        float(np.mean(inside)) if inside else math.nan,
        Counter(course.selected[-1] for course in courses if course.selected),
        sum(bool(course.failed) for course in courses),
        len(controls),
        sum(not control.passed for control in controls),
        tuple(course.procedure.most for course in courses if course.procedure),
    )
