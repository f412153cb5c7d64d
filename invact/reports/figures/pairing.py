"""Figure of filter pairing: how opposite the filters of each layer are, for several arms and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from invact.arms import get_arm
from invact.errors import InputError
from invact.reports.figures.style import INK, blank, looks_of, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from invact.analysis.pairing import LayerPairing

__all__ = ["pairing_figure"]

_GAP = 0.22
"""Distance between the columns of two arms in one layer, where two layers are 1 apart."""


def pairing_figure(results: Mapping[str, Sequence[Sequence[LayerPairing]]], *, title: str = "") -> Figure:
    """Draw the mean cosine of the filters of each layer to their most opposite filter, by arm.

    A dot is one run, a large marker is the mean of the runs, and a bar is the expected cosine of random
    filters of the same shape. The bars of two arms differ if their layers have other numbers of filters or of
    channels.

    Args:
        results: arm -> for each run (seed), the result of `filter_pairing`. The layers of all runs are shown,
            in the order in which they are first named.
        title: title above the plot.

    Raises:
        InputError: an arm is not registered, there is no arm, or a run has no layers.
    """
    if not results or not all(runs and all(runs) for runs in results.values()):
        raise InputError("results: received no layers. Allowed: for each arm, one run or more with layers")
    for arm in results:
        get_arm(arm)
    with style():
        return _pairing_figure(results, title)


def _pairing_figure(results: Mapping[str, Sequence[Sequence[LayerPairing]]], title: str) -> Figure:
    names = list(dict.fromkeys(layer.name for runs in results.values() for run in runs for layer in run))
    gap = min(_GAP, 0.8 / len(results))
    figure = blank(2.5 + 1.1 * len(names), 4.4)
    axes = figure.add_subplot()
    looks = looks_of(results)
    for number, (arm, runs) in enumerate(results.items()):
        color, marker, _ = looks[arm]
        shift = gap * (number - (len(results) - 1) / 2)
        label = f"{arm}, n = {len(runs)}"
        for place, name in enumerate(names):
            layers = [layer for run in runs for layer in run if layer.name == name]
            if not layers:
                continue
            x, means = place + shift, [layer.mean for layer in layers]
            expected = sum(layer.reference.mean for layer in layers) / len(layers)
            axes.plot([x - 0.4 * gap, x + 0.4 * gap], [expected] * 2, color=color, linewidth=2.2, zorder=1)
            axes.scatter([x] * len(means), means, s=13, c=color, alpha=0.45, linewidths=0, zorder=2)
            axes.scatter(
                [x],
                [sum(means) / len(means)],
                s=46,
                c=color,
                marker=marker,
                edgecolors="white",
                linewidths=0.8,
                zorder=3,
                label=label,
            )
            label = ""
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=9)
    axes.set_xlim(-0.6, len(names) - 0.4)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -1), max(high, 0))
    axes.set_ylabel("Mean cosine of a filter\nto its most opposite one")
    axes.set_xlabel("Layer; dots: runs; bars: random filters of the same shape", fontsize=10)
    figure.legend(loc="outside lower center", ncols=min(4, len(results)), fontsize=10)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold", color=INK)
    return figure
