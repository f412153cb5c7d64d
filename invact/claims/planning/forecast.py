"""The forecast of a claim: how many trainings, MACs and hours each step takes, before it is run."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from invact.claims.cells import CONTROL, MATCHED, PLACEBO, TREATMENT, Cell, cell_key, curve_of
from invact.claims.file import Claim, identity_of, load_claim
from invact.claims.planning.plan import Plan, choose_procedure, planned
from invact.claims.planning.tuning import tuned
from invact.errors import InputError
from invact.processors import allowed_processors
from invact.statistics.sequential.boundaries import LOOKS
from invact.statistics.sequential.procedures import Method

if TYPE_CHECKING:
    from invact.claims.keys import ClaimFile
    from invact.cost.count import Cost
    from invact.data.dataset import Dataset

__all__ = ["ProtocolStep", "Speed", "file_epochs", "plan_claim", "speed_of", "steps_of"]


BACKWARD = 3
"""Training takes about three times the MACs of the forward pass: gradients of inputs and weights too."""


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

    from invact.training.loop import train

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
class ProtocolStep:
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
) -> tuple[ProtocolStep, ...]:
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
        procedure = choose_procedure(file, file.pairs or LOOKS[-1], 1.0, 0.99)
    first, most = procedure.looks[0], procedure.most
    if procedure.method is Method.ANYTIME:
        first = 2
    saving = [r for r in ratios if costs[cell_key(TREATMENT, r)].macs < costs[CONTROL].macs]
    ladder: dict[str, int] = {CONTROL: most}
    for ratio in ratios:
        ladder |= {cell_key(TREATMENT, ratio): most, cell_key(PLACEBO, ratio): most}
    ladder |= {cell_key(MATCHED, ratio): most for ratio in saving}
    smallest = ratios[-1]
    tuned = list(claim.cells()) if file.tuning else []
    points = file.tuning.trials * file.tuning.seeds if file.tuning else 0
    plans: dict[str, tuple[int, dict[str, int]]] = {
        "tuning": (points * len(tuned), dict.fromkeys(tuned, points)),
        "pilot": (2 * file.pilot, {CONTROL: file.pilot, cell_key(PLACEBO, smallest): file.pilot}),
        "confirmation": (2 * first, ladder),
        "other arms": (first * len(file.also), {cell_key(arm, ratios[0]): most for arm in file.also}),
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
            steps.append(ProtocolStep(name, least, total, macs, seconds / workers / 3600))
    return tuple(steps)


def file_epochs(file: ClaimFile) -> int:
    from invact.config import Config

    return Config.model_validate(file.config).epochs


def plan_claim(
    claim: Claim | str | Path,
    *,
    store: str | Path | None = None,
    tracking_uri: str | None = None,
    workers: int | None = None,
) -> dict[str, tuple[Plan | None, tuple[ProtocolStep, ...]]]:
    """Say what the protocol will take, and train nothing: trainings, MACs and hours of each step.

    After the pilot, its plan is there too; before it, the looks are the file's or the default.

    Args:
        claim: a claim, a shipped claim's name, or a path.
        store: the folder of the MLflow store; `mlruns` unless given.
        tracking_uri: an MLflow tracking server or database instead.
        workers: processes to train with; one for each core unless given.

    Returns:
        For each data set: the plan, None before the pilot, and the steps.

    Raises:
        InputError: bad input.
        EnvironmentFault: the data or the store are out of reach.
    """
    if not isinstance(claim, Claim):
        claim = load_claim(claim)
    found = {}
    for name, source in zip(claim.file.data, claim.sources, strict=True):
        data = source.load()
        costs = claim.costs(data)
        plan = _known_plan(claim, name, data, store, tracking_uri)
        speed = speed_of(claim.cells()[CONTROL], data)
        count = workers or len(allowed_processors())
        found[name] = plan, steps_of(claim, plan, costs, data, speed, count)
    return found


def _known_plan(
    claim: Claim, name: str, data: Dataset, store: str | Path | None, tracking_uri: str | None
) -> Plan | None:
    """The plan that the record's pilot gives; None where there is no record, or the pilot has not ended."""
    from invact.claims.evidence import Results
    from invact.tracking.store import open_store

    if tracking_uri is None and not Path("mlruns" if store is None else store).exists():
        return None
    try:
        opened = open_store(None if store is None else Path(store), tracking_uri)
        record = opened.latest(claim.name, "claim", identity=identity_of(name))
    except InputError:
        return None
    results = Results(record.table(), data)
    recipes = tuned(claim, results)
    return None if recipes is None else planned(claim, results, claim.cells(recipes))
