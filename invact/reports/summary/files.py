"""The summary as it is shown: a table for the terminal, JSON values, and files with figures."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invact.files import formats_of, write_atomically
from invact.measures import quantity
from invact.reports.summary.reference import Reference
from invact.reports.summary.rows import CONFIDENCE, Recorded, Row, Summary
from invact.reports.tables import Column, Listing
from invact.text import csv_of

if TYPE_CHECKING:
    from invact.fronts.confirmation import Mean

__all__ = ["FORMATS", "summary_table", "summary_values", "write_summary"]

FORMATS = ("csv", "json", "png", "svg")

SCHEMA = "invact.report/1"


def summary_values(summary: Summary) -> dict[str, Any]:
    """Convert a summary to the JSON-like values of `report.json` and `--json`.

    Example:
        >>> summary_values(Summary(()))["records"]
        []
    """
    from invact._version import __version__

    return {
        "schema": SCHEMA,
        "confidence": CONFIDENCE,
        "records": [_record(one) for one in summary.records],
        "versions": {"invact": __version__, "python": platform.python_version()},
    }


def _record(one: Recorded) -> dict[str, Any]:
    return {
        **{name: getattr(one, name) for name in ("name", "kind", "data", "run_id")},
        "notes": list(one.notes),
        "verdicts": dict(one.verdicts),
        "ratios": {name: asdict(ratio) for name, ratio in one.ratios.items()},
        "rows": [_row(row) for row in one.rows],
    }


def _row(row: Row) -> dict[str, Any]:
    plain = {name: value for name, value in vars(row).items() if name not in ("references", "difference")}
    return {
        **{name: _plain(value) for name, value in plain.items()},
        "difference": None if row.difference is None else asdict(row.difference),
        "references": [
            {"source": each.source, "where": dict(each.where), **each.figures} for each in row.references
        ],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


def summary_table(summary: Summary) -> Listing:
    """Make the table of a summary for the terminal; in a file or a pipe it is plain text.

    Example:
        >>> summary_table(Summary(())).row_count
        0
    """
    every = [(record, row) for record in summary.records for row in record.rows]
    rows = [row for _, row in every]
    columns: dict[Column, list[str]] = {
        Column("configuration", "text", least=20, shared=True): [row.label for row in rows],
        Column("record", "text", least=8, rank=1, shared=True): [record.name for record, _ in every],
        Column("data", "text", least=6, rank=2, shared=True): [record.data for record, _ in every],
        Column("MACs", rank=3, shared=True): [_cost(row.macs) for row in rows],
        Column("params", rank=7, shared=True): [_cost(row.params) for row in rows],
        Column("filters", rank=6, shared=True): [
            "" if row.filters is None else str(row.filters) for row in rows
        ],
        Column("seeds", shared=True): [str(row.runs) for row in rows],
        Column("failed", shared=True): [str(row.failed) for row in rows],
        Column("valid.", rank=4): [_percent(row.validation) for row in rows],
        Column("test"): [_percent(row.test) for row in rows],
        Column("+-"): [_half(row.test) for row in rows],
        Column("loss", rank=5): ["" if row.loss is None else f"{row.loss.value:.4f}" for row in rows],
        Column("difference"): [_difference(row) for row in rows],
        Column("published", "prose", least=20): ["; ".join(map(_published, row.references)) for row in rows],
    }
    caption = [line for record in summary.records for line in _lines(record)]
    if any(row.test is not None and row.test.high is not None for row in rows):
        caption.append(f"+-: {CONFIDENCE:.0%} t interval of test over the seeds, in points")
    if any(row.failed for row in rows):
        caption.append(
            "failed: runs that diverged, collapsed or stopped with an error; no mean includes them"
        )
    if any(row.difference for row in rows):
        caption += [
            "difference: treatment - control, in points; in other rows, treatment - this arm;",
            "with the repeated confidence interval at the last look of the claim's test",
        ]
    return Listing(
        ", ".join(dict.fromkeys(one.name for one in summary.records)),
        tuple(columns),
        tuple(zip(*columns.values(), strict=True)),
        "\n".join(caption),
    )


def _lines(record: Recorded) -> list[str]:
    """What a reader must know about a record, each in one line."""
    lines = [f"{record.title}: {note}" for note in record.notes]
    if record.verdicts:
        verdicts = f"fewer filters {record.verdicts['filters']}, fewer MACs {record.verdicts['macs']}"
        lines.append(f"{record.title}: {verdicts}")
    if record.ratios:
        shares = [
            f"{ratio.value:.3f} of the {'MACs' if name == 'macs' else name} ({_open(ratio)})"
            for name, ratio in record.ratios.items()
        ]
        lines.append(f"{record.title}: equal accuracy needs {' and '.join(shares)}")
    return lines


def _open(ratio: Mean) -> str:
    low, high = ("open" if end is None else f"{end:.3f}" for end in (ratio.low, ratio.high))
    return f"{low} to {high}"


def _cost(cost: int | None) -> str:
    return "" if cost is None else quantity(cost)


def _percent(mean: Mean | None) -> str:
    return "" if mean is None else f"{mean.value:.2%}"


def _half(mean: Mean | None) -> str:
    return "" if mean is None or mean.high is None else f"{100 * (mean.high - mean.value):.2f}"


def _difference(row: Row) -> str:
    if row.difference is None:
        return ""
    mean = row.difference.value
    value, low, high = (f"{100 * (end or 0):+.2f}" for end in (mean.value, mean.low, mean.high))
    return f"{value} ({low} to {high})"


def _published(reference: Reference) -> str:
    """Write published figures in a few words.

    Example:
        >>> _published(Reference(where={"filters": 8}, source="author", test_accuracy=94.33, test_loss=0.178))
        'test 94.33%, loss 0.178 (author)'
    """
    parts = []
    for split, word in (("test", "test"), ("validation", "valid.")):
        accuracy = reference.figures.get(f"{split}_accuracy")
        loss = reference.figures.get(f"{split}_loss")
        told = [f"{100 * accuracy:.5g}%"] if accuracy is not None else []
        told += [f"loss {loss:.4g}"] if loss is not None else []
        parts += [f"{word} {', '.join(told)}"] if told else []
    return f"{', '.join(parts)} ({reference.source})"


def write_summary(
    summary: Summary, folder: Path, formats: Iterable[str] | None = None, stem: str = "report"
) -> list[Path]:
    """Write `<stem>.<format>` for each format; the same summary gives the same bytes.

    If a claim has compared its arms, `<stem>_claims.png` or `<stem>_claims.svg` is written with the figure.

    Args:
        summary: the summary to write.
        folder: folder of the files; created if it does not exist.
        formats: formats from `FORMATS`; all of them unless given. `csv` is `Summary.to_pandas`.
        stem: name of the files without the format.

    Returns:
        The paths of the files, in the order of `formats`.

    Raises:
        InputError: a format is unknown; nothing is written.
        EnvironmentFault: the folder cannot be written.

    Example:
        >>> import tempfile
        >>> [path.name for path in write_summary(Summary(()), Path(tempfile.mkdtemp()), ["csv", "json"])]
        ['report.csv', 'report.json']
    """
    chosen = formats_of(FORMATS if formats is None else formats, FORMATS)
    paths = []
    for name in chosen:
        for path, content in _contents(summary, folder / f"{stem}.{name}", name).items():
            write_atomically(path, content)
            paths.append(path)
    return paths


def _contents(summary: Summary, path: Path, kind: str) -> dict[Path, bytes]:
    if kind == "csv":
        return {path: csv_of(summary.to_pandas()).encode()}
    if kind == "json":
        text = json.dumps(summary_values(summary), indent=1, ensure_ascii=False, allow_nan=False)
        return {path: f"{text}\n".encode()}
    # The library that draws takes half a second to import.
    from invact.reports.figures.style import picture
    from invact.reports.summary.figure import accuracy_figure, comparisons, difference_figure

    files = {path: picture(accuracy_figure(summary), kind)}
    if comparisons(summary):
        files[path.with_stem(f"{path.stem}_claims")] = picture(difference_figure(summary), kind)
    return files
