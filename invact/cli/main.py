"""The command `invact`: it joins the commands, and turns each error into one line and an exit code."""
# Heavy libraries are imported inside the commands, so that --help answers at once.

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from invact._version import __version__
from invact.cli.claim import claim
from invact.cli.cost import cost
from invact.cli.export import export
from invact.cli.front import front
from invact.cli.latency import latency
from invact.cli.list import list_
from invact.cli.report import report
from invact.cli.sweep import sweep
from invact.cli.ui import ui
from invact.errors import InvactError
from invact.process.interruption import handle_interruptions
from invact.process.noise import own_imports, own_warnings
from invact.process.streams import steady_error, steady_output, tell

__all__ = ["app", "main"]

INTERRUPTED = 130

app = typer.Typer(
    name="invact",
    help="Find out whether networks need fewer filters when their activation keeps both signs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for command in (sweep, claim, front, report, export, cost, latency):
    app.command()(command)
app.command("list")(list_)
app.command()(ui)


def main() -> NoReturn:
    """Run the command, and turn every expected error into one line and an exit code."""
    handle_interruptions()
    own_warnings()
    own_imports()
    # Users keep their own modules in the current folder. It comes last, so that no file in it hides a
    # library.
    sys.path.append(str(Path.cwd()))
    with steady_error():
        try:
            with steady_output():
                _run()
        except InvactError as error:
            # The path in a message may contain line breaks.
            tell(f"invact: {' '.join(str(error).splitlines())}")
            sys.exit(error.exit_code)
    sys.exit(0)


def _run() -> None:
    try:
        app(standalone_mode=True)
    except SystemExit as end:
        # Typer turns a KeyboardInterrupt into this code and prints nothing.
        if end.code == INTERRUPTED:
            tell("invact: interrupted; finished runs are kept, and the same command continues")
        if end.code:
            raise


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version of invact.", is_eager=True)
    ] = False,
) -> None:
    if version:
        typer.echo(f"invact {__version__}")
        raise typer.Exit
