import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import warm

from benchmarks import verdict
from benchmarks.simulated_claims import LADDER
from benchmarks.verdict import measure, plain_task, plain_verdict, replay, share_of
from benchmarks.worlds import World, normal
from invact.claims.file import Claim, load_claim
from invact.statistics.sequential.ladder import Verdict
from invact.statistics.sequential.power import power
from invact.statistics.sequential.procedure import Procedure

# Short looks, because the levels of the default ones take seconds.
SHORT = replace(LADDER, procedure=Procedure((3, 5)))


def tiny_claim(folder: Path) -> Claim:
    path = folder / "tiny_claim.toml"
    path.write_text(
        'data = "digits"\nratios = [0.125]\nmargin = 3\nlooks = [2, 3]\n'
        "[config]\nfilters = 8\ndepth = 1\nepochs = 1\nbatch_size = 256\n"
    )
    return load_claim(path)


def world(*losses: float, sd: float = 0.01) -> World:
    loss = {("treatment", ratio): lost for ratio, lost in zip(SHORT.ratios, losses, strict=True)}
    less = {("placebo", ratio): 5.0 for ratio in SHORT.ratios}
    return World(loss | less, {"other": normal(sd)}, validation=0.01)


@pytest.mark.parametrize(
    ("losses", "right"), [((0, 0.9, 0.9), Verdict.SUPPORTED), ((0.9, 0, 0), Verdict.REFUTED)]
)
def test_without_noise_the_plain_design_is_right(losses, right) -> None:
    assert share_of(SHORT, world(*losses), [2, 30], right, replications=3) == [1.0, 1.0]


def test_the_plain_design_has_the_power_of_its_test() -> None:
    one = replace(SHORT, ratios=(0.5,), macs_ratios={0.5: 0.5})
    (found,) = share_of(
        one, World({("placebo", 0.5): 5.0}, {"other": normal(0.2)}), [9], Verdict.SUPPORTED, 1_000
    )
    expected = power(9, 0.2, 0.3)
    assert abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / 1_000)


def test_a_world_is_replayed_with_both_ways() -> None:
    found = replay(SHORT, world(0, 0, 0), Verdict.SUPPORTED, 2)
    assert (found.share, found.plain_share, found.enough) == (1.0, 1.0, 2)
    # The control once, and two arms at each of the three ratios.
    assert (found.plain, found.equal) == (30 * 7, 2 * 7)
    assert 28 < found.trainings < 60


def test_the_plain_script_trains_the_networks_of_the_claim(tmp_path) -> None:
    claim = tiny_claim(tmp_path)
    task = plain_task(claim, tmp_path, runs=3)
    script = Path(verdict.__file__).with_name("plain_claim.py")
    done = warm.run([script, "task.json", "data.npz", "out.json", 1, 2], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "out.json").read_text())
    costs = claim.costs(claim.sources[0].load())
    assert told["params"] == {key: costs[key].params for key in task["networks"]}
    # The second of two processes trains one of the three seeds.
    assert {key: len(found) for key, found in told["accuracies"].items()} == dict.fromkeys(
        task["networks"], 1
    )


def test_the_accuracies_of_the_script_are_judged() -> None:
    claim = load_claim("digits_claim", {"ratios": [0.5]})
    good, bad = [0.95, 0.951, 0.952], [0.85, 0.851, 0.852]
    keys = ("control", "treatment 0.5", "placebo 0.5")
    assert plain_verdict(claim, dict(zip(keys, (good, good, bad), strict=True))) == "SUPPORTED at 0.5"
    assert plain_verdict(claim, dict(zip(keys, (good, bad, bad), strict=True))) == "REFUTED at 0.5"
    assert plain_verdict(claim, dict(zip(keys, (good, good, good), strict=True))) == "INCONCLUSIVE"


@pytest.mark.slow
def test_both_ways_run(tmp_path) -> None:
    found = measure(tiny_claim(tmp_path), 1, 2, [1])
    assert [len(times) for times in found.values()] == [1, 1]
    assert found["plain script, 1 process"][0].trainings == 2 * 3
