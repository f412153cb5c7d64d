"""`invact report`: what it prints, writes and refuses."""

import json
from pathlib import Path

import pytest
from made_records import PILOT, a_verdict, make_claim, make_sweep, scored
from refusals import refused

from invact.config import Config

RELU, INVERSE = (Config(activation=name) for name in ("relu", "inverse"))
RUNS = [
    (trial, config, seed, scored(0.9 + seed / 100, 0.92 + seed / 100))
    for trial, config in enumerate((RELU, INVERSE))
    for seed in range(2)
]


@pytest.fixture
def store(folder: Path, quick_stores: None) -> Path:
    """A store with the sweep `mine` and the claim `tested`."""
    reference = {"where": {"activation": "inverse"}, "source": "author, one run", "test_accuracy": 94.33}
    make_sweep(folder / "store", None, RUNS, reference=[reference])
    files = {"pilot.json": PILOT, "claim.json": a_verdict()}
    runs = [("confirmation", "treatment", 0.5, INVERSE, seed, scored(0.9)) for seed in range(2)]
    make_claim(folder / "store", runs, files, folder / "scratch")
    return folder / "store"


def test_one_table_and_files_over_several_records(invact, store) -> None:
    answer = invact("report", "mine", "tested", "--store", store, "-o", "out", "--format", "csv,json,svg")
    assert answer.code == 0, answer.err
    for words in ("mine, tested", "test 94.33% (author, one run)", "treatment 0.5: inverse", "SUPPORTED"):
        assert words in answer.out
    names = ["report.csv", "report.json", "report.svg", "report_claims.svg"]
    assert answer.err.splitlines() == [f"wrote out/{name}" for name in names]
    assert sorted(path.name for path in Path("out").iterdir()) == names
    again = invact("report", "mine", "--store", store, "--format", "json", "--json")
    values = json.loads(again.out)
    assert values.pop("files") == ["mine-report.json"]
    assert values == json.loads(Path("mine-report.json").read_text())
    (record,) = values["records"]
    assert [row["runs"] for row in record["rows"]] == [2, 2]


def test_mistakes_are_refused_before_anything_is_written(invact, folder, store) -> None:
    refused(invact("report", "mine", "tests", "--store", store), folder, "did you mean 'tested'?")
    refused(invact("report", "mine", "mine", "--store", store), folder, "each once")
    refused(invact("report", "mine", "--store", store, "--format", "html"), folder, "csv, json, png, svg")
    refused(invact("report", "mine", "--store", "none"), folder, "'none', which does not exist")
    assert not [*folder.glob("*report*")]


def test_a_record_with_nothing_to_report_is_said_after_the_others_are_shown(invact, folder, store) -> None:
    make_claim(folder / "empty", [], {}, folder / "scratch")
    answer = invact("report", "tested", "--store", folder / "empty", "--format", "csv")
    assert answer.code == 4
    assert "tested on digits: not finished: there is no verdict yet (runs so far: 0)" in answer.out
    assert answer.err.splitlines()[-1] == (
        "invact: tested on digits: nothing to report yet; no training that counts has ended"
    )
    assert Path("tested-report.csv").exists()
