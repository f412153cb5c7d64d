"""The tables and the picture of docs/budgeted-search.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np

from benchmarks.budgeted_search.searches import (
    MEDIAN,
    SAMPLERS,
    Floats,
    Network,
    Step,
    budgets,
    cached,
    driver_alone,
    gate_alone,
    progress,
    quartiles,
    ratio,
    reached,
    read_table,
)
from benchmarks.budgeted_search.trainings import (
    REAL_SEEDS,
    REAL_TRIALS,
    SIDES,
    TRIALS,
    Search,
    real_searches,
    simulated,
)

PASSES = 3 * 800 * 5
"""Training MACs for each MAC of a network: 3 for forward and backward, 800 images, 5 epochs."""

LOOKS = {
    "constraint": ("#D55E00", "-", "plain Optuna, a constraint"),
    "penalty": ("#222222", ":", "plain Optuna, a penalty"),
    "alone": ("#009E73", "-", "plain Optuna and the gate"),
    "gate": ("#0072B2", "-", "invact"),
}


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
