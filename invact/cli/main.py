"""The command `invact`: its commands put together, and errors turned into one line and an exit code."""
# Everything heavy is imported inside the commands, so that --help answers at once.

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from invact._version import __version__
from invact.cli.claim import claim
from invact.cli.cost import cost
from invact.cli.export import export
from invact.cli.front import front
from invact.cli.latency import latency
from invact.cli.list import list_
from invact.cli.sweep import sweep
from invact.cli.ui import ui
from invact.errors import InvactError

__all__ = ["app", "main"]

INTERRUPTED = 130

app = typer.Typer(
    name="invact",
    help="Fewer filters at equal accuracy? Search and test activations that keep both signs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for command in (sweep, claim, front, export, cost, latency):
    app.command()(command)
app.command("list")(list_)
app.command()(ui)


def main() -> NoReturn:
    """Run the command, and turn every foreseen failure into one line and an exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    # For a user's own modules, as with `python -m`; last, so that no file there hides a library's.
    sys.path.append(str(Path.cwd()))
    try:
        app(standalone_mode=True)
    except InvactError as error:
        # One line, though a path may have line breaks in its name.
        typer.echo(f"invact: {' '.join(str(error).splitlines())}", err=True)
        sys.exit(error.exit_code)
    except SystemExit as end:
        # Typer makes this code of a KeyboardInterrupt, and says nothing.
        if end.code == INTERRUPTED:
            typer.echo("invact: interrupted; what was finished is kept, the same command continues", err=True)
        raise
    sys.exit(0)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"invact {__version__}")
        raise typer.Exit
