import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from invact.claims.cells import cell_key
from invact.claims.evidence import Results
from invact.claims.file import BLOCKS, load_claim
from invact.claims.keys import TuningFile
from invact.claims.planning.forecast import plan_claim
from invact.claims.planning.plan import MOST, plan_of
from invact.claims.planning.registration import changes_between, read, register, sha256
from invact.claims.planning.tuning import tuning_points
from invact.claims.run import run_claim
from invact.claims.verdict.result import values_of
from invact.cost.count import count_macs
from invact.errors import EnvironmentFault, Incomplete, InputError
from invact.execution.engine import Engine
from invact.networks.build import build_model
from invact.statistics.sequential.boundaries import LOOKS
from invact.statistics.sequential.ladder import Series, Verdict
from invact.statistics.sequential.procedures import Method
from invact.tracking.store import open_store

CLAIM = """
data = "digits"
ratios = {ratios}
looks = [2, 3]
pilot = 3
margin = 40
{more}
[config]
filters = 8
depth = 1
epochs = 2
batch_size = 64
{config}
"""
# One filter is so much worse than eight that three seeds of the pilot tell.
FAR = "[0.125]"
RATE = "learning_rate = 1e-2"


@pytest.fixture
def write_claim(folder: Path) -> Callable[..., Path]:
    def write(more: str = "", config: str = "", ratios: str = "[0.5, 0.75]") -> Path:
        path = folder / "tiny_claim.toml"
        path.write_text(CLAIM.format(more=more, config=config, ratios=ratios))
        return path

    return write


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pilot": 1}, "pilot: received 1, which is insufficient. Allowed: at least 2"),
        ({"looks": [1]}, "looks: received [1], which is insufficient"),
        ({"looks": [1, 2]}, "insufficient"),
        ({"looks": [5, 3]}, "looks: received [5, 3]. Allowed: increasing"),
        ({"looks": None, "method": "fixed", "pairs": 1}, "pairs: received 1, which is insufficient"),
        ({"method": "fixed"}, "looks: received [2, 3]. Allowed: with method 'sequential' only"),
        ({"pairs": 5}, "pairs: received 5. Allowed: with method 'fixed' or 'anytime' only"),
        ({"method": "sequentially"}, "did you mean 'sequential'?"),
        ({"margin": 0}, "margin: received 0. Allowed: greater than 0"),
        ({"margin": -1.0}, "margin: received -1.0"),
        ({"margin_cap": 0}, "margin_cap: received 0"),
        ({"alpha": 0.5}, "alpha: received 0.5. Allowed: less than 0.5"),
        ({"alpha": 0}, "alpha: received 0"),
        ({"alpha": 0.05, "strict": True}, "alpha: received 0.05 and strict. Allowed: one of them"),
        ({"ratios": [0.0]}, "ratios.0: received 0.0"),
        ({"ratios": [1.5]}, "ratios.0: received 1.5"),
        ({"ratios": []}, "ratios: received []"),
        (
            {"ratios": [0.5, 0.51]},
            "ratios: received [0.5, 0.51]. Allowed: each gives another",
        ),
        ({"treatment": "inverze"}, "did you mean 'inverse'?"),
        ({"also": ["relu_dupl"]}, "did you mean 'relu_duplicated'?"),
        ({"also": ["relu"]}, "also: received 'relu'. Allowed: arms other than control and treatment"),
        ({"also": ["elu", "elu"]}, "also: received 'elu'"),
        (
            {"curve": {"control": [4, 8], "treatment": [2, 4, 6]}},
            "curve.control: received 2 widths.",
        ),
        ({"curve": {"control": [4, 6, 8], "treatment": [2, 4]}}, "curve.treatment: received 2 widths"),
        ({"curve": {"control": [4, 4, 8], "treatment": [2, 4, 6]}}, "each once"),
        (
            {"curve": {"control": [4, 6, 8], "treatment": [2, 4, 6], "seeds": 1}},
            "curve.seeds: received 1",
        ),
        ({"tuning": {"trials": 1, "learning_rate": [1e-3, 1e-2]}}, "insufficient"),
        ({"tuning": {"trials": 3, "learning_rate": [1e-2, 1e-3]}}, "[low, high], low below high"),
        ({"data": ["digits", "digits"]}, "data: received ['digits', 'digits']. Allowed: each once"),
        ({"data": []}, "data"),
        (
            {"config.activation": "relu"},
            "config: activation: received 'relu'. Allowed: nothing",
        ),
        ({"config.width_rule": "macs"}, "the claim decides it"),
        ({"config.epoch": 3}, "did you mean 'epochs'?"),
        ({"marginn": 1}, "did you mean 'margin'?"),
        ({"seed": 20_001}, "seed: received 20001"),
    ],
)
def test_bad_claims_are_refused_in_one_line(write_claim, changes, message) -> None:
    path = write_claim()
    changes = {key: value for key, value in changes.items() if value is not None}
    if "method" in changes and "pairs" in changes:
        path.write_text(path.read_text().replace("looks = [2, 3]", ""))
    with pytest.raises(InputError) as error:
        load_claim(path, changes)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_curve_wants_one_number_of_filters(write_claim) -> None:
    path = write_claim("[curve]\ncontrol = [2, 3, 4]\ntreatment = [2, 3, 4]\n")
    with pytest.raises(InputError, match="curve: received with filters for each stage"):
        load_claim(path, {"config.depth": 2, "config.filters": [4, 8]})


# What is trained


def test_the_networks_of_the_protocol(write_claim, digits) -> None:
    claim = load_claim(write_claim('also = ["relu_duplicated"]'), {"config.filters": 16, "config.depth": 2})
    cells = claim.cells()
    assert list(claim.ratios) == [0.75, 0.5]
    assert set(cells) == {"control"} | {
        f"{role} {ratio}"
        for role in ("treatment", "placebo", "matched", "relu_duplicated")
        for ratio in (0.75, 0.5)
    }
    arms = {key: (cell.config.activation, cell.config.filters) for key, cell in cells.items()}
    assert arms["control"] == ("relu", 16)
    assert arms["treatment 0.5"] == ("inverse", 8)
    assert arms["placebo 0.5"] == ("relu", 8)
    assert arms["relu_duplicated 0.75"] == ("relu_duplicated", 12)
    macs = {
        key: count_macs(build_model(cell.config, digits.input_shape, digits.classes)).macs
        for key, cell in cells.items()
    }
    for ratio in ("0.75", "0.5"):
        # As close as whole filters come.
        assert macs[f"matched {ratio}"] == pytest.approx(macs[f"treatment {ratio}"], rel=0.05)
        assert macs[f"relu_duplicated {ratio}"] == macs[f"treatment {ratio}"]
    assert macs["treatment 0.75"] > macs["control"] > macs["treatment 0.5"]


def test_filters_are_the_ratio_of_the_controls_and_at_least_one(write_claim) -> None:
    small = load_claim(write_claim(), {"ratios": [0.01], "config.filters": [4, 8], "config.depth": 2})
    assert small.cells()["treatment 0.01"].config.filters == (1, 1)


@settings(deadline=None)
@given(st.integers(0, 20_000), st.integers(1, 10_000))
def test_the_blocks_of_seeds_are_disjoint(seed: int, count: int) -> None:
    claim = load_claim("digits_claim", {"seed": seed})
    blocks = [set(claim.seeds(block, count)) for block in BLOCKS]
    assert all(len(block) == count for block in blocks)
    assert not any(one & other for one, other in itertools.combinations(blocks, 2))
    following = load_claim("digits_claim", {"seed": seed + 1}) if seed < 20_000 else claim
    if following is not claim:
        assert not set(following.seeds("tuning", count)) & set.union(*blocks)
    assert max(map(max, blocks)) < 2**31


@settings(deadline=None)
@given(st.integers(2, 64), st.floats(1e-5, 1e-2), st.floats(1.5, 1e3))
def test_the_tuning_tries_the_same_points_for_every_arm(trials: int, low: float, factor: float) -> None:
    tuning = TuningFile(trials=trials, learning_rate=(low, low * factor), weight_decay=(1e-5, 1e-3))
    recipes = tuning_points(tuning, {})
    assert recipes == tuning_points(tuning, {"filters": 3})
    assert len(set(recipes)) == trials
    rates = np.array([recipe.learning_rate for recipe in recipes])
    assert (rates >= low * 0.999).all()
    assert (rates <= low * factor * 1.001).all()
    # On a logarithmic scale the points are spread evenly: each half of the range has its share.
    assert abs((np.log(rates) < np.log(low) + np.log(factor) / 2).mean() - 0.5) <= 1 / trials + 1e-9


def test_without_a_range_the_tuning_leaves_weight_decay(write_claim) -> None:
    tuning = TuningFile(trials=2, learning_rate=(1e-3, 1e-2))
    assert {recipe.weight_decay for recipe in tuning_points(tuning, {"weight_decay": 0.5})} == {0.5}


# What is planned


def pilot(gain: float, sd: float = 0.001, n: int = 8) -> tuple[Series, Series]:
    noise = np.array([-1, 1] * (n // 2)) * sd
    return Series(0.9 + noise), Series(0.9 - gain + noise[::-1])


def test_the_margin_is_half_the_bound_or_the_cap(write_claim) -> None:
    path = write_claim()
    path.write_text(path.read_text().replace("margin = 40", "").replace("looks = [2, 3]", ""))
    file = load_claim(path).file
    control, placebo = pilot(0.004)
    gains = control.accuracy - placebo.accuracy
    half = stats.t.ppf(0.95, 7) * gains.std(ddof=1) / np.sqrt(8)
    plan = plan_of(file, control, placebo)
    assert plan.margin == pytest.approx((0.004 - half) / 2)
    assert plan.keeps == pytest.approx(0.5)
    # Planned with the arms uncorrelated, which here they are not.
    assert plan.sd == pytest.approx(np.sqrt(control.accuracy.var(ddof=1) + placebo.accuracy.var(ddof=1)))
    assert plan.sd_upper == pytest.approx(plan.sd * np.sqrt(7 / stats.chi2.ppf(0.2, 7)))
    assert plan_of(file, *pilot(0.1)).margin == pytest.approx(0.003)
    assert plan_of(replace_file(file, margin=0.2), *pilot(0.1)).margin == pytest.approx(0.002)
    assert plan_of(replace_file(file, margin_cap=1.0), *pilot(0.1)).margin == pytest.approx(0.01)


def replace_file(file, **changes):
    return file.model_validate({**file.model_dump(), **changes})


def test_without_assay_sensitivity_nothing_is_planned(write_claim) -> None:
    file = load_claim(write_claim()).file
    for gain in (0.0, -0.01):
        plan = plan_of(file, *pilot(gain))
        assert plan.margin is None
        assert plan.procedure is None


def test_looks_stretch_until_the_power_is_there(write_claim) -> None:
    path = write_claim()
    path.write_text(path.read_text().replace("margin = 40", "").replace("looks = [2, 3]", ""))
    file = load_claim(path).file
    easy, hard = (plan_of(file, *pilot(0.02, sd)) for sd in (0.001, 0.003))
    assert easy.procedure.looks == LOOKS
    assert hard.procedure.looks[-1] > LOOKS[-1]
    assert min(easy.power, hard.power) >= file.power
    assert hard.pairs > easy.pairs
    # What the noncentral t says, from scipy itself.
    freedom, shift = hard.pairs - 1, hard.margin * np.sqrt(hard.pairs) / hard.sd_upper
    assert stats.nct.sf(stats.t.ppf(0.95, freedom), freedom, shift) >= 0.8
    hopeless = plan_of(file, *pilot(0.05, 0.02))
    assert hopeless.pairs is None
    assert hopeless.procedure.looks[-1] <= MOST
    assert hopeless.power < file.power


@pytest.mark.parametrize("method", ["fixed", "anytime"])
def test_other_methods_have_one_number_of_pairs(write_claim, method) -> None:
    path = write_claim()
    path.write_text(path.read_text().replace("margin = 40", "").replace("looks = [2, 3]", ""))
    file = load_claim(path, {"method": method}).file
    plan = plan_of(file, *pilot(0.02))
    assert plan.procedure.method is Method(method)
    assert plan.procedure.looks == (plan.pairs * (2 if method == "anytime" else 1),)
    assert plan_of(replace_file(file, pairs=17), *pilot(0.02)).procedure.looks == (17,)


def test_strict_is_half_the_error(write_claim) -> None:
    path = write_claim()
    assert load_claim(path).file.level == 0.05
    assert load_claim(path, {"strict": True}).file.level == 0.025
    assert load_claim(path, {"alpha": 0.01}).file.level == 0.01


# What a run counts for


def results(rows: list[dict], data) -> Results:
    table = pd.DataFrame(rows)
    return Results(table, data)


def test_failed_runs_count_at_chance_level_and_no_run_is_dropped(write_claim, digits) -> None:
    cell = load_claim(write_claim()).cells()["control"]
    row = {"param.step": "confirmation", "param.key": "control", "config": cell.config.digest()}
    rows = [
        row | {"seed": 2, "status": "FINISHED", "validation_accuracy": 0.9, "test_accuracy": 0.88},
        row | {"seed": 1, "status": "DIVERGED", "validation_accuracy": np.nan, "test_accuracy": 0.3},
        row | {"seed": 0, "status": "FINISHED", "validation_accuracy": 0.95, "test_accuracy": 0.93},
        row | {"seed": 3, "status": "FINISHED", "validation_accuracy": 0.15, "test_accuracy": 0.2},
        row | {"seed": 5, "status": "FINISHED", "validation_accuracy": 0.9, "test_accuracy": 0.91},
        row | {"seed": 4, "status": "FAILED", "validation_accuracy": np.nan, "test_accuracy": np.nan},
        row | {"seed": 0, "param.step": "pilot", "status": "FINISHED", "test_accuracy": 0.5},
        row | {"seed": 0, "config": "other", "status": "FINISHED", "test_accuracy": 0.5},
    ]
    series = results(rows, digits).series("confirmation", cell, range(6))
    # Seed 4 is still to come, and pairs are taken in order: seed 5 waits.
    assert series.accuracy.tolist() == [0.93, 0.1, 0.88, 0.1]
    assert series.failed.tolist() == [False, True, False, True]


# What it is bound to


@pytest.fixture
def record(folder: Path, empty_store: Path):
    (folder / "mlruns").mkdir()
    (folder / "mlruns" / "mlflow.db").write_bytes(empty_store.read_bytes())
    with open_store(folder / "mlruns").record("mine", "claim", "abc") as opened:
        yield opened


def test_a_registration_is_read_back_and_its_hash_is_kept(record) -> None:
    assert read(record) is None
    made = register(record, {"settings": {"alpha": 0.05, "looks": (5, 7)}, "margin": 0.003})
    found = read(record)
    assert found == made
    assert found.sha256 == sha256(found.registered)
    assert not found.changes({"alpha": 0.05, "looks": [5, 7]})
    assert found.changes({"alpha": 0.1, "looks": [5, 7]}) == {"alpha": (0.05, 0.1)}


def test_a_deviation_is_kept_beside_what_was_registered(record) -> None:
    first = register(record, {"settings": {"alpha": 0.05}})
    second = register(record, {"settings": {"alpha": 0.1}}, "a slip of the pen")
    found = read(record)
    assert found == second
    assert found.registered == first.registered
    assert found.design["settings"] == {"alpha": 0.1}
    assert "a slip of the pen (settings.alpha: 0.05 -> 0.1)" in str(found.deviations[0])


def test_a_registration_that_was_altered_is_noticed(record) -> None:
    register(record, {"settings": {"alpha": 0.05}})
    text = record.read("preregistration.json").decode().replace("0.05", "0.06")
    record.keep({"preregistration.json": text.encode()})
    with pytest.raises(EnvironmentFault, match="was changed after it was registered"):
        read(record)


tables = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=6,
).filter(lambda value: isinstance(value, dict))


@settings(deadline=None)
@given(tables)
def test_nothing_changes_between_a_table_and_itself(table) -> None:
    assert changes_between(table, table) == {}
    assert changes_between(table, {**table, "zzz": 1}) == {"zzz": (None, 1)}


# The whole


@pytest.fixture
def whole(write_claim) -> Path:
    return write_claim(
        'also = ["linear_negated"]\n[tuning]\ntrials = 2\nlearning_rate = [4e-3, 2e-2]\n'
        "[curve]\ncontrol = [2, 3, 4]\ntreatment = [1, 2, 3]\nseeds = 2",
        ratios=FAR,
    )


def test_the_whole_protocol_and_again(whole, cluster, monkeypatch, capfd) -> None:
    result = run_claim(whole, scheduler=cluster)
    assert "tiny_claim, pilot: 6 trainings" in capfd.readouterr().err
    (one,) = result.sets
    steps = one.table.groupby("param.step").size()
    cells = load_claim(whole).cells()
    # The control, and four arms at the ratio.
    assert len(cells) == 5
    assert steps["tuning"] == 2 * len(cells)
    assert steps["pilot"] == 6
    assert steps["repeat"] == 3
    assert steps["curve"] == 2 * 6
    # No seed serves two steps.
    owners = one.table.groupby("seed")["param.step"].nunique()
    assert set(owners) == {1}
    # Everything of the confirmation was trained after the registration.
    (parent,) = Path("mlruns/artifacts/tiny_claim").glob("*/artifacts/preregistration.json")
    registered = json.loads(parent.read_text())
    assert registered["sha256"] == one.preregistration.sha256
    design = registered["design"]
    assert design["margin"] == 0.4
    assert design["seeds"]["confirmation"] == [20000, 20001, 20002]
    runs = open_store(None).runs
    experiment = next(key for key, name in runs.experiments().items() if name == "tiny_claim")
    times = {
        run.data.tags["invact.seed"]: run.info.start_time / 1000
        for run in runs.search([experiment], "")
        if "invact.seed" in run.data.tags
    }
    at = pd.Timestamp(registered["registered"]).timestamp()
    assert all(times[str(seed)] >= at for seed in (20000, 20001) if str(seed) in times)
    assert times["10000"] < at + 1
    # Only the learning rate was tuned, on validation alone.
    table = one.table[one.table["param.step"] == "tuning"]
    best = table.sort_values("validation_accuracy").groupby("param.key").tail(1).set_index("param.key")
    for key in ("control", "treatment 0.125"):
        chosen = design["recipes"][key]["learning_rate"]
        tried = table[table["param.key"] == key].set_index("config_json")["validation_accuracy"]
        assert chosen in (json.loads(best.loc[key, "config_json"])["learning_rate"],) or tried.nunique() == 1
    # Files and tags.
    folder = parent.parent / "verdict"
    written = json.loads((folder / "claim.json").read_text())
    assert written["verdict"] == str(result.verdict)
    assert written["data_sets"][0]["preregistration"]["sha256"] == one.preregistration.sha256
    for name in ("claim.png", "qq.png", "curve.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG"), name
    assert len(pd.read_csv(folder / "runs.csv")) == len(one.table)
    text = " ".join(one.reasons)
    for words in ("sign flips p = ", "for the population of images", "The negative control", "Registered on"):
        assert words in text
    assert (folder / "report.md").read_text().startswith(f"# tiny_claim on digits: {result.verdict}")
    # Again: nothing is trained, and everything comes out the same.
    monkeypatch.setattr(Engine, "__enter__", lambda engine: pytest.fail("an engine was started"))
    again = run_claim(whole, scheduler=cluster, show=False)
    assert values_of(again) == values_of(result)
    # A change is refused before anything is trained, with what was registered.
    with pytest.raises(
        InputError, match=r"margin: received 30.0, registered 40.0 on 20.*--deviation"
    ) as error:
        run_claim(load_claim(whole, {"margin": 30}), scheduler=cluster, show=False)
    assert str(whole) in str(error.value)


def test_a_deviation_is_printed(write_claim, cluster) -> None:
    path = write_claim("repeat = false", RATE, FAR)
    first = run_claim(path, scheduler=cluster, show=False)
    changed = load_claim(path, {"alpha": 0.2})
    result = run_claim(changed, deviation="a typing error", scheduler=cluster, show=False)
    (one,) = result.sets
    assert one.preregistration.registered == first.sets[0].preregistration.registered
    assert any("DEVIATION" in reason and "a typing error" in reason for reason in one.reasons)
    assert result.alpha == 0.2


def test_a_fault_of_the_machine_is_run_again_with_its_seed(write_claim, cluster, tmp_path) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    path = write_claim(
        'imports = ["users"]\nrepeat = false',
        f'model = "users:fails"\noptions = {{ flag = "{flag}" }}\n{RATE}',
        FAR,
    )
    claim = load_claim(path)
    with pytest.raises(Incomplete, match="6 runs of the pilot failed 3 times, so no verdict") as error:
        run_claim(claim, scheduler=cluster, show=False)
    assert "the user's fault in two lines" in str(error.value)
    flag.unlink()
    (one,) = run_claim(claim, scheduler=cluster, show=False).sets
    assert set(one.table["status"]) == {"FINISHED"}
    # Twice each in the first session, listed with the seed that was kept.
    assert len(one.reruns) == 12
    assert {again["seed"] for again in one.reruns} == {10000, 10001, 10002}


def test_two_data_sets(write_claim, cluster, digits, folder) -> None:
    # Half of the images, brought to the range that a file's pixels have.
    half = {f"y_{part}": getattr(digits, f"y_{part}")[::2] for part in ("train", "test")}
    half |= {f"x_{part}": getattr(digits, f"x_{part}")[::2] * np.uint8(15) for part in ("train", "test")}
    np.savez(folder / "half.npz", **half)
    path = write_claim("repeat = false", RATE, FAR)
    claim = load_claim(path, {"data": ["digits", "half.npz"]})
    result = run_claim(claim, scheduler=cluster, show=False)
    assert [one.data for one in result.sets] == ["digits", str(folder / "half.npz")]
    p_values = [one.ratios[0].rung.p_value for one in result.sets]
    assert result.over[0.125].on_all == max(p_values)
    assert min(result.over[0.125].on_which) == pytest.approx(min(1, 2 * min(p_values)))
    assert result.verdict in set(Verdict)
    assert values_of(result)


def test_the_plan_trains_nothing(whole, monkeypatch, digits) -> None:
    monkeypatch.setattr(Engine, "__enter__", lambda engine: pytest.fail("an engine was started"))
    ((plan, steps),) = plan_claim(whole).values()
    assert plan is None
    assert {step.name: (step.least, step.most) for step in steps} == {
        "tuning": (10, 10),
        "pilot": (6, 6),
        "confirmation": (4, 3 * 4),
        "other arms": (2, 3),
        "repeat": (4, 3),
        "curve": (12, 12),
    }
    assert not Path("mlruns").exists()
    claim = load_claim(whole)
    cost = {
        key: count_macs(build_model(cell.config, digits.input_shape, digits.classes)).macs
        for key, cell in claim.cells().items()
    }
    # Three seeds of two networks for two epochs, forward and backward.
    both = cost["control"] + cost[cell_key("placebo", 0.125)]
    assert steps[1].macs == 3 * 2 * 3 * both * digits.train_count
    assert all(step.hours > 0 for step in steps)


def test_no_assay_sensitivity_ends_the_claim(write_claim, cluster) -> None:
    # A learning rate at which nothing is learnt: shrinking costs nothing.
    path = write_claim("", "learning_rate = 1e-9")
    result = run_claim(path, scheduler=cluster, show=False)
    (one,) = result.sets
    assert result.verdict is Verdict.NO_ASSAY_SENSITIVITY
    assert result.filters_verdict is Verdict.NO_ASSAY_SENSITIVITY
    assert set(one.table["param.step"]) == {"pilot"}
    assert one.preregistration is None
    assert "No claim is allowed" in one.reasons[0]
    # All of it can be written as JSON, but for the table of runs.
    values = values_of(result)
    assert set(values["sets"][0]) == {name for name in vars(one) if name != "table"}
    json.dumps(values, allow_nan=False)
