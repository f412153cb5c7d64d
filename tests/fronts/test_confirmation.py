import csv
import dataclasses
import io
import json

import numpy as np
import pandas as pd
import pytest
from helpers import texts_of
from rich.console import Console
from scipy import stats

from invact.errors import EnvironmentFault
from invact.fronts.confirmation import confirm_points
from invact.fronts.pareto import ParetoFront, Point
from invact.reports.confirmation import confirmation_table, confirmation_values, write_confirmation
from invact.reports.figures.confirmation import confirmation_figure
from invact.reports.figures.style import picture

SEEDS = (7, 8, 9, 10)


def a_point(name, macs, accuracy, trial):
    values = {"activation": "relu"}
    return Point(trial, name, f"point {name}", macs, 10, 4, accuracy, 0.9, 3, f"r{name}", values)


FRONT = ParetoFront(
    "tiny",
    (a_point("a", 1_000, 0.91, 3), a_point("b", 2_000, 0.93, 1), a_point("c", 4_000, 0.95, 0)),
    *((), (), (0.0, 5_000.0), 1.0),
)
VALIDATION = {"a": [0.90, 0.91, 0.905, 0.895], "b": [0.92, 0.93, 0.90, 0.91], "c": [0.93] * 4}
# On the test set b is worse than a, and costs more.
TEST = {"a": [0.89, 0.90, 0.91, 0.90], "b": [0.88, 0.89, 0.90, 0.89], "c": [0.92, 0.92, 0.92, 0.92]}


def a_table(validation=VALIDATION, test=TEST, seeds=SEEDS):
    return pd.DataFrame(
        {
            "trial": point.trial,
            "config": point.config,
            "seed": seed,
            "status": "FINISHED",
            "validation_accuracy": validation[point.config][number],
            "test_accuracy": test[point.config][number],
            "run_id": f"{point.config}-{seed}",
        }
        for point in FRONT.points
        for number, seed in enumerate(seeds)
    )


def test_means_intervals_and_optimism():
    found = confirm_points(FRONT, a_table().sample(frac=1, random_state=1), SEEDS, "run")
    for one in found.points:
        name = one.point.config
        for mean, values in (
            (one.validation, VALIDATION[name]),
            (one.test, TEST[name]),
            (one.optimism, one.point.accuracy - np.array(VALIDATION[name])),
        ):
            assert mean.value == pytest.approx(np.mean(values))
            if np.std(values):
                expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
                assert (mean.low, mean.high) == pytest.approx(tuple(expected))
    assert found.points[2].validation.low == found.points[2].validation.high == pytest.approx(0.93)
    per_seed = [
        np.mean([point.accuracy - VALIDATION[point.config][number] for point in FRONT.points])
        for number in range(4)
    ]
    assert found.optimism.value == pytest.approx(np.mean(per_seed))
    expected = stats.ttest_1samp(per_seed, 0).confidence_interval(0.95)
    assert (found.optimism.low, found.optimism.high) == pytest.approx(tuple(expected))
    assert (found.run_id, found.seeds, found.failed) == ("run", SEEDS, 0)


def test_test_accuracy_decides_which_points_stay():
    found = confirm_points(FRONT, a_table(), SEEDS)
    assert [one.non_dominated for one in found.points] == [True, False, True]
    # b is worse than a at every seed, and c is better.
    assert [one.p_non_dominated for one in found.points] == pytest.approx([1, 0, 1], abs=0.05)
    swapped = confirm_points(FRONT, a_table(test=VALIDATION, validation=TEST), SEEDS)
    assert [one.non_dominated for one in swapped.points] == [True, True, True]


def test_the_costs_of_the_front_decide_which_points_stay():
    # By latency, c is the cheapest point, and it is better than the others.
    latencies = {"a": 0.75, "b": 0.5, "c": 0.25}
    points = tuple(
        dataclasses.replace(point, latency_ms=latencies[point.config], measure="latency_ms")
        for point in FRONT.points[::-1]
    )
    front = dataclasses.replace(FRONT, points=points, measure="latency_ms", reference=(0.0, 1.0))
    # Latencies that are measured again are ignored.
    found = confirm_points(front, a_table().assign(latency_ms=9.0), SEEDS)
    stays = {one.point.config: (one.non_dominated, one.p_non_dominated) for one in found.points}
    assert stays == {"c": (True, 1.0), "b": (False, 0.0), "a": (False, 0.0)}
    assert "point c\n0.25 ms" in texts_of(confirmation_figure(found))
    file = io.StringIO()
    Console(file=file, width=100).print(confirmation_table(found))
    header = next(line for line in file.getvalue().splitlines() if "configuration" in line)
    assert header.split()[:3] == ["configuration", "ms", "selected"]
    assert found.to_pandas()["latency_ms"].tolist() == [0.25, 0.5, 0.75]
    assert list(found.to_pandas())[:5] == ["label", "macs", "selected", "validation", "test"]
    assert confirmation_values(found)["measure"] == "latency_ms"
    sizes = dataclasses.replace(
        FRONT,
        points=tuple(
            dataclasses.replace(point, activation_bytes=8 * point.macs, measure="activation_bytes")
            for point in FRONT.points
        ),
        measure="activation_bytes",
    )
    found = confirm_points(sizes, a_table(), SEEDS)
    assert [one.non_dominated for one in found.points] == [True, False, True]
    assert "point a\n8 k bytes of activations" in texts_of(confirmation_figure(found))


def test_the_cheaper_of_two_equal_points_stays():
    test = {"a": [0.90] * 4, "b": [0.90] * 4, "c": [0.90] * 4}
    found = confirm_points(FRONT, a_table(test=test), SEEDS)
    assert [one.non_dominated for one in found.points] == [True, False, False]


def test_other_seeds_and_configurations_are_ignored():
    table = a_table()
    strange = table.assign(seed=99, test_accuracy=0.1, validation_accuracy=0.1)
    other = table.assign(config="z", test_accuracy=1.0)
    found = confirm_points(FRONT, pd.concat([strange, table, other]), SEEDS)
    expected = confirm_points(FRONT, table, SEEDS)
    assert found.points == expected.points
    assert len(found.table) == 12
    fewer = confirm_points(FRONT, table, SEEDS[:2])
    assert {one.seeds for one in fewer.points} == {2}
    assert fewer.points[0].test.value == pytest.approx(0.895)


def test_failed_runs_are_counted_and_left_out():
    table = a_table()
    fails = (table["config"] == "b") & (table["seed"] != 7)
    table.loc[fails, ["status", "validation_accuracy", "test_accuracy"]] = ["FAILED", np.nan, np.nan]
    found = confirm_points(FRONT, table, SEEDS)
    assert found.failed == 3
    assert found.optimism is None
    assert [one.seeds for one in found.points] == [4, 1, 4]
    assert found.points[1].test.low is None
    assert found.points[1].test.value == pytest.approx(0.88)
    assert {one.p_non_dominated for one in found.points} == {None}
    table.loc[fails | (table["config"] == "b"), ["status", "test_accuracy"]] = ["FAILED", np.nan]
    nothing = confirm_points(FRONT, table, SEEDS).points[1]
    assert (nothing.test, nothing.validation, nothing.optimism, nothing.non_dominated) == (None,) * 4
    file = io.StringIO()
    Console(file=file, width=100).print(confirmation_table(confirm_points(FRONT, table, SEEDS)))
    assert "4 runs failed" in file.getvalue()
    assert picture(confirmation_figure(confirm_points(FRONT, table, SEEDS)), "png")


def test_a_diverged_run_counts_with_its_accuracy():
    table = a_table()
    table.loc[(table["config"] == "a") & (table["seed"] == 7), ["status", "test_accuracy"]] = [
        "DIVERGED",
        0.1,
    ]
    found = confirm_points(FRONT, table, SEEDS)
    assert found.points[0].test.value == pytest.approx(np.mean([0.1, 0.90, 0.91, 0.90]))
    assert found.failed == 0


def test_files(tmp_path):
    found = confirm_points(FRONT, a_table(), SEEDS, "run")
    paths = write_confirmation(found, tmp_path, ["csv", "html", "json", "png", "svg", "csv"])
    assert [path.name for path in paths] == ["confirm.csv", "confirm.json", "confirm.png", "confirm.svg"]
    content = {path.name: path.read_bytes() for path in paths}
    write_confirmation(found, tmp_path)
    assert {path.name: path.read_bytes() for path in paths} == content
    rows = list(csv.DictReader(io.StringIO(content["confirm.csv"].decode())))
    assert [float(row["selected"]) for row in rows] == [0.91, 0.93, 0.95]
    assert [row["non_dominated"] for row in rows] == ["True", "False", "True"]
    assert float(rows[0]["test"]) == pytest.approx(0.90)
    values = json.loads(content["confirm.json"])
    assert values == json.loads(json.dumps(confirmation_values(found)))
    assert values["points"][0]["point"]["label"] == "point a"
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        write_confirmation(found, tmp_path / "file")


def test_the_figure_shows_every_point():
    found = confirm_points(FRONT, a_table(), SEEDS)
    figure = confirmation_figure(found)
    (axes,) = figure.axes
    drawn = {round(float(x), 6) for line in axes.lines for x in line.get_xdata()}
    for one in found.points:
        for value in (one.point.accuracy, one.validation.value, one.test.value, one.test.low, one.test.high):
            assert round(100 * value, 6) in drawn
    shown = texts_of(figure)
    for text in (
        "point a\n1 k MACs",
        "stays, P 1.00",
        f"dominated, P {found.points[1].p_non_dominated:.2f}",
        "4 fresh seeds",
    ):
        assert text in shown


def test_the_table_is_plain_text():
    file = io.StringIO()
    Console(file=file, width=100).print(confirmation_table(confirm_points(FRONT, a_table(), SEEDS)))
    text = file.getvalue()
    assert "\x1b" not in text
    for shown in ("point b", "93.00%", "91.50%", "+1.50", "no", "2 of 3 stay", "is +1.42 points"):
        assert shown in text
