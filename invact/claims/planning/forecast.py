"""The forecast of a claim: the runs, MACs and hours of each step, estimated before the claim is run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from invact.claims.cells import CONTROL, MATCHED, PLACEBO, TREATMENT, Cell, cell_key, curve_of
from invact.claims.evidence import Results
from invact.claims.file import Claim, identity_of, load_claim
from invact.claims.planning.plan import Plan, choose_procedure, planned
from invact.claims.planning.tuning import tuned
from invact.config import Config
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
"""MACs of training divided by MACs of the forward pass: gradients of inputs and of weights are added."""


@dataclass(frozen=True)
class Speed:
    """How fast this machine trains, measured for estimates.

    Attributes:
        macs_per_second: MACs of training in one second on one worker.
        overhead: seconds of a run that are not part of any epoch.
        measured: description of the measurement.
    """

    macs_per_second: float
    overhead: float
    measured: str


def speed_of(cell: Cell, data: Dataset) -> Speed:
    """Time two short epochs of one network on some of the images, on one thread like a worker."""
    import tensorflow as tf

    from invact.training.loop import train

    # A worker has one thread. The setting cannot be changed after TensorFlow has started.
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
    """One step of the protocol with its cost.

    Attributes:
        name: name of the step.
        least: number of runs if every test ends at its first look.
        most: largest number of runs.
        macs: MACs of the largest number of runs, forward and backward.
        hours: estimated hours of the largest number of runs, with the given number of workers.
    """

    name: str
    least: int
    most: int
    macs: float
    hours: float


def steps_of(
    claim: Claim, plan: Plan | None, costs: Mapping[str, Cost], data: Dataset, speed: Speed, workers: int
) -> tuple[ProtocolStep, ...]:
    """Count the runs of each step, including those that are already finished.

    Args:
        claim: the claim.
        plan: plan of the pilot. None before the pilot; the looks are then those of the file or the default.
        costs: cost of each network of the protocol and of the curve, by key.
        data: the data set to train on.
        speed: speed of this machine.
        workers: number of workers that train in parallel.
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
    networks = list(claim.cells()) if file.tuning else []
    points = file.tuning.trials * file.tuning.seeds if file.tuning else 0
    plans: dict[str, tuple[int, dict[str, int]]] = {
        "tuning": (points * len(networks), dict.fromkeys(networks, points)),
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
    """Number of epochs of each run of a claim.

    Example:
        >>> file_epochs(load_claim("digits_claim").file)
        10
    """
    return Config.model_validate(file.config).epochs


def plan_claim(
    claim: Claim | str | Path,
    *,
    store: str | Path | None = None,
    tracking_uri: str | None = None,
    workers: int | None = None,
) -> dict[str, tuple[Plan | None, tuple[ProtocolStep, ...]]]:
    """Estimate the runs, MACs and hours of each step of the protocol without training a network.

    After the pilot, the result includes its plan. Before the pilot, the looks are those of the file or the
    default.

    Args:
        claim: a claim, the name of a shipped claim, or the path of a file.
        store: folder of the MLflow store; `mlruns` unless given.
        tracking_uri: address of an MLflow tracking server or database, used instead of a folder.
        workers: number of processes to train with; one for each core unless given.

    Returns:
        For each data set: the plan (None before the pilot) and the steps.

    Raises:
        InputError: the input is wrong.
        EnvironmentFault: the data or the store cannot be reached.
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
    """The plan from the pilot in the record; None without a record or before the pilot has ended."""
    from invact.tracking.store import has_store, open_store

    if not has_store(store, tracking_uri):
        return None
    try:
        opened = open_store(store, tracking_uri)
        record = opened.latest(claim.name, "claim", identity=identity_of(name))
    except InputError:
        return None
    results = Results(record.table(), data)
    tuned_values = tuned(claim, results)
    return None if tuned_values is None else planned(claim, results, claim.cells(tuned_values))
