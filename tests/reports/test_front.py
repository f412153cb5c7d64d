import dataclasses
import io
import json
import math
import os
import subprocess
import sys

import pandas as pd
import pytest
from helpers import texts_of
from hypothesis import given, settings
from hypothesis import strategies as st
from made_fronts import EMPTY, a_front, a_front_over, noisy_front
from pandas.testing import assert_frame_equal
from rich.console import Console

from invact.errors import EnvironmentFault, InputError
from invact.files import write_atomically
from invact.fronts.images import Known
from invact.fronts.pareto import Apart, ParetoFront, Point
from invact.measures import MEASURES
from invact.reports.figures.bands import trust_text
from invact.reports.figures.front import front_figure
from invact.reports.front import FORMATS, front_table, write_front
from invact.training.results import Status

TEXT_COLUMNS = ["status", "config", "label", "run_id"]


# A label may contain any text of the user, including special characters of CSV, JSON and HTML.
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
fractions = st.floats(0, 1)
counts = st.integers(0, 10**15)
times = st.floats(0, 1e9, exclude_min=True)


@st.composite
def points(draw, values, measure):
    return Point(
        trial=draw(st.integers(0, 10**6)),
        config=draw(texts),
        label=draw(texts),
        macs=draw(counts),
        params=draw(counts),
        filters=draw(counts),
        accuracy=draw(fractions),
        test_accuracy=draw(st.none() | fractions),
        seeds=draw(st.integers(1, 30)),
        run_id=draw(texts),
        values=values,
        activation_bytes=draw(counts),
        bytes_moved=draw(counts),
        latency_ms=draw(times),
        measure=measure,
    )


@st.composite
def fronts(draw):
    values = {"activation": draw(texts), "rate": draw(fractions)}
    cost = draw(st.none() | counts)
    measure = draw(st.sampled_from(list(MEASURES)))
    status = draw(st.sampled_from(Status))
    more = (cost, cost, draw(st.none() | times), measure)
    apart = Apart(1, draw(texts), draw(texts), status, cost, cost, cost, 1, "r", values, *more)
    groups = [draw(st.lists(points(values, measure), max_size=4)) for _ in range(2)]
    reference, limit = (draw(fractions), draw(times)), draw(st.none() | counts | times)
    return ParetoFront(
        *(draw(texts), *map(tuple, groups), (apart,), reference, draw(fractions), limit), measure=measure
    )


@settings(deadline=None, max_examples=40)
@given(fronts())
def test_a_csv_file_contains_the_whole_front(front):
    content = FORMATS["csv"](front)
    expected = front.to_pandas()
    text = [*TEXT_COLUMNS, "param.activation"]
    types = {
        **expected.dtypes.to_dict(),
        **dict.fromkeys(text, "str"),
        **{name: "Int64" for name, dtype in expected.dtypes.items() if dtype == "Int64"},
    }
    numeric = {name: [""] for name in expected.columns if name not in text}
    read = pd.read_csv(
        io.BytesIO(content),
        dtype=types,
        na_values=numeric,
        keep_default_na=False,
    )
    for column in text:
        formulas = expected[column].str.match("[=+@-]") & ~expected[column].map(is_number)
        expected[column] = expected[column].where(~formulas, "'" + expected[column])
    assert_frame_equal(read, expected, check_exact=True, check_dtype=False)


def is_number(text):
    try:
        return not math.isnan(float(text)) or "nan" in text.lower()
    except ValueError:
        return False


@settings(deadline=None, max_examples=40)
@given(fronts())
def test_a_json_file_contains_the_whole_front(front):
    content = json.loads(FORMATS["json"](front))
    assert content.pop("schema") == "invact.front/3"
    assert set(content.pop("versions")) == {"invact", "python", "numpy", "pandas"}
    assert content.pop("note") == (trust_text(front) or None)
    reference = content.pop("reference")
    read = ParetoFront(
        uncertainty=content.pop("uncertainty"),
        points=tuple(Point(**one) for one in content.pop("front")),
        dominated=tuple(Point(**one) for one in content.pop("dominated")),
        apart=tuple(Apart(**{**one, "status": Status(one["status"])}) for one in content.pop("apart")),
        reference=(reference["accuracy"], reference[front.measure]),
        **content,
    )
    assert read == front


@pytest.mark.parametrize(("seeds", "more"), [(1, ""), (3, "p_non_dominated,")])
def test_csv_columns(seeds, more):
    header = FORMATS["csv"](a_front(seeds)).decode().splitlines()[0]
    assert header == (
        "label,macs,validation_accuracy,test_accuracy,on_front,status,trial,config,params,filters,seeds,run_id,"
        f"{more}param.activation,param.filters"
    )


def test_json_contains_the_uncertainty():
    front = a_front()
    content = json.loads(FORMATS["json"](front))
    found, expected = content["uncertainty"], front.uncertainty
    assert found["seeds"] == [0, 1, 2]
    assert found["band"] == json.loads(json.dumps(dataclasses.asdict(expected.band)))
    assert [gap["verdict"] for gap in found["gaps"]] == [gap.verdict for gap in expected.gaps]
    assert {gap["treatment"] for gap in found["gaps"]} == {"inverse", "elu"}
    shares = dict(zip(found["configs"], found["band"]["p_non_dominated"], strict=True))
    points = content["front"] + content["dominated"]
    assert {point["config"]: point["p_non_dominated"] for point in points} == shares
    assert json.loads(FORMATS["json"](a_front(1)))["uncertainty"] is None


def test_every_report_says_what_one_seed_cannot_tell():
    one, several = a_front(1), a_front()
    said = "one seed cannot tell: "
    assert trust_text(one).startswith(said)
    assert said in " ".join(table_of(one).split())
    assert json.loads(FORMATS["json"](one))["note"] == trust_text(one)
    assert said in texts_of(front_figure(one))
    assert said in FORMATS["html"](one).decode()
    for other in (several, EMPTY):
        assert said not in table_of(other)
        assert said not in texts_of(front_figure(other))
    assert json.loads(FORMATS["json"](EMPTY))["note"] is None


@pytest.mark.parametrize("known", Known)
def test_every_report_says_where_the_noise_of_the_images_is_missing(known):
    front = a_front()
    front = dataclasses.replace(
        front, uncertainty=dataclasses.replace(front.uncertainty, validation_images=known)
    )
    assert bool(trust_text(front)) is (known is not Known.HITS)
    for shown in (" ".join(table_of(front).split()), FORMATS["html"](front).decode()):
        assert (trust_text(front) in shown) or known is Known.HITS
        assert ("noise of the validation images" in shown) is (known is not Known.HITS)


@pytest.mark.parametrize("front", [a_front(), EMPTY], ids=["front", "empty"])
def test_the_same_front_gives_the_same_bytes(front, tmp_path):
    """Whether a format is written alone or with the others, which share the figure."""
    together = write_front(front, tmp_path / "new" / "all")
    gaps = front.uncertainty is not None
    names = {
        kind: [f"front.{kind}"] + [f"front_gap.{kind}"] * (gaps and kind in ("png", "svg"))
        for kind in FORMATS
    }
    assert [path.name for path in together] == [name for each in names.values() for name in each]
    assert {*(tmp_path / "new" / "all").iterdir()} == {*together}
    for kind, expected in names.items():
        alone = write_front(front, tmp_path / kind, [kind])
        assert alone == [tmp_path / kind / name for name in expected]
        for path in alone:
            assert path.read_bytes() == (tmp_path / "new" / "all" / path.name).read_bytes()


def test_an_unknown_format_writes_nothing(tmp_path):
    with pytest.raises(
        InputError, match=r"format: received 'pgn'; did you mean 'png'\? Allowed: csv, json, png"
    ):
        write_front(a_front(), tmp_path, ["csv", "pgn"])
    assert list(tmp_path.iterdir()) == []


def test_write_atomically_keeps_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "front.csv"
    write_atomically(path, b"old")

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(EnvironmentFault, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        write_front(a_front(), tmp_path / "file", ["csv"])


@pytest.mark.parametrize(
    ("measure", "heads", "reference"),
    [
        ("latency_ms", ["ms", "MACs"], "0.46 ms"),
        ("activation_bytes", ["bytes", "MACs"], "12.3 k bytes of activations"),
        ("bytes_moved", ["bytes", "MACs"], "49.2 k bytes moved"),
        ("params", ["params", "MACs"], "396 parameters"),
        ("macs", ["MACs", "params"], "160 k MACs"),
    ],
)
def test_table_over_any_measure(measure, heads, reference):
    front = a_front_over(measure, seeds=1)
    lines = table_of(front, 80).splitlines()
    assert max(map(len, lines)) <= 80
    header = next(line for line in lines if "configuration" in line)
    assert header.split() == ["configuration", *heads, "filters", "valid.", "test", "trial"]
    assert lines[1] == "all rows: seeds 1"
    assert f"to (0%, {reference})" in lines[-2]
    assert any(line.split()[:5] == ["inverse", "0", "0.13", "10", "k"] for line in lines) == (
        measure == "latency_ms"
    )
    # With several seeds, `+-` is half the width of the band at the cost of the point.
    assert "0.05" in table_of(a_front_over(measure))


def test_json_names_the_measure():
    front = a_front_over("latency_ms", 0.5)
    content = json.loads(FORMATS["json"](front))
    assert (content["measure"], content["budget"]) == ("latency_ms", 0.5)
    assert content["reference"] == {"accuracy": 0.0, "latency_ms": pytest.approx(0.47)}
    assert [one["latency_ms"] for one in content["front"]] == [point.cost for point in front.points]
    assert content["uncertainty"]["band"]["budgets"] == sorted(point.cost for point in front.points)
    assert [one["latency_ms"] for one in content["apart"]] == [None, None]
    assert json.loads(FORMATS["json"](a_front()))["reference"] == {"accuracy": 0.0, "macs": 2_560_000}


def test_table_is_plain_text_in_a_file():
    file = io.StringIO()
    Console(file=file, width=80).print(front_table(a_front()))
    text = file.getvalue()
    assert "\x1b" not in text
    for shown in ("inverse 4", "inverse 16", "97.37%", "2.56 M", "4 over budget, 1 diverged, 1 failed"):
        assert shown in text
    assert max(map(len, text.splitlines())) <= 80


def table_of(front, width=120):
    file = io.StringIO()
    Console(file=file, width=width).print(front_table(front))
    return file.getvalue()


def test_table_of_several_seeds_has_intervals_and_shares():
    front = noisy_front()
    lines = table_of(front).splitlines()
    header = next(line for line in lines if "configuration" in line)
    assert header.split()[-3:] == ["+-", "P", "trial"]
    band = front.uncertainty.band
    for point in front.points:
        (row,) = [line.split() for line in lines if line.strip().startswith(f"{point.label} ")]
        at = band.budgets.index(point.macs)
        # At a point of the front, the middle of the band is the test accuracy of this point.
        assert band.attained[at] == pytest.approx(point.test_accuracy)
        assert row[-5:] == [
            f"{point.accuracy:.2%}",
            f"{point.test_accuracy:.2%}",
            f"{100 * (band.high[at] - band.attained[at]):.2f}",
            f"{point.p_non_dominated:.2f}",
            str(point.trial),
        ]
    near = [point for point in front.dominated if point.p_non_dominated >= 0.05]
    far = [point for point in front.dominated if point.p_non_dominated < 0.05]
    assert near
    assert all(any(line.strip().startswith(f"{point.label} ") for line in lines) for point in near)
    assert not any(line.strip().startswith(f"{point.label} ") for line in lines for point in far)
    text = "\n".join(lines)
    for shown in ("4 seeds; +-: 95%", "pointwise", "below the line", "inverse - relu: ", "margin 0.3"):
        assert shown in text


def test_the_table_of_one_seed_has_no_uncertainty():
    text = table_of(a_front(1))
    header = next(line for line in text.splitlines() if "configuration" in line)
    assert header.split() == [
        "configuration",
        *["MACs", "params", "filters", "valid.", "test", "trial"],
    ]
    assert "hypervolume" in text.strip().splitlines()[-2]


def test_a_label_is_not_read_as_markup():
    odd = Point(0, "c", "[red]x[/blue]", 1, 1, 1, 0.5, None, 1, "r")
    file = io.StringIO()
    Console(file=file, width=100).print(front_table(ParetoFront("[bold]", (odd,), (), (), (0.0, 1.0), 0.0)))
    assert "[red]x[/blue]" in file.getvalue()
    assert "[bold]" in file.getvalue()


def test_import_is_light():
    code = (
        "import sys, invact.reports.front, invact.statistics\n"
        "heavy = 'pandas matplotlib plotly rich statsmodels tensorflow keras mlflow'.split()\n"
        "assert not set(heavy) & set(sys.modules), set(heavy) & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
