"""The two sides of the comparison, each as a list of steps, and what is measured on the steps."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from invact import Config, Objective, Status, Sweep, load_sweep
from invact.config import Scalar
from invact.search.drivers import Outcome, make_driver
from invact.statistics.fronts.dominance import hypervolume

FOLDER = Path(__file__).parent
FILE, TABLE = FOLDER / "sweep.toml", FOLDER / "table.csv"
SAMPLERS: Mapping[str, Callable[..., optuna.samplers.BaseSampler]] = {
    "nsga2": optuna.samplers.NSGAIISampler,
    "tpe": optuna.samplers.TPESampler,
}
PERCENTILES, MEDIAN = (25, 50, 75), 50

Floats = NDArray[np.float64]
Values = Mapping[str, Scalar]


@dataclass(frozen=True)
class Network:
    """A configuration and the result of its one training, with seed 0."""

    activation: str
    filters: str
    learning_rate: float
    config: str
    macs: int
    params: int
    validation_accuracy: float
    test_accuracy: float


@dataclass(frozen=True)
class Step:
    """One proposal of a search, and the MACs of the network that was trained for it (0 without training)."""

    network: Network
    trained: int


Train = Callable[[Config], Network]


def network_of(config: Config, macs: int, params: int, validation: float, test: float) -> Network:
    assert isinstance(config.activation, str)
    assert isinstance(config.filters, tuple)
    filters = "-".join(map(str, config.filters))
    digest = config.digest()
    return Network(config.activation, filters, config.learning_rate, digest, macs, params, validation, test)


def read_table(path: Path = TABLE) -> dict[str, Network]:
    """Read the finished trainings, by digest of the configuration."""
    kinds = {
        field.name: {"str": str, "int": int, "float": float}[str(field.type)] for field in fields(Network)
    }
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            Network(**{name: kinds[name](cell) for name, cell in row.items()}) for row in csv.DictReader(file)
        ]
    return {row.config: row for row in rows}


def sweep_of(**overrides: Any) -> Sweep:
    return load_sweep(FILE, overrides)


def budgets(table: Mapping[str, Network]) -> dict[int, int]:
    """Return the budgets: percentiles of the MACs in the space, rounded to thousands."""
    macs = [network.macs for network in table.values()]
    return {share: int(round(np.percentile(macs, share), -3)) for share in PERCENTILES}


# The two sides of the comparison; each search is a list of steps.


def outcome_of(network: Network, budget: int) -> Outcome:
    if network.macs > budget:
        return Outcome(Status.OVER_BUDGET, {"macs": network.macs})
    return Outcome(Status.FINISHED, {"macs": network.macs}, network.validation_accuracy)


def gated(train: Train, budget: int, sampler: str, seed: int, trials: int) -> list[Step]:
    """Search with a driver of invact and the gate: a proposal over budget is reported and not trained."""
    space = sweep_of().space
    objective = Objective(kind="pareto", max_macs=budget)
    driver = make_driver("optuna", sampler, space, objective, seed, trials)
    steps = []
    while (proposal := driver.ask()) is not None:
        network = train(space.config(proposal.values))
        driver.tell(proposal, outcome_of(network, budget))
        steps.append(Step(network, network.macs if network.macs <= budget else 0))
    return steps


def plain(train: Train, budget: int, sampler: str, seed: int, trials: int, told: str) -> list[Step]:
    """Search with the defaults of Optuna: every proposal is trained, and then penalised if it is over budget.

    Args:
        train: returns the result of a configuration.
        budget: the budget in MACs.
        sampler: a key of `SAMPLERS`.
        seed: the seed of the sampler.
        trials: number of trials.
        told: `constraint`: the relative overrun is a constraint; `penalty`: the accuracy is reduced by it.
    """
    space = sweep_of().space
    steps = []

    def objective(trial: optuna.Trial) -> tuple[float, int]:
        network = train(space.config(space.suggest(trial)))
        steps.append(Step(network, network.macs))
        overrun = network.macs / budget - 1
        if told == "penalty":
            return network.validation_accuracy - max(overrun, 0), network.macs
        trial.set_constraint("budget", overrun)
        return network.validation_accuracy, network.macs

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=("maximize", "minimize"), sampler=SAMPLERS[sampler](seed=seed))
    study.optimize(objective, n_trials=trials)
    return steps


def gate_alone(steps: Sequence[Step], budget: int) -> list[Step]:
    """Return the steps of plain Optuna with a constraint and the gate; the proposals are the same.

    Both samplers rank trials that violate a constraint only by the violation, which needs no training.
    """
    return [Step(step.network, step.trained if step.network.macs <= budget else 0) for step in steps]


def driver_alone(steps: Sequence[Step]) -> list[Step]:
    """Return the steps of invact's driver without the gate: the same proposals, and all are trained."""
    return [Step(step.network, step.network.macs) for step in steps]


def cached(steps: Sequence[Step]) -> list[Step]:
    """Return the same search if repeated proposals cost no training."""
    first: dict[str, int] = {}
    for number, step in enumerate(steps):
        first.setdefault(step.network.config, number)
    return [
        Step(step.network, step.trained if first[step.network.config] == number else 0)
        for number, step in enumerate(steps)
    ]


# The measurements.


def progress(steps: Sequence[Step], budget: int) -> tuple[Floats, Floats]:
    """Return cumulative trained MACs and hypervolume after each step; the reference is (0, budget)."""
    front: list[tuple[float, int]] = []
    volumes = []
    volume = 0.0
    for step in steps:
        point = step.network.validation_accuracy, step.network.macs
        if point[1] <= budget and point not in front:
            front.append(point)
            accuracies, macs = zip(*front, strict=True)
            volume = hypervolume(accuracies, macs, (0.0, budget))
        volumes.append(volume)
    return np.cumsum([step.trained for step in steps], dtype=float), np.array(volumes)


def reached(steps: Sequence[Step], budget: int, volume: float) -> float:
    """Return the trained MACs at which a hypervolume is first reached; infinity if it is never reached."""
    macs, volumes = progress(steps, budget)
    hits = np.flatnonzero(volumes >= volume)
    return float(macs[hits[0]]) if len(hits) else np.inf


def ratio(steps: Sequence[Step], than: Sequence[Step], budget: int) -> tuple[float, float]:
    """Return the trained MACs at which `steps` reaches the final hypervolume of `than`, as two ratios.

    Returns:
        The ratio to the trained MACs at which `than` first reached it, and to all trained MACs of `than`.
    """
    macs, volumes = progress(than, budget)
    needed = reached(steps, budget, volumes[-1])
    return needed / reached(than, budget, volumes[-1]), needed / macs[-1]


def quartiles(ratios: Sequence[float]) -> list[float]:
    """Return the quartiles. Infinity counts as a number, and there is no interpolation between two values."""
    return [float(value) for value in np.quantile(ratios, (0.25, 0.5, 0.75), method="higher")]
