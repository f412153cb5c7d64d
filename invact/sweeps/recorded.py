"""Recorded sweeps: functions that find a sweep in the store, its front, its data and its networks."""

from __future__ import annotations

import functools
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from invact.data.dataset import Source
from invact.errors import EnvironmentFault, InputError
from invact.execution.agenda import ended_runs, same_numbers
from invact.fronts.images import Images
from invact.fronts.pareto import ParetoFront, pareto_front_of
from invact.fronts.points import Winner
from invact.fronts.uncertainty import MARGIN
from invact.measures import MEASURES
from invact.search.objectives import Objective
from invact.tracking.reader import SETTINGS
from invact.tracking.stored import config_of, damaged
from invact.validation import check_name, check_points

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from invact.data.dataset import Dataset
    from invact.execution.display.progress import Progress
    from invact.tracking.reader import RecordReader
    from invact.tracking.record import Record

__all__ = [
    "SETTINGS",
    "SOURCE",
    "data_of",
    "find_sweep",
    "front_of",
    "images_of",
    "keep_winner",
    "network_of",
    "pareto_front",
]

SOURCE = "source.json"
"""The file of the record that says where the data are."""


def pareto_front(
    name: str,
    *,
    driver: str | None = None,
    margin: float | None = None,
    attainment: bool = False,
    store: str | Path | None = None,
    tracking_uri: str | None = None,
) -> ParetoFront:
    """Read the front of a sweep from its record. The newest sweep of the name is used, finished or not.

    Args:
        name: the sweep's name.
        driver: if several sweeps have the name, the newest with this driver is used.
        margin: non-inferiority margin between the fronts of two activations, in points: the largest loss of
            accuracy that still counts as equal. The default is 0.3.
        attainment: whether to add attainment surfaces. They need the extra `eaf` and several seeds.
        store: the folder of the MLflow store, by default `mlruns`.
        tracking_uri: the address of an MLflow tracking server or database, to use instead of a folder.

    Raises:
        InputError: no sweep has the name (the message names the nearest), or the sweep has too few seeds for
            a margin or for attainment surfaces.
        EnvironmentFault: the store cannot be reached, or the extra is missing.
    """
    if margin is not None:
        check_points(margin, "margin")
    record = find_sweep(name, driver, store, tracking_uri)
    front = front_of(record, record.table(), name, MARGIN if margin is None else margin, attainment)
    if attainment and front.uncertainty is None:
        raise InputError(
            f"attainment: insufficient: {name!r} has one seed. Allowed: at least two finished seeds"
        )
    if margin is not None and (front.uncertainty is None or not front.uncertainty.gaps):
        allowed = "a sweep with two values of `activation`, each finished on the same seeds, at least three"
        raise InputError(
            f"margin: received {margin:g}, and {name!r} has no fronts to compare. Allowed: {allowed}"
        )
    return front


def find_sweep(name: str, driver: str | None, store: str | Path | None, tracking_uri: str | None) -> Record:
    """Find the newest record of a sweep; see `pareto_front`."""
    from invact.tracking.store import open_store

    check_name(name)
    return open_store(store, tracking_uri, read_only=True).latest(name, "sweep", driver)


def front_of(
    record: RecordReader, table: pd.DataFrame, name: str, margin: float = MARGIN, attainment: bool = False
) -> ParetoFront:
    """Build the front of a sweep's record from its table of runs; see `pareto_front`."""
    values = record.json(SETTINGS, objective=dict)["objective"]
    try:
        objective = Objective.recorded(values, f"run {record.run_id}: file {SETTINGS!r}: objective")
    except InputError as error:
        # The user's own file was checked when the sweep began, so the record is damaged.
        raise EnvironmentFault(str(error)) from None
    budget = objective.budgets.get(objective.cost)
    # A reference at the budget does not change while the sweep goes on.
    reference = (0.0, float(budget)) if budget else None
    front = pareto_front_of(
        *(table, name, reference, budget, margin, attainment),
        measure=objective.cost,
        images=images_of(record),
    )
    return replace(
        front,
        budgets=objective.budgets,
        min_accuracy=objective.min_accuracy,
        winner=objective.winner((*front.points, *front.dominated)),
    )


def keep_winner(record: Record, winner: Winner) -> None:
    """Write the winner to the parent run of the sweep and to the run of the winner; see `Record.crown`."""
    point = winner.point
    if point is None:
        record.crown(None)
        record.summarize({}, {"winner": str(winner), "winner.run_id": ""})
        return
    record.crown((point.trial, point.config))
    numbers = {
        "value": winner.value,
        "validation_accuracy": point.accuracy,
        "test_accuracy": point.test_accuracy,
    }
    numbers |= {name: getattr(point, name) for name in MEASURES}
    record.summarize(
        {f"winner/{name}": number for name, number in numbers.items() if number is not None},
        {"winner": str(winner), "winner.run_id": point.run_id},
    )


def images_of(record: RecordReader) -> Images:
    """What a record knows about the images that its runs were measured on; a file is read when it is used."""
    counts = record.images()

    @functools.cache
    def hits(run_id: str, split: Literal["test", "validation"]) -> NDArray[np.bool_] | None:
        try:
            return record.correct(run_id, counts[split], split)
        except InputError:
            return None

    return Images(counts, hits)


def data_of(sweep: Record, name: str) -> tuple[Source, Dataset]:
    """Load the data that a sweep was trained on, and check that they have not changed.

    Raises:
        InputError: the record comes from an old version, which did not note where the data are.
        EnvironmentFault: the data cannot be reached, or have changed.
    """
    try:
        kept = sweep.json(SOURCE, name=str, split_seed=int, validation_fraction=float, digest=str)
    except InputError:
        allowed = (
            "run the same `invact sweep` command again; it trains no finished run again, and it notes where "
            f"the data of {name!r} are"
        )
        words = (
            f"{name!r}: the record comes from an old version and does not name its data. Allowed: {allowed}"
        )
        raise InputError(words) from None
    known = kept.pop("digest")
    if unknown := kept.keys() - {field.name for field in fields(Source)}:
        raise damaged(sweep.run_id, f"file {SOURCE!r}", min(unknown), "the keys of a data source")
    # JSON has lists, and earlier versions did not write the key.
    chosen = kept.pop("pixel_range", None)
    source = Source(**kept, pixel_range=chosen and tuple(chosen))
    data = source.load()
    if data.digest != known and source.pixel_range is None:
        # An earlier version may have trained the sweep with another scale of the same images.
        earlier = replace(source, pixel_range=data.plain_range)
        if (found := earlier.load()).digest == known:
            return earlier, found
    if data.digest != known:
        raise EnvironmentFault(
            f"data {source.name!r}: digest {data.digest}. Allowed: {known}, as in the sweep's record"
        )
    return source, data


def network_of(
    sweep: Record, runs: pd.DataFrame, run_id: str, source: Source, data: Dataset, progress: Progress
) -> bytes:
    """Return the `.keras` archive of a finished run. If it is not stored, the run is trained again.

    A network is not stored if its trial was not on the front when it ended, or if the sweep was killed then.

    Args:
        sweep: the record of the sweep.
        runs: its table of runs.
        run_id: the run.
        source: where the data are.
        data: the data.
        progress: shows a line if the run is trained again.

    Raises:
        EnvironmentFault: no worker starts, or the training does not repeat the numbers of the record.
    """
    from invact.execution.workers.engine import Engine, Job, JobDone

    if sweep.has_model(run_id):
        return sweep.model(run_id)
    (row,) = runs[runs["run_id"] == run_id].to_dict("records")
    what = f"{row['label']}, seed {row['seed']}"
    progress.message(f"{what}: its network is not stored, so it is trained again")
    job = Job(run_id, config_of(run_id, row["config_json"]), int(row["seed"]), keep_model=True)
    imports = tuple(sweep.json(SETTINGS, imports=list)["imports"])
    with Engine(source, data, workers=1, imports=imports) as engine:
        engine.submit(job, engine.workers()[0].address)
        while not isinstance(event := engine.next_event(timeout=1), JobDone):
            pass
    result = event.result
    if not same_numbers(result, ended_runs(runs)[int(row["trial"]), int(row["seed"])]):
        now = result.error or f"{result.validation and result.validation.accuracy:.2%} validation accuracy"
        raise EnvironmentFault(
            f"{what}: trained again, the network has {now}. Allowed: the numbers of the record "
            f"({row['validation_accuracy']:.2%}) to the last digit; other versions of the libraries or "
            "another processor change them"
        )
    return result.model
