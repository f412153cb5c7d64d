import dataclasses
import json
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from helpers import texts_of
from made_fronts import a_front, a_front_over, noisy_front
from matplotlib.collections import FillBetweenPolyCollection, PathCollection

from invact.errors import InputError
from invact.fronts.pareto import ParetoFront, Point, pareto_front_of
from invact.reports.figures import claim_figure, front_figure
from invact.reports.figures.bands import gap_figure
from invact.reports.figures.style import picture
from invact.reports.front import FORMATS


def test_matplotlib_settings_of_the_user_are_ignored():
    import matplotlib as mpl

    expected = picture(front_figure(a_front()), "png")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.hashsalt": "other"}):
        assert picture(front_figure(a_front()), "png") == expected
        assert mpl.rcParams["font.size"] == 30


OVER = {
    "latency_ms": (0.5, "ms for one image", "0.47 ms)", "budget 0.5 ms"),
    "activation_bytes": (
        *(20_000, "bytes of activations for one image"),
        *("12.3 k bytes of activations)", "budget 20 k bytes of activations"),
    ),
    "params": (500, "parameters (log scale)", "396 parameters)", "budget 500 parameters"),
}


@pytest.mark.parametrize(("measure", "seeds"), [(measure, seeds) for measure in OVER for seeds in (1, 3)])
def test_figures_over_other_measures(measure, seeds):
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
    # Configurations that were refused before timing are counted.
    assert ("2 not measured" in shown) == (measure == "latency_ms")
    assert "never built" not in shown
    if seeds == 3:
        assert f"Budget: {axis}" in texts_of(gap_figure(front))
        assert f"of the test images within %{{x:{',' if measure != 'latency_ms' else '.4~g'}}}" in page


def test_a_cost_of_zero_has_a_place_on_a_logarithmic_axis():
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


def test_the_step_function_passes_through_the_front():
    front = a_front()
    stairs, *_ = [line for line in front_figure(front).axes[0].lines if line.get_drawstyle() == "steps-post"]
    corners = list(zip(*map(list, stairs.get_data()), strict=True))
    assert corners[:-1] == [(point.macs, 100 * point.accuracy) for point in front.points]
    assert corners[-1] == (front.budget, 100 * front.points[-1].accuracy)


def test_the_figure_shows_the_band():
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


def test_a_wide_band_leaves_the_points_readable():
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


def test_svg_is_xml_and_png_has_the_right_size():
    assert ElementTree.fromstring(FORMATS["svg"](a_front())).tag.endswith("svg")
    png = FORMATS["png"](a_front())
    assert (int.from_bytes(png[16:20]), int.from_bytes(png[20:24])) == (1280, 864)
