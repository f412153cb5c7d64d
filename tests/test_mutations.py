import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def mutations():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        yield importlib.import_module("benchmarks.mutations")


def test_every_mistake_can_still_be_made(mutations):
    for mutation in mutations.MUTATIONS:
        assert (ROOT / "invact" / mutation.path).read_text().count(mutation.old) == 1, mutation.name
        for test in mutation.tests:
            file, _, name = test.partition("::")
            assert f"def {name.partition('[')[0]}" in (ROOT / "tests" / file).read_text(), test


@pytest.mark.slow
def test_every_mistake_is_noticed(mutations):
    assert not mutations.survivors(mutations.MUTATIONS)
