import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invact.claims.file import BLOCKS, load_claim
from invact.errors import InputError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pilot": 1}, "pilot: received 1, which is insufficient. Allowed: at least 2"),
        ({"looks": [1]}, "looks: received [1], which is insufficient. Allowed: two or more looks"),
        ({"looks": [1, 2]}, "looks: received [1, 2], which is insufficient"),
        ({"looks": [5, 3]}, "looks: received [5, 3]. Allowed: increasing numbers of pairs"),
        ({"looks": None, "method": "fixed", "pairs": 1}, "pairs: received 1, which is insufficient"),
        ({"method": "fixed"}, "looks: received [2, 3]. Allowed: only with method 'sequential'"),
        ({"pairs": 5}, "pairs: received 5. Allowed: only with method 'fixed' or 'anytime'"),
        ({"method": "sequentially"}, "did you mean 'sequential'?"),
        ({"margin": 0}, "margin: received 0. Allowed: greater than 0"),
        ({"margin": -1.0}, "margin: received -1.0"),
        ({"margin_cap": 0}, "margin_cap: received 0"),
        ({"alpha": 0.5}, "alpha: received 0.5. Allowed: less than 0.5"),
        ({"alpha": 0}, "alpha: received 0"),
        (
            {"alpha": 0.05, "strict": True},
            "alpha: received 0.05 together with strict = true. Allowed: only one",
        ),
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
        ({"curve": {"control": [4, 8], "treatment": [2, 4, 6]}}, "curve.control: received 2 widths."),
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
        ({"marginn": 1}, "did you mean 'margin'?"),
        ({"seed": 20_001}, "seed: received 20001"),
    ],
)
def test_a_bad_claim_is_refused_in_one_line(write_claim, changes, message) -> None:
    path = write_claim(**{key: None for key, value in changes.items() if value is None})
    with pytest.raises(InputError) as error:
        load_claim(path, {key: value for key, value in changes.items() if value is not None})
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_curve_needs_one_number_of_filters(write_claim) -> None:
    path = write_claim("[curve]\ncontrol = [2, 3, 4]\ntreatment = [2, 3, 4]\n")
    with pytest.raises(InputError, match="curve: received together with a number of filters for each stage"):
        load_claim(path, {"config.depth": 2, "config.filters": [4, 8]})


@given(st.integers(0, 20_000), st.integers(1, 10_000))
def test_the_blocks_of_seeds_are_disjoint(seed: int, count: int) -> None:
    claim = load_claim("digits_claim", {"seed": seed})
    blocks = [set(claim.seeds(block, count)) for block in BLOCKS]
    assert all(len(block) == count for block in blocks)
    assert not any(one & other for one, other in itertools.combinations(blocks, 2))
    if seed < 20_000:
        following = load_claim("digits_claim", {"seed": seed + 1})
        assert not set(following.seeds("tuning", count)) & set.union(*blocks)
    # Seeds of Keras and NumPy must fit in 31 bits.
    assert max(map(max, blocks)) < 2**31


def test_strict_halves_the_error_rate(write_claim) -> None:
    path = write_claim()
    assert load_claim(path).file.level == 0.05
    assert load_claim(path, {"strict": True}).file.level == 0.025
    assert load_claim(path, {"alpha": 0.01}).file.level == 0.01
