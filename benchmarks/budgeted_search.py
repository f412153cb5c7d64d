"""Sample efficiency: the training MACs that a search under a budget needs, with and without the gate.

    python benchmarks/budgeted_search.py table             trains every network of the space once
    python benchmarks/budgeted_search.py simulate FOLDER   runs the searches on this table, without training
    python benchmarks/budgeted_search.py sweep FOLDER      runs searches with real trainings
    python benchmarks/budgeted_search.py report FOLDER --picture docs/budgeted-search.png

`table` writes budgeted_search.csv next to this file. `report` prints the tables of docs/budgeted-search.md.
`table`, `simulate` and `sweep` use two processes; `simulate` and `sweep` continue where they were stopped.
"""

from __future__ import annotations

import argparse
import csv
import functools
import gc
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from invact import Config, Objective, Status, Sweep, load_sweep, run_sweep
from invact.config import Scalar
from invact.search.drivers import Outcome, make_driver
from invact.statistics.fronts.dominance import hypervolume

FILE = Path(__file__).with_suffix(".toml")
TABLE = Path(__file__).with_suffix(".csv")
SAMPLERS: Mapping[str, Callable[..., optuna.samplers.BaseSampler]] = {
    "nsga2": optuna.samplers.NSGAIISampler,
    "tpe": optuna.samplers.TPESampler,
}
SIDES = ("gate", "constraint", "penalty")
"""The search of invact, and plain Optuna with the budget as a constraint or as a penalty."""

TRIALS: Mapping[str, int] = {"nsga2": 80, "tpe": 40}
"""Number of trials on each side. The first generation of Optuna's NSGA-II has 50 random trials."""

LONGER: Mapping[str, int] = {"nsga2": 120, "tpe": 60}
"""Number of trials of the longer gated search; it does not train all of them, and begins like `TRIALS`."""

REAL_TRIALS = 16
PERCENTILES, MEDIAN = (25, 50, 75), 50
SEEDS, FEWER, REAL_SEEDS = 100, 10, 5
"""Number of sampler seeds: with the median budget, with the other two budgets, and with real trainings."""

PASSES = 3 * 800 * 5
"""Training MACs for each MAC of a network: 3 for forward and backward, 800 images, 5 epochs."""

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


# The table, the searches on the table, and the searches with real trainings.


def write_table() -> None:
    """Train every network of the space and write the table."""
    space = sweep_of().space
    with _processes() as processes:
        networks = sorted(processes.map(_train, map(space.config, space.grid())), key=astuple)
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Network))
        writer.writerows(map(astuple, networks))


def _recorded(row: Mapping[Any, Any]) -> Network:
    """Convert a row of a sweep's table; the accuracies are NaN if the gate rejected the trial."""
    assert row["status"] in (Status.FINISHED, Status.OVER_BUDGET), row
    config = Config.model_validate_json(row["config_json"])
    costs = int(row["macs"]), int(row["params"])
    return network_of(config, *costs, row["validation_accuracy"], row["test_accuracy"])


@dataclass(frozen=True)
class Search:
    """The settings of one search: side, budget (as a percentile), sampler, seed and number of trials."""

    side: str
    percentile: int
    sampler: str
    seed: int
    trials: int

    def __str__(self) -> str:
        return "-".join(map(str, astuple(self)))

    def steps(self, proposed: Sequence[str], table: Mapping[str, Network]) -> list[Step]:
        """Return the steps of the search, from the digests of its proposals."""
        networks = [table[config] for config in proposed]
        steps = [Step(network, network.macs) for network in networks]
        return gate_alone(steps, budgets(table)[self.percentile]) if self.side == "gate" else steps


def _simulated(search: Search) -> list[str]:
    table = read_table()
    budget = budgets(table)[search.percentile]

    def train(config: Config) -> Network:
        return table[config.digest()]

    if search.side == "gate":
        steps = gated(train, budget, search.sampler, search.seed, search.trials)
    else:
        steps = plain(train, budget, search.sampler, search.seed, search.trials, search.side)
    return [step.network.config for step in steps]


def _real(search: Search, folder: Path) -> None:
    """Run a search with real trainings and write its networks to a file."""
    path = folder / f"{search}.json"
    if path.exists():
        return
    budget = budgets(read_table())[search.percentile]
    if search.side == "gate":
        objective = {"objective.max_macs": budget, "sampler": search.sampler, "seed": search.seed}
        sweep = sweep_of(trials=search.trials, **objective)
        # With several workers, the proposals would depend on which trial ends first.
        rows = run_sweep(sweep, store=folder / str(search), workers=1, show=False).to_pandas()
        networks = [_recorded(row) for row in rows.sort_values("trial").to_dict("records")]
    else:
        steps = plain(_train, budget, search.sampler, search.seed, search.trials, search.side)
        networks = [step.network for step in steps]
    path.write_text(json.dumps([astuple(network) for network in networks]), encoding="utf-8")


def _train(config: Config) -> Network:
    import keras

    from invact import train

    result = train(config, 0, sweep_of().source.load())
    keras.backend.clear_session()
    gc.collect()
    assert result.status is Status.FINISHED, result
    assert result.cost is not None
    assert result.validation is not None
    assert result.test is not None
    costs = result.cost.macs, result.cost.params
    return network_of(config, *costs, result.validation.accuracy, result.test.accuracy)


def _processes() -> ProcessPoolExecutor:
    """Return the processes that train; they inherit environment variables that are set here."""
    # One thread, as in invact's workers, makes numbers reproducible.
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # The table was trained without oneDNN, which adds numbers in another order.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    return ProcessPoolExecutor(2, mp_context=get_context("spawn"))


def real_searches() -> list[Search]:
    return [
        Search(side, MEDIAN, sampler, seed, REAL_TRIALS)
        for seed in range(REAL_SEEDS)
        for sampler in SAMPLERS
        for side in SIDES[:2]
    ]


def simulate(folder: Path, seeds: int) -> None:
    searches = real_searches() + [
        Search(side, percentile, sampler, seed, (LONGER if side == "gate" else TRIALS)[sampler])
        for seed in range(seeds)
        for percentile in PERCENTILES
        for sampler in SAMPLERS
        for side in SIDES
        if percentile == MEDIAN or seed < FEWER
    ]
    path = folder / "simulated.jsonl"
    known = simulated(path)
    left = [search for search in searches if search not in known]
    with _processes() as processes, path.open("a", encoding="utf-8") as file:
        for search, proposed in zip(left, processes.map(_simulated, left), strict=True):
            print(json.dumps([astuple(search), proposed]), file=file, flush=True)


def simulated(path: Path) -> dict[Search, list[str]]:
    """Read the proposals of the searches that are finished, as digests of configurations."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {Search(*search): proposed for search, proposed in map(json.loads, lines)}


def sweep(folder: Path) -> None:
    with _processes() as processes:
        for _ in processes.map(functools.partial(_real, folder=folder), real_searches()):
            pass


# The report.


def summary(
    steps: Sequence[Sequence[Step]], than: Sequence[Sequence[Step]], budget: int
) -> tuple[str, str, str, str]:
    """Return cells of a table: ratio with quartiles, ratio to the total, share at most 1/2, never reached."""
    strict, loose = zip(*(ratio(a, b, budget) for a, b in zip(steps, than, strict=True)), strict=True)
    low, middle, high = quartiles(strict)
    half = np.mean(np.array(strict) <= 0.5)
    never = int(np.isinf(strict).sum())
    return f"{middle:.2f} ({low:.2f} to {high:.2f})", f"{quartiles(loose)[1]:.2f}", f"{half:.2f}", f"{never}"


def row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |")


def head(titles: str) -> None:
    print(f"\n| {titles} |")
    row(*["---"] * len(titles.split(" | ")))


def report(folder: Path) -> None:
    """Print the tables of docs/budgeted-search.md."""
    table = read_table()
    limits = budgets(table)
    found = simulated(folder / "simulated.jsonl")
    searches = {search: search.steps(proposed, table) for search, proposed in found.items()}

    def runs(*wanted: str | int) -> list[list[Step]]:
        chosen = [key for key in searches if astuple(key)[:3] == wanted and key.trials != REAL_TRIALS]
        return [searches[key] for key in sorted(chosen, key=lambda key: key.seed)]

    macs = np.array([network.macs for network in table.values()])
    print(f"{len(table)} networks of {macs.min():,} to {macs.max():,} MACs")
    head(
        "budget, MACs | networks over budget | sampler | trials | seeds | trials over budget "
        "| MACs over budget | repeated trials"
    )
    for percentile, budget in limits.items():
        for sampler in SAMPLERS:
            plains = runs("constraint", percentile, sampler)
            trained = np.array([[step.trained for step in steps] for steps in plains])
            over = trained > budget
            first = np.array([[step.trained > 0 for step in cached(steps)] for steps in plains])
            shares = (over.mean(), trained[over].sum() / trained.sum(), 1 - first.mean())
            share = f"{np.mean(macs > budget):.2f}"
            cells = (f"{value:.2f}" for value in shares)
            row(f"{budget:,}", share, sampler, TRIALS[sampler], len(plains), *cells)

    head("budget, MACs | sampler | plain Optuna with | ratio | ratio to total | at most 1/2 | never")
    for percentile, budget in limits.items():
        for sampler in SAMPLERS:
            long = runs("gate", percentile, sampler)
            gate = [steps[: TRIALS[sampler]] for steps in long]
            for told in SIDES[1:]:
                plains = runs(told, percentile, sampler)
                row(f"{budget:,}", sampler, told, *summary(gate, plains, budget))
                free = [cached(steps) for steps in plains]
                row(f"{budget:,}", sampler, f"{told}, repeats free", *summary(gate, free, budget))
                row(f"{budget:,}", sampler, f"{told}, gate longer", *summary(long, plains, budget))

    head("sampler | search | ratio | ratio to total | at most 1/2 | never")
    budget = limits[MEDIAN]
    for sampler in SAMPLERS:
        plains = runs("constraint", MEDIAN, sampler)
        gate = [steps[: TRIALS[sampler]] for steps in runs("gate", MEDIAN, sampler)]
        alone = [gate_alone(steps, budget) for steps in plains]
        variants = {
            "plain, repeats free": map(cached, plains),
            "plain and gate": alone,
            "plain and gate, repeats free": map(cached, alone),
            "driver of invact, without gate": map(driver_alone, gate),
            "driver of invact and gate": gate,
        }
        for name, steps in variants.items():
            row(sampler, name, *summary(list(steps), plains, budget))

    if any(folder.glob("*.json")):
        report_real(folder, table, searches)


def report_real(folder: Path, table: Mapping[str, Network], searches: Mapping[Search, list[Step]]) -> None:
    """Print the searches with real trainings, and whether they agree with the table.

    If the real searches of a seed are not finished, the row has the simulated ones.
    """
    budget = budgets(table)[MEDIAN]
    real: dict[Search, list[Step]] = {}
    equal = trained = 0
    for search in real_searches():
        path = folder / f"{search}.json"
        if path.exists():
            networks = [Network(*cells) for cells in json.loads(path.read_text(encoding="utf-8"))]
            real[search] = search.steps([network.config for network in networks], table)
            for network, step in zip(networks, real[search], strict=True):
                trained += step.trained > 0
                equal += step.trained > 0 and network == table[network.config]
    same = sum(steps == searches[search] for search, steps in real.items())
    print(f"\n{equal} of {trained} trainings equal the table's, to the bit")
    print(f"{same} of {len(real)} searches equal the simulated ones, in every proposal")
    titles = "sampler | seed | trainings | plain, training MACs | gate, training MACs"
    head(f"{titles} | ratio | ratio to total | hypervolume, gate / plain")
    for sampler in SAMPLERS:
        ratios = []
        for seed in range(REAL_SEEDS):
            pair = [Search(side, MEDIAN, sampler, seed, REAL_TRIALS) for side in SIDES[:2]]
            gate, other = (real.get(search, searches[search]) for search in pair)
            done = all(search in real for search in pair)
            volume = progress(other, budget)[1][-1]
            strict, loose = ratio(gate, other, budget)
            ratios.append(strict)
            spent = (f"{PASSES * reached(steps, budget, volume):.3g}" for steps in (other, gate))
            last = progress(gate, budget)[1][-1] / volume
            trainings = "real" if done else "table"
            row(sampler, seed, trainings, *spent, f"{strict:.2f}", f"{loose:.2f}", f"{last:.3f}")
        row(sampler, "median", "", "", "", f"{quartiles(ratios)[1]:.2f}", "", "")


LOOKS = {
    "constraint": ("#D55E00", "-", "plain Optuna, a constraint"),
    "penalty": ("#222222", ":", "plain Optuna, a penalty"),
    "alone": ("#009E73", "-", "plain Optuna and the gate"),
    "gate": ("#0072B2", "-", "invact"),
}


def band(runs: Sequence[Sequence[Step]], budget: int, grid: Floats) -> Floats:
    """Return quartiles of the hypervolume over the seeds at each number of trained MACs, shape (3, n)."""
    found = []
    for macs, volumes in (progress(steps, budget) for steps in runs):
        # A finished search keeps its hypervolume.
        at = np.searchsorted(macs, grid, side="right")
        found.append(np.concatenate(([0.0], volumes))[at])
    return np.quantile(found, (0.25, 0.5, 0.75), axis=0)


def draw(folder: Path, path: Path) -> None:
    """Draw hypervolume against trained MACs for both samplers."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    from invact.reports.figures.style import INK, quantity, style

    table = read_table()
    budget = budgets(table)[MEDIAN]
    found = simulated(folder / "simulated.jsonl")
    searches = {
        key: key.steps(proposed, table)
        for key, proposed in found.items()
        if key.percentile == MEDIAN and key.trials != REAL_TRIALS
    }
    best = progress([Step(network, 0) for network in table.values()], budget)[1][-1]
    with style():
        figure = Figure(figsize=(10, 4.6), layout="constrained")
        for axes, sampler in zip(figure.subplots(1, 2, sharey=True), SAMPLERS, strict=True):
            runs = {
                side: [
                    steps[: TRIALS[sampler]]
                    for key, steps in searches.items()
                    if (key.side, key.sampler) == (side, sampler)
                ]
                for side in SIDES
            }
            runs["alone"] = [gate_alone(steps, budget) for steps in runs["constraint"]]
            for side, (color, line, label) in LOOKS.items():
                totals = [sum(step.trained for step in steps) for steps in runs[side]]
                grid = np.geomspace(budget, np.median(totals), 300)
                low, middle, high = 100 * band(runs[side], budget, grid) / best
                if line == "-":
                    axes.fill_between(PASSES * grid, low, high, color=color, alpha=0.15, lw=0)
                axes.plot(PASSES * grid, middle, line, color=color, lw=2, label=label)
                axes.plot(PASSES * grid[-1], middle[-1], "o", color=color, ms=5)
            axes.set_title({"nsga2": "NSGA-II", "tpe": "TPE"}[sampler], color=INK)
            axes.set(xscale="log", ylim=(60, 100.5), xlabel="training MACs")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: quantity(value)))
        figure.axes[0].set_ylabel("hypervolume, % of the best possible")
        figure.legend(
            *figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(LOOKS)
        )
        figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("table", "simulate", "sweep", "report"))
    parser.add_argument("folder", type=Path, nargs="?", default=Path("budgeted_search"))
    parser.add_argument("--seeds", type=int, default=SEEDS, help="number of sampler seeds, for simulate")
    parser.add_argument("--picture", type=Path, help="file for the picture, for report")
    given = parser.parse_args()
    if given.command == "table":
        write_table()
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.command == "simulate":
        simulate(given.folder, given.seeds)
    elif given.command == "sweep":
        sweep(given.folder)
    else:
        report(given.folder)
        if given.picture:
            draw(given.folder, given.picture)


if __name__ == "__main__":
    main()
