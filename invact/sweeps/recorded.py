"""Recorded sweeps: functions that find a sweep in the store, build its front, and load its data."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from invact.data.dataset import Source
from invact.errors import EnvironmentFault, InputError
from invact.fronts.images import Images
from invact.fronts.pareto import ParetoFront, pareto_front_of
from invact.fronts.uncertainty import MARGIN
from invact.validation import check_name

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from invact.data.dataset import Dataset
    from invact.tracking.record import Record

__all__ = ["data_of", "find_sweep", "front_of", "images_of", "pareto_front"]

SETTINGS, SOURCE = "settings.json", "source.json"
"""Files of the record: the values of the sweep's file after the overrides, and where the data are."""


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
    from invact.tracking.store import FOLDER, has_store, open_store

    check_name(name)
    if not has_store(store, tracking_uri):
        folder = Path(FOLDER if store is None else store)
        raise InputError(
            f"store: received {str(folder)!r}, which does not exist. Allowed: a folder with recorded sweeps"
        )
    return open_store(store, tracking_uri).latest(name, "sweep", driver)


def front_of(
    record: Record, table: pd.DataFrame, name: str, margin: float = MARGIN, attainment: bool = False
) -> ParetoFront:
    """Build the front of a sweep's record from its table of runs; see `pareto_front`."""
    objective = json.loads(record.read(SETTINGS))["objective"]
    measure = objective.get("cost", "macs")
    budget = objective.get(f"max_{measure}")
    # A reference at the budget does not change while the sweep goes on.
    reference = (0.0, float(budget)) if budget else None
    return pareto_front_of(
        *(table, name, reference, budget, margin, attainment), measure=measure, images=images_of(record)
    )


def images_of(record: Record) -> Images:
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
        kept = json.loads(sweep.read(SOURCE))
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
    source = Source(**kept)
    data = source.load()
    if data.digest != known:
        raise EnvironmentFault(
            f"data {source.name!r}: digest {data.digest}. Allowed: {known}, as in the sweep's record"
        )
    return source, data
