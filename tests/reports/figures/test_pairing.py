import numpy as np
import pytest
from helpers import texts_of
from matplotlib.collections import PathCollection

from invact.analysis.pairing import LayerPairing, random_pairing
from invact.errors import InputError
from invact.reports.figures import pairing_figure
from invact.reports.figures.style import picture


def run(*means, filters=8):
    return [
        LayerPairing(f"conv{number}", (mean,) * filters, random_pairing(9, filters))
        for number, mean in enumerate(means, start=1)
    ]


def test_the_figure_shows_every_run_the_means_and_the_reference():
    results = {
        "relu": [run(-0.9, -0.7, -0.2), run(-0.8, -0.6, -0.3)],
        "inverse": [run(-0.5, -0.4, filters=4)],
    }
    figure = pairing_figure(results, title="digits")
    (axes,) = figure.axes
    drawn = [one.get_offsets() for one in axes.collections if isinstance(one, PathCollection)]
    heights = sorted(np.concatenate(drawn)[:, 1].tolist())
    runs = [-0.9, -0.8, -0.7, -0.6, -0.2, -0.3, -0.5, -0.4]
    np.testing.assert_allclose(heights, sorted([*runs, -0.85, -0.65, -0.25, -0.5, -0.4]))
    bars = [line.get_ydata()[0] for line in axes.lines]
    np.testing.assert_allclose(bars, [random_pairing(9, 8).mean] * 3 + [random_pairing(9, 4).mean] * 2)
    # The marks of two arms are in different columns of the same layer.
    places = {round(x, 2) for x in np.concatenate(drawn)[:, 0]}
    assert len(places) == 5
    assert {round(x) for x in places} == {0, 1, 2}
    shown = texts_of(figure)
    for text in ("relu, n = 2", "inverse, n = 1", "conv1", "conv3", "digits"):
        assert text in shown
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["relu, n = 2", "inverse, n = 1"]
    assert picture(figure, "png") == picture(pairing_figure(results, title="digits"), "png")


@pytest.mark.parametrize(
    "results", [{}, {"relu": []}, {"relu": [[]]}, {"relu": [run(-0.5)], "inverse": [[]]}]
)
def test_results_without_layers_are_refused(results):
    with pytest.raises(InputError, match="results: received no layers"):
        pairing_figure(results)


def test_an_unknown_arm_is_refused():
    with pytest.raises(InputError, match="did you mean 'inverse'"):
        pairing_figure({"inverze": [run(-0.5)]})
