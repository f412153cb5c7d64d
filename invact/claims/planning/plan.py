"""The plan that the pilot fixes before the confirmation: margin, number of pairs and looks."""

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
"""Largest number of pairs that is planned: only margins that are too small to matter need more."""
STRETCHES = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0)


@dataclass(frozen=True)
class Plan:
    """The plan of the confirmation, fixed by the pilot.

    Attributes:
        margin: non-inferiority margin, as a fraction; None without assay sensitivity.
        assay: gain of the control over the placebo in the pilot, and the margin that this gain allows.
        sd: standard deviation of a paired difference, estimated from the pilot with uncorrelated arms: the
            root of the sum of the two variances.
        sd_upper: 80 % upper confidence limit of `sd`; the number of pairs is planned with it.
        pairs: number of pairs that a single test at the end needs for the file's power at a true difference
            of 0; None without a margin, or if it is more than `MOST`.
        procedure: the test, with its looks; None without a margin.
        power: power of the procedure at a true difference of 0 and the standard deviation `sd_upper`.
        expected: expected number of pairs of the procedure under the same assumptions.
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
        """Share of the control's gain over the placebo that a loss of one margin leaves: 1 - margin/bound."""
        return None if self.margin is None else 1 - self.margin / self.assay.bound


def piloted(claim: Claim, cells: Mapping[str, Cell]) -> tuple[Cell, Cell]:
    """The networks of the pilot: the control, and the placebo at the smallest ratio.

    Their difference in accuracy is the cost of shrinking to the smallest ratio without the second sign.
    """
    return cells[CONTROL], cells[cell_key(PLACEBO, claim.ratios[-1])]


def planned(claim: Claim, results: Results, cells: Mapping[str, Cell]) -> Plan | None:
    """The plan from the runs of the pilot; None if runs are missing."""
    seeds = claim.seeds("pilot", claim.file.pilot)
    control, placebo = (results.series("pilot", cell, seeds) for cell in piloted(claim, cells))
    if min(len(control), len(placebo)) < len(seeds):
        return None
    return plan_of(claim.file, control, placebo)


def plan_of(file: ClaimFile, control: Series, placebo: Series) -> Plan:
    """Fix the margin, the number of pairs and the looks from the pilot.

    Args:
        file: values of the claim's file.
        control: accuracies of the control in the pilot.
        placebo: accuracies of the placebo in the pilot, with the same seeds.

    Raises:
        InputError: there are fewer than two seeds.
    """
    assay = plan_margin(control.accuracy - placebo.accuracy, file.margin_cap / 100)
    n = len(control)
    sd = math.hypot(float(control.accuracy.std(ddof=1)), float(placebo.accuracy.std(ddof=1)))
    upper = sd_upper(sd, n)
    if not assay.assay_sensitivity:
        return Plan(None, assay, sd, upper, None, None, None, None)
    margin = assay.margin if file.margin is None else file.margin / 100
    # A standard deviation of 0 would break the computation of the power.
    spread = max(upper, margin / 100)
    pairs = None
    if power(MOST, spread, margin, 0.0, file.level) >= file.power:
        pairs = sample_size(spread, margin, 0.0, file.level, file.power)
    procedure = choose_procedure(file, pairs, spread, margin)
    reached, expected = _promise(procedure, spread, margin)
    return Plan(margin, assay, sd, upper, pairs, procedure, reached, expected)


def choose_procedure(file: ClaimFile, pairs: int | None, sd: float, margin: float) -> Procedure:
    """Choose the test and its looks: those of the file, or as many pairs as the file's power needs.

    Args:
        file: values of the claim's file.
        pairs: number of pairs that a single test needs; None if it is more than `MOST`.
        sd: standard deviation of a paired difference, as a fraction.
        margin: non-inferiority margin, as a fraction.

    Example:
        >>> from invact.claims.file import load_claim
        >>> file = load_claim("digits_claim", {"method": "fixed", "looks": None}).file
        >>> choose_procedure(file, 12, 0.004, 0.003).looks
        (12,)
    """
    method = Method(file.method)
    if method is Method.FIXED:
        return Procedure(method, file.level, (file.pairs or pairs or MOST,))
    if method is Method.ANYTIME:
        # A test that may stop after any pair needs about twice as many pairs.
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
    """Power and expected pairs at a true difference of 0; for `anytime`, those of one test at the end."""
    if procedure.method is Method.SEQUENTIAL:
        found = expected_pairs(sd, margin, 0.0, procedure.alpha, procedure.looks, procedure.futility)
        return found.power, found.pairs
    return power(procedure.most, sd, margin, 0.0, procedure.alpha), float(procedure.most)
