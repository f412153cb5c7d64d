"""How sure a front is: its bands over budgets, and the gaps between the fronts of its arms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from invact.arms import ARMS
from invact.errors import InputError
from invact.statistics.fronts.gaps import FrontGap, front_gap
from invact.statistics.fronts.surfaces import Surface, attainment_surfaces
from invact.statistics.fronts.uncertainty import Candidates, UncertainFront, front_bootstrap

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MARGIN", "ArmGap", "Uncertainty", "uncertainty_of"]

CONFIDENCE = 0.95
MARGIN = 0.3
"""The loss of accuracy that counts as equal unless told, in points: the cap of claims."""

BASELINE = "relu"
CELLS = 2_000_000
"""Resamples times configurations: more of both would take gigabytes."""


@dataclass(frozen=True)
class ArmGap:
    """The fronts of two arms of one sweep, compared.

    Attributes:
        control: an activation.
        treatment: another.
        confidence: of the simultaneous band of `gap`.
        gap: test accuracy of the treatment's front minus that of the control's, over budgets.
    """

    control: str
    treatment: str
    confidence: float
    gap: FrontGap

    @property
    def verdict(self) -> str:
        """What the band shows, in words."""
        gap = self.gap
        if gap.dominates != gap.dominated:
            pair = (self.treatment, self.control) if gap.dominates else (self.control, self.treatment)
            return f"{pair[0]}'s front dominates {pair[1]}'s"
        if min(gap.low) > -gap.margin and max(gap.high) < gap.margin:
            return "equal within the margin at all budgets"
        return "neither front dominates"


@dataclass(frozen=True)
class Uncertainty:
    """What several training seeds say about a front. Given are the configurations: they were not resampled.

    Attributes:
        seeds: the training seeds.
        configs: digests of the configurations that are finished on all of them.
        confidence: of the pointwise band.
        resamples: of the bootstrap over the seeds.
        band: the front of test accuracy over budgets; its `p_non_dominated` is in the order of `configs`.
        gaps: of each other arm to the control; empty without two arms and three seeds.
        surfaces: attainment surfaces, where asked for.
    """

    seeds: tuple[int, ...]
    configs: tuple[str, ...]
    confidence: float
    resamples: int
    band: UncertainFront
    gaps: tuple[ArmGap, ...] = ()
    surfaces: tuple[Surface, ...] = ()


def uncertainty_of(
    runs: pd.DataFrame, margin: float = MARGIN, attainment: bool = False, measure: str = "macs"
) -> Uncertainty | None:
    """Bootstrap a front over its seeds, and the gaps between the fronts of its arms.

    A configuration takes part when it has all seeds that any has, each with both accuracies. Arms are the
    values of `param.activation`. The control is `relu`, or the first arm of the table where there is no
    `relu`; every other arm is held against it. With k other arms each band has confidence 1 - 0.05 / k
    (Bonferroni).

    Args:
        runs: one row for each finished (config, seed), with columns `trial, config, seed,
            validation_accuracy, test_accuracy`, that of the measure, the same for all runs of a
            configuration, and `param.activation` where it varies.
        margin: the loss of accuracy that counts as equal, in points (1 point = 0.01).
        attainment: whether to add the attainment surfaces, which need the extra `eaf`.
        measure: the cost, one of `invact.measures.MEASURES`.

    Returns:
        None with fewer than two seeds, or when no configuration takes part.

    Raises:
        InputError: the margin is out of range.
        EnvironmentFault: the extra is missing.

    Example:
        >>> import pandas as pd
        >>> runs = pd.DataFrame({"config": list("aaabbb"), "seed": [0, 1, 2] * 2, "macs": 9, "trial": 0,
        ...                      "validation_accuracy": [0.80, 0.81, 0.82, 0.90, 0.91, 0.92],
        ...                      "param.activation": ["relu"] * 3 + ["inverse"] * 3})
        >>> found = uncertainty_of(runs.assign(test_accuracy=runs["validation_accuracy"]))
        >>> found.band.p_non_dominated, found.gaps[0].verdict
        ((0.0, 1.0), "inverse's front dominates relu's")
    """
    if not 0 < margin < 100:
        raise InputError(f"margin: received {margin:g}. Allowed: points in (0, 100), such as {MARGIN}")
    seeds = sorted(set(runs["seed"])) if len(runs) else []
    if len(seeds) < 2:
        return None
    # In the order of trials: of equals, the first is on a front.
    first = runs.sort_values(["trial", "config"]).drop_duplicates("config").set_index("config")
    first = first[first[measure].astype(float) > 0]
    scores = runs.pivot(index="config", columns="seed", values=["validation_accuracy", "test_accuracy"])
    wide = scores.astype(float).loc[first.index].dropna()
    if wide.empty:
        return None
    first = first.loc[wide.index]
    cost = first[measure].astype(float)
    candidates = Candidates(wide["validation_accuracy"], wide["test_accuracy"], cost)
    resamples = min(10_000, max(1_000, CELLS // len(cost)))
    return Uncertainty(
        seeds=tuple(map(int, seeds)),
        configs=tuple(map(str, wide.index)),
        confidence=CONFIDENCE,
        resamples=resamples,
        band=front_bootstrap(candidates, resamples=resamples, confidence=CONFIDENCE),
        gaps=_gaps(candidates, first.get("param.activation"), margin / 100, resamples),
        surfaces=attainment_surfaces(candidates) if attainment else (),
    )


def _gaps(
    candidates: Candidates, arms: pd.Series[str] | None, margin: float, resamples: int
) -> tuple[ArmGap, ...]:
    if arms is None or candidates.test.shape[1] < 3:
        return ()
    order = [BASELINE, *ARMS]
    present = sorted(
        set(arms.dropna()), key=lambda arm: (order.index(arm) if arm in order else len(order), arm)
    )
    if len(present) < 2:
        return ()

    def of(arm: str) -> Candidates:
        mine = (arms == arm).to_numpy()
        return Candidates(candidates.validation[mine], candidates.test[mine], candidates.cost[mine])

    control, *treatments = present
    confidence = 1 - (1 - CONFIDENCE) / len(treatments)
    return tuple(
        ArmGap(
            *(control, arm, confidence),
            front_gap(of(control), of(arm), margin, resamples=resamples, confidence=confidence),
        )
        for arm in treatments
    )
