"""The forecast of a claim: the trainings, MACs and hours of every possible course."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

import numpy as np

from invact.claims.cells import CONTROL, TREATMENT, Cell, cell_key, curve_of
from invact.claims.evidence import Results
from invact.claims.file import BLOCK, Claim, identity_of, load_claim
from invact.claims.planning.design import matched_excess, procedure_of, rules_of
from invact.claims.planning.plan import Plan, plan_of
from invact.claims.planning.tuning import tuned
from invact.config import Config
from invact.errors import InputError
from invact.execution.display.stages import track
from invact.process.processors import allowed_processors
from invact.process.quiet import check_backend
from invact.statistics.sequential.course import CONFIRMATION, PILOT, SCREEN, Network, Rules, advance, follow
from invact.statistics.sequential.failures import Runs
from invact.statistics.sequential.power import power

if TYPE_CHECKING:
    from invact.claims.keys import ClaimFile
    from invact.cost.count import Cost
    from invact.data.dataset import Dataset

__all__ = ["Forecast", "Path", "Speed", "file_epochs", "plan_claim", "power_at_best", "simulate", "speed_of"]


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


PLAIN = 30
"""Runs of each arm at each ratio in the plain design that a claim is compared with."""
REPLICATIONS = 200
TYPICAL = 2 / 3
"""Standard deviation of an arm, in margins, that is assumed before the pilot."""
FAR = 4.0
"""Loss in margins of an arm that is clearly worse."""


@dataclass(frozen=True)
class Path:
    """One possible course of a claim, with its mean cost.

    Attributes:
        name: what is true in this course.
        trainings: step -> mean number of trainings.
        macs: MACs of all trainings, forward and backward.
        hours: estimated hours with the given number of workers.
    """

    name: str
    trainings: Mapping[str, float]
    macs: float
    hours: float

    @property
    def total(self) -> float:
        """Mean number of trainings of all steps."""
        return sum(self.trainings.values())


@dataclass(frozen=True)
class Forecast:
    """What a claim costs on one data set.

    Attributes:
        plan: what pilot and screen have fixed so far.
        paths: every possible course.
        plain: number of trainings of the plain design: 30 runs of three arms at each ratio.
        margin: margin that the forecast assumes, as a fraction.
        spread: standard deviation of an arm that the forecast assumes, as a fraction.
        measured: whether margin and spread come from pilot and screen.
        best: power of one test with all runs if the standard deviation is only half an image.
        power: power that the file asks for.
        excess: ratio -> MACs of the matched arm divided by those of the treatment, minus 1.
    """

    plan: Plan
    paths: tuple[Path, ...]
    plain: int
    margin: float
    spread: float
    measured: bool
    best: float
    power: float
    excess: Mapping[float, float]


def simulate(
    rules: Rules, equal: float | None, assay: bool, margin: float, spread: float
) -> dict[str, float]:
    """Mean number of runs of each network in each step, over simulated claims with normal accuracies.

    Args:
        rules: the rules of the claim.
        equal: the treatment is as accurate as the control at this ratio and above; None: at no ratio.
        assay: whether the placebo is worse than the control.
        margin: the margin, as a fraction.
        spread: standard deviation of an arm, as a fraction.

    Returns:
        Step and key of the network, separated by a slash -> mean number of runs.
    """
    rng = np.random.default_rng(0)
    known = replace(rules, margin=margin)
    total: Counter[tuple[str, Network]] = Counter()

    def loss(network: Network) -> float:
        role, ratio = network
        if role == "control":
            return 0.0
        if role == "treatment":
            return 0.0 if equal is not None and ratio >= equal else FAR * margin
        return FAR * margin if assay else 0.0

    for _ in range(REPLICATIONS):
        drawn: dict[tuple[str, Network], np.ndarray] = {}

        def runs(
            step: str, network: Network, count: int, drawn: dict[tuple[str, Network], np.ndarray] = drawn
        ) -> Runs:
            if (step, network) not in drawn or len(drawn[step, network]) < count:
                more = rng.normal(0.5 - loss(network), spread, max(64, 2 * count))
                drawn[step, network] = np.clip(more, 0, 1)
            return Runs(drawn[step, network][:count])

        total.update(follow(known, runs)[1])
    return {f"{step}/{cell_key(*network)}": n / REPLICATIONS for (step, network), n in total.items()}


def power_at_best(rules: Rules, margin: float) -> float:
    """Power of one test with all runs if each arm only has the spread of half an image.

    If even this is below the power that the file asks for, the test set is too small for the margin.
    """
    return power(rules.procedure.most, rules.floor, margin, 0.0, rules.procedure.alpha)


def _paths(
    claim: Claim,
    rules: Rules,
    costs: Mapping[str, Cost],
    data: Dataset,
    speed: Speed,
    workers: int,
    margin: float,
    spread: float,
) -> tuple[Path, ...]:
    file = claim.file
    networks = list(claim.cells()) if file.tuning else []
    points = file.tuning.trials * file.tuning.seeds if file.tuning else 0
    tuning = {f"tuning/{key}": float(points) for key in networks}
    curve = {}
    if file.curve:
        curve = {f"curve/{key}": float(file.curve.seeds) for key in curve_of(file, claim.ratios, {})}
    images = file_epochs(file) * len(data.x_train)
    courses: list[tuple[str, float | None, bool]] = [
        (f"equal down to {ratio:g} of the filters", ratio, True) for ratio in reversed(claim.ratios)
    ]
    courses += [("equal at no ratio", None, True), ("no assay sensitivity", None, False)]
    found = []
    for name, equal, assay in track(courses, "courses"):
        runs = tuning | simulate(rules, equal, assay, margin, spread) | (curve if assay else {})
        confirmed = [key for key in runs if key.startswith(f"{CONFIRMATION}/{TREATMENT}")]
        for arm in file.further:
            # A further arm needs about as many runs as the treatment.
            runs |= {key.replace(TREATMENT, arm): runs[key] for key in confirmed}
        trainings = {
            step: sum(count for key, count in runs.items() if key.startswith(f"{step}/"))
            for step in ("tuning", PILOT, SCREEN, CONFIRMATION, "curve")
        }
        macs = sum(BACKWARD * n * images * costs[key.split("/", 1)[1]].macs for key, n in runs.items())
        seconds = macs / speed.macs_per_second + sum(runs.values()) * speed.overhead
        used = {step: count for step, count in trainings.items() if count}
        found.append(Path(name, used, float(macs), seconds / workers / 3600))
    return tuple(found)


def file_epochs(file: ClaimFile) -> int:
    """Number of epochs of each run of a claim.

    Example:
        >>> file_epochs(load_claim("digits_claim").file)
        10
    """
    return Config.model_validate(file.config).epochs


def plan_claim(
    claim: Claim | str | FilePath,
    *,
    store: str | FilePath | None = None,
    tracking_uri: str | None = None,
    workers: int | None = None,
) -> dict[str, Forecast]:
    """Estimate the trainings, MACs and hours of every possible course without training a network.

    Margin and spread come from pilot and screen if the store has them. Otherwise the margin is that of the
    file or its cap, and the spread is two thirds of it.

    Args:
        claim: a claim, the name of a shipped claim, or the path of a file.
        store: folder of the MLflow store; `mlruns` unless given.
        tracking_uri: address of an MLflow tracking server or database, used instead of a folder.
        workers: number of processes to train with; one for each core unless given.

    Returns:
        The forecast for each data set.

    Raises:
        InputError: the input is wrong.
        EnvironmentFault: the data or the store cannot be reached.
    """
    check_backend()
    if not isinstance(claim, Claim):
        claim = load_claim(claim)
    procedure_of(claim.file).prepare()
    found = {}
    for name, source in zip(claim.file.data, claim.sources, strict=True):
        data = source.load()
        data.report()
        costs = claim.costs(data)
        rules = rules_of(claim, data, costs)
        plan = _known_plan(claim, name, data, rules, store, tracking_uri)
        speed = speed_of(claim.cells()[CONTROL], data)
        margin = plan.margin or rules.margin or rules.cap
        spread = plan.spread or TYPICAL * margin
        tested = rules if plan.procedure is None else replace(rules, procedure=plan.procedure)
        found[name] = Forecast(
            plan,
            _paths(claim, rules, costs, data, speed, workers or len(allowed_processors()), margin, spread),
            PLAIN * 3 * len(claim.ratios),
            margin,
            spread,
            plan.spread is not None,
            power_at_best(tested, margin),
            claim.file.power,
            {ratio: matched_excess(costs, ratio) for ratio in claim.ratios},
        )
    return found


def _known_plan(
    claim: Claim,
    name: str,
    data: Dataset,
    rules: Rules,
    store: str | FilePath | None,
    tracking_uri: str | None,
) -> Plan:
    """The plan from the runs in the record; empty without a record."""
    from invact.tracking.store import has_store, open_store

    if not has_store(store, tracking_uri):
        return Plan()
    try:
        opened = open_store(store, tracking_uri, read_only=True)
        record = opened.latest(claim.name, "claim", identity=identity_of(name))
    except InputError:
        return Plan()
    results = Results(record.table(), data)
    tuned_values = tuned(claim, results)
    if tuned_values is None:
        return Plan()
    cells = claim.cells(tuned_values)

    def runs(step: str, network: Network) -> Runs:
        key = cell_key(*network)
        return results.runs(step, cells[key], claim.seeds(step, key, BLOCK))

    return plan_of(advance(rules, runs), rules, claim.file.power)
