"""`invact ui`: show the store in MLflow's user interface."""

from __future__ import annotations

from typing import Annotated

import typer

from invact.cli.options import Store, TrackingUri

__all__ = ["ui"]


def ui(
    port: Annotated[
        int, typer.Option(metavar="PORT", help="TCP port on 127.0.0.1.", min=1, max=65535)
    ] = 5000,
    store: Store = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Show the store in MLflow's user interface. Only this machine can reach it."""
    from invact.tracking.store import open_store

    with open_store(store, tracking_uri, read_only=True).ui(port) as server:
        typer.echo(f"{server.url}  (press Ctrl-C to stop)")
        server.wait()
