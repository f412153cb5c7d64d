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
        "points": [asdict(one) for one in result.points],
    }


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
    )
    return Listing(
        f"{result.name}: the front on {len(result.seeds)} fresh seeds",
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
