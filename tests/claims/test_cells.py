from invact.claims.file import load_claim
from invact.cost.count import count_macs
from invact.networks.build import build_model


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


def test_a_ratio_scales_the_filters_of_each_stage_to_at_least_one(write_claim) -> None:
    small = load_claim(write_claim(), {"ratios": [0.01], "config.filters": [4, 8], "config.depth": 2})
    assert small.cells()["treatment 0.01"].config.filters == (1, 1)
