import io
import re
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from invact.config import Config
from invact.cost.count import Cost, LayerCost
from invact.execution.display.bars import Bar, bars, clock, trial_line
from invact.execution.display.progress import BarProgress, LineProgress, make_progress, outcome
from invact.execution.display.stages import stage, track
from invact.training.results import Epoch, Scores, Status, TrialResult

LABEL = "inverse, filters 12, normalization batch, width rule channels, learning rate 0.00123"
COST = Cost((LayerCost("conv", "Conv2D", (8, 8, 4), 42_752, 40, 4, 0),))
RESULT = TrialResult(Config(epochs=3), 7, Status.FINISHED, COST, validation=Scores(0.9711, 0.1))
FAILED = replace(RESULT, status=Status.FAILED, error="ValueError: x")


def epoch(number: int, accuracy: float = 0.9711) -> Epoch:
    return Epoch(number, Scores(accuracy, 1.0), Scores(accuracy, 1.0), 0.1)


def console(width: int) -> Console:
    return Console(width=width, record=True, force_terminal=True, file=io.StringIO())


def rendered(what: object, width: int) -> list[str]:
    shown = console(width)
    shown.print(what)
    return [line.rstrip() for line in shown.export_text().splitlines()]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_bars_show_all_numbers_in_one_line_each(width: int) -> None:
    rows = [
        Bar("all runs", 98.4, 161, "1:02:03 left"),
        Bar(f"  seed 2000000001  {LABEL}", 12, 20, "97.11%"),
        Bar("  relu", 0, 20),
    ]
    lines = rendered(bars(rows, width), width)
    assert len(lines) == len(rows)
    assert max(map(cell_len, lines)) <= width
    for line, numbers in zip(lines, ("98/161 1:02:03 left", "12/20 97.11%", "0/20"), strict=True):
        assert line.endswith(numbers)
    assert (LABEL in lines[1]) == (width == 200)
    assert "seed 2000000001" in lines[1]


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("mark", ["", "new best", "on the front"])
def test_the_line_of_a_trial_fits_and_keeps_its_numbers(width: int, mark: str) -> None:
    line = trial_line("12/20  trial 11", LABEL, "97.11%", "42.8 k MACs", mark, width=width, column=100)
    assert cell_len(line) <= width
    assert line.startswith("12/20  trial 11  inverse")
    assert line.endswith("  97.11%  42.8 k MACs" + f"  {mark}" * bool(mark))
    assert (LABEL in line) == (width == 200)


PRUNED = replace(RESULT, status=Status.PRUNED, epochs=(epoch(1),))


def test_a_pruned_trial_has_a_line_and_its_other_epochs_and_seeds_count_as_done(capsys) -> None:
    with LineProgress(6) as lines:
        lines.started("a", "relu", 3)
        lines.epoch("a", epoch(1))
        lines.ended("a", PRUNED)
        lines.pruned("relu", 0.9711, 42_752, 1, number=4)
        for seed, result in ((7, PRUNED), (7, RESULT)):
            lines.started("b", "inverse", 3, seed=seed)
            lines.ended("b", result)
            lines.skipped(1)
            lines.pruned("inverse", 0.9711, None, 3, number=5)
    told = [re.sub(r" \(.*", "", line) for line in capsys.readouterr().err.splitlines()]
    assert told == [
        "[1/6] trial 4, relu: 97.11%, 42.8 k MACs, pruned at 1",
        "[2/6] inverse, seed 7: validation 97.11%, 42.8 k MACs, pruned at 1, 0.0 s",
        "[3/6] trial 5, inverse: 97.11%, pruned at 3",
        "[4/6] inverse, seed 7: validation 97.11%, 42.8 k MACs, 0.0 s",
        "[5/6] trial 5, inverse: 97.11%, pruned at 3",
    ]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_line_of_a_pruned_trial_is_below_the_others(width: int) -> None:
    terminal = console(width)
    with BarProgress(20, done=8, console=terminal) as progress:
        for number, result in ((8, RESULT), (9, PRUNED)):
            progress.started("a", LABEL, 3)
            progress.ended("a", result)
            if result is PRUNED:
                progress.pruned(LABEL, 0.9711, 42_752, 1, number=number)
            else:
                progress.trial(LABEL, 0.9711, 42_752, number=number)
    lines = re.findall(r"[ \d]\d/20  trial .*\S", terminal.export_text())
    assert len(lines) == 2
    assert lines[1].endswith("42.8 k MACs  pruned at 1")
    assert lines[0].index("42.8 k MACs") == lines[1].index("42.8 k MACs")
    assert max(map(cell_len, lines)) <= width


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_numbers_of_all_trials_are_below_each_other(width: int) -> None:
    terminal = console(width)
    with BarProgress(20, done=8, mark="on the front", console=terminal) as progress:
        for number, best in ((8, True), (9, False), (10, True)):
            progress.started("a", LABEL, 3)
            progress.epoch("a", epoch(1))
            progress.ended("a", RESULT)
            progress.trial(LABEL, 0.9711, 42_752, number=number, best=best)
        progress.refused(LABEL, "244,160 MACs", 1, number=11)
    # The recorded text also has the bars that were drawn in between, before the line on the same line.
    lines = re.findall(r"[ \d]\d/20  trial .*\S", terminal.export_text())
    assert [re.match(r" ?(\d+)/20  trial (\d+)", line).groups() for line in lines] == [
        (str(n), str(n - 1)) for n in (9, 10, 11, 12)
    ]
    assert {line.index("42.8 k MACs") for line in lines[:3]} == {lines[0].index("42.8 k MACs")}
    assert [line.endswith("on the front") for line in lines] == [True, False, True, False]
    assert lines[3].endswith("244,160 MACs  over budget")
    assert max(map(cell_len, lines)) <= width


def test_the_time_left_counts_the_epochs_of_runs_that_train(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr("invact.execution.display.progress.time.monotonic", lambda: now[0])
    progress = BarProgress(10, done=6, console=console(80))
    progress._console = progress._given
    assert rendered(progress, 80)[0].endswith("6/10")
    progress.started("a", "relu", 4)
    now[0] = 120.0
    progress.epoch("a", epoch(2))
    # Half a run took 20 seconds, and 3.5 are left.
    assert rendered(progress, 80)[0].endswith("6/10 2:20 left")
    assert clock(140) == "2:20"


def test_a_stage_takes_the_place_of_the_bars() -> None:
    progress = BarProgress(10, console=console(80))
    progress._console = progress._given
    with progress.stage("starting the workers"):
        assert rendered(progress, 80)[0].endswith("starting the workers ...")
    assert rendered(progress, 80)[0].endswith("0/10")


def test_lines_with_counts_go_to_standard_error(capsys) -> None:
    with LineProgress(total=6, done=1) as progress:
        progress.started("a", "relu", 3)
        progress.epoch("a", epoch(1))
        progress.ended("a", RESULT)
        progress.trial("relu", 0.9711, 42_752, number=3, best=True)
        progress.started("b", "inverse", 3, seed=7)
        progress.ended("b", RESULT)
        progress.started("c", "linear", 3)
        progress.ended("c", FAILED)
        progress.refused("big", "1,234,567 MACs", 2, number=4)
    out, err = capsys.readouterr()
    assert out == ""
    assert [re.sub(r"\d+:\d\d", "T", line) for line in err.splitlines()] == [
        "[2/6] trial 3, relu: 97.11%, 42.8 k MACs, new best (T left)",
        "[3/6] inverse, seed 7: validation 97.11%, 42.8 k MACs, 0.0 s (T left)",
        "[4/6] linear, seed 7: FAILED: ValueError: x (T left)",
        "[6/6] trial 4, big: 1,234,567 MACs, over budget (T left)",
    ]


def test_text_is_no_markup_and_a_failed_run_leaves_a_line() -> None:
    terminal = console(80)
    with BarProgress(2, console=terminal) as progress:
        progress.message("[bold] is no markup")
        progress.started("a", "net [a]", 3)
        progress.epoch("a", epoch(1))
        progress.ended("a", FAILED)
    text = terminal.export_text()
    for line in ("[bold] is no markup", "1/2  net [a], seed 7: FAILED: ValueError: x"):
        assert line in text


def test_hidden_progress_prints_nothing(capsys) -> None:
    with make_progress(1, show=False) as progress, progress.stage("starting"), stage("loading", show=False):
        progress.message("x")
        progress.started("a", "x", 1)
        progress.epoch("a", epoch(1))
        progress.ended("a", RESULT)
        progress.trial("x", 0.5, None)
        progress.refused("x", "1 MACs", 1)
    assert capsys.readouterr() == ("", "")


def test_a_pipe_gets_no_spinner_and_no_bar(capsys) -> None:
    with stage("loading TensorFlow"):
        assert list(track([1, 2], "counting")) == [1, 2]
    assert capsys.readouterr() == ("", "")


def test_a_pipe_gets_lines_and_a_terminal_gets_bars(monkeypatch) -> None:
    assert isinstance(make_progress(1), LineProgress)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert isinstance(make_progress(1), BarProgress)


def test_an_outcome_shows_all_known_values() -> None:
    assert outcome(FAILED) == "FAILED: ValueError: x"
    assert outcome(replace(FAILED, status=Status.DIVERGED)) == "DIVERGED: ValueError: x"
    assert outcome(RESULT) == "validation 97.11%, 42.8 k MACs, 0.0 s"
