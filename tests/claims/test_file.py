import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invact.claims.cells import curve_of
from invact.claims.file import BLOCK, STEPS, load_claim
from invact.errors import InputError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pilot": 1}, "pilot: received 1, which is insufficient. Allowed: at least 2"),
        ({"looks": [1]}, "looks: received [1], which is insufficient. Allowed: two or more looks"),
        ({"looks": [1, 2]}, "looks: received [1, 2], which is insufficient"),
        ({"looks": [5, 3]}, "looks: received [5, 3]. Allowed: increasing numbers of runs"),
        ({"looks": None, "method": "fixed", "runs": 1}, "runs: received 1, which is insufficient"),
        ({"screen": 1}, "screen: received 1, which is insufficient"),
        ({"method": "anytime"}, "method: received 'anytime'"),
        ({"strict": True}, "strict: unknown key"),
        ({"pairs": 5}, "pairs: unknown key"),
        ({"method": "fixed"}, "looks: received [2, 3]. Allowed: only with method 'sequential'"),
        ({"runs": 5}, "runs: received 5. Allowed: only with method 'fixed'"),
        ({"method": "sequentially"}, "did you mean 'sequential'?"),
        ({"margin": 0}, "margin: received 0. Allowed: greater than 0"),
        ({"margin": -1.0}, "margin: received -1.0"),
        ({"margin_cap": 0}, "margin_cap: received 0"),
        ({"alpha": 0.5}, "alpha: received 0.5. Allowed: less than 0.5"),
        ({"alpha": 0}, "alpha: received 0"),
        ({"ratios": [0.0]}, "ratios.0: received 0.0"),
        ({"ratios": [1.5]}, "ratios.0: received 1.5"),
        ({"ratios": []}, "ratios: received []"),
        (
            {"ratios": [0.5, 0.51]},
            "ratios: received [0.5, 0.51]. Allowed: ratios that give different numbers of filters",
        ),
        ({"treatment": "inverze"}, "did you mean 'inverse'?"),
        ({"also": ["relu_dupl"]}, "did you mean 'relu_duplicated'?"),
        ({"also": ["relu"]}, "also: received 'relu'. Allowed: arms other than control and treatment"),
        ({"also": ["elu", "elu"]}, "also: received 'elu'"),
        ({"also": "abs"}, "also: received 'abs'. Allowed: a list"),
        (
            {"config.depth": 3, "treatment": ["inverse", "relu"]},
            "treatment: received ['inverse', 'relu']. Allowed: one arm for all stages, or a list of 3 arms",
        ),
        ({"config.depth": 3, "control": []}, "control: received []. Allowed: one arm for all stages, or a"),
        (
            {"config.depth": 3, "also": ["abs", ["inverse", "relu"]]},
            "also.1: received ['inverse', 'relu']. Allowed: one arm for all stages, or a list of 3 arms",
        ),
        (
            {"config.depth": 3, "also": ["inverse", "relu", "relu"]},
            'the arms of the 3 stages are a list in the list, also = [["inverse", "relu", "relu"]]',
        ),
        (
            {"config.depth": 2, "also": [["elu", "abs"], ["elu", "abs"]]},
            "also: received ['elu', 'abs']. Allowed: arms other than control and treatment, each once",
        ),
        ({"config.depth": 2, "also": [["relu", "relu"]]}, "also: received 'relu'. Allowed: arms other"),
        (
            {"config.depth": 2, "treatment": ["inverse", "rellu"]},
            "treatment.1: received 'rellu'; did you mean 'relu'?",
        ),
        (
            {"config.depth": 2, "also": ["abs", ["inverse", "rellu"]]},
            "also.1.1: received 'rellu'; did you mean 'relu'?",
        ),
        ({"treatment": [["inverse"]]}, "treatment.0: received ['inverse']. Allowed: a valid string"),
        ({"treatment": 3}, "treatment: received 3. Allowed: a valid string, or a list"),
        ({"config.convolutions": 2}, "config: convolutions: received 2. Allowed: 1, or more with model"),
        ({"curve": {"control": [4, 8], "treatment": [2, 4, 6]}}, "curve.control: received 2 widths."),
        (
            {"curve": {"treatment": [2, 4, 6]}},
            "[2, 4, 6], which gives the widths [2, 4, 6] together with the ratios. Allowed: 5 or more",
        ),
        (
            {"ratios": [0.5], "curve": {"treatment": [253, 254, 255, 256]}},
            "[4, 253, 254, 255, 256] together with the ratios. Allowed: 5",
        ),
        ({"curve": {"control": [4, 6, 8], "treatment": [2, 4]}}, "curve.treatment: received 2 widths"),
        ({"curve": {"control": [4, 4, 8], "treatment": [2, 4, 6]}}, "Allowed: each width once"),
        (
            {"curve": {"control": [4, 6, 8], "treatment": [2, 4, 6], "seeds": 1}},
            "curve.seeds: received 1",
        ),
        ({"tuning": {"trials": 1, "learning_rate": [1e-3, 1e-2]}}, "insufficient"),
        (
            {"tuning": {"trials": 3, "learning_rate": [1e-2, 1e-3]}},
            "Allowed: [low, high] with low below high",
        ),
        (
            {"data": ["digits", "digits"]},
            "data: received ['digits', 'digits']. Allowed: each data set once",
        ),
        ({"data": []}, "data"),
        (
            {"config.activation": "relu"},
            "config: activation: cannot be set in a claim; use `control` and `treatment`",
        ),
        (
            {"config.width_rule": "macs"},
            "config: width_rule: cannot be set in a claim; the claim sets it for each network",
        ),
        ({"config.reference": "inverse"}, "config: reference: cannot be set in a claim"),
        ({"config.width_target": 0.5}, "config: width_target: cannot be set in a claim"),
        ({"config.epoch": 3}, "did you mean 'epochs'?"),
        ({"config.momentum": 0.8}, 'config: momentum: received 0.8. Allowed: only with optimizer = "sgd"'),
        ({"config.augmentation": "crop+flip"}, "augmentation: received 'flip' for digits"),
        ({"marginn": 1}, "did you mean 'margin'?"),
        ({"seed": 1001}, "seed: received 1001"),
    ],
)
def test_a_bad_claim_is_refused_in_one_line(write_claim, changes, message) -> None:
    path = write_claim(**{key: None for key, value in changes.items() if value is None})
    with pytest.raises(InputError) as error:
        load_claim(path, {key: value for key, value in changes.items() if value is not None})
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_claim_takes_every_option_of_a_recipe(write_claim) -> None:
    options = {
        "optimizer": "sgd",
        "momentum": 0.8,
        "nesterov": False,
        "schedule": "one_cycle",
        "ema": 0.9,
        "warmup_epochs": 0.5,
        "clip_norm": 1.0,
        "label_smoothing": 0.1,
        "mixup": 0.2,
        "augmentation": "crop",
        "model": "resnet",
        "stochastic_depth": 0.2,
    }
    claim = load_claim(write_claim(), {f"config.{key}": value for key, value in options.items()})
    for cell in claim.cells().values():
        assert {key: getattr(cell.config, key) for key in options} == options


def test_a_curve_needs_one_number_of_filters(write_claim) -> None:
    path = write_claim("[curve]\ncontrol = [2, 3, 4]\ntreatment = [2, 3, 4]\n")
    with pytest.raises(InputError, match="curve: received together with a number of filters for each stage"):
        load_claim(path, {"config.depth": 2, "config.filters": [4, 8]})


@given(st.integers(0, 1000), st.integers(1, BLOCK))
def test_no_two_networks_or_steps_share_a_seed(seed: int, count: int) -> None:
    claim = load_claim("digits_claim", {"seed": seed})
    keys = [*claim.cells(), "treatment 16 filters"]
    blocks = [claim.seeds(step, key, count) for step in STEPS for key in keys]
    ranges = sorted((block[0], block[-1]) for block in blocks)
    assert all(block == tuple(range(block[0], block[0] + count)) for block in blocks)
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(ranges))
    if seed < 1000:
        following = load_claim("digits_claim", {"seed": seed + 1})
        assert following.seeds("tuning", "control", 1)[0] > ranges[-1][1]
    # Seeds of Keras and NumPy must fit in 31 bits.
    assert ranges[-1][1] < 2**31


def test_too_many_networks_are_refused(write_claim) -> None:
    path = write_claim(ratios=str([n / 200 for n in range(1, 151)]))
    with pytest.raises(InputError, match=r"ratios, also, curve: received 451 networks .* Allowed: 400"):
        load_claim(path, {"config.filters": 200})


def test_the_curve_leaves_out_the_widths_of_the_screen(write_claim) -> None:
    path = write_claim("[curve]\ntreatment = [2, 3, 4, 6, 8, 16]\n")
    claim = load_claim(path)
    assert {cell.config.filters for cell in claim.cells().values() if cell.role == "treatment"} == {4, 6}
    curve = curve_of(claim.file, claim.ratios, {})
    assert set(curve) == {f"treatment {width} filters" for width in (2, 3, 8, 16)}
