"""A store that an earlier version made: its sweep resumes without a training, and its claim is readable.

The folder `old_store` was made on digits by the version before the packages (commit 0ea07c8), with
`invact sweep old_sweep.toml --json` and `invact claim old_claim.toml --json`. Pictures are left out.
"""

import json
import re
import tarfile
from pathlib import Path

import pytest

from invact.execution.workers.engine import Engine

OLD = Path(__file__).parent / "old_store"
ESTIMATED = re.compile(
    r"p_non_dominated|band\.(low|high|optimism)|gap\.(low|high|domin)|verdict|note|_images"
)
"""Values that say how certain the results are; they include the noise of the images since then."""


@pytest.fixture
def old_store(folder: Path) -> Path:
    """The old store in the current folder, beside the files that it was made from.

    Its database has the addresses of another machine.
    """
    for file in OLD.glob("*.toml"):
        (folder / file.name).write_bytes(file.read_bytes())
    with tarfile.open(OLD / "store.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_an_old_sweep_resumes_with_the_same_result(invact, old_store, monkeypatch) -> None:
    monkeypatch.setattr(Engine, "__enter__", lambda engine: pytest.fail("an engine was started"))
    answer = invact("sweep", "old_sweep.toml", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    found.pop("versions", None)  # of the libraries that wrote the document
    assert found.pop("time") == "", "nothing was trained"
    # The old version did not name the winner, the budgets and the required accuracy.
    assert found.pop("winner")["point"] == max(found["front"], key=lambda point: point["accuracy"])
    assert (found.pop("budgets"), found.pop("min_accuracy")) == ({"macs": 20_000}, None)
    expected = json.loads((OLD / "sweep.json").read_text(encoding="utf-8"))
    assert found["uncertainty"]["validation_images"] == "test hits"

    def kept(document):
        return {key: value for key, value in leaves(document).items() if not ESTIMATED.search(key)}

    assert kept(found) == {
        key: pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
        for key, value in kept(expected).items()
    }


def test_an_old_claim_can_be_read_but_not_continued(invact, old_store) -> None:
    path = old_store / "old_claim.toml"
    answer = invact("claim", path)
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer
    assert "curve" in answer.err
    # With enough widths of the curve, the file is one of today.
    path.write_text(path.read_text(encoding="utf-8").replace("[1, 3, 6]", "[1, 2, 3, 5, 6]"))
    answer = invact("claim", path)
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer
    for words in ("with pairs of seeds", "--report", "a new file name starts a new claim"):
        assert words in answer.err
    assert not answer.out

    (stored,) = json.loads(invact("claim", "old_claim", "--report", "--json").out)
    assert stored == json.loads((OLD / "claim.json").read_text(encoding="utf-8"))
    report = invact("claim", path, "--report")
    assert report.out.startswith("# old_claim on digits: ")
    assert stored["data_sets"][0]["reasons"][-1] in report.out


def leaves(value: object, key: str = "") -> dict[str, object]:
    """The values of a JSON document by their path, without words, which may be put better."""
    if isinstance(value, dict):
        return {k: v for name, part in value.items() for k, v in leaves(part, f"{key}.{name}").items()}
    if isinstance(value, list):
        return {k: v for at, part in enumerate(value) for k, v in leaves(part, f"{key}[{at}]").items()}
    return {} if ".reasons" in key else {key: value}
