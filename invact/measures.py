"""The measures of what a network costs, with the names that budgets, objectives, fronts and tables use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["MEASURES", "Costs", "Measure", "amount", "in_full", "quantity", "training_flop"]


@dataclass(frozen=True)
class Measure:
    """One kind of cost of a network; less is better.

    Attributes:
        name: the column in the table of runs and the key in an objective; `max_<name>` is the budget.
        label: the text that people read, also after a number, as in "12 k MACs".
        counted: True if the measure is counted exactly from the built model, False if it is timed.
    """

    name: str
    label: str
    counted: bool = True


Costs = Mapping[str, float]
"""The costs of one network for a batch of one: a mapping from names in `MEASURES` to numbers."""

MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        measure.name: measure
        for measure in (
            Measure("macs", "MACs"),
            Measure("params", "parameters"),
            Measure("activation_bytes", "bytes of activations"),
            Measure("bytes_moved", "bytes moved"),
            Measure("latency_ms", "ms", counted=False),
        )
    }
)
"""All measures by name. The first one is the default of fronts and objectives."""


def in_full(name: str, value: float) -> str:
    """Write a value of a measure with all its digits, in contrast to short forms such as "12 k MACs".

    Example:
        >>> in_full("macs", 12345), in_full("latency_ms", 0.41666)
        ('12,345 MACs', '0.417 ms')
    """
    measure = MEASURES[name]
    return f"{value:,.0f} {measure.label}" if measure.counted else f"{value:,.3g} {measure.label}"


def quantity(value: float) -> str:
    """Write a number with three digits, and with a metric prefix from a thousand on.

    Example:
        >>> [quantity(value) for value in (0, 0.4213, 950, 1_500, 999_999, 3_210_000, 41e9)]
        ['0', '0.421', '950', '1.5 k', '1 M', '3.21 M', '41 G']
    """
    # Rounded first, because rounding may change the prefix.
    value = float(f"{value:.3g}")
    for factor, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"


def amount(cost: float, measure: str) -> str:
    """Write a cost with the name of its measure.

    Example:
        >>> amount(182_000, "macs"), amount(0.42, "latency_ms"), amount(12_345, "bytes_moved")
        ('182 k MACs', '0.42 ms', '12.3 k bytes moved')
    """
    return f"{quantity(cost)} {MEASURES[measure].label}"


def training_flop(macs: float, images: float) -> float:
    """Return the floating-point operations of a training, by the usual convention of 6 for each MAC.

    A multiply-accumulate is two operations. The gradients of the inputs and of the weights cost as much as
    the forward pass each, so an image costs three passes. Everything else counts as 0.

    Args:
        macs: MACs of the network for one image.
        images: number of images that were trained on, in all epochs together.

    Example:
        >>> training_flop(1e6, 1000)
        6000000000.0
    """
    return 2 * 3 * macs * images
