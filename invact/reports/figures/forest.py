"""Forest plot of the accuracy differences of a claim, with the margin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from invact.errors import InputError
from invact.reports.figures.style import INK, LIMIT, style
from invact.statistics.sequential.ladder import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

__all__ = ["claim_figure"]

_VERDICTS = {
    Verdict.SUPPORTED: ("#009E73", "D"),
    Verdict.REFUTED: ("#D55E00", "X"),
    Verdict.INCONCLUSIVE: ("#6B6B6B", "o"),
    Verdict.NO_ASSAY_SENSITIVITY: ("#6B6B6B", "s"),
}


def claim_figure(
    ratios: Sequence[float],
    differences: Sequence[ArrayLike],
    estimates: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    verdicts: Sequence[str],
    margin: float,
    *,
    title: str = "",
    level: float = 0.9,
) -> Figure:
    """Draw the accuracy differences of a claim as a forest plot, with its margin.

    Args:
        ratios: filters of the treatment divided by those of the control, one for each row.
        differences: treatment - control for each row, as fractions; shape (seeds,), one dot for each seed.
        estimates: estimated mean difference of each row, as a fraction. After a sequential stop it is not the
            mean of the differences.
        intervals: confidence interval of the mean of each row, as fractions.
        verdicts: verdict of each row.
        margin: non-inferiority margin, as a positive fraction.
        title: title above the plot.
        level: confidence level of the intervals, for the legend.

    Raises:
        InputError: the lengths differ.
    """
    received = [len(each) for each in (ratios, differences, estimates, intervals, verdicts)]
    if len(set(received)) > 1:
        raise InputError(
            f"ratios, differences, estimates, intervals, verdicts: received lengths {received}. "
            "Allowed: equal"
        )
    with style():
        return _claim_figure(ratios, differences, estimates, intervals, verdicts, margin, title, level)


def _claim_figure(
    ratios: Sequence[float],
    differences: Sequence[ArrayLike],
    estimates: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    verdicts: Sequence[str],
    margin: float,
    title: str,
    level: float,
) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(
        figsize=(8, 2.3 + 0.62 * len(ratios)), dpi=160, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    rows = zip(differences, estimates, intervals, verdicts, strict=True)
    for row, (each, estimate, interval, name) in enumerate(rows):
        values = 100 * np.asarray(each, dtype=float)
        color, marker = _VERDICTS[Verdict(name)]
        # The dots lie below the interval, so that neither hides the other.
        axes.scatter(
            values, np.full(len(values), row + 0.24), s=13, c=color, alpha=0.45, linewidths=0, zorder=2
        )
        axes.plot(
            [100 * end for end in interval], [row, row], color=color, linewidth=3, solid_capstyle="butt"
        )
        axes.scatter(
            [100 * estimate],
            [row],
            s=85,
            c=color,
            marker=marker,
            edgecolors="white",
            linewidths=0.9,
            zorder=4,
        )
        axes.annotate(
            str(name),
            *((1.0, row), (8, 0), axes.get_yaxis_transform()),
            textcoords="offset points",
            va="center",
            fontsize=10,
            fontweight="bold",
            color=color,
            annotation_clip=False,
        )
    axes.margins(x=0.06)
    low, high = axes.get_xlim()
    low, high = min(low, -130 * margin), max(high, 50 * margin)
    axes.axvspan(low, -100 * margin, color=LIMIT, alpha=0.06, linewidth=0)
    axes.axvline(-100 * margin, color=LIMIT, linewidth=1.4, linestyle=(0, (5, 3)), zorder=1)
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    # The texts extend in opposite directions, so that they do not overlap at a narrow margin.
    for place, text, color, side, dx in (
        (-100 * margin, f"margin \N{MINUS SIGN}{100 * margin:g}", LIMIT, "right", 3),
        (0, "equal", INK, "left", -3),
    ):
        axes.annotate(
            text,
            *((place, 1), (dx, 3), axes.get_xaxis_transform()),
            textcoords="offset points",
            ha=side,
            fontsize=9.5,
            color=color,
        )
    axes.set_xlim(low, high)
    axes.set_ylim(len(ratios) - 0.4, -0.6)
    axes.set_yticks(
        range(len(ratios)),
        [
            f"{ratio:g} \N{MULTIPLICATION SIGN} filters\nn = {np.size(each)}"
            for ratio, each in zip(ratios, differences, strict=True)
        ],
    )
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(
        "Test accuracy, treatment \N{MINUS SIGN} control, percentage points\n"
        f"bar: {level:.0%} interval of the mean; dots: seeds"
    )
    if title:
        axes.set_title(title, loc="left", fontsize=14, fontweight="bold", color=INK, pad=22)
    return figure
