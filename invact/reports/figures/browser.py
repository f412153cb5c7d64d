"""The front of accuracy against cost for a browser: a Plotly figure that describes each point on hovering."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from invact.fronts.pareto import Apart, ParetoFront, Point
from invact.measures import MEASURES, Measure
from invact.reports.figures.bands import (
    accuracy_limits,
    band_text,
    possible,
    stepped,
    trust_text,
    verdict_text,
)
from invact.reports.figures.front import (
    limits,
    required_text,
    seeds_text,
    stairs,
    statuses,
    subtitle,
    winner_text,
)
from invact.reports.figures.style import (
    FAINT,
    INK,
    LIMIT,
    arm_of,
    arm_styles,
    axis_text,
    budget_text,
    on_log_axis,
    quantity,
    ticks_between,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from invact.fronts.uncertainty import Uncertainty

__all__ = ["interactive_front"]


def interactive_front(front: ParetoFront) -> go.Figure:
    """Draw the front for a browser. The pointer shows configuration, costs, accuracies and run of a point."""
    from plotly.subplots import make_subplots

    rows = statuses(front)
    low, high = limits(front)
    heights = [1.0, 0.06 * len(rows)][: 1 + bool(rows)]
    figure: go.Figure = make_subplots(
        len(heights), 1, shared_xaxes=True, row_heights=heights, vertical_spacing=0.03 if rows else 0
    )
    cost, accuracy = stairs(front, min(high, front.budget or high))
    figure.add_scatter(
        x=cost,
        y=accuracy,
        mode="lines",
        line={"shape": "hv", "color": INK, "width": 1.2},
        opacity=0.55,
        hoverinfo="skip",
        name="front",
    )
    if front.uncertainty is not None:
        _add_band(figure, front.uncertainty, min(high, front.budget or high), MEASURES[front.measure])
    for arm, (color, _, symbol) in arm_styles(front).items():
        for points, place, opacity, size in (
            (front.points, "on the front", 1.0, 12),
            (front.dominated, "dominated", 0.35, 10),
        ):
            chosen = [point for point in points if arm_of(point.values) == arm]
            if not chosen:
                continue
            figure.add_scatter(
                x=[on_log_axis(point) for point in chosen],
                y=[100 * point.accuracy for point in chosen],
                mode="markers",
                marker={
                    "color": color,
                    "symbol": symbol,
                    "size": size,
                    "line": {"color": "white", "width": 1},
                },
                opacity=opacity,
                name=escape(f"{arm or 'configuration'}, {place}"),
                **_hover(chosen),
            )
    if front.winner is not None and front.winner.point is not None:
        best = front.winner.point
        figure.add_scatter(
            x=[on_log_axis(best)],
            y=[100 * best.accuracy],
            mode="markers",
            marker={"symbol": "circle-open", "size": 22, "color": LIMIT, "line": {"width": 2}},
            hoverinfo="skip",
            name=escape(winner_text(front.winner)),
        )
    if front.min_accuracy is not None:
        figure.add_hline(
            100 * front.min_accuracy,
            line={"color": LIMIT, "width": 2, "dash": "dot"},
            annotation={"text": required_text(front), "font": {"color": LIMIT}},
            row=1,
            col=1,
        )
    for height, (status, group) in enumerate(rows):
        known = [one for one in group if one.cost is not None]
        figure.add_scatter(
            x=[on_log_axis(one) for one in known],
            y=[height] * len(known),
            mode="markers",
            marker={"symbol": "line-ns-open", "size": 10, "color": INK, "line": {"width": 1.5}},
            name=status,
            showlegend=False,
            **_hover(known),
            row=2,
            col=1,
        )
    if front.budget:
        for row in range(1, len(heights) + 1):
            figure.add_vline(front.budget, line={"color": LIMIT, "width": 2, "dash": "dash"}, row=row, col=1)
        figure.add_annotation(
            x=math.log10(front.budget),
            y=1,
            yref="y domain",
            text=budget_text(front),
            font={"color": LIMIT},
            showarrow=False,
            yanchor="bottom",
        )
    ticks = ticks_between(low, high)
    figure.update_xaxes(
        type="log",
        range=[math.log10(low), math.log10(high)],
        tickvals=ticks,
        ticktext=[quantity(tick) for tick in ticks],
        zeroline=False,
    )
    figure.update_xaxes(title_text=axis_text(front.measure), row=len(heights), col=1)
    figure.update_yaxes(
        title_text=seeds_text(front).replace("\n", "<br>"),
        range=accuracy_limits(front),
        zeroline=False,
        row=1,
        col=1,
    )
    if rows:
        names = [f"{status} ({len(group)})" for status, group in rows]
        figure.update_yaxes(
            tickvals=list(range(len(rows))),
            ticktext=names,
            range=[len(rows) - 0.4, -0.6],
            showgrid=False,
            row=2,
            col=1,
        )
    gaps = front.uncertainty.gaps if front.uncertainty else ()
    winner = str(front.winner) if front.winner else ""
    lines = [subtitle(front), winner, trust_text(front), *map(verdict_text, gaps)]
    told = [escape(line) for line in lines if line]
    figure.update_layout(
        template="simple_white",
        title={"text": f"<b>{escape(front.name)}</b>", "subtitle": {"text": "<br>".join(told)}},
        height=600,
        legend={"orientation": "h", "yanchor": "top", "y": -0.14, "x": 0},
        hoverlabel={"align": "left", "bgcolor": "white", "font": {"color": INK}},
        margin={"t": 72 + 18 * len(told), "r": 30},
    )
    return figure


def _add_band(figure: go.Figure, uncertainty: Uncertainty, end: float, measure: Measure) -> None:
    band = uncertainty.band
    within = "%{x:,}" if measure.counted else "%{x:.4~g}"
    look: dict[str, Any] = {
        "mode": "lines",
        "line": {"shape": "hv", "width": 0},
        "fillcolor": "rgba(138, 138, 138, 0.22)",
    }
    for values, fill in zip(possible(band), (None, "tonexty"), strict=True):
        x, y = stepped(band.budgets, values, end)
        figure.add_scatter(x=x, y=y, fill=fill, hoverinfo="skip", showlegend=False, **look)
    curves = [(band_text(uncertainty), band.budgets, band.attained, {"color": FAINT, "dash": "dash"})]
    curves += [
        (
            f"attained by {100 * surface.share:g}% of resamples",
            *(surface.cost, surface.accuracy),
            {"color": INK, "dash": "dot"},
        )
        for surface in uncertainty.surfaces
    ]
    for name, cost, accuracy, line in curves:
        x, y = stepped(cost, accuracy, end)
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            line={"shape": "hv", "width": 1.2} | line,
            name=name,
            hovertemplate=f"%{{y:.2f}}% of the test images within {within} {measure.label}<extra></extra>",
        )


def _hover(chosen: Sequence[Point | Apart]) -> dict[str, Any]:
    # Plotly interprets HTML in texts, and a label may contain text of the user.
    return {
        "hovertext": [_description(one) for one in chosen],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _description(one: Point | Apart) -> str:
    lines = [f"<b>{escape(one.label)}</b> (trial {one.trial}, {escape(one.config)})"]
    lines += [
        f"{escape(name)} = {escape(str(value))}" for name, value in one.values.items() if value is not None
    ]
    known = {"MACs": one.macs, "parameters": one.params, "filters": one.filters}
    known |= {measure.label: getattr(one, name) for name, measure in MEASURES.items()}
    lines += [
        f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value:,.4g}"
        for name, value in known.items()
        if value is not None
    ]
    if isinstance(one, Point):
        lines.append(
            f"validation accuracy: {one.accuracy:.2%} (mean over {one.seeds} seed{'s'[: one.seeds > 1]})"
        )
        if one.test_accuracy is not None:
            lines.append(f"test accuracy: {one.test_accuracy:.2%}")
        if one.p_non_dominated is not None:
            lines.append(f"on the front in {one.p_non_dominated:.0%} of the resamples")
    else:
        lines.append(f"status: {one.status}")
    return "<br>".join([*lines, f"run {escape(one.run_id)}"])
