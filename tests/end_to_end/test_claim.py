"""Claims on tiny networks, from the file to the verdict.

Most tests draw their results (see `stand_in`), so that the right verdict is known: equally many channels are
equally accurate, and one filter loses 9 points where runs vary by 0.3. Two tests train on digits, where one
filter loses about 50 points after two epochs.
"""

import io
import json
import math
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats
from stand_in import more_channels_are_better

from invact.claims.file import load_claim
from invact.claims.run import run_claim
from invact.claims.verdict.report import claim_tables
from invact.claims.verdict.result import SetResult, values_of
from invact.config import Config
from invact.errors import Incomplete, InputError
from invact.statistics.sequential.ladder import Verdict
from invact.tracking.store import open_store
from invact.training.loop import train

# With one filter, the treatment loses about 50 points, which three seeds are enough to show.
FAR = "[0.125]"
FIRST = ("tiny_claim on digits", "Fewer filters: ", "Fewer MACs: ", "filters  ", "- The margin of ")
LOW, BEST, HIGH = 2e-3, 1e-2, 5e-2


def whole(write_claim, margin: int) -> Path:
    return write_claim(
        f"[tuning]\ntrials = 2\nlearning_rate = [{LOW}, {HIGH}]\n"
        "[curve]\ncontrol = [2, 3, 4]\ntreatment = [1, 2, 3, 4, 8]\nseeds = 2",
        ratios=FAR,
        also='["linear_negated"]',
        margin=str(margin),
    )


@pytest.fixture
def refuted(write_claim, stand_in, folder, tmp_path_factory) -> Path:
    """A claim on one filter that has ended in the store of the current folder, which is a copy."""
    path, kept = write_claim(ratios=FAR), tmp_path_factory.getbasetemp() / "refuted-claim"
    if not kept.exists():
        run_claim(path, store=kept, show=False)
    shutil.copytree(kept, folder / "mlruns")
    return path


def accuracies(one: SetResult, key: str) -> np.ndarray:
    """Test accuracies of a network in the confirmation, in the order of the seeds."""
    rows = one.table[(one.table["param.step"] == "confirmation") & (one.table["param.key"] == key)]
    return rows.sort_values("seed")["test_accuracy"].to_numpy(float)


def p_value(one: SetResult, key: str, other: str, margin: float, alternative: str) -> float:
    """The p value of Welch's test by SciPy, on all runs of the confirmation."""
    ours, theirs = accuracies(one, key) + margin, accuracies(one, other)
    return float(stats.ttest_ind(ours, theirs, equal_var=False, alternative=alternative).pvalue)


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
def test_the_whole_protocol_and_again(write_claim, request, forbid_engines, capfd, pictures, trained) -> None:
    # Trained networks of this size vary by more than 12 points. With a small margin, some would have failed.
    margin = 10 if trained else 3
    path = whole(write_claim, margin)
    if trained:
        engine = {"scheduler": request.getfixturevalue("cluster")}
    else:
        engine, stand_in = {}, request.getfixturevalue("stand_in")
        truth = stand_in.truth
        # Without the best learning rate, a network loses up to 2 points.
        stand_in.truth = lambda config, seed: (
            truth(config, seed) - 0.01 * abs(math.log(config.learning_rate / BEST))
        )
    result = run_claim(path, **engine)
    assert "tiny_claim, pilot: 6 trainings" in capfd.readouterr().err
    (one,) = result.sets
    steps = one.table.groupby("param.step").size()
    cells = load_claim(path).cells()
    # The control, and at the ratio treatment, placebo, matched and linear_negated.
    assert len(cells) == 5
    assert steps["tuning"] == 2 * len(cells)
    assert steps["pilot"] == 3 + 3
    assert steps["screen"] == 4
    # The width 1 of the treatment comes from the screen.
    assert steps["curve"] == 2 * (3 + 4)
    for column in ("param.step", "param.key"):
        assert set(one.table.groupby("seed")[column].nunique()) == {1}, (
            "a seed serves one network in one step"
        )

    assert result.verdict is result.filters_verdict is Verdict.REFUTED

    (file,) = Path("mlruns/artifacts/tiny_claim").glob("*/artifacts/preregistration.json")
    registered = json.loads(file.read_text())
    assert registered["sha256"] == one.preregistration.sha256
    design = registered["design"]
    assert design["rules"]["margin"] == margin / 100
    assert design["seeds"]["pilot"] == {"control": 400000, "placebo 0.125": 402000}
    assert set(design["seeds"]["confirmation"]) == set(cells)

    # The registration comes before the first run, and the pilot fixes the rest before the confirmation.
    times = start_times("tiny_claim")
    at = pd.Timestamp(registered["registered"]).timestamp()
    assert min(map(min, times.values())) >= at
    stored = json.loads(file.with_name("pilot.json").read_text())
    fixed = stored["values"]
    confirmed = one.table[one.table["param.step"] == "confirmation"]["seed"]
    assert min(min(times[seed]) for seed in confirmed) >= pd.Timestamp(stored["fixed"]).timestamp()
    assert fixed["margin"] == margin / 100
    assert fixed["selected"] == [0.125]

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
    chosen = {key: recipe["learning_rate"] for key, recipe in fixed["recipes"].items()}
    assert {key: chosen[key] for key in cells} == expected
    curve = one.table[one.table["param.step"] == "curve"]
    for role, key in (("control", "control"), ("treatment", "treatment 0.125")):
        mine = curve[curve["param.role"] == role]["config_json"]
        assert {json.loads(text)["learning_rate"] for text in mine} == {expected[key]}

    folder = file.parent / "verdict"
    written = json.loads((folder / "claim.json").read_text())
    assert written["verdict"] == str(result.verdict)
    assert written["data_sets"][0]["preregistration"]["sha256"] == one.preregistration.sha256
    for name in ("claim.png", "qq.png", "curve.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG"), name
    assert len(pd.read_csv(folder / "runs.csv")) == len(one.table)
    text = " ".join(one.reasons)
    for words in (
        "Fewer filters: REFUTED. With 0.125 of the filters, inverse loses more than the margin of",
        "Fewer MACs: REFUTED. With ",
        f"The margin of {margin} points was fixed in the file.",
        f"inverse loses more than {margin} points of test accuracy against relu",
        "for the population of images",
        "Compared with linear_negated at the same filters, the difference is",
        "permutation test gives p = ",
        "The negative control, relu in the pilot against relu in the confirmation, passed",
        "runs of inverse failed" if trained else "0 of 6 runs of inverse failed",
        "This is the first pilot with these data",
        f"The design was registered on {registered['registered']}",
    ):
        assert words in text
    assert (folder / "report.md").read_text().startswith(f"# tiny_claim on digits: {result.verdict}")

    forbid_engines()
    again = run_claim(path, show=False)
    assert values_of(again) == values_of(result)
    words = rf"margin: received {margin + 1}.0, registered {margin}.0 on 20.*--deviation"
    with pytest.raises(InputError, match=words) as error:
        run_claim(load_claim(path, {"margin": margin + 1}), show=False)
    assert str(path) in str(error.value)


def test_a_claim_is_trained_on_workers(write_claim, cluster, digits, quick_stores) -> None:
    path = write_claim(ratios=FAR)
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
    path = write_claim(ratios="[0.5, 0.125]", looks="[4, 8]", pilot="4", margin="2", ladder="true")
    result = run_claim(path, show=False)
    (one,) = result.sets
    assert [ratio.rung.ratio for ratio in one.ratios] == [0.5, 0.125]
    assert [ratio.rung.verdict for ratio in one.ratios] == [Verdict.SUPPORTED, Verdict.REFUTED]
    assert result.filters_verdict is Verdict.SUPPORTED
    # The same tests by SciPy. Their small p values show that chance does not decide the verdicts.
    assert p_value(one, "treatment 0.5", "control", 0.02, "greater") < 0.005
    assert p_value(one, "treatment 0.5", "placebo 0.5", 0.0, "greater") < 0.005
    assert p_value(one, "treatment 0.125", "control", 0.02, "less") < 0.005
    text = " ".join(one.reasons)
    for words in (
        "Fewer filters: SUPPORTED. With 0.5 of the filters, inverse is as accurate as relu within the margin",
        "inverse loses less than 2 points of test accuracy against relu",
        "inverse is more accurate than relu at the same filters: the difference is",
        "inverse loses more than 2 points of test accuracy against relu",
    ):
        assert words in text
    terminal = Console(width=80, record=True, file=io.StringIO())
    for shown in claim_tables(result):
        terminal.print(shown)
    lines = [line.rstrip() for line in terminal.export_text().splitlines()]
    assert max(map(len, lines)) <= 80
    heads = [next(n for n, line in enumerate(lines) if line.startswith(start)) for start in FIRST]
    assert heads == sorted(heads)
    reasons = lines[heads[-1] : -1]
    assert 1 < len(reasons) <= 10
    # The ratios are those of the file, because the classifier is not counted.
    rows = [line.split() for line in lines if line.lstrip().startswith("0.")]
    assert [row[0] for row in rows] == ["0.500", "0.125"]
    assert rows[0][-2] == "SUPPORTED"
    assert rows[1][-2:] == ["REFUTED", "REFUTED"]
    assert lines[-1] == "All reasons and the diagnostics: invact claim tiny_claim --report"


def test_a_deviation_is_printed_and_one_filter_is_refuted(refuted) -> None:
    first = run_claim(refuted, show=False)
    assert first.verdict is first.filters_verdict is Verdict.REFUTED
    assert "inverse loses more than 3 points of test accuracy against relu" in " ".join(first.sets[0].reasons)
    changed = load_claim(refuted, {"alpha": 0.2})
    result = run_claim(changed, deviation="a typing error", show=False)
    (one,) = result.sets
    assert one.preregistration.registered == first.sets[0].preregistration.registered
    listed = [reason for reason in one.reasons if reason.startswith("DEVIATION from the registered")]
    assert all("a typing error" in deviation for deviation in listed)
    assert "alpha: 0.025 -> 0.2" in listed[0]
    # The levels of the looks are fixed after the screen, so their change is listed too.
    assert "pilot.json: " in listed[1]
    assert len(listed) == 2
    assert result.alpha == 0.2
    assert result.filters_verdict is Verdict.REFUTED


def test_a_fault_of_the_machine_is_run_again_with_its_seed(write_claim, stand_in) -> None:
    claim = load_claim(write_claim(ratios=FAR))
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
    # Each of the six runs was tried three times in the first session, and was repeated in the second one.
    assert len(one.reruns) == 18
    assert {again["seed"] for again in one.reruns} == {400000, 400001, 400002, 402000, 402001, 402002}
    assert any(reason.startswith("18 runs failed because of a fault") for reason in one.reasons)


def test_two_data_sets_are_both_refuted_for_one_filter(write_claim, stand_in, digits, folder) -> None:
    # Half of the images, scaled to the range of pixels in a file.
    half = {f"y_{part}": getattr(digits, f"y_{part}")[::2] for part in ("train", "test")}
    half |= {f"x_{part}": getattr(digits, f"x_{part}")[::2] * np.uint8(15) for part in ("train", "test")}
    np.savez(folder / "half.npz", **half)
    # Two runs of the smaller test set can have the same accuracy, and SciPy's test warns of that.
    claim = load_claim(write_claim(ratios=FAR, looks="[3, 4]"), {"data": ["digits", "half.npz"]})
    result = run_claim(claim, show=False)
    assert repr(result) == f"ClaimResult({result.name!r}: REFUTED, fewer filters: REFUTED)"
    assert list(result.to_pandas())[:4] == ["label", "macs_ratio", "difference", "data"]
    assert len(result.to_pandas()) == 2
    assert "ratio 0.125</td>" in result._repr_html_()
    assert [one.data for one in result.sets] == ["digits", str(folder / "half.npz")]
    for one in result.sets:
        assert p_value(one, "treatment 0.125", "control", 0.03, "less") < 0.02
        assert one.verdict is one.filters_verdict is Verdict.REFUTED
    assert result.verdict is result.filters_verdict is Verdict.REFUTED
    for over in result.over.values():
        assert over.on_all == 1
        assert set(over.on_which) == {one.data for one in result.sets}
        assert set(over.on_which.values()) == {1}
    assert set(values_of(result)["over"]) == {"filters", "MACs"}


def equal_channels(config, seed):
    """Equal accuracy at half of the filters, which is the truth of the stand-in."""
    return more_channels_are_better(config, seed)


def at_the_margin(config, seed):
    return equal_channels(config, seed) - 0.02 * (config.activation == "inverse")


def every_third_run_collapses(config, seed):
    return 0.1 if config.activation == "inverse" and seed % 3 == 0 else equal_channels(config, seed)


def no_network_learns(config, seed):
    return 0.1


@pytest.mark.parametrize(
    ("truth", "ratio", "verdict", "words"),
    [
        (equal_channels, 0.5, "SUPPORTED", "SUPPORTED. With 0.5 of the filters"),
        # `test_half_of_the_filters_are_supported_and_one_filter_is_refuted` has these reasons, too.
        pytest.param(
            *(equal_channels, 0.125, "REFUTED", "inverse loses more than 2 points"), marks=pytest.mark.slow
        ),
        (at_the_margin, 0.5, "INCONCLUSIVE", "shown neither to be less than 2 points"),
        (every_third_run_collapses, 0.5, "INCONCLUSIVE", "too many runs of"),
        (no_network_learns, 0.5, "NO_ASSAY_SENSITIVITY", "No claim is allowed"),
    ],
)
def test_the_command_reaches_each_verdict(
    invact, write_claim, stand_in, truth, ratio, verdict, words
) -> None:
    stand_in.truth = truth
    path = write_claim(ratios=f"[{ratio}]", looks="[4, 8]", pilot="4", margin="2")
    answer = invact("claim", path, "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert (found["verdict"], found["filters_verdict"]) == (verdict, verdict)
    (one,) = found["data_sets"]
    assert words in " ".join(one["reasons"])
    assert one["reasons"][0].startswith(f"Fewer filters: {verdict}. ")
    assert one["reasons"][1].startswith(f"Fewer MACs: {verdict}. ")
    assert bool(one["course"]["failed"]) == (truth is every_third_run_collapses)
    if verdict == "SUPPORTED":
        (row,) = one["ladder"]
        assert row["macs_ratio"] < 1
        assert row["treatment_runs"] >= 10
        assert max(row[name] for name in ("p_adjusted", "macs_p_adjusted")) < 0.025
    if verdict == "NO_ASSAY_SENSITIVITY":
        assert one["preregistration"]["fixed"] is None
        assert one["ladder"] == []
    report = invact("claim", path.stem, "--report")
    assert report.code == 0, report.err
    assert report.out.startswith(f"# tiny_claim on digits: {verdict}\n")
    assert words in report.out
    (same,) = json.loads(invact("claim", path, "--report", "--json").out)
    assert same == found


def test_a_curve_that_contradicts_takes_the_claim_on_macs_back(write_claim, stand_in) -> None:
    truth = stand_in.truth
    screen, curve = range(800_000, 1_200_000), range(1_600_000, 2_000_000)
    # The runs of the curve, those of the screen included, are worse than the runs that are tested.
    stand_in.truth = lambda config, seed: truth(config, seed) - 0.05 * (seed in screen or seed in curve)
    path = write_claim(
        "[curve]\ntreatment = [2, 3, 5, 8, 16]\nseeds = 2",
        ratios="[0.5]",
        looks="[4, 8]",
        pilot="4",
        margin="2",
    )
    result = run_claim(path, show=False)
    (one,) = result.sets
    assert one.curve.macs.above_one
    assert (result.filters_verdict, result.verdict) == (Verdict.SUPPORTED, Verdict.INCONCLUSIVE)
    assert "inverse needs more MACs than relu for equal accuracy." in one.reasons[1]


def test_further_arms_do_not_change_what_a_continued_claim_sees(write_claim, stand_in) -> None:
    # The arm `elu` needs more runs of the treatment than the course does, and one of these fails.
    truth = stand_in.truth
    late = load_claim(write_claim()).seeds("confirmation", "treatment 0.5", 12)[6:]

    def drawn(config, seed):
        if seed in late:
            return 0.1
        return truth(config, seed) + 0.03 * (config.activation == "elu")

    stand_in.truth = drawn
    path = write_claim(
        ratios="[0.5]", looks="[4, 6, 12]", pilot="4", margin="2", also='["elu"]', futility="false"
    )
    first = run_claim(path, show=False)
    assert first.filters_verdict is Verdict.SUPPORTED
    (one,) = first.sets
    assert one.table["param.key"].eq("treatment 0.5").sum() > 4 + 6
    assert values_of(run_claim(path, show=False)) == values_of(first)


def test_a_claim_may_have_an_arm_for_each_stage(invact, write_claim, stand_in) -> None:
    path = write_claim(
        config={"depth": "2"},
        treatment='["inverse", "relu"]',
        also='["abs", ["relu", "inverse"]]',
        ratios="[0.5]",
        margin="2",
    )
    answer = invact("claim", path, "--json")
    assert answer.code == 0, answer.err
    (one,) = json.loads(answer.out)["data_sets"]
    settings = one["preregistration"]["registered"]["settings"]
    assert settings["treatment"] == ["inverse", "relu"]
    assert settings["also"] == ["abs", ["relu", "inverse"]]
    also = one["ratios"][0]["also"]
    assert list(also) == ["abs", "relu/inverse"]
    assert all(0.02 < outcome["estimate"] < 0.045 for outcome in also.values()), "0.03 in truth"
    # The stand-in knows only the channels of the first stage, and the treatment has as many as the control.
    text = " ".join(one["reasons"])
    for words in (
        "With 0.5 of the filters, inverse/relu is as accurate as relu within the margin of 2 points",
        "inverse/relu is more accurate than relu at the same filters",
        "Compared with relu/inverse at the same filters, the difference is +",
    ):
        assert words in text
    # The list of `also` is the registered one, so only the treatment differs.
    changed = invact("claim", path, "--set", "treatment=inverse")
    words = "treatment: received 'inverse', registered ['inverse', 'relu']"
    assert (changed.code, words in changed.err) == (2, True), changed.err


def test_a_second_pilot_names_the_first(refuted) -> None:
    again = refuted.with_name("other_claim.toml")
    again.write_text(refuted.read_text().replace("epochs = 2", "epochs = 1"))
    (one,) = run_claim(again, show=False).sets
    (pilot,) = one.preregistration.pilots
    assert pilot.claim == "tiny_claim"
    text = " ".join(one.reasons)
    assert "This is the second pilot with these data, arms and network in the store, after tiny_claim" in text
