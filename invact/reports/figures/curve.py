"""Figure of accuracy against width: the treatment's curve, the control's level and the equivalence ratio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from invact.reports.figures.style import FAINT, INK, looks_of, quantity, style
from invact.statistics.ratios.local import LocalRatio

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

__all__ = ["curve_figure"]


def curve_figure(
    panels: Sequence[tuple[str, ArrayLike, ArrayLike, ArrayLike, LocalRatio]],
    arms: tuple[str, str],
    title: str = "",
) -> Figure:
    """Draw accuracy against width, one panel for each measure of width.

    A panel shows every run, the mean of each width, the fitted curve of the treatment with its band, the
    control's mean with its interval, and, as a shaded span, the widths at which the treatment may be as
    accurate as the control. A single open end reaches the border.

    Args:
        panels: for each panel (name of the measure, widths, accuracies as fractions, True for the treatment,
            local ratio); the arrays have shape (n,) with one value for each run.
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
    ratio: LocalRatio,
    arms: tuple[str, str],
) -> None:
    x, y, treated = (
        np.asarray(widths, float),
        100 * np.asarray(accuracies, float),
        np.asarray(treatment, bool),
    )
    looks = looks_of(arms)
    for arm, mask in zip(arms, (~treated, treated), strict=True):
        color, marker, _ = looks[arm]
        axes.scatter(x[mask], y[mask], s=22, c=color, marker=marker, alpha=0.45, linewidths=0)
        steps = np.unique(x[mask])
        means = [y[mask & (x == step)].mean() for step in steps]
        axes.scatter(
            steps, means, s=46, c=color, marker=marker, edgecolors="white", linewidths=0.8, label=arm
        )
    control, ours = (looks[arm][0] for arm in arms)
    low, high = 100 * np.array(ratio.band).T
    axes.plot(ratio.widths, 100 * np.array(ratio.fit), color=ours, linewidth=1.6)
    axes.fill_between(ratio.widths, low, high, color=ours, alpha=0.15, linewidth=0)
    axes.axhline(100 * ratio.level, color=control, linewidth=1.2, linestyle="--")
    axes.axhspan(*(100 * end for end in ratio.level_interval), color=control, alpha=0.12, linewidth=0)
    axes.set_xscale("log")
    left, right = axes.get_xlim()
    ends = (
        (left if ratio.low is None else ratio.low * ratio.control_width),
        (right if ratio.high is None else ratio.high * ratio.control_width),
    )
    if ratio.interval != (None, None):
        axes.axvspan(*ends, color=FAINT, alpha=0.15, linewidth=0)
    for end, at in zip(ratio.interval, ends, strict=True):
        if end is not None:
            axes.axvline(at, color=FAINT, linewidth=0.9, linestyle=":")
    axes.set_xlim(left, right)
    axes.set_xticks(_apart(np.unique(x)), minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xticklabels([quantity(tick) for tick in axes.get_xticks()], rotation=45, fontsize=9)
    axes.set_xlabel(what)
    axes.set_ylabel("Test accuracy, %")
    about = "not identified" if ratio.estimate is None else f"{ratio.estimate:.3f}"
    between = " to ".join("open" if end is None else f"{end:.3f}" for end in ratio.interval)
    axes.set_title(
        f"ratio {about} ({between})", loc="left", fontsize=10.5, color=INK if ratio.identifiable else FAINT
    )
    axes.legend(loc="lower right")


def _apart(values: NDArray[np.float64]) -> list[float]:
    """Choose values whose tick labels do not touch on a logarithmic axis."""
    chosen = [float(values[0])]
    gap = np.log(values[-1] / values[0]) / 16
    for value in values[1:].tolist():
        if np.log(value / chosen[-1]) >= gap:
            chosen.append(value)
    return chosen
