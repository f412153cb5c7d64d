"""Tables fit the terminal, never cut a number, and show texts as they are."""

import io
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_fronts import a_front, a_front_over, noisy_front
from rich.console import Console

from invact.cli.cost import cost_tables
from invact.cli.latency import latency_tables
from invact.cli.list import inventory_tables
from invact.cost.count import Cost, LayerCost
from invact.deploy.latency import Latencies, Latency
from invact.fronts.confirmation import Confirmation, ConfirmedPoint, Mean
from invact.reports.confirmation import confirmation_table
from invact.reports.front import front_table
from invact.reports.labels import shorten, split_shared
from invact.reports.tables import Column, Listing, Literally, empty_table, table_of
from invact.text import plain

LONG = "inverse, filters {}, normalization batch, width rule channels, learning rate 0.00{}"


def printed(table, width):
    file = io.StringIO()
    Console(file=file, width=width, markup=False, emoji=False).print(Literally(table), crop=False)
    return file.getvalue().splitlines()


def with_long_labels(front):
    def named(points):
        return tuple(
            replace(one, label=LONG.format(4 * n + 4, 1 + one.trial % 2)) for n, one in enumerate(points)
        )

    return replace(front, points=named(front.points), dominated=named(front.dominated))


def a_confirmation():
    front = with_long_labels(a_front())
    mean = Mean(0.9123, 0.9, 0.93)
    points = tuple(ConfirmedPoint(one, 3, mean, mean, mean, True, 0.5) for one in front.points)
    return Confirmation("tiny", "r", (7, 8, 9), front, points, mean, 0, None)


def a_cost():
    layer = LayerCost(
        "stage_one/block_two/convolution_of_the_network",
        "DepthwiseConv2D",
        (112, 112, 64),
        *[123_456_789] * 7,
    )
    return Cost((layer, replace(layer, name="dense", output_shape=(10,))))


def some_latencies():
    rows = [Latency(LONG.format(n, 1), "litert", 10.123, 11.456, 1.25, 1.2, 1.3, 300, 2**25) for n in (4, 8)]
    return Latencies(
        tuple(rows), 1, 1, (0,), "a processor with quite a long name", {"litert": "ai-edge-litert 2.3.0"}
    )


TABLES = {
    "one seed": (front_table(with_long_labels(a_front(1))), "2.56 M"),
    "three seeds": (front_table(with_long_labels(a_front())), "2.56 M"),
    "near": (front_table(with_long_labels(noisy_front())), "3 k"),
    "latency": (front_table(with_long_labels(a_front_over("latency_ms"))), "0.47"),
    "bytes": (front_table(with_long_labels(a_front_over("bytes_moved"))), "49.2 k"),
    "confirmation": (confirmation_table(a_confirmation()), "91.23%"),
    "cost": (cost_tables({"net": a_cost()})[0], "246,913,578"),
    "times": (latency_tables(some_latencies())[0], "10.123"),
}


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("name", TABLES)
def test_each_row_is_one_line_and_no_number_is_cut(name, width):
    table, number = TABLES[name]
    lines = printed(table, width)
    assert max(map(len, lines)) <= width
    assert number in "\n".join(lines)
    shown, _, _ = table.fitted(width)
    start = next(n for n, line in enumerate(lines) if "────" in line) + 1
    body = [line for line in lines[start:] if line.strip() and "────" not in line][: table.row_count]
    numbers = [n for n, column in enumerate(shown.columns) if column.kind == "number"]
    for line, row in zip(body, shown.rows, strict=True):
        cells = re.split(r"\s{2,}", line.strip())
        assert [row[n] for n in numbers if row[n]] == cells[-sum(bool(row[n]) for n in numbers) :]
    missing = {column.name for column in table.columns} - {column.name for column in shown.columns}
    told = " ".join(line.strip() for line in lines)
    for heading in missing:
        # A column without any value is left out without a word.
        cells = [row[[column.name for column in table.columns].index(heading)] for row in table.rows]
        assert heading in told or not any(cells)


def heading(front, width):
    return next(line for line in printed(front_table(front), width) if "configuration" in line).split()


def test_a_latency_budget_has_a_column_at_any_width():
    front = with_long_labels(replace(a_front_over("macs"), budgets={"latency_ms": 0.5, "params": 400}))
    for width in (60, 80, 200):
        assert {"MACs", "ms"} <= set(heading(front, width))
    assert "ms" not in heading(a_front(), 200)


words = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=40)


@settings(max_examples=60)
@given(st.lists(st.tuples(words, st.integers(0, 10**9)), min_size=1, max_size=5), st.integers(30, 90))
def test_any_label_fits_and_every_number_is_whole(rows, width):
    columns = (Column("label", "text", least=6), Column("MACs"), Column("twice", rank=1))
    cells = tuple((plain(label), f"{macs:,}", f"{2 * macs:,}") for label, macs in rows)
    shown, widths, _ = Listing("front", columns, cells).fitted(width)
    assert len(shown.rows) == len(rows)
    assert [row[1] for row in shown.rows] == [row[1] for row in cells]
    assert all(len(row[1]) <= widths[1] for row in shown.rows)
    lines = printed(Listing("front", columns, cells), width)
    for row in cells:
        assert any(row[1] in line for line in lines)


@given(st.lists(words, min_size=1, max_size=5), st.integers(1, 45))
def test_a_short_label_has_the_width_and_no_part_of_a_number(texts, width):
    from rich.cells import cell_len

    for text, short in zip(texts, shorten(texts, width), strict=True):
        assert short == text or (cell_len(short) <= width and "\N{HORIZONTAL ELLIPSIS}" in short)
    assert shorten(["filters 128"], 10) == ["filters\N{HORIZONTAL ELLIPSIS}"]


def test_shared_parts_are_said_once():
    labels = ["relu, filters 8, epochs 5", "inverse, filters 8, epochs 5"]
    assert split_shared(labels) == (["filters 8", "epochs 5"], ["relu", "inverse"])
    columns = (Column("configuration", "text", shared=True), Column("MACs"), Column("seeds", shared=True))
    lines = printed(Listing("tiny", columns, tuple((one, str(n), "3") for n, one in enumerate(labels))), 80)
    assert lines[1] == "all rows: filters 8, epochs 5, seeds 3"
    assert not any("epochs" in line for line in lines[2:])
    # One row shares everything with itself, so nothing is said.
    alone = printed(Listing("tiny", columns, ((labels[0], "1", "3"),)), 80)
    assert any(labels[0] in line for line in alone)
    assert not any("all rows" in line for line in alone)


ATTACKS = ["\x1b[31mred", "\x1b]0;title\x07", "\x9b31m", "a\rb", "\u202edexif", "[red]x[/red]", ":boom:"]


@pytest.mark.parametrize("attack", ATTACKS)
def test_controls_and_markup_are_shown_and_do_nothing(attack):
    tables = [table_of(attack, ["name", "MACs"], [(attack, "1")], 1, attack)]
    tables += inventory_tables(
        {
            "sweeps": [{"name": attack, "about": attack, "records": []}],
            **dict.fromkeys(("claims", "others", "search_spaces", "recipes", "arms", "data"), ()),
        }
    )
    # Tables that other packages make of Rich's own parts are safe, too.
    rich = empty_table(attack, attack)
    rich.add_column(attack)
    rich.add_row(attack)
    for table in (*tables, rich):
        text = "\n".join(printed(table, 80))
        assert not [char for char in text if char != "\n" and plain(char) != char]
    assert "\n".join(printed(tables[0], 80)).count(plain(attack)) == 3
    if attack.isprintable():
        assert text.count(attack) == 4
