"""The simulated claims of benchmarks/error_rates.py: one row of a table each. Accuracies are points here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from benchmarks.worlds import (
    MARGIN,
    SD,
    Noise,
    World,
    bimodal,
    centred,
    dips,
    drifting,
    exponential,
    heavy,
    normal,
    right,
    scaled,
    uniform,
)
from invact.statistics.sequential.course import Network, Rules
from invact.statistics.sequential.ladder import Verdict
from invact.statistics.sequential.procedure import Procedure

__all__ = [
    "CLOSEST",
    "CONTROLS",
    "LADDER",
    "LIMIT",
    "LIMITS",
    "MATCHED",
    "PLANNED",
    "POWER",
    "PROTOCOL",
    "RULES",
    "TYPE_ONE",
    "Claim",
    "protocol",
    "world",
]

GAIN = 1.0
"""Loss of placebo and matched arm, in points."""
IMAGES = 1000
"""Test images of the coarse accuracies: one image is 0.1 points."""
LIMIT = 0.05
"""Largest error that a claim may have in any world. The level of its tests is 0.025."""

RULES = Rules((0.5,), {0.5: 0.5}, MARGIN / 100, MARGIN / 100, Procedure())
LADDER = Rules(
    (0.75, 0.625, 0.5), {0.75: 1.125, 0.625: 0.78125, 0.5: 0.5}, MARGIN / 100, MARGIN / 100, Procedure()
)


@dataclass(frozen=True, eq=False)
class Claim:
    """A simulated claim with a known truth, which is one row of a table.

    Attributes:
        name: description of the world.
        rules: rules of the claim.
        world: the truth.
        limit: bound of the rate; the rate must be at most this in the tables of errors, and at least this in
            those of power.
        verdict: the verdict whose share is the rate.
        macs: whether the claim on MACs is meant, not the claim on filters.
    """

    name: str
    rules: Rules
    world: World
    limit: float = LIMIT
    verdict: Verdict = Verdict.SUPPORTED
    macs: bool = False


def world(
    loss: float,
    treatment: Noise | None = None,
    other: Noise | None = None,
    collapse: Mapping[str, float] | None = None,
    *,
    gain: float = GAIN,
    matched: float | None = None,
    placebo: Noise | None = None,
) -> World:
    """A world with one ratio. The treatment loses `loss` points, placebo and matched arm `gain`."""
    losses: dict[Network, float] = {
        ("treatment", 0.5): loss,
        ("placebo", 0.5): gain,
        ("matched", 0.5): gain if matched is None else matched,
    }
    other = other or normal(SD)
    noise = {"other": other, "treatment": treatment or other, "placebo": placebo or other}
    return World(losses, noise, collapse or {})


def both(noise: Noise, margin: float = MARGIN) -> tuple[Noise, Noise]:
    """The same noise in all arms."""
    return (centred(noise, margin),) * 2


def everywhere(share: float) -> dict[str, float]:
    return dict.fromkeys(("control", "treatment", "placebo", "matched"), share)


def coarse(sd: float, margin: float, offset: float = 0.0) -> Claim:
    """A claim whose test accuracies are counts of images. All arguments are numbers of images.

    The mean of the control is `offset` above a whole number of images.
    """
    image = 100 / IMAGES
    fraction = margin / IMAGES
    truth = replace(
        world(margin * image, *both(normal(sd * image), margin * image)),
        images=IMAGES,
        validation=sd * image / 2,
        top=0.9 + offset / IMAGES,
    )
    rules = replace(RULES, margin=fraction, cap=fraction, floor=0.5 / IMAGES)
    between = f", mean + {offset:g}" if offset else ""
    return Claim(f"counts of images: sd {sd:g}, margin {margin:g}{between}", rules, truth)


_at_margin = partial(world, MARGIN)
_LEFT = centred(exponential)

TYPE_ONE = (
    Claim("normal", RULES, _at_margin(centred(normal(SD)))),
    Claim("exponential left tail, treatment", RULES, _at_margin(_LEFT)),
    Claim("exponential left tail, all arms", RULES, _at_margin(_LEFT, _LEFT)),
    Claim("10 % dips of 0.5-1.5 points, treatment", RULES, _at_margin(centred(dips(0.1, 0.5, 1.5)))),
    Claim("2 % dips of 5-15 points, treatment", RULES, _at_margin(centred(dips(0.02, 5, 15)))),
    Claim("5 % collapse, treatment", RULES, _at_margin(collapse={"treatment": 0.05})),
    Claim("20 % collapse, treatment", RULES, _at_margin(collapse={"treatment": 0.2})),
    Claim("equal, but 30 % collapse, treatment", RULES, world(0, collapse={"treatment": 0.3})),
    Claim("5 points better, but 30 % collapse, treatment", RULES, world(-5, collapse={"treatment": 0.3})),
    Claim("sd x 2, treatment", RULES, _at_margin(centred(normal(2 * SD)))),
    Claim("sd x 0.5, treatment", RULES, _at_margin(centred(normal(SD / 2)))),
    Claim("uniform, all arms", RULES, _at_margin(*both(uniform))),
    Claim("exponential right tail, treatment", RULES, _at_margin(centred(right))),
    Claim("two groups of runs, all arms", RULES, _at_margin(*both(bimodal))),
    Claim("t with 3 df, all arms", RULES, _at_margin(*both(heavy))),
    Claim("sd drifts between steps, x 0.5 to x 2", RULES, _at_margin(drifting, drifting)),
    *(coarse(sd, margin) for sd in (0.05, 0.2, 1, 3) for margin in (0.3, 1, 5)),
    coarse(0.05, 1, 0.5),
)

LIMITS = (
    Claim(
        "20 % of the runs lose 1.1 points, treatment", RULES, _at_margin(centred(dips(0.2, 1.1, 1.1))), 0.11
    ),
    Claim(
        "10 % of the runs lose 0.9 points, the others have sd 0.05, treatment",
        RULES,
        _at_margin(centred(dips(0.1, 0.9, 0.9, 0.05)), normal(0.05)),
        0.5,
    ),
    Claim(
        "exponential left tail and sd x 2, treatment",
        RULES,
        _at_margin(centred(scaled(exponential, 2))),
        0.07,
    ),
    Claim("equal, but 20 % collapse, treatment", RULES, world(0, collapse={"treatment": 0.2}), 1.0),
    Claim("equal, but 10 % collapse, treatment", RULES, world(0, collapse={"treatment": 0.1}), 1.0),
)

POWER = (
    Claim("normal", RULES, world(0), 0.9),
    Claim("exponential left tail, all arms", RULES, world(0, _LEFT, _LEFT), 0.9),
    Claim(
        "5 % collapse, control and treatment",
        RULES,
        world(0, collapse={"control": 0.05, "treatment": 0.05}),
        0.8,
    ),
    Claim("5 % collapse, all arms", RULES, world(0, collapse=everywhere(0.05)), 0.78),
    Claim("5 % collapse, treatment", RULES, world(0, collapse={"treatment": 0.05}), 0.8),
    Claim("sd x 2, treatment", RULES, world(0, normal(2 * SD)), 0.65),
    Claim("sd x 2, all arms", RULES, world(0, normal(2 * SD), normal(2 * SD)), 0.3),
    Claim("sd 0.25", RULES, world(0, normal(0.25), normal(0.25)), 0.85),
    Claim("sd 0.3", RULES, world(0, normal(0.3), normal(0.3)), 0.7),
    *(Claim(f"worse by {loss} points", RULES, world(loss), 0.9, Verdict.REFUTED) for loss in (1, 2, 5)),
)


def matched(sd: float, macs: float) -> Claim:
    """A treatment that is only as accurate as a control with exactly its MACs.

    The matched arm has `macs` times these MACs. Accuracy rises by 1 point when MACs grow by a factor of e.
    The treatment is 1 point better than the control, so that no other test holds it back.
    """
    truth = world(-1, other=normal(sd), matched=-1 - math.log(macs))
    return Claim(f"sd {sd:g}, matched arm with {macs:g} of the MACs", RULES, truth, macs=True)


MATCHED = (*(matched(sd, 1) for sd in (0.2, 0.3, 0.5)), matched(0.2, 1.05), matched(0.2, 1.2))
CLOSEST = tuple(matched(sd, 0.862) for sd in (0.2, 0.3, 0.5))
"""The network with the closest MACs, which may have fewer: a fault that the simulation must see."""


def control(name: str, noise: Noise, share: float = 0.0) -> Claim:
    """A claim without any change between pilot and confirmation, and a placebo that is 10 points worse."""
    return Claim(name, RULES, world(0, noise, noise, everywhere(share), gain=10))


CONTROLS = (
    *(control(f"sd / margin {sd:g}", normal(sd * MARGIN)) for sd in (0.5, 1, 1.5, 2)),
    control("exponential left tail", exponential),
    control("t with 3 df", heavy),
    control("10 % dips of 0.5-1.5 points", dips(0.1, 0.5, 1.5)),
    control("5 % collapse", normal(SD), 0.05),
)


def planned(sd: float, placebo: float) -> Claim:
    """A claim with one look, whose number of runs is planned for a power of 0.8."""
    truth = world(0, other=normal(sd), placebo=normal(placebo), gain=10)
    return Claim(f"sd {sd:g}, placebo {placebo:g}", replace(RULES, power=0.8), truth, 0.7)


PLANNED = tuple(planned(sd, factor * sd) for sd in (0.1, 0.2, 0.3) for factor in (1, 2))


Three = tuple[float, float, float]
_GAINS: Three = (GAIN, GAIN, GAIN)


def protocol(
    name: str,
    treatment: Three,
    placebo: Three = _GAINS,
    matched: Three = _GAINS,
    *,
    rules: Rules = LADDER,
    limit: float = LIMIT,
    macs: bool = False,
) -> Claim:
    """A claim with three ratios, at which the arms lose these points."""
    loss: dict[Network, float] = {}
    for ratio, ours, less, same in zip(rules.ratios, treatment, placebo, matched, strict=True):
        loss |= {("treatment", ratio): ours, ("placebo", ratio): less, ("matched", ratio): same}
    return Claim(name, rules, World(loss, {"other": normal(SD)}), limit, macs=macs)


PROTOCOL = (
    protocol("0.5 is equal: losses 0, 0, 0", (0, 0, 0), limit=90),
    protocol("0.75 is equal: losses 0, 0.6, 1", (0, 0.6, 1), limit=85),
    protocol("none is equal: losses 0.6, 1, 1.5", (0.6, 1, 1.5), limit=80),
)
"""Their limit is the largest mean number of trainings, those of the curve included."""
