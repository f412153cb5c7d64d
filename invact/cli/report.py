"""`invact report`: one table over several sweeps and claims, beside published figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from invact.cli.options import Json, Output, Store, TrackingUri, echo, show
from invact.errors import Incomplete
from invact.files import formats_of

__all__ = ["report"]


def report(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Names of sweeps and claims that have run.")
    ],
    output: Output = Path(),
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="LIST",
            help="Formats to write, separated by commas: any of csv,json,png,svg.",
        ),
    ] = "csv,json,png",
    store: Store = None,
    tracking_uri: TrackingUri = None,
    as_json: Json = False,
) -> None:
    """Show all configurations of sweeps and all arms of claims in one table, over their seeds.

    The table has the published figures of the `[[reference]]` tables in their files. It is written as files
    NAME-report, or as files report for several names.
    """
    from invact.reports.summary.files import FORMATS, summary_table, summary_values, write_summary
    from invact.reports.summary.reading import summarize

    kinds = formats_of((each.strip() for each in formats.split(",")), FORMATS, "--format")
    found = summarize(names, store=store, tracking_uri=tracking_uri)
    files = write_summary(found, output, kinds, f"{names[0]}-report" if len(names) == 1 else "report")
    show(as_json, summary_values(found) | {"files": [str(file) for file in files]}, summary_table(found))
    for file in files:
        echo(f"wrote {file}", err=True)
    empty = [one.title for one in found.records if one.empty]
    if empty:
        raise Incomplete(f"{', '.join(empty)}: nothing to report yet; no training that counts has ended")
