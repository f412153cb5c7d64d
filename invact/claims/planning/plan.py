"""What is fixed from the pilot, before the confirmation: margin, pairs and looks; and what steps cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from invact.claims.cells import CONTROL, PLACEBO, Cell, cell_key
from invact.statistics.sequential.boundaries import LOOKS
from invact.statistics.sequential.ladder import Series
from invact.statistics.sequential.power import (
    MarginPlan,
    expected_pairs,
    plan_margin,
    power,
    sample_size,
    sd_upper,
)
from invact.statistics.sequential.procedures import Method, Procedure

if TYPE_CHECKING:
    from invact.claims.evidence import Results
    from invact.claims.file import Claim
    from invact.claims.keys import ClaimFile

__all__ = ["Plan", "piloted", "plan_of", "planned"]

MOST = 100
"""Pairs beyond which no plan goes: what they could still show is smaller than anyone's margin."""
STRETCHES = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0)


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
    return cells[CONTROL], cells[cell_key(PLACEBO, claim.ratios[-1])]


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
    procedure = choose_procedure(file, pairs, spread, margin)
    reached, expected = _promise(procedure, spread, margin)
    return Plan(margin, assay, sd, upper, pairs, procedure, reached, expected)


def choose_procedure(file: ClaimFile, pairs: int | None, sd: float, margin: float) -> Procedure:
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
