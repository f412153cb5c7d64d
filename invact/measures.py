"""Measures: what a network may cost, one name each, for budgets, objectives, fronts and tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["MEASURES", "Costs", "Measure", "in_full"]


@dataclass(frozen=True)
class Measure:
    """One thing that a network may cost; less is better.

    Attributes:
        name: its column in the table of runs, and its key in an objective, where `max_<name>` is its budget.
        label: what people read, behind a number too: "12 k MACs".
        counted: known exactly from the built model; otherwise it is timed.
    """

    name: str
    label: str
    counted: bool = True


Costs = Mapping[str, float]
"""What one network costs: from names of `MEASURES` to numbers, for a batch of one."""

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
"""All measures by name, the default of fronts and objectives first."""


def in_full(name: str, value: float) -> str:
    """Write an amount of a measure in full.

    Example:
        >>> in_full("macs", 12345), in_full("latency_ms", 0.41666)
        ('12,345 MACs', '0.417 ms')
    """
    measure = MEASURES[name]
    return f"{value:,.0f} {measure.label}" if measure.counted else f"{value:,.3g} {measure.label}"
