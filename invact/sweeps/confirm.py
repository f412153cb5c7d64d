"""Confirmation: the points of a front are retrained on fresh seeds and recorded in the same store."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from invact.config import digest
from invact.errors import InputError
from invact.fronts.confirmation import Confirmation, confirm_points
from invact.fronts.pareto import ParetoFront
from invact.process.quiet import check_backend
from invact.process.spawning import check_script
from invact.reports.confirmation import write_confirmation
from invact.sweeps.recorded import SETTINGS, data_of, find_sweep, front_of, images_of
from invact.tracking.stored import config_of
from invact.validation import import_all

if TYPE_CHECKING:
    import pandas as pd

    from invact.execution.agenda import Trial

__all__ = ["confirm_front", "fresh_seeds"]

FIRST_SEED = 2_000_000_000
"""The first fresh seed. Users rarely choose seeds this large; a seed that the sweep used is skipped."""

MOST_SEEDS = 1_000


def fresh_seeds(count: int, taken: Collection[int] = ()) -> tuple[int, ...]:
    """Choose training seeds that a sweep has not used: the first `count` from 2,000,000,000 on.

    A larger count begins with the same seeds, so that earlier runs can be used again.

    Args:
        count: how many seeds to choose.
        taken: the seeds that the sweep used.

    Raises:
        InputError: `count` is less than two ("insufficient"), or more than 1,000.

    Example:
        >>> fresh_seeds(3, taken=[0, 2_000_000_001])
        (2000000000, 2000000002, 2000000003)
    """
    if not 2 <= count <= MOST_SEEDS:
        why = ", which is insufficient" if count < 2 else ""
        raise InputError(f"confirm: received {count} seeds{why}. Allowed: 2 to {MOST_SEEDS:,}")
    ahead = (seed for seed in range(FIRST_SEED, 2**31) if seed not in taken)
    return tuple(next(ahead) for _ in range(count))


def confirm_front(
    name: str,
    seeds: int,
    *,
    driver: str | None = None,
    store: str | Path | None = None,
    tracking_uri: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    show: bool = True,
) -> Confirmation:
    """Retrain the points of a sweep's front on fresh seeds. Finished runs are not trained again.

    The runs go into a separate record of kind `confirmation`, in the sweep's experiment. Each sweep has one
    such record, even if its front changes later or more seeds are requested.

    Args:
        name: the sweep's name.
        seeds: how many fresh seeds; see `fresh_seeds`.
        driver: if several sweeps have the name, the newest with this driver is used.
        store: the folder of the MLflow store, by default `mlruns`.
        tracking_uri: the address of an MLflow tracking server or database, to use instead of a folder.
        workers: number of processes that train, by default one for each core.
        scheduler: the address of a running Dask cluster.
        show: whether to show progress on standard error.

    Returns:
        The confirmation. Failed runs are not part of it; `failed` counts them.

    Raises:
        InputError: no sweep has the name, its front is empty, or `seeds` is out of range.
        EnvironmentFault: the store, the data or the cluster cannot be reached, or the data have changed; or
            each worker would run the calling script again, see `invact.process.spawning.check_script`.
    """
    check_backend()
    if scheduler is None:
        check_script()

    from invact.execution.agenda import done_of, ended_runs
    from invact.execution.coordinator import Coordinator
    from invact.execution.engine import on_demand
    from invact.execution.progress import make_progress
    from invact.execution.stages import stage
    from invact.execution.usage import record_usage
    from invact.process.quiet import load_tensorflow
    from invact.tracking.store import open_store

    fresh_seeds(seeds)
    sweep = find_sweep(name, driver, store, tracking_uri)
    settings = sweep.json(SETTINGS, seeds=list, imports=list)
    chosen = fresh_seeds(seeds, settings["seeds"])
    # The imported modules may register arms that the configurations name.
    import_all(settings["imports"])
    runs = sweep.table()
    front = front_of(sweep, runs, name)
    if not front.points:
        raise InputError(
            f"confirm: the front of {name!r} is empty. Allowed: a sweep with a finished configuration"
        )
    with stage("loading TensorFlow and the data", show=show):
        load_tensorflow()
        source, data = data_of(sweep, name)
    with open_store(store, tracking_uri).record(
        name,
        "confirmation",
        digest(["confirmation", sweep.run_id]),
        params={"sweep": sweep.run_id, "seeds": list(chosen)},
        data=data,
        imports=settings["imports"],
    ) as record:
        record.show([], ["test_accuracy", "validation_accuracy", front.measure])
        table = record.table()
        trials = _trials(front, runs, chosen)
        done = done_of(trials, ended_runs(table))
        with (
            contextlib.ExitStack() as resources,
            make_progress(len(trials) * len(chosen), done, show=show) as progress,
        ):
            engine = on_demand(
                *(resources, source, data),
                workers=workers,
                scheduler=scheduler,
                imports=tuple(settings["imports"]),
            )
            coordinator = Coordinator(
                record, progress, engine, table, trials, about=f"{name}: {data.train_count:,} training images"
            )
            coordinator.run()
            time = record_usage(record, coordinator.usage)
            if coordinator.usage.trainings:
                progress.message(f"{name}: {time}")
        result = confirm_points(front, record.table(), chosen, record.run_id, images_of(record))
        with tempfile.TemporaryDirectory() as folder:
            write_confirmation(result, Path(folder))
            record.log_folder(Path(folder), "confirmation")
        if result.optimism is not None:
            stay = sum(bool(one.non_dominated) for one in result.points)
            record.summarize({"confirmation/optimism": result.optimism.value, "confirmation/points": stay})
    return result


def _trials(front: ParetoFront, runs: pd.DataFrame, seeds: tuple[int, ...]) -> list[Trial]:
    from invact.execution.agenda import Trial

    trials = []
    for point in front.points:
        run = runs[runs["config"] == point.config].iloc[0]
        config = config_of(run["run_id"], run["config_json"])
        values = {name: value for name, value in point.values.items() if value is not None}
        known = {"macs": float(point.macs)} if point.macs is not None else {}
        trials.append(Trial(point.trial, config, seeds, point.label, values, known))
    return trials
