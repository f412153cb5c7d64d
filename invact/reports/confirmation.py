"""The report of a confirmation: a table for the terminal, JSON values, and files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from invact.fronts.confirmation import CONFIDENCE, Confirmation, ConfirmedPoint
from invact.measures import MEASURES
from invact.reports.tables import Column, Listing
from invact.text import csv_of

LEADING = ("place", "lead")

__all__ = ["confirmation_table", "confirmation_values", "write_confirmation"]


def confirmation_values(result: Confirmation) -> dict[str, Any]:
    """Convert a confirmation to the JSON-like values of `confirm.json` and `--json`."""
    return {
        "run_id": result.run_id,
        "measure": result.front.measure,
        "seeds": list(result.seeds),
        "confidence": CONFIDENCE,
        "failed": result.failed,
        "optimism": None if result.optimism is None else asdict(result.optimism),
        "points": [_values(one, result) for one in result.points],
    } | ({} if result.margin is None else {"margin": result.margin})


def _values(one: ConfirmedPoint, result: Confirmation) -> dict[str, Any]:
    """The values of a point; its place only if seeds were given until the places are decided."""
    values = asdict(one)
    return values if result.margin is not None else {k: v for k, v in values.items() if k not in LEADING}


def confirmation_table(result: Confirmation) -> Listing:
    """Make a table of a confirmation for the terminal; differences are in points."""
    stay = sum(bool(one.non_dominated) for one in result.points)
    caption = [
        "selected: validation accuracy that selected the point; optimism: selected - valid., in points",
        f"valid., test: accuracy on fresh seeds; +-: {CONFIDENCE:.0%} interval of test, in points",
        f"{stay} of {len(result.points)} stay non-dominated by fresh test accuracy; "
        "P: probability of being on the true front",
    ]
    if (mean := result.optimism) is not None:
        assert mean.low is not None
        assert mean.high is not None
        low, high = 100 * mean.low, 100 * mean.high
        caption.append(
            f"the mean optimism of selection is {100 * mean.value:+.2f} points "
            f"({CONFIDENCE:.0%} interval {low:+.2f} to {high:+.2f})"
        )
    if result.margin is not None:
        caption.append(
            f"place: decided at {CONFIDENCE:.0%} confidence for these test images; equal: as accurate as "
            f"the best cheaper point within {100 * result.margin:g} points"
        )
        trained = sum(one.seeds for one in result.points)
        left = ", ".join(one.point.label for one in result.undecided)
        caption.append(
            f"{trained} trainings; "
            + (f"{len(result.undecided)} places are undecided: {left}" if left else "all places are decided")
        )
    if result.failed:
        caption.append(f"{result.failed} runs failed and are not included in the means")
    cost = MEASURES[result.front.measure].label
    columns = (
        Column("configuration", "text", least=20, shared=True),
        Column(cost),
        Column("selected", rank=3),
        Column("valid.", rank=1),
        Column("test"),
        Column("+-"),
        Column("optimism", rank=2),
        Column("stays"),
        Column("P"),
        *([] if result.margin is None else [Column("seeds", rank=4), Column("place", "text")]),
    )
    return Listing(
        f"{result.name}: the front on {result.counted} fresh seeds",
        columns,
        tuple(map(_row, result.points)),
        "\n".join(caption),
    )


def _row(one: ConfirmedPoint) -> tuple[str, ...]:
    from invact.reports.figures.style import quantity

    validation, test = one.validation, one.test
    return (
        one.point.label,
        quantity(one.point.cost),
        f"{one.point.accuracy:.2%}",
        "" if validation is None else f"{validation.value:.2%}",
        "" if test is None else f"{test.value:.2%}",
        "" if test is None or test.high is None else f"{100 * (test.high - test.value):.2f}",
        "" if one.optimism is None else f"{100 * one.optimism.value:+.2f}",
        {True: "yes", False: "no", None: ""}[one.non_dominated],
        "" if one.p_non_dominated is None else f"{one.p_non_dominated:.2f}",
        *([] if one.place is None else [str(one.seeds), str(one.place)]),
    )


def write_confirmation(
    result: Confirmation, folder: Path, formats: Iterable[str] | None = None, stem: str = "confirm"
) -> list[Path]:
    """Write `<stem>.<format>` for `csv`, `json`, `png` and `svg`; other formats of a front are skipped.

    Raises:
        EnvironmentFault: the folder cannot be written.
    """
    from invact.files import write_atomically
    from invact.reports.figures.confirmation import confirmation_figure
    from invact.reports.figures.style import picture

    writers = {
        "csv": lambda: csv_of(result.to_pandas()).encode(),
        "json": lambda: (json.dumps(confirmation_values(result), indent=2, allow_nan=False) + "\n").encode(),
        "png": lambda: picture(confirmation_figure(result), "png"),
        "svg": lambda: picture(confirmation_figure(result), "svg"),
    }
    paths = []
    for name in writers if formats is None else dict.fromkeys(formats):
        if name in writers:
            paths.append(Path(folder) / f"{stem}.{name}")
            write_atomically(paths[-1], writers[name]())
    return paths
