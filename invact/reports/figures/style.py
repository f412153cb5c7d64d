"""The style of all figures: colours, markers, fonts and number formats."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from invact.arms import ARMS, arm_text
from invact.fronts.pareto import Apart, ParetoFront, Point
from invact.measures import MEASURES, amount, quantity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "FAINT",
    "INK",
    "LIMIT",
    "amount",
    "arm_of",
    "arm_styles",
    "axis_text",
    "blank",
    "budget_text",
    "looks_of",
    "on_log_axis",
    "picture",
    "quantity",
    "style",
    "ticks_between",
]

INK, FAINT, LIMIT = "#222222", "#8A8A8A", "#A3123A"

# The palette of Okabe and Ito, extended with that of Tol, is suitable for any colour vision.
_LOOKS = (
    ("#0072B2", "o", "circle"),
    ("#56B4E9", "s", "square"),
    ("#009E73", "^", "triangle-up"),
    ("#CC79A7", "v", "triangle-down"),
    ("#E69F00", "P", "cross"),
    ("#7F7F7F", "X", "x"),
    ("#D55E00", "D", "diamond"),
    ("#882255", "<", "triangle-left"),
    ("#44AA99", ">", "triangle-right"),
    ("#332288", "p", "pentagon"),
    ("#999933", "h", "hexagon"),
    ("#CC6677", "8", "octagon"),
)


@contextmanager
def style() -> Iterator[None]:
    """Use the settings of invact instead of those in the user's matplotlibrc."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "axes.edgecolor": FAINT,
                "axes.grid": True,
                "axes.labelcolor": INK,
                "axes.spines.right": False,
                "axes.spines.top": False,
                "axes.axisbelow": True,
                "font.size": 11,
                "grid.alpha": 0.2,
                "legend.frameon": False,
                "svg.hashsalt": "invact",
                # A label may contain dollar signs, which are not formulas.
                "text.parse_math": False,
                "xtick.color": INK,
                "ytick.color": INK,
            }
        )
        yield


def axis_text(measure: str) -> str:
    """Title of the cost axis.

    Example:
        >>> axis_text("macs"), axis_text("latency_ms")
        ('MACs of one image (log scale)', 'ms for one image (log scale)')
    """
    label = MEASURES[measure].label
    named = {"macs": f"{label} of one image", "params": label}
    return f"{named.get(measure, f'{label} for one image')} (log scale)"


def budget_text(front: ParetoFront) -> str:
    """Label of the line of the budget; the measure is omitted for MACs."""
    budget = front.budget or 0
    return f"budget {quantity(budget) if front.measure == 'macs' else amount(budget, front.measure)}"


def on_log_axis(one: Point | Apart) -> float:
    """Position of a cost on a logarithmic axis: at least 1 for a count, at least a nanosecond for a time.

    Example:
        >>> from dataclasses import replace
        >>> from invact.training.results import Status
        >>> free = Apart(0, "a", "a", Status.FAILED, 0, 0, 0, 1, "r", latency_ms=0.42)
        >>> on_log_axis(free), on_log_axis(replace(free, measure="latency_ms"))
        (1, 0.42)
    """
    return max(one.cost or 0, 1 if MEASURES[one.measure].counted else 1e-6)


def arm_of(values: Mapping[str, Any]) -> str:
    """Activation among the varied parameters, or those of all stages; "" if none varies.

    Example:
        >>> arm_of({"activation": "relu", "filters": 8}), arm_of({"activation": ("inverse", "relu")})
        ('relu', 'inverse/relu')
    """
    found = [value for name, value in values.items() if name.startswith("activation") and value is not None]
    return arm_text(
        [str(arm) for value in found for arm in (value if isinstance(value, list | tuple) else [value])]
    )


def looks_of(arms: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """Colour, marker and Plotly symbol of each arm in a figure.

    A registered arm has the same ones in every figure. The text of several arms, one for each stage, has ones
    that no registered arm in the figure has.

    Example:
        >>> looks = looks_of(["relu", "inverse/relu"])
        >>> looks["relu"] == looks_of(["elu", "relu"])["relu"] != looks["inverse/relu"]
        True
    """
    present = set(arms)
    known = {arm: _LOOKS[place % len(_LOOKS)] for place, arm in enumerate(ARMS) if arm in present}
    free = [look for look in _LOOKS if look not in known.values()] or _LOOKS
    others = sorted(present - set(known))
    return known | {arm: free[place % len(free)] for place, arm in enumerate(others)}


def arm_styles(front: ParetoFront) -> dict[str, tuple[str, str, str]]:
    """Colour, marker and Plotly symbol of each arm of a front."""
    return looks_of(arm_of(point.values) for point in (*front.points, *front.dominated))


def blank(width: float, height: float) -> Figure:
    """Make an empty figure of a size in inches. It belongs to no window, and its layout leaves no text out.

    Example:
        >>> [float(side) for side in blank(8, 5).get_size_inches()]
        [8.0, 5.0]
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(width, height), dpi=160, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    FigureCanvasAgg(figure)
    return figure


def picture(figure: Figure, kind: str) -> bytes:
    """Render a figure as `png` or `svg`; the same figure gives the same bytes.

    Example:
        >>> from matplotlib.figure import Figure
        >>> picture(Figure(), "png")[1:4]
        b'PNG'
    """
    buffer = io.BytesIO()
    # A date or a library version in the metadata would make equal figures differ.
    metadata: dict[str, Any] = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with style():
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def ticks_between(low: float, high: float) -> list[float]:
    """About five round values between two costs on a logarithmic axis."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    candidates: list[float] = []
    for subs in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
        found = LogLocator(subs=subs, numticks=100).tick_values(low, high)
        candidates = [float(tick) for tick in found if low <= tick <= high]
        if len(candidates) >= 4:
            break
    if len(candidates) < 3:
        candidates = [float(tick) for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high]
    return candidates[:: 1 + len(candidates) // 10]
