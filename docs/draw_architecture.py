"""Draws architecture.png: the packages of invact in their layers, with the imports between them.

    python docs/draw_architecture.py docs/architecture.png

The layers are those of the import contract in pyproject.toml, and the arrows are read from the code.
"""

from __future__ import annotations

import itertools
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import grimp
import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Curve

__all__ = ["PURPOSES", "draw", "imports", "layers", "reduced"]

ROOT = Path(__file__).parents[1]

PURPOSES = {
    "cli": "the command invact",
    "testing": "contract tests for\nyour own extensions",
    "sweeps": "from a sweep's file to its front",
    "search": "proposes configurations,\nrefuses those over budget",
    "claims": "from a claim's file\nto its verdict",
    "deploy": "exports networks,\nmeasures their latency",
    "reports": "tables, pictures and files",
    "execution": "trains on Dask workers",
    "fronts": "Pareto fronts as data",
    "tracking": "the record in MLflow",
    "training": "one training, one result",
    "networks": "from a configuration\nto a Keras model",
    "analysis": "filter pairs, dead units,\ngradients, rank",
    "cost": "counts MACs, weights,\nmemory",
    "data": "data sets and\naugmentation",
    "spaces": "search spaces",
    "statistics": "tests, ratios,\nfronts",
}
"""What each package does, in the few words that fit into its box."""

CENTRES = {
    "cli": 1.0,
    "testing": 2.5,
    "sweeps": 1.5,
    "search": 2.5,
    "claims": 0.5,
    "deploy": 1.5,
    "reports": 0.25,
    "execution": 1.5,
    "fronts": 0.25,
    "tracking": 1.5,
    "training": 1.5,
    "networks": 2.0,
    "analysis": 0.25,
    "statistics": 1.0,
    "data": 0.0,
    "cost": 2.0,
    "spaces": 3.0,
}
"""The centre of each box in its layer, in columns from the left, chosen so that few arrows cross."""

COLUMN, ROW, WIDTH, HEIGHT, GAP = 2.9, 1.22, 2.3, 0.74, 0.16
INK, QUIET, LINE, FACE, BAND = "#1f2933", "#52606d", "#7b8794", "#ffffff", "#f3f6f9"
ACCENT, ROOT_FACE = "#0072b2", "#eef2f5"


def layers() -> list[list[str]]:
    """Read the layers of the packages from the import contract, from the top to the bottom.

    Example:
        >>> layers()[1]
        ['sweeps']
    """
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (contract,) = [contract for contract in contracts if contract["id"] == "layers"]
    rows = [re.findall(r"\w+", layer) for layer in contract["layers"]]
    return [packages for row in rows if (packages := [name for name in row if _is_package(name)])]


def root_modules() -> list[str]:
    """List the modules directly in invact, which every package may import.

    Example:
        >>> "config" in root_modules()
        True
    """
    modules = (path.stem for path in (ROOT / "invact").glob("*.py") if not path.stem.startswith("_"))
    return sorted(["process", *modules])


def imports() -> set[tuple[str, str]]:
    """Read from the code which package imports which, for type annotations too.

    Example:
        >>> ("networks", "cost") in imports()
        True
    """
    graph = grimp.build_graph("invact", exclude_type_checking_imports=False)
    found = set()
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            pair = module.split(".")[1:2], imported.split(".")[1:2]
            if pair[0] != pair[1] and all(map(_is_package, pair[0] + pair[1])):
                found |= {(one, other) for one in pair[0] for other in pair[1]}
    return found


def reduced(pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Leave out the imports that a longer path of imports implies (the transitive reduction).

    Example:
        >>> sorted(reduced({("a", "b"), ("b", "c"), ("a", "c")}))
        [('a', 'b'), ('b', 'c')]
    """
    pairs = set(pairs)
    below: dict[str, set[str]] = {}

    def reach(name: str) -> set[str]:
        if name not in below:
            direct = {other for one, other in pairs if one == name}
            below[name] = direct.union(*map(reach, direct))
        return below[name]

    return {
        (one, other)
        for one, other in pairs
        if not any(other in reach(middle) for start, middle in pairs if start == one and middle != other)
    }


def draw(path: Path) -> None:
    """Draw the picture into a PNG file."""
    rows = layers()
    pairs = reduced(imports())
    places = {
        name: (COLUMN * CENTRES.get(name, index), -ROW * row)
        for row, names in enumerate(rows)
        for index, name in enumerate(names)
    }
    left, right = -WIDTH / 2 - 0.35, COLUMN * 3 + WIDTH / 2 + 0.35
    bottom = -ROW * len(rows) - 0.8
    top = HEIGHT / 2 + 0.75
    figure = Figure(figsize=(right - left, top - bottom))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left, right), ylim=(bottom, top))
    axes.set_axis_off()
    axes.text(
        left + 0.2, top - 0.25, "invact: packages in layers", size=15, weight="bold", color=INK, va="center"
    )
    for row in range(len(rows)):
        band = FancyBboxPatch(
            (left + 0.12, -ROW * row - ROW / 2 + 0.07),
            *(right - left - 0.24, ROW - 0.14),
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=BAND,
            edgecolor="none",
            zorder=0,
        )
        axes.add_patch(band)
    for curve in _curves(pairs, places).values():
        _arrow(axes, curve)
    for name, (x, y) in places.items():
        _box(axes, x, y, WIDTH, name, PURPOSES.get(name, ""))
    middle = (left + right) / 2
    _box(
        *(axes, middle, -ROW * len(rows) + 0.02, right - left - 0.24, "root modules"),
        ", ".join(root_modules()) + ": every package may import these",
        face=ROOT_FACE,
    )
    caption = (
        "An arrow is an import; imports go down only. Two kinds are not drawn: imports of the root modules, "
        "and imports that a longer path of arrows implies."
    )
    axes.text(middle, bottom + 0.2, caption, size=8.5, color=QUIET, ha="center", va="center")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _is_package(name: str) -> bool:
    # Like the modules of the root, every package may import it, so its arrows would say nothing.
    return name != "process" and (ROOT / "invact" / name / "__init__.py").is_file()


def _curves(
    pairs: Iterable[tuple[str, str]], places: Mapping[str, tuple[float, float]]
) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Find the points that each arrow passes: from below one box, between other boxes, to the top of one."""
    pairs = list(pairs)
    lanes: dict[float, list[float]] = {}
    ways: dict[tuple[str, str], list[tuple[float, float]]] = {}
    # Short arrows are placed first, because they have the fewest places to choose from.
    for pair in sorted(pairs, key=lambda pair: (places[pair[0]][1] - places[pair[1]][1], pair)):
        (x0, y0), (x1, y1) = (places[name] for name in pair)
        crossed = [round(y0 - ROW * step, 6) for step in range(1, round((y0 - y1) / ROW))]
        ways[pair] = _way(x0, x1, crossed, places, lanes)
    curves = {}
    for pair in pairs:
        (x0, y0), (x1, y1) = (places[name] for name in pair)
        leaving = {one: (ways[one] or [places[one[1]]])[0][0] for one in pairs if one[0] == pair[0]}
        arriving = {one: (ways[one] or [places[one[0]]])[-1][0] for one in pairs if one[1] == pair[1]}
        curves[pair] = [
            (x0 + _port(pair, leaving), y0 - HEIGHT / 2),
            *((x, y + side * HEIGHT / 2) for x, y in ways[pair] for side in (1, -1)),
            (x1 + _port(pair, arriving), y1 + HEIGHT / 2),
        ]
    return curves


def _way(
    x0: float,
    x1: float,
    crossed: list[float],
    places: Mapping[str, tuple[float, float]],
    lanes: dict[float, list[float]],
) -> list[tuple[float, float]]:
    """Choose where an arrow passes each layer: with few bends, clear of boxes and of other arrows."""
    candidates = [round(step * 0.02, 2) for step in range(-70, round((COLUMN * 3 + 1.4) / 0.02))]

    def free(y: float) -> set[float]:
        boxes = [x for x, height in places.values() if abs(height - y) < ROW / 2]
        return {
            x
            for x in candidates
            if all(abs(x - box) > WIDTH / 2 + GAP for box in boxes)
            and all(abs(x - other) > GAP for other in lanes.get(y, []))
        }

    # Dynamic programming over the layers: the way to each free place with the least sideways travel.
    best = {x0: (0.0, [])}
    for y in crossed:
        best = {
            x: min(
                (
                    (cost + abs(x - before) + 0.05 * (x != before), [*way, (x, y)])
                    for before, (cost, way) in best.items()
                ),
                key=lambda found: found[0],
            )
            for x in free(y)
        }
    _, way = min(best.values(), key=lambda found: found[0] + abs((found[1] or [(x0, 0)])[-1][0] - x1))
    for x, y in way:
        lanes.setdefault(y, []).append(x)
    return way


def _port(pair: tuple[str, str], others: Mapping[tuple[str, str], float]) -> float:
    """Spread the arrows of one box along its edge, in the order in which they come or go."""
    order = sorted(others, key=lambda one: (others[one], one))
    return 0.0 if len(order) == 1 else WIDTH * 0.56 * (order.index(pair) / (len(order) - 1) - 0.5)


def _arrow(axes: mpl.axes.Axes, points: list[tuple[float, float]]) -> None:
    vertices, codes = [points[0]], [Curve.MOVETO]
    for number, ((x0, y0), (x1, y1)) in enumerate(itertools.pairwise(points)):
        last = number == len(points) - 2
        y1 += 0.09 * last
        bend = (y0 - y1) * 0.5
        vertices += [(x0, y0 - bend), (x1, y1 + bend), (x1, y1)]
        codes += [Curve.CURVE4] * 3
    axes.add_patch(
        PathPatch(Curve(vertices, codes), facecolor="none", edgecolor=LINE, linewidth=1.3, zorder=2)
    )
    x, y = points[-1]
    axes.add_patch(
        Polygon(
            [(x, y), (x - 0.055, y + 0.13), (x + 0.055, y + 0.13)], facecolor=LINE, edgecolor="none", zorder=2
        )
    )


def _box(
    axes: mpl.axes.Axes, x: float, y: float, width: float, name: str, purpose: str, *, face: str = FACE
) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - HEIGHT / 2),
            *(width, HEIGHT),
            boxstyle="round,pad=0,rounding_size=0.1",
            facecolor=face,
            edgecolor=ACCENT,
            linewidth=1.2,
            zorder=3,
        )
    )
    shift = 0.05 * purpose.count("\n")
    text = {"ha": "center", "va": "center", "zorder": 4}
    axes.text(x, y + 0.13 + shift, name, size=11.5, weight="bold", color=INK, **text)
    axes.text(x, y - 0.14 + 0.2 * shift, purpose, size=8.3, color=QUIET, linespacing=1.2, **text)


if __name__ == "__main__":
    draw(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "docs" / "architecture.png"))
