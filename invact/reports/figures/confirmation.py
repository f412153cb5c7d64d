"""Figure of a confirmation: the accuracy that selected each point, and its accuracies on fresh seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from invact.reports.figures.style import FAINT, INK, amount, arm_of, arm_styles, blank, style
from invact.text import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from invact.fronts.confirmation import Confirmation

__all__ = ["confirmation_figure"]


def confirmation_figure(result: Confirmation) -> Figure:
    """Draw a row for each point: the accuracy that selected it, fresh validation and fresh test accuracy."""
    with style():
        return _confirmation_figure(result)


def _confirmation_figure(result: Confirmation) -> Figure:
    from matplotlib.lines import Line2D

    figure = blank(8.6, 2.2 + 0.62 * len(result.points))
    axes = figure.add_subplot()
    arms = arm_styles(result.front)
    for row, one in enumerate(result.points):
        color, marker, _ = arms[arm_of(one.point.values)]
        selected = 100 * one.point.accuracy
        if one.validation is not None:
            fresh = 100 * one.validation.value
            # The length of the line is the optimism of selection.
            axes.plot([selected, fresh], [row - 0.14] * 2, color=color, linewidth=2, alpha=0.5, zorder=1)
            axes.plot(fresh, row - 0.14, marker, color=color, markersize=8, markeredgecolor="white", zorder=3)
        axes.plot(
            selected, row - 0.14, marker, color=color, markerfacecolor="white", markersize=8, zorder=2.5
        )
        if one.test is not None:
            if one.test.low is not None and one.test.high is not None:
                ends = [100 * one.test.low, 100 * one.test.high]
                axes.plot(ends, [row + 0.2] * 2, color=INK, linewidth=2, solid_capstyle="butt", zorder=1)
            axes.plot(100 * one.test.value, row + 0.2, "|", color=INK, markersize=11, markeredgewidth=2)
        stays = {True: "stays", False: "dominated", None: "no run"}[one.non_dominated]
        if one.place is not None:
            stays = str(one.place)
        share = "" if one.p_non_dominated is None else f", P {one.p_non_dominated:.2f}"
        axes.annotate(
            stays + share,
            *((1, row), (8, 0), axes.get_yaxis_transform()),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            color=INK if one.non_dominated else FAINT,
            annotation_clip=False,
        )
    axes.margins(x=0.04)
    axes.set_ylim(len(result.points) - 0.4, -0.6)
    names = [
        f"{plain(one.point.label)}\n{amount(one.point.cost, result.front.measure)}" for one in result.points
    ]
    axes.set_yticks(range(len(names)), [_folded(name) for name in names], fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("Accuracy, %")
    axes.set_title(
        f"{result.name}: the front on {result.counted} fresh seeds",
        loc="left",
        fontsize=14,
        fontweight="bold",
        color=INK,
        pad=10,
    )
    dot: dict[str, Any] = {"marker": "o", "color": FAINT, "markersize": 8, "linestyle": ""}
    figure.legend(
        handles=[
            Line2D([], [], markerfacecolor="white", label="validation that selected", **dot),
            Line2D([], [], label="fresh validation", **dot),
            Line2D([], [], color=INK, linewidth=2, label="fresh test, 95% interval"),
        ],
        loc="outside lower center",
        ncols=3,
        fontsize=10,
        handletextpad=0.4,
    )
    return figure


def _folded(label: str, width: int = 34) -> str:
    from textwrap import fill

    return "\n".join(fill(line, width) for line in label.split("\n"))
