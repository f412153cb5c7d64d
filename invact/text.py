"""Texts of users in a terminal, a spreadsheet and a notebook: they are shown, and never carried out."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["csv_of", "html_of", "leading", "plain"]

CONTROLS = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories that move the cursor, break the line or cannot be encoded."""

DIRECTIONS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
"""Bidirectional classes of the characters that reorder the text after them."""

FORMULAS = ("=", "+", "-", "@", "\t")
"""A spreadsheet reads a text that begins with one of these as a formula."""


def plain(text: str, lines: bool = False) -> str:
    r"""Replace the characters that control a terminal by their escapes, so that they are seen and do nothing.

    Args:
        text: any text.
        lines: whether to keep line breaks and tabs.

    Example:
        >>> print(plain("\x1b[31mred\n"), plain("two\nlines", lines=True))
        \x1b[31mred\n two
        lines
    """
    if text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode() if _controls(char) and not (lines and char in "\n\t") else char
        for char in text
    )


def _controls(char: str) -> bool:
    return unicodedata.category(char) in CONTROLS or unicodedata.bidirectional(char) in DIRECTIONS


def csv_of(table: pd.DataFrame) -> str:
    """Write a table as CSV, with an apostrophe before each text that a spreadsheet would read as a formula.

    Control characters are written as by `plain`, because a bare carriage return would start a new row.

    Example:
        >>> import pandas as pd
        >>> print(csv_of(pd.DataFrame({"label": ["=1+1", "-0.5", "relu 8"], "macs": [-1, 2, 3]})), end="")
        label,macs
        '=1+1,-1
        -0.5,2
        relu 8,3
    """
    import pandas as pd

    columns = {
        # A Series that is mapped may get another dtype, and integers would then be written as floats.
        _unread(str(name)): pd.Series([_unread(cell) for cell in cells], cells.index, cells.dtype)
        if cells.dtype == object or pd.api.types.is_string_dtype(cells.dtype)
        else cells
        for name, cells in table.items()
    }
    text: str = pd.DataFrame(columns, table.index).to_csv(index=False, lineterminator="\n")
    return text


def _unread(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    cell = plain(cell, lines=True)
    if not cell.startswith(FORMULAS):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def html_of(title: str, notes: Iterable[str], table: pd.DataFrame) -> str:
    """Write a result for a notebook: a title, lines of text and a table. HTML in texts is shown as text.

    Example:
        >>> import pandas as pd
        >>> print(html_of("a < b", ["one & two"], pd.DataFrame({"label": ["<b>"]})).partition(" border")[0])
        <p><b>a &lt; b</b><br>one &amp; two</p>
        <table
    """
    head = "<br>".join([f"<b>{html.escape(title)}</b>", *map(html.escape, notes)])
    body: str = table.to_html(index=False, escape=True, max_rows=30, na_rep="", float_format="{:.4g}".format)
    return f"<p>{head}</p>\n{body}"


def leading(table: pd.DataFrame, *first: str) -> pd.DataFrame:
    """Return the table with some columns first; names that it does not have are skipped.

    Example:
        >>> import pandas as pd
        >>> list(leading(pd.DataFrame(columns=["trial", "label", "macs"]), "label", "macs", "accuracy"))
        ['label', 'macs', 'trial']
    """
    known = [name for name in first if name in table.columns]
    return table[[*known, *(name for name in table.columns if name not in known)]]
