import dataclasses
import json
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from helpers import texts_of
from made_fronts import a_front, a_front_over, noisy_front
from matplotlib.collections import FillBetweenPolyCollection, PathCollection

from invact.arms import SHIPPED
from invact.errors import InputError
from invact.fronts.pareto import ParetoFront, Point, pareto_front_of
from invact.reports.figures import claim_figure, curve_figure, front_figure, interactive_front
from invact.reports.figures.bands import gap_figure
from invact.reports.figures.style import looks_of, picture
from invact.reports.front import FORMATS
from invact.search.objectives import Objective
from invact.statistics.ratios.local import local_ratio


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


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_winner_has_a_ring_and_an_entry_in_the_legend(seeds):
    front = a_front(seeds)
    objective = Objective(kind="cost", min_accuracy=0.94)
    winner = objective.winner((*front.points, *front.dominated))
    crowned = dataclasses.replace(front, min_accuracy=0.94, winner=winner)
    place = (winner.point.macs, 100 * winner.point.accuracy)
    figure = front_figure(crowned)
    lines = [list(zip(*line.get_data(), strict=True)) for line in figure.axes[0].lines]
    assert [place] in lines
    heights = [line.get_ydata() for line in figure.axes[0].lines if line.get_linestyle() != "None"]
    assert any(list(each) == [94.0, 94.0] for each in heights)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert f"winner: {objective.goal}" in legend
    assert "required 94%" in legend
    assert winner.point.label in texts_of(figure)
    figure.draw_without_rendering()
    box, page = figure.legends[0].get_window_extent(), figure.bbox
    assert page.x0 <= box.x0 < box.x1 <= page.x1
    interactive = interactive_front(crowned)
    (ring,) = [trace for trace in interactive.data if trace.name == f"winner: {objective.goal}"]
    assert (ring.x[0], ring.y[0]) == place
    assert ring.showlegend is not False
    assert str(winner) in interactive.layout.title.subtitle.text
    # Without a winner, nothing is marked.
    none = dataclasses.replace(crowned, winner=Objective(kind="cost", min_accuracy=1.0).winner(front.points))
    assert len(interactive_front(none).data) == len(interactive.data) - 1
    assert not any("winner" in text.get_text() for text in front_figure(none).legends[0].get_texts())
    assert "no winner: " in interactive_front(none).layout.title.subtitle.text


@pytest.mark.parametrize("label", ["$\\frac$ $", "a_b^c $x$", "\x1b[31mred", "a\x00b"])
def test_a_label_is_drawn_as_it_is(label):
    front = a_front(1)
    odd = dataclasses.replace(front.points[0], label=label)
    figure = front_figure(dataclasses.replace(front, points=(odd, *front.points[1:])))
    assert picture(figure, "png")
    svg = picture(figure, "svg").decode()
    ElementTree.fromstring(svg)
    assert "\x1b" not in svg


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
    for text in ("test, pointwise 95% band", "grey: test", "mean of 4 seeds"):
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
    control = [[0.90, 0.91, 0.905], [0.90, 0.90]]
    treatment = [[0.88, 0.885, 0.89, 0.875], [0.901, 0.898, 0.9]]
    estimates = [-0.0225, -0.0003]
    intervals = [(-0.031, -0.019), (-0.003, 0.002)]
    evidence = ([0.5, 0.7], control, treatment, estimates, intervals, ["REFUTED", "SUPPORTED"], 0.005)
    figure = claim_figure(*evidence, title="claim", levels=[0.001, 0.025])
    (axes,) = figure.axes
    drawn = {
        (round(float(x), 9), round(float(y), 2))
        for scatter in axes.collections
        for x, y in np.asarray(scatter.get_offsets())
    }
    # The dots of each row are below its estimate: the means of the control are 0.905 and 0.9.
    expected = {(-2.5, 0.24), (-2.0, 0.24), (-1.5, 0.24), (-3.0, 0.24), (-2.25, 0.0)}
    expected |= {(0.1, 1.24), (-0.2, 1.24), (0.0, 1.24), (-0.03, 1.0)}
    assert drawn == expected
    lines = [tuple(np.round(line.get_xdata(), 9)) for line in axes.lines]
    assert lines[:2] == [(-3.1, -1.9), (-0.3, 0.2)]
    assert (-0.5, -0.5) in lines
    low, high = axes.get_xlim()
    assert low < -3.1 < 0.2 < high
    shown = texts_of(figure)
    for text in (
        "REFUTED",
        "SUPPORTED",
        "margin \N{MINUS SIGN}0.5",
        "0.7",
        "n = 4 and 3",
        "n = 3 and 2",
        "claim",
    ):
        assert text in shown
    for text in ("bar: repeated confidence interval", "99.8% interval", "95% interval"):
        assert text in shown
    assert "dots: runs of the treatment minus the mean of the control" in shown
    plain = claim_figure(*evidence)
    assert "% interval" not in texts_of(plain)
    assert picture(plain, "svg") == picture(claim_figure(*evidence), "svg")


def test_claim_figure_before_the_first_look():
    control, treatment = [[0.9, 0.9], [], [0.9, 0.9]], [[0.89, 0.9], [0.9], []]
    nothing = [None] * 3
    verdicts = ["INCONCLUSIVE", "NO_ASSAY_SENSITIVITY", "INCONCLUSIVE"]
    figure = claim_figure(
        [0.7, 0.5, 0.3], control, treatment, nothing, nothing, verdicts, 0.005, levels=nothing
    )
    (axes,) = figure.axes
    drawn = [np.asarray(scatter.get_offsets()).tolist() for scatter in axes.collections[:3]]
    assert [len(dots) for dots in drawn] == [2, 0, 0]
    assert sorted(x for x, _ in drawn[0]) == pytest.approx([-1, 0])
    # Only the lines of the margin and of equality are left.
    assert [set(line.get_xdata()) for line in axes.lines] == [{-0.5}, {0}]
    shown = texts_of(figure)
    for text in ("n = 2 and 2", "n = 1 and 0", "n = 0 and 2", "INCONCLUSIVE", "NO_ASSAY_SENSITIVITY"):
        assert text in shown
    assert "% interval" not in shown
    assert picture(figure, "png")


def a_local_ratio(level=0.88):
    rng = np.random.default_rng(0)
    widths = np.repeat([2, 3, 4, 5, 6, 8, 11, 16], 4)
    accuracies = 0.92 - 0.2 / widths + rng.normal(0, 0.001, 32)
    control = level + rng.normal(0, 0.001, 8)
    ratio = local_ratio(widths, accuracies, 8, control)
    treated = [True] * 32 + [False] * 8
    return [*widths, *[8] * 8], [*accuracies, *control], treated, ratio


def test_curve_figure_shows_the_runs_the_curve_and_the_ratio():
    widths, accuracies, treated, ratio = a_local_ratio()
    figure = curve_figure([("Filters", widths, accuracies, treated, ratio)], ("relu", "inverse"), "claim")
    (axes,) = figure.axes
    scatters = [one for one in axes.collections if isinstance(one, PathCollection)]
    drawn = [np.asarray(scatter.get_offsets()).tolist() for scatter in scatters]
    runs = [[width, 100 * accuracy] for width, accuracy in zip(widths, accuracies, strict=True)]
    assert sorted(drawn[0] + drawn[2]) == sorted(runs)
    assert drawn[1] == [[8, pytest.approx(100 * ratio.level)]]
    assert len(drawn[3]) == 8
    curve, level, low, high = axes.lines
    assert curve.get_ydata().tolist() == [100 * accuracy for accuracy in ratio.fit]
    assert set(level.get_ydata()) == {100 * ratio.level}
    assert (set(low.get_xdata()), set(high.get_xdata())) == ({8 * ratio.low}, {8 * ratio.high})
    band = next(one for one in axes.collections if isinstance(one, FillBetweenPolyCollection))
    corners = {round(y, 9) for _, y in band.get_paths()[0].vertices.tolist()}
    assert {round(100 * end, 9) for ends in ratio.band for end in ends} <= corners
    shown = texts_of(figure)
    for text in (f"ratio {ratio.estimate:.3f} ({ratio.low:.3f} to {ratio.high:.3f})", "claim", "Filters"):
        assert text in shown
    assert picture(figure, "png")


@pytest.mark.parametrize(
    ("level", "text", "lines"),
    [
        (0.9065, "ratio 1.934 (1.841 to open)", 3),
        (0.95, "ratio not identified (open to open)", 2),
        (0.82, "ratio not identified (open to 0.252)", 3),
    ],
)
def test_curve_figure_shows_open_ends(level, text, lines):
    widths, accuracies, treated, ratio = a_local_ratio(level)
    assert not ratio.identifiable
    figure = curve_figure([("Filters", widths, accuracies, treated, ratio)], ("relu", "inverse"))
    shown = texts_of(figure)
    assert text in shown
    assert "open" in shown
    # The curve, the level, and the end that is not open.
    assert len(figure.axes[0].lines) == lines


def test_every_arm_has_a_look_of_its_own():
    looks = looks_of(SHIPPED)
    assert len({color for color, _, _ in looks.values()}) == len(SHIPPED)
    assert len({marker for _, marker, _ in looks.values()}) == len(SHIPPED)
    # These colours are those of the published figures.
    assert (looks["relu"][0], looks["inverse"][0]) == ("#0072B2", "#D55E00")


def test_curve_figure_tells_arms_of_single_stages_apart():
    widths, accuracies, treated, ratio = a_local_ratio()
    arms = ("inverse/relu", "relu/inverse")
    for pair in (("relu", arms[0]), arms):
        (axes,) = curve_figure([("Filters", widths, accuracies, treated, ratio)], pair).axes
        colors = {
            tuple(one.get_facecolor()[0][:3]) for one in axes.collections if isinstance(one, PathCollection)
        }
        assert len(colors) == 2
        assert [text.get_text() for text in axes.get_legend().get_texts()] == list(pair)


def test_claim_figure_refuses_unequal_lengths():
    with pytest.raises(InputError, match=r"lengths \[1, 0, 0, 0, 0, 0, 1\]. Allowed: equal"):
        claim_figure([0.5], [], [], [], [], [], 0.005)
    with pytest.raises(InputError, match=r"lengths \[0, 0, 0, 0, 0, 0, 1\]"):
        claim_figure([], [], [], [], [], [], 0.005, levels=[0.025])


def test_svg_is_xml_and_png_has_the_right_size():
    assert ElementTree.fromstring(FORMATS["svg"](a_front())).tag.endswith("svg")
    png = FORMATS["png"](a_front())
    assert (int.from_bytes(png[16:20]), int.from_bytes(png[20:24])) == (1280, 864)
