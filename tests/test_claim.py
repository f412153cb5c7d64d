import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from invact import claim as claims
from invact.engine import Engine
from invact.errors import Incomplete, InputError
from invact.results import Status
from invact.statistics.inference import Verdict

CLAIM = """
data = "digits"
ratios = [0.5, 0.75]
margin = 2
seeds = [3, 1, 2]
{more}
[config]
filters = 4
depth = 1
epochs = 1
batch_size = 64
{config}
"""


@pytest.fixture
def write_claim(folder: Path):
    def write(more: str = "", config: str = "", text: str = CLAIM) -> Path:
        path = folder / "tiny_claim.toml"
        path.write_text(text.format(more=more, config=config))
        return path

    return write


def table_of(
    accuracies: dict[int, dict[int, float]], macs: tuple[int, ...] = (1000, 900, 500)
) -> pd.DataFrame:
    """One row for each (trial, seed), in the order given."""
    return pd.DataFrame(
        {
            "trial": trial,
            "seed": seed,
            "status": "FINISHED",
            "test_accuracy": accuracy,
            "filters": macs[trial] // 10,
            "macs": macs[trial],
            "params": macs[trial] // 5,
        }
        for trial, seeds in accuracies.items()
        for seed, accuracy in seeds.items()
    )


ACCURACIES = {
    0: {1: 0.90, 2: 0.91, 3: 0.92},
    1: {1: 0.91, 2: 0.905, 3: 0.921},
    2: {1: 0.85, 2: 0.86, 3: 0.861},
}


def test_the_verdict_is_that_of_scipys_paired_test(write_claim) -> None:
    claim = claims.load_claim(write_claim())
    result = claims.judge(claim, table_of(ACCURACIES))
    assert list(claim.treatments) == [0.75, 0.5]
    control = np.array([ACCURACIES[0][seed] for seed in (3, 1, 2)])
    raw = []
    for number, one in enumerate(result.ratios, start=1):
        treatment = np.array([ACCURACIES[number][seed] for seed in (3, 1, 2)])
        np.testing.assert_allclose(one.differences, treatment - control)
        expected = stats.ttest_rel(treatment + 0.02, control, alternative="greater")
        assert one.verdict.test.t == pytest.approx(expected.statistic)
        assert one.verdict.test.p_value == pytest.approx(expected.pvalue)
        raw.append(expected.pvalue)
    # Holm, of two: the smaller p is doubled.
    assert result.ratios[0].verdict.p_value == pytest.approx(2 * min(raw))
    assert [one.verdict.verdict for one in result.ratios] == [Verdict.SUPPORTED, Verdict.REFUTED]
    assert result.verdict is Verdict.SUPPORTED


def test_pairs_are_made_by_seed_whatever_the_order_of_the_rows(write_claim) -> None:
    claim = claims.load_claim(write_claim())
    table = table_of(ACCURACIES)
    shuffled = table.sample(frac=1, random_state=0)
    assert claims.judge(claim, shuffled).ratios == claims.judge(claim, table).ratios


def test_ratios_are_those_of_the_counts(write_claim) -> None:
    result = claims.judge(claims.load_claim(write_claim()), table_of(ACCURACIES))
    assert [(one.filters_ratio, one.macs_ratio, one.params_ratio) for one in result.ratios] == [
        (0.9, 0.9, 0.9),
        (0.5, 0.5, 0.5),
    ]
    frame = result.to_pandas()
    assert frame["verdict"].tolist() == ["SUPPORTED", "REFUTED"]
    assert frame["n"].tolist() == [3, 3]


def test_a_diverged_run_stays_in_with_the_accuracy_that_it_has(write_claim) -> None:
    claim = claims.load_claim(write_claim())
    table = table_of(ACCURACIES)
    table.loc[(table["trial"] == 1) & (table["seed"] == 2), ["status", "test_accuracy"]] = ["DIVERGED", 0.1]
    (first, _) = claims.judge(claim, table).ratios
    assert min(first.differences) == pytest.approx(0.1 - 0.91)
    assert first.verdict.verdict is Verdict.INCONCLUSIVE


def test_a_ratio_that_saves_no_macs_says_so(write_claim) -> None:
    claim = claims.load_claim(write_claim())
    dear, cheap = claims.judge(claim, table_of(ACCURACIES, macs=(1000, 1100, 500))).ratios
    assert str(dear).endswith("; no fewer MACs")
    assert "no fewer" not in str(cheap)


def test_filters_are_the_ratio_of_the_controls_and_at_least_one(write_claim) -> None:
    claim = claims.load_claim(write_claim())
    assert [config.filters for config in claim.treatments.values()] == [3, 2]
    assert {config.activation for config in claim.treatments.values()} == {"inverse"}
    small = claims.load_claim(write_claim(), {"ratios": [0.01], "config.filters": [4, 8], "config.depth": 2})
    assert [config.filters for config in small.treatments.values()] == [(1, 1)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [0]}, "insufficient"),
        ({"seeds": [1, 1]}, "seeds: received [1, 1]. Allowed: each once"),
        ({"seeds": []}, "seeds"),
        ({"margin": 0}, "margin: received 0. Allowed: greater than 0"),
        ({"margin": -1.0}, "margin"),
        ({"alpha": 0.5}, "alpha"),
        ({"alpha": 0}, "alpha"),
        ({"ratios": [0.0]}, "ratios.0"),
        ({"ratios": [1.5]}, "ratios.0"),
        ({"ratios": []}, "ratios"),
        ({"ratios": [0.5, 0.51]}, "another number of filters"),
        ({"treatment": "inverze"}, "did you mean 'inverse'?"),
        ({"config.activation": "relu"}, "the claim decides it"),
        ({"config.width_rule": "macs"}, "the claim decides it"),
        ({"config.epoch": 3}, "did you mean 'epochs'?"),
        ({"marginn": 1}, "did you mean 'margin'?"),
    ],
)
def test_bad_claims_are_refused_in_one_line(write_claim, changes, message) -> None:
    path = write_claim()
    with pytest.raises(InputError) as error:
        claims.load_claim(path, changes)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_another_margin_is_another_claim(write_claim, digits) -> None:
    path = write_claim()
    one, same, other = (claims.load_claim(path, {"margin": margin}) for margin in (2, 2, 1))
    assert one.identity(digits) == same.identity(digits) != other.identity(digits)


def test_a_claim_runs_fails_and_goes_on(write_claim, cluster, monkeypatch, tmp_path) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    path = write_claim(
        more='imports = ["users"]', config=f'model = "users:fails"\noptions = {{ flag = "{flag}" }}'
    )
    claim = claims.load_claim(path, {"ratios": [0.5], "seeds": [0, 1]})
    with pytest.raises(Incomplete, match="4 of 4 runs failed, so no verdict") as error:
        claims.test_claim(claim, scheduler=cluster, show=False)
    assert "the user's fault in two lines" in str(error.value)
    flag.unlink()
    result = claims.test_claim(claim, scheduler=cluster, show=False)
    assert result.table["status"].tolist() == [Status.FINISHED] * 4
    monkeypatch.setattr(Engine, "__enter__", lambda engine: pytest.fail("an engine was started"))
    assert claims.test_claim(claim, scheduler=cluster, show=False).ratios == result.ratios
    (folder,) = Path("mlruns/artifacts/tiny_claim").glob("*/artifacts/verdict")
    written = json.loads((folder / "claim.json").read_text())
    assert written["verdict"] == str(result.verdict)
    assert written["ratios"][0]["differences"] == list(result.ratios[0].differences)
    assert (folder / "claim.png").read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_csv(folder / "runs.csv")) == 4
