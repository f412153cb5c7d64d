"""Reading sweeps and claims from the store for a report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from invact.config import digest
from invact.errors import InputError
from invact.reports.summary.claims import read_claim
from invact.reports.summary.rows import Recorded, Summary
from invact.reports.summary.runs import undamaged
from invact.reports.summary.sweeps import read_sweep
from invact.tracking.reader import SETTINGS, RecordReader
from invact.validation import check_name

if TYPE_CHECKING:
    from invact.tracking.store import RecordInfo, Store

__all__ = ["summarize"]


def summarize(
    names: str | Iterable[str], *, store: str | Path | None = None, tracking_uri: str | None = None
) -> Summary:
    """Read what sweeps and claims have found, finished or not, beside the published figures in their files.

    A sweep has one row for each configuration that was trained, not only for its front. A claim has one row
    for each arm of its confirmation. The intervals are Student's t intervals over the seeds,

        mean +- t(0.975, n - 1) s / sqrt(n),

    with the standard deviation s of the n runs that trained. Runs that failed are left out of the means and
    counted: those that stopped with an error or diverged, and those that collapsed. In a claim a run has
    collapsed below the fence that its rules fix; in a sweep, at a validation accuracy a with

        a <= c + 0.1 (1 - c),    c = 1 / classes.

    Args:
        names: names of sweeps and claims. Of each name, the newest record is used.
        store: the folder of the MLflow store, by default `mlruns`.
        tracking_uri: the address of an MLflow tracking server or database, to use instead of a folder.

    Raises:
        InputError: there is no name, a name occurs twice, or no sweep or claim has the name (the message
            names the nearest).
        EnvironmentFault: the store cannot be reached, or a value in it is damaged.
    """
    from invact.tracking.store import open_store

    chosen = [names] if isinstance(names, str) else list(names)
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError(f"names: received {chosen}. Allowed: one or more sweeps and claims, each once")
    for name in chosen:
        check_name(name)
    opened = open_store(store, tracking_uri, read_only=True)
    # Every name is looked for before the first record is read.
    known = [_known(opened, name) for name in chosen]
    return Summary(tuple(one for records in known for one in _read(opened, records)))


def _known(store: Store, name: str) -> list[RecordInfo]:
    """Find the sweeps and claims of a name, newest first; there is at least one."""
    found = [one for one in store.records(name, counted=False) if one.kind in ("sweep", "claim")]
    if not found:
        # This refuses the name and suggests a similar one.
        store.latest(name, "sweep")
    return found


def _read(store: Store, known: Sequence[RecordInfo]) -> Iterator[Recorded]:
    """Read the newest sweep or claim of a name; a claim on several data sets has a record for each."""
    newest, *_ = known
    reader = _reader(store, newest)
    settings = reader.json(SETTINGS)
    if newest.kind == "sweep":
        yield read_sweep(reader, newest, settings)
        return
    with undamaged(newest.run_id):
        data = [str(each) for each in settings["data"]]
    for each in data:
        # The identity of a claim's record is that of its data; see `invact.claims.file.identity_of`.
        same = (one for one in known if (one.kind, one.identity) == ("claim", digest({"data": each})))
        if (info := next(same, None)) is None:
            note = "not finished: nothing was trained on these data yet"
            yield Recorded(newest.name, "claim", Path(each).stem, "", (), (note,))
            continue
        reader = _reader(store, info)
        yield read_claim(reader, info, reader.json(SETTINGS), each)


def _reader(store: Store, info: RecordInfo) -> RecordReader:
    return RecordReader(store.runs, info.experiment, info.run_id)
