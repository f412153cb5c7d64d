"""Claims on tiny networks, from the file to the verdict.

Most tests draw their results (see `stand_in`), so that the right verdict is known: equally many channels are
equally accurate, and one filter loses 9 points where runs vary by 0.3. Two tests train on digits, where one
filter loses about 50 points after two epochs.
"""

import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from invact.claims.file import load_claim
from invact.claims.run import run_claim
from invact.claims.verdict.result import SetResult, values_of
from invact.config import Config
from invact.errors import Incomplete, InputError
from invact.statistics.sequential.ladder import Verdict
from invact.tracking.store import open_store
from invact.training.loop import train

# With one filter, the treatment loses about 50 points, which three seeds are enough to show.
FAR = "[0.125]"
LOW, BEST, HIGH = 2e-3, 1e-2, 5e-2


@pytest.fixture
def whole(write_claim) -> Path:
    return write_claim(
        f"[tuning]\ntrials = 2\nlearning_rate = [{LOW}, {HIGH}]\n"
        "[curve]\ncontrol = [2, 3, 4]\ntreatment = [1, 2, 3]\nseeds = 2",
        ratios=FAR,
        also='["linear_negated"]',
    )


def difference(one: SetResult, key: str, other: str) -> np.ndarray:
    """Test accuracy of one network minus that of another, for each seed that both have."""
    rows = one.table[one.table["param.step"] == "confirmation"]
    wide = rows.pivot(index="seed", columns="param.key", values="test_accuracy")
    return (wide[key] - wide[other]).dropna().to_numpy(float)


def start_times(name: str) -> dict[int, list[float]]:
    """Start times of the runs of each seed in seconds, read from MLflow."""
    runs = open_store(None).runs
    (experiment,) = [key for key, title in runs.experiments().items() if title == name]
    times = defaultdict(list)
    for run in runs.search([experiment], ""):
        if "invact.seed" in run.data.tags:
            times[int(run.data.tags["invact.seed"])].append(run.info.start_time / 1000)
    return times


@pytest.mark.parametrize("trained", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_whole_protocol_and_again(whole, request, forbid_engines, capfd, trained) -> None:
    if trained:
        engine = {"scheduler": request.getfixturevalue("cluster")}
    else:
        engine, stand_in = {}, request.getfixturevalue("stand_in")
        truth = stand_in.truth
        # Without the best learning rate, a network loses up to 2 points.
        stand_in.truth = lambda config, seed: (
            truth(config, seed) - 0.01 * abs(math.log(config.learning_rate / BEST))
        )
    result = run_claim(whole, **engine)
    assert "tiny_claim, pilot: 6 trainings" in capfd.readouterr().err
    (one,) = result.sets
    steps = one.table.groupby("param.step").size()
    cells = load_claim(whole).cells()
    # The control, and at the ratio treatment, placebo, matched and linear_negated.
    assert len(cells) == 5
    assert steps["tuning"] == 2 * len(cells)
    assert steps["pilot"] == 3 + 3
    assert steps["repeat"] == 3
    assert steps["curve"] == 2 * 6
    steps_of_seed = one.table.groupby("seed")["param.step"].nunique()
    assert set(steps_of_seed) == {1}, "a seed serves one step only"

    assert result.verdict is result.filters_verdict is Verdict.REFUTED

    (file,) = Path("mlruns/artifacts/tiny_claim").glob("*/artifacts/preregistration.json")
    registered = json.loads(file.read_text())
    assert registered["sha256"] == one.preregistration.sha256
    design = registered["design"]
    assert design["margin"] == 0.03
    assert design["seeds"]["pilot"] == [10000, 10001, 10002]
    assert design["seeds"]["confirmation"] == [20000, 20001, 20002]

    # Tuning and pilot end before the registration, and all other steps start after it.
    times = start_times("tiny_claim")
    at = pd.Timestamp(registered["registered"]).timestamp()
    before = [0, *design["seeds"]["pilot"]]
    after = [seed for step in ("confirmation", "repeat", "curve") for seed in design["seeds"][step]]
    assert set(times) == {*before, *after}
    # The registration has a resolution of one second.
    assert max(max(times[seed]) for seed in before) < at + 1
    assert min(min(times[seed]) for seed in after) >= at

    # Every network has the learning rate with the best validation accuracy of its own tuning.
    rates = [float(f"{LOW * (HIGH / LOW) ** share:.4g}") for share in (1 / 2, 1 / 4)]
    tuning = one.table[one.table["param.step"] == "tuning"]
    tried = tuning.assign(rate=[json.loads(text)["learning_rate"] for text in tuning["config_json"]])
    scores = tried.pivot(index="param.key", columns="rate", values="validation_accuracy")
    assert set(scores.index) == set(cells)
    assert set(scores.columns) == set(rates)
    assert scores[rates[0]]["control"] > scores[rates[1]]["control"]
    expected = {
        key: rates[int(np.argmax(row))]
        for key, row in zip(scores.index, scores[rates].to_numpy(), strict=True)
    }
    chosen = {key: recipe["learning_rate"] for key, recipe in design["recipes"].items()}
    assert {key: chosen[key] for key in cells} == expected
    assert {chosen[f"control {width} filters"] for width in (2, 3, 4)} == {expected["control"]}
    assert {chosen[f"treatment {width} filters"] for width in (1, 2, 3)} == {expected["treatment 0.125"]}

    folder = file.parent / "verdict"
    written = json.loads((folder / "claim.json").read_text())
    assert written["verdict"] == str(result.verdict)
    assert written["data_sets"][0]["preregistration"]["sha256"] == one.preregistration.sha256
    for name in ("claim.png", "qq.png", "curve.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG"), name
    assert len(pd.read_csv(folder / "runs.csv")) == len(one.table)
    text = " ".join(one.reasons)
    for words in (
        "The claim of fewer MACs at equal accuracy is REFUTED.",
        "The claim of fewer filters at equal accuracy is REFUTED.",
        "The margin of 3 points was fixed in the file.",
        "inverse loses more than 3 points of test accuracy against relu",
        "for the population of images",
        "Compared with linear_negated at the same filters, the difference is",
        "sign-flip test gives p = ",
        "The negative control, relu against itself on 3 other seeds,",
        f"The design was registered on {registered['registered']}",
    ):
        assert words in text
    assert (folder / "report.md").read_text().startswith(f"# tiny_claim on digits: {result.verdict}")

    forbid_engines()
    again = run_claim(whole, show=False)
    assert values_of(again) == values_of(result)
    with pytest.raises(InputError, match=r"margin: received 4.0, registered 3.0 on 20.*--deviation") as error:
        run_claim(load_claim(whole, {"margin": 4}), show=False)
    assert str(whole) in str(error.value)


def test_a_claim_is_trained_on_workers(write_claim, cluster, digits, quick_stores) -> None:
    path = write_claim(ratios=FAR, repeat="false")
    result = run_claim(path, scheduler=cluster, show=False)
    assert result.filters_verdict is Verdict.REFUTED
    (one,) = result.sets
    row = one.table[one.table["param.key"] == "treatment 0.125"].iloc[0]
    here = train(Config.model_validate_json(row["config_json"]), int(row["seed"]), digits)
    assert (row["test_accuracy"], row["validation_accuracy"]) == (
        here.test.accuracy,
        here.validation.accuracy,
    )


def test_half_of_the_filters_are_supported_and_one_filter_is_refuted(write_claim, stand_in) -> None:
    path = write_claim(ratios="[0.5, 0.125]", looks="[4, 8]", pilot="4", margin="2", repeat="false")
    result = run_claim(path, show=False)
    (one,) = result.sets
    assert [ratio.rung.ratio for ratio in one.ratios] == [0.5, 0.125]
    assert [ratio.rung.verdict for ratio in one.ratios] == [Verdict.SUPPORTED, Verdict.REFUTED]
    assert result.filters_verdict is Verdict.SUPPORTED
    # The same tests by SciPy. Their small p values show that chance does not decide the verdicts.
    less = difference(one, "treatment 0.5", "control")
    assert stats.ttest_1samp(less, -0.02, alternative="greater").pvalue < 0.005
    better = difference(one, "treatment 0.5", "placebo 0.5")
    assert stats.ttest_1samp(better, 0, alternative="greater").pvalue < 0.005
    worse = difference(one, "treatment 0.125", "control")
    assert stats.ttest_1samp(worse, -0.02, alternative="less").pvalue < 0.005
    text = " ".join(one.reasons)
    for words in (
        "The claim of fewer filters at equal accuracy is SUPPORTED, at 0.5 of the filters.",
        "inverse loses less than 2 points of test accuracy against relu",
        "inverse is more accurate than relu at the same filters: the difference is",
        "inverse loses more than 2 points of test accuracy against relu",
    ):
        assert words in text


def test_a_deviation_is_printed_and_one_filter_is_refuted(write_claim, stand_in) -> None:
    path = write_claim(ratios=FAR, repeat="false")
    first = run_claim(path, show=False)
    assert first.verdict is first.filters_verdict is Verdict.REFUTED
    assert "inverse loses more than 3 points of test accuracy against relu" in " ".join(first.sets[0].reasons)
    changed = load_claim(path, {"alpha": 0.2})
    result = run_claim(changed, deviation="a typing error", show=False)
    (one,) = result.sets
    assert one.preregistration.registered == first.sets[0].preregistration.registered
    (deviation,) = [reason for reason in one.reasons if reason.startswith("DEVIATION from the registered")]
    assert "a typing error" in deviation
    assert "alpha: 0.05 -> 0.2" in deviation
    assert result.alpha == 0.2
    assert result.filters_verdict is Verdict.REFUTED


def test_a_fault_of_the_machine_is_run_again_with_its_seed(write_claim, stand_in) -> None:
    claim = load_claim(write_claim(ratios=FAR, repeat="false"))
    truth = stand_in.truth

    def fault(config, seed):
        raise ValueError("the user's fault\nin two lines")

    stand_in.truth = fault
    with pytest.raises(
        Incomplete, match="6 runs of the pilot failed 3 times, so there is no verdict"
    ) as error:
        run_claim(claim, show=False)
    assert "the user's fault in two lines" in str(error.value)
    stand_in.truth = truth
    (one,) = run_claim(claim, show=False).sets
    assert set(one.table["status"]) == {"FINISHED"}
    # The first session repeated each of the six runs twice.
    assert len(one.reruns) == 12
    assert {again["seed"] for again in one.reruns} == {10000, 10001, 10002}
    assert any(reason.startswith("12 runs failed because of a fault") for reason in one.reasons)


def test_two_data_sets_are_both_refuted_for_one_filter(write_claim, stand_in, digits, folder) -> None:
    # Half of the images, scaled to the range of pixels in a file.
    half = {f"y_{part}": getattr(digits, f"y_{part}")[::2] for part in ("train", "test")}
    half |= {f"x_{part}": getattr(digits, f"x_{part}")[::2] * np.uint8(15) for part in ("train", "test")}
    np.savez(folder / "half.npz", **half)
    claim = load_claim(write_claim(ratios=FAR, repeat="false"), {"data": ["digits", "half.npz"]})
    result = run_claim(claim, show=False)
    assert [one.data for one in result.sets] == ["digits", str(folder / "half.npz")]
    for one in result.sets:
        worse = difference(one, "treatment 0.125", "control")
        assert stats.ttest_1samp(worse, -0.03, alternative="less").pvalue < 0.02
        assert one.verdict is one.filters_verdict is Verdict.REFUTED
    assert result.verdict is result.filters_verdict is Verdict.REFUTED
    p_values = [one.ratios[0].rung.p_value for one in result.sets]
    assert result.over[0.125].on_all == max(p_values) > 0.9
    assert min(result.over[0.125].on_which) == pytest.approx(min(1, 2 * min(p_values)))
    assert values_of(result)["over"]["0.125"]["on_all"] == max(p_values)


def test_no_assay_sensitivity_ends_the_claim(write_claim, stand_in) -> None:
    # No network learns, so shrinking costs no accuracy.
    stand_in.truth = lambda config, seed: 0.1
    result = run_claim(write_claim(), show=False)
    (one,) = result.sets
    assert result.verdict is Verdict.NO_ASSAY_SENSITIVITY
    assert result.filters_verdict is Verdict.NO_ASSAY_SENSITIVITY
    assert set(one.table["param.step"]) == {"pilot"}
    assert one.preregistration is None
    assert "No claim is allowed" in one.reasons[0]
    # Everything except the table of runs can be written as JSON.
    values = values_of(result)
    assert set(values["sets"][0]) == {name for name in vars(one) if name != "table"}
    json.dumps(values, allow_nan=False)
