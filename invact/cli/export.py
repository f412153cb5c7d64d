"""`invact export`: export a network of the front to other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from invact.cli.options import (
    Json,
    Store,
    TrackingUri,
    show,
)

__all__ = ["export"]


def export(
    name: Annotated[str, typer.Argument(help="A sweep that has run.")],
    point: Annotated[
        int | None,
        typer.Option(metavar="K", help="Of the front, from 1, by increasing cost [default: the only one]."),
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="Any of keras,litert,onnx,saved_model.")
    ] = "litert",
    precision: Annotated[str, typer.Option(help="float32, or int8 for litert and onnx.")] = "float32",
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where to write.")] = Path(),
    driver: Annotated[
        str | None, typer.Option(help="Of several sweeps of that name, the one of this driver.")
    ] = None,
    store: Store = None,
    tracking_uri: TrackingUri = None,
    as_json: Json = False,
) -> None:
    """Export a network of the front to other runtimes, and check each file on the test images."""
    from invact.sweeps.export import export_point, export_table, export_values

    exports = export_point(
        *(name, point),
        formats=[each.strip() for each in formats.split(",")],
        precision=precision,
        folder=output,
        driver=driver,
        store=store,
        tracking_uri=tracking_uri,
    )
    show(as_json, {"name": name, "exports": export_values(exports)}, export_table(name, exports))
