"""Exports: a network of a front as files for other runtimes, each checked on the whole test set."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.config import Config
from invact.deploy.formats import FORMATS, draft_folder, open_format, publish, size_of, write_format
from invact.deploy.runtimes import RUNTIMES, Session, load, require
from invact.errors import EnvironmentFault, InputError, one_of
from invact.execution.progress import LineProgress, Progress
from invact.quiet import load_tensorflow
from invact.reports.tables import table_of
from invact.sweeps.recorded import SETTINGS, data_of, find_sweep, front_of
from invact.validation import import_all

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.table import Table

    from invact.data.dataset import Dataset
    from invact.fronts.pareto import ParetoFront

__all__ = ["Exported", "export_archive", "export_point", "export_table", "export_values"]

TOLERANCE = 1e-3
"""Of the largest logit: how far a float32 export may be off. Sums in another order are off by some 1e-6 of
it; another network, or one that lacks its scaling of the pixels, by as much as the logits themselves."""

TIES = 1e-3
"""Share of the test images whose class another processor may change, as their best two logits are equal."""

CALIBRATION = 200
"""Training images that int8 is scaled to: the first, in the order of the split, which is shuffled."""

BATCH = 1000


@dataclass(frozen=True)
class Exported:
    """A file that was written, and what it does on the whole test set when it is read again.

    Attributes:
        format: one of `invact.deploy.formats.FORMATS`.
        precision: `float32` or `int8`.
        path: the file or folder.
        bytes: its size.
        max_difference: largest difference of a logit to the network's.
        agreement: share of the test images of which it predicts the class that the network predicts.
        accuracy: on the test set.
        original_accuracy: the network's, which is what the record says.
    """

    format: str
    precision: str
    path: Path
    bytes: int
    max_difference: float
    agreement: float
    accuracy: float
    original_accuracy: float


def export_point(
    name: str,
    point: int | None = None,
    *,
    formats: Iterable[str] = ("litert",),
    precision: str = "float32",
    folder: str | Path = ".",
    driver: str | None = None,
    store: str | Path | None = None,
    tracking_uri: str | None = None,
    show: bool = True,
) -> tuple[Exported, ...]:
    """Export the network of a point of a sweep's front as `NAME-pointK`; of several seeds, the first's.

    Each file is read again and run on the test images of the sweep before it gets its name; one that was
    there is replaced.

    Args:
        name: the sweep's name.
        point: from 1, by increasing cost; needed unless the front has one point.
        formats: of `invact.deploy.formats.FORMATS`.
        precision: `float32`; or `int8`, calibrated with training images, where all the formats have it.
        folder: where to write; created where it does not exist.
        driver: of several sweeps of that name, the newest with this driver.
        store: the folder of the MLflow store; `mlruns` unless given.
        tracking_uri: an MLflow tracking server or database instead.
        show: whether to show progress on standard error.

    Returns:
        One for each format, in the order given.

    Raises:
        InputError: no such format, precision, sweep or point; or the point has no model, or one that cannot
            be converted.
        EnvironmentFault: the store, the data or an extra is missing, the folder cannot be written, the data
            have changed, or a float32 file says something else than the network.
    """
    chosen = _check(formats, precision)
    sweep = find_sweep(name, driver, store, tracking_uri)
    runs = sweep.table()
    front = front_of(sweep, runs, name)
    number = _number(front, point)
    run_id = front.points[number - 1].run_id
    run = runs[runs["run_id"] == run_id]
    try:
        archive = sweep.model(run_id)
    except InputError:
        words = f"point {number} of {name!r} has no model in the store. Allowed: a point that has"
        raise InputError(words) from None
    _, data = data_of(sweep, name)
    load_tensorflow()
    # What the network is made of may be registered there, and where its builder is.
    import_all(json.loads(sweep.read(SETTINGS))["imports"])
    builder = Config.model_validate_json(run["config_json"].iloc[0]).model
    import_all([builder.partition(":")[0]] if ":" in builder else [])
    return export_archive(
        archive,
        data,
        f"{name}-point{number}",
        formats=chosen,
        precision=precision,
        folder=folder,
        recorded=float(run["test_accuracy"].iloc[0]),
        show=show,
    )


def export_archive(
    archive: bytes,
    data: Dataset,
    stem: str,
    *,
    formats: Iterable[str] = ("litert",),
    precision: str = "float32",
    folder: str | Path = ".",
    recorded: float | None = None,
    show: bool = False,
) -> tuple[Exported, ...]:
    """Export a network from its `.keras` archive; see `export_point`.

    Args:
        archive: its bytes, as `TrialResult.model` holds them.
        data: what it was trained and tested on.
        stem: what the files' names begin with.
        formats: of `invact.deploy.formats.FORMATS`.
        precision: `float32` or `int8`.
        folder: where to write.
        recorded: the test accuracy that the network must reproduce.
        show: whether to show progress on standard error.

    Raises:
        InputError: no such format or precision, or the network cannot be converted.
        EnvironmentFault: as for `export_point`, or the network does not reproduce what was recorded.
    """
    chosen = _check(formats, precision)
    progress = LineProgress(len(chosen)) if show else Progress()
    original = _logits(load(archive, "tensorflow"), data)
    accuracy = _accuracy(original, data)
    if recorded is not None and abs(accuracy - recorded) > max(TIES, 1 / data.test_count) + 1e-9:
        raise EnvironmentFault(
            f"{stem}: test accuracy {accuracy:.2%} of the network here. Allowed: {recorded:.2%}, the record's"
        )
    done = []
    with draft_folder(Path(folder)) as drafts:
        for name in chosen:
            middle = "" if precision == "float32" else f"-{precision}"
            path = Path(folder) / f"{stem}{middle}{FORMATS[name].suffix}"
            progress.message(f"{path.name}: converting, then checking on {data.test_count:,} test images")
            draft = drafts / path.name
            write_format(draft, name, archive, precision, data.x_train[:CALIBRATION])
            found = _logits(open_format(draft, name), data)
            if found.shape != original.shape:
                raise EnvironmentFault(
                    f"{path}: not written, as its outputs are {found.shape}. Allowed: {original.shape}"
                )
            difference, scale = float(np.abs(found - original).max()), float(np.abs(original).max())
            # Written so that NaN is too far.
            if precision == "float32" and not difference <= TOLERANCE * scale:
                raise EnvironmentFault(
                    f"{path}: not written, as its logits are up to {difference:.3g} off the network's. "
                    f"Allowed: {TOLERANCE * scale:.3g}, a thousandth of the largest"
                )
            agreement = float(np.mean(found.argmax(axis=1) == original.argmax(axis=1)))
            size = size_of(draft)
            publish(draft, path)
            facts = (size, difference, agreement, _accuracy(found, data), accuracy)
            done.append(Exported(name, precision, path, *facts))
    return tuple(done)


def _check(formats: Iterable[str], precision: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(formats))
    if not chosen:
        raise InputError(f"format: received none. Allowed: {', '.join(FORMATS)}")
    for name in chosen:
        if name not in FORMATS:
            raise one_of("format", name, FORMATS)
        runtime = FORMATS[name].runtime
        if precision not in RUNTIMES[runtime]:
            raise one_of(f"precision of {name}", precision, RUNTIMES[runtime])
        require(runtime, precision)
    return chosen


def _number(front: ParetoFront, point: int | None) -> int:
    count = len(front.points)
    if not count:
        raise InputError(
            f"export: {front.name!r} has no front. Allowed: a sweep with a finished configuration"
        )
    if point is None and count == 1:
        return 1
    if point is None or not 1 <= point <= count:
        allowed = f"1 to {count}, by increasing cost, as `invact front {front.name}` prints them"
        raise InputError(f"point: received {point}. Allowed: {allowed}")
    return point


def _logits(session: Session, data: Dataset) -> NDArray[np.float32]:
    starts = range(0, data.test_count, BATCH)
    return np.concatenate([session(data.x_test[start : start + BATCH]) for start in starts])


def _accuracy(logits: NDArray[np.float32], data: Dataset) -> float:
    return float(np.mean(logits.argmax(axis=1) == data.y_test))


def export_values(exports: Iterable[Exported]) -> list[dict[str, Any]]:
    """Put exports in JSON-like values."""
    return [asdict(one) | {"path": str(one.path)} for one in exports]


def export_table(title: str, exports: Iterable[Exported]) -> Table:
    """Tabulate exports for the terminal.

    Example:
        >>> export_table("tiny", [Exported("onnx", "int8", Path("a"), 1, 0.5, 0.99, 0.9, 0.91)]).row_count
        1
    """
    rows = [
        (
            str(one.path),
            f"{one.bytes:,}",
            f"{one.accuracy:.2%}",
            f"{one.original_accuracy:.2%}",
            f"{one.agreement:.2%}",
            f"{one.max_difference:.2g}",
        )
        for one in exports
    ]
    columns = ("file", "bytes", "test", "original", "same class", "largest difference")
    return table_of(title, columns, rows, len(columns) - 1)
