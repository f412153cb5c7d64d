"""`invact ui`: show the store in MLflow's user interface."""

from __future__ import annotations

import webbrowser
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from invact.cli.options import Store, TrackingUri, echo
from invact.tracking.ui import PORT

if TYPE_CHECKING:
    from invact.tracking.store import RecordInfo

__all__ = ["ui"]


def ui(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Open the page of the newest sweep or claim of this name."),
    ] = None,
    port: Annotated[
        int, typer.Option(metavar="PORT", help="TCP port on 127.0.0.1.", min=1, max=65535)
    ] = PORT,
    store: Store = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Show the store in MLflow's user interface. Only this machine can reach it.

    With a name, the browser opens the runs of the sweep or claim, with their accuracy and costs.
    """
    from invact.tracking.page import address_of
    from invact.tracking.store import open_store

    opened = open_store(store, tracking_uri)
    record = None if name is None else opened.latest(name)
    with opened.ui(port) as server:
        address = server.url if record is None else record.page(server.url)
        echo(f"{address}  (press Ctrl-C to stop)")
        if record is not None:
            # Without a browser, for example on a server, the address is all there is.
            webbrowser.open(address)
        else:
            for one in newest(opened.records()):
                page = address_of(server.url, one.experiment, one.run_id)
                echo(f"  {one.kind} {one.name}: {page}")
        server.wait()


def newest(records: Iterable[RecordInfo], most: int = 10) -> list[RecordInfo]:
    """Return the newest record of each name and kind, newest first, at most `most`."""
    chosen = {(one.name, one.kind): one for one in reversed(list(records))}
    return sorted(chosen.values(), key=lambda one: one.started, reverse=True)[:most]
