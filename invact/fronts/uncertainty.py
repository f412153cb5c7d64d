"""The uncertainty of a front over seeds and images: its band over budgets, and the gaps between its arms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.arms import ARMS
from invact.errors import InputError
from invact.fronts.images import Images, Known, Split, noise_of
from invact.statistics.fronts.gaps import FrontGap, front_gap
from invact.statistics.fronts.noise import seed_noise
from invact.statistics.fronts.probability import contenders
from invact.statistics.fronts.surfaces import Surface, attainment_surfaces
from invact.statistics.fronts.uncertainty import Candidates, UncertainFront, front_bootstrap

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["MARGIN", "ArmGap", "Uncertainty", "uncertainty_of"]

CONFIDENCE = 0.95
MARGIN = 0.3
"""Default non-inferiority margin in points; it equals the default `margin_cap` of a claim."""

BASELINE = "relu"
CELLS = 2_000_000
"""Largest product of resamples and configurations; a larger one would take gigabytes of memory."""


@dataclass(frozen=True)
class ArmGap:
    """Comparison of the fronts of two arms of one sweep.

    Attributes:
        control: activation of the control.
        treatment: activation of the treatment.
        confidence: confidence level of the simultaneous band of `gap`.
        gap: test accuracy of the treatment's front minus that of the control's front, over budgets.
    """

    control: str
    treatment: str
    confidence: float
    gap: FrontGap

    @property
    def verdict(self) -> str:
        """The conclusion from the band, as text."""
        gap = self.gap
        if gap.dominates != gap.dominated:
            pair = (self.treatment, self.control) if gap.dominates else (self.control, self.treatment)
            return f"{pair[0]}'s front dominates {pair[1]}'s"
        if min(gap.low) > -gap.margin and max(gap.high) < gap.margin:
            return "equal within the margin at all budgets"
        return "neither front dominates"


@dataclass(frozen=True)
class Uncertainty:
    """The uncertainty of a front over seeds and images; configurations are fixed and not resampled.

    Attributes:
        seeds: the training seeds.
        configs: digests of the configurations that finished on all seeds.
        confidence: confidence level of the pointwise band.
        resamples: number of resamples of the seeds and images.
        band: test accuracy of the front over budgets; its `p_non_dominated` is in the order of `configs`.
        gaps: gap between each other arm and the control; empty with fewer than two arms or three seeds.
        surfaces: attainment surfaces; empty unless requested.
        validation_images: what the noise of the validation images is estimated from.
        test_images: what the noise of the test images is estimated from.
    """

    seeds: tuple[int, ...]
    configs: tuple[str, ...]
    confidence: float
    resamples: int
    band: UncertainFront
    gaps: tuple[ArmGap, ...] = ()
    surfaces: tuple[Surface, ...] = ()
    validation_images: Known = Known.NOTHING
    test_images: Known = Known.NOTHING


def uncertainty_of(
    runs: pd.DataFrame,
    margin: float = MARGIN,
    attainment: bool = False,
    measure: str = "macs",
    images: Images | None = None,
) -> Uncertainty | None:
    """Compute the uncertainty of a front and of the gaps between the fronts of its arms.

    A configuration takes part if it has a run for every seed that occurs, each with both accuracies. The arms
    are the values of `param.activation`. The control is `relu`, or the first arm in the order of
    `invact.arms.ARMS` if there is no `relu`; every other arm is compared with it. With k other arms, each
    band has confidence 1 - 0.05 / k (Bonferroni).

    Args:
        runs: one row for each finished (config, seed), with columns `trial, config, seed,
            validation_accuracy, test_accuracy`, the column of the measure (the same for all runs of a
            configuration), `param.activation` if the activation varies, and `run_id` with `images`.
        margin: non-inferiority margin in points (1 point = 0.01).
        attainment: whether to add the attainment surfaces, which need the extra `eaf`.
        measure: the measure of the cost, one of `invact.measures.MEASURES`.
        images: what is known about the images. Without it, the noise of the images is left out.

    Returns:
        The uncertainty; None with fewer than two seeds, or if no configuration takes part.

    Raises:
        InputError: the margin is out of range.
        EnvironmentFault: the extra is not installed.

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
        raise InputError(f"margin: received {margin:g}. Allowed: points in (0, 100), for example {MARGIN}")
    seeds = sorted(set(runs["seed"])) if len(runs) else []
    if len(seeds) < 2:
        return None
    # Sorted by trial, because the first of several equal configurations is on the front.
    first = runs.sort_values(["trial", "config"]).drop_duplicates("config").set_index("config")
    first = first[first[measure].astype(float) > 0]
    scores = runs.pivot(index="config", columns="seed", values=["validation_accuracy", "test_accuracy"])
    wide = scores.astype(float).loc[first.index].dropna()
    if wide.empty:
        return None
    first = first.loc[wide.index]
    cost = first[measure].astype(float)
    arms = first.get("param.activation")
    candidates, known = _measured(runs, wide, cost.to_numpy(), arms, images or Images())
    resamples = min(10_000, max(1_000, CELLS // len(cost)))
    return Uncertainty(
        seeds=tuple(map(int, seeds)),
        configs=tuple(map(str, wide.index)),
        confidence=CONFIDENCE,
        resamples=resamples,
        band=front_bootstrap(candidates, resamples=resamples, confidence=CONFIDENCE),
        gaps=_gaps(candidates, arms, margin / 100, resamples),
        surfaces=attainment_surfaces(candidates) if attainment else (),
        validation_images=known[0],
        test_images=known[1],
    )


def _measured(
    runs: pd.DataFrame,
    wide: pd.DataFrame,
    cost: NDArray[Any],
    arms: pd.Series[str] | None,
    images: Images,
) -> tuple[Candidates, list[Known]]:
    """The candidates with the noise of their images.

    The hits of a run are a file. They are read for those configurations only that can be on a front.
    """
    validation, test = (
        np.asarray(wide[f"{split}_accuracy"], dtype=float) for split in ("validation", "test")
    )
    mean = validation.mean(axis=1)
    variance = seed_noise(validation).variance / len(validation[0])
    if "validation" in images.counts:
        variance += mean * (1 - mean) / images.counts["validation"]
    near = contenders(mean, cost, variance)
    for arm in [] if arms is None else set(arms.dropna()):
        mine = np.asarray(arms == arm)
        near[mine] |= contenders(mean[mine], cost[mine], variance[mine])
    ids: list[list[str]] = []
    if images.counts:
        by_seed = runs.pivot(index="config", columns="seed", values="run_id")
        ids = by_seed.loc[wide.index[near]].to_numpy().tolist()
    roots, known = [], []
    splits: dict[Split, NDArray[Any]] = {"validation": mean, "test": test.mean(axis=1)}
    for split, accuracy in splits.items():
        root, source = noise_of(images, ids, accuracy[near], split)
        whole = np.zeros((len(cost), 0 if root is None else len(root)))
        if root is not None:
            whole[near] = root
        roots.append(whole)
        known.append(source)
    return Candidates(validation, test, cost, *roots), known


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
        return candidates.only((arms == arm).to_numpy())

    control, *treatments = present
    confidence = 1 - (1 - CONFIDENCE) / len(treatments)
    return tuple(
        ArmGap(
            *(control, arm, confidence),
            front_gap(of(control), of(arm), margin, resamples=resamples, confidence=confidence),
        )
        for arm in treatments
    )
