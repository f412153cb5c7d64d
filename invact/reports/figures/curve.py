"""Figure of accuracy against width for both arms of a claim, with the shared curve and the ratio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from invact.reports.figures.style import FAINT, INK, arm_style, quantity, style
from invact.statistics.ratios.equivalence import Ratio
from invact.statistics.ratios.shared_curve import SharedCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

__all__ = ["curve_figure"]


def curve_figure(
    panels: Sequence[tuple[str, ArrayLike, ArrayLike, ArrayLike, Ratio]],
    arms: tuple[str, str],
    title: str = "",
) -> Figure:
    """Draw accuracy against width, one panel for each measure of width.

    Args:
        panels: for each panel (name of the measure, widths, accuracies as fractions, True for the treatment,
            ratio by the shared curve); the arrays have shape (n,) with one value for each run.
        arms: names of control and treatment.
        title: title above the figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(5 * len(panels), 4.4), dpi=160, layout="constrained")
        FigureCanvasAgg(figure)
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _panel(axes, *panel, arms)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold", color=INK)
    return figure


def _panel(
    axes: Axes,
    what: str,
    widths: ArrayLike,
    accuracies: ArrayLike,
    treatment: ArrayLike,
    ratio: Ratio,
    arms: tuple[str, str],
) -> None:
    x, y, treated = np.asarray(widths, float), np.asarray(accuracies, float), np.asarray(treatment, bool)
    fit = ratio.fit
    for arm, mask, z in ((arms[0], ~treated, 0.0), (arms[1], treated, 1.0)):
        color, marker = arm_style(arm)
        axes.scatter(x[mask], 100 * y[mask], s=22, c=color, marker=marker, alpha=0.45, linewidths=0)
        steps = np.unique(x[mask])
        means = [100 * y[mask & (x == step)].mean() for step in steps]
        axes.scatter(
            steps, means, s=46, c=color, marker=marker, edgecolors="white", linewidths=0.8, label=arm
        )
        if isinstance(fit, SharedCurve) and not fit.problems:
            along = np.geomspace(steps[0], steps[-1], 200)
            model = fit.asymptote - np.exp(fit.b - np.exp(fit.c) * (np.log(along) + fit.shift * z))
            axes.plot(along, 100 * model, color=color, linewidth=1.6)
    axes.set_xscale("log")
    axes.set_xticks(_apart(np.unique(x)), minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xticklabels([quantity(tick) for tick in axes.get_xticks()], rotation=45, fontsize=9)
    axes.set_xlabel(what)
    axes.set_ylabel("Test accuracy, %")
    text = "ratio not identifiable"
    if ratio.estimate is not None and ratio.interval is not None:
        low, high = ratio.interval
        text = f"ratio {ratio.estimate:.3f} ({low:.3f} to {high:.3f})"
    axes.set_title(text, loc="left", fontsize=10.5, color=INK if ratio.identifiable else FAINT)
    axes.legend(loc="lower right")


def _apart(values: NDArray[np.float64]) -> list[float]:
    """Choose values whose tick labels do not touch on a logarithmic axis."""
    chosen = [float(values[0])]
    gap = np.log(values[-1] / values[0]) / 16
    for value in values[1:].tolist():
        if np.log(value / chosen[-1]) >= gap:
            chosen.append(value)
    return chosen
