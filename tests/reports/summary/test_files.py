"""The table, the files and the figures of a summary show what it has."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from helpers import texts_of
from rich.console import Console

from invact.errors import InputError
from invact.fronts.confirmation import Mean
from invact.reports.figures.style import picture
from invact.reports.summary.figure import accuracy_figure, comparisons, difference_figure
from invact.reports.summary.files import FORMATS, summary_table, summary_values, write_summary
from invact.reports.summary.reference import Reference
from invact.reports.summary.rows import Difference, Recorded, Row, Summary

NO_FAILURES = {"diverged": 0, "collapsed": 0, "failed": 0}
NO_MEANS = {"validation": None, "test": None, "loss": None}
AUTHOR = Reference(where={"filters": 8}, source="author, one run", test_accuracy=94.33, test_loss=0.178)
OTHER = Reference(where={"filters": 8}, source="a paper", validation_accuracy=99.66)


def a_row(label="inverse, filters 8, epochs 5", **values):
    given = {
        "activation": label.split(",")[0],
        "trial": 0,
        "config": "abc",
        "filters": 26,
        "macs": 25_152,
        "params": 2_338,
        "runs": 5,
        "failures": NO_FAILURES,
        "pruned": 0,
        "validation": Mean(0.951, 0.949, 0.953),
        "test": Mean(0.943, 0.9405, 0.9455),
        "loss": Mean(0.1812, 0.17, 0.19),
        "values": {"activation": label.split(",")[0], "filters": 8},
    }
    return Row(label, **(given | values))


def an_arm(role, ratio, difference=None, **values):
    label = role if role == "control" else f"{role} {ratio:g}"
    return a_row(
        f"{label}: relu, 8 filters", values={"arm": role, "ratio": ratio}, difference=difference, **values
    )


SWEEP = Recorded(
    *("author_fashion", "sweep", "fashion_mnist", "r1"),
    (
        a_row(references=(AUTHOR, OTHER)),
        a_row("relu, filters 8, epochs 5", runs=3, failures=NO_FAILURES | {"collapsed": 2}, config="abd"),
        a_row("elu, filters 8, epochs 5", runs=0, failures=NO_FAILURES | {"failed": 1}, **NO_MEANS),
    ),
    ("not listed: 2 over a budget",),
)
CLAIM = Recorded(
    *("fashion_claim", "claim", "fashion_mnist", "r2"),
    (
        an_arm("control", 1.0),
        an_arm(
            "treatment", 0.5, Difference("treatment 0.5 - control", Mean(0.0002, -0.004, 0.0045), 10, 0.005)
        ),
        an_arm("abs", 0.5, Difference("treatment 0.5 - abs 0.5", Mean(0.01, 0.001, 0.02), 6, 0.0)),
    ),
    (),
    {"filters": "SUPPORTED", "macs": "INCONCLUSIVE"},
    {"filters": Mean(0.676, 0.557, 0.844), "macs": Mean(0.874, 0.62, None)},
)
BOTH = Summary((SWEEP, CLAIM))


def shown(summary: Summary, width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(summary_table(summary))
    return "\n".join(line.rstrip() for line in console.export_text().splitlines())


def test_the_table_shows_every_row_its_failures_and_the_published_figures() -> None:
    text = shown(BOTH, 250)
    lines = text.splitlines()
    assert lines[0] == "author_fashion, fashion_claim"
    assert "all rows: data fashion_mnist, MACs 25.2 k, params 2.34 k, filters 26" in text
    (inverse,) = (line for line in lines if "inverse, filters 8" in line)
    for cell in ("author_fashion", "95.10%", "94.30%", "0.25", "0.1812"):
        assert cell in inverse
    assert "test 94.33%, loss 0.178 (author, one run); valid. 99.66% (a paper)" in inverse
    (relu,) = (line.split() for line in lines if "relu, filters 8, epochs 5" in line)
    assert relu[5:8] == ["author_fashion", "3", "2"]
    (treatment,) = (line for line in lines if "treatment 0.5: relu" in line)
    assert "+0.02 (-0.40 to +0.45)" in treatment
    for words in (
        "author_fashion on fashion_mnist: not listed: 2 over a budget",
        "fashion_claim on fashion_mnist: fewer filters SUPPORTED, fewer MACs INCONCLUSIVE",
        "equal accuracy needs 0.676 of the filters (0.557 to 0.844) and 0.874 of the MACs (0.620 to open)",
        "+-: 95% t interval of test over the seeds, in points",
        "failed: runs that diverged, collapsed or stopped with an error; no mean includes them",
        "difference: treatment - control, in points; in other rows, treatment - this arm;",
    ):
        assert words in text


@pytest.mark.parametrize("width", [80, 100])
def test_a_narrow_table_keeps_failures_accuracies_and_published_figures(width) -> None:
    lines = shown(Summary((SWEEP,)), width).splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(lines)
    for words in ("94.30%", "failed", "99.66%"):
        assert words in text
    assert ("not shown at this width: loss" in text) == (width == 80)


def test_csv_has_every_number_and_reads_back(tmp_path) -> None:
    (path,) = write_summary(BOTH, tmp_path, ["csv"])
    read = pd.read_csv(path)
    table = BOTH.to_pandas()
    assert list(read.columns) == list(table.columns)
    assert list(table.columns)[:7] == [
        *("label", "record", "data", "macs"),
        *("test_accuracy", "test_low", "test_high"),
    ]
    assert read["record"].tolist() == ["author_fashion"] * 3 + ["fashion_claim"] * 3
    assert read["collapsed"].tolist() == [0, 2, 0, 0, 0, 0]
    first = read.iloc[0]
    assert (first["reference"], first["reference_2"]) == ("author, one run", "a paper")
    assert (first["reference_test_accuracy"], first["reference_2_validation_accuracy"]) == (0.9433, 0.9966)
    treatment = read[read["param.arm"] == "treatment"].iloc[0]
    assert treatment["difference_of"] == "treatment 0.5 - control"
    ends = treatment[["difference", "difference_low", "difference_high", "margin"]]
    assert ends.tolist() == [0.0002, -0.004, 0.0045, 0.005]
    assert np.isnan(read.iloc[2]["test_accuracy"]), "a configuration without a run that trained has a row"


def test_json_has_the_same_values_and_nothing_else_is_a_format(tmp_path) -> None:
    csv, path = write_summary(BOTH, tmp_path, ["csv", "json", "csv"], "mine")
    assert (csv.name, path.name) == ("mine.csv", "mine.json")
    values = json.loads(path.read_text())
    assert values == json.loads(json.dumps(summary_values(BOTH)))
    assert values["schema"] == "invact.report/1"
    sweep, claim = values["records"]
    row = sweep["rows"][0]
    assert row["test"] == {"value": 0.943, "low": 0.9405, "high": 0.9455}
    assert row["references"][0] == {
        "source": "author, one run",
        "where": {"filters": 8},
        "test_accuracy": 0.9433,
        "test_loss": 0.178,
    }
    assert claim["rows"][1]["difference"]["value"] == {"value": 0.0002, "low": -0.004, "high": 0.0045}
    assert claim["ratios"]["macs"] == {"value": 0.874, "low": 0.62, "high": None}
    with pytest.raises(InputError, match="format: received 'cvs'; did you mean 'csv'"):
        write_summary(BOTH, tmp_path / "other", ["json", "cvs"])
    assert not (tmp_path / "other").exists()
    assert FORMATS == ("csv", "json", "png", "svg")


def test_a_summary_without_rows_has_every_file(tmp_path) -> None:
    empty = Summary((Recorded("mine", "sweep", "digits", "r", ()),))
    paths = write_summary(empty, tmp_path)
    assert [path.name for path in paths] == ["report.csv", "report.json", "report.png", "report.svg"]
    assert all(path.stat().st_size for path in paths)
    assert len(empty.to_pandas()) == 0
    assert summary_table(empty).row_count == 0


def test_the_figure_of_the_accuracies_shows_all_rows_and_the_published_ones_as_hollow_markers() -> None:
    figure = accuracy_figure(BOTH)
    sweep, claim = figure.axes
    text = texts_of(figure)
    for words in (
        *("author_fashion on fashion_mnist", "all rows: filters 8, epochs 5", "fashion_claim on"),
        *("94.30 ± 0.25, n = 5", "94.30 ± 0.25, n = 3, 2 failed", "no run trained, 1 failed"),
        *("test, 95% interval", "test, published", "validation, published"),
    ):
        assert words in text
    hollow = [line for line in sweep.lines if line.get_markerfacecolor() == "none"]
    places = [(line.get_marker(), round(line.get_xdata()[0], 9), line.get_ydata()[0]) for line in hollow]
    assert places == [("*", 94.33, 0), ("d", 99.66, 0)]
    # The figure also shows our own validation accuracy.
    assert [line.get_xdata()[0] for line in sweep.lines if line.get_marker() == "|"] == [pytest.approx(95.1)]
    ends = {end for line in sweep.lines if line.get_linestyle() == "-" for end in line.get_xdata()}
    assert {94.05, 94.55} <= {round(end, 9) for end in ends}
    markers = {line.get_marker() for line in sweep.lines} - {"*", "d", "|", "None"}
    assert len(markers) == 2, "each activation has a shape of its own"
    assert [label.get_text() for label in claim.get_yticklabels()] == [
        *("control: relu", "treatment 0.5: relu", "abs 0.5: relu"),
    ]
    assert picture(figure, "svg") == picture(accuracy_figure(BOTH), "svg")


def test_a_long_record_says_how_many_rows_are_not_drawn(monkeypatch) -> None:
    monkeypatch.setattr("invact.reports.summary.figure.MOST", 3)
    rows = tuple(a_row(f"relu, filters {number}") for number in range(10))
    figure = accuracy_figure(Summary((Recorded("long", "sweep", "digits", "r", rows),)))
    assert "7 more rows are not drawn" in texts_of(figure)
    assert len(figure.axes[0].get_yticks()) == 3


def test_the_figure_of_the_claims_shows_differences_margins_and_ratios(tmp_path) -> None:
    assert [one.of for _, _, one in comparisons(BOTH)] == [
        "treatment 0.5 - control",
        "treatment 0.5 - abs 0.5",
    ]
    figure = difference_figure(BOTH)
    left, right = figure.axes
    text = texts_of(figure)
    for words in ("filters: SUPPORTED", "MACs: INCONCLUSIVE", "margin", "fashion_claim on fashion_mnist"):
        assert words in text
    (margin,) = (line for line in left.lines if line.get_marker() == "|")
    assert (margin.get_xdata()[0], margin.get_ydata()[0]) == (-0.5, 0)
    spans = [sorted(line.get_xdata()) for line in left.lines if len(line.get_xdata()) == 2]
    for end in (-0.4, 0.45, 0.1, 2.0):
        assert any(end == pytest.approx(each) for span in spans for each in span)
    shares = [line.get_xdata()[0] for line in right.lines if line.get_marker() in ("o", "s")]
    assert shares == [0.676, 0.874]
    assert ">" in [each.get_text() for each in right.texts], "an open end has an arrow"
    # Without ratios there is one panel.
    plain = Summary((Recorded(*("c", "claim", "digits", "r"), CLAIM.rows, (), CLAIM.verdicts),))
    assert len(difference_figure(plain).axes) == 1
    paths = write_summary(BOTH, tmp_path, ["png"])
    assert [path.name for path in paths] == ["report.png", "report_claims.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_a_summary_names_its_records() -> None:
    assert (
        repr(BOTH)
        == "Summary(author_fashion on fashion_mnist: 3 rows; fashion_claim on fashion_mnist: 3 rows)"
    )
    assert "<table" in BOTH._repr_html_()
