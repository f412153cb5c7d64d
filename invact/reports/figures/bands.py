"""Figures of the uncertainty of a front: its band over budgets, and the gaps between its arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from invact.fronts.images import Known
from invact.fronts.pareto import ParetoFront
from invact.reports.figures.style import (
    FAINT,
    INK,
    LIMIT,
    arm_styles,
    axis_text,
    blank,
    quantity,
    style,
    ticks_between,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from invact.fronts.uncertainty import ArmGap, Uncertainty
    from invact.statistics.fronts.uncertainty import UncertainFront

__all__ = [
    "accuracy_limits",
    "band_text",
    "draw_band",
    "gap_figure",
    "percent",
    "possible",
    "stepped",
    "trust_text",
    "verdict_text",
]

ONE_SEED = "one seed cannot tell: in simulations 1 point in 6 is wrong, 1 in 3 is missing"
"""The shares are the means over the worlds of `python -m benchmarks.true_fronts --only one-seed`."""

_IMAGES: Mapping[Known, str] = {
    Known.HITS: "",
    Known.TEST_HITS: "the noise of the validation images is taken from the test images",
    Known.COUNT: "the noise of the validation images is known from their number only, so P is cautious",
    Known.NOTHING: "P does not include the noise of the validation images",
}

DASHED, DOTTED = (0, (4, 2)), (0, (1, 1.5))


def stepped(budgets: Sequence[float], values: Sequence[float], end: float) -> tuple[list[float], list[float]]:
    """Corners of a step function of the budget, in percent, from the first budget to `end`."""
    return [*budgets, max(end, budgets[-1])], [*percent(values), 100 * values[-1]]


def possible(band: UncertainFront) -> tuple[list[float], list[float]]:
    """Clip both limits of a band to [0, 1]; a t interval can exceed this range."""
    return [max(value, 0.0) for value in band.low], [min(value, 1.0) for value in band.high]


def percent(values: Sequence[float]) -> list[float]:
    """Convert fractions to percent."""
    return [100 * value for value in values]


def band_text(uncertainty: Uncertainty) -> str:
    """Text of the band in legends."""
    return f"test, pointwise {uncertainty.confidence:.0%} band"


def trust_text(front: ParetoFront) -> str:
    """Write one line on what the front does not show: with one seed, or without the noise of the images.

    It is empty if there is nothing to say.

    Example:
        >>> from invact.fronts.pareto import pareto_front_of
        >>> import pandas as pd
        >>> trust_text(pareto_front_of(pd.DataFrame(), "empty"))
        ''
    """
    if front.uncertainty is not None:
        return _IMAGES[front.uncertainty.validation_images]
    one = front.points and all(point.seeds == 1 for point in (*front.points, *front.dominated))
    return ONE_SEED if one else ""


def verdict_text(one: ArmGap) -> str:
    """Write the gap between two arms and its verdict in one line.

    Example:
        >>> from invact.fronts.uncertainty import ArmGap
        >>> from invact.statistics.fronts.gaps import FrontGap
        >>> gap = FrontGap((1e4, 2e4), (0.01, 0.02), (0.001, 0.01), (0.02, 0.03), 0.003, True, False)
        >>> verdict_text(ArmGap("relu", "inverse", 0.95, gap))
        "inverse - relu: +1.00 to +2.00 points (95% band +0.10 to +3.00), margin 0.3: ..."
    """
    gap = one.gap
    ends = (min(gap.gap), max(gap.gap), min(gap.low), max(gap.high))
    least, most, low, high = (f"{100 * end:+.2f}" for end in ends)
    level = f"{100 * one.confidence:.3g}%"
    return (
        f"{one.treatment} - {one.control}: {least} to {most} points ({level} band {low} to {high}), "
        f"margin {100 * gap.margin:g}: {one.verdict}"
    )


def accuracy_limits(front: ParetoFront) -> tuple[float, float] | None:
    """Limits of the accuracy axis in percent: all points, and as much of the band as leaves them readable."""
    if front.uncertainty is None:
        return None
    band = front.uncertainty.band
    shown = [100 * point.accuracy for point in (*front.points, *front.dominated)]
    shown += [*percent(band.attained), *percent([front.min_accuracy] if front.min_accuracy else [])]
    low, high = min(shown), max(shown)
    room = max(high - low, 1.0)
    low = min(low, max(100 * min(band.low), low - room, 0.0))
    high = max(high, min(100 * max(band.high), high + room, 100.0))
    return low - 0.05 * room, high + 0.05 * room


def draw_band(axes: Axes, uncertainty: Uncertainty, end: float) -> list[Line2D]:
    """Draw the band of test accuracy over budgets and the attainment surfaces; return the legend entries."""
    from matplotlib.lines import Line2D

    band = uncertainty.band
    low, high = (stepped(band.budgets, values, end) for values in possible(band))
    axes.fill_between(low[0], low[1], high[1], step="post", color=FAINT, alpha=0.22, linewidth=0, zorder=1)
    axes.plot(
        *stepped(band.budgets, band.attained, end),
        drawstyle="steps-post",
        color=FAINT,
        linewidth=1.2,
        linestyle=DASHED,
        zorder=1.5,
    )
    handles = [Line2D([], [], color=FAINT, linewidth=1.2, linestyle=DASHED, label=band_text(uncertainty))]
    for surface in uncertainty.surfaces:
        axes.plot(
            *stepped(surface.cost, surface.accuracy, end),
            drawstyle="steps-post",
            color=INK,
            linewidth=1.4 if surface.share == 0.5 else 0.8,
            linestyle=DOTTED,
            zorder=1.6,
        )
    if uncertainty.surfaces:
        shares = ", ".join(f"{100 * surface.share:g}" for surface in uncertainty.surfaces)
        label = f"attained by {shares}% of resamples"
        handles.append(Line2D([], [], color=INK, linewidth=1.2, linestyle=DOTTED, label=label))
    return handles


def gap_figure(front: ParetoFront) -> Figure:
    """Draw the gap between the fronts of two arms over budgets with the margin, one panel for each pair.

    The front must have gaps.
    """
    with style():
        return _gap_figure(front)


def _gap_figure(front: ParetoFront) -> Figure:
    from matplotlib.ticker import NullFormatter, NullLocator

    assert front.uncertainty is not None
    gaps = front.uncertainty.gaps
    budgets = [budget for one in gaps for budget in one.gap.budgets]
    start, last = min(budgets), max(budgets)
    # The gap at the last budget also holds for larger budgets; the last step needs some width to show this.
    end = 1.15 * last
    figure = blank(8, 1.5 + 2.7 * len(gaps))
    figure.suptitle(
        f"{front.name}: difference between the fronts of the arms",
        x=0.02,
        ha="left",
        fontsize=14,
        fontweight="bold",
        color=INK,
    )
    panels = figure.subplots(len(gaps), 1, sharex=True, squeeze=False)[:, 0]
    colors = {arm: color for arm, (color, _, _) in arm_styles(front).items()}
    for axes, one in zip(panels, gaps, strict=True):
        gap, color = one.gap, colors.get(one.treatment, INK)
        low, high = (stepped(gap.budgets, values, end) for values in (gap.low, gap.high))
        axes.fill_between(low[0], low[1], high[1], step="post", color=color, alpha=0.18, linewidth=0)
        axes.plot(*stepped(gap.budgets, gap.gap, end), drawstyle="steps-post", color=color, linewidth=1.8)
        axes.axhline(0, color=INK, linewidth=1, zorder=1)
        axes.axhline(-100 * gap.margin, color=LIMIT, linewidth=1.2, linestyle=DASHED, zorder=1)
        axes.annotate(
            f"margin \N{MINUS SIGN}{100 * gap.margin:g}",
            *((1, -100 * gap.margin), (4, 0), axes.get_yaxis_transform()),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            color=LIMIT,
            annotation_clip=False,
        )
        axes.set_title(
            f"{one.verdict} ({100 * one.confidence:.3g}% band)", loc="left", fontsize=10.5, color=INK
        )
        axes.set_ylabel(f"{one.treatment} \N{MINUS SIGN} {one.control},\npoints of test accuracy")
        axes.set_xscale("log")
    panels[-1].set_xlim(start / 1.05, end)
    ticks = ticks_between(start / 1.05, end)
    panels[-1].set_xticks(ticks, [quantity(tick) for tick in ticks])
    panels[-1].xaxis.set_minor_locator(NullLocator())
    panels[-1].xaxis.set_minor_formatter(NullFormatter())
    panels[-1].set_xlabel(f"Budget: {axis_text(front.measure)}")
    return figure
