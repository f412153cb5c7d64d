"""`invact ui`: open MLflow's user interface over the store."""

from __future__ import annotations

from typing import Annotated

import typer

from invact.cli.options import (
    Store,
    TrackingUri,
)

__all__ = ["ui"]


def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = 5000,
    store: Store = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Open MLflow's user interface over the store, on this machine only."""
    from invact.tracking.store import open_store

    with open_store(store, tracking_uri).ui(port) as server:
        typer.echo(f"{server.url}  (Ctrl-C ends it)")
        server.wait()
