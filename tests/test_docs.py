"""The pages agree with the code: their commands, outputs, examples, keys and links."""

import doctest
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
import warm

from invact.claims.keys import ClaimFile
from invact.cli.catalogue import costs_of
from invact.cli.main import app
from invact.config import Config
from invact.deploy.timer import Timing
from invact.reports.summary.reference import Reference
from invact.search.objectives import Objective
from invact.search.pruning import Pruner
from invact.spaces.space import parse_space
from invact.sweeps.file import SweepFile

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8")
    for page in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    )
}
TESTS = "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/pytest"
INSTALL = (
    "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/invact sweep digits"
    " && .venv/bin/invact claim digits_claim"
)
# Runs each example as a main file, on the cluster that the tests share.
RUNNER = """
import runpy, sys
from invact.execution.workers.engine import Engine

start = Engine.__init__
def on_cluster(engine, *args, scheduler=None, **options):
    start(engine, *args, scheduler=scheduler or sys.argv[1], **options)
Engine.__init__ = on_cluster
for path in sys.argv[2:]:
    print(f"== {path}", flush=True)
    runpy.run_path(path, run_name="__main__")
"""


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def table(heading: str, text: str) -> list[list[str]]:
    """Return the rows of the first table whose header starts with the heading, each as a list of cells."""
    lines = text[text.index(f"| {heading} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, timeout=1800
    )


def calls() -> list[tuple[str, str]]:
    """Return every call of invact in a console block, with its page. The page of the command is generated."""
    return [
        (page, call)
        for page, text in PAGES.items()
        if page != "docs/cli.md"
        for block in blocks("console", text)
        for call in re.findall(r"^(?:\$ |\.venv/bin/)?invact (.+)$", block.replace(" && ", "\n"), re.M)
    ]


@pytest.mark.parametrize(("page", "call"), calls())
def test_commands_parse(page: str, call: str) -> None:
    name, *rest = shlex.split(call)
    typer.main.get_command(app).commands[name].make_context(name, rest)


@pytest.mark.parametrize("command", ["cost digits_claim", "sweep digitz"])
def test_output_is_real(command: str, invact) -> None:
    answer = invact(*command.split())
    shown = [
        block.partition("\n")[2]
        for text in PAGES.values()
        for block in blocks("console", text)
        if block.startswith(f"$ invact {command}\n")
    ]
    assert shown
    for block in shown:
        assert doctest.OutputChecker().check_output(
            block, answer.out + answer.err, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        ), answer.out + answer.err


@pytest.fixture
def examples(tmp_path: Path) -> dict[str, str]:
    """The Python blocks of the pages , each by the file that it is written to."""
    found = {}
    for page, text in PAGES.items():
        # The modules of this page need each other; another test runs them.
        if page == "docs/extending.md":
            continue
        for number, block in enumerate(blocks("python", text)):
            file = f"{Path(page).stem.lower().replace('-', '_')}_{number}.py"
            (tmp_path / file).write_text(block, encoding="utf-8")
            found[file] = block
    # Worker processes that the example starts by itself import its file.
    assert 'if __name__ == "__main__":' in found["readme_0.py"]
    return found


def test_python_of_the_pages_runs(folder: Path, examples, stand_in, quick_stopwatch, capfd) -> None:
    # One store for all: the page on fronts confirms the sweep of the README.
    for file, block in examples.items():
        capfd.readouterr()
        runpy.run_path(str(folder / file), run_name="__main__")
        assert capfd.readouterr().out.count("\n") >= block.count("print(") > 0, file


@pytest.mark.slow
def test_python_of_the_pages_trains(tmp_path: Path, examples, cluster: str) -> None:
    done = run("-c", RUNNER, cluster, *examples, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = dict(re.findall(r"^== (\S+)\n(.*?)(?=^== |\Z)", done.stdout, re.M | re.S))
    for file, block in examples.items():
        assert printed[file].count("\n") >= block.count("print(") > 0, file


def test_the_test_command_is_the_same_in_three_places() -> None:
    assert TESTS in README.splitlines()
    assert f'tests="{TESTS}"' in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert TESTS in PAGES["CONTRIBUTING.md"].splitlines()


def test_the_readme_is_short_and_starts_with_one_command() -> None:
    assert len(README.splitlines()) <= 120
    assert INSTALL in README.splitlines()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGES[page]):
        path, _, anchor = target.partition("#")
        there = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("model", [SweepFile, ClaimFile, Config, Objective, Pruner, Timing, Reference])
def test_every_key_is_documented_with_its_default(model) -> None:
    page = PAGES["docs/sweeps.md"]
    heading = {SweepFile: "## Sweeps", ClaimFile: "## Claims", Config: "## Configuration"}
    heading |= {Objective: "### Objective", Pruner: "### Pruner", Timing: "### Timing"}
    heading |= {Reference: "### Published figures"}
    section = page[page.index(heading[model]) :]
    rows = table("key", section)
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row[0])} == set(model.model_fields)
    for cell, shown, _ in rows:
        key = re.findall(r"`(\w+)`", cell)[0]
        default = model.model_fields[key].get_default(call_default_factory=True)
        try:
            value = tomllib.loads(f"value = {shown.strip('`')}")["value"]
        except tomllib.TOMLDecodeError:  # the cell has words, such as "required" or "none"
            continue
        assert value == (list(default) if isinstance(default, tuple) else default), key


def test_search_space_keys_are_documented() -> None:
    keys = {
        key for row in table("key", PAGES["docs/search-spaces.md"]) for key in re.findall(r"`(\w+)`", row[0])
    }
    assert keys == {"choices", "low", "high", "step", "log", "when", "per_stage"}


def write_toml(page: str, folder: Path) -> list[str]:
    """Write the TOML blocks of a page as files; a search space is written with a sweep, to be counted."""
    files = []
    for number, block in enumerate(blocks("toml", PAGES[page])):
        values = tomllib.loads(block)
        if "parameters" in values:
            assert parse_space(values["parameters"], page).size() > 1
            (folder / f"space{number}.toml").write_text(block, encoding="utf-8")
            block = f'space = "space{number}.toml"\ndata = "digits"\n'
        files.append(folder / f"block{number}.toml")
        files[-1].write_text(block, encoding="utf-8")
    return [str(file) for file in files]


@pytest.mark.parametrize(
    "page",
    [page for page, text in PAGES.items() if blocks("toml", text) and page != "docs/extending.md"],
)
def test_toml_is_read_and_its_networks_can_be_counted(page: str, tmp_path: Path) -> None:
    for file in write_toml(page, tmp_path):
        assert all(cost.macs > 0 for cost in costs_of(file).values())


def test_code_and_toml_of_extending_run(tmp_path: Path) -> None:
    names = []
    for block in blocks("python", PAGES["docs/extending.md"]):
        names.append(re.match(r"# (\w+)\.py\n", block)[1])
        (tmp_path / f"{names[-1]}.py").write_text(block, encoding="utf-8")
    code = f"""
import sys
import {", ".join(names)}
from invact import count_macs
from invact.data.dataset import load
from invact.cli.catalogue import costs_of

for file in sys.argv[1:]:
    assert all(cost.macs > 0 for cost in costs_of(file).values())
gated = my_layers.keras.Sequential([my_layers.keras.Input((4, 4, 3)), my_layers.Gate()])
assert count_macs(gated).macs == 4 * 4 * 3 * 3
assert load("my.npz").classes == 4
"""
    # A separate process, because the arms and MAC rules that the modules register stay registered.
    done = warm.run(["-c", code, *write_toml("docs/extending.md", tmp_path)], cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_decisions_are_short() -> None:
    lengths = {
        page: len(text.splitlines()) for page, text in PAGES.items() if page.startswith("docs/decisions/")
    }
    assert lengths
    assert max(lengths.values()) <= 20, lengths
