import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from invact.errors import EnvironmentFault, Incomplete, InputError
from invact.execution.coordinator import Coordinator
from invact.statistics.fronts.places import START
from invact.sweeps.confirm import confirm_front, fresh_seeds
from invact.sweeps.file import load_sweep
from invact.sweeps.recorded import pareto_front
from invact.sweeps.run import run_sweep
from invact.tracking.store import open_store

# Keras 3.15 converts a TensorFlow variable in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BOTH_ARMS = """
enqueue = [{ activation = "relu", filters = 3 }, { activation = "inverse", filters = 3 }]
"""


def test_fresh_seeds_start_with_the_same_seeds_and_avoid_the_sweeps():
    assert fresh_seeds(3) == fresh_seeds(7)[:3] == (2_000_000_000, 2_000_000_001, 2_000_000_002)
    assert not set(fresh_seeds(5, [2_000_000_003, 0])) & {2_000_000_003, 0}
    assert max(fresh_seeds(1_000)) < 2**31


@pytest.mark.parametrize("count", [1, 0, -1, 1_001])
def test_too_few_or_many_seeds_are_refused(count):
    with pytest.raises(InputError, match=f"confirm: received {count} seeds.*Allowed: 2 to 1,000"):
        fresh_seeds(count)


def test_only_missing_runs_are_trained(run, write, trained, forbid_engines):
    swept = run(write(more="seeds = [0, 2_000_000_001]"), trials=2)
    front = {point.config for point in swept.front.points}
    del trained[:]
    with pytest.MonkeyPatch.context() as patch:
        ends, wait = [], Coordinator._wait

        def interrupted(coordinator):
            if ends:
                raise KeyboardInterrupt
            ends.append(1)
            return wait(coordinator)

        patch.setattr(Coordinator, "_wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            confirm_front("tiny", 2, show=False)
    store = open_store()
    record = store.latest("tiny", "confirmation")
    kept = {(row.config, row.seed) for row in record.table().itertuples()}
    assert len(kept) == 1
    del trained[:]
    found = confirm_front("tiny", 2, show=False)
    wanted = {(config, seed) for config in front for seed in (2_000_000_000, 2_000_000_002)}
    assert set(trained) == wanted - kept
    assert found.run_id == record.run_id
    assert set(zip(found.table["config"], found.table["seed"], strict=True)) == wanted
    assert found.failed == 0
    # A larger number of seeds trains only the new ones. The same number trains nothing and starts no engine.
    del trained[:]
    more = confirm_front("tiny", 3, show=False)
    assert set(trained) == {(config, 2_000_000_003) for config in front}
    assert more.run_id == record.run_id
    forbid_engines()
    assert confirm_front("tiny", 2, show=False).points == found.points
    # The record of the sweep has not changed.
    assert store.latest("tiny", "sweep").run_id == swept.run_id
    assert pareto_front("tiny") == swept.front
    assert {info.kind: sum(info.counts.values()) for info in store.records("tiny")} == {
        "sweep": 4,
        "confirmation": 3 * len(front),
    }
    folder = [file.path for file in store.runs.client.list_artifacts(record.run_id, "confirmation")]
    assert {Path(path).name for path in folder} >= {"confirm.csv", "confirm.json", "confirm.png"}


def test_the_command_shows_fronts_with_uncertainty_and_confirms(invact, run, write, folder, pictures):
    run(write(more=f"seeds = [0, 1, 2]\n{BOTH_ARMS}"), trials=2)
    arguments = ["front", "tiny", "-o", "out", "--format", "csv,json,png", "--attainment", "--margin", "90"]
    answer = invact(*arguments, "--confirm", 2, "--json")
    assert answer.code == 0, answer.err
    values = json.loads(answer.out)
    assert [Path(file).name for file in values["files"]] == [
        *("tiny-front.csv", "tiny-front.json", "tiny-front.png", "tiny-front_gap.png"),
        *("tiny-confirm.csv", "tiny-confirm.json", "tiny-confirm.png"),
    ]
    assert {file.name for file in (folder / "out").iterdir()} == {Path(file).name for file in values["files"]}
    uncertainty = values["uncertainty"]
    assert uncertainty["seeds"] == [0, 1, 2]
    assert [surface["share"] for surface in uncertainty["surfaces"]] == [0.25, 0.5, 0.75]
    (gap,) = uncertainty["gaps"]
    assert (gap["control"], gap["treatment"], gap["gap"]["margin"]) == ("relu", "inverse", 0.9)
    assert all(0 < point["p_non_dominated"] <= 1 for point in values["front"])
    confirmed = values["confirmation"]["points"]
    assert [one["point"]["config"] for one in confirmed] == [point["config"] for point in values["front"]]
    assert {one["seeds"] for one in confirmed} == {2}
    assert f"[{2 * len(confirmed)}/{2 * len(confirmed)}]" in answer.err, "progress is on standard error"
    plain = invact(*arguments[:4], "--format", "csv", "--confirm", 2)
    assert plain.code == 0, plain.err
    for shown in ("inverse - relu: ", "margin 0.3", "on 2 fresh seeds", "optimism", "3 seeds; +-: 95%"):
        assert shown in plain.out
    assert "confirmation FINISHED" in invact("list").out


def test_a_sweep_of_one_seed_has_no_uncertainty_and_can_be_confirmed_on_workers(
    invact, run_trained, write, folder, cluster
):
    run_trained(write(), trials=1)
    plain = invact("front", "tiny", "-o", "out", "--format", "csv,json,png")
    assert plain.code == 0, plain.err
    assert "seeds   trial" in plain.out
    for new in ("+-", "P", "seeds;"):
        assert new not in plain.out.splitlines()[2] + plain.out[plain.out.index("hypervolume") :]
    assert {file.name for file in (folder / "out").iterdir()} == {
        f"tiny-front.{kind}" for kind in ("csv", "json", "png")
    }
    assert "p_non_dominated" not in (folder / "out" / "tiny-front.csv").read_text()
    assert json.loads((folder / "out" / "tiny-front.json").read_text())["uncertainty"] is None
    for options, words in (
        (["--attainment"], "attainment: insufficient: 'tiny' has one seed"),
        (["--margin", "0.5"], "margin: received 0.5, and 'tiny' has no fronts to compare"),
        (["--margin", "0"], "margin: received 0. Allowed: points in (0, 100)"),
    ):
        answer = invact("front", "tiny", "-o", "new", *options)
        assert (answer.code, answer.err.count("\n")) == (2, 1), answer
        assert words in answer.err
    assert not (folder / "new").exists()
    assert confirm_front("tiny", 2, scheduler=cluster, show=False).points[0].seeds == 2


def test_bad_input_is_refused_before_anything_is_trained(invact, run, write, folder, trained):
    run(write(), trials=1)
    (folder / "file").touch()
    del trained[:]
    for code, arguments, words in (
        (2, ["tiny", "--confirm", "1"], "confirm: received 1 seeds, which is insufficient"),
        (2, ["tinny", "--confirm", "2"], "did you mean 'tiny'?"),
        (2, ["tiny", "--workers", "2"], "--workers: received 2. Allowed: only with --confirm"),
        (2, ["tiny", "--scheduler", "tcp://x:1"], "--scheduler: received 'tcp://x:1'"),
        (3, ["tiny", "--confirm", "2", "-o", "file"], "cannot be written"),
        (3, ["tiny", "--confirm", "2", "-o", "/proc/no"], "/proc/no"),
    ):
        answer = invact("front", *arguments)
        assert (answer.code, answer.err.count("\n")) == (code, 1), answer
        assert words in answer.err
        assert not answer.out
    assert trained == []
    assert [info.kind for info in open_store().records("tiny")] == ["sweep"]


def test_failed_runs_give_exit_code_4_and_are_tried_again(invact, run, write, stand_in):
    truth = stand_in.truth

    def fault(config, seed):
        raise ValueError("a fault")

    stand_in.truth = fault
    path = write()
    run(path, trials=1)
    nothing = invact("front", "tiny", "--confirm", 2)
    assert (nothing.code, nothing.err.count("\n")) == (2, 1), nothing
    assert "the front of 'tiny' is empty" in nothing.err
    stand_in.truth = truth
    run(path, trials=1)
    stand_in.truth = fault
    command = ["front", "tiny", "--confirm", 2, "--format", "csv", "--json"]
    answer = invact(*command)
    assert answer.code == Incomplete.exit_code == 4
    assert json.loads(answer.out)["confirmation"]["failed"] == 2
    assert answer.err.splitlines()[-1] == "invact: tiny: 2 runs failed; the same command tries them again"
    stand_in.truth = truth
    answer = invact(*command)
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["confirmation"]["failed"] == 0


def test_the_data_of_the_sweep_are_found_from_any_folder(run, folder, digits, monkeypatch):
    (folder / "here").mkdir()
    np.savez(
        folder / "here" / "my.npz",
        x_train=digits.x_train,
        y_train=digits.y_train,
        x_test=digits.x_test,
        y_test=digits.y_test,
    )
    (folder / "here" / "space.toml").write_text("[parameters]\nfilters = 2\n")
    (folder / "here" / "my.toml").write_text(
        'space = "./space.toml"\ndata = "./my.npz"\ntrials = 1\n[config]\nepochs = 1\ndepth = 1\n'
    )
    run(folder / "here" / "my.toml")
    (folder / "there").mkdir()
    monkeypatch.chdir(folder / "there")
    store = folder / "mlruns"
    assert confirm_front("my", 2, store=store, show=False).failed == 0
    np.savez(
        folder / "here" / "my.npz",
        x_train=digits.x_train[::-1],
        y_train=digits.y_train[::-1],
        x_test=digits.x_test,
        y_test=digits.y_test,
    )
    with pytest.raises(
        EnvironmentFault, match=r"my\.npz.*: digest \w+\. Allowed: \w+, as in the sweep's record"
    ):
        confirm_front("my", 3, store=store, show=False)
    monkeypatch.setattr("invact.sweeps.recorded.SOURCE", "not-kept.json")
    with pytest.raises(InputError, match="the record comes from an old version"):
        confirm_front("my", 3, store=store, show=False)


def test_auto_gives_seeds_where_they_decide_and_continues(invact, run, write, trained, forbid_engines):
    """Auto, then again, then more by K: one record, and no run is trained twice."""
    swept = run(write(more=BOTH_ARMS), trials=4)
    points = swept.front.points
    assert len(points) > 1
    for arguments, words in (
        (
            ["--confirm", "auto", "--confirm-budget", "1"],
            f"confirm-budget: received 1. Allowed: {3 * len(points)}",
        ),
        (["--confirm", "auto", "--confirm-budget", "0"], "confirm-budget: received 0. Allowed: a number"),
        (["--confirm", "auto", "--confirm-margin", "0"], "confirm-margin: received 0. Allowed: points in"),
        (["--confirm", "auto", "--confirm-margin", "0.003"], "received 0.003, points or fraction? Allowed"),
        (["--confirm", "some"], "--confirm: received 'some'. Allowed: a number of seeds, or 'auto'"),
        (["--confirm", "3", "--confirm-budget", "30"], "confirm-budget: received 30. Allowed: only with"),
        (["--confirm-margin", "1"], "--confirm-margin: received 1. Allowed: only with --confirm auto"),
    ):
        answer = invact("front", "tiny", *arguments)
        assert (answer.code, answer.err.count("\n")) == (2, 1), answer
        assert words in answer.err
    del trained[:]
    budget = 5 * len(points)
    command = ["front", "tiny", "-o", "out", "--format", "csv,json,png", "--confirm", "auto"]
    answer = invact(*command, "--confirm-budget", budget, "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)["confirmation"]
    counts = [one["seeds"] for one in found["points"]]
    assert sum(counts) == len(trained) == len(set(trained)) <= budget
    assert min(counts) >= 3
    assert found["margin"] == pytest.approx(0.003)
    places = [one["place"] for one in found["points"]]
    assert places[0] == "stays"
    # Seeds are left only if every place is decided.
    assert ("undecided" in places) == (sum(counts) == budget) or sum(counts) == budget
    shown = invact(*command, "--confirm-budget", budget)
    assert len(trained) == sum(counts), "the same budget trains nothing more"
    for words in ("place", f"{sum(counts)} trainings; "):
        assert words in shown.out
    # A number of seeds takes these runs over, and the other way round.
    most = max(counts)
    more = confirm_front("tiny", most, show=False)
    assert len(trained) == len(set(trained)) == most * len(points)
    assert {one.place for one in more.points} == {None}
    forbid_engines()
    again = confirm_front("tiny", "auto", budget=3 * len(points), show=False)
    assert {one.seeds for one in again.points} == {most}


def test_an_interrupted_auto_continues_as_it_would_have(write, stand_in, trained, tmp_path):
    # Nothing is decided, because all networks are alike.
    stand_in.truth = lambda config, seed: (
        0.9 + 0.01 * np.random.default_rng([seed, int(config.digest(), 16)]).standard_normal()
    )
    phases = ("first seeds", "further seeds")
    whole_store = tmp_path / "whole"
    run_sweep(load_sweep(write(more=BOTH_ARMS), {"trials": 4}), store=whole_store, show=False)
    for phase in phases:
        shutil.copytree(whole_store, tmp_path / phase)
    del trained[:]
    whole = confirm_front("tiny", "auto", budget=16, margin=0.3, store=whole_store, show=False)
    straight = list(trained)
    first = START * len(whole.points)
    assert len(straight) > first + 1, "some seeds are chosen by the accuracies of others"
    wait = Coordinator._wait
    for phase, last in zip(phases, (2, first + 2), strict=True):
        del trained[:]

        def interrupted(coordinator, last=last):
            if len(trained) >= last:
                raise KeyboardInterrupt
            return wait(coordinator)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Coordinator, "_wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                confirm_front("tiny", "auto", budget=16, margin=0.3, store=tmp_path / phase, show=False)
        assert len(trained) < len(straight), phase
        resumed = confirm_front("tiny", "auto", budget=16, margin=0.3, store=tmp_path / phase, show=False)
        assert [one.seeds for one in resumed.points] == [one.seeds for one in whole.points], phase
        assert [one.place for one in resumed.points] == [one.place for one in whole.points], phase
        # The run that the interruption lost is trained again.
        assert sorted(set(trained)) == sorted(straight), phase


def test_auto_stops_at_a_point_whose_runs_fail(invact, run, write, stand_in):
    swept = run(write(more=BOTH_ARMS), trials=4)
    bad = swept.front.points[-1].config
    truth = stand_in.truth

    def fault(config, seed):
        if config.digest() == bad:
            raise ValueError("a fault")
        return truth(config, seed)

    stand_in.truth = fault
    command = ["front", "tiny", "--confirm", "auto", "--format", "csv", "--json"]
    answer = invact(*command)
    assert answer.code == 4
    values = json.loads(answer.out)["confirmation"]
    assert values["failed"] == 3, "each of the first runs, and none after them"
    assert values["points"][-1]["place"] == "undecided"
    stand_in.truth = truth
    answer = invact(*command)
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["confirmation"]["failed"] == 0
