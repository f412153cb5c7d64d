"""Write docs/cli.md: the commands, their options and the exit codes, read from the command itself.

Run: python docs/generate_cli.py; with --check, exit with 1 if the page differs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from invact.cli.main import INTERRUPTED, app
from invact.errors import EnvironmentFault, Incomplete, InputError, InvactError

PAGE = Path(__file__).with_name("cli.md")

INTRO = (
    "The command `invact` prints results on standard output, and progress and messages on standard error; "
    "`invact COMMAND --help` prints the texts of this page."
)

EXIT_CODES = {
    0: "The command is done, whatever the verdict.",
    InvactError.exit_code: "An unforeseen error occurred.",
    InputError.exit_code: "The input is bad. Nothing was trained.",
    EnvironmentFault.exit_code: "The machine lacks something: data, a cluster, an extra, or a writable "
    "store or output.",
    Incomplete.exit_code: "Some runs failed. Finished runs are kept, and the same command tries the others "
    "again. For `report`: a record has nothing to report yet.",
    INTERRUPTED: "The command was interrupted. Finished runs are kept, and the same command continues.",
}


def page() -> str:
    """The text of docs/cli.md."""
    group: Any = typer.main.get_command(app)
    context = group.context_class(group, info_name="invact")
    parts = ["# The command", INTRO, *_section("invact", group, context, "COMMAND [ARGUMENTS]")]
    for name, command in group.commands.items():
        parts += _section(f"invact {name}", command, command.context_class(command, parent=context), "")
    codes = [(str(code), meaning) for code, meaning in EXIT_CODES.items()]
    parts += ["## Exit codes", _table(("exit code", "meaning"), codes)]
    return "\n\n".join(parts) + "\n"


def _section(name: str, command: Any, context: Any, rest: str) -> Iterator[str]:
    # `--help` is the same everywhere, and the introduction names it.
    parameters = [each for each in command.get_params(context) if each.name != "help"]
    arguments = [each.metavar for each in parameters if each.param_type_name == "argument"]
    yield f"## {name}"
    # A paragraph of a docstring is broken at the width of the source.
    yield from (" ".join(paragraph.split()) for paragraph in command.help.split("\n\n"))
    yield f"```text\n{' '.join(filter(None, [name, '[OPTIONS]', *arguments, rest]))}\n```"
    rows = [(_names(each, context), each.help, _default(each)) for each in parameters]
    yield _table(("option", "meaning", "default"), rows)


def _names(parameter: Any, context: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar}`"
    value = "" if parameter.is_flag else f" {parameter.metavar or parameter.display_type(context)}"
    return ", ".join(f"`{name}{value}`" for name in sorted(parameter.opts, key=len, reverse=True))


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if parameter.default is None or getattr(parameter, "is_flag", False):
        return ""
    return f"`{parameter.default}`"


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(headings), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in lines)


def main() -> None:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the page differs")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        raise SystemExit(f"{PAGE} differs from the command. Run: python docs/generate_cli.py")


if __name__ == "__main__":
    main()
