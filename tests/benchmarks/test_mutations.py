import importlib
from pathlib import Path

import numpy as np
import pytest

from invact.statistics.fronts.gaps import front_gap
from invact.statistics.fronts.uncertainty import Candidates

ROOT = Path(__file__).parents[2]


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


def test_arms_that_share_their_luck_differ_by_a_constant():
    # Both fronts rise and fall with the seed. Resampled each on its own, they would not do so together.
    luck = np.random.default_rng(0).normal(0, 0.01, (3, 8))
    control = Candidates(0.8 + luck, 0.8 + luck, [100, 200, 300])
    treatment = Candidates(0.81 + luck, 0.81 + luck, [100, 200, 300])
    found = front_gap(control, treatment, margin=0.005, resamples=500)
    assert found.gap == pytest.approx([0.01] * 3)
    assert found.low == pytest.approx(found.high)
    assert found.dominates


@pytest.mark.slow
def test_every_mistake_is_noticed(mutations):
    assert not mutations.survivors(mutations.MUTATIONS)
