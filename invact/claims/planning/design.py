"""The design of a claim: everything that determines its evidence and its verdict, as it is registered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from invact.claims.cells import CONTROL, MATCHED, PLACEBO, TREATMENT, cell_key, curve_of
from invact.statistics.sequential.boundaries import LOOKS
from invact.statistics.sequential.course import ALARM, CONFIRMATION, PILOT, SCREEN, Rules
from invact.statistics.sequential.failures import ALLOWED, FENCE, FIRST
from invact.statistics.sequential.procedure import Procedure

if TYPE_CHECKING:
    from invact.claims.file import Claim
    from invact.claims.keys import ClaimFile
    from invact.cost.count import Cost
    from invact.data.dataset import Dataset

__all__ = ["BINDING", "RATIO_CONFIDENCE", "design_of", "matched_excess", "procedure_of", "rules_of"]

RATIO_CONFIDENCE = 0.95
BINDING = ("data", "rules", "seeds", "recipes", "failure", "screen", "curve")
"""Keys of the design that determine the evidence. The other keys explain it or follow from these."""


def rules_of(claim: Claim, data: Dataset, costs: Mapping[str, Cost]) -> Rules:
    """The rules of a claim on a data set, which are fixed before its first run."""
    file = claim.file
    planned = file.method == "fixed" and file.runs is None
    return Rules(
        ratios=claim.ratios,
        macs_ratios={
            ratio: costs[cell_key(TREATMENT, ratio)].macs / costs[CONTROL].macs for ratio in claim.ratios
        },
        margin=None if file.margin is None else file.margin / 100,
        cap=file.margin_cap / 100,
        procedure=procedure_of(file),
        pilot=file.pilot,
        screen=file.screen,
        ladder=file.ladder,
        floor=0.5 / data.test_count,
        power=file.power if planned else None,
    )


def procedure_of(file: ClaimFile) -> Procedure:
    """The test of every comparison, as the file fixes it."""
    looks = ((file.runs or FIRST),) if file.method == "fixed" else file.looks or LOOKS
    return Procedure(looks, file.alpha, file.futility)


def matched_excess(costs: Mapping[str, Cost], ratio: float) -> float:
    """MACs of the matched arm divided by those of the treatment, minus 1."""
    return costs[cell_key(MATCHED, ratio)].macs / costs[cell_key(TREATMENT, ratio)].macs - 1


def design_of(claim: Claim, data: Dataset, costs: Mapping[str, Cost]) -> dict[str, Any]:
    """The values that determine the evidence and the verdict, as they are registered."""
    file, rules = claim.file, rules_of(claim, data, costs)
    cells, curve = claim.cells(), curve_of(file, claim.ratios, {})
    smallest = cell_key(PLACEBO, claim.ratios[-1])
    steps = {
        "tuning": tuple(cells) if file.tuning else (),
        PILOT: (CONTROL, smallest),
        SCREEN: tuple(cell_key(TREATMENT, ratio) for ratio in claim.ratios),
        CONFIRMATION: tuple(cells),
        "curve": tuple(curve),
    }
    return {
        "claim": claim.name,
        "data": {"name": data.name, "digest": data.digest, "test_images": data.test_count},
        "settings": file.settings(),
        "hypothesis": "H0: mean(test accuracy of treatment) - mean(of control) <= -margin, for the runs that "
        "train; the arms have disjoint seeds; Welch's t test",
        "rules": {
            "margin": rules.margin,
            "margin_rule": "min(cap, half the lower 95 % bound of control - placebo in the pilot)",
            "cap": rules.cap,
            "alpha": rules.procedure.alpha,
            "looks": list(rules.procedure.looks),
            "levels": list(rules.procedure.levels()),
            "futility": rules.procedure.futility,
            "planned_power": rules.power,
            "ratios": list(rules.ratios),
            "ladder": rules.ladder,
            "floor": rules.floor,
        },
        "screen": "the smallest ratio whose mean validation accuracy is at least that of the control in the "
        "pilot - margin / 2; the largest ratio if there is none; a ratio with too many failures is left out",
        "failure": {
            "fence": f"validation accuracy more than {FENCE:g} margins below the median of the first runs",
            "first_runs": {"pilot": rules.pilot, "screen": rules.screen, "other": FIRST},
            "counted": "the runs below the fence, or below that of all runs of the network if these are more",
            "allowed": ALLOWED,
            "needed": "10 + 6 failures runs of the treatment",
            "replaced": "by the next seed of the network",
            "fault of the machine": "run again with the same seed, and listed",
        },
        "needed": {
            "fewer filters": "non-inferior to control, better than placebo, enough runs",
            "fewer MACs": "also fewer MACs as counted, better than matched, and the equivalence ratio of "
            "MACs not above 1 with its whole interval",
            "negative control": f"pilot against confirmation of the control, two-sided level {ALARM:g}",
        },
        "seeds": {
            step: {key: claim.seeds(step, key, 1)[0] for key in keys} for step, keys in steps.items() if keys
        },
        "recipes": {
            key: cell.config.model_dump(mode="json") | {"macs": costs[key].macs}
            for key, cell in {**cells, **curve}.items()
        },
        "curve": {
            "confidence": RATIO_CONFIDENCE,
            "model": "cubic in log2(width) of the treatment's curve, HC3, against the control of the pilot",
            "seeds": file.curve.seeds if file.curve else 0,
        },
    }
