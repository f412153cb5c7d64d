"""The rows of sweeps and claims, compared with SciPy and with the results that were recorded."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_records import CLAIM, PILOT, a_verdict, ended, make_claim, make_sweep, scored
from scipy import stats

from invact import summarize
from invact.claims.file import load_claim
from invact.claims.run import run_claim
from invact.config import Config
from invact.errors import EnvironmentFault, InputError
from invact.reports.summary.rows import Row
from invact.sweeps.run import run_sweep
from invact.tracking.store import open_store
from invact.training.results import Status

RELU, INVERSE, ABS = (Config(activation=name, filters=4) for name in ("relu", "inverse", "linear_negated"))
AUTHOR = {"where": {"activation": "inverse", "augmentation": "none"}, "source": "author"}
TESTS = {"relu": [0.91, 0.93, 0.90], "inverse": [0.94, 0.95, 0.92]}
# Keras 3.15 converts a TensorFlow variable in a way that NumPy 2 deprecates.
pytestmark = [
    pytest.mark.usefixtures("quick_stores"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def check_interval(mean, values) -> None:
    """Compare with SciPy's t interval."""
    ends = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert (mean.value, mean.low, mean.high) == pytest.approx((np.mean(values), *ends), rel=1e-12)


def only(store, *names) -> tuple[Row, ...]:
    (found,) = summarize(names, store=store).records
    return found.rows


def test_a_sweep_has_a_row_for_each_configuration_with_its_interval_and_figures(tmp_path, digits) -> None:
    runs = [
        (trial, config, seed, scored(0.8 + 0.1 * trial + seed / 100, test, loss=0.2 + seed / 10))
        for trial, config in enumerate((RELU, INVERSE))
        for seed, test in enumerate(TESTS[config.activation])
    ]
    references = [AUTHOR | {"test_accuracy": 94.33, "test_loss": 0.178}, AUTHOR | {"validation_accuracy": 99}]
    references.append({"where": {"filters": 16}, "source": "nobody", "test_accuracy": 50})
    make_sweep(tmp_path, digits, runs, reference=references)
    (record,) = summarize("mine", store=tmp_path).records
    assert (record.name, record.kind, record.data, record.notes) == ("mine", "sweep", "digits", ())
    # The best validation accuracy comes first.
    assert [row.label for row in record.rows] == ["inverse, filters 4", "relu, filters 4"]
    for row, config in zip(record.rows, (INVERSE, RELU), strict=True):
        check_interval(row.test, TESTS[config.activation])
        check_interval(row.loss, [0.2, 0.3, 0.4])
        assert (row.runs, row.failed, row.pruned) == (3, 0, 0)
        assert (row.config, row.activation) == (config.digest(), config.activation)
        assert row.values == {"activation": config.activation}
        assert (row.macs, row.params, row.filters) == (9_007_209_494, 10_410, 26)
    first, second = (row.references for row in record.rows)
    assert [one.figures for one in first] == [
        {"test_accuracy": 0.9433, "test_loss": 0.178},
        {"validation_accuracy": 0.99},
    ]
    assert second == ()


def test_runs_that_failed_are_counted_and_left_out_of_the_means(tmp_path, digits) -> None:
    over, pruned, lost = (Config(filters=filters) for filters in (8, 9, 10))
    runs = [
        (0, RELU, 0, scored(0.9, 0.9)),
        (0, RELU, 1, scored(0.15, 0.1)),  # as good as chance
        (0, RELU, 2, ended(Status.DIVERGED)),
        (0, RELU, 3, ended(Status.FAILED)),
        (0, RELU, 4, scored(0.92, 0.94)),
        (0, RELU, 5, {"status": Status.PRUNED, "test": None}),
        (1, lost, 0, ended(Status.FAILED)),
        (2, over, 0, ended(Status.OVER_BUDGET)),
        (3, pruned, 0, {"status": Status.PRUNED, "test": None}),
        # The sampler has proposed a configuration again.
        (4, RELU, 0, scored(0.9, 0.9)),
    ]
    make_sweep(tmp_path, digits, runs, "KILLED", trials=8)
    (record,) = summarize(["mine"], store=tmp_path).records
    row, failed = record.rows
    assert row.failures == {"diverged": 1, "collapsed": 1, "failed": 1}
    assert (row.runs, row.failed, row.pruned) == (2, 3, 1)
    check_interval(row.test, [0.9, 0.94])
    assert (failed.runs, failed.failures["failed"], failed.test) == (0, 1, None)
    assert record.notes == (
        "not finished: 5 of 8 configurations have runs that ended",
        "not listed: 1 over a budget and 1 stopped by the pruner",
    )


def test_without_the_number_of_classes_no_run_has_collapsed(tmp_path) -> None:
    make_sweep(tmp_path, None, [(0, RELU, 0, scored(0.1, 0.1))])
    (row,) = only(tmp_path, "mine")
    assert (row.runs, row.failed, row.test.value, row.test.low) == (1, 0, 0.1, None)


def test_a_real_sweep_agrees_with_its_front_and_finds_its_figures(write, stand_in) -> None:
    path = write(more="seeds = [0, 1]\ntrials = 2\nsampler = 'grid'")
    where = "where = { depth = 1, activation = 'inverse' }"
    more = f"\n[[reference]]\n{where}\nsource = 'author'\ntest_accuracy = 90\n"
    path.write_text(path.read_text().replace("trials = 3\n", "") + more)
    front = run_sweep(path, show=False).front
    rows = {row.config: row for row in only(None, "tiny")}
    points = (*front.points, *front.dominated)
    assert {*rows} == {point.config for point in points}
    for point in points:
        row = rows[point.config]
        assert row.test.value == pytest.approx(point.test_accuracy)
        assert row.validation.value == pytest.approx(point.accuracy)
        assert (row.macs, row.params, row.filters) == (point.macs, point.params, point.filters)
        assert row.label == point.label
        assert bool(row.references) == (point.values["activation"] == "inverse")
    assert {bool(row.references) for row in rows.values()} == {True, False}


def test_a_real_claim_has_a_row_for_each_arm_and_its_own_differences(write_claim, stand_in, forbid_engines):
    path = write_claim(ratios="[0.125]", also='["linear_negated"]')
    claim = load_claim(path)
    first, second = claim.seeds("confirmation", "control", 2)
    truth = stand_in.truth
    # One run of the control collapses, and one diverges.
    stand_in.truth = lambda config, seed: {first: 0.5, second: np.nan}.get(seed, truth(config, seed))
    result = run_claim(path, show=False)
    (one,) = result.sets
    forbid_engines()
    more = "[[reference]]\nwhere = { arm = 'control' }\nsource = 'author'\ntest_accuracy = 94\n"
    path.write_text(path.read_text().replace("[config]", f"{more}\n[config]"))
    again = run_claim(path, show=False)
    assert again.sets[0].preregistration == one.preregistration, "published figures change no design"

    (record,) = summarize(["tiny_claim"]).records
    assert record.verdicts == {"filters": str(result.filters_verdict), "macs": str(result.verdict)}
    control, treatment, also = record.rows
    assert control.values == {"arm": "control", "ratio": 1.0}
    assert treatment.values == {"arm": "treatment", "ratio": 0.125}
    assert also.values == {"arm": "linear_negated", "ratio": 0.125}
    assert control.label == "control: relu, 8 filters"
    assert control.failures == {"diverged": 1, "collapsed": 1, "failed": 0}
    for row, key in zip(record.rows, ("control", "treatment 0.125", "linear_negated 0.125"), strict=True):
        runs = one.table[(one.table["param.step"] == "confirmation") & (one.table["param.key"] == key)]
        trained = runs[~runs["seed"].isin([first, second])]["test_accuracy"].to_numpy(float)
        assert row.runs == len(trained) >= one.ratios[0].rung.non_inferiority.n
        check_interval(row.test, trained)
    assert [bool(row.references) for row in record.rows] == [True, False, False]
    assert control.difference is None
    tested = one.ratios[0].rung.non_inferiority
    compared = one.ratios[0].also["linear_negated"]
    for row, outcome, margin in ((treatment, tested, 0.03), (also, compared, 0.0)):
        found = row.difference
        assert (found.value.value, found.value.low, found.value.high) == (outcome.estimate, *outcome.interval)
        assert (found.runs, found.margin) == (outcome.n, margin)
    assert treatment.difference.of == "treatment 0.125 - control"
    assert also.difference.of == "treatment 0.125 - linear_negated 0.125"


def confirmed(role: str, ratio: float, config: Config, validations: list[float]):
    return [
        ("confirmation", role, ratio, config, seed, scored(validation, validation))
        for seed, validation in enumerate(validations)
    ]


def test_every_comparison_of_a_claim_and_its_equivalence_ratios_are_read(tmp_path) -> None:
    small = Config(filters=2)
    runs = [
        *(("pilot", "control", 1.0, RELU, 90 + n, scored(0.9 + n / 100)) for n in range(3)),
        *confirmed("control", 1.0, RELU, [0.9, 0.91, 0.8]),  # the fence is at 0.91 - 4 x 0.02
        ("confirmation", "control", 1.0, RELU, 3, ended(Status.FAILED)),
        *confirmed("treatment", 0.5, INVERSE, [0.92, 0.93]),
        *confirmed("placebo", 0.5, small, [0.85, 0.86]),
        *confirmed("abs", 0.5, ABS, [0.9, 0.91]),
    ]
    files = {"pilot.json": PILOT, "claim.json": a_verdict()}
    make_claim(tmp_path / "store", runs, files, tmp_path / "scratch")
    (record,) = summarize("tested", store=tmp_path / "store").records
    rows = {row.values["arm"]: row for row in record.rows}
    assert list(rows) == ["control", "treatment", "placebo", "abs"]
    assert rows["control"].failures == {"diverged": 0, "collapsed": 1, "failed": 1}
    check_interval(rows["control"].test, [0.9, 0.91])
    differences = {arm: row.difference and row.difference.value.value for arm, row in rows.items()}
    assert differences == {"control": None, "treatment": -0.001, "placebo": 0.03, "abs": 0.004}
    assert rows["treatment"].difference.margin == 0.02
    assert record.verdicts == {"filters": "SUPPORTED", "macs": "INCONCLUSIVE"}
    ratio = record.ratios["filters"]
    assert (ratio.value, ratio.low, ratio.high) == (0.676, 0.557, None)
    assert "macs" not in record.ratios


def test_a_claim_that_is_not_finished_or_not_begun_on_some_data_says_so(tmp_path) -> None:
    runs = [("pilot", "control", 1.0, RELU, 0, scored(0.9))]
    make_claim(tmp_path / "store", runs, {}, tmp_path, data=["digits", "images/mine.npz"])
    first, second = summarize("tested", store=tmp_path / "store").records
    assert first.empty
    assert first.notes == ("not finished: there is no verdict yet (runs so far: 1)",)
    assert second.empty
    assert second.data == "mine"
    assert second.notes == ("not finished: nothing was trained on these data yet",)


def test_a_claim_of_an_older_version_has_its_verdicts(tmp_path) -> None:
    old = a_verdict(ratios="other values") | {"schema": "invact.claim/1"}
    make_claim(tmp_path / "store", [], {"claim.json": old}, tmp_path / "scratch")
    (record,) = summarize("tested", store=tmp_path / "store").records
    assert record.verdicts == {"filters": "SUPPORTED", "macs": "INCONCLUSIVE"}
    assert not record.empty
    assert "an older version of invact made this claim" in record.notes[0]


def test_a_name_that_nothing_has_is_refused_with_the_nearest(tmp_path, digits) -> None:
    make_sweep(tmp_path, digits, [])
    with pytest.raises(InputError, match=r"name: received 'mime'; did you mean 'mine'\? Allowed: mine"):
        summarize(["mine", "mime"], store=tmp_path)
    for names in ([], ["mine", "mine"]):
        with pytest.raises(InputError, match="Allowed: one or more sweeps and claims, each once"):
            summarize(names, store=tmp_path)
    open_store(tmp_path).record("again", "confirmation", "2").close()
    with pytest.raises(InputError, match="received 'again', which has no sweep"):
        summarize("again", store=tmp_path)


@pytest.fixture(scope="module")
def claimed(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a claim, whose files a test replaces."""
    folder = tmp_path_factory.mktemp("claimed")
    shutil.copy(empty_store, folder)
    runs = [
        *(("pilot", "control", 1.0, RELU, 90 + n, scored(0.9)) for n in range(3)),
        *confirmed("control", 1.0, RELU, [0.9, 0.91]),
    ]
    make_claim(folder, runs, {"pilot.json": PILOT, "claim.json": a_verdict()}, folder / "scratch")
    return folder


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("settings.json", {}),
        ("settings.json", {"data": 3}),
        ("settings.json", {"data": ["digits"], "ratios": [0.5], "screen": 2}),
        ("settings.json", CLAIM | {"reference": [{"where": {}}]}),
        ("pilot.json", {"values": {}}),
        ("pilot.json", {"values": {"margin": "wide", "looks": [2, 3]}}),
        ("pilot.json", {"values": {"margin": 0.02, "looks": []}}),
        ("claim.json", a_verdict(ratios=[{}])),
        ("claim.json", a_verdict(ratios=None)),
        ("claim.json", a_verdict(curve={"filters": {"estimate": "much"}})),
        ("claim.json", a_verdict(curve=3)),
    ],
)
def test_a_damaged_file_of_a_claim_is_one_line_that_names_the_run(claimed, name, content) -> None:
    record = open_store(claimed).latest("tested")
    names = {"settings.json": "settings.json", "pilot.json": "pilot.json", "claim.json": "verdict/claim.json"}
    whole = record.read(names[name])
    summarize("tested", store=claimed)
    replace_file(record, name, json.dumps(content).encode(), claimed / "scratch")
    with pytest.raises(EnvironmentFault, match=f"^run {record.run_id}: ") as caught:
        summarize("tested", store=claimed)
    assert "\n" not in str(caught.value)
    replace_file(record, name, whole, claimed / "scratch")


def replace_file(record, name: str, content: bytes, scratch: Path) -> None:
    if name == "claim.json":
        (scratch / name).write_bytes(content)
        record.log_folder(scratch, "verdict")
    else:
        record.keep({name: content})
