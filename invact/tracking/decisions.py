"""The decisions at rungs in a record: each is a tag of the run that it was made for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from invact.tracking.stored import damaged, object_of, whole_number
from invact.tracking.table import SEED, TRIAL

__all__ = ["Decision", "begun", "decisions_of", "tag_of_decision"]

RUNG = "invact.rung."
"""How the tags begin; then comes the number of the epoch."""


@dataclass(frozen=True)
class Decision:
    """What was decided when a training reached a rung.

    Attributes:
        order: position in the order of arrivals, from 0.
        trial: number of the trial.
        epoch: number of the epoch, from 1.
        accuracy: what the training had reached, larger is better: its validation accuracy, or the value that
            a single objective makes of it.
        cost: cost of the network; None if a single objective decides.
        goes_on: whether the training goes on; at the last epoch, whether more seeds of the trial follow.
    """

    order: int
    trial: int
    epoch: int
    accuracy: float
    cost: float | None
    goes_on: bool


def tag_of_decision(decision: Decision) -> dict[str, str]:
    """Return the tag of a decision.

    Example:
        >>> tag_of_decision(Decision(7, 3, 9, 0.5, None, True))
        {'invact.rung.9': '{"order": 7, "accuracy": 0.5, "cost": null, "goes_on": true}'}
    """
    values = asdict(decision)
    del values["trial"], values["epoch"]
    return {f"{RUNG}{decision.epoch}": json.dumps(values)}


def decisions_of(runs: Iterable[Any]) -> list[Decision]:
    """Read the decisions from the MLflow runs of one record, also from runs that were killed, in their order.

    Raises:
        EnvironmentFault: a tag is damaged.
    """
    found = [
        _decision(run, tag, int(epoch))
        for run in runs
        for tag in run.data.tags
        if tag.startswith(RUNG) and (epoch := tag.removeprefix(RUNG)).isdecimal()
    ]
    return sorted(found, key=lambda one: one.order)


def begun(runs: Iterable[Any], ended: Iterable[Any]) -> list[Any]:
    """Return one MLflow run of each trial that has decisions and no run that has ended.

    Args:
        runs: the runs of one record.
        ended: those of them that have ended, see `current`.
    """
    known = {whole_number(run, TRIAL) for run in ended}
    chosen: dict[int, Any] = {}
    for run in runs:
        tags = run.data.tags
        if SEED in tags and any(tag.startswith(RUNG) for tag in tags):
            chosen[whole_number(run, TRIAL)] = run
    return [chosen[number] for number in sorted(chosen.keys() - known)]


def _decision(run: Any, tag: str, epoch: int) -> Decision:
    run_id, what = run.info.run_id, f"tag {tag!r}"
    found = object_of(run_id, what, run.data.tags[tag], order=int, accuracy=float, goes_on=bool)
    cost = found.get("cost")
    if cost is not None and not isinstance(cost, int | float):
        raise damaged(run_id, f"{what}: cost", cost, "a number")
    return Decision(
        *(found["order"], whole_number(run, TRIAL), epoch, found["accuracy"], cost, found["goes_on"])
    )
