"""`invact front`: export the Pareto front of a sweep, and confirm it on fresh seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from invact.cli.options import (
    Json,
    Scheduler,
    Store,
    TrackingUri,
    Workers,
    show,
)
from invact.errors import Incomplete, InputError
from invact.quiet import load_tensorflow

__all__ = ["front"]


def front(
    name: Annotated[str, typer.Argument(help="A sweep that has run.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where to write.")] = Path(),
    formats: Annotated[
        str, typer.Option("--format", help="Any of csv,json,png,svg,html.")
    ] = "csv,json,png,html",
    driver: Annotated[
        str | None, typer.Option(help="Of several sweeps of that name, the one of this driver.")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="Between two arms' fronts, loss that counts as equal, in points [default: 0.3]."),
    ] = None,
    attainment: Annotated[
        bool, typer.Option("--attainment", help="Add attainment surfaces (extra invact[eaf]).")
    ] = False,
    confirm: Annotated[
        int | None, typer.Option(metavar="K", help="Train the front's points on K fresh seeds.")
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    store: Store = None,
    tracking_uri: TrackingUri = None,
    as_json: Json = False,
) -> None:
    """Export the Pareto front, and confirm it on fresh seeds. The same command again continues."""
    from invact.reports.confirmation import confirmation_table, confirmation_values, write_confirmation
    from invact.reports.front import front_table, front_values, write_front
    from invact.sweeps.confirm import confirm_front, fresh_seeds
    from invact.sweeps.recorded import pareto_front

    if confirm is not None:
        fresh_seeds(confirm)
    for option, value in {"--workers": workers, "--scheduler": scheduler}.items():
        if value is not None and confirm is None:
            raise InputError(f"{option}: received {value!r}. Allowed: with --confirm, which trains")
    found = pareto_front(
        name, driver=driver, margin=margin, attainment=attainment, store=store, tracking_uri=tracking_uri
    )
    kinds = [each.strip() for each in formats.split(",")]
    # Before any training, which would be for nothing where the folder cannot be written.
    files = write_front(found, output, kinds)
    values, tables = front_values(found), [front_table(found)]
    failed = 0
    if confirm is not None:
        load_tensorflow()
        confirmed = confirm_front(
            *(name, confirm),
            driver=driver,
            store=store,
            tracking_uri=tracking_uri,
            workers=workers,
            scheduler=scheduler,
        )
        files += write_confirmation(confirmed, output, kinds)
        values |= {"confirmation": confirmation_values(confirmed)}
        tables.append(confirmation_table(confirmed))
        failed = confirmed.failed
    show(as_json, values | {"files": [str(file) for file in files]}, *tables)
    for file in files:
        typer.echo(f"wrote {file}", err=True)
    if failed:
        raise Incomplete(f"{name}: {failed} runs failed; the same command tries them again")
