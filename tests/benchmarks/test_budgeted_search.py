import json
import os
from dataclasses import astuple, replace
from unittest import mock

import numpy as np
import optuna
import pytest

from benchmarks.budgeted_search import report, searches, trainings
from invact import count_macs
from invact.networks.build import build_model

BUDGET = 100
NUMBER = 40


@pytest.fixture(scope="module")
def table():
    return searches.read_table()


@pytest.fixture(scope="module")
def search(table):
    """Searches with the median budget, one for each sampler and side."""
    budget = searches.budgets(table)[searches.MEDIAN]

    def train(config):
        return table[config.digest()]

    found = {}
    for sampler in searches.SAMPLERS:
        found[sampler, "gate"] = searches.gated(train, budget, sampler, 0, NUMBER)
        for told in ("constraint", "penalty"):
            found[sampler, told] = searches.plain(train, budget, sampler, 0, NUMBER, told)
    return budget, found


@pytest.fixture
def steps():
    """Make the steps of a search that trained every proposal, from pairs (MACs, accuracy)."""
    network = searches.Network("relu", "4-4", 1e-3, "", 0, 0, 0.0, 0.0)

    def make(*proposals):
        return [
            searches.Step(replace(network, config=str(macs), macs=macs, validation_accuracy=accuracy), macs)
            for macs, accuracy in proposals
        ]

    return make


def test_the_table_holds_every_configuration_once(table):
    space = searches.sweep_of().space
    digests = {space.config(values).digest() for values in space.grid()}
    assert digests == set(table), "the digests of configurations have changed: train the table again"
    assert len(digests) == space.size() == len(searches.TABLE.read_text().splitlines()) - 1
    assert searches.TABLE.stat().st_size < 100_000
    images = np.array([network.validation_accuracy * 539 for network in table.values()])
    np.testing.assert_allclose(images, images.round(), atol=1e-9)
    assert images.min() > 0


def test_the_table_has_the_costs_of_the_built_models(table):
    sweep = searches.sweep_of()
    data = sweep.source.load()
    for values in list(sweep.space.grid())[::97]:
        config = sweep.space.config(values)
        cost = count_macs(build_model(config, data.input_shape, data.classes, data.pixel_range))
        known = table[config.digest()]
        assert (known.macs, known.params) == (cost.macs, cost.params)


@pytest.mark.parametrize(("set_by_user", "expected"), [(None, "0"), ("1", "1")])
def test_processes_that_train_do_not_use_onednn_unless_the_user_sets_it(set_by_user, expected):
    with mock.patch.dict(os.environ):
        os.environ.pop("TF_ENABLE_ONEDNN_OPTS", None)
        if set_by_user:
            os.environ["TF_ENABLE_ONEDNN_OPTS"] = set_by_user
        with trainings._processes() as processes:
            assert processes.submit(os.getenv, "TF_ENABLE_ONEDNN_OPTS").result() == expected


def test_a_repeated_training_gives_the_accuracy_in_the_table(table):
    space = searches.sweep_of().space
    values = {"activation": "inverse", "filters.1": 8, "filters.2": 16, "learning_rate": 0.01, "depth": 2}
    config = space.config(space.check(values, "test"))
    found, known = trainings._train(config), table[config.digest()]
    # Another processor rounds differently, which can change the class of some images.
    assert found.validation_accuracy == pytest.approx(known.validation_accuracy, abs=0.01)
    assert found.test_accuracy == pytest.approx(known.test_accuracy, abs=0.01)


def test_progress_equals_a_calculation_by_hand(steps):
    macs, volumes = searches.progress(steps((80, 0.5), (200, 0.9), (40, 0.25), (40, 0.25), (50, 0.6)), BUDGET)
    assert macs.tolist() == [80, 280, 320, 360, 410]
    # 0.5 (100 - 80); over budget; 0.25 (80 - 40) more; a repeat; 0.6 (100 - 50) and 0.25 (50 - 40).
    np.testing.assert_allclose(volumes, [10, 10, 20, 20, 32.5])


def test_ratios_equal_a_calculation_by_hand(steps):
    plain = steps((200, 0.9), (50, 0.5), (50, 0.5), (90, 0.1))
    assert searches.ratio(steps((60, 0.5), (40, 0.5)), plain, BUDGET) == pytest.approx((100 / 250, 100 / 390))
    assert searches.ratio(steps((60, 0.5)), plain, BUDGET) == (np.inf, np.inf)
    assert [step.trained for step in searches.cached(plain)] == [200, 50, 0, 90]
    assert [step.trained for step in searches.gate_alone(plain, BUDGET)] == [0, 50, 50, 90]
    assert searches.driver_alone(searches.gate_alone(plain, BUDGET)) == plain


def test_quartiles_count_searches_that_never_reach_the_target():
    assert searches.quartiles([0.1, 0.2, 0.3, 0.4, np.inf]) == [0.2, 0.3, 0.4]
    assert searches.quartiles([0.1, np.inf, np.inf]) == [np.inf] * 3


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_a_rejected_proposal_costs_nothing_and_is_not_repeated(search, sampler):
    budget, found = search
    gate = found[sampler, "gate"]
    assert len(gate) == NUMBER == len({step.network.config for step in gate})
    assert any(step.network.macs > budget for step in gate)
    assert all(step.trained == (step.network.macs if step.network.macs <= budget else 0) for step in gate)


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_plain_optuna_trains_proposals_over_budget_and_repeats(search, sampler):
    budget, found = search
    for told in ("constraint", "penalty"):
        plain = found[sampler, told]
        assert len(plain) == NUMBER > len({step.network.config for step in plain})
        assert all(step.trained == step.network.macs for step in plain)
        assert any(step.network.macs > budget for step in plain)


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_the_gate_alone_does_not_change_the_proposals(table, search, sampler):
    budget, found = search
    study = optuna.create_study(
        directions=("maximize", "minimize"), sampler=searches.SAMPLERS[sampler](seed=0)
    )
    space = searches.sweep_of().space
    for step in found[sampler, "constraint"]:
        trial = study.ask()
        network = table[space.config(space.suggest(trial)).digest()]
        assert network == step.network
        trial.set_constraint("budget", network.macs / budget - 1)
        study.tell(trial, (network.validation_accuracy if network.macs <= budget else 0, network.macs))


def test_the_report_has_all_rows_and_the_picture_is_written(table, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(report, "TRIALS", {"nsga2": 12, "tpe": 12})
    monkeypatch.setattr(trainings, "read_table", lambda: table)
    wanted = [
        trainings.Search(side, percentile, sampler, seed, 15 if side == "gate" else report.TRIALS[sampler])
        for seed in range(2)
        for percentile in searches.PERCENTILES
        for sampler in searches.SAMPLERS
        for side in trainings.SIDES
    ]
    lines = [json.dumps([astuple(search), trainings._simulated(search)]) for search in wanted]
    (tmp_path / "simulated.jsonl").write_text("\n".join(lines))
    report.report(tmp_path)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) == (2 + 6) + (2 + 36) + (2 + 10)
    report.draw(tmp_path, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
