"""The outcome of a sweep for people and programs: files on disk, and a table in the terminal."""

from __future__ import annotations

import io
import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from invact.errors import EnvironmentFault, one_of
from invact.figures import claim_figure, front_figure, interactive_front
from invact.figures.front import statuses
from invact.figures.style import quantity, style
from invact.pareto import ParetoFront

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

__all__ = [
    "FORMATS",
    "claim_figure",
    "front_figure",
    "front_table",
    "picture",
    "write_atomically",
    "write_front",
]

SCHEMA = "invact.front/1"


def write_front(front: ParetoFront, folder: Path, formats: Iterable[str] | None = None) -> list[Path]:
    """Write `front.<format>` for each format; the same front gives the same bytes.

    Args:
        front: what to write.
        folder: created where it does not exist.
        formats: of `FORMATS`; all of them unless given. `csv` is `ParetoFront.to_pandas`. `json` holds every
            number at full precision, with the reference, the hypervolume and the versions that wrote it.
            `html` needs no network.

    Returns:
        The paths written, in the order of `formats`.

    Raises:
        InputError: an unknown format; nothing is written.
        EnvironmentFault: the folder cannot be written.

    Example:
        >>> import tempfile
        >>> empty = ParetoFront("none", (), (), (), (0.0, 0.0), 0.0)
        >>> [path.name for path in write_front(empty, Path(tempfile.mkdtemp()), ["csv", "json"])]
        ['front.csv', 'front.json']
    """
    chosen = list(dict.fromkeys(FORMATS if formats is None else formats))
    for name in chosen:
        if name not in FORMATS:
            raise one_of("format", name, FORMATS)
    paths = []
    for name in chosen:
        path = Path(folder) / f"front.{name}"
        write_atomically(path, FORMATS[name](front))
        paths.append(path)
    return paths


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Raises:
        EnvironmentFault: it cannot be written.
    """
    # In the same folder, as a rename does not cross file systems.
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        # The folder may be no folder, which is the error being reported.
        if draft.parent.is_dir():
            draft.unlink(missing_ok=True)


def picture(figure: Figure, kind: str) -> bytes:
    """Render a figure as `png` or `svg`; the same figure gives the same bytes.

    Example:
        >>> picture(front_figure(ParetoFront("none", (), (), (), (0.0, 0.0), 0.0)), "png")[1:4]
        b'PNG'
    """
    buffer = io.BytesIO()
    # The date and the version of the drawing library would make equal pictures differ.
    metadata: dict[str, Any] = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with style():
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def _csv(front: ParetoFront) -> bytes:
    return front.to_pandas().to_csv(index=False, lineterminator="\n").encode()


def front_values(front: ParetoFront) -> dict[str, Any]:
    """Put a front in JSON-like values: what `front.json` and `--json` hold.

    Example:
        >>> front_values(ParetoFront("none", (), (), (), (0.0, 0.0), 0.0))["front"]
        []
    """
    from importlib.metadata import version

    from invact import __version__

    libraries = {name: version(name) for name in ("numpy", "pandas")}
    return {
        "schema": SCHEMA,
        "name": front.name,
        "reference": {"accuracy": front.reference[0], "macs": front.reference[1]},
        "hypervolume": front.hypervolume,
        "budget": front.budget,
        "front": [asdict(point) for point in front.points],
        "dominated": [asdict(point) for point in front.dominated],
        "apart": [asdict(one) for one in front.apart],
        "versions": {"invact": __version__, "python": platform.python_version(), **libraries},
    }


def _json(front: ParetoFront) -> bytes:
    return (json.dumps(front_values(front), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _html(front: ParetoFront) -> bytes:
    # A fixed id, as Plotly's own is random; plotly.js inside, so that the file opens without a network.
    page: str = interactive_front(front).to_html(
        include_plotlyjs=True,
        div_id="front",
        # Plotly shows a button that uploads the chart to its makers, unless told not to.
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
"""What `write_front` can write: format -> its content."""


def front_table(front: ParetoFront) -> Table:
    """Tabulate the front for the terminal; printed to a file or a pipe, it is plain text.

    Example:
        >>> front_table(ParetoFront("none", (), (), (), (0.0, 0.0), 0.0)).row_count
        0
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    accuracy, macs = front.reference
    parts = [
        f"{len(front.dominated)} dominated",
        *(f"{len(group)} {name}" for name, group in statuses(front)),
    ]
    table = Table(
        title=Text(front.name, style="bold"),
        caption=Text(
            f"{', '.join(parts)}\n"
            f"hypervolume {quantity(front.hypervolume)} to ({accuracy:.0%}, {quantity(macs)} MACs)"
        ),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE,
    )
    # No "config" and no run: they are in the files, and 80 columns are not enough for both.
    table.add_column("configuration", overflow="fold", min_width=14)
    for name in ("MACs", "params", "filters", "valid.", "test", "seeds", "trial"):
        table.add_column(name, justify="right", no_wrap=True)
    for point in front.points:
        table.add_row(
            Text(point.label),
            quantity(point.macs),
            quantity(point.params),
            str(point.filters),
            f"{point.accuracy:.2%}",
            "" if point.test_accuracy is None else f"{point.test_accuracy:.2%}",
            str(point.seeds),
            str(point.trial),
        )
    return table
