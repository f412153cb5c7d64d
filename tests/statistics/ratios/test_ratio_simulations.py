import math

import numpy as np
import pytest
from scipy.stats import binomtest

from benchmarks.ratios import (
    CURVES,
    FURTHER,
    LAWS,
    OWN,
    World,
    fronts,
    layout,
    local,
    outcomes,
    parallel_lines,
    rates,
    shared_curve,
    worlds,
)
from invact.statistics.intervals import t_quantile
from invact.statistics.ratios.local import local_ratio
from invact.statistics.ratios.observations import estimates, observations, residual
from invact.statistics.ratios.parallel_line import limits, parallel_line

SURE = 1e-3
"""A right share fails with at most this probability."""


def assert_within(share, replications, low=0.0, high=1.0):
    count = round(share * replications)
    assert binomtest(count, replications, low, alternative="less").pvalue >= SURE, (share, low)
    assert binomtest(count, replications, high, alternative="greater").pvalue >= SURE, (share, high)


def shares_of(found):
    """Check each share against its required range; return them by name."""
    shares = {}
    for rate in found:
        if rate.promised is not None:
            assert_within(rate.share, rate.replications, *rate.promised)
        shares[rate.name] = rate.share
    return shares


@pytest.mark.parametrize(
    "world",
    [
        World("power law, exponent 1", precision=10, law=1.0, ratio=0.5),
        World("logistic, slope 1", precision=10, noise="exponential, tail below", ratio=1.0),
        World("exponential, scale 8", law=0.5, ratio=0.75, macs=True),
        World("exponential, scale 4", precision=40, images=360),
        World("power law, exponent 1.5", precision=80, narrow=True),
    ],
)
def test_the_vectorised_steps_agree_with_the_public_function(world):
    y, control = world.draw(np.random.default_rng(0), 60)
    covered, low, high = outcomes(world, y, control)
    macs_of_control = 30_000.0
    truth = float(world.dose(np.array([OWN * world.ratio]))[0]) / macs_of_control
    found = [
        local_ratio(world.dose(world.widths), *one, floor=world.floor)
        for one in zip(y.T, [macs_of_control] * 60, control.T, strict=True)
    ]
    assert [one.low is not None for one in found] == low.tolist()
    assert [one.high is not None for one in found] == high.tolist()
    assert [(one.low or 0) <= truth <= (one.high or math.inf) for one in found] == covered.tolist()


@pytest.fixture(scope="module")
def small():
    """Shares of all worlds, with 50 replications of each."""
    return local(worlds(), 50)


@pytest.mark.parametrize("law", LAWS)
def test_the_local_ratio_covers_for_each_law_of_the_spread(small, law):
    # The sum over worlds with different shares varies less than a binomial count.
    shares = small[[world.law == law for world in worlds()]]
    assert_within(shares[:, 0].mean(), 50 * len(shares), 0.95, 0.965)
    assert_within(shares[:, 2].mean(), 50 * len(shares), 0.97)


@pytest.mark.parametrize("curve", CURVES)
def test_the_local_ratio_covers_for_each_family_of_curves(small, curve):
    shares = small[[world.curve == curve for world in worlds()]]
    assert_within(shares[:, 0].mean(), 50 * len(shares), 0.95, 0.965)


def test_both_ends_of_the_local_ratio_are_found(small):
    assert_within(small[:, 1].mean(), 50 * len(small), 0.94)


@pytest.mark.parametrize("noise", FURTHER)
def test_the_local_ratio_covers_with_noise_of_other_shapes(noise):
    every = worlds(precisions=[20], noises=[noise])
    assert_within(local(every, 50)[:, 0].mean(), 50 * len(every), 0.945)


def test_a_quadratic_does_not_cover_a_precise_curve():
    world = World("exponential, scale 4", precision=40, ratio=1.0)
    (cubic,), (quadratic,) = (local([world], 2_000, degree=degree)[:, 0] for degree in (3, 2))
    assert_within(cubic, 2_000, 0.94, 0.96)
    assert quadratic < 0.6


@pytest.mark.slow
def test_the_local_ratio_covers_in_each_world():
    shares, every = local(worlds(), 10_000), worlds()
    for share in shares:
        assert_within(share[0], 10_000, 0.915)
        assert_within(share[2], 10_000, 0.97)
    for law in LAWS:
        own = shares[[world.law == law for world in every]]
        assert_within(own[:, 0].mean(), 10_000 * len(own), 0.95, 0.96)
    assert_within(shares[:, 1].mean(), 10_000 * len(every), 0.94)


@pytest.mark.parametrize("slope", [0.03, 0.0015])
def test_fieller_covers(slope):
    shares = shares_of(parallel_lines(20_000, 5, slope))
    if slope == 0.0015:
        # With g of about 0.3 the delta method does not have its nominal coverage.
        assert abs(shares["parallel lines, delta method"] - 0.95) > 0.02


def test_the_simulation_agrees_with_the_public_function():
    # One replication is computed with parallel_line and with the steps of the simulation.
    widths, treated = layout(5)
    y = np.log(widths) + np.random.default_rng(0).normal(0, 0.1, len(widths))
    fit = parallel_line(widths, y, treated)
    left, df = residual(observations(widths, y, treated).cell_columns(), y)
    effects, unit = estimates(np.column_stack([np.ones(len(y)), treated, np.log(widths)]), y)
    low, high, g = limits(effects[1], effects[2], left / df * unit[1:, 1:], t_quantile(df, 0.95) ** 2)
    assert fit.interval == pytest.approx((np.exp(low), np.exp(high)))
    assert fit.g == pytest.approx(float(g))


def test_shared_curve_covers():
    shares_of(shared_curve(250, 5))


def test_a_front_rarely_dominates_an_equal_front():
    shares_of(fronts(300, 8, 0.0, 0.0))


@pytest.mark.slow
def test_every_requirement_of_the_benchmark():
    shares_of(rates(20_000))
