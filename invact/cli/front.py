"""`invact front`: export the Pareto front of a sweep, and retrain its points on fresh seeds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from invact.cli.options import (
    Driver,
    Json,
    Output,
    Scheduler,
    Store,
    SweepName,
    TrackingUri,
    Workers,
    echo,
    show,
)
from invact.errors import Incomplete, InputError
from invact.files import formats_of
from invact.process.quiet import stdout_to_stderr

__all__ = ["front"]


def front(
    name: SweepName,
    output: Output = Path(),
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="LIST",
            help="Formats to write, separated by commas: any of csv,json,png,svg,html.",
        ),
    ] = "csv,json,png,html",
    driver: Driver = None,
    margin: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS",
            help="Non-inferiority margin between the fronts of two arms, in points: the largest loss of "
            "accuracy that counts as equal.",
            show_default="0.3",
        ),
    ] = None,
    attainment: Annotated[
        bool,
        typer.Option(
            "--attainment",
            help="Add the surfaces that 25, 50 and 75 % of the seeds' fronts attain (extra invact[eaf]).",
        ),
    ] = False,
    confirm: Annotated[
        str | None,
        typer.Option(
            metavar="K|auto",
            help="Retrain the points of the front on K fresh seeds, or, with auto, on as many as each point "
            "needs to decide its place on the front.",
        ),
    ] = None,
    confirm_budget: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="With --confirm auto: largest number of trainings.",
            show_default="10 for each point",
        ),
    ] = None,
    confirm_margin: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS",
            help="With --confirm auto: the largest difference in accuracy that counts as equal, in points.",
            show_default="0.3",
        ),
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    store: Store = None,
    tracking_uri: TrackingUri = None,
    as_json: Json = False,
) -> None:
    """Export the Pareto front of a sweep as files NAME-front. With --confirm, retrain it on fresh seeds.

    If the command is interrupted, run it again to continue.
    """
    from invact.reports.confirmation import confirmation_table, confirmation_values, write_confirmation
    from invact.reports.front import FORMATS, front_table, front_values, write_front
    from invact.sweeps.confirm import AUTO, check_confirmation, confirm_front
    from invact.sweeps.recorded import pareto_front

    seeds: int | Literal["auto"] | None = None
    for option, number in {"--confirm-budget": confirm_budget, "--confirm-margin": confirm_margin}.items():
        if number is not None and confirm is None:
            raise InputError(f"{option}: received {number:g}. Allowed: only with --confirm auto")
    if confirm is not None:
        if confirm != AUTO and not re.fullmatch(r"[+-]?\d+", confirm):
            raise InputError(f"--confirm: received {confirm!r}. Allowed: a number of seeds, or 'auto'")
        seeds = AUTO if confirm == AUTO else int(confirm)
        check_confirmation(seeds, confirm_budget, confirm_margin)
    for option, value in {"--workers": workers, "--scheduler": scheduler}.items():
        if value is not None and confirm is None:
            raise InputError(
                f"{option}: received {value!r}. Allowed: only with --confirm, because nothing else trains"
            )
    kinds = formats_of((each.strip() for each in formats.split(",")), FORMATS, "--format")
    found = pareto_front(
        name, driver=driver, margin=margin, attainment=attainment, store=store, tracking_uri=tracking_uri
    )
    # The files of two sweeps, or of one sweep with two drivers, may lie in one folder.
    stem = f"{name}-{driver}" if driver else name
    # A folder that cannot be written must be found before the training, not after it.
    files = write_front(found, output, kinds, f"{stem}-front")
    values, tables = front_values(found), [front_table(found)]
    failed = 0
    if seeds is not None:
        with stdout_to_stderr():
            confirmed = confirm_front(
                *(name, seeds),
                budget=confirm_budget,
                margin=confirm_margin,
                driver=driver,
                store=store,
                tracking_uri=tracking_uri,
                workers=workers,
                scheduler=scheduler,
            )
        files += write_confirmation(confirmed, output, kinds, f"{stem}-confirm")
        values |= {"confirmation": confirmation_values(confirmed)}
        tables.append(confirmation_table(confirmed))
        failed = confirmed.failed
    show(as_json, values | {"files": [str(file) for file in files]}, *tables)
    for file in files:
        echo(f"wrote {file}", err=True)
    if failed:
        raise Incomplete(f"{name}: {failed} runs failed; the same command tries them again")
