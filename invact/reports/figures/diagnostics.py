"""QQ plots of the residuals of each arm, which show whether the assumption of the t test is plausible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from invact.errors import InputError
from invact.reports.figures.style import FAINT, INK, LIMIT, style
from invact.statistics.comparison.diagnostics import normal_envelope
from invact.statistics.comparison.inference import RESOLUTION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

__all__ = ["qq_figure"]

_COLUMNS = 3
_NAMED = 15
"""Up to this number of seeds, every point has a label."""
_APART = 4
"""With more seeds, only this many points have a label: those farthest outside the band."""


def qq_figure(
    panels: Mapping[str, ArrayLike],
    *,
    seeds: Mapping[str, Sequence[int]] | None = None,
    title: str = "",
    confidence: float = 0.95,
) -> Figure:
    """Draw the residuals of each arm, which are its accuracies minus their mean, against normal quantiles.

    The line has the mean and the standard deviation of the residuals. The band is `normal_envelope`: a whole
    normal sample of this size lies within it with the given confidence.

    Args:
        panels: arm -> accuracies minus the mean of the arm, as fractions; shape (n,), n at least 2.
        seeds: arm -> seed of each run; 0, 1, ... unless given.
        title: title above the panels.
        confidence: confidence level of the band.

    Raises:
        InputError: there is no panel, the residuals of a panel are not two or more finite numbers, or the
            number of its seeds differs from that of its residuals.
    """
    if not panels:
        raise InputError("panels: received none. Allowed: at least one arm")
    series = {name: _series(name, values) for name, values in panels.items()}
    named = {name: list((seeds or {}).get(name, range(len(values)))) for name, values in series.items()}
    for name, values in series.items():
        if len(named[name]) != len(values):
            raise InputError(f"seeds: {name}: received {len(named[name])} seeds. Allowed: {len(values)}")
    with style():
        return _qq_figure(series, named, title, confidence)


def _series(name: str, residuals: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(residuals, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise InputError(f"panels: {name}: received other values. Allowed: two or more finite numbers")
    return 100 * values


def _qq_figure(
    series: Mapping[str, NDArray[np.float64]],
    seeds: Mapping[str, Sequence[int]],
    title: str,
    confidence: float,
) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(_COLUMNS, len(series))
    rows = -(-len(series) // columns)
    figure = Figure(
        figsize=(0.9 + 3.3 * columns, (1.1 if title else 0.7) + 3.1 * rows),
        dpi=160,
        layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, wspace=0.03, hspace=0.03),
    )
    FigureCanvasAgg(figure)
    for number, (name, values) in enumerate(series.items(), start=1):
        _panel(figure.add_subplot(rows, columns, number), name, values, seeds[name], confidence)
    figure.supxlabel(
        f"Normal quantile\nnumbers: seeds; band: contains a whole normal sample with {confidence:.0%}",
        fontsize=10,
    )
    figure.supylabel(
        "Accuracy minus the mean of the arm,\npercentage points", fontsize=10, multialignment="center"
    )
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold", color=INK)
    return figure


def _panel(
    axes: Axes, name: str, values: NDArray[np.float64], seeds: Sequence[int], confidence: float
) -> None:
    order = np.argsort(values, kind="stable")
    from scipy import stats  # Here, because it takes a second, and only this figure needs it.

    quantiles, ordered = stats.probplot(values, fit=False)
    mean, sd = values.mean(), values.std(ddof=1)
    spread = np.ptp(values) > 100 * RESOLUTION
    beyond = np.zeros(len(values))
    if spread:
        low, high = (mean + sd * limits for limits in normal_envelope(len(values), confidence))
        beyond = np.maximum(low - ordered, ordered - high)
        axes.fill_between(quantiles, low, high, color=INK, alpha=0.07, linewidth=0)
        ends = 1.12 * quantiles[[0, -1]]
        axes.plot(ends, mean + sd * ends, color=FAINT, linewidth=1.2, zorder=1)
    # The tolerance is needed because two points always lie exactly on the limits.
    outside = beyond > 1e-9 * sd
    colors = np.where(outside, LIMIT, "#0072B2")
    axes.scatter(quantiles, ordered, s=30, c=colors, edgecolors="white", linewidths=0.7, zorder=3)
    named = list(range(len(values)))
    if len(values) > _NAMED:
        named = sorted(rank for rank in np.argsort(-beyond)[:_APART] if outside[rank])
    for number, rank in enumerate(named):
        # Labels alternate above and below, so that those of neighbours do not overlap.
        above = number % 2 == 1
        axes.annotate(
            str(seeds[order[rank]]),
            *((quantiles[rank], ordered[rank]), (-2, 5) if above else (2, -5)),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            fontsize=8,
            color=LIMIT if outside[rank] else "#555555",
        )
    axes.margins(x=0.1, y=0.1)
    axes.set_title(name, loc="left", fontsize=11, color=INK)
    note = f"n = {len(values)}" + ("" if spread else ", no spread")
    note += f", {outside.sum()} outside the band" if outside.any() else ""
    axes.annotate(note, (0.03, 0.97), xycoords="axes fraction", va="top", fontsize=9, color="#555555")
