import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from invact.cli.main import app
from invact.errors import InvactError

GENERATOR = Path(__file__).parents[2] / "docs" / "generate_cli.py"


@pytest.fixture
def generator(tmp_path: Path):
    """The generator as a module; what it writes goes to a temporary page."""
    spec = importlib.util.spec_from_file_location("generate_cli", GENERATOR)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.PAGE = tmp_path / "cli.md"
    return module


@pytest.mark.parametrize("columns", ["20", "300"])
def test_the_page_is_what_the_generator_writes_at_any_width(generator, columns, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert GENERATOR.with_name("cli.md").read_text(encoding="utf-8") == generator.page()


def test_the_page_names_every_option_and_every_exit_code(generator) -> None:
    text = generator.page()
    for name, command in typer.main.get_command(app).commands.items():
        section = text[text.index(f"## invact {name}\n") :].split("\n## ")[0]
        for parameter in command.params:
            assert parameter.help
            for option in parameter.opts if parameter.param_type_name == "option" else []:
                assert f"`{option}" in section
    codes = {error.exit_code for error in [InvactError, *InvactError.__subclasses__()]}
    assert set(generator.EXIT_CODES) == {0, 130} | codes


def test_check_exits_with_1_if_the_page_differs(generator, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["generate_cli.py", "--check"])
    with pytest.raises(SystemExit, match="differs from the command"):
        generator.main()
    assert not generator.PAGE.exists()
    monkeypatch.setattr(sys, "argv", ["generate_cli.py"])
    generator.main()
    monkeypatch.setattr(sys, "argv", ["generate_cli.py", "--check"])
    generator.main()
    generator.PAGE.write_text("old", encoding="utf-8")
    with pytest.raises(SystemExit, match="differs from the command"):
        generator.main()


def test_the_command_loads_no_heavy_library() -> None:
    code = (
        "import sys, invact.cli.main\n"
        "print(*{'numpy', 'pydantic', 'pandas', 'tensorflow', 'keras', 'mlflow', 'optuna'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n", done.stdout
