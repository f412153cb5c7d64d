from dataclasses import replace

import pytest
from scipy import stats

from benchmarks.ladder import find
from benchmarks.simulated_claims import LADDER, PROTOCOL
from benchmarks.worlds import World, normal
from invact.statistics.sequential.procedure import Procedure

# Short looks, because the levels of the default ones take many seconds.
SHORT = replace(LADDER, procedure=Procedure((3, 5)))
PRECISE = {"other": normal(0.01)}


def world(*losses):
    """A world with nearly no noise, in which the treatment loses these points at the three ratios."""
    loss = {("treatment", ratio): lost for ratio, lost in zip(SHORT.ratios, losses, strict=True)}
    less = {(role, ratio): 1.0 for role in ("placebo", "matched") for ratio in SHORT.ratios}
    return World(loss | less, PRECISE, validation=0.01)


@pytest.mark.parametrize("ladder", [False, True])
@pytest.mark.parametrize(
    ("losses", "smallest"),
    [((0, 0, 0), 0.5), ((0, 0, 0.9), 0.625), ((0, 0.9, 0.9), 0.75), ((0.9,) * 3, None)],
)
def test_without_noise_both_ways_find_the_smallest_ratio(losses, smallest, ladder):
    found = find(replace(SHORT, ladder=ladder), world(*losses), 2)
    assert found.smallest == {smallest: 2}
    # At 0.75, the treatment has more MACs than the control.
    assert found.on_macs == {None if smallest == 0.75 else smallest: 2}


def test_trainings_without_noise():
    # The pilot has 2 x 8 runs and the screen 3 x 4. The tests stop at their first look. Each treatment has 10
    # runs; control, placebo and matched arm have 3, and there is no matched arm at 0.75.
    assert find(SHORT, world(0, 0, 0), 2).trainings == 28 + 6 + 3 * 3
    assert find(replace(SHORT, ladder=True), world(0, 0, 0), 2).trainings == 28 + 3 * 6 + 3 * (1 + 3 + 2)
    for ladder in (False, True):
        assert find(replace(SHORT, ladder=ladder), world(0.9, 0.9, 0.9), 2).trainings == 28 + 2 * 3


@pytest.mark.slow
def test_the_ladder_finds_the_smallest_ratio_more_often_than_the_screen():
    claim, replications = PROTOCOL[0], 1_000
    screen, ladder = (
        find(replace(claim.rules, ladder=ladder), claim.world, replications) for ladder in (False, True)
    )
    assert ladder.smallest[0.5] >= stats.binom.ppf(0.0005, replications, 0.92)
    assert screen.smallest[0.5] <= stats.binom.isf(0.0005, replications, 0.9)
    assert screen.trainings < 70 < ladder.trainings
