"""The table style that all commands use in the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["empty_table", "table_of"]


def empty_table(title: str, caption: str = "") -> Table:
    """Make a table without columns and rows, in the style of invact.

    Args:
        title: title above the table.
        caption: text below the table.

    Example:
        >>> empty_table("costs").row_count
        0
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    return Table(
        title=Text(title, style="bold"),
        title_justify="left",
        caption=Text(caption) if caption else None,
        caption_justify="left",
        box=box.SIMPLE,
    )


def table_of(
    title: str,
    columns: Iterable[str],
    rows: Iterable[tuple[str, ...]],
    numbers: int = 0,
    caption: str = "",
) -> Table:
    """Make a table of text for the terminal; in a file or a pipe it is plain text.

    Args:
        title: title above the table.
        columns: headings of the columns.
        rows: rows with one cell for each column.
        numbers: how many of the last columns are numeric; they are aligned to the right.
        caption: text below the table.

    Example:
        >>> table_of("costs", ["layer", "MACs"], [("conv", "2,304")], numbers=1).row_count
        1
    """
    from rich.text import Text

    table = empty_table(title, caption)
    names = list(columns)
    for index, column in enumerate(names):
        table.add_column(column, justify="right" if index >= len(names) - numbers and numbers else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
