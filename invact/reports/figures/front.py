"""Figure of the front of accuracy against cost, as an image."""
# pyplot is not used, because it has global state and needs a display.

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.fronts.pareto import Apart, ParetoFront, Point
from invact.fronts.points import Winner
from invact.measures import MEASURES
from invact.reports.figures.bands import accuracy_limits, draw_band, trust_text
from invact.reports.figures.style import (
    FAINT,
    INK,
    LIMIT,
    amount,
    arm_of,
    arm_styles,
    axis_text,
    blank,
    budget_text,
    on_log_axis,
    quantity,
    style,
    ticks_between,
)
from invact.text import plain
from invact.training.results import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

__all__ = [
    "front_figure",
    "limits",
    "required_text",
    "seeds_text",
    "stairs",
    "statuses",
    "subtitle",
    "winner_text",
]

_FARTHEST = 3.0
"""The axis shows excluded configurations up to this factor beyond the compared points and the budget."""


def statuses(front: ParetoFront) -> list[tuple[str, list[Apart]]]:
    """Group the excluded configurations by status, in the order of the figure."""
    named = [
        ("over budget", Status.OVER_BUDGET),
        ("pruned", Status.PRUNED),
        ("diverged", Status.DIVERGED),
        ("failed", Status.FAILED),
    ]
    groups = [(name, [one for one in front.apart if one.status == status]) for name, status in named]
    return [(name, group) for name, group in groups if group]


def limits(front: ParetoFront) -> tuple[float, float]:
    """Limits of the cost axis: all compared points, and excluded ones that are not too far away."""
    inside = [on_log_axis(point) for point in (*front.points, *front.dominated)]
    inside += [front.budget] if front.budget else []
    outside = [on_log_axis(one) for one in front.apart if one.cost is not None]
    if not inside:
        inside = outside or ([1e3, 1e6] if MEASURES[front.measure].counted else [0.1, 100.0])
    low, high = min(inside), max(inside)
    low = min([low, *(cost for cost in outside if cost * _FARTHEST >= low)])
    high = max([high, *(cost for cost in outside if cost <= high * _FARTHEST)])
    room = max((high / low) ** 0.06, 1.05)
    return low / room, high * room


def stairs(front: ParetoFront, end: float) -> tuple[list[float], list[float]]:
    """Corners of the best accuracy within a cost, as a step function up to `end`."""
    cost = [float(on_log_axis(point)) for point in front.points]
    accuracy = [100 * point.accuracy for point in front.points]
    return [*cost, *[end][: len(cost)]], [*accuracy, *accuracy[-1:]]


def subtitle(front: ParetoFront) -> str:
    """Text with the number of configurations and the hypervolume of the front."""
    accuracy, cost = front.reference
    return (
        f"{len(front.points)} on the front, {len(front.dominated)} dominated, {len(front.apart)} apart.  "
        f"Hypervolume {quantity(front.hypervolume)} to ({accuracy:.0%}, {amount(cost, front.measure)})"
    )


def seeds_text(front: ParetoFront) -> str:
    """Title of the accuracy axis, with the number of seeds of a point."""
    counts = sorted({point.seeds for point in (*front.points, *front.dominated)})
    if not counts or counts == [1]:
        return "Validation accuracy, %"
    seeds = f"mean of {'-'.join(str(n) for n in {counts[0]: 0, counts[-1]: 0})} seeds"
    if front.uncertainty is None:
        return f"Validation accuracy, %, {seeds}"
    return f"Accuracy, %, {seeds}\npoints: validation; grey: test"


def front_figure(front: ParetoFront) -> Figure:
    """Draw validation accuracy against cost (logarithmic axis), with the front as a step function.

    Each activation has its own colour and marker. With several seeds, the figure shows the band of test
    accuracy over budgets, and labels show the probability P of being on the true front.
    Excluded configurations are ticks in one row for each status below the axis; ticks beyond the axis are
    counted.
    """
    with style():
        return _front_figure(front)


def _front_figure(front: ParetoFront) -> Figure:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import NullFormatter, NullLocator

    rows = statuses(front)
    figure = blank(8, 5.4)
    grid = figure.add_gridspec(1 + bool(rows), 1, height_ratios=[20, 1.3 * len(rows)][: 1 + bool(rows)])
    axes = figure.add_subplot(grid[0])
    lowest = figure.add_subplot(grid[1], sharex=axes) if rows else axes
    told = "\n".join([subtitle(front), *textwrap.wrap(trust_text(front), 110)])
    pad = 24 + 12 * told.count("\n")
    axes.set_title(front.name, loc="left", fontsize=14, fontweight="bold", color=INK, pad=pad)
    axes.annotate(
        told,
        (0, 1),
        (0, 7),
        "axes fraction",
        textcoords="offset points",
        fontsize=10,
        color="#555555",
    )
    axes.set_ylabel(seeds_text(front))
    low, high = limits(front)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ticks = ticks_between(low, high)
    lowest.set_xticks(ticks, [quantity(tick) for tick in ticks])
    lowest.xaxis.set_minor_locator(NullLocator())
    lowest.xaxis.set_minor_formatter(NullFormatter())
    lowest.set_xlabel(axis_text(front.measure))

    arms = arm_styles(front)
    handles = []
    axes.plot(
        *stairs(front, min(high, front.budget or high)),
        drawstyle="steps-post",
        color=INK,
        linewidth=1.2,
        alpha=0.55,
        zorder=2,
    )
    for arm, (color, marker, _) in arms.items():
        for points, alpha, size in ((front.dominated, 0.35, 34), (front.points, 1.0, 70)):
            chosen = [point for point in points if arm_of(point.values) == arm]
            axes.scatter(
                [on_log_axis(point) for point in chosen],
                [100 * point.accuracy for point in chosen],
                s=size,
                c=color,
                marker=marker,
                alpha=alpha,
                linewidths=0.8,
                edgecolors="white",
                zorder=2 + alpha,
            )
        if arm:
            handles.append(Line2D([], [], color=color, marker=marker, markersize=8, linestyle="", label=arm))
    if front.points:
        handles.append(Line2D([], [], color=INK, alpha=0.55, linewidth=1.2, label="front"))
    if front.dominated:
        pale = Line2D(
            [], [], color=FAINT, marker="o", markersize=6, alpha=0.45, linestyle="", label="dominated"
        )
        handles.append(pale)
    if front.uncertainty is not None:
        handles += draw_band(axes, front.uncertainty, min(high, front.budget or high))
    if front.min_accuracy is not None:
        required = 100 * front.min_accuracy
        axes.axhline(required, color=LIMIT, linewidth=1.2, linestyle=(0, (1, 2)), zorder=1)
        handles.append(
            Line2D([], [], color=LIMIT, linewidth=1.2, linestyle=(0, (1, 2)), label=required_text(front))
        )
    if front.winner is not None and front.winner.point is not None:
        ring: dict[str, Any] = {
            "color": LIMIT,
            "marker": "o",
            "markersize": 15,
            "markerfacecolor": "none",
            "markeredgewidth": 1.8,
            "linestyle": "",
        }
        best = front.winner.point
        axes.plot([on_log_axis(best)], [100 * best.accuracy], zorder=4, **ring)
        handles.append(Line2D([], [], label=winner_text(front.winner), **(ring | {"markersize": 10})))
    if front.budget:
        for each in {axes, lowest}:
            each.axvline(front.budget, color=LIMIT, linewidth=1.2, linestyle=(0, (5, 3)), zorder=1)
        handles.append(
            Line2D(
                *([], []),
                color=LIMIT,
                linewidth=1.2,
                linestyle=(0, (5, 3)),
                label=budget_text(front),
            )
        )
    if rows:
        axes.tick_params(labelbottom=False)
        _strip(lowest, rows, low, high)
    if not front.points:
        axes.text(
            0.5, 0.5, "no finished configuration", ha="center", transform=axes.transAxes, color="#555555"
        )
        axes.set_yticks([])
    if handles:
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=_columns([str(handle.get_label()) for handle in handles]),
            columnspacing=1.3,
            fontsize=10,
            handletextpad=0.4,
        )
    axes.margins(y=0.1)
    axes.set_ylim(accuracy_limits(front))
    _label(figure, axes, front)
    return figure


def _columns(labels: Sequence[str]) -> int:
    """Number of columns of the legend, the most that fit into the figure; texts may differ in length."""
    for count in range(min(len(labels), 6), 1, -1):
        # A handle and its margins are as wide as about six characters; 90 of this size fit into a line.
        if sum(max(map(len, labels[first::count])) + 6 for first in range(count)) <= 90:
            return count
    return 1


def _strip(axes: Axes, rows: list[tuple[str, list[Apart]]], low: float, high: float) -> None:
    names = []
    for height, (name, group) in enumerate(rows):
        known = [on_log_axis(one) for one in group if one.cost is not None]
        shown = [cost for cost in known if low <= cost <= high]
        axes.plot(shown, [height] * len(shown), "|", color=INK, markersize=9, markeredgewidth=1.2, alpha=0.6)
        unbuilt = sum(one.macs is None for one in group)
        counts = {
            "never built": unbuilt,
            "not measured": len(group) - len(known) - unbuilt,
            "more \N{RIGHTWARDS ARROW}": sum(cost > high for cost in known),
        }
        notes = [f"{count} {what}" for what, count in counts.items() if count]
        if notes:
            axes.annotate(
                ", ".join(notes),
                *((1, height), (4, 0), axes.get_yaxis_transform()),
                textcoords="offset points",
                va="center",
                fontsize=9,
                color=INK,
                annotation_clip=False,
            )
        names.append(f"{name} ({len(group)})")
    axes.set_yticks(range(len(rows)), names, fontsize=9.5)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def _label(figure: Figure, axes: Axes, front: ParetoFront) -> None:
    """Label the points of the front; a label that would overlap something else is left out."""
    figure.draw_without_rendering()
    # Positions are known only after drawing; the layout must not change afterwards.
    figure.set_layout_engine("none")
    frame = axes.get_window_extent()
    every = [(on_log_axis(point), 100 * point.accuracy) for point in (*front.points, *front.dominated)]
    taken: list[Any] = []
    centres = axes.transData.transform(every) if every else np.empty((0, 2))
    best = [] if front.winner is None or front.winner.point is None else [front.winner.point]
    for point in dict.fromkeys([*best, *_outward(front.points)]):
        for dx, dy, ha, va in (
            (-7, 5, "right", "bottom"),
            (0, 8, "center", "bottom"),
            (7, -5, "left", "top"),
        ):
            text: Annotation = axes.annotate(
                point_text(point),
                *((on_log_axis(point), 100 * point.accuracy), (dx, dy)),
                textcoords="offset points",
                ha=ha,
                va=va,
                fontsize=9,
                color=INK,
                zorder=5,
            )
            box = text.get_window_extent()
            near = box.padded(3)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not near.count_contains(centres) and not near.count_overlaps(taken):
                taken.append(near)
                break
            text.remove()


def point_text(point: Point) -> str:
    """Label of a point, with the probability P of being on the true front."""
    return plain(point.label) + ("" if point.p_non_dominated is None else f", P {point.p_non_dominated:.2f}")


def winner_text(winner: Winner) -> str:
    """Legend of the ring around the winner."""
    return f"winner: {winner.goal}"


def required_text(front: ParetoFront) -> str:
    """Legend of the line at the required validation accuracy."""
    return f"required {100 * (front.min_accuracy or 0):g}%"


def _outward(points: Sequence[Point]) -> list[Point]:
    """Order points for labels: both ends, then middles, so that labels spread if not all of them fit."""
    order = list(points[:1]) + list(points[1:][-1:])
    spans = [(0, len(points) - 1)]
    for low, high in spans:
        if high - low > 1:
            middle = (low + high) // 2
            order.append(points[middle])
            spans += [(low, middle), (middle, high)]
    return order
