"""Kill a coordinator at any of its writes to the store, as `kill -9` would, and look at what is left.

A killed process writes nothing more, and its lock is released. Here the process lives on, but from the given
write on, every write raises `Killed`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from invact.networks.archives import unpack
from invact.sweeps.recorded import find_sweep, front_of
from invact.tracking.backend.mlflow import MlflowRuns
from invact.tracking.record import Record
from invact.tracking.table import COUNTED, SEED, TRIAL
from invact.training.results import Status

WRITES = ("begin", "resume", "end", "log", "log_data", "keep", "keep_folder", "delete")


class Killed(BaseException):
    """The process is dead."""


@contextmanager
def killed_at(write: int | None) -> Iterator[Counter[str]]:
    """Let the n-th write to the store and all later ones raise `Killed`; count the writes before."""
    done: Counter[str] = Counter()

    def fatal(name: str, method: Callable[..., object]) -> Callable[..., object]:
        def replaced(*arguments: object, **options: object) -> object:
            if write is not None and done.total() >= write:
                raise Killed
            done[name] += 1
            return method(*arguments, **options)

        return replaced

    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES:
            patch.setattr(MlflowRuns, name, fatal(name, getattr(MlflowRuns, name)))
        # The process that holds the lease is taken for dead.
        patch.setattr("invact.tracking.lease._alive", lambda holder: False)
        # A dead process renews no lease; on a busy machine, the thread would try to.
        patch.setattr("invact.tracking.lease.SECONDS", 3600.0)
        yield done


def faults_of(name: str, seeds: int, before: set[tuple[int, int, str]], store: Path) -> list[str]:
    """Return what is wrong with a complete sweep: runs lost or repeated, summaries or networks missing.

    Args:
        name: name of the sweep.
        seeds: number of seeds of each trial.
        before: trial, seed and id of the runs that counted before the sweep was continued.
        store: folder of the store.
    """
    record = find_sweep(name, None, store, None)
    table = record.table()
    runs = record._search()
    found = [f"lost: {key}" for key in before - keys_of(record)]
    counted = Counter(
        (run.data.tags[TRIAL], run.data.tags[SEED])
        for run in runs
        if SEED in run.data.tags and run.info.status == "FINISHED"
    )
    found += [f"repeated: {key}" for key, times in counted.items() if times > 1]
    configs = table.groupby("config")["trial"].nunique()
    found += [f"proposed twice: {config}" for config in configs.index[configs > 1]]
    found += [f"running: {run.info.run_id}" for run in runs if run.info.status == "RUNNING"]
    for trial, rows in table.groupby("trial"):
        if len(rows) != seeds:
            found.append(f"trial {trial}: {len(rows)} of {seeds} seeds")
        if Status.OVER_BUDGET in set(rows["status"]) and set(rows["status"]) != {Status.OVER_BUDGET}:
            found.append(f"trial {trial}: over budget and trained")
    summaries = {
        int(run.data.tags[TRIAL])
        for run in runs
        if SEED not in run.data.tags
        and run.info.status in ("FINISHED", "FAILED")
        and COUNTED in run.data.tags
    }
    if seeds > 1:
        found += [f"trial {trial}: no summary" for trial in {*table["trial"]} - summaries]
    for point in front_of(record, table, name).points:
        if not record.has_model(point.run_id):
            found.append(f"trial {point.trial}: no network")
        else:
            unpack(record.model(point.run_id))
    return found


def keys_of(record: Record) -> set[tuple[int, int, str]]:
    """Return trial, seed and id of the runs of a record that count and did not fail."""
    table = record.table()
    good = table[table["status"] != Status.FAILED]
    return set(zip(good["trial"], good["seed"], good["run_id"], strict=True))
