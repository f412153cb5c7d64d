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
from invact.statistics.ratios.parallel_line import fieller, multiple_assay, parallel_line

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
# European Pharmacopoeia, chapter 5.3, example 5.1.1: corticotrophin in rats, a standard and two test
# preparations at two doses. Columns: S1, S2, T1, T2, U1, U2. Data and results as in pla.
CORTICOTROPHIN = np.array(
    [
        [300, 289, 310, 230, 250, 236],
        [310, 221, 290, 210, 268, 213],
        [330, 267, 360, 280, 273, 283],
        [290, 236, 341, 261, 240, 269],
        [364, 250, 321, 241, 307, 251],
        [328, 231, 370, 290, 270, 294],
        [390, 229, 303, 223, 317, 223],
        [360, 269, 334, 254, 312, 250],
        [342, 233, 295, 216, 320, 216],
        [306, 259, 315, 235, 265, 265],
    ]
)
# European Pharmacopoeia, chapter 5.3, example 5.1.4: absorbances of three hepatitis B vaccines and a
# standard at five doses. Rows: three of each of S, T, U and V. Data and results as in pla.
HEPATITIS_B = np.array(
    [
        [0.043, 0.093, 0.159, 0.283, 0.514],
        [0.045, 0.099, 0.154, 0.295, 0.531],
        [0.051, 0.082, 0.166, 0.362, 0.545],
        [0.097, 0.167, 0.327, 0.501, 1.140],
        [0.097, 0.157, 0.355, 0.665, 1.386],
        [0.094, 0.178, 0.345, 0.576, 1.051],
        [0.086, 0.127, 0.277, 0.586, 0.957],
        [0.071, 0.146, 0.268, 0.489, 0.866],
        [0.073, 0.133, 0.269, 0.546, 1.045],
        [0.082, 0.145, 0.318, 0.552, 1.037],
        [0.082, 0.144, 0.306, 0.551, 1.039],
        [0.086, 0.173, 0.316, 0.624, 1.068],
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


def agrees(fit, potency, factor=1):
    return all(
        close(factor * ours, published)
        for ours, published in zip((fit.interval[0], fit.potency, fit.interval[1]), potency, strict=True)
    )


def test_european_pharmacopoeia_two_doses_and_two_test_preparations():
    doses = np.tile([0.25, 1.0], (10, 3))
    names = np.tile(np.repeat(["S", "T", "U"], 2), (10, 1))
    fits = multiple_assay(doses.ravel(), CORTICOTROPHIN.ravel(), names.ravel(), "S")
    assert list(fits) == ["T", "U"]
    assert agrees(fits["T"], (0.783648, 1.14205, 1.68690))
    assert agrees(fits["U"], (1.14813, 1.66889, 2.55503))
    published = {
        "Preparations": (2, 6256.63, 4.086, 0.022),
        "Regression": (1, 63830.8, 83.377, 0.000),
        "Non-parallelism": (2, 8218.23, 5.367, 0.007),
    }
    for fit in fits.values():
        assert close(fit.slope, -47.0559)
        assert fit.p_linearity is None
        rows = anova_of(fit)
        assert list(rows) == [*published, "Residual", "Total"]
        for source, (df, squares, f, p) in published.items():
            assert rows[source].df == df
            assert close(rows[source].sum_of_squares, squares)
            assert rows[source].f == pytest.approx(f, abs=0.0006)
            assert rows[source].p_value == pytest.approx(p, abs=0.0006)
        assert (rows["Residual"].df, rows["Total"].df) == (54, 59)
        assert close(rows["Residual"].sum_of_squares, 41340.9)
        assert close(rows["Total"].sum_of_squares, 119647)
        assert close(fit.variance, 765.572)


def test_european_pharmacopoeia_two_doses_without_the_preparation_that_is_not_parallel():
    doses = np.tile([0.25, 1.0], (10, 2))
    test = np.tile([False, False, True, True], (10, 1))
    fit = parallel_line(doses.ravel(), CORTICOTROPHIN[:, :4].ravel(), test.ravel())
    assert agrees(fit, (0.824973, 1.11181, 1.51357))
    assert close(fit.slope, -58.970, 5)
    assert fit.p_linearity is None
    rows = anova_of(fit)
    published = {
        "Preparations": (390.625, 0.529, 0.472),
        "Regression": (66830.6, 90.491, 0.000),
        "Non-parallelism": (34.2250, 0.046, 0.831),
    }
    assert list(rows) == [*published, "Residual", "Total"]
    for source, (squares, f, p) in published.items():
        assert rows[source].df == 1
        assert close(rows[source].sum_of_squares, squares)
        assert rows[source].f == pytest.approx(f, abs=0.0006)
        assert rows[source].p_value == pytest.approx(p, abs=0.0006)
    assert rows["Residual"].df == 36
    assert close(fit.variance, 738.536)


def test_european_pharmacopoeia_five_doses_and_three_test_preparations():
    doses = np.tile(2.0 ** np.arange(5), 12)
    fits = multiple_assay(doses, np.log(HEPATITIS_B).ravel(), np.repeat(["S", "T", "U", "V"], 15), "S")
    # Each preparation is assumed to have 20 micrograms in a millilitre.
    published = {
        "T": (40.5448, 43.4196, 46.5397),
        "U": (32.8698, 35.1630, 37.6405),
        "V": (36.8125, 39.4017, 42.2057),
    }
    assert list(fits) == list(published)
    for name, potency in published.items():
        assert agrees(fits[name], potency, 20)
    fit = fits["V"]
    assert close(fit.slope, 0.908479)
    rows = anova_of(fit)
    published = {
        "Preparations": (3, 4.47522, 223.392, 0.000),
        "Regression": (1, 47.5841, 7125.8, 0.000),
        "Non-parallelism": (3, 0.0186856, 0.933, 0.434),
        "Non-linearity": (12, 0.0742323, 0.926, 0.531),
    }
    assert list(rows) == [*published, "Residual", "Total"]
    for source, (df, squares, f, p) in published.items():
        assert rows[source].df == df
        assert close(rows[source].sum_of_squares, squares)
        assert rows[source].f == pytest.approx(f, abs=0.06 if f > 1000 else 0.0006)
        assert rows[source].p_value == pytest.approx(p, abs=0.0006)
    assert fit.p_linearity == rows["Non-linearity"].p_value
    assert (rows["Residual"].df, rows["Total"].df) == (40, 59)
    assert close(fit.variance, 0.00667768)


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


def excess(dose, y, test, block, rho, slopes=False, others=()):
    """Increase of the residual sum of squares if ln(potency), or the ratio of slopes, is fixed at rho.

    The others are further test preparations, each with a level, or with a level and a slope, of its own.
    """
    x = np.log(dose)
    blocks = (block == b for b in np.unique(block)[1:])
    base = np.column_stack([np.ones(len(y)), *blocks, *others]).astype(float)
    if slopes:
        base = np.column_stack([base, *(x * other for other in others)])
        standard = np.all([~test, *(~other for other in others)], axis=0)
        free = np.column_stack([base, test, x * standard, x * test])
        bound = np.column_stack([base, test, x * (standard + rho * test)])
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


SEVERAL = {
    "two doses": {"S": [4, 16], "T": [3, 20], "U": [4, 16], "V": [5, 9]},
    "two or more doses": {"S": [4, 9, 25], "T": [3, 20], "U": [4, 6, 9, 15], "V": [5, 9]},
    "many doses": {name: [4, 6, 9, 15, 25] for name in "STUV"},
}
TRUE = {"S": 1.0, "T": 1.5, "U": 0.7, "V": 2.5}


def several(layout, seed=0, slope=0.03, sd=0.005):
    """Draw an unbalanced assay of three test preparations in incomplete blocks."""
    rng = np.random.default_rng(seed)
    cells = [(name, dose) for name, doses in SEVERAL[layout].items() for dose in doses]
    # The first part has each cell twice, so that no cell is empty.
    chosen = np.concatenate([np.arange(len(cells)).repeat(2), rng.integers(0, len(cells), 50)])
    names, dose = (np.array(column)[chosen] for column in zip(*cells, strict=True))
    block = rng.integers(0, 4, len(chosen))
    y = 0.8 + slope * np.log(dose * np.vectorize(TRUE.get)(names)) + 0.01 * block
    return dose.astype(float), y + rng.normal(0, sd, len(y)), names, block


@pytest.mark.parametrize("layout", SEVERAL)
@pytest.mark.parametrize("blocked", [False, True])
def test_several_preparations_against_statsmodels(layout, blocked):
    dose, y, names, block = several(layout)
    frame = pd.DataFrame({"y": y, "x": np.log(dose), "p": names, "block": block})
    frame["cell"] = frame["p"] + "/" + dose.astype(str)
    fits = multiple_assay(dose, y, frame["p"], "S", block if blocked else None)
    assert sorted(fits) == ["T", "U", "V"]
    terms = ["1", "C(p)", "C(p) + x", "C(p) * x", "C(cell)"]
    if blocked:
        terms = ["1", "C(block)", *(f"C(block) + {more}" for more in terms[1:])]
    models = [smf.ols(f"y ~ {more}", frame).fit() for more in terms]
    if layout == "two doses":
        # Each preparation has its own line through its two doses, so that the last two models are the same.
        assert models[-1].ssr == pytest.approx(models[-2].ssr)
        models.pop(-2)
    table = anova_lm(*models)
    sources = ["Blocks"] * blocked + ["Preparations", "Regression", "Non-parallelism"]
    sources += ["Non-linearity"] * (layout != "two doses")
    for name, fit in fits.items():
        assert [row.source for row in fit.anova] == [*sources, "Residual", "Total"]
        for row, step in zip(fit.anova, range(1, len(table)), strict=False):
            assert row.df == table["df_diff"][step]
            assert row.sum_of_squares == pytest.approx(table["ss_diff"][step])
            assert row.f == pytest.approx(table["F"][step])
            assert row.p_value == pytest.approx(stats.f.sf(table["F"][step], row.df, fit.df), rel=1e-6)
        assert (fit.variance, fit.df) == (pytest.approx(models[-1].mse_resid), models[-1].df_resid)
        common = models[1 + blocked + 1].params
        assert fit.slope == pytest.approx(common["x"])
        assert fit.potency == pytest.approx(math.exp(common[f"C(p)[T.{name}]"] / common["x"]))
        alone = smf.ols(f"y ~ {terms[-2]}", frame).fit().params
        assert fit.slope_ratio == pytest.approx(1 + alone[f"C(p)[T.{name}]:x"] / alone["x"])


@pytest.mark.parametrize("layout", SEVERAL)
@pytest.mark.parametrize("slope", [0.03, 0.003])
def test_the_f_test_rejects_outside_each_interval_of_several(layout, slope):
    dose, y, names, block = several(layout, slope=slope, sd=0.002)
    fits = multiple_assay(dose, y, names, "S", block)
    for name, fit in fits.items():
        data = dose, y, names == name, block
        others = [names == other for other in fits if other != name]
        assert fit.g == pytest.approx(stats.f.isf(0.05, 1, fit.df) / anova_of(fit)["Regression"].f)
        assert fit.g < 1
        estimate, critical = math.log(fit.potency), fit.variance * stats.f.isf(0.05, 1, fit.df)
        for end, direction in zip(fit.interval, (-1, 1), strict=True):
            found = optimize.brentq(
                lambda rho, data=data, others=others, critical=critical: (
                    excess(*data, rho, others=others) - critical
                ),
                estimate,
                estimate + direction * 10,
                xtol=1e-10,
            )
            assert math.log(end) == pytest.approx(found, abs=1e-6)
        critical = fit.variance * stats.f.isf(0.10, 1, fit.df)
        for end in fit.slope_interval:
            if math.isfinite(end):
                assert excess(*data, end, slopes=True, others=others) == pytest.approx(critical)
    assert slope < 0.03 or all(math.isfinite(fit.slope_interval[1]) for fit in fits.values())


@given(st.integers(0, 10**6), st.integers(2, 6), st.floats(1.2, 10), st.floats(0.1, 10), st.booleans())
def test_the_assay_of_four_points_has_a_closed_form(seed, n, step, shift, blocked):
    # The formulas of European Pharmacopoeia, chapter 5.3, section 3.2, from the four totals.
    y = np.random.default_rng(seed).normal([10, 12, 11, 13], 1.5, (n, 4)) + np.arange(n)[:, None]
    doses = np.tile([1, step, shift, shift * step], (n, 1))
    blocks = np.arange(n).repeat(4) if blocked else None
    fit = parallel_line(doses.ravel(), y.ravel(), np.tile([False, False, True, True], n), blocks)
    s1, s2, t1, t2 = y.sum(axis=0)
    regression = (s2 + t2 - s1 - t1) ** 2 / (4 * n)
    correction = y.sum() ** 2 / (4 * n)
    treatments = (y.sum(axis=0) ** 2).sum() / n - correction
    within = (y**2).sum() - correction - treatments
    df = 4 * (n - 1)
    if blocked:
        within -= (y.sum(axis=1) ** 2).sum() / 4 - correction
        df -= n - 1
    variance = within / df
    log_ratio = math.log(step) * (t1 + t2 - s1 - s2) / (s2 + t2 - s1 - t1)
    assert math.log(fit.potency * shift) == pytest.approx(log_ratio)
    assert fit.slope == pytest.approx((s2 + t2 - s1 - t1) / (2 * n * math.log(step)))
    assert (fit.variance, fit.df) == (pytest.approx(variance), df)
    rows = anova_of(fit)
    assert list(rows) == ["Blocks"] * blocked + [
        "Preparations",
        "Regression",
        "Non-parallelism",
        "Residual",
        "Total",
    ]
    for source, squares in (
        ("Preparations", (t1 + t2 - s1 - s2) ** 2 / (4 * n)),
        ("Regression", regression),
        ("Non-parallelism", (s2 - s1 - t2 + t1) ** 2 / (4 * n)),
    ):
        assert rows[source].sum_of_squares == pytest.approx(squares, abs=1e-9)
        assert rows[source].f == pytest.approx(squares / variance, abs=1e-9)
    g = stats.t.isf(0.025, df) ** 2 * variance / regression
    assert fit.g == pytest.approx(g)
    if g > 1.001:
        assert fit.interval == (0, math.inf)
    elif g < 0.99:
        c = 1 / (1 - g)
        half = math.sqrt((c - 1) * (c * log_ratio**2 + math.log(step) ** 2))
        ends = [math.log(end * shift) for end in fit.interval]
        assert ends == pytest.approx([c * log_ratio - half, c * log_ratio + half], rel=1e-6)


def test_one_of_several_preparations_is_the_single_assay():
    for seed in range(5):
        dose, y, test, block = experiment(seed)
        single = parallel_line(dose, y, test, block, 0.9)
        assert multiple_assay(dose, y, np.where(test, "T", "S"), "S", block, 0.9) == {"T": single}


def test_neither_the_order_nor_the_choice_of_the_standard_changes_the_assay():
    dose, y, names, block = several("two or more doses")
    fits = multiple_assay(dose, y, names, "S", block)
    order = np.random.default_rng(1).permutation(len(y))
    mixed = multiple_assay(dose[order], y[order], names[order], "S", block[order])
    other = multiple_assay(dose, y, names, "U", block)
    assert list(mixed) == [name for name in dict.fromkeys(names[order].tolist()) if name != "S"]
    assert list(other) == ["S", "T", "V"]
    for name, fit in fits.items():
        assert mixed[name].interval == pytest.approx(fit.interval)
        assert mixed[name].slope_interval == pytest.approx(fit.slope_interval)
    for name in ("T", "V"):
        assert other[name].potency == pytest.approx(fits[name].potency / fits["U"].potency)
        assert other[name].slope_ratio == pytest.approx(fits[name].slope_ratio / fits["U"].slope_ratio)
    low, high = fits["U"].interval
    assert other["S"].interval == pytest.approx((1 / high, 1 / low))
    for ours, theirs in zip(fits["U"].anova, other["S"].anova, strict=True):
        assert (ours.source, ours.df) == (theirs.source, theirs.df)
        assert ours.sum_of_squares == pytest.approx(theirs.sum_of_squares)


@pytest.mark.parametrize("dose", [[1, 2] * 4, [1, 2, 4] * 4])
def test_responses_that_are_all_zero_have_no_potency(dose):
    fit = parallel_line(dose, np.zeros(len(dose)), np.arange(len(dose)) >= len(dose) / 2)
    assert (fit.slope, fit.g, fit.interval) == (0, math.inf, (0, math.inf))
    assert math.isnan(fit.potency)
    assert math.isnan(fit.slope_ratio)
    assert fit.slope_interval == (-math.inf, math.inf)


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
        ({0: [1, 1, 1] * 4}, "standard: received 1 .* 2 or more"),
        ({0: [1, 2] * 3 + [4] * 6}, "test: received 1 "),
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
    ("change", "message"),
    [
        ({0: [1, 2] * 5}, "doses, responses, preparations: received shapes"),
        ({0: [0, 2] * 6}, "positive"),
        ({1: [math.nan] + [0.5] * 11}, "not finite"),
        ({2: ["S"] * 4 + ["T"] * 4}, "shapes"),
        ({2: [0] * 4 + [1] * 8}, "not text"),
        ({2: np.array(["S"] * 4 + ["T"] * 4 + [None] * 4, dtype=object)}, "not text"),
        ({2: ["S"] * 12}, "preparations: .* others"),
        ({3: "R"}, "'R'"),
        ({0: [1, 2] * 4 + [2] * 4}, "U: received 1 "),
        ({0: [1, 2, 4, 8] * 3}, "no replicates"),
        ({4: [0] * 4 + [1] * 8}, "blocks"),
        ({5: 0.0}, "confidence"),
    ],
)
def test_several_refused(change, message):
    good = ([1, 2] * 6, list(np.linspace(0.1, 0.9, 12)), ["S"] * 4 + ["T"] * 4 + ["U"] * 4, "S", None, 0.95)
    assert set(multiple_assay(*good)) == {"T", "U"}
    with pytest.raises(InputError, match=message):
        multiple_assay(*(change.get(index, value) for index, value in enumerate(good)))


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
