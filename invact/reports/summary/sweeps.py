"""The rows of a sweep: one for each configuration that was trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invact.fronts.pareto import value_of
from invact.reports.summary.rows import Recorded
from invact.reports.summary.runs import Run, finite, references_of, row_of, undamaged
from invact.training.results import Status

if TYPE_CHECKING:
    from invact.tracking.reader import RecordReader
    from invact.tracking.store import RecordInfo

__all__ = ["COLLAPSED", "has_collapsed", "read_sweep"]

COLLAPSED = 0.1
"""A finished run of a sweep has collapsed if its validation accuracy is at most this far above chance, where
chance counts as 0 and an accuracy of 1 as 1."""


def has_collapsed(accuracy: float, classes: int | None) -> bool:
    """Return whether a run of a sweep has collapsed; see `invact.summarize`.

    Args:
        accuracy: its validation accuracy, as a fraction.
        classes: number of classes; None if it is not known.

    Example:
        >>> has_collapsed(0.12, 10), has_collapsed(0.35, 10), has_collapsed(0.35, None)
        (True, False, False)
    """
    return classes is not None and accuracy <= 1 / classes + COLLAPSED * (1 - 1 / classes)


def read_sweep(reader: RecordReader, info: RecordInfo, settings: Mapping[str, Any]) -> Recorded:
    """Read the record of a sweep.

    Args:
        reader: reads the record.
        info: its entry in the list of records.
        settings: the values of the sweep's file.

    Raises:
        EnvironmentFault: a value is damaged.
    """
    with undamaged(info.run_id):
        data, trials = Path(settings["data"]).stem, int(settings["trials"])
        references = references_of(settings)
    classes = reader.classes()
    groups: dict[str, dict[int, Run]] = {}
    table: Sequence[Run] = reader.table().to_dict("records")
    # A seed that a sweep has tried twice counts once, by its finished run if there is one.
    for run in sorted(table, key=lambda run: run["status"] != Status.FINISHED):
        groups.setdefault(run["config"], {}).setdefault(run["seed"], run)
    rows, apart = [], Counter[Status]()
    for group in groups.values():
        runs = [group[seed] for seed in sorted(group)]
        statuses = Counter(Status(run["status"]) for run in runs)
        if not {Status.FINISHED, Status.DIVERGED, Status.FAILED} & {*statuses}:
            over = Status.OVER_BUDGET in statuses
            apart[Status.OVER_BUDGET if over else Status.PRUNED] += 1
            continue
        values = {
            name.removeprefix("param."): value
            for name, cell in runs[0].items()
            if name.startswith("param.") and (value := value_of(cell)) is not None
        }
        finished = [run for run in runs if run["status"] == Status.FINISHED]
        scored = [run for run in finished if finite(run["validation_accuracy"]) is not None]
        trained = [run for run in scored if not has_collapsed(run["validation_accuracy"], classes)]
        failures = {
            "diverged": statuses[Status.DIVERGED] + len(finished) - len(scored),
            "collapsed": len(scored) - len(trained),
            "failed": statuses[Status.FAILED],
        }
        rows.append(row_of(runs, trained, failures, values, references))
    rows.sort(key=lambda row: (-(row.validation.value if row.validation else -1), row.trial))
    notes = []
    if info.status != "FINISHED":
        done = len({run["trial"] for run in table})
        notes.append(f"not finished: {done} of {trials} configurations have runs that ended")
    if apart:
        words = {Status.OVER_BUDGET: "over a budget", Status.PRUNED: "stopped by the pruner"}
        counted = " and ".join(f"{count} {words[status]}" for status, count in sorted(apart.items()))
        notes.append(f"not listed: {counted}")
    return Recorded(info.name, info.kind, data, info.run_id, tuple(rows), tuple(notes))
