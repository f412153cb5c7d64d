"""The tuning of a claim: every network gets the same search, so that no arm is tuned with more effort."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from invact.claims.cells import Cell, Hyperparameters
from invact.config import Config

if TYPE_CHECKING:
    from invact.claims.evidence import Results
    from invact.claims.file import Claim
    from invact.claims.keys import TuningFile

__all__ = ["points_of", "tuned", "tuning_points"]


def tuning_points(tuning: TuningFile, config: Mapping[str, Any]) -> tuple[Hyperparameters, ...]:
    """The points that the tuning tries for every arm: a Halton sequence on logarithmic scales.

    Source: Halton, Numerische Mathematik 2, 1960 (scipy.stats.qmc, not scrambled).
    """
    ranges = [tuning.learning_rate, *([tuning.weight_decay] if tuning.weight_decay else [])]
    # The first point of the sequence is skipped, because it is a corner of the ranges.
    from scipy.stats import qmc  # Here, because it takes a second.

    points = qmc.Halton(len(ranges), scramble=False).random(tuning.trials + 1)[1:]
    decay = Config.model_validate(dict(config)).weight_decay
    hyperparameters = []
    for point in points:
        scaled = [low * (high / low) ** share for share, (low, high) in zip(point, ranges, strict=True)]
        rate, *rest = (float(f"{value:.4g}") for value in scaled)
        hyperparameters.append(Hyperparameters(rate, rest[0] if rest else decay))
    return tuple(hyperparameters)


def points_of(claim: Claim, tuning: TuningFile) -> list[tuple[Hyperparameters, dict[str, Cell]]]:
    """Each point of the tuning, with every network of the protocol that uses its hyperparameters."""
    points = tuning_points(tuning, claim.file.config)
    return [(point, claim.cells(dict.fromkeys(claim.cells(), point))) for point in points]


def tuned(claim: Claim, results: Results) -> dict[str, Hyperparameters] | None:
    """Hyperparameters with the best mean validation accuracy for each network; None if runs are missing."""
    tuning = claim.file.tuning
    if tuning is None:
        return {}
    found, best = {}, dict.fromkeys(claim.cells(), -1.0)
    for point, cells in points_of(claim, tuning):
        for key, cell in cells.items():
            rows = results.rows("tuning", cell, claim.seeds("tuning", key, tuning.seeds))
            if len(rows) < tuning.seeds:
                return None
            # A run that diverged has no validation accuracy and must not be selected.
            mean = float(rows["validation_accuracy"].fillna(0).mean())
            if mean > best[key]:
                found[key], best[key] = point, mean
    return found
