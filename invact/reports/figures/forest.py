"""Forest plot of the accuracy differences of a claim, with the margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.errors import InputError
from invact.reports.figures.style import INK, LIMIT, blank, style
from invact.statistics.sequential.ladder import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

__all__ = ["VERDICTS", "beside", "claim_figure"]

VERDICTS = {
    Verdict.SUPPORTED: ("#009E73", "D"),
    Verdict.REFUTED: ("#D55E00", "X"),
    Verdict.INCONCLUSIVE: ("#6B6B6B", "o"),
    Verdict.NO_ASSAY_SENSITIVITY: ("#6B6B6B", "s"),
}
"""Colour and marker of each verdict."""


def claim_figure(
    ratios: Sequence[float],
    control: Sequence[ArrayLike],
    treatment: Sequence[ArrayLike],
    estimates: Sequence[float | None],
    intervals: Sequence[tuple[float, float] | None],
    verdicts: Sequence[str],
    margin: float,
    *,
    title: str = "",
    levels: Sequence[float | None] | None = None,
) -> Figure:
    """Draw the accuracy differences of a claim as a forest plot, with its margin.

    Args:
        ratios: filters of the treatment divided by those of the control, one for each row.
        control: accuracies of the control for each row, as fractions; shape (runs,).
        treatment: accuracies of the treatment for each row, as fractions; shape (runs,). The runs of the arms
            are independent, so each dot is a run of the treatment minus the mean of the control.
        estimates: estimated mean difference of each row, as a fraction; None without an interval.
        intervals: repeated confidence interval of the difference of each row, as fractions; None before the
            first look. Such a row has only its dots and its verdict.
        verdicts: verdict of each row.
        margin: non-inferiority margin, as a positive fraction.
        title: title above the plot.
        levels: error of the interval of each row on each side, as a fraction, to be written beside it.

    Raises:
        InputError: the lengths differ.
    """
    shown = [None] * len(ratios) if levels is None else levels
    received = [len(one) for one in (ratios, control, treatment, estimates, intervals, verdicts, shown)]
    if len(set(received)) > 1:
        raise InputError(
            "ratios, control, treatment, estimates, intervals, verdicts, levels: "
            f"received lengths {received}. Allowed: equal"
        )
    every = zip(ratios, control, treatment, estimates, intervals, verdicts, shown, strict=True)
    rows = [_Row(*one) for one in every]
    with style():
        return _claim_figure(rows, margin, title)


@dataclass(frozen=True)
class _Row:
    ratio: float
    control: ArrayLike
    treatment: ArrayLike
    estimate: float | None
    interval: tuple[float, float] | None
    verdict: str
    level: float | None

    @property
    def dots(self) -> NDArray[np.float64]:
        """Runs of the treatment minus the mean of the control, in points."""
        ours, theirs = (np.asarray(arm, dtype=float) for arm in (self.treatment, self.control))
        return 100 * (ours - theirs.mean()) if len(theirs) else np.empty(0)

    @property
    def label(self) -> str:
        """Ratio of filters and numbers of runs."""
        counts = f"n = {np.size(self.treatment)} and {np.size(self.control)}"
        return f"{self.ratio:g} \N{MULTIPLICATION SIGN} filters\n{counts}"


def _claim_figure(rows: Sequence[_Row], margin: float, title: str) -> Figure:
    figure = blank(8, 2.5 + 0.62 * len(rows))
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        color, marker = VERDICTS[Verdict(row.verdict)]
        # The dots lie below the interval, so that neither hides the other.
        dots = row.dots
        axes.scatter(
            dots, np.full(len(dots), place + 0.24), s=13, c=color, alpha=0.45, linewidths=0, zorder=2
        )
        if row.interval is not None and row.estimate is not None:
            axes.plot(
                [100 * end for end in row.interval],
                [place, place],
                color=color,
                linewidth=3,
                solid_capstyle="butt",
            )
            axes.scatter(
                [100 * row.estimate],
                [place],
                s=85,
                c=color,
                marker=marker,
                edgecolors="white",
                linewidths=0.9,
                zorder=4,
            )
            if row.level is not None:
                beside(axes, place, -14, f"{100 * (1 - 2 * row.level):.3g}% interval", "#555555")
        beside(axes, place, 0, str(row.verdict), color, fontsize=10, fontweight="bold")
    axes.margins(x=0.06)
    low, high = axes.get_xlim()
    low, high = min(low, -130 * margin), max(high, 50 * margin)
    axes.axvspan(low, -100 * margin, color=LIMIT, alpha=0.06, linewidth=0)
    axes.axvline(-100 * margin, color=LIMIT, linewidth=1.4, linestyle=(0, (5, 3)), zorder=1)
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    # The texts extend in opposite directions, so that they do not overlap at a narrow margin.
    for end, text, color, side, dx in (
        (-100 * margin, f"margin \N{MINUS SIGN}{100 * margin:g}", LIMIT, "right", 3),
        (0, "equal", INK, "left", -3),
    ):
        axes.annotate(
            text,
            *((end, 1), (dx, 3), axes.get_xaxis_transform()),
            textcoords="offset points",
            ha=side,
            fontsize=9.5,
            color=color,
        )
    axes.set_xlim(low, high)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(
        "Test accuracy, treatment \N{MINUS SIGN} control, percentage points\n"
        "n: runs of treatment and control; bar: repeated confidence interval\n"
        "dots: runs of the treatment minus the mean of the control"
    )
    if title:
        axes.set_title(title, loc="left", fontsize=14, fontweight="bold", color=INK, pad=22)
    return figure


def beside(axes: Axes, place: int, dy: int, text: str, color: str, **how: Any) -> None:
    """Write a text to the right of a row."""
    axes.annotate(
        text,
        *((1.0, place), (8, dy), axes.get_yaxis_transform()),
        textcoords="offset points",
        va="center",
        color=color,
        annotation_clip=False,
        **{"fontsize": 9, **how},
    )
