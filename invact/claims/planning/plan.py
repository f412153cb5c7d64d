"""The plan of the confirmation: what pilot and screen fix by the rules, and the power that results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from invact.claims.cells import cell_key
from invact.statistics.sequential.power import MarginPlan, planning_spread, power, sample_size

if TYPE_CHECKING:
    from invact.statistics.sequential.course import Course, Rules
    from invact.statistics.sequential.procedure import Procedure

__all__ = ["Plan", "fixed_by", "plan_of"]


@dataclass(frozen=True)
class Plan:
    """What the pilot and the screen fix.

    Attributes:
        margin: non-inferiority margin, as a fraction; None before the end of the pilot, and without assay
            sensitivity.
        assay: gain of the control over the placebo, and the margin that it allows; None before the end of the
            pilot.
        spread: standard deviation of the accuracy of an arm, as a fraction; None before the screen's end.
        needed: number of runs of each arm that one test at the end needs for the file's power, if the arms
            are equal; None before the end of the screen.
        procedure: the test with its looks; None before the end of the screen.
        power: power of one test with all runs, if the arms are equal; None before the end of the screen.
    """

    margin: float | None = None
    assay: MarginPlan | None = None
    spread: float | None = None
    needed: int | None = None
    procedure: Procedure | None = None
    power: float | None = None

    @property
    def keeps(self) -> float | None:
        """Share of the control's gain over the placebo that a loss of one margin leaves: 1 - margin/bound."""
        return None if self.margin is None or self.assay is None else 1 - self.margin / self.assay.bound


def plan_of(course: Course, rules: Rules, target: float) -> Plan:
    """The plan from the course of a claim.

    Args:
        course: the course so far.
        rules: the rules of the claim.
        target: power that the number of runs is planned for.
    """
    if course.margin is None or course.spread is None or course.procedure is None:
        return Plan(course.margin, course.assay)
    spread, alpha = planning_spread(course.spread, course.margin), rules.procedure.alpha
    return Plan(
        course.margin,
        course.assay,
        course.spread,
        sample_size(spread, course.margin, 0.0, alpha, target),
        course.procedure,
        power(course.procedure.most, spread, course.margin, 0.0, alpha),
    )


def fixed_by(course: Course, recipes: Mapping[str, Any]) -> dict[str, Any]:
    """What pilot and screen have fixed, as it is stored: JSON-like values.

    Args:
        course: the course after the screen.
        recipes: key of each network -> its configuration, with the tuned hyperparameters.
    """
    assert course.assay is not None
    assert course.procedure is not None
    return {
        "margin": course.margin,
        "gain": course.assay.gain,
        "lower_95": course.assay.bound,
        "fences": {cell_key(*network): fence for network, fence in course.fences.items()},
        "screened": {f"{ratio:g}": mean for ratio, mean in course.screened.items()},
        "selected": list(course.selected),
        "spread": course.spread,
        "looks": list(course.procedure.looks),
        "levels": list(course.procedure.levels()),
        "recipes": dict(recipes),
    }
