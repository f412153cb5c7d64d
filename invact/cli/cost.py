"""`invact cost`: count the MACs, parameters, filters, elementwise operations and memory of each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invact.cli.options import Imports, Json, Networks, check_formats, echo, show
from invact.process.quiet import load_tensorflow, stdout_to_stderr
from invact.reports.tables import Column, Listing
from invact.text import csv_of

if TYPE_CHECKING:
    from invact.cost.count import Cost, LayerCost

__all__ = ["cost", "cost_csv", "cost_tables", "cost_values"]


def cost(
    reference: Networks,
    input_shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHAPE",
            help="Shape of an input of a .keras model with open dimensions, for example 224,224,3. "
            "Repeat it for each input.",
        ),
    ] = None,
    imports: Imports = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, one row for each layer.")] = False,
    as_json: Json = False,
) -> None:
    """Count MACs, parameters, filters, memory and more of each layer.

    If a network has inverse activations, the command also prints the share of MACs that it saves against the
    ReLU network with the same channels. If a sweep or a claim would refuse a network because Keras cannot
    save it, the command says so on standard error.
    """
    check_formats(as_csv, as_json)
    from invact.cli.catalogue import check_networks, costs_of
    from invact.execution.display.stages import stage

    check_networks(reference, input_shape)

    notes: list[str] = []
    with stdout_to_stderr(), stage("loading TensorFlow and counting the networks"):
        load_tensorflow()
        costs = costs_of(reference, input_shape, imports or (), notes.append)
    for note in notes:
        echo(note, err=True)
    if as_csv:
        echo(cost_csv(costs), end="")
        return
    show(as_json, cost_values(costs), *cost_tables(costs))


def cost_values(costs: Mapping[str, Cost]) -> dict[str, Any]:
    """Convert costs to values that JSON can store."""
    return {
        "networks": [
            {
                "name": name,
                "macs": cost.macs,
                "params": cost.params,
                "filters": cost.filters,
                "hidden_filters": cost.hidden_filters,
                "elementwise": cost.elementwise,
                "bytes_written": cost.bytes_written,
                "bytes_moved": cost.bytes_moved,
                "activation_bytes": cost.activation_bytes,
                "relu_macs": cost.relu_macs,
                "saved": cost.saved,
                "layers": [asdict(layer) for layer in cost.layers],
            }
            for name, cost in costs.items()
        ]
    }


def cost_csv(costs: Mapping[str, Cost]) -> str:
    """Convert costs to CSV: one row for each call of a layer, with the network in the first column."""
    import pandas as pd

    tables = [cost.to_pandas() for cost in costs.values()]
    named = pd.concat(tables, keys=list(costs), names=["network", None]).reset_index(level="network")
    return csv_of(named)


def cost_tables(costs: Mapping[str, Cost]) -> list[Listing]:
    """Build tables of costs for the terminal, one for each network."""
    columns = (
        Column("layer", "text"),
        Column("kind", "text", least=8),
        # Sizes of a shape are numbers, so they are not cut.
        Column("output", "prose", least=16),
        Column("MACs"),
        Column("parameters", rank=1),
        Column("filters", rank=2),
        Column("elementwise", rank=5),
        Column("bytes written", rank=6),
        Column("bytes moved", rank=4),
        Column("bytes alive", rank=3),
    )
    # The units of the classifier are no filters that an arm could save.
    counts = ("macs", "params", "hidden_filters", "elementwise")
    numbers = (*counts, "bytes_written", "bytes_moved", "activation_bytes")

    def row(named: Sequence[str], of: Cost | LayerCost) -> tuple[str, ...]:
        return (*named, *(f"{getattr(of, number):,}" for number in numbers))

    return [
        Listing(
            name,
            columns,
            (
                *(
                    row((layer.name, layer.kind, " x ".join(map(str, layer.output_shape))), layer)
                    for layer in cost.layers
                ),
                row(("total, peak", "", ""), cost),
            ),
            _saving(cost),
        )
        for name, cost in costs.items()
    ]


def _saving(cost: Cost) -> str:
    if cost.relu_macs is None or cost.saved is None:
        return "no ReLU network has the same channels, so there is no comparison"
    if cost.relu_macs == cost.macs:
        return ""
    return f"saves {cost.saved:.1%} of the {cost.relu_macs:,} MACs of the ReLU network of equal channels"
