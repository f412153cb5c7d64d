"""The columns of the table of runs, and the conversion between results, MLflow runs and table rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from invact.measures import MEASURES, training_flop
from invact.tracking.stored import damaged, number_of, object_of, status_of, text_in, whole_number
from invact.training.results import Epoch, Scores, Status, TrialResult

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COLUMNS",
    "COUNTS",
    "METRICS",
    "count",
    "current",
    "curve_of",
    "epochs_of",
    "frame_of",
    "metrics_of",
    "replaced_of",
    "row_of",
    "table_of",
    "tagged",
]


PARTS = ("build", "trace", "train", "evaluate", "record")
"""The parts of a run's time, in seconds. A run of an older version has none of them."""


METRICS = {
    "filters": "cost/filters",
    **{name: f"cost/{name}" for name in MEASURES},
    # `final`, because `train/accuracy` and `validation/accuracy` are the curves over the epochs.
    "train_accuracy": "train/final_accuracy",
    "validation_accuracy": "validation/final_accuracy",
    "test_accuracy": "test/accuracy",
    "train_loss": "train/final_loss",
    "validation_loss": "validation/final_loss",
    "test_loss": "test/loss",
    "epochs": "time/epochs",
    "seconds": "time/seconds",
    "images_per_second": "time/images_per_second",
    "gflops": "time/gflops",
    **{f"{part}_seconds": f"time/{part}" for part in PARTS},
    "overrun": "budget/overrun",
    **{f"slack_{name}": f"budget/{name}_slack" for name in MEASURES},
    "width_slack": "budget/width_slack",
}
"""The table columns that are MLflow metrics, with their MLflow names. The part before `/` is a section."""


COUNTS = ("filters", *(name for name, measure in MEASURES.items() if measure.counted))


_WHOLE = (*COUNTS, "epochs")


COLUMNS = ("trial", "config", "label", "seed", "status", *METRICS, "error", "run_id")
"""The columns of every table; then come `param.<name>` for each varied parameter, and `config_json`."""


# Values that are read back are tags, because MLflow cannot change params and shortens long ones.
ROOT, TRIAL, SEED, LABEL = "invact.root", "invact.trial", "invact.seed", "invact.label"


CONFIG, CONFIG_JSON, VARIED = "invact.config", "invact.config_json", "invact.varied"


STATUS, ERROR, COUNTED, WINNER = "invact.status", "invact.error", "invact.counts", "invact.winner"


TAKEN = "invact.taken_from"
"""The tag of a run that was taken over from another record; its value is the id of the other run."""


CURVE = (
    "time/epoch_seconds",
    *(f"{split}/{score}" for split in ("train", "validation") for score in ("accuracy", "loss")),
)
"""The MLflow metrics that have one value for each epoch."""


def tagged(key: str, value: str) -> str:
    """Return an MLflow search condition for runs that have a tag with the given value.

    Example:
        >>> tagged("invact.kind", "sweep")
        "tags.`invact.kind` = 'sweep'"
    """
    return f"tags.`{key}` = '{value}'"


def current(runs: Iterable[Any]) -> list[Any]:
    """Select from the MLflow runs of one record the run that counts for each trial and seed, in this order.

    The newest FINISHED run counts; if there is none, the newest FAILED run.

    Raises:
        EnvironmentFault: the number of a trial or a seed is damaged.
    """
    chosen: dict[tuple[int, int], Any] = {}
    for run in sorted(runs, key=lambda run: (run.info.status == "FINISHED", run.info.start_time or 0)):
        if SEED in run.data.tags and run.info.status in ("FINISHED", "FAILED"):
            chosen[whole_number(run, TRIAL), whole_number(run, SEED)] = run
    return [chosen[key] for key in sorted(chosen)]


def count(results: Iterable[Any]) -> Counter[Status]:
    """Count the MLflow runs that `current` returned by their status.

    Raises:
        EnvironmentFault: the status of a run is damaged.
    """
    return Counter(status_of(run, STATUS) for run in results)


def metrics_of(result: TrialResult, known: Mapping[str, float]) -> dict[str, float | None]:
    """Return the MLflow metrics of a result, by MLflow name.

    Args:
        result: the result of a run.
        known: values that were known before training, by column of `METRICS`.
    """
    values: dict[str, float | None] = {
        "epochs": len(result.epochs),
        "seconds": result.seconds,
        "images_per_second": result.images_per_second,
        **known,
    }
    if result.times is not None:
        values |= {f"{part}_seconds": seconds for part, seconds in asdict(result.times).items()}
    if result.cost is not None:
        if result.images_per_second:
            values["gflops"] = training_flop(result.cost.macs, result.images_per_second) / 1e9
        values |= {name: getattr(result.cost, name) for name in COUNTS}
    for split in ("train", "validation", "test"):
        if (scores := getattr(result, split)) is not None:
            values |= {f"{split}_accuracy": scores.accuracy, f"{split}_loss": scores.loss}
    return {METRICS[name]: value for name, value in values.items()}


def curve_of(epoch: Epoch) -> dict[str, float]:
    """Return the MLflow metrics of one epoch, by MLflow name."""
    numbers = (epoch.seconds, epoch.train.accuracy, epoch.train.loss)
    return dict(zip(CURVE, (*numbers, epoch.validation.accuracy, epoch.validation.loss), strict=True))


def epochs_of(values: Iterable[tuple[str, int, float]]) -> tuple[Epoch, ...]:
    """Return the epochs of a run, from the name, the step and the value of each metric in `CURVE`.

    Example:
        >>> epoch = Epoch(1, Scores(0.5, 1.0), Scores(0.6, 0.9), 2.5)
        >>> epochs_of((name, 1, value) for name, value in curve_of(epoch).items()) == (epoch,)
        True
    """
    steps: dict[int, dict[str, float]] = {}
    for name, step, value in values:
        steps.setdefault(step, {})[name] = value
    found = []
    for number, metrics in sorted(steps.items()):
        seconds, *scores = (metrics.get(name, math.nan) for name in CURVE)
        found.append(Epoch(number, Scores(*scores[:2]), Scores(*scores[2:]), seconds))
    return tuple(found)


def row_of(run: Any, *, ended: bool = True) -> dict[str, Any]:
    """Return the table row of an MLflow run that carries a seed; metrics that it lacks are NaN.

    Args:
        run: the MLflow run.
        ended: whether the run has ended; if not, it has no status yet.

    Raises:
        EnvironmentFault: a tag or a metric of the run is damaged.
    """
    tags, run_id = run.data.tags, run.info.run_id
    varied = object_of(run_id, f"tag {VARIED!r}", tags.get(VARIED))
    for name, value in varied.items():
        if not isinstance(value, str | int | float):
            raise damaged(run_id, f"tag {VARIED!r}: {name}", value, "text or a number")
    object_of(run_id, f"tag {CONFIG_JSON!r}", tags.get(CONFIG_JSON))
    return {
        "trial": whole_number(run, TRIAL),
        "config": text_in(run, CONFIG),
        "label": text_in(run, LABEL) if LABEL in tags else "",
        "seed": whole_number(run, SEED),
        "status": status_of(run, STATUS).value if ended else "",
        **{name: number_of(run, metric, whole=name in _WHOLE) for name, metric in METRICS.items()},
        "error": text_in(run, ERROR) if ERROR in tags else "",
        "run_id": run_id,
        **{f"param.{name}": value for name, value in varied.items()},
        "config_json": text_in(run, CONFIG_JSON),
    }


def frame_of(runs: Iterable[Any]) -> pd.DataFrame:
    """Return the table of the MLflow runs of one record; see `Record.table`."""
    return table_of([row_of(run) for run in current(runs)])


def table_of(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the rows of `row_of` as a table."""
    import pandas as pd

    varied = list(dict.fromkeys(name for row in rows for name in row if name.startswith("param.")))
    table = pd.DataFrame(rows, columns=[*COLUMNS, *varied, "config_json"])
    for name in varied:
        # If a trial lacks a parameter, pandas would convert the integers of the other trials to floats.
        values = [row.get(name) for row in rows]
        table[name] = pd.Series(values, dtype=object if None in values else None)
    kinds = dict.fromkeys(METRICS, "float64") | dict.fromkeys(_WHOLE, "Int64")
    return table.astype(kinds | {"trial": "int64", "seed": "int64"})


def replaced_of(runs: Iterable[Any]) -> list[tuple[str, int, dict[str, Any], str, datetime]]:
    """Find the MLflow runs of one record that FAILED and were tried again; see `Record.replaced`."""
    tried: dict[tuple[str, str], list[Any]] = {}
    for run in sorted(runs, key=lambda run: run.info.start_time):
        tags = run.data.tags
        if SEED in tags and run.info.status in ("FINISHED", "FAILED"):
            tried.setdefault((tags[TRIAL], tags[SEED]), []).append(run)
    failed = [run for every in tried.values() for run in every[:-1] if run.info.status == "FAILED"]
    return [
        (
            run.data.tags.get(LABEL, ""),
            whole_number(run, SEED),
            object_of(run.info.run_id, f"tag {VARIED!r}", run.data.tags.get(VARIED)),
            run.data.tags.get(ERROR, ""),
            datetime.fromtimestamp(run.info.end_time / 1000, UTC),
        )
        for run in sorted(failed, key=lambda run: run.info.end_time)
    ]
