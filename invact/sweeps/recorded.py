"""Sweeps that have run: finding one in the store, its front, and its data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from invact.data.dataset import Source
from invact.errors import EnvironmentFault, InputError
from invact.fronts.pareto import ParetoFront, pareto_front_of
from invact.fronts.uncertainty import MARGIN
from invact.validation import check_name

if TYPE_CHECKING:
    import pandas as pd

    from invact.data.dataset import Dataset
    from invact.tracking.record import Record

__all__ = ["data_of", "find_sweep", "front_of", "pareto_front"]

SETTINGS, SOURCE = "settings.json", "source.json"
"""Files of the record: what the sweep's file and the overrides came to, and where the data are."""


def pareto_front(
    name: str,
    *,
    driver: str | None = None,
    margin: float | None = None,
    attainment: bool = False,
    store: str | Path | None = None,
    tracking_uri: str | None = None,
) -> ParetoFront:
    """Read the front of a sweep from its record; the newest sweep of that name, finished or not.

    Args:
        name: the sweep's name.
        driver: of several sweeps of that name, the newest with this driver.
        margin: between the fronts of two activations, the loss of accuracy that counts as equal, in points;
            0.3 unless given.
        attainment: whether to add attainment surfaces, which need the extra `eaf` and several seeds.
        store: the folder of the MLflow store; `mlruns` unless given.
        tracking_uri: an MLflow tracking server or database instead.

    Raises:
        InputError: there is no such sweep (names the nearest), or its seeds are too few for what is asked.
        EnvironmentFault: the store is out of reach, or the extra is missing.
    """
    record = find_sweep(name, driver, store, tracking_uri)
    front = front_of(record, record.table(), name, MARGIN if margin is None else margin, attainment)
    if attainment and front.uncertainty is None:
        raise InputError(f"attainment: insufficient: {name!r} has one seed. Allowed: two or more finished")
    if margin is not None and (front.uncertainty is None or not front.uncertainty.gaps):
        allowed = "with two values of `activation`, each finished on the same three seeds or more"
        raise InputError(
            f"margin: received {margin:g}, and {name!r} has no fronts to compare. Allowed: {allowed}"
        )
    return front


def find_sweep(name: str, driver: str | None, store: str | Path | None, tracking_uri: str | None) -> Record:
    """Find the newest record of a sweep; see `pareto_front`."""
    from invact.tracking.store import open_store

    check_name(name)
    if tracking_uri is None and not (folder := Path("mlruns" if store is None else store)).exists():
        # Looking makes no store.
        raise InputError(
            f"store: received {str(folder)!r}, which is not there. Allowed: where sweeps have run"
        )
    return open_store(None if store is None else Path(store), tracking_uri).latest(name, "sweep", driver)


def front_of(
    record: Record, table: pd.DataFrame, name: str, margin: float = MARGIN, attainment: bool = False
) -> ParetoFront:
    """Build the front of a sweep's record from its table of runs; see `pareto_front`."""
    objective = json.loads(record.read(SETTINGS))["objective"]
    measure = objective.get("cost", "macs")
    budget = objective.get(f"max_{measure}")
    # With a budget the reference is the same however far the sweep has come.
    reference = (0.0, float(budget)) if budget else None
    return pareto_front_of(table, name, reference, budget, margin, attainment, measure=measure)


def data_of(sweep: Record, name: str) -> tuple[Source, Dataset]:
    """Load what a sweep was trained on, and nothing else.

    Raises:
        InputError: the record is older than the note of where the data are.
        EnvironmentFault: the data are out of reach, or have changed.
    """
    try:
        kept = json.loads(sweep.read(SOURCE))
    except InputError:
        allowed = (
            f"the same `invact sweep` once more, which trains nothing again and notes where {name!r} reads"
        )
        raise InputError(f"{name!r} is an older record that names no data. Allowed: {allowed}") from None
    known = kept.pop("digest")
    source = Source(**kept)
    data = source.load()
    if data.digest != known:
        raise EnvironmentFault(f"data {source.name!r}: digest {data.digest}. Allowed: {known}, the sweep's")
    return source, data
