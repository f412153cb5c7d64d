"""A sweep that is complete: its record has everything that a session would write, so that none is begun."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from invact.errors import InputError, InvactError
from invact.files import read_text
from invact.sweeps.recorded import SETTINGS, SOURCE, front_of
from invact.tracking.backend.opening import has_store
from invact.tracking.reader import RecordReader
from invact.tracking.store import IDENTITY, open_store
from invact.tracking.stored import counts_of
from invact.tracking.table import COUNTED
from invact.training.results import Status

if TYPE_CHECKING:
    import pandas as pd

    from invact.data.dataset import Dataset
    from invact.fronts.pareto import ParetoFront
    from invact.sweeps.file import Sweep

__all__ = ["complete_front", "files_of", "find_complete", "source_file"]


def files_of(sweep: Sweep) -> dict[str, str]:
    """Return the files of a sweep's record that do not depend on the data, by name."""
    return {sweep.path.name: read_text(sweep.path), SETTINGS: sweep.file.model_dump_json(indent=1)}


def source_file(sweep: Sweep, data: Dataset) -> dict[str, str]:
    """Return the file of a sweep's record that says where the data are."""
    return {SOURCE: json.dumps(asdict(sweep.source) | {"digest": data.digest}, indent=1)}


def find_complete(sweep: Sweep, store: str | Path | None, tracking_uri: str | None) -> RecordReader | None:
    """Find the newest record of a sweep if it is likely to be complete; this takes some milliseconds.

    It is if its last session has come to its end with the same files, and no run is left. The status of a
    record is written last, so a session that was killed has not come to its end. `complete_front` makes it
    certain, and needs the data.

    Returns:
        None if there is no such record. A server is not asked, because that takes longer.
    """
    if tracking_uri is not None or not has_store(store):
        return None
    try:
        opened = open_store(store, read_only=True)
        for one in opened.records(sweep.name, counted=False):
            if one.kind == "sweep" and one.status == "FINISHED":
                record = RecordReader(opened.runs, one.experiment, one.run_id)
                if _has(record, files_of(sweep)) and _none_left(record, sweep):
                    return record
    except InvactError:
        pass  # The session that follows reports the fault, or repairs it.
    return None


def complete_front(
    record: RecordReader, sweep: Sweep, data: Dataset
) -> tuple[ParetoFront, pd.DataFrame] | None:
    """Return the front and the table of a record that `find_complete` has found, if it is complete.

    All runs have ended and none has FAILED, the networks of the front are stored, and the files of the front
    are those that this version would write now.
    """
    identities = (sweep.identity(data), *sweep.earlier_identities(data))
    if record.tags.get(IDENTITY) not in identities or not _has(record, source_file(sweep, data)):
        return None
    table = record.table()
    if len(table) < sweep.runs or (table["status"] == Status.FAILED).any():
        return None
    front = front_of(record, table, sweep.name)
    if not all(record.has_model(point.run_id) for point in front.points):
        return None
    from invact.reports.front import FORMATS, file_names

    written = all(record.has(f"front/{name}") for name in file_names(front))
    # The JSON has everything that the other formats show, and the versions that wrote it.
    same = written and record.read("front/front.json") == FORMATS["json"](front)
    return (front, table) if same else None


def _none_left(record: RecordReader, sweep: Sweep) -> bool:
    counts = counts_of(record.run_id, f"tag {COUNTED!r}", record.tags.get(COUNTED))
    return not counts.get(Status.FAILED) and sum(counts.values()) >= sweep.runs


def _has(record: RecordReader, files: dict[str, str]) -> bool:
    try:
        return all(record.read(name) == text.encode() for name, text in files.items())
    except InputError:
        return False
