"""Figures of a summary: the accuracies of all rows, and the comparisons of all claims, as forest plots."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

from invact.reports.figures.forest import VERDICTS, beside
from invact.reports.figures.style import FAINT, INK, LIMIT, blank, looks_of, style
from invact.reports.labels import shorten, split_shared
from invact.reports.summary.rows import CONFIDENCE, Difference, Recorded, Row, Summary
from invact.statistics.sequential.ladder import Verdict
from invact.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from invact.fronts.confirmation import Mean

__all__ = ["MOST", "accuracy_figure", "comparisons", "difference_figure"]

MOST = 40
"""Most rows of one record in a figure; the other files have all."""

WIDTH = 44
"""Most characters in a line of a row's name."""

MINUS = "\N{MINUS SIGN}"
PUBLISHED = {"test_accuracy": "*", "validation_accuracy": "d"}
"""The markers of published figures, which are hollow. No activation has one of these shapes."""

RATIOS = {"filters": ("o", -0.13), "macs": ("s", 0.13)}
"""Marker and height of the equivalence ratios of a claim."""


def accuracy_figure(summary: Summary) -> Figure:
    """Draw the mean test accuracy of each row with its interval, and the published figures as hollow markers.

    Each record has a panel of its own, because accuracies on different data are far apart.
    """
    with style():
        return _accuracy_figure([one for one in summary.records if one.rows])


def _accuracy_figure(records: Sequence[Recorded]) -> Figure:
    from matplotlib.lines import Line2D

    counts = [min(len(one.rows), MOST) for one in records] or [1]
    figure = blank(8.6, 1.2 + sum(0.36 * count + 0.95 for count in counts))
    panels = figure.subplots(len(counts), 1, squeeze=False, height_ratios=[count + 1 for count in counts])
    for (axes,), record in zip(panels, records, strict=False):
        _panel(axes, record)
    if not records:
        axes = panels[0][0]
        axes.text(0.5, 0.5, "nothing to show yet", ha="center", transform=axes.transAxes, color="#555555")
        axes.set_yticks([])
    panels[-1][0].set_xlabel("Accuracy, %")
    published = {
        name for one in records for row in one.rows[:MOST] for each in row.references for name in each.figures
    }
    handles = [
        Line2D(*([], []), color=INK, marker="o", linewidth=2.5, label=f"test, {CONFIDENCE:.0%} interval")
    ]
    if "validation_accuracy" in published:
        handles.append(Line2D([], [], label="validation", **_TICK))
    handles += [
        Line2D([], [], label=f"{name.removesuffix('_accuracy')}, published", **_hollow(marker))
        for name, marker in PUBLISHED.items()
        if name in published
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), fontsize=10, handletextpad=0.5
    )
    return figure


_TICK: dict[str, Any] = {
    "color": INK,
    "marker": "|",
    "markersize": 11,
    "markeredgewidth": 1.4,
    "linestyle": "",
}


def _hollow(marker: str) -> dict[str, Any]:
    return {
        "color": INK,
        "marker": marker,
        "markersize": 11 if marker == "*" else 8,
        "markerfacecolor": "none",
        "markeredgewidth": 1.4,
        "linestyle": "",
    }


def _panel(axes: Axes, record: Recorded) -> None:
    """Draw the rows of one record."""
    rows = record.rows[:MOST]
    shared, names = split_shared([row.label for row in rows])
    looks = looks_of(row.activation for row in rows if row.activation)
    for place, row in enumerate(rows):
        color, marker, _ = looks.get(row.activation, (INK, "o", ""))
        if row.test is not None:
            _line(axes, row.test, place, color, 100, linewidth=2.5)
            axes.plot(100 * row.test.value, place, marker, color=color, markersize=8, markeredgecolor="white")
        for reference in row.references:
            for name, figure in reference.figures.items():
                if name in PUBLISHED:
                    axes.plot(100 * figure, place, zorder=4, **_hollow(PUBLISHED[name]))
                if name == "validation_accuracy" and row.validation is not None:
                    axes.plot(100 * row.validation.value, place, zorder=3, **_TICK)
        beside(axes, place, 0, _result(row), LIMIT if row.failed else INK)
    axes.margins(x=0.06)
    _rows_of(axes, [fill(plain(name), WIDTH) for name in shorten(names, 2 * WIDTH)])
    notes = [f"all rows: {', '.join(shared)}"] if shared else []
    if left := len(record.rows) - len(rows):
        notes.append(f"{left} more rows are not drawn")
    about: dict[str, Any] = {"loc": "left", "fontsize": 12, "fontweight": "bold", "color": INK}
    axes.set_title(plain(record.title), pad=18 if notes else 6, **about)
    if notes:
        axes.annotate(
            plain("; ".join(notes)),
            *((0, 1), (0, 5), "axes fraction"),
            textcoords="offset points",
            fontsize=9,
            color="#555555",
        )


def _result(row: Row) -> str:
    """The text beside a row: mean, half of the interval, number of runs, and failures."""
    failed = f", {row.failed} failed" if row.failed else ""
    if row.test is None:
        return f"no run trained{failed}"
    half = (
        "" if row.test.high is None else f" \N{PLUS-MINUS SIGN} {100 * (row.test.high - row.test.value):.2f}"
    )
    return f"{100 * row.test.value:.2f}{half}, n = {row.runs}{failed}"


def comparisons(summary: Summary) -> list[tuple[Recorded, Row, Difference]]:
    """All comparisons of all claims: of each, those with the control first."""
    return [
        (record, row, row.difference)
        for record in summary.records
        for row in sorted(record.rows, key=lambda row: row.values.get("arm") != "treatment")
        if row.difference is not None
    ]


def difference_figure(summary: Summary) -> Figure:
    """Draw the comparisons of all claims: treatment minus each other arm, with intervals and margins.

    If a claim has estimated equivalence ratios, a second panel shows them.
    """
    with style():
        return _difference_figure(comparisons(summary))


def _difference_figure(found: Sequence[tuple[Recorded, Row, Difference]]) -> Figure:
    from matplotlib.lines import Line2D

    has_ratios = any(record.ratios for record, _, _ in found)
    figure = blank(11.5 if has_ratios else 8.6, 1.6 + 0.5 * len(found))
    panels = figure.subplots(
        *(1, 1 + has_ratios),
        squeeze=False,
        sharey=True,
        width_ratios=[3, 2] if has_ratios else [1],
    )[0]
    axes = panels[0]
    shown: set[str] = set()
    for place, (record, row, one) in enumerate(found):
        first = row.values.get("arm") == "treatment"
        verdict = record.verdicts.get("filters", "")
        color, marker = VERDICTS[Verdict(verdict)] if first and verdict in [*Verdict] else (FAINT, "o")
        _line(axes, one.value, place, color, 100, linewidth=3 if first else 1.6)
        axes.plot(
            100 * one.value.value,
            place,
            marker,
            color=color,
            markersize=9 if first else 6,
            markeredgecolor="white" if first else color,
            markerfacecolor=color if first else "white",
            zorder=4,
        )
        if one.margin:
            axes.plot(-100 * one.margin, place, "|", color=LIMIT, markersize=18, markeredgewidth=2, zorder=3)
        if first and verdict:
            beside(axes, place, 6, f"filters: {verdict}", color, fontweight="bold")
            beside(axes, place, -6, f"MACs: {record.verdicts['macs']}", INK)
        if has_ratios and record.run_id not in shown:
            shown.add(record.run_id)
            for name, ratio in record.ratios.items():
                shape, dy = RATIOS[name]
                _line(panels[1], ratio, place + dy, INK, 1, linewidth=1.8)
                panels[1].plot(ratio.value, place + dy, shape, color=INK, markersize=6, zorder=4)
    _rows_of(axes, [_name(record, row, one) for record, row, one in found])
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    axes.margins(x=0.08)
    axes.set_xlabel(f"Test accuracy, treatment {MINUS} other arm, percentage points")
    handles = [
        Line2D(*([], []), color=INK, marker="o", linewidth=3, label="repeated confidence interval"),
        Line2D(*([], []), **{**_TICK, "color": LIMIT, "markeredgewidth": 2}, label="margin"),
    ]
    if has_ratios:
        panels[1].axvline(1, color=INK, linewidth=1, zorder=1)
        panels[1].margins(x=0.08)
        panels[1].grid(visible=False, axis="y")
        panels[1].spines["left"].set_visible(False)
        panels[1].tick_params(axis="y", length=0)
        panels[1].set_xlabel("Needed for equal accuracy,\nas a share of the control")
        handles += [
            Line2D(*([], []), color=INK, marker=shape, linewidth=1.8, label={"macs": "MACs"}.get(name, name))
            for name, (shape, _) in RATIOS.items()
        ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), fontsize=10, handletextpad=0.5
    )
    return figure


def _name(record: Recorded, row: Row, one: Difference) -> str:
    arms = one.of.replace(" - ", f" {MINUS} ")
    return plain(f"{record.title}\n{arms}" if row.values.get("arm") == "treatment" else arms, lines=True)


def _line(axes: Axes, mean: Mean, place: float, color: str, scale: float, **how: Any) -> None:
    """Draw an interval; an end that is open has an arrow at the estimate's side of it."""
    for end, arrow in ((mean.low, "<"), (mean.high, ">")):
        if end is not None:
            ends = [scale * mean.value, scale * end]
            axes.plot(ends, [place, place], color=color, solid_capstyle="butt", zorder=2, **how)
        elif (mean.low, mean.high) != (None, None):
            axes.annotate(
                arrow,
                *((scale * mean.value, place), (14 if arrow == ">" else -14, 0)),
                textcoords="offset points",
                ha="center",
                va="center",
                color=color,
                fontsize=10,
            )


def _rows_of(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a forest plot, from the top."""
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
