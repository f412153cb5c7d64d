"""What a label, a name or a path contains is shown by the terminal, and not carried out."""

import json

import pytest

from invact.cli.options import echo, show
from invact.config import Config
from invact.execution.display.progress import BarProgress, LineProgress
from invact.reports.tables import table_of
from invact.training.results import Status, TrialResult

ATTACK = "\x1b[31m[red]\r\u202ex"
SHOWN = "\\x1b[31m[red]\\r\\u202ex"


def test_the_path_in_an_error(invact, folder):
    path = folder / "\x1b[31m[red].toml"
    path.write_text("=")
    answer = invact("sweep", path)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "\\x1b[31m[red].toml: not TOML" in answer.err
    assert "\x1b" not in answer.err


def test_results_and_messages(capsys):
    echo(f"a\n{ATTACK}", err=True)
    show(False, {}, table_of(ATTACK, ["name"], [(ATTACK,)], 0, ATTACK), table_of("b", ["name"], [("c",)]))
    out, err = capsys.readouterr()
    assert err == f"a\n{SHOWN}\n"
    assert out.count(SHOWN) == 3
    assert "\x1b" not in out
    # One empty line separates two tables.
    assert f"{SHOWN}\n\nb\n" in out
    show(True, {"label": ATTACK})
    text = capsys.readouterr().out
    assert json.loads(text) == {"label": ATTACK}
    assert "\x1b" not in text


@pytest.mark.parametrize("display", [LineProgress, BarProgress])
def test_progress(display, capsys):
    with display(2) as progress:
        progress.message(ATTACK)
        progress.started("key", ATTACK, 1)
        progress.ended("key", TrialResult(Config(), 0, Status.FAILED, error=ATTACK))
        progress.refused(ATTACK, "9 MACs", 1)
    err = capsys.readouterr().err.replace("\n", "")
    assert err.count(SHOWN) >= 4
    assert "\x1b" not in err
    assert "\r" not in err
