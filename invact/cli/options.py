"""What the commands share: their common options, and how a result is printed."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invact.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "Driver",
    "Epochs",
    "Json",
    "Scheduler",
    "Settings",
    "Store",
    "TrackingUri",
    "Workers",
    "overrides",
    "show",
]

Store = Annotated[
    Path | None, typer.Option(help="Folder of the MLflow store [default: mlruns].", metavar="DIR")
]
TrackingUri = Annotated[str | None, typer.Option(help="MLflow tracking server or database instead.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Workers = Annotated[int | None, typer.Option(help="Processes to train with [default: one for each core].")]
Scheduler = Annotated[str | None, typer.Option(help="Address of a Dask cluster that is up.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training images.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Replace a value of the file, e.g. config.batch_size=64."
    ),
]
Driver = Annotated[str | None, typer.Option(help="Of several sweeps of that name, the one of this driver.")]


def overrides(changes: Mapping[str, Any], settings: list[str] | None) -> dict[str, Any]:
    """Merge the options that were given with `--set`, whose values are TOML or else text."""
    values = {key: value for key, value in changes.items() if value is not None}
    for setting in settings or ():
        key, equals, text = setting.partition("=")
        if not equals or not all(key.split(".")):
            raise InputError(f"--set: received {setting!r}. Allowed: KEY=VALUE, e.g. config.batch_size=64")
        try:
            values[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[key] = text
    return values


def show(as_json: bool, values: Mapping[str, Any], *tables: Table) -> None:
    if as_json:
        typer.echo(json.dumps(values, indent=1, allow_nan=False))
        return
    from rich.console import Console

    # A pipe has no width: give every column what it needs.
    console = Console() if sys.stdout.isatty() else Console(width=200, no_color=True)
    for table in tables:
        console.print(table)
