from invact.claims.cells import curve_of
from invact.claims.file import load_claim
from invact.config import Config, digest
from invact.cost.count import count_macs
from invact.networks.build import build_model, stage_filters


def test_the_networks_of_the_protocol(write_claim, digits) -> None:
    claim = load_claim(write_claim(also='["relu_duplicated"]'), {"config.filters": 16, "config.depth": 2})
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
        # Numbers of filters are whole, so the MACs cannot match exactly. The control is never smaller.
        assert 1 <= macs[f"matched {ratio}"] / macs[f"treatment {ratio}"] < 1.2
        assert macs[f"relu_duplicated {ratio}"] == macs[f"treatment {ratio}"]
    assert macs["treatment 0.75"] > macs["control"] > macs["treatment 0.5"]


def test_the_settings_and_the_networks_of_an_old_claim_do_not_change(write_claim) -> None:
    """If a digest changes, a registered claim cannot be continued."""
    claim = load_claim(write_claim(also='["relu_duplicated"]'), {"ratios": [0.5]})
    assert digest(claim.file.settings()) == "3ade97a33f8d"
    assert {key: cell.config.digest() for key, cell in claim.cells().items()} == {
        "control": "3ded676157c2",
        "treatment 0.5": "7daa20a693f3",
        "placebo 0.5": "0531a680b549",
        "matched 0.5": "c943fa50197d",
        "relu_duplicated 0.5": "a116142458b5",
    }


def test_each_arm_may_have_one_activation_for_each_stage(write_claim, digits) -> None:
    path = write_claim(
        "[curve]\ntreatment = [2, 3, 5, 8, 16]\ncontrol = [4, 6, 8]",
        {"depth": "3"},
        control='["relu", "relu", "elu"]',
        treatment='["inverse", "relu", "relu"]',
        also='["abs", ["relu", "inverse", "relu"]]',
        ratios="[0.5]",
    )
    claim = load_claim(path)
    cells = claim.cells()
    control, treatment = ("relu", "relu", "elu"), ("inverse", "relu", "relu")
    for cell in curve_of(claim.file, claim.ratios, {}).values():
        assert cell.config.activation == (control if cell.role == "control" else treatment)
    assert {key: cell.config.activation for key, cell in cells.items()} == {
        "control": control,
        "treatment 0.5": treatment,
        "placebo 0.5": control,
        "matched 0.5": control,
        "abs 0.5": "abs",
        "relu/inverse/relu 0.5": ("relu", "inverse", "relu"),
    }
    assert cells["relu/inverse/relu 0.5"].label == "relu/inverse/relu 0.5: relu/inverse/relu, 4 filters"

    def macs(config) -> int:
        return count_macs(build_model(config, digits.input_shape, digits.classes)).macs

    matched = cells["matched 0.5"].config
    (first, *_) = stage_filters(matched, digits.input_shape, digits.classes)
    sizes = [macs(Config(activation=control, depth=3, filters=width)) for width in (first - 1, first)]
    assert sizes[0] < macs(cells["treatment 0.5"].config) <= sizes[1] == macs(matched)


def test_a_list_of_equal_arms_is_this_arm(write_claim) -> None:
    config = {"depth": "2"}
    one = load_claim(write_claim(config=config, also='["abs"]'))
    lists = {"control": '["relu", "relu"]', "treatment": '["inverse", "inverse"]', "also": '[["abs", "abs"]]'}
    other = load_claim(write_claim(config=config, **lists))
    assert (other.file, other.cells()) == (one.file, one.cells())


def test_a_ratio_scales_the_filters_of_each_stage_to_at_least_one(write_claim) -> None:
    small = load_claim(write_claim(), {"ratios": [0.01], "config.filters": [4, 8], "config.depth": 2})
    assert small.cells()["treatment 0.01"].config.filters == (1, 1)
