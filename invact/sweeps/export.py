"""Exports: a network of a front is written to files for other runtimes; each is checked on the test set."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.deploy.formats import FORMATS, draft_folder, open_format, publish, size_of, write_format
from invact.deploy.runtimes import RUNTIMES, Session, load, require
from invact.deploy.sidecar import describe, flat, pixel_range
from invact.errors import EnvironmentFault, InputError, one_of, within
from invact.execution.display.progress import LineProgress, Progress
from invact.files import write_atomically
from invact.networks.archives import unpack
from invact.process.quiet import load_tensorflow
from invact.reports.tables import Listing, table_of
from invact.sweeps.recorded import SETTINGS, data_of, find_sweep, front_of, network_of
from invact.tracking.stored import config_of
from invact.validation import import_all

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from invact.data.dataset import Dataset
    from invact.fronts.pareto import ParetoFront

__all__ = ["Exported", "export_archive", "export_point", "export_table", "export_values"]

TOLERANCE = 1e-3
"""Largest difference of logits allowed in float32, as a share of the largest logit. Another order of
summation changes logits by about 1e-6 of the largest. A wrong network, or one without its scaling of the
pixels, changes them by as much as the logits themselves."""

TIES = 1e-3
"""Share of the test images whose class may differ on another processor, because two logits are equal."""

CALIBRATION = 200
"""Number of training images that set the scales of int8: the first ones, since the split is shuffled."""

BATCH = 1000
"""Test images in one call; a whole test set may not fit into memory."""


@dataclass(frozen=True)
class Exported:
    """A file that was written, and its results on the whole test set after it was read again.

    Attributes:
        format: a key of `invact.deploy.formats.FORMATS`.
        precision: `float32` or `int8`.
        path: the file or folder.
        sidecar: the JSON file beside it, which says how to run it and where it comes from.
        pixels: the pixel values that the network scales to -1 and to 1.
        bytes: the size of the file, or of all files in the folder.
        max_difference: largest absolute difference between an output of the file and of the network: of
            logits, or of probabilities.
        agreement: share of the test images for which the file and the network predict the same class.
        accuracy: test accuracy of the file.
        original_accuracy: test accuracy of the network, equal to the accuracy in the record.
    """

    format: str
    precision: str
    path: Path
    sidecar: Path
    pixels: tuple[float, float]
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
    softmax: bool = False,
    folder: str | Path = ".",
    driver: str | None = None,
    store: str | Path | None = None,
    tracking_uri: str | None = None,
    show: bool = True,
) -> tuple[Exported, ...]:
    """Export the network of one point of a sweep's front to files named `NAME-pointK`.

    With a driver, the files are named `NAME-DRIVER-pointK`.

    Beside each file is a JSON file of its name and `.json`. It gives the input (pixel values, shape, layout
    and type), the output with its classes, the costs, the accuracies, and the run.

    If the point was trained with several seeds, the network of the first seed is exported. Each file is read
    again and run on the test images of the sweep before it gets its name. An existing file is replaced. A
    network that is not in the store is trained again, to the same bits.

    Args:
        name: the sweep's name.
        point: number of the point, from 1, by increasing cost. It may be omitted if the front has one point.
        formats: keys of `invact.deploy.formats.FORMATS`.
        precision: `float32`, or `int8` if all formats support it. int8 is calibrated with training images.
        softmax: whether the files return probabilities instead of logits. Their names contain `-softmax`.
        folder: the folder to write to; it is created if it does not exist.
        driver: if several sweeps have the name, the newest with this driver is used.
        store: the folder of the MLflow store, by default `mlruns`.
        tracking_uri: the address of an MLflow tracking server or database, to use instead of a folder.
        show: whether to show progress on standard error.

    Returns:
        One export for each format, in the given order.

    Raises:
        InputError: the format, precision, sweep or point does not exist, or the network cannot be converted.
        EnvironmentFault: the store, the data or an extra is missing, the folder cannot be written, the data
            have changed, the outputs of a float32 file differ from those of the network, or a network that is
            not stored cannot be trained again with the same numbers.
    """
    chosen = _check(formats, precision)
    sweep = find_sweep(name, driver, store, tracking_uri)
    runs = sweep.table()
    front = front_of(sweep, runs, name)
    number = _number(front, point)
    run_id = front.points[number - 1].run_id
    (_, run), *_ = runs[runs["run_id"] == run_id].iterrows()
    source, data = data_of(sweep, name)
    load_tensorflow()
    # These modules, and the module of the builder, may register layers of the network.
    import_all(sweep.json(SETTINGS, imports=list)["imports"])
    config = config_of(run_id, run["config_json"])
    builder = config.model
    import_all([builder.partition(":")[0]] if ":" in builder else [])
    progress = LineProgress(1) if show else Progress()
    with within(f"point {number} of {name!r}, run {run_id}"):
        return export_archive(
            network_of(sweep, runs, run_id, source, data, progress),
            data,
            f"{name}-{driver}-point{number}" if driver else f"{name}-point{number}",
            formats=chosen,
            precision=precision,
            softmax=softmax,
            folder=folder,
            recorded=float(run["test_accuracy"]),
            about={
                "macs": int(run["macs"]),
                "params": int(run["params"]),
                "validation_accuracy": float(run["validation_accuracy"]),
                "recorded_test_accuracy": float(run["test_accuracy"]),
                "sweep": name,
                "point": number,
                "label": str(run["label"]),
                "config": str(run["config"]),
                "configuration": config.model_dump(mode="json"),
                "seed": int(run["seed"]),
                "run_id": str(run_id),
            },
            show=show,
        )


def export_archive(
    archive: bytes,
    data: Dataset,
    stem: str,
    *,
    formats: Iterable[str] = ("litert",),
    precision: str = "float32",
    softmax: bool = False,
    folder: str | Path = ".",
    recorded: float | None = None,
    about: Mapping[str, Any] = MappingProxyType({}),
    show: bool = False,
) -> tuple[Exported, ...]:
    """Export a network from its `.keras` archive; see `export_point`.

    Args:
        archive: the bytes of the archive, as in `TrialResult.model`.
        data: the data set that the network was trained and tested on.
        stem: the start of the files' names.
        formats: keys of `invact.deploy.formats.FORMATS`.
        precision: `float32` or `int8`.
        softmax: whether the files return probabilities instead of logits.
        folder: the folder to write to.
        about: what the JSON file beside each file says about the network and the run.
        recorded: the test accuracy that the network must reproduce.
        show: whether to show progress on standard error.

    Raises:
        InputError: the format or precision does not exist, or the network cannot be converted.
        EnvironmentFault: as for `export_point`, or the network does not reproduce the recorded accuracy.
    """
    chosen = _check(formats, precision)
    progress = LineProgress(len(chosen)) if show else Progress()
    original = _outputs(load(archive, "tensorflow"), data)
    accuracy = _accuracy(original, data)
    if recorded is not None and abs(accuracy - recorded) > max(TIES, 1 / data.test_count) + 1e-9:
        raise EnvironmentFault(
            f"{stem}: the network has a test accuracy of {accuracy:.2%} on this machine. "
            f"Allowed: {recorded:.2%}, as in the record"
        )
    if softmax:
        powers = np.exp(original - original.max(axis=1, keepdims=True))
        original = powers / powers.sum(axis=1, keepdims=True)
    model, kind = unpack(archive), "probabilities" if softmax else "logits"
    middle = "".join(f"-{word}" for word in (precision, "softmax" * softmax) if word not in ("float32", ""))
    done = []
    with draft_folder(Path(folder)) as drafts:
        for name in chosen:
            path = Path(folder) / f"{stem}{middle}{FORMATS[name].suffix}"
            progress.message(f"{path.name}: converting, then checking on {data.test_count:,} test images")
            draft, sidecar = drafts / path.name, path.with_name(f"{path.name}.json")
            known = {"file": path.name, "format": name, "precision": precision, **about}
            facts = describe(model, data, softmax=softmax, about=known)
            write_format(
                *(draft, name, archive, precision, data.x_train[:CALIBRATION]),
                softmax=softmax,
                metadata=flat(facts),
            )
            found = _outputs(open_format(draft, name), data)
            if found.shape != original.shape:
                raise EnvironmentFault(
                    f"{path}: not written, because its outputs have shape {found.shape}. "
                    f"Allowed: {original.shape}"
                )
            difference, scale = float(np.abs(found - original).max()), float(np.abs(original).max())
            # `not <=` also refuses NaN.
            if precision == "float32" and not difference <= TOLERANCE * scale:
                raise EnvironmentFault(
                    f"{path}: not written, because its {kind} differ by up to {difference:.3g} from those "
                    f"of the network. Allowed: {TOLERANCE * scale:.3g}, a thousandth of the largest"
                )
            agreement = float(np.mean(found.argmax(axis=1) == original.argmax(axis=1)))
            size, reached = size_of(draft), _accuracy(found, data)
            note = json.dumps(facts | {"test_accuracy": reached}, indent=1)
            write_atomically(drafts / sidecar.name, f"{note}\n".encode())
            publish(draft, path, sidecar)
            measured = (size, difference, agreement, reached, accuracy)
            done.append(Exported(name, precision, path, sidecar, pixel_range(model, data), *measured))
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
            f"export: the front of {front.name!r} is empty. Allowed: a sweep with a finished configuration"
        )
    if point is None and count == 1:
        return 1
    if point is None or not 1 <= point <= count:
        allowed = f"1 to {count}, by increasing cost, in the order of `invact front {front.name}`"
        raise InputError(f"point: received {point}. Allowed: {allowed}")
    return point


def _outputs(session: Session, data: Dataset) -> NDArray[np.float32]:
    starts = range(0, data.test_count, BATCH)
    return np.concatenate([session(data.x_test[start : start + BATCH]) for start in starts])


def _accuracy(outputs: NDArray[np.float32], data: Dataset) -> float:
    return float(np.mean(outputs.argmax(axis=1) == data.y_test))


def export_values(exports: Iterable[Exported]) -> list[dict[str, Any]]:
    """Convert exports to values that JSON can store."""
    return [asdict(one) | {"path": str(one.path), "sidecar": str(one.sidecar)} for one in exports]


def export_table(title: str, exports: Iterable[Exported]) -> Listing:
    """Build the table of exports for the terminal.

    Example:
        >>> one = Exported("onnx", "int8", Path("a"), Path("a.json"), (0.0, 16.0), 1, 0.5, 0.99, 0.9, 0.91)
        >>> print(export_table("tiny", [one]).caption)
        The files take pixels from 0 to 16. The .json file beside each of them says more.
    """
    exports = list(exports)
    low, high = exports[0].pixels
    caption = f"The files take pixels from {low:g} to {high:g}. The .json file beside each of them says more."
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
    columns = ("file", "bytes", "test accuracy", "of the network", "same class", "largest difference")
    return table_of(title, columns, rows, len(columns) - 1, caption)
