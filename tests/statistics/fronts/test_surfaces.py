import sys

import numpy as np
import pytest
from helpers import arms, drawn, random_arm
from hypothesis import given, settings
from hypothesis import strategies as st

from invact.errors import EnvironmentFault, InputError
from invact.statistics.fronts.dominance import non_dominated
from invact.statistics.fronts.surfaces import attainment_surfaces
from invact.statistics.fronts.uncertainty import attainment


def reached(surface, budget):
    """Accuracy of a surface at a budget; -inf below its first corner."""
    within = [a for m, a in zip(surface.cost, surface.accuracy, strict=True) if m <= budget]
    return within[-1] if within else -np.inf


@settings(max_examples=30, deadline=None)
@given(arms, st.sampled_from([0.01, 0.25, 0.5, 0.75, 1.0]))
def test_against_the_definition(candidates, share):
    (surface,) = attainment_surfaces(candidates, [share], resamples=100)
    assert list(surface.cost) == sorted(set(surface.cost))
    assert list(surface.accuracy) == sorted(set(surface.accuracy))
    for budget in candidates.cost:
        best = []
        for sample in drawn(100, 0):
            validation, test = (of[:, sample].mean(axis=1) for of in (candidates.validation, candidates.test))
            mask = non_dominated(validation, candidates.cost) & (candidates.cost <= budget)
            best.append(test[mask].max(initial=-np.inf))
        # At least this share of the fronts reaches this accuracy.
        expected = np.sort(best)[::-1][round(100 * share) - 1]
        assert reached(surface, budget) == pytest.approx(expected)


def test_surfaces_agree_with_attainment_if_the_accuracy_rises_with_the_budget():
    # With equal validation and test accuracies the front rises, so both definitions agree.
    arm = random_arm(sd=0.01)
    same = type(arm)(arm.test, arm.test, arm.cost)
    for surface in attainment_surfaces(same):
        budgets = sorted(same.cost)
        levels = [reached(surface, budget) for budget in budgets]
        found = attainment(same, budgets, np.array(levels) - 1e-9, resamples=2_000)
        above = attainment(same, budgets, np.array(levels) + 1e-9, resamples=2_000)
        assert (np.diag(found) >= surface.share).all()
        assert (np.diag(above) <= surface.share).all()


def test_surfaces_do_not_cross():
    low, middle, high = attainment_surfaces(random_arm(sd=0.01), [0.75, 0.5, 0.25])
    for budget in random_arm().cost:
        assert reached(low, budget) <= reached(middle, budget) <= reached(high, budget)


@pytest.mark.parametrize("share", [0, -0.5, 1.01, 50, float("nan")])
def test_shares_refused(share):
    with pytest.raises(InputError, match="shares: received"):
        attainment_surfaces(random_arm(), [share])


def test_the_message_names_the_missing_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "moocore", None)
    with pytest.raises(EnvironmentFault, match=r"pip install .*\[eaf\]'"):
        attainment_surfaces(random_arm())
