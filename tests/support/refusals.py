"""A tiny claim, and what a refusal looks like."""

from pathlib import Path

CLAIM = """
data = "digits"
{keys}
[config]
depth = 1
filters = 4
epochs = 1
batch_size = 64
{config}
"""


KEYS = {"ratios": "[0.5]", "margin": "50.0", "looks": "[2, 3]", "pilot": "2"}


def claim_text(config: str = "", **changes: str) -> str:
    keys = "\n".join(f"{key} = {value}" for key, value in (KEYS | changes).items() if value)
    return CLAIM.format(keys=keys, config=config)


def refused(answer, folder: Path, *words: str, code: int = 2) -> None:
    """Check for one line on standard error, nothing on standard output, and no store."""
    assert answer.code == code, answer
    assert answer.err.count("\n") == 1, answer.err
    assert answer.err.startswith("invact: ")
    assert not answer.out
    for word in words:
        assert word in answer.err
    assert not (folder / "mlruns").exists()
