"""Confirmation: the points of a front are retrained on fresh seeds and recorded in the same store."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from invact.config import digest
from invact.errors import InputError
from invact.fronts.confirmation import Confirmation, confirm_points
from invact.fronts.pareto import ParetoFront
from invact.fronts.uncertainty import MARGIN
from invact.process.quiet import check_backend
from invact.process.spawning import check_script
from invact.reports.confirmation import write_confirmation
from invact.statistics.fronts.places import START
from invact.sweeps.recorded import SETTINGS, data_of, find_sweep, front_of, images_of
from invact.tracking.stored import config_of
from invact.validation import check_points, import_all

if TYPE_CHECKING:
    import pandas as pd

    from invact.execution.agenda import Trial

__all__ = ["AUTO", "check_confirmation", "confirm_front", "fresh_seeds"]

AUTO: Literal["auto"] = "auto"
"""Instead of a number of seeds: each point gets as many as it needs."""

BUDGET = 10
"""Default budget of `AUTO`: trainings for each point of the front, on average."""

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
    seeds: int | Literal["auto"],
    *,
    budget: int | None = None,
    margin: float | None = None,
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
        seeds: how many fresh seeds; see `fresh_seeds`. With "auto", each point gets fresh seeds until it is
            decided at 95 % confidence whether it stays on the front, is dominated, or is equal to the best
            cheaper point within the margin; see `invact.statistics.fronts.places`.
        budget: with "auto": the largest number of trainings, with those of earlier confirmations of these
            points. The default is 10 for each point.
        margin: with "auto": the largest difference that counts as equal, in points. The default is 0.3.
        driver: if several sweeps have the name, the newest with this driver is used.
        store: the folder of the MLflow store, by default `mlruns`.
        tracking_uri: the address of an MLflow tracking server or database, to use instead of a folder.
        workers: number of processes that train, by default one for each core.
        scheduler: the address of a running Dask cluster.
        show: whether to show progress on standard error.

    Returns:
        The confirmation. Failed runs are not part of it; `failed` counts them.

    Raises:
        InputError: no sweep has the name, its front is empty, or an argument is out of range.
        EnvironmentFault: the store, the data or the cluster cannot be reached, or the data have changed; or
            each worker would run the calling script again, see `invact.process.spawning.check_script`.
    """
    check_backend()
    if scheduler is None:
        check_script()

    from invact.execution.agenda import done_of, ended_runs
    from invact.execution.coordinator import Coordinator
    from invact.execution.display.progress import make_progress
    from invact.execution.display.stages import stage
    from invact.execution.usage import record_usage
    from invact.execution.workers.engine import on_demand
    from invact.process.quiet import load_tensorflow
    from invact.sweeps.allocation import Allocation
    from invact.tracking.store import open_store

    check_confirmation(seeds, budget, margin)
    sweep = find_sweep(name, driver, store, tracking_uri)
    settings = sweep.json(SETTINGS, seeds=list, imports=list)
    chosen = fresh_seeds(MOST_SEEDS if seeds == AUTO else seeds, settings["seeds"])
    # The imported modules may register arms that the configurations name.
    import_all(settings["imports"])
    runs = sweep.table()
    front = front_of(sweep, runs, name)
    if not front.points:
        raise InputError(
            f"confirm: the front of {name!r} is empty. Allowed: a sweep with a finished configuration"
        )
    least = START * len(front.points)
    budget = BUDGET * len(front.points) if budget is None else budget
    if seeds == AUTO and budget < least:
        raise InputError(
            f"confirm-budget: received {budget}. Allowed: {least} or more, {START} trainings for each point"
        )
    with stage("loading TensorFlow and the data", show=show):
        load_tensorflow()
        source, data = data_of(sweep, name)
    with open_store(store, tracking_uri).record(
        name,
        "confirmation",
        digest(["confirmation", sweep.run_id]),
        params={"sweep": sweep.run_id, "seeds": AUTO if seeds == AUTO else list(chosen)},
        data=data,
        imports=settings["imports"],
    ) as record:
        record.show([], ["test_accuracy", "validation_accuracy", front.measure])
        table = record.table()
        trials = _trials(front, runs, chosen)
        earlier = ended_runs(table)
        allocation = None
        total = len(trials) * len(chosen)
        if seeds == AUTO:
            within = (MARGIN if margin is None else margin) / 100
            allocation = Allocation(trials, [point.cost for point in front.points], budget, within, earlier)
            trials, total = allocation.trials, max(budget, allocation.used)
        with (
            contextlib.ExitStack() as resources,
            make_progress(total, done_of(trials, earlier), show=show) as progress,
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
            if allocation is None:
                coordinator.run()
            else:
                coordinator.run(lambda: allocation.propose(coordinator.ended))
                chosen = chosen[: max(len(trial.seeds) for trial in allocation.trials)]
            time = record_usage(record, coordinator.usage)
            if coordinator.usage.trainings:
                progress.message(f"{name}: {time}")
        result = confirm_points(
            *(front, record.table(), chosen, record.run_id, images_of(record)),
            margin=None if allocation is None else within,
        )
        with tempfile.TemporaryDirectory() as folder:
            write_confirmation(result, Path(folder))
            record.log_folder(Path(folder), "confirmation")
        if result.optimism is not None:
            stay = sum(bool(one.non_dominated) for one in result.points)
            record.summarize({"confirmation/optimism": result.optimism.value, "confirmation/points": stay})
    return result


def check_confirmation(
    seeds: int | Literal["auto"], budget: int | None = None, margin: float | None = None
) -> None:
    """Check the arguments of `confirm_front` that can be checked without a sweep.

    Raises:
        InputError: one of them is out of range, or is given without "auto".
    """
    if seeds != AUTO:
        fresh_seeds(seeds)
        for name, value in {"confirm-budget": budget, "confirm-margin": margin}.items():
            if value is not None:
                raise InputError(f"{name}: received {value:g}. Allowed: only with --confirm auto")
    if budget is not None and budget < 1:
        raise InputError(f"confirm-budget: received {budget}. Allowed: a number of trainings, 1 or more")
    if margin is not None:
        check_points(margin, "confirm-margin")


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
