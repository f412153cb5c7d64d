"""Finished runs of other sweeps and confirmations that a sweep takes over instead of training them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from invact.errors import InvactError
from invact.tracking.provenance import (
    CODE,
    NO_CODE,
    UNKNOWN_CODE,
    VARIABLE,
    VERSION,
    numerics,
    numerics_in,
)
from invact.tracking.reader import RecordReader
from invact.tracking.table import CONFIG, ROOT, SEED, STATUS, TAKEN, tagged
from invact.training.results import Status

if TYPE_CHECKING:
    from invact.config import Config
    from invact.cost.count import Cost
    from invact.execution.agenda import Recalled
    from invact.tracking.record import Record
    from invact.tracking.store import RecordInfo, Store

__all__ = ["Origin", "Reuse", "finished_runs", "sources_in"]

_TAGS = (ROOT, CONFIG, SEED, STATUS, CODE, TAKEN, VERSION, VARIABLE)

_RESULTS = (Status.FINISHED, Status.DIVERGED)
"""The statuses of runs that are taken over: what a training would come to again."""


@dataclass(frozen=True)
class Origin:
    """A run of another record whose result can be taken over: the record, and the id of the run."""

    record: RecordInfo
    run_id: str


def sources_in(store: Store, apart: str = "") -> dict[str, RecordInfo]:
    """Return the sweeps and confirmations whose runs can be taken over, by the id of the parent run.

    Args:
        store: the store, opened to read.
        apart: id of the parent run of a record that is left out.
    """
    return {
        one.run_id: one
        for one in store.records(counted=False)
        if one.kind in ("sweep", "confirmation") and one.run_id != apart
    }


def finished_runs(
    store: Store, sources: Mapping[str, RecordInfo], data: str, config: str = ""
) -> dict[tuple[str, int, str], Origin]:
    """Find the runs of other records whose results hold here too, in one query.

    They have ended as FINISHED or DIVERGED on the same data, with the versions and variables of this process
    that decide last digits.

    Args:
        store: the store, opened to read.
        sources: the records whose runs can be taken over.
        data: the digest of the data set.
        config: the digest of a configuration; by default, all configurations.

    Returns:
        The oldest of these runs, one that was trained before one that was taken over, for each digest of a
        configuration, seed, and hash of the user's code; see `invact.tracking.provenance.code_of`.
    """
    if not sources:
        return {}
    query = f"attributes.status = 'FINISHED' and dataset.digest = '{data}' and tags.`{SEED}` != ''"
    if config:
        query += f" and {tagged(CONFIG, config)}"
    experiments = sorted({one.experiment for one in sources.values()})
    runs = store.runs.marked(experiments, query, _TAGS)
    here = numerics()
    found: dict[tuple[str, int, str], Origin] = {}
    for run_id, tags in sorted(runs.items(), key=lambda one: TAKEN in one[1]):
        source = sources.get(tags.get(ROOT, ""))
        seed = tags.get(SEED, "")
        if source is None or tags.get(STATUS) not in _RESULTS or not seed.isdecimal():
            continue
        # Earlier versions wrote no hash. Then the record tells whether there was code of the user.
        code = tags.get(CODE, NO_CODE if source.imports == "[]" else UNKNOWN_CODE)
        if code != UNKNOWN_CODE and numerics_in(tags) == here:
            found.setdefault((tags.get(CONFIG, ""), int(seed), code), Origin(source, run_id))
    return found


class Reuse:
    """Recalls the finished runs of a store that have the same numbers as a training would have.

    These are runs with the same configuration, seed and data, under the same versions and variables, and with
    the same code of the user. A store in a folder is read once, when the object is made. A server would send
    all values of all runs, so it is asked for each configuration. A run that has been damaged or deleted
    since is trained.

    Args:
        store: the store.
        record: the record of the sweep that takes over.
        data: the digest of the data.
        count: counts the cost of a configuration by layer.
    """

    def __init__(self, store: Store, record: Record, data: str, count: Callable[[Config], Cost]) -> None:
        self._store = store
        self._record = record
        self._count = count
        self._data = data
        self._sources = sources_in(store, apart=record.run_id)
        # The configurations that the store was asked for; None if it was asked for all.
        self._asked: set[str] | None = None if store.runs.tags_alone else set()
        self._origins = finished_runs(store, self._sources, data) if self._asked is None else {}

    @property
    def empty(self) -> bool:
        """Whether it is certain that no run can be taken over."""
        return self._asked is None and not self._origins

    def recall(self, config: Config, seed: int) -> Recalled | None:
        """Return the run of a configuration and a seed; None if there is none."""
        from invact.execution.agenda import Recalled

        digest = config.digest()
        if self._asked is not None and digest not in self._asked:
            self._asked.add(digest)
            self._origins |= finished_runs(self._store, self._sources, self._data, digest)
        if not self._origins:
            return None
        key = (digest, seed, self._record.code(config))
        origin = self._origins.get(key)
        if origin is None:
            return None
        source = origin.record
        reader = RecordReader(self._store.runs, source.experiment, source.run_id)
        try:
            result = reader.result(origin.run_id, config, seed)
        except InvactError:
            del self._origins[key]
            return None

        def network() -> bytes:
            try:
                return reader.model(origin.run_id) if reader.has_model(origin.run_id) else b""
            except InvactError:
                return b""

        link = f"#/experiments/{source.experiment}/runs/{origin.run_id}"
        tags = {
            TAKEN: origin.run_id,
            "mlflow.note.content": f"Taken over from [a run of the {source.kind} `{source.name}`]({link}): "
            "the same configuration, seed, data and software. It was not trained again.",
        }
        words = source.name if source.kind == "sweep" else f"{source.name} ({source.kind})"
        return Recalled(replace(result, cost=self._count(config)), words, tags, network)
