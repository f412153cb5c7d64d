import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invact.errors import InputError
from invact.fronts.pareto import Apart, ParetoFront, Point, pareto_front_of
from invact.measures import MEASURES
from invact.training.results import Status


def run(config, seed=0, accuracy=0.9, macs=100, status="FINISHED", test=0.8, trial=0, **others):
    return {
        "trial": trial,
        "config": config,
        "label": f"label {config}",
        "seed": seed,
        "status": status,
        "macs": macs,
        "params": 10,
        "filters": 8,
        "validation_accuracy": accuracy,
        "test_accuracy": test,
        "run_id": f"{config}-{seed}",
        **others,
    }


def front_of(*runs, **arguments):
    return pareto_front_of(pd.DataFrame(list(runs)), "study", **arguments)


def names(group):
    return [one.config for one in group]


def test_front_of_means_over_seeds():
    front = front_of(
        run("a", 1, 0.80, test=0.6, trial=4, **{"param.filters": 8}),
        run("b", 0, 0.86, trial=5, **{"param.filters": 4}),
        run("a", 0, 0.90, test=0.7, trial=4, **{"param.filters": 8}),
        run("c", 0, 0.95, 300, trial=6, **{"param.filters": None}),
    )
    assert (names(front.points), names(front.dominated), front.apart) == (["b", "c"], ["a"], ())
    expected = Point(
        trial=4,
        config="a",
        label="label a",
        macs=100,
        params=10,
        filters=8,
        accuracy=pytest.approx(0.85),
        test_accuracy=pytest.approx(0.65),
        seeds=2,
        run_id="a-0",
        values={"filters": 8},
        # This is the only configuration with both seeds.
        p_non_dominated=1.0,
    )
    assert front.dominated == (expected,)
    assert front.points[1].values == {"filters": None}
    assert {point.p_non_dominated for point in front.points} == {None}
    assert (front.name, front.reference) == ("study", (0.0, 300.0))
    assert front.hypervolume == pytest.approx(0.86 * 200)


def test_an_unfinished_seed_excludes_the_configuration():
    front = front_of(
        run("good"),
        run("wild", 0, 0.99),
        run("wild", 1, None, status="DIVERGED", test=None),
        run("huge", 0, None, 10**12, status="OVER_BUDGET", test=None),
        run("broken", 0, None, None, status="FAILED", test=None, params=None, filters=None),
        run("both", 0, None, status="FAILED"),
        run("both", 1, None, status="DIVERGED"),
        run("late cost", 0, None, None, status="FAILED"),
        run("late cost", 1, 0.99, 70),
        run("not finite", 0, math.nan),
        budget=1000,
    )
    assert names(front.points) == ["good"]
    assert front.dominated == ()
    assert {one.config: one.status for one in front.apart} == {
        "wild": Status.DIVERGED,
        "huge": Status.OVER_BUDGET,
        "broken": Status.FAILED,
        "both": Status.DIVERGED,
        "late cost": Status.FAILED,
        "not finite": Status.DIVERGED,
    }
    assert {one.config: one.macs for one in front.apart}["late cost"] == 70
    assert {one.config: one.macs for one in front.apart}["broken"] is None
    # Excluded configurations change neither the reference nor the hypervolume.
    assert front.reference == (0.0, 100.0)
    assert front.budget == 1000


def test_a_seed_counts_once_and_by_its_finished_row():
    front = front_of(
        run("a", 0, None, status="FAILED"),
        run("a", 0, 0.9),
        run("a", 1, 0.8),
        run("a", 1, 0.8, trial=9),
    )
    assert (front.points[0].seeds, front.points[0].accuracy) == (2, pytest.approx(0.85))


def test_selection_never_reads_the_test_set():
    runs = [run(str(i), accuracy=0.5 + 0.01 * (i * 7 % 10), macs=100 + i, trial=i) for i in range(10)]
    front = front_of(*runs)
    other = front_of(*[{**one, "test_accuracy": 1 - one["validation_accuracy"]} for one in runs])
    unmeasured = front_of(*[{**one, "test_accuracy": None} for one in runs])
    assert names(front.points) == names(other.points) == names(unmeasured.points)
    assert front.hypervolume == other.hypervolume == unmeasured.hypervolume
    assert {point.test_accuracy for point in unmeasured.points} == {None}


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 4)), max_size=20), st.randoms()
)
def test_the_order_of_the_rows_does_not_matter(drawn, random):
    runs = [
        run(f"c{c}", seed, accuracy / 4, 100 + c, trial=c)
        for (c, seed), accuracy in {(c, seed): accuracy for c, seed, accuracy in drawn}.items()
    ]
    front = front_of(*runs)
    random.shuffle(runs)
    assert front_of(*runs) == front
    assert sorted(names(front.points) + names(front.dominated)) == sorted({one["config"] for one in runs})


def test_equal_points_are_kept_once():
    front = front_of(run("b", trial=2), run("a", trial=1))
    assert (names(front.points), names(front.dominated)) == (["a"], ["b"])


def test_given_reference():
    front = front_of(run("a", accuracy=0.9, macs=100), reference=(0.5, 1100.0))
    assert front.hypervolume == pytest.approx(0.4 * 1000)


@pytest.mark.parametrize("table", [pd.DataFrame(), pd.DataFrame(columns=list(run("a")))])
def test_empty_table(table):
    front = pareto_front_of(table, "none")
    assert front == ParetoFront("none", (), (), (), (0.0, 0.0), 0.0)
    assert pareto_front_of(table, "none", measure="latency_ms").measure == "latency_ms"
    assert len(front.to_pandas()) == 0
    assert "validation_accuracy" in front.to_pandas().columns


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame([run("a")]).drop(columns=["macs", "seed"]), "missing seed, macs"),
        (pd.DataFrame([run("a", status="DONE")]), "DONE"),
        (pd.DataFrame([run("a"), run(None)]), "config"),
        (pd.DataFrame([run("a", trial=None)]), "trial"),
        (pd.DataFrame([run("a", macs=None)]), "missing cost"),
    ],
)
def test_a_bad_table_is_refused(table, message):
    with pytest.raises(InputError, match=message):
        pareto_front_of(table, "study")


def measured(config, accuracy, latency, size, **others):
    return run(config, accuracy=accuracy, latency_ms=latency, activation_bytes=size, bytes_moved=7, **others)


# The front is different for each measure.
MEASURED = (
    measured("a", 0.50, 0.25, 4_000, macs=400),
    measured("b", 0.70, 4.0, 3_000, macs=200),
    measured("c", 0.80, 0.5, 1_000, macs=300),
    measured("d", 0.60, 0.75, 2_000, macs=100),
    measured("e", 0.90, 2.0, 8_000, macs=500, trial=3),
)


@pytest.mark.parametrize(
    ("measure", "front", "dominated", "reference", "area"),
    [
        # 0.50 (0.5 - 0.25) + 0.80 (2 - 0.5) + 0.90 (4 - 2)
        ("latency_ms", "ace", "db", (0.0, 4.0), 3.125),
        # 0.80 (8000 - 1000)
        ("activation_bytes", "ce", "dba", (0.0, 8_000.0), 5_600),
        # 0.60 (200 - 100) + 0.70 (300 - 200) + 0.80 (500 - 300)
        ("macs", "dbce", "a", (0.0, 500.0), 290),
        ("params", "e", "cbda", (0.0, 10.0), 0),
    ],
)
def test_front_over_any_measure(measure, front, dominated, reference, area):
    found = front_of(*MEASURED, measure=measure, budget=0.5)
    assert ("".join(names(found.points)), "".join(names(found.dominated))) == (front, dominated)
    assert (found.measure, found.reference, found.budget) == (measure, reference, 0.5)
    assert found.hypervolume == pytest.approx(area)
    table = {one["config"]: one for one in MEASURED}
    for point in (*found.points, *found.dominated):
        assert point.cost == table[point.config][measure]
        assert {name: getattr(point, name) for name in MEASURES} == {
            name: table[point.config][name] for name in MEASURES
        }
    given = front_of(*MEASURED, measure="latency_ms", reference=(0.5, 3.0))
    assert given.hypervolume == pytest.approx(0.3 * 1.5 + 0.4 * 1.0)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 4)), max_size=8),
    st.sampled_from([name for name in MEASURES if name != "macs"]),
    st.integers(1, 2),
)
def test_swapping_macs_with_another_measure_gives_the_same_front(drawn, measure, seeds):
    runs = [
        run(str(number), seed, accuracy / 10 + seed / 100, macs, trial=number, **{measure: cost})
        for number, (accuracy, macs, cost) in enumerate(drawn)
        for seed in range(seeds)
    ]
    found = front_of(*runs, measure=measure)
    swapped = front_of(*[{**one, "macs": one[measure], measure: one["macs"]} for one in runs])
    for group in ("points", "dominated"):
        assert names(getattr(found, group)) == names(getattr(swapped, group))
        shares = [[one.p_non_dominated for one in getattr(front, group)] for front in (found, swapped)]
        assert shares[0] == shares[1]
    assert (found.reference, found.hypervolume) == (swapped.reference, swapped.hypervolume)
    assert found.uncertainty == swapped.uncertainty


def test_a_latency_is_the_median_over_the_seeds():
    timed = [
        run("a", 0, latency_ms=0.5),
        run("a", 1, latency_ms=0.3),
        run("a", 2, latency_ms=0.4),
        run("b", 0, latency_ms=0.2, status="FAILED"),
        run("b", 1, latency_ms=None, status="FAILED"),
        run("c", 0, latency_ms=None, status="OVER_BUDGET"),
    ]
    front = front_of(*timed, measure="latency_ms")
    assert [point.cost for point in front.points] == [0.4]
    assert {one.config: one.cost for one in front.apart} == {"b": 0.2, "c": None}
    assert front.uncertainty.band.budgets == (0.4,)


def test_a_table_without_the_newer_measures():
    (point,) = front_of(run("a")).points
    assert (point.cost, point.activation_bytes, point.bytes_moved, point.latency_ms) == (100, *[None] * 3)


@pytest.mark.parametrize(
    ("runs", "measure", "message"),
    [
        ([], "latency", r"^measure: received 'latency'; did you mean 'latency_ms'\? Allowed: macs, params"),
        ([run("a")], "latency_ms", "^table of runs: missing latency_ms. Required: trial, .*, latency_ms$"),
        ([run("a")], "activation_bytes", "missing activation_bytes"),
        (
            [run("a", latency_ms=math.nan)],
            "latency_ms",
            "'a' is FINISHED, but has a missing cost: latency_ms",
        ),
        ([run("a", bytes_moved=None)], "bytes_moved", "'a' is FINISHED, but has a missing cost: bytes_moved"),
    ],
)
def test_a_bad_measure_is_refused(runs, measure, message):
    with pytest.raises(InputError, match=message):
        front_of(*runs, measure=measure)


def test_to_pandas_has_the_columns_of_the_measured_costs():
    fewer = [
        {name: value for name, value in one.items() if name != "bytes_moved"} | {"latency_ms": None}
        for one in MEASURED
    ]
    assert not {"activation_bytes", "bytes_moved", "latency_ms"} & set(front_of(run("a")).to_pandas())
    frame = front_of(*MEASURED, run("f", 0, None, None, status="FAILED")).to_pandas().set_index("config")
    assert list(frame)[:4] == ["label", "macs", "validation_accuracy", "test_accuracy"]
    assert list(frame)[7:12] == ["params", "filters", "activation_bytes", "bytes_moved", "latency_ms"]
    assert list(map(str, frame.dtypes[9:12])) == ["Int64", "Int64", "float64"]
    assert frame["latency_ms"].dropna().to_dict() == {one["config"]: one["latency_ms"] for one in MEASURED}
    columns = list(front_of(*fewer, measure="activation_bytes").to_pandas())
    assert columns[8:12] == ["params", "filters", "activation_bytes", "seeds"]


def test_to_pandas():
    front = front_of(
        run("a", **{"param.activation": "relu"}),
        run("b", accuracy=0.5, **{"param.activation": "elu"}),
        run("c", 0, None, None, status="FAILED", params=None, filters=None, test=None),
    )
    frame = front.to_pandas()
    assert frame["config"].tolist() == ["a", "b", "c"]
    assert frame["on_front"].tolist() == [True, False, False]
    assert frame["status"].tolist() == ["FINISHED", "FINISHED", "FAILED"]
    assert frame["macs"].isna().tolist() == [False, False, True]
    assert frame["param.activation"].tolist()[:2] == ["relu", "elu"]
    assert frame["validation_accuracy"].tolist()[:2] == [0.9, 0.5]


def test_results_are_frozen():
    front = front_of(run("a"), run("b", status="FAILED"))
    assert isinstance(front.apart[0], Apart)
    for one in (front, front.points[0], front.apart[0]):
        with pytest.raises(AttributeError):
            one.name = "other"
    assert len({*front.points, *front.points}) == 1
