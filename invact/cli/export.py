"""`invact export`: export a network of a Pareto front to other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from invact.cli.options import Driver, Json, Output, Store, SweepName, TrackingUri, show
from invact.process.quiet import stdout_to_stderr

__all__ = ["export"]


def export(
    name: SweepName,
    point: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Number of the point on the front. Points count from 1, by increasing cost.",
            show_default="the only point",
        ),
    ] = None,
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="LIST",
            help="Formats to write, separated by commas: any of keras,litert,onnx,saved_model.",
        ),
    ] = "litert",
    precision: Annotated[
        str,
        typer.Option(metavar="NAME", help="Precision of the network: float32, or int8 for litert and onnx."),
    ] = "float32",
    with_softmax: Annotated[
        bool,
        typer.Option("--with-softmax", help="Return probabilities instead of logits."),
    ] = False,
    output: Output = Path(),
    driver: Driver = None,
    store: Store = None,
    tracking_uri: TrackingUri = None,
    as_json: Json = False,
) -> None:
    """Export a network of the Pareto front to other runtimes.

    Each file is checked on the test images before it gets its name. Beside it is a JSON file that says which
    pixels it takes, what it returns, and where it comes from.
    """
    from invact.sweeps.export import export_point, export_table, export_values

    with stdout_to_stderr():
        exports = export_point(
            *(name, point),
            formats=[each.strip() for each in formats.split(",")],
            precision=precision,
            softmax=with_softmax,
            folder=output,
            driver=driver,
            store=store,
            tracking_uri=tracking_uri,
        )
    show(as_json, {"name": name, "exports": export_values(exports)}, export_table(name, exports))
