"""What is fixed from the pilot, before the confirmation: margin, pairs and looks; and what steps cost."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from invact.claim.cells import CONTROL, MATCHED, PLACEBO, TREATMENT, Cell, curve_of, key_of
from invact.statistics.boundaries import LOOKS
from invact.statistics.ladder import Series
from invact.statistics.power import MarginPlan, expected_pairs, plan_margin, power, sample_size, sd_upper
from invact.statistics.procedures import Method, Procedure

if TYPE_CHECKING:
    from invact.claim.file import Claim, ClaimFile
    from invact.claim.runs import Results
    from invact.cost import Cost
    from invact.data import Dataset

__all__ = ["Plan", "Speed", "Step", "piloted", "plan_of", "planned", "speed_of", "steps_of"]

MOST = 100
"""Pairs beyond which no plan goes: what they could still show is smaller than anyone's margin."""
STRETCHES = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0)
BACKWARD = 3
"""Training takes about three times the MACs of the forward pass: gradients of inputs and weights too."""


@dataclass(frozen=True)
class Plan:
    """What the pilot settles.

    Attributes:
        margin: the loss that will count as equal, as a fraction; None without assay sensitivity.
        assay: the control's gain over the placebo in the pilot, and the margin that it allows.
        sd: of a paired difference, from the pilot, with the arms uncorrelated: root of the sum of variances.
        sd_upper: its 80 % upper limit, with which pairs are planned.
        pairs: that a single test at the end would need for the file's power at a true difference of 0; None
            when that is more than `MOST`, like `procedure` without a margin.
        procedure: the test, with its looks.
        power: of the procedure at a true difference of 0 and `sd_upper`.
        expected: pairs to expect of it then.
    """

    margin: float | None
    assay: MarginPlan
    sd: float
    sd_upper: float
    pairs: int | None
    procedure: Procedure | None
    power: float | None
    expected: float | None

    @property
    def keeps(self) -> float | None:
        """Part of the control's gain over the placebo that the margin leaves, by the gain's lower bound."""
        return None if self.margin is None else 1 - self.margin / self.assay.bound


def piloted(claim: Claim, cells: Mapping[str, Cell]) -> tuple[Cell, Cell]:
    """The networks of the pilot: control, and placebo at the smallest ratio.

    What they differ by is what shrinking as far as the claim goes costs without the second sign.
    """
    return cells[CONTROL], cells[key_of(PLACEBO, claim.ratios[-1])]


def planned(claim: Claim, results: Results, cells: Mapping[str, Cell]) -> Plan | None:
    """The plan that the pilot gives; None where runs are missing."""
    seeds = claim.seeds("pilot", claim.file.pilot)
    control, placebo = (results.series("pilot", cell, seeds) for cell in piloted(claim, cells))
    if min(len(control), len(placebo)) < len(seeds):
        return None
    return plan_of(claim.file, control, placebo)


def plan_of(file: ClaimFile, control: Series, placebo: Series) -> Plan:
    """Fix the margin, the pairs and the looks from the pilot.

    Args:
        file: the claim's values.
        control: the pilot's runs of the control.
        placebo: the pilot's runs of the placebo, with the same seeds.

    Raises:
        InputError: fewer than two seeds.
    """
    assay = plan_margin(control.accuracy - placebo.accuracy, file.margin_cap / 100)
    n = len(control)
    sd = math.hypot(float(control.accuracy.std(ddof=1)), float(placebo.accuracy.std(ddof=1)))
    upper = sd_upper(sd, n)
    if not assay.assay_sensitivity:
        return Plan(None, assay, sd, upper, None, None, None, None)
    margin = assay.margin if file.margin is None else file.margin / 100
    # Without any spread one look decides, whatever its size.
    spread = max(upper, margin / 100)
    pairs = None
    if power(MOST, spread, margin, 0.0, file.level) >= file.power:
        pairs = sample_size(spread, margin, 0.0, file.level, file.power)
    procedure = _procedure(file, pairs, spread, margin)
    reached, expected = _promise(procedure, spread, margin)
    return Plan(margin, assay, sd, upper, pairs, procedure, reached, expected)


def _procedure(file: ClaimFile, pairs: int | None, sd: float, margin: float) -> Procedure:
    method = Method(file.method)
    if method is Method.FIXED:
        return Procedure(method, file.level, (file.pairs or pairs or MOST,))
    if method is Method.ANYTIME:
        # The price of looking at any time is about twice the pairs.
        return Procedure(method, file.level, (file.pairs or min(MOST, 2 * (pairs or MOST)),))
    if file.looks:
        return Procedure(method, file.level, file.looks, file.futility)
    for stretch in STRETCHES:
        looks = tuple(math.ceil(stretch * n) for n in LOOKS)
        procedure = Procedure(method, file.level, looks, file.futility)
        if _promise(procedure, sd, margin)[0] >= file.power:
            break
    return procedure


def _promise(procedure: Procedure, sd: float, margin: float) -> tuple[float, float]:
    """Power and expected pairs at a true difference of 0; of `anytime`, those of one test at the end."""
    if procedure.method is Method.SEQUENTIAL:
        found = expected_pairs(sd, margin, 0.0, procedure.alpha, procedure.looks, procedure.futility)
        return found.power, found.pairs
    return power(procedure.most, sd, margin, 0.0, procedure.alpha), float(procedure.most)


@dataclass(frozen=True)
class Speed:
    """How fast this machine trains, for estimates.

    Attributes:
        macs_per_second: of training, on one worker.
        overhead: seconds of a run that no epoch accounts for.
        measured: on what.
    """

    macs_per_second: float
    overhead: float
    measured: str


def speed_of(cell: Cell, data: Dataset) -> Speed:
    """Time two short epochs of one network on a few of the images, on one thread as a worker does."""
    import time
    from dataclasses import replace

    import tensorflow as tf

    from invact.training import train

    # As a worker has; it cannot be changed once TensorFlow is up.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    count = min(len(data.x_train), 40 * cell.config.batch_size)
    part = replace(
        data,
        x_train=data.x_train[:count],
        y_train=data.y_train[:count],
        x_validation=data.x_validation[:10],
        y_validation=data.y_validation[:10],
        x_test=data.x_test[:10],
        y_test=data.y_test[:10],
    )
    start = time.perf_counter()
    result = train(cell.config.model_copy(update={"epochs": 2}), 0, part)
    wall = time.perf_counter() - start
    assert result.cost is not None
    batch = min(cell.config.batch_size, count)
    seconds = result.epochs[-1].seconds / (count // batch * batch)
    return Speed(BACKWARD * result.cost.macs / seconds, wall - result.seconds, f"{count} images, just now")


@dataclass(frozen=True)
class Step:
    """One step of the protocol and what it costs.

    Attributes:
        name: of the step.
        least: trainings when everything is decided at the first opportunity.
        most: trainings at most.
        macs: of the trainings at most, forward and backward.
        hours: estimated for the trainings at most, with the workers there are.
    """

    name: str
    least: int
    most: int
    macs: float
    hours: float


def steps_of(
    claim: Claim, plan: Plan | None, costs: Mapping[str, Cost], data: Dataset, speed: Speed, workers: int
) -> tuple[Step, ...]:
    """Count the trainings of each step, what is done already included.

    Args:
        claim: the claim.
        plan: what the pilot settled; None before it, when the looks are the file's or the default.
        costs: of each network by key, the curve's too.
        data: what is trained on.
        speed: of this machine.
        workers: that train at once.
    """
    file, ratios = claim.file, claim.ratios
    procedure = plan.procedure if plan else None
    if procedure is None:
        procedure = _procedure(file, file.pairs or LOOKS[-1], 1.0, 0.99)
    first, most = procedure.looks[0], procedure.most
    if procedure.method is Method.ANYTIME:
        first = 2
    saving = [r for r in ratios if costs[key_of(TREATMENT, r)].macs < costs[CONTROL].macs]
    ladder: dict[str, int] = {CONTROL: most}
    for ratio in ratios:
        ladder |= {key_of(TREATMENT, ratio): most, key_of(PLACEBO, ratio): most}
    ladder |= {key_of(MATCHED, ratio): most for ratio in saving}
    smallest = ratios[-1]
    tuned = list(claim.cells()) if file.tuning else []
    points = file.tuning.trials * file.tuning.seeds if file.tuning else 0
    plans: dict[str, tuple[int, dict[str, int]]] = {
        "tuning": (points * len(tuned), dict.fromkeys(tuned, points)),
        "pilot": (2 * file.pilot, {CONTROL: file.pilot, key_of(PLACEBO, smallest): file.pilot}),
        "confirmation": (2 * first, ladder),
        "other arms": (first * len(file.also), {key_of(arm, ratios[0]): most for arm in file.also}),
        "repeat": ((2 * most - first) * file.repeat, {CONTROL: most} if file.repeat else {}),
        "curve": (0, {}),
    }
    if file.curve:
        runs = dict.fromkeys(curve_of(file, ratios, {}), file.curve.seeds)
        plans["curve"] = (sum(runs.values()), runs)
    images = file_epochs(file) * len(data.x_train)
    steps = []
    for name, (least, runs) in plans.items():
        if runs:
            macs = float(sum(BACKWARD * count * images * costs[key].macs for key, count in runs.items()))
            total = sum(runs.values())
            seconds = macs / speed.macs_per_second + total * speed.overhead
            steps.append(Step(name, least, total, macs, seconds / workers / 3600))
    return tuple(steps)


def file_epochs(file: ClaimFile) -> int:
    from invact.config import Config

    return Config.model_validate(file.config).epochs


def chance_of(data: Dataset) -> float:
    """Accuracy of guessing: 1 / classes."""
    return 1 / data.classes


def collapsed_at(data: Dataset) -> float:
    """Validation accuracy at or below which a run has collapsed: a tenth of the way from chance to 1."""
    return float(np.round(chance_of(data) + 0.1 * (1 - chance_of(data)), 6))
