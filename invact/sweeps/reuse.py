"""Finished runs of other sweeps and confirmations that a sweep takes over instead of training them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from invact.errors import InvactError
from invact.tracking.table import TAKEN

if TYPE_CHECKING:
    from invact.config import Config
    from invact.cost.count import Cost
    from invact.execution.agenda import Recalled
    from invact.tracking.record import Record
    from invact.tracking.store import Store

__all__ = ["Reuse"]


class Reuse:
    """Recalls the finished runs of a store that have the same numbers as a training would have.

    These are runs with the same configuration, seed and data, under the same versions and variables, and with
    the same code of the user. The store is read once, when the object is made. A run that has been damaged or
    deleted since is trained.

    Args:
        store: the store, opened to read.
        record: the record of the sweep that takes over.
        data: the digest of the data.
        count: counts the cost of a configuration by layer.
    """

    def __init__(self, store: Store, record: Record, data: str, count: Callable[[Config], Cost]) -> None:
        self._store = store
        self._record = record
        self._count = count
        self._origins = store.finished(data, apart=record.run_id)

    def recall(self, config: Config, seed: int) -> Recalled | None:
        """Return the run of a configuration and a seed; None if there is none."""
        from invact.execution.agenda import Recalled

        if not self._origins:
            return None
        key = (config.digest(), seed, self._record.code(config))
        origin = self._origins.get(key)
        if origin is None:
            return None
        reader = self._store.reader(origin)
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

        link = f"#/experiments/{origin.experiment}/runs/{origin.run_id}"
        tags = {
            TAKEN: origin.run_id,
            "mlflow.note.content": f"Taken over from [a run of the {origin.kind} `{origin.name}`]({link}): "
            "the same configuration, seed, data and software. It was not trained again.",
        }
        words = origin.name if origin.kind == "sweep" else f"{origin.name} ({origin.kind})"
        return Recalled(replace(result, cost=self._count(config)), words, tags, network)
