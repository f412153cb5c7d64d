"""The report of a front: files, JSON values, and a table for the terminal."""

from __future__ import annotations

import functools
import json
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from invact.files import formats_of, write_atomically
from invact.fronts.pareto import ParetoFront, Point
from invact.measures import MEASURES
from invact.reports.figures import claim_figure, front_figure, interactive_front
from invact.reports.figures.bands import gap_figure, trust_text, verdict_text
from invact.reports.figures.front import statuses
from invact.reports.figures.style import amount, picture, quantity
from invact.reports.tables import Column, Listing
from invact.statistics.fronts.uncertainty import DIGITS
from invact.text import csv_of

if TYPE_CHECKING:
    from invact.fronts.uncertainty import Uncertainty

__all__ = ["FORMATS", "claim_figure", "file_names", "front_figure", "front_table", "write_front"]

SCHEMA = "invact.front/3"
"""From version 3 on, `budget` and all costs below `uncertainty` are values of `measure`, MACs or another."""

NEAR = 0.05
"""The table shows a dominated configuration that is on the front with at least this probability."""


def write_front(
    front: ParetoFront, folder: Path, formats: Iterable[str] | None = None, stem: str = "front"
) -> list[Path]:
    """Write `<stem>.<format>` for each format; the same front gives the same bytes.

    If the front has gaps between arms, `<stem>_gap.png` or `<stem>_gap.svg` is written with the figure.

    Args:
        front: the front to write.
        folder: folder of the files; created if it does not exist.
        formats: formats from `FORMATS`; all of them unless given. `csv` is `ParetoFront.to_pandas`. `json`
            has every number at full precision, the reference, the hypervolume and the versions of the
            libraries. `html` opens without a network.
        stem: name of the files without the format.

    Returns:
        The paths of the files, in the order of `formats`.

    Raises:
        InputError: a format is unknown; nothing is written.
        EnvironmentFault: the folder cannot be written.

    Example:
        >>> import tempfile
        >>> empty = ParetoFront("none", (), (), (), (0.0, 0.0), 0.0)
        >>> [path.name for path in write_front(empty, Path(tempfile.mkdtemp()), ["csv", "json"])]
        ['front.csv', 'front.json']
    """
    chosen = formats_of(FORMATS if formats is None else formats, FORMATS)
    # Placing the labels takes as long as drawing, so both pictures are of one figure.
    figure, gaps = functools.cache(lambda: front_figure(front)), functools.cache(lambda: gap_figure(front))
    paths = []
    for name in chosen:
        path = Path(folder) / f"{stem}.{name}"
        write_atomically(path, picture(figure(), name) if name in PICTURES else FORMATS[name](front))
        paths.append(path)
        if name in PICTURES and _has_gaps(front):
            paths.append(path.with_stem(f"{stem}_gap"))
            write_atomically(paths[-1], picture(gaps(), name))
    return paths


def _csv(front: ParetoFront) -> bytes:
    return csv_of(front.to_pandas()).encode()


def front_values(front: ParetoFront) -> dict[str, Any]:
    """Convert a front to the JSON-like values of `front.json` and `--json`.

    Example:
        >>> front_values(ParetoFront("none", (), (), (), (0.0, 0.0), 0.0))["front"]
        []
    """
    from importlib.metadata import version

    from invact._version import __version__

    libraries = {name: version(name) for name in ("numpy", "pandas")}
    uncertainty = None
    if front.uncertainty is not None:
        gaps = [asdict(one) | {"verdict": one.verdict} for one in front.uncertainty.gaps]
        uncertainty = asdict(front.uncertainty) | {"gaps": gaps}
    return {
        "schema": SCHEMA,
        "name": front.name,
        "measure": front.measure,
        "reference": {"accuracy": front.reference[0], front.measure: front.reference[1]},
        "hypervolume": front.hypervolume,
        "budget": front.budget,
        "budgets": dict(front.budgets),
        "min_accuracy": front.min_accuracy,
        "winner": None if front.winner is None else asdict(front.winner),
        # Not `asdict`, which copies every value; that takes longer than anything else here.
        "front": [dict(vars(point)) for point in front.points],
        "dominated": [dict(vars(point)) for point in front.dominated],
        "apart": [dict(vars(one)) for one in front.apart],
        "uncertainty": uncertainty,
        "note": trust_text(front) or None,
        "versions": {"invact": __version__, "python": platform.python_version(), **libraries},
    }


def _json(front: ParetoFront) -> bytes:
    return (json.dumps(front_values(front), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _html(front: ParetoFront) -> bytes:
    # The id is fixed because Plotly's own is random. plotly.js is included so that no network is needed.
    page: str = interactive_front(front).to_html(
        include_plotlyjs=True,
        div_id="front",
        # By default Plotly shows a button that uploads the chart to Plotly's servers.
        config={"displaylogo": False, "responsive": True, "showSendToCloud": False},
    )
    return page.encode()


FORMATS: Mapping[str, Callable[[ParetoFront], bytes]] = MappingProxyType(
    {
        "csv": _csv,
        "json": _json,
        "png": lambda front: picture(front_figure(front), "png"),
        "svg": lambda front: picture(front_figure(front), "svg"),
        "html": _html,
    }
)
"""The formats of `write_front`: name -> function that makes the content of the file."""

PICTURES = ("png", "svg")


def _has_gaps(front: ParetoFront) -> bool:
    return front.uncertainty is not None and bool(front.uncertainty.gaps)


def file_names(front: ParetoFront, stem: str = "front") -> list[str]:
    """Return the names of the files that `write_front` writes in all formats.

    Example:
        >>> file_names(ParetoFront("none", (), (), (), (0.0, 0.0), 0.0))
        ['front.csv', 'front.json', 'front.png', 'front.svg', 'front.html']
    """
    gaps = PICTURES if _has_gaps(front) else ()
    return [*(f"{stem}.{name}" for name in FORMATS), *(f"{stem}_gap.{name}" for name in gaps)]


def front_table(front: ParetoFront) -> Listing:
    """Make a table of the front for the terminal; in a file or a pipe it is plain text.

    Example:
        >>> front_table(ParetoFront("none", (), (), (), (0.0, 0.0), 0.0)).row_count
        0
    """
    accuracy, cost = front.reference
    sure = front.uncertainty
    parts = [
        f"{len(front.dominated)} dominated",
        *(f"{len(group)} {name}" for name, group in statuses(front)),
    ]
    caption = [] if front.winner is None else [str(front.winner)]
    if front.min_accuracy is not None:
        reached = sum(round(point.accuracy, DIGITS) >= front.min_accuracy for point in front.points)
        caption.append(
            f"{reached} of {len(front.points)} points of the front have the required validation accuracy of "
            f"{100 * front.min_accuracy:g}%"
        )
    caption += [
        ", ".join(parts),
        f"hypervolume {quantity(front.hypervolume)} to ({accuracy:.0%}, {amount(cost, front.measure)})",
    ]
    near: list[Point] = []
    if sure is not None:
        near = [one for one in front.dominated if (one.p_non_dominated or 0) >= NEAR]
        caption += [
            f"{len(sure.seeds)} seeds; +-: {sure.confidence:.0%} interval of test (pointwise), in points",
            "P: probability of being on the true front"
            f"{f'; below the line: dominated, P >= {NEAR:g}' * bool(near)}",
            *map(verdict_text, sure.gaps),
        ]
    if trust := trust_text(front):
        caption.append(trust)
    costs = _costs(front)
    shown = [*front.points, *near]
    # Digest and run are only in the files, because 80 columns are not enough for them.
    columns: dict[Column, list[str]] = {
        Column("configuration", "text", least=20, shared=True): [point.label for point in shown],
        **{column: [_cost(point, name) for point in shown] for name, column in costs.items()},
        Column("filters", rank=4, shared=True): [str(point.filters) for point in shown],
        Column("valid."): [f"{point.accuracy:.2%}" for point in shown],
        Column("test"): [
            "" if point.test_accuracy is None else f"{point.test_accuracy:.2%}" for point in shown
        ],
    }
    if sure is None:
        columns[Column("seeds", rank=3, shared=True)] = [str(point.seeds) for point in shown]
    else:
        # The number of seeds is in the caption to save a column.
        sureness = [_sureness(point, sure, n < len(front.points)) for n, point in enumerate(shown)]
        columns[Column("+-", rank=2)] = [half for half, _ in sureness]
        columns[Column("P")] = [share for _, share in sureness]
    columns[Column("trial")] = [str(point.trial) for point in shown]
    return Listing(
        front.name,
        tuple(columns),
        tuple(zip(*columns.values(), strict=True)),
        "\n".join(caption),
        rule=len(front.points),
    )


def _costs(front: ParetoFront) -> dict[str, Column]:
    """Columns of the costs: measure of the front, MACs, measures with a budget; else the parameters."""
    names = dict.fromkeys((front.measure, "macs", *(name for name in MEASURES if name in front.budgets)))
    if len(names) == 1:
        names["params"] = None
    # The front's own measure is always shown; a budget's measure is left out after all others.
    ranks = {"params": 5} | dict.fromkeys(front.budgets, 1) | {front.measure: 0, "latency_ms": 0}
    # Short headings save width. For the front's own measure, the caption has the complete label.
    heads = {name: measure.label for name, measure in MEASURES.items()} | {"params": "params"}
    heads[front.measure] = heads[front.measure].split()[0]
    return {name: Column(heads[name], rank=ranks.get(name, 1), shared=name == "params") for name in names}


def _cost(point: Point, name: str) -> str:
    cost = getattr(point, name)
    return "" if cost is None else quantity(cost)


def _sureness(point: Point, sure: Uncertainty, on_front: bool) -> tuple[str, str]:
    """The cells `+-` (half width of the band at the cost of a point of the front) and `P`."""
    if point.p_non_dominated is None:
        return "", ""
    # A point of the front is the best at its cost, so the band there is its own.
    at = sure.band.budgets.index(point.cost)
    half = f"{100 * (sure.band.high[at] - sure.band.attained[at]):.2f}" if on_front else ""
    return half, f"{point.p_non_dominated:.2f}"
