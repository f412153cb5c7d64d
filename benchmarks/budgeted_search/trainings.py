"""The table of all networks, the searches on the table, and the searches with real trainings."""

from __future__ import annotations

import csv
import functools
import gc
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.budgeted_search.searches import (
    MEDIAN,
    PERCENTILES,
    SAMPLERS,
    TABLE,
    Network,
    Step,
    budgets,
    gate_alone,
    gated,
    network_of,
    plain,
    read_table,
    sweep_of,
)
from invact import Config, Status, run_sweep

SIDES = ("gate", "constraint", "penalty")
"""The search of invact, and plain Optuna with the budget as a constraint or as a penalty."""

TRIALS: Mapping[str, int] = {"nsga2": 80, "tpe": 40}
"""Number of trials on each side. The first generation of Optuna's NSGA-II has 50 random trials."""

LONGER: Mapping[str, int] = {"nsga2": 120, "tpe": 60}
"""Number of trials of the longer gated search; it does not train all of them, and begins like `TRIALS`."""

REAL_TRIALS = 16
SEEDS, FEWER, REAL_SEEDS = 100, 10, 5
"""Number of sampler seeds: with the median budget, with the other two budgets, and with real trainings."""


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
