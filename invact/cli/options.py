"""Options that several commands share, and the function that prints a result."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invact.errors import InputError
from invact.process.streams import tell
from invact.text import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = [
    "Driver",
    "Epochs",
    "Imports",
    "Json",
    "Networks",
    "Output",
    "Scheduler",
    "Settings",
    "Store",
    "SweepName",
    "TrackingUri",
    "Workers",
    "check_formats",
    "echo",
    "in_file",
    "named",
    "number",
    "overrides",
    "show",
    "show_pages",
]


def in_file(help: str, metavar: str | None = None) -> Any:  # noqa: A002
    """Describe an option that replaces a value of the file."""
    return typer.Option(help=help, metavar=metavar, show_default="the file's value")


SweepName = Annotated[str, typer.Argument(metavar="NAME", help="Name of a sweep that has run.")]
Networks = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="A sweep, a claim, a configuration or a .keras model: a path, or a shipped name.",
    ),
]
Imports = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="MODULE",
        help="Module to import first, for example one that registers the layers of a .keras model. "
        "Repeatable. It has the same meaning as the key imports of a file.",
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write the files to.")]
Store = Annotated[
    Path | None, typer.Option(help="Folder of the MLflow store.", metavar="DIR", show_default="mlruns")
]
TrackingUri = Annotated[
    str | None,
    typer.Option(help="Address of an MLflow server or database, to use instead of a folder.", metavar="URI"),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Workers = Annotated[
    int | None,
    typer.Option(help="Number of processes that train.", show_default="one for each core"),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Address of a running Dask cluster to train on.",
        show_default="processes of this machine",
    ),
]
Epochs = Annotated[int | None, in_file("Number of passes over the training images.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Replace any value of the file, for example config.batch_size=64. Repeatable.",
    ),
]
Driver = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="If several sweeps have the name, choose the newest of this driver: optuna or keras_tuner.",
        show_default="the newest sweep",
    ),
]


def check_formats(as_csv: bool, as_json: bool) -> None:
    """Refuse `--csv` together with `--json`."""
    if as_csv and as_json:
        raise InputError("--csv: received --json too. Allowed: only one of them")


def overrides(changes: Mapping[str, Any], settings: list[str] | None) -> dict[str, Any]:
    """Merge given options with `--set`; a value of `--set` is read as TOML, or as text if it is not TOML."""
    values = {key: value for key, value in changes.items() if value is not None}
    for setting in settings or ():
        key, equals, text = setting.partition("=")
        if not equals or not all(key.split(".")):
            raise InputError(
                f"--set: received {setting!r}. Allowed: KEY=VALUE, for example config.batch_size=64"
            )
        try:
            values[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[key] = text
    return values


def number(text: str | None) -> int | str | None:
    """Convert the digits of an option to a number; a text such as "200k" is converted when it is checked."""
    return int(text) if text is not None and re.fullmatch(r"[+-]?[0-9]+", text) else text


@contextlib.contextmanager
def named(changes: Mapping[str, Any], options: Mapping[str, str]) -> Iterator[None]:
    """Let an error in the block name the option that gave a value, instead of the file that has the key.

    Args:
        changes: the values that options replace, by dotted key, as `overrides` returns them.
        options: the option of a key; the other keys were given with `--set`.

    Example:
        >>> with named({"objective.max_macs": -1}, {"objective.max_macs": "--max-macs"}):
        ...     raise InputError("my.toml: objective.max_macs: received -1. Allowed: greater than 0")
        Traceback (most recent call last):
        ...
        invact.errors.InputError: --max-macs: received -1. Allowed: greater than 0
    """
    try:
        yield
    except InputError as error:
        _, found, words = str(error).partition(".toml: ")
        for key in sorted(changes, key=len, reverse=True):
            table, dot, last = key.rpartition(".")
            for start in (key, f"{table}: {last}" if dot else key):
                rest = words.removeprefix(start)
                if found and rest != words and rest[0] in ":.":
                    option = options.get(key, f"--set {key}")
                    raise InputError(f"{option}{rest}") from None
        raise


def echo(text: str, *, err: bool = False, end: str = "\n") -> None:
    """Print text on standard output or standard error; control characters in it are shown as escapes."""
    typer.echo(plain(text, lines=True) + end, err=err, nl=False)


def show_pages(name: str, run_ids: Collection[str], store: Path | None, tracking_uri: str | None) -> None:
    """Say on standard error where MLflow shows the runs of records.

    Args:
        name: name of the sweep or claim.
        run_ids: ids of the parent runs.
        store: folder of the store.
        tracking_uri: address of a server or database, instead of a folder.
    """
    from invact.tracking.page import address_of, is_server, server_of
    from invact.tracking.store import open_store

    opened = open_store(store, tracking_uri, read_only=True)
    place = "" if store is None else f" --store {shlex.quote(str(store))}"
    start = "" if is_server(opened.uri) else f"start `invact ui {name}{place}`, then "
    for record in opened.records(name):
        if record.run_id in run_ids:
            page = address_of(server_of(opened.uri), record.experiment, record.run_id)
            tell(f"runs in MLflow: {start}{page}")


def show(as_json: bool, values: Mapping[str, Any], *tables: RenderableType) -> None:
    """Print a result on standard output: as JSON, or as tables."""
    if as_json:
        echo(json.dumps(values, indent=1, allow_nan=False))
        return
    from rich.console import Console

    from invact.reports.tables import Literally

    terminal = sys.stdout.isatty()
    # A pipe has no width, and Rich would wrap the columns at 80 characters. Texts of users are not markup.
    console = Console(
        width=None if terminal else 200, no_color=not terminal, markup=False, emoji=False, highlight=False
    )
    for number, table in enumerate(tables):
        if number:
            console.print()
        # A line that is too long continues on the next line of the terminal; Rich would cut it.
        console.print(Literally(table), crop=False)
