"""Tables for the terminal: they fit its width, never cut a number, and show any text as it is."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from invact.reports.labels import shorten, split_shared
from invact.text import plain

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.table import Table

__all__ = ["Column", "Listing", "Literally", "empty_table", "shorten", "split_shared", "table_of"]

LEAST = 4
"""Smallest width of a text or of prose, when no more columns can be left out."""

WIDE, TIGHT = 3, 2
"""Characters that a column takes beside its cells. A table is tight if it does not fit otherwise."""


@dataclass(frozen=True)
class Column:
    """One column of a `Listing`.

    Attributes:
        name: the heading.
        kind: `number`: aligned to the right and never cut; `text`: cut with an ellipsis if there is no room;
            `prose`: broken at words into several lines if there is no room.
        least: width to which a text or prose is cut before columns are left out.
        rank: 0 if the column is always shown. The column with the highest rank is left out first.
        shared: whether a value that all rows have is said once above the table.
    """

    name: str
    kind: Literal["number", "text", "prose"] = "number"
    least: int = 12
    rank: int = 0
    shared: bool = False


@dataclass(frozen=True)
class Listing:
    """A table of text; Rich prints it within the width of the terminal.

    Attributes:
        title: title above the table.
        columns: the columns, from left to right.
        rows: rows with one cell for each column.
        caption: text below the table.
        above: lines between the title and the table.
        rule: number of rows above a rule; None for no rule.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    above: tuple[str, ...] = ()
    rule: int | None = None

    @property
    def row_count(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def fitted(self, width: int) -> tuple[Listing, list[int], int]:
        """Fit the table into a width: break headings, cut texts, and at last leave out columns.

        Args:
            width: number of characters in a line.

        Returns:
            The table as it is shown; the width of each column; and `WIDE` or `TIGHT`. The lines are longer
            than `width` only if the columns that are always shown do not fit.

        Example:
            >>> columns = (Column("label", "text", least=8), Column("MACs"), Column("params", rank=1))
            >>> listing = Listing("front", columns, (("inverse, filters 8", "12.2 k", "1.31 k"),))
            >>> for width in (40, 33, 20):
            ...     shown, widths, _ = listing.fitted(width)
            ...     print(*shown.rows[0], shown.caption, sep="; ")
            inverse, filters 8; 12.2 k; 1.31 k;
            inverse, filt…; 12.2 k; 1.31 k;
            inverse…; 12.2 k; not shown at this width: params
        """
        shown = self._said_once()
        widths = shown._widths(broken=False)
        if _total(widths, WIDE) <= width:
            return shown, widths, WIDE
        missing: list[str] = []
        while True:
            widths = shown._shrunk(width)
            most = max((column.rank for column in shown.columns), default=0)
            if _total(widths, TIGHT) <= width:
                break
            if not most:
                widths = shown._shrunk(width, LEAST)
                break
            out = next(n for n, column in enumerate(shown.columns) if column.rank == most)
            missing.append(shown.columns[out].name)
            shown = shown._without(out)
        note = [f"not shown at this width: {', '.join(missing)}"] if missing else []
        caption = "\n".join([*filter(None, [shown.caption]), *note])
        return replace(shown._cut(widths), caption=caption), widths, TIGHT

    def _said_once(self) -> Listing:
        """Say above the table what all its rows share; columns without any value are left out."""
        shown = self
        for number in reversed(range(len(self.columns))):
            if self.rows and not any(row[number] for row in self.rows):
                shown = shown._without(number)
        said = []
        if len(shown.rows) > 1:
            for number in reversed(range(len(shown.columns))):
                column, cells = shown.columns[number], [row[number] for row in shown.rows]
                if not column.shared:
                    continue
                # The first column names the rows, so it stays.
                if number and len(set(cells)) == 1:
                    said.append(f"{column.name} {cells[0]}")
                    shown = shown._without(number)
                elif column.kind == "text":
                    parts, rest = split_shared(cells)
                    said += reversed(parts)
                    shown = shown._with(number, rest)
        above = [f"all rows: {', '.join(reversed(said))}"] if said else []
        return replace(shown, above=(*shown.above, *above))

    def _widths(self, broken: bool) -> list[int]:
        from rich.cells import cell_len

        return [
            max(map(cell_len, [*(_heading(column.name, cells) if broken else [column.name]), *cells]))
            for column, cells in zip(self.columns, self._cells(), strict=True)
        ]

    def _shrunk(self, width: int, least: int | None = None) -> list[int]:
        """Widths of the columns in a tight table whose texts are as wide as there is room for."""
        widths = self._widths(broken=True)
        while _total(widths, TIGHT) > width:
            free = [
                (size, n)
                for n, (size, column) in enumerate(zip(widths, self.columns, strict=True))
                if column.kind != "number" and size > (column.least if least is None else least)
            ]
            if not free:
                break
            widths[max(free)[1]] -= 1
        return widths

    def _cut(self, widths: Sequence[int]) -> Listing:
        shown = self
        for number, (column, width) in enumerate(zip(self.columns, widths, strict=True)):
            if column.kind == "text":
                shown = shown._with(number, shorten([row[number] for row in self.rows], width))
        return shown

    def _cells(self) -> list[tuple[str, ...]]:
        return [tuple(row[number] for row in self.rows) for number in range(len(self.columns))]

    def _with(self, number: int, cells: Sequence[str]) -> Listing:
        rows = ((*row[:number], cell, *row[number + 1 :]) for row, cell in zip(self.rows, cells, strict=True))
        return replace(self, rows=tuple(rows))

    def _without(self, number: int) -> Listing:
        rows = ((*row[:number], *row[number + 1 :]) for row in self.rows)
        columns = (*self.columns[:number], *self.columns[number + 1 :])
        return replace(self, columns=columns, rows=tuple(rows))

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType | Segment]:
        """Print the table; Rich calls this."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        shown, widths, gap = replace(self, rows=tuple(tuple(map(plain, row)) for row in self.rows)).fitted(
            options.max_width
        )
        # The table is not squeezed, because Rich would cut its numbers.
        table = Table(
            box=box.SIMPLE, padding=(0, 1) if gap == WIDE else (0, 1, 0, 0), width=_total(widths, gap)
        )
        for column, cells, size in zip(shown.columns, shown._cells(), widths, strict=True):
            heading = [column.name] if gap == WIDE else _heading(column.name, cells)
            table.add_column(
                Text("\n".join(heading)),
                justify="right" if column.kind == "number" else "left",
                no_wrap=column.kind != "prose",
                overflow="fold",
                width=size,
            )
        for number, row in enumerate(shown.rows):
            if number == shown.rule:
                table.add_section()
            table.add_row(*map(Text, row))
        yield Text(plain(shown.title, lines=True), style="bold")
        yield from (Text(plain(line, lines=True)) for line in shown.above)
        yield from console.render(table, options.update(width=max(options.max_width, _total(widths, gap))))
        if shown.caption:
            yield Text(plain(shown.caption, lines=True))


def _total(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * len(widths) + 1


def _heading(name: str, cells: Iterable[str]) -> list[str]:
    """Break a heading at words into lines that are no wider than the cells, where the words allow it."""
    width = max(map(len, [*cells, *name.split()]), default=1)
    return textwrap.wrap(name, width) or [""]


class Literally:
    r"""Something to print with Rich in which control characters are shown instead of carried out.

    Args:
        inner: anything that Rich can print.

    Example:
        >>> from rich.console import Console
        >>> Console(markup=False).print(Literally("[red]\x1b]0;title"))
        [red]\x1b]0;title
    """

    def __init__(self, inner: RenderableType) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Print the text; Rich calls this."""
        from rich.segment import Segment

        for text, style, control in console.render(self._inner, options):
            yield Segment(plain(text, lines=True), style, control)


def table_of(
    title: str,
    columns: Iterable[str | Column],
    rows: Iterable[tuple[str, ...]],
    numbers: int = 0,
    caption: str = "",
) -> Listing:
    """Make a table of text for the terminal; in a file or a pipe it is plain text.

    Args:
        title: title above the table.
        columns: the columns, or their headings.
        rows: rows with one cell for each column.
        numbers: how many of the last columns are numeric, if only headings are given.
        caption: text below the table.

    Example:
        >>> table_of("costs", ["layer", "MACs"], [("conv", "2,304")], numbers=1).row_count
        1
    """
    names = list(columns)
    made = [
        name if isinstance(name, Column) else Column(name, "text" if n < len(names) - numbers else "number")
        for n, name in enumerate(names)
    ]
    return Listing(title, tuple(made), tuple(rows), caption)


def empty_table(title: str, caption: str = "") -> Table:
    """Make a Rich table without columns and rows, in the style of invact.

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
