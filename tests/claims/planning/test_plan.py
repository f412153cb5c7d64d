import numpy as np
import pytest
from scipy import stats

from invact.claims.file import load_claim
from invact.claims.keys import ClaimFile
from invact.claims.planning.plan import MOST, plan_of
from invact.statistics.sequential.boundaries import LOOKS
from invact.statistics.sequential.ladder import Series
from invact.statistics.sequential.procedures import Method


def pilot(gain: float, sd: float = 0.001, n: int = 8) -> tuple[Series, Series]:
    """Accuracies of control and placebo."""
    noise = np.array([-1, 1] * (n // 2)) * sd
    return Series(0.9 + noise), Series(0.9 - gain + noise[::-1])


def changed(file: ClaimFile, **changes: object) -> ClaimFile:
    return file.model_validate({**file.model_dump(), **changes})


@pytest.fixture
def file(write_claim) -> ClaimFile:
    """A claim whose margin and looks are planned from the pilot."""
    return load_claim(write_claim(margin=None, looks=None)).file


def test_the_margin_is_half_the_bound_of_the_gain_or_the_cap(file) -> None:
    # The margin does not depend on the method, and a fixed number of pairs is planned faster.
    file = changed(file, method="fixed")
    control, placebo = pilot(0.004)
    gains = control.accuracy - placebo.accuracy
    half = stats.t.ppf(0.95, 7) * gains.std(ddof=1) / np.sqrt(8)
    plan = plan_of(file, control, placebo)
    assert plan.margin == pytest.approx((0.004 - half) / 2)
    assert plan.keeps == pytest.approx(0.5)
    # The plan assumes uncorrelated arms, although these two are correlated.
    assert plan.sd == pytest.approx(np.sqrt(control.accuracy.var(ddof=1) + placebo.accuracy.var(ddof=1)))
    assert plan.sd_upper == pytest.approx(plan.sd * np.sqrt(7 / stats.chi2.ppf(0.2, 7)))
    assert plan_of(file, *pilot(0.1)).margin == pytest.approx(0.003)
    assert plan_of(changed(file, margin=0.2), *pilot(0.1)).margin == pytest.approx(0.002)
    assert plan_of(changed(file, margin_cap=1.0), *pilot(0.1)).margin == pytest.approx(0.01)


@pytest.mark.parametrize("gain", [0.0, -0.01])
def test_without_assay_sensitivity_there_is_no_plan(write_claim, gain) -> None:
    plan = plan_of(load_claim(write_claim()).file, *pilot(gain))
    assert plan.margin is None
    assert plan.procedure is None


def test_the_looks_grow_until_the_power_is_reached(file) -> None:
    easy, hard = (plan_of(file, *pilot(0.02, sd)) for sd in (0.001, 0.0025))
    assert easy.procedure.looks == LOOKS
    assert hard.procedure.looks[-1] > LOOKS[-1]
    assert min(easy.power, hard.power) >= file.power
    assert hard.pairs > easy.pairs
    # The power of a single test by SciPy's noncentral t.
    freedom, shift = hard.pairs - 1, hard.margin * np.sqrt(hard.pairs) / hard.sd_upper
    assert stats.nct.sf(stats.t.ppf(0.95, freedom), freedom, shift) >= 0.8


@pytest.mark.parametrize("method", ["fixed", pytest.param("sequential", marks=pytest.mark.slow)])
def test_a_plan_without_enough_power_stops_at_the_most_pairs(file, method) -> None:
    file = changed(file, method=method)
    hopeless = plan_of(file, *pilot(0.05, 0.02))
    assert hopeless.pairs is None
    assert hopeless.procedure.looks[-1] <= MOST
    assert hopeless.power < file.power


@pytest.mark.parametrize("method", ["fixed", "anytime"])
def test_other_methods_have_one_number_of_pairs(file, method) -> None:
    file = changed(file, method=method)
    plan = plan_of(file, *pilot(0.02))
    assert plan.procedure.method is Method(method)
    assert plan.procedure.looks == (plan.pairs * (2 if method == "anytime" else 1),)
    assert plan_of(changed(file, pairs=17), *pilot(0.02)).procedure.looks == (17,)
