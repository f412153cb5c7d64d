import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.anova import anova_lm

from invact.errors import InputError
from invact.statistics.ratios.parallel_line import fieller, parallel_line

# European Pharmacopoeia, chapter 5.3, example 5.1.3: turbidimetric assay of an antibiotic, four doses in five
# randomised blocks. Columns: S1 to S4, T1 to T4. Data and results as in the R package pla (Badsberg 2015).
TURBIDIMETRIC = np.array(
    [
        [252, 207, 168, 113, 242, 206, 146, 115],
        [249, 201, 187, 107, 236, 197, 153, 102],
        [247, 193, 162, 111, 246, 197, 148, 104],
        [250, 207, 155, 108, 231, 191, 159, 106],
        [235, 207, 140, 98, 232, 186, 146, 95],
    ]
)
# CombiStats (EDQM), example 3: coagulation factor IX, four doses in duplicate, logarithms of the times.
FACTOR_IX = np.log10(
    [
        [61.8, 63.2, 72.4, 76.1, 84.8, 90.0, 96.4, 99.6],
        [62.4, 65.4, 74.0, 76.1, 86.3, 89.9, 96.0, 99.4],
    ]
)


def close(value, published, digits=6):
    return value == pytest.approx(published, rel=10.0 ** (1 - digits) / 2)


def anova_of(fit):
    return {row.source: row for row in fit.anova}


def test_european_pharmacopoeia_randomised_blocks():
    doses = np.tile(1.5 ** np.arange(4), (5, 2))
    test = np.tile([False] * 4 + [True] * 4, (5, 1))
    blocks = np.tile(np.arange(5)[:, None], 8)
    fit = parallel_line(doses.ravel(), TURBIDIMETRIC.ravel(), test.ravel(), blocks.ravel())
    # 670 IU/mg, 16.7 mg in 25 ml; one vial in 40 ml; assumed 20,000 IU a vial.
    vial = 670 * 16.7 / 25 * 40
    assert close(fit.potency * vial, 19228.5)
    assert close(fit.interval[0] * vial, 18423.4)
    assert close(fit.interval[1] * vial, 20075.2)
    assert close(fit.slope, -111.255)
    rows = anova_of(fit)
    published = {
        "Blocks": (4, 876.750, 4.065, 0.010),
        "Preparations": (1, 632.025, 11.722, 0.002),
        "Regression": (1, 101745.6, 1887.1, 0.000),
        "Non-parallelism": (1, 25.2050, 0.467, 0.500),
        "Non-linearity": (4, 259.140, 1.202, 0.332),
    }
    assert list(rows) == [*published, "Residual", "Total"]
    for source, (df, squares, f, p) in published.items():
        assert rows[source].df == df
        assert rows[source].sum_of_squares == pytest.approx(squares, abs=0.05)
        assert rows[source].f == pytest.approx(f, abs=0.05 if f > 1000 else 0.0006)
        assert rows[source].p_value == pytest.approx(p, abs=0.0006)
    assert (rows["Residual"].df, rows["Total"].df) == (28, 39)
    assert close(rows["Residual"].sum_of_squares, 1509.65)
    assert close(fit.variance, 53.9161)


def test_combistats_factor_ix():
    doses = np.concatenate(
        [np.repeat(1 / np.array(d), 2) for d in ([10, 20, 40, 80], [500, 1000, 2000, 4000])]
    )
    fit = parallel_line(doses, FACTOR_IX.ravel(), np.repeat([False, True], 8))
    # The standard has 10.7 IU a vial.
    assert close(10.7 * fit.potency, 511.616)
    assert close(10.7 * fit.interval[0], 436.530)
    assert close(10.7 * fit.interval[1], 599.058)
    published = {
        "Preparations": (6.80762e-5, 0.531),
        "Regression": (0.0818718, 0.000),
        "Non-parallelism": (5.70673e-5, 0.565),
        "Non-linearity": (0.000708816, 0.413),
    }
    rows = anova_of(fit)
    for source, (squares, p) in published.items():
        assert close(rows[source].sum_of_squares, squares, 5)
        assert rows[source].p_value == pytest.approx(p, abs=0.0006)
    assert close(rows["Residual"].sum_of_squares, 0.00126973)


def experiment(seed=0, slope=0.03, sd=0.005, potency=1.5, blocks=True):
    """Draw an unbalanced experiment with different doses and incomplete blocks."""
    rng = np.random.default_rng(seed)
    dose = rng.choice([4.0, 6.0, 9.0, 15.0, 25.0], 60)
    test = rng.random(60) < 0.45
    block = rng.integers(0, 4, 60)
    noise = rng.normal(0, sd, 60) + (0.01 * block if blocks else 0)
    return dose, 0.8 + slope * np.log(dose * np.where(test, potency, 1)) + noise, test, block


@pytest.mark.parametrize("seed", range(5))
def test_anova_against_statsmodels(seed):
    dose, y, test, block = experiment(seed)
    fit = parallel_line(dose, y, test, block)
    frame = pd.DataFrame({"y": y, "x": np.log(dose), "z": test.astype(float), "block": block, "dose": dose})
    # Sequential sums of squares of the nested models.
    models = [
        smf.ols(f"y ~ {terms}", frame).fit()
        for terms in (
            "1",
            "C(block)",
            "C(block) + z",
            "C(block) + z + x",
            "C(block) + z * x",
            "C(block) + C(z) * C(dose)",
        )
    ]
    table = anova_lm(*models)
    for row, source in zip(fit.anova, range(1, 6), strict=False):
        assert row.df == table["df_diff"][source]
        assert row.sum_of_squares == pytest.approx(table["ss_diff"][source])
        assert row.f == pytest.approx(table["F"][source])
        # The p value of anova_lm uses the degrees of freedom of each smaller model, not those of the error.
        assert row.p_value == pytest.approx(stats.f.sf(table["F"][source], row.df, fit.df), rel=1e-6)
    assert fit.variance == pytest.approx(models[-1].mse_resid)
    assert fit.df == models[-1].df_resid
    assert fit.slope == pytest.approx(models[3].params["x"])
    slopes = models[4].params
    assert fit.slope_ratio == pytest.approx(1 + slopes["z:x"] / slopes["x"])


def excess(dose, y, test, block, rho, slopes=False):
    """Increase of the residual sum of squares if ln(potency), or the ratio of slopes, is fixed at rho."""
    x = np.log(dose)
    base = np.column_stack([np.ones(len(y)), *(block == b for b in np.unique(block)[1:])]).astype(float)
    if slopes:
        free = np.column_stack([base, test, x * ~test, x * test])
        bound = np.column_stack([base, test, x * np.where(test, rho, 1)])
    else:
        free, bound = np.column_stack([base, test, x]), np.column_stack([base, x + rho * test])
    left = [
        np.square(y - design @ np.linalg.lstsq(design, y, rcond=None)[0]).sum() for design in (free, bound)
    ]
    return left[1] - left[0]


@pytest.mark.parametrize(("seed", "slope"), [(0, 0.03), (1, 0.03), (2, 0.004), (3, 0.0035), (4, -0.03)])
def test_the_f_test_rejects_outside_the_interval(seed, slope):
    # The test refits the model under each hypothesis. With a small slope g is large, and the delta method
    # would be far off.
    data = experiment(seed, slope=slope)
    fit = parallel_line(*data)
    critical = fit.variance * stats.f.isf(0.05, 1, fit.df)
    estimate = math.log(fit.potency)
    if fit.g >= 1:
        assert fit.interval == (0, math.inf)
        return
    for end, direction in zip(fit.interval, (-1, 1), strict=True):
        found = optimize.brentq(
            lambda rho: excess(*data, rho) - critical, estimate, estimate + direction * 10, xtol=1e-10
        )
        assert math.log(end) == pytest.approx(found, abs=1e-6)
    critical = fit.variance * stats.f.isf(0.10, 1, fit.df)
    for end, direction in zip(fit.slope_interval, (-1, 1), strict=True):
        found = optimize.brentq(
            lambda rho: excess(*data, rho, True) - critical, fit.slope_ratio, fit.slope_ratio + direction * 20
        )
        assert end == pytest.approx(found, abs=1e-6)


def test_fieller_is_not_the_delta_method():
    # With V = I the interval is the set (u - rho v)^2 <= t^2 (1 + rho^2).
    found = fieller(6.0, 4.0, np.eye(2), df=10**6)
    t = stats.norm.ppf(0.975)
    assert found.g == pytest.approx(t**2 / 16, rel=1e-4)
    for end in found.interval:
        assert abs(6 - end * 4) == pytest.approx(t * math.hypot(1, end), rel=1e-4)
    low, high = (abs(end - found.ratio) for end in found.interval)
    assert high > 1.5 * low


@given(st.floats(-5, 5), st.floats(0.1, 5), st.floats(0.01, 2), st.floats(0.01, 2), st.floats(-0.9, 0.9))
def test_fieller_contains_its_ratio_and_ends_at_the_critical_value(u, v, a, b, r):
    covariance = np.array([[a * a, r * a * b], [r * a * b, b * b]])
    found = fieller(u, v, covariance, df=20)
    low, high = found.interval
    assert low <= found.ratio <= high
    assert (found.g >= 1) == (math.isinf(low) and math.isinf(high)) or found.g == pytest.approx(1)
    if found.g < 0.99:
        for end in (low, high):
            contrast = np.array([1, -end])
            t = abs(u - end * v) / math.sqrt(contrast @ covariance @ contrast)
            assert t == pytest.approx(stats.t.isf(0.025, 20), rel=1e-4)


def test_known_potency_and_direction():
    dose, y, test, _ = experiment(sd=1e-6, potency=1.5, blocks=False)
    fit = parallel_line(dose, y, test)
    assert fit.potency == pytest.approx(1.5, rel=1e-3)
    assert fit.slope == pytest.approx(0.03, rel=1e-3)
    assert fit.slope_ratio == pytest.approx(1, rel=1e-3)
    swapped = parallel_line(dose, y, ~test)
    assert swapped.potency == pytest.approx(1 / fit.potency)
    assert swapped.interval == pytest.approx((1 / fit.interval[1], 1 / fit.interval[0]))


def test_units_do_not_matter():
    dose, y, test, block = experiment(7)
    fit = parallel_line(dose, y, test, block)
    other = parallel_line(1000 * dose, 100 * y - 3, test, block)
    assert other.potency == pytest.approx(fit.potency)
    assert other.interval == pytest.approx(fit.interval)
    assert (other.g, other.slope) == pytest.approx((fit.g, 100 * fit.slope))
    doubled = parallel_line(np.where(test, 2, 1) * dose, y, test, block)
    assert doubled.potency == pytest.approx(fit.potency / 2)


def test_blocks_reduce_the_residual_variance():
    dose, y, test, block = experiment(3)
    with_blocks, without = parallel_line(dose, y, test, block), parallel_line(dose, y, test)
    assert with_blocks.variance < 0.5 * without.variance
    assert "Blocks" not in anova_of(without)


def test_without_a_slope_the_interval_is_unbounded():
    fit = parallel_line(*experiment(0, slope=0.0))
    assert fit.g >= 1
    assert fit.interval == (0, math.inf)


GOOD = ([1, 2, 4] * 4, list(np.linspace(0.1, 0.9, 12)), [False] * 6 + [True] * 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: [1, 2, 4] * 3}, "shapes"),
        ({0: [[1, 2, 4] * 4]}, "shapes"),
        ({0: [0, 2, 4] * 4}, "positive"),
        ({0: [-1, 2, 4] * 4}, "positive"),
        ({0: [math.nan, 2, 4] * 4}, "positive"),
        ({1: [math.nan] + [0.5] * 11}, "not finite"),
        ({1: [math.inf] + [0.5] * 11}, "not finite"),
        ({2: [2] * 12}, "True"),
        ({2: [math.nan] * 12}, "True"),
        ({0: [1, 2, 2] * 4}, "three"),
        ({2: [False] * 12}, "test: received 0"),
        ({2: [True] * 12}, "standard: received 0"),
        ({0: [1, 2, 4, 8, 16, 32] * 2}, "no replicates"),
        ({3: [0] * 6 + [1] * 6}, "blocks"),
        ({3: [0] * 6}, "blocks"),
        ({4: 1.0}, "confidence"),
        ({4: math.nan}, "confidence"),
    ],
)
def test_refused(change, message):
    arguments = [change.get(index, value) for index, value in enumerate((*GOOD, None, 0.95))]
    with pytest.raises(InputError, match=message):
        parallel_line(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.0, 0.0, np.eye(2), 5), "denominator"),
        ((math.nan, 1.0, np.eye(2), 5), "fieller"),
        ((1.0, 1.0, np.eye(3), 5), "fieller"),
        ((1.0, 1.0, np.eye(2), 0), "fieller"),
        ((1.0, 1.0, np.eye(2), 5, 0.0), "confidence"),
    ],
)
def test_fieller_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        fieller(*arguments)
