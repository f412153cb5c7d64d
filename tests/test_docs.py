import doctest
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

from invact.claims.keys import ClaimFile
from invact.cli.catalogue import costs_of
from invact.cli.main import app
from invact.config import Config
from invact.deploy.timer import Timing
from invact.search.objectives import Objective
from invact.spaces.space import parse_space
from invact.sweeps.file import SweepFile

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
COMMANDS = typer.main.get_command(app).commands
TESTS = "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/pytest"


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def table(heading: str, text: str) -> list[list[str]]:
    """The rows below the header that starts so, each a list of cells."""
    lines = text[text.index(f"| {heading} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def options(command) -> set[str]:
    return {flag for option in command.params for flag in option.opts if flag.startswith("-")} - {"--help"}


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, timeout=300
    )


def calls() -> list[list[str]]:
    """The arguments of every call of invact in a block of the README."""
    lines = "\n".join(blocks("console", README)).replace(" && ", "\n")
    return [shlex.split(call) for call in re.findall(r"^(?:\$ |\.venv/bin/)invact (.+)$", lines, re.M)]


def test_readme_names_every_command_and_no_other():
    named = [re.match(r"`invact (\w+)", row[0])[1] for row in table("command", README)]
    assert sorted(named) == sorted(COMMANDS)


def test_readme_names_every_option_of_every_command_and_no_other():
    named = {name: set() for name in COMMANDS}
    for cell, owners, _ in table("option", README):
        for owner in filter(None, owners.split(", ")):
            named[owner] |= set(re.findall(r"`(--?[\w-]+)", cell))
    assert named == {name: options(command) for name, command in COMMANDS.items()}


@pytest.mark.parametrize("call", calls(), ids=" ".join)
def test_commands_of_the_readme_parse(call):
    name, *rest = call
    COMMANDS[name].make_context(name, rest)


@pytest.mark.parametrize("name", ["cost", "sweep digitz"])
def test_output_in_the_readme_is_real(name, tmp_path):
    (block,) = [block for block in blocks("console", README) if block.startswith(f"$ invact {name}")]
    command, _, shown = block.partition("\n")
    done = run("-m", *shlex.split(command)[1:], folder=tmp_path)
    assert doctest.OutputChecker().check_output(
        shown, done.stdout + done.stderr, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    ), done.stdout + done.stderr


EXAMPLES = [
    block
    for page in ("README.md", "docs/latency.md", "docs/export.md")
    for block in blocks("python", (ROOT / page).read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("block", EXAMPLES, ids=range(len(EXAMPLES)))
def test_python_of_the_readme_and_of_pages_runs(block, tmp_path):
    (tmp_path / "example.py").write_text(block, encoding="utf-8")
    done = run("example.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") >= block.count("print(") > 0


def test_the_test_command_is_that_of_the_continuous_integration():
    assert TESTS in README.splitlines()
    assert f'tests="{TESTS}"' in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert TESTS in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("model", [SweepFile, ClaimFile, Config, Objective, Timing])
def test_every_key_is_documented_with_its_default(model):
    page = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
    heading = {SweepFile: "## Sweeps", ClaimFile: "## Claims", Config: "## Configuration"}
    heading |= {Objective: "### Objective", Timing: "### Timing"}
    section = page[page.index(heading[model]) :]
    rows = table("key", section)
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row[0])} == set(model.model_fields)
    for cell, shown, _ in rows:
        key = re.findall(r"`(\w+)`", cell)[0]
        default = model.model_fields[key].get_default(call_default_factory=True)
        try:
            value = tomllib.loads(f"value = {shown.strip('`')}")["value"]
        except tomllib.TOMLDecodeError:  # words: "required", "none", "the driver's first"
            continue
        assert value == (list(default) if isinstance(default, tuple) else default), key


def test_search_space_keys_are_documented():
    page = (ROOT / "docs" / "search-spaces.md").read_text(encoding="utf-8")
    keys = {key for row in table("key", page) for key in re.findall(r"`(\w+)`", row[0])}
    assert keys == {"choices", "low", "high", "step", "log", "when", "per_stage"}


def write_toml(page: Path, folder: Path) -> list[str]:
    """Write the TOML blocks of a page; a sweep is written for a search space, so that it can be counted."""
    files = []
    for number, block in enumerate(blocks("toml", page.read_text(encoding="utf-8"))):
        values = tomllib.loads(block)
        if "parameters" in values:
            assert parse_space(values["parameters"], str(page)).size() > 1
            (folder / f"space{number}.toml").write_text(block, encoding="utf-8")
            block = f'space = "space{number}.toml"\ndata = "digits"\n'
        files.append(folder / f"block{number}.toml")
        files[-1].write_text(block, encoding="utf-8")
    return [str(file) for file in files]


@pytest.mark.parametrize("page", ["README.md", "docs/search-spaces.md", "docs/sweeps.md"])
def test_toml_is_read_and_its_networks_can_be_counted(page, tmp_path):
    files = write_toml(ROOT / page, tmp_path)
    assert files
    for file in files:
        assert all(cost.macs > 0 for cost in costs_of(file).values())


def test_code_and_toml_of_extending_run(tmp_path):
    page = ROOT / "docs" / "extending.md"
    names = []
    for block in blocks("python", page.read_text(encoding="utf-8")):
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
    # In a process of its own, because what it registers stays.
    done = run("-c", code, *write_toml(page, tmp_path), folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_decisions_are_short():
    lengths = {
        page.name: len(page.read_text().splitlines()) for page in (ROOT / "docs/decisions").glob("*.md")
    }
    assert lengths
    assert max(lengths.values()) <= 20
