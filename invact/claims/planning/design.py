"""The design of a claim: everything that determines its evidence and its verdict, as it is registered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from invact.claims.evidence import chance_of, collapsed_at
from invact.statistics.ratios.equivalence import Gates

if TYPE_CHECKING:
    from invact.claims.cells import Cell
    from invact.claims.file import Claim
    from invact.claims.planning.plan import Plan
    from invact.cost.count import Cost
    from invact.data.dataset import Dataset
    from invact.statistics.sequential.procedures import Procedure

__all__ = ["BINDING", "RATIO_CONFIDENCE", "design_of"]

RATIO_CONFIDENCE = 0.95
BINDING = ("data", "margin", "alpha", "method", "looks", "futility", "ratios", "seeds", "recipes")
"""Keys of the design that determine the evidence. The other keys explain it or follow from these."""


def design_of(
    claim: Claim,
    data: Dataset,
    plan: Plan,
    procedure: Procedure,
    cells: Mapping[str, Cell],
    curve: Mapping[str, Cell],
    costs: Mapping[str, Cost],
) -> dict[str, Any]:
    """The values that determine the evidence and the verdict, as they are registered."""
    file = claim.file
    gates = Gates()
    return {
        "claim": claim.name,
        "data": {"name": data.name, "digest": data.digest, "test_images": data.test_count},
        "settings": file.model_dump(mode="json"),
        "hypothesis": "H0: mean(test accuracy of treatment - of control) <= -margin, paired by seed",
        "margin": plan.margin,
        "margin_from": {
            "fixed": file.margin is not None,
            "gain": plan.assay.gain,
            "lower_95": plan.assay.bound,
            "cap": file.margin_cap / 100,
            "sd": plan.sd,
            "sd_upper_80": plan.sd_upper,
            "pairs": plan.pairs,
            "power": plan.power,
        },
        "alpha": procedure.alpha,
        "method": str(procedure.method),
        "looks": list(procedure.looks),
        "levels": list(procedure.levels()),
        "futility": procedure.futility,
        "ratios": list(claim.ratios),
        "needed": {
            "fewer filters": "non-inferior to control, and better than placebo",
            "fewer MACs": "also fewer MACs as counted, better than matched, and the equivalence ratio of "
            "MACs, where it is identifiable, below 1 with its whole interval",
        },
        "seeds": {
            "pilot": list(claim.seeds("pilot", file.pilot)),
            "confirmation": list(claim.seeds("confirmation", procedure.most)),
            "repeat": list(claim.seeds("repeat", procedure.most)) if file.repeat else [],
            "curve": list(claim.seeds("curve", file.curve.seeds)) if file.curve else [],
        },
        "recipes": {
            key: cell.config.model_dump(mode="json") | {"macs": costs[key].macs}
            for key, cell in {**cells, **curve}.items()
        },
        "curve": {
            "confidence": RATIO_CONFIDENCE,
            "g": gates.g,
            "slope_bounds": list(gates.slope_bounds),
            "lack_of_fit": gates.lack_of_fit,
            "widths": gates.widths,
        },
        "exclusions": {
            "none": "every run of a registered seed counts",
            "diverged or collapsed": f"counts at chance level, {chance_of(data):g}; the verdict "
            "needs the result without its pair as well",
            "collapsed": f"validation accuracy at most {collapsed_at(data):g}",
            "fault of the machine": "run again with the same seed, and listed",
        },
    }
