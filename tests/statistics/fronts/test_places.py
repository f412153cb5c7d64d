import numpy as np
import pytest
from scipy import stats

from invact.errors import InputError
from invact.statistics.fronts.noise import seed_noise
from invact.statistics.fronts.places import START, Place, leads, next_point

COST = np.array([10_000, 20_000, 40_000, 80_000])
MARGIN = 0.003


def runs_of(means, counts, sd=0.003, seed=0):
    rng = np.random.default_rng(seed)
    runs = np.full((len(means), max(counts)), np.nan)
    for row, (mean, count) in enumerate(zip(means, counts, strict=True)):
        drawn = rng.normal(0, 1, count)
        # The sample has exactly this mean and this spread, so the test does not depend on luck.
        runs[row, :count] = mean + sd * (drawn - drawn.mean()) / drawn.std(ddof=1)
    return runs


def test_the_places_of_clear_points_are_decided():
    found = leads(runs_of([0.90, 0.94, 0.92, 0.97], [4, 4, 3, 5]), COST, MARGIN)
    assert found.places == (Place.STAYS, Place.STAYS, Place.DOMINATED, Place.STAYS)
    assert next_point(runs_of([0.90, 0.94, 0.92, 0.97], [4, 4, 3, 5]), COST, MARGIN) is None


def test_a_tie_is_equal_with_enough_runs_and_undecided_before():
    means = [0.90, 0.90]
    assert leads(runs_of(means, [3, 3], 0.009), COST[:2], MARGIN).places[1] is Place.UNDECIDED
    assert leads(runs_of(means, [60, 60]), COST[:2], MARGIN).places[1] is Place.EQUAL
    # A larger margin needs fewer runs.
    assert leads(runs_of(means, [8, 8]), COST[:2], 0.02).places[1] is Place.EQUAL


def test_the_lead_agrees_with_a_t_interval_where_the_trend_says_little():
    # Two points have no trend, so the model has nothing to add to the two means.
    runs = runs_of([0.90, 0.93], [12, 20])
    drawn = leads(runs, COST[:2], MARGIN).drawn[:, 1]
    noise = seed_noise(runs)
    expected = stats.t(noise.df[0], 0.03, np.sqrt(noise.variance[0] / 12 + noise.variance[1] / 20))
    assert drawn.mean() == pytest.approx(0.03, abs=1e-4)
    assert drawn.std() == pytest.approx(expected.std(), rel=0.06)
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx(expected.interval(0.95), abs=2e-4)


def test_every_point_gets_its_first_runs_and_then_the_undecided_ones():
    runs = runs_of([0.90, 0.94, 0.9405, 0.97], [3, 3, 3, 3])
    assert next_point(np.full((4, 3), np.nan), COST, MARGIN) == 0
    assert next_point(np.full((4, 3), np.nan), COST, MARGIN, pending=[3, 3, 2, 3]) == 2
    some = runs.copy()
    some[3, 2] = np.nan
    assert next_point(some, COST, MARGIN) == 3
    assert START == 3
    # Only the comparison of the two close points is open.
    assert next_point(runs, COST, MARGIN) in (1, 2)
    # Of the two, the one with fewer runs gets the next.
    wide = runs_of([0.90, 0.94, 0.9405, 0.97], [3, 12, 4, 3])
    assert next_point(wide, COST, MARGIN) == 2
    assert next_point(wide, COST, MARGIN, closed=[2]) == 1
    assert next_point(wide, COST, MARGIN, closed=range(4)) is None


def test_pending_runs_that_will_decide_are_waited_for():
    runs = runs_of([0.90, 0.902], [8, 8], sd=0.003)
    assert leads(runs, COST[:2], MARGIN).places[1] is Place.UNDECIDED
    assert next_point(runs, COST[:2], MARGIN) is not None
    assert next_point(runs, COST[:2], MARGIN, pending=[90, 90]) is None


def test_the_choice_is_a_pure_function():
    runs = runs_of([0.90, 0.94, 0.9405, 0.941], [3, 5, 4, 3])
    assert len({next_point(runs, COST, MARGIN) for _ in range(3)}) == 1
    assert leads(runs, COST, MARGIN).places == leads(runs, COST, MARGIN).places


def test_one_run_is_insufficient():
    with pytest.raises(InputError, match="insufficient: received 1"):
        leads(runs_of([0.9], [2]).repeat(2, axis=0)[:, :1], COST[:2], MARGIN)
    # A point whose runs failed cannot be compared.
    runs = runs_of([0.90, 0.901], [3, 3])
    runs[0, 1:] = np.nan
    assert next_point(runs, COST[:2], MARGIN, closed=[0]) is None


def test_missing_runs_change_only_what_is_known_of_their_point():
    full = runs_of([0.90, 0.94, 0.92, 0.97], [6, 6, 6, 6])
    noise = seed_noise(full)
    padded = seed_noise(np.hstack([full, np.full((4, 3), np.nan)]))
    assert padded.variance.tolist() == noise.variance.tolist()
    assert (padded.df.tolist(), padded.correlation) == (noise.df.tolist(), noise.correlation)


@pytest.mark.parametrize("tied", [False, True])
def test_places_are_right_in_worlds_whose_truth_is_known(tied):
    rng = np.random.default_rng(3)
    wrong = decided = trained = 0
    cost = 10 ** np.linspace(4, 6, 6)
    for _ in range(6):
        truth = 0.97 - 0.06 * np.exp(-3 * np.linspace(0, 1, 6)) + rng.normal(0, 0.004, 6)
        if tied:
            truth[3] = truth[:3].max()
        runs = np.full((6, 60), np.nan)
        count = np.zeros(6, dtype=int)
        while count.sum() < 60 and (point := next_point(runs, cost, MARGIN)) is not None:
            runs[point, count[point]] = truth[point] + rng.normal(0, 0.003)
            count[point] += 1
        lead = truth[1:] - np.maximum.accumulate(truth)[:-1]
        for place, true in zip(leads(runs, cost, MARGIN).places[1:], lead, strict=True):
            decided += place is not Place.UNDECIDED
            wrong += {
                Place.STAYS: true <= -1e-12,
                Place.DOMINATED: true > 1e-12,
                Place.EQUAL: abs(true) >= MARGIN,
            }.get(place, False)
        trained += int(count.sum())
    assert decided >= 26, "of 30"
    assert wrong <= 3
    assert trained < 0.7 * 6 * 60
