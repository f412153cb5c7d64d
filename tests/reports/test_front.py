import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from helpers import texts_of
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import FillBetweenPolyCollection, PathCollection
from pandas.testing import assert_frame_equal
from rich.console import Console

from invact.errors import EnvironmentFault, InputError
from invact.files import write_atomically
from invact.fronts.pareto import Apart, ParetoFront, Point, pareto_front_of
from invact.measures import MEASURES
from invact.reports.figures import claim_figure, front_figure, interactive_front
from invact.reports.figures.bands import gap_figure
from invact.reports.figures.style import picture
from invact.reports.front import FORMATS, front_table, write_front
from invact.training.results import Status

TEXT_COLUMNS = ["status", "config", "label", "run_id"]


def a_front(seeds=3):
    rows = []
    for arm, gain in (("relu", 0.0), ("inverse", 0.02), ("elu", -0.01)):
        for filters in (4, 8, 16, 32):
            rows += [
                {
                    "trial": len(rows),
                    "config": f"{arm}{filters}",
                    "label": f"{arm} {filters}",
                    "seed": seed,
                    "status": "OVER_BUDGET" if filters == 32 else "FINISHED",
                    "macs": 10_000 * filters**2,
                    "params": 99 * filters,
                    "filters": 2 * filters,
                    "validation_accuracy": None
                    if filters == 32
                    else 0.9 + gain + filters / 300 + seed / 3000,
                    "test_accuracy": None if filters == 32 else 0.89 + gain,
                    "run_id": f"run-{arm}-{filters}-{seed}",
                    "param.activation": arm,
                    "param.filters": filters,
                }
                for seed in range(seeds)
            ]
    rows += [
        {**rows[0], "config": "wild", "status": "DIVERGED", "macs": 300_000},
        {**rows[0], "config": "broken", "status": "FAILED", "macs": None, "params": None, "filters": None},
        {**rows[0], "config": "vast", "status": "OVER_BUDGET", "macs": 10**10},
    ]
    return pareto_front_of(pd.DataFrame(rows), "filters & activation", budget=5_000_000)


def a_front_over(measure, budget=None, seeds=3):
    """Configurations that were timed on each seed, but for those over the budget."""
    rows = [
        {
            "trial": 4 * number + size,
            "config": f"{arm}{size}",
            "label": f"{arm} {size}",
            "seed": seed,
            "status": status,
            "macs": 10_000 * 4**size,
            "params": 99 * 2**size,
            "filters": 2 * 2**size,
            "activation_bytes": 3_072 * 2**size + number,
            "bytes_moved": 12_288 * 2**size + number,
            "latency_ms": None if status == "OVER_BUDGET" else 0.11 * 2**size + 0.02 * number + 0.01 * seed,
            "validation_accuracy": None if status == "OVER_BUDGET" else 0.9 + size / 50 + gain + seed / 3000,
            "test_accuracy": None if status == "OVER_BUDGET" else 0.89 + size / 50 + gain + seed / 5000,
            "run_id": f"run-{arm}-{size}-{seed}",
            "param.activation": arm,
        }
        for number, (arm, gain) in enumerate({"relu": 0.0, "inverse": 0.01}.items())
        for size, status in enumerate(["FINISHED", "FINISHED", "FINISHED", "OVER_BUDGET"])
        for seed in range(seeds)
    ]
    return pareto_front_of(pd.DataFrame(rows), "timed", budget=budget, measure=measure)


def noisy_front():
    rng = np.random.default_rng(0)
    rows = [
        {
            "trial": 3 * number + size,
            "config": f"{arm}{size}",
            "label": f"{arm} {size}",
            "seed": seed,
            "status": "FINISHED",
            "macs": 1_000 * (size + 1) + number,
            "params": 10,
            "filters": 4,
            "validation_accuracy": 0.8 + 0.03 * size + 0.002 * number + rng.normal(0, 0.01),
            "test_accuracy": 0.8 + 0.03 * size + 0.002 * number + rng.normal(0, 0.01),
            "run_id": "r",
            "param.activation": arm,
        }
        for number, arm in enumerate(["relu", "inverse"])
        for size in range(3)
        for seed in range(4)
    ]
    return pareto_front_of(pd.DataFrame(rows), "noisy")


EMPTY = pareto_front_of(pd.DataFrame(), "empty")
# What a user may put in a label, and what breaks a careless reader of CSV, JSON or HTML.
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
def test_csv_read_back_is_the_front(front):
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
    assert_frame_equal(read, expected, check_exact=True, check_dtype=False)


@settings(deadline=None, max_examples=40)
@given(fronts())
def test_json_read_back_is_the_front(front):
    content = json.loads(FORMATS["json"](front))
    assert content.pop("schema") == "invact.front/3"
    assert set(content.pop("versions")) == {"invact", "python", "numpy", "pandas"}
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
        "on_front,status,trial,config,label,macs,params,filters,validation_accuracy,test_accuracy,seeds,run_id,"
        f"{more}param.activation,param.filters"
    )


def test_json_holds_what_the_seeds_say():
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


@pytest.mark.parametrize("front", [a_front(), a_front(1), EMPTY], ids=["front", "one seed", "empty"])
@pytest.mark.parametrize("kind", FORMATS)
def test_same_front_same_bytes(front, kind, tmp_path):
    first = write_front(front, tmp_path / "new" / "one", [kind])
    second = write_front(front, tmp_path / "two", [kind])
    gap = kind in ("png", "svg") and front.uncertainty is not None
    names = [f"front.{kind}"] + [f"front_gap.{kind}"] * gap
    assert first == [tmp_path / "new" / "one" / name for name in names]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert sorted(path.name for path in first[0].parent.iterdir()) == names


def test_users_matplotlib_settings_do_not_matter():
    import matplotlib as mpl

    expected = picture(front_figure(a_front()), "png")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.hashsalt": "other"}):
        assert picture(front_figure(a_front()), "png") == expected
        assert mpl.rcParams["font.size"] == 30


def test_unknown_format_writes_nothing(tmp_path):
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


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        write_front(a_front(), tmp_path / "file", ["csv"])


OVER = {
    "latency_ms": (0.5, "ms for one image", "0.47 ms)", "budget 0.5 ms"),
    "activation_bytes": (
        *(20_000, "bytes of activations for one image"),
        *("12.3 k bytes of activations)", "budget 20 k bytes of activations"),
    ),
    "params": (500, "parameters (log scale)", "396 parameters)", "budget 500 parameters"),
}


@pytest.mark.parametrize(("measure", "seeds"), [(measure, seeds) for measure in OVER for seeds in (1, 3)])
def test_pictures_over_other_measures(measure, seeds):
    budget, axis, reference, line = OVER[measure]
    front = a_front_over(measure, budget, seeds)
    figure = front_figure(front)
    drawn = [one.get_offsets() for one in figure.axes[0].collections if isinstance(one, PathCollection)]
    expected = [(point.cost, 100 * point.accuracy) for point in (*front.points, *front.dominated)]
    assert sorted(map(tuple, np.concatenate(drawn).tolist())) == sorted(expected)
    low, high = figure.axes[0].get_xlim()
    assert low < min(cost for cost, _ in expected) < budget < high
    html = FORMATS["html"](front).decode()
    page = html[html.rindex("Plotly.newPlot") :]
    shown = texts_of(figure)
    for text in (axis, line, *([reference] if seeds == 3 or measure != "latency_ms" else ["0.46 ms)"])):
        assert text in shown
        assert text in page
    assert "MACs of" not in shown + page
    # Who was refused before being timed is counted.
    assert ("2 not measured" in shown) == (measure == "latency_ms")
    assert "never built" not in shown
    if seeds == 3:
        assert f"Budget: {axis}" in texts_of(gap_figure(front))
        assert f"of the test images within %{{x:{',' if measure != 'latency_ms' else '.4~g'}}}" in page


def test_hovering_tells_every_cost():
    traces = interactive_front(a_front_over("latency_ms")).data
    hovers = [line.split("<br>") for trace in traces for line in trace.hovertext or ()]
    (dearest,) = [lines for lines in hovers if "inverse 2" in lines[0]]
    # As the seeds' median is 0.47000000000000003.
    costs = ["MACs: 160,000", "parameters: 396", "filters: 8", "bytes of activations: 12,289"]
    assert dearest[2:8] == [*costs, "bytes moved: 49,153", "ms: 0.47"]


def test_what_costs_nothing_has_a_place_on_a_log_axis():
    values = {"activation": "relu"}
    for measure, place in {"macs": 1, "latency_ms": 1e-6}.items():
        free = Point(0, "a", "a", 0, 0, 0, 0.5, None, 1, "r", values, latency_ms=0.0, measure=measure)
        below = dataclasses.replace(free, latency_ms=0.25, macs=8, accuracy=0.6)
        front = ParetoFront("free", (free, below), (), (), (0.0, 1.0), 0.0, measure=measure)
        stairs, *_ = front_figure(front).axes[0].lines
        assert stairs.get_xdata().tolist()[:2] == [place, below.cost]
        assert picture(front_figure(front), "png")
        assert FORMATS["html"](front)


def test_an_empty_front_over_latency():
    empty = pareto_front_of(pd.DataFrame(), "empty", measure="latency_ms")
    assert front_figure(empty).axes[0].get_xlim()[1] < 1_000
    assert json.loads(FORMATS["json"](empty))["reference"] == {"accuracy": 0.0, "latency_ms": 0.0}


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
    assert header.split() == ["configuration", *heads, "filters", "valid.", "test", "seeds", "trial"]
    assert f"to (0%, {reference})" in lines[-1]
    assert any(line.split()[:5] == ["inverse", "0", "0.13", "10", "k"] for line in lines) == (
        measure == "latency_ms"
    )
    # With several seeds the band is found at the point's cost.
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


def test_front_figure_shows_every_configuration():
    front = a_front()
    figure = front_figure(front)
    main, strip = figure.axes
    scatters = [one for one in main.collections if isinstance(one, PathCollection)]
    drawn = np.concatenate([scatter.get_offsets() for scatter in scatters])
    expected = [(point.macs, 100 * point.accuracy) for point in (*front.points, *front.dominated)]
    assert sorted(map(tuple, drawn.tolist())) == sorted(expected)
    assert main.get_xscale() == "log"
    shown = texts_of(figure)
    names = ("relu", "inverse", "elu", "over budget (4)", "diverged (1)", "failed (1)", "budget 5 M", "front")
    for name in ("filters & activation", "1 more", "1 never built", *names):
        assert name in shown
    ticks = [len(line.get_xdata()) for line in strip.lines if line.get_marker() == "|"]
    assert ticks == [3, 1, 0]
    for point in front.points:
        assert point.label in shown


def test_labels_do_not_overlap():
    values = {"activation": "relu"}
    crowd = tuple(
        Point(i, str(i), f"a long label {i}", 1000 + 7 * i, 1, 1, 0.5 + 0.001 * i, None, 1, "r", values)
        for i in range(40)
    )
    figure = front_figure(ParetoFront("crowd", crowd, (), (), (0.0, 2000.0), 1.0))
    figure.canvas.draw()
    labels = [text for text in figure.axes[0].texts if text.get_text().startswith("a long")]
    boxes = [text.get_window_extent() for text in labels]
    assert 2 <= len(boxes) < 40
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_staircase_passes_through_the_front():
    front = a_front()
    stairs, *_ = [line for line in front_figure(front).axes[0].lines if line.get_drawstyle() == "steps-post"]
    corners = list(zip(*map(list, stairs.get_data()), strict=True))
    assert corners[:-1] == [(point.macs, 100 * point.accuracy) for point in front.points]
    assert corners[-1] == (front.budget, 100 * front.points[-1].accuracy)


def test_the_band_is_drawn_as_it_is():
    front = noisy_front()
    axes = front_figure(front).axes[0]
    band = front.uncertainty.band
    dashed = [line for line in axes.lines if line.get_drawstyle() == "steps-post"][1]
    assert dashed.get_xdata().tolist()[:-1] == list(band.budgets)
    assert dashed.get_ydata().tolist()[:-1] == [100 * value for value in band.attained]
    (area,) = [one for one in axes.collections if isinstance(one, FillBetweenPolyCollection)]
    corners = {(x, round(y, 9)) for x, y in area.get_paths()[0].vertices.tolist()}
    for budget, low, high in zip(band.budgets, band.low, band.high, strict=True):
        assert {(budget, round(100 * low, 9)), (budget, round(100 * high, 9))} <= corners
    shown = texts_of(axes.figure)
    for point in front.points[:1]:
        assert f"{point.label}, P {point.p_non_dominated:.2f}" in shown
    for text in ("test, 95% band", "grey: test", "mean of 4 seeds"):
        assert text in shown
    assert "band" not in texts_of(front_figure(a_front(1)))


def test_a_wide_band_does_not_crush_the_points():
    front = noisy_front()
    wide = dataclasses.replace(
        front.uncertainty.band,
        low=tuple(-9.0 for _ in front.uncertainty.band.low),
        high=front.uncertainty.band.high,
    )
    front = dataclasses.replace(front, uncertainty=dataclasses.replace(front.uncertainty, band=wide))
    low, high = front_figure(front).axes[0].get_ylim()
    shown = [100 * point.accuracy for point in (*front.points, *front.dominated)]
    assert low < min(shown) < max(shown) < high
    assert high - low < 4 * (max(shown) - min(shown)) + 4


def test_the_gap_is_drawn_with_its_margin():
    front = noisy_front()
    (gap,) = front.uncertainty.gaps
    (axes,) = gap_figure(front).axes
    line, zero, margin = axes.lines
    assert line.get_ydata().tolist()[:-1] == [100 * value for value in gap.gap.gap]
    assert line.get_xdata().tolist()[:-1] == list(gap.gap.budgets)
    assert (set(zero.get_ydata()), set(margin.get_ydata())) == ({0}, {-0.3})
    shown = texts_of(axes.figure)
    for text in (gap.verdict, "95% band", "margin \N{MINUS SIGN}0.3", "inverse \N{MINUS SIGN} relu"):
        assert text in shown
    assert len(gap_figure(a_front()).axes) == 2


def test_claim_figure_shows_the_evidence():
    differences = [[-0.03, -0.02, -0.025], [0.001, -0.002, 0.0]]
    estimates = [-0.0255, 0.0005]
    intervals = [(-0.031, -0.019), (-0.003, 0.002)]
    evidence = ([0.5, 0.7], differences, estimates, intervals, ["REFUTED", "SUPPORTED"], 0.005)
    figure = claim_figure(*evidence, title="claim")
    (axes,) = figure.axes
    drawn = {
        round(float(x), 9) for scatter in axes.collections for x in np.asarray(scatter.get_offsets())[:, 0]
    }
    values = [*differences[0], *differences[1], *estimates]
    assert drawn == {round(100 * x, 9) for x in values}
    lines = [tuple(np.round(line.get_xdata(), 9)) for line in axes.lines]
    assert lines[:2] == [(-3.1, -1.9), (-0.3, 0.2)]
    assert (-0.5, -0.5) in lines
    low, high = axes.get_xlim()
    assert low < -3 < 0.2 < high
    for text in ("REFUTED", "SUPPORTED", "margin \N{MINUS SIGN}0.5", "0.7", "n = 3", "claim", "90%"):
        assert text in texts_of(figure)
    assert picture(figure, "svg") == picture(claim_figure(*evidence, title="claim"), "svg")


def test_claim_figure_refuses_unequal_lengths():
    with pytest.raises(InputError, match="lengths"):
        claim_figure([0.5], [], [], [], [], 0.005)


def test_svg_is_xml_and_png_has_the_stated_size():
    assert ElementTree.fromstring(FORMATS["svg"](a_front())).tag.endswith("svg")
    png = FORMATS["png"](a_front())
    assert (int.from_bytes(png[16:20]), int.from_bytes(png[20:24])) == (1280, 864)


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
        # On the front, the band's middle is the point's own test accuracy.
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
    for shown in ("4 seeds; +-: 95%", "below the line", "inverse - relu: ", "margin 0.3"):
        assert shown in text


def test_table_of_one_seed_is_what_it_was():
    text = table_of(a_front(1))
    header = next(line for line in text.splitlines() if "configuration" in line)
    assert header.split() == [
        "configuration",
        *["MACs", "params", "filters", "valid.", "test", "seeds", "trial"],
    ]
    assert "hypervolume" in text.strip().splitlines()[-1]


def test_table_takes_a_label_as_it_is():
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


HOVER = """
<script>
window.addEventListener("load", () => setTimeout(() => {
  const plot = document.getElementById("front");
  plot.data.forEach((trace, curve) => {
    if (trace.name !== "inverse, on the front") return;
    Plotly.Fx.hover(plot, [{curveNumber: curve, pointNumber: 0}]);
  });
}, 500));
</script>
"""


def test_html_in_a_browser(tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        if os.environ.get("CI"):
            pytest.fail("no chromium on the machine")
        pytest.skip("no chromium on the machine")
    front = a_front()
    attack = "<img src=x onerror=document.body.id='owned'></script><script>document.body.id='owned'</script>"
    odd = Point(99, attack, attack, 5, 1, 1, 0.1, None, 1, attack, {"activation": attack})
    front = ParetoFront(
        attack,
        (odd, *front.points),
        front.dominated,
        front.apart,
        front.reference,
        1.0,
        front.budget,
        front.uncertainty,
    )
    (path,) = write_front(front, tmp_path, ["html"])
    page = path.read_text(encoding="utf-8")
    assert '<script src="http' not in page
    # A copy that hovers over one point by itself.
    path.write_text(page.replace("</body>", HOVER + "</body>"), encoding="utf-8")
    done = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            # No name resolves: the page has to do without a network.
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--virtual-time-budget=4000", "--window-size=1000,700", "--dump-dom", path.as_uri()),
        ],
        capture_output=True,
        check=True,
        timeout=60,
    )
    # Without the scripts, what is left is what Plotly drew.
    drawn = done.stdout.decode()
    assert 'id="owned"' not in drawn
    drawn = drawn[drawn.rindex('class="plot-container') :]
    shown = len(front.points) + len(front.dominated)
    ticks = sum(one.macs is not None for one in front.apart)
    assert drawn.count('<path class="point') == shown + ticks
    for text in ("points: validation", "MACs of one image", "over budget (4)", "budget 5 M"):
        assert text in drawn
    assert "95% band" in drawn
    hover = drawn[drawn.index('class="hoverlayer') :]
    for text in ("inverse 4", "inverse4", "160,000", "93.3", "91.00%", "run-inverse-4-0", "100% of the resa"):
        assert text in hover
    assert "Upload" not in drawn
