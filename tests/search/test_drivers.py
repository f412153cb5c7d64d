import logging
import math
import subprocess
import sys

import numpy as np
import optuna
import pytest

from invact.errors import EnvironmentFault, InputError
from invact.search.drivers import DRIVERS, Outcome, make_driver
from invact.search.drivers.keras_tuner import scores
from invact.search.drivers.ledger import Ledger, proposal_key
from invact.search.objectives import Objective
from invact.spaces.space import parse_space
from invact.training.results import Status

SPACE = parse_space(
    {
        "model": "cnn",
        "depth": {"low": 1, "high": 2},
        "activation": {"choices": ["relu", "inverse"], "per_stage": True},
        "filters": {"low": 4, "high": 64, "log": True},
        "dropout": {"low": 0.0, "high": 0.5, "when": {"depth": 2}},
        "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    }
)
SMALL = parse_space(
    {
        "filters": {"low": 4, "high": 7, "log": True},
        "normalization": {"choices": ["none", "batch"]},
        "dropout": {"choices": [0.0, 0.2, 0.4], "when": {"normalization": "none"}},
        "augmentation": {"choices": ["none", "flip"], "when": {"normalization": "none", "filters": 4}},
    }
)
ALL = [(driver, sampler) for driver, samplers in DRIVERS.items() for sampler in samplers]
OPEN = [pair for pair in ALL if pair[1] != "grid"]  # Those that take a space with an interval.
SLOW = ("gp", "bayesian")  # About a second for each proposal of the model: fewer trials of them.
FAST = [pair for pair in OPEN if pair[1] not in SLOW]
EPOCHS = 9
ACCURACY = Objective(max_macs=60_000)


def macs_of(values):
    doubled = [values.get(f"activation.{stage}") == "inverse" for stage in (1, 2)]
    return int(1000 * values["filters"] * (values.get("depth", 1) + sum(doubled)))


def costs_of(values):
    return {"macs": macs_of(values), "params": macs_of(values)}


def accuracy_of(values):
    misses = [math.log2(values["filters"]) - 3, values.get("dropout", 0.2) - 0.2]
    if "learning_rate" in values:
        misses.append(math.log10(values["learning_rate"]) + 2.5)
    return 0.9 - 0.02 * sum(miss**2 for miss in misses)


def outcome_of(values, objective=ACCURACY):
    costs = costs_of(values)
    if objective.overrun(costs) > 0:
        return Outcome(Status.OVER_BUDGET, costs)
    return Outcome(Status.FINISHED, costs, accuracy_of(values))


def make(pair, space=SPACE, objective=ACCURACY, seed=0, trials=12, **options):
    if pair[1] == "cmaes" and space is SMALL:
        pytest.skip("CMA-ES needs two ranges")
    return make_driver(*pair, space, objective, seed, trials, epochs=EPOCHS, **options)


def run(driver, outcome=outcome_of, steps=1000):
    proposals = []
    while len(proposals) < steps and (proposal := driver.ask()) is not None:
        proposals.append(proposal)
        driver.tell(proposal, outcome(proposal.values))
    return proposals


def identities(proposals):
    return [proposal_key(proposal.values, proposal.epochs) for proposal in proposals]


@pytest.mark.parametrize("pair", OPEN)
def test_proposals_are_valid_numbered_and_never_repeated(pair):
    trials = 6 if pair[1] in SLOW else 12
    proposals = run(make(pair, trials=trials))
    assert [proposal.number for proposal in proposals] == list(range(trials))
    assert all(SPACE.contains(proposal.values) for proposal in proposals)
    assert len(set(identities(proposals))) == trials
    for proposal in proposals:
        assert SPACE.config(proposal.values).depth == proposal.values["depth"]
        assert (proposal.epochs is None) == (pair[1] != "hyperband")
        assert proposal.epochs is None or 1 <= proposal.epochs <= EPOCHS


@pytest.mark.parametrize("pair", FAST)
def test_the_seed_decides(pair):
    first, again, other = (run(make(pair, seed=seed, trials=8)) for seed in (0, 0, 1))
    assert first == again
    assert identities(first) != identities(other)


@pytest.mark.parametrize("pair", [pair for pair in ALL if pair not in FAST])
def test_the_seed_decides_slow_samplers_too(pair):
    space = SMALL if pair[1] == "grid" else SPACE
    first, again = (run(make(pair, space=space, trials=5)) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("pair", OPEN)
@pytest.mark.parametrize("status", [Status.OVER_BUDGET, Status.FAILED, Status.DIVERGED])
def test_a_search_of_nothing_but_bad_news_ends_by_itself(pair, status):
    proposals = run(make(pair, trials=7), lambda values: Outcome(status, {"macs": 10**9, "params": 10**9}))
    assert len(proposals) == 7


@pytest.mark.parametrize("pair", OPEN)
def test_five_failures_in_a_row_do_not_end_it(pair):
    driver = make(pair, trials=9)
    run(driver, lambda values: Outcome(Status.FAILED, {}), steps=5)
    assert len(run(driver)) == 4


@pytest.mark.parametrize("pair", ALL)
def test_several_proposals_may_be_pending_and_told_in_any_order(pair):
    space = SMALL if pair[1] == "grid" else SPACE
    trials = 7 if pair[1] in SLOW else 12
    driver = make(pair, space=space, trials=trials)
    pending = [driver.ask() for _ in range(4)]
    told = []
    while pending:
        proposal = pending.pop()
        assert space.contains(proposal.values)
        driver.tell(proposal, outcome_of(proposal.values))
        told.append(proposal)
        while len(pending) < 3 and (proposal := driver.ask()) is not None:
            pending.append(proposal)
    assert sorted(proposal.number for proposal in told) == list(range(trials))
    assert len(set(identities(told))) == trials
    assert driver.ask() is None


@pytest.mark.parametrize("kind", ["accuracy", "pareto"])
def test_tpe_gets_over_a_configuration_it_has_tried(kind, monkeypatch):
    monkeypatch.setattr(Ledger, "unseen", lambda ledger: pytest.fail("TPE was overruled"))
    tables = {name: {"choices": [4, 8, 16, 32]} for name in ("filters", "batch_size", "epochs")}
    objective = Objective(kind=kind, max_macs=60_000)
    proposals = run(make(("optuna", "tpe"), parse_space(tables), objective, trials=30))
    assert len(set(identities(proposals))) == len(proposals) == 30


@pytest.mark.parametrize("pair", ALL)
def test_enqueued_configurations_come_first_and_once(pair):
    space = SMALL if pair[1] == "grid" else SPACE
    rng = np.random.default_rng(3)
    wanted = [space.sample(rng) for _ in range(2)]
    proposals = run(make(pair, space=space, trials=5, enqueue=[*wanted, wanted[0]]))
    assert [proposal.values for proposal in proposals[:2]] == wanted
    assert len(set(identities(proposals))) == len(proposals) == 5


@pytest.mark.parametrize("pair", [("optuna", "grid"), ("keras_tuner", "grid")])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_grid_covers_everything_once(pair, resumed):
    expected = sorted(map(proposal_key, SMALL.grid()))
    assert len(expected) == SMALL.size() == 19
    before = run(make(pair, space=SMALL, trials=100), steps=6) if resumed else []
    driver = make(pair, space=SMALL, trials=100, enqueue=[{"filters": 6, "normalization": "batch"}])
    for proposal in before:
        driver.know(proposal.values, outcome_of(proposal.values))
    assert sorted(identities(before + run(driver))) == expected
    assert driver.ask() is None


@pytest.mark.parametrize("pair", [pair for pair in ALL if pair[1] not in ("grid", "cmaes", "hyperband")])
def test_a_finite_space_is_exhausted_rather_than_repeated(pair):
    proposals = run(make(pair, space=SMALL, trials=100))
    assert sorted(identities(proposals)) == sorted(map(proposal_key, SMALL.grid()))


@pytest.mark.parametrize("pair", OPEN)
def test_a_resumed_search_goes_on_from_what_is_known(pair):
    known, trials = (4, 6) if pair[1] in SLOW else (8, 12)
    whole = run(make(pair, trials=trials))
    driver = make(pair, trials=trials)
    for proposal in whole[:known]:
        driver.know(proposal.values, outcome_of(proposal.values), proposal.epochs)
    rest = run(driver)
    assert [proposal.number for proposal in rest] == list(range(known, trials))
    assert not set(identities(rest)) & set(identities(whole[:known]))
    if pair[1] == "hyperband":
        assert rest == whole[known:]


RANDOM = ("optuna", "random")
MODELS = [("optuna", "tpe"), ("optuna", "nsga2"), ("optuna", "nsga3"), ("optuna", "cmaes")]
GAUSSIAN = [("optuna", "gp"), ("keras_tuner", "bayesian")]


@pytest.mark.parametrize(
    ("pair", "resumed"),
    [*((pair, False) for pair in MODELS), *((pair, True) for pair in [*MODELS, *GAUSSIAN])],
)
def test_models_leave_the_region_over_budget(pair, resumed):
    tight = Objective(max_macs=20_000)
    known, trials, seeds = (25, 31, range(1)) if pair in GAUSSIAN else (20, 40, range(3))

    def outcome(values):
        return outcome_of(values, tight)

    def over(seed):
        # A sampler that was told of random trials, or one that proposed them all.
        driver = make(pair, objective=tight, seed=seed, trials=trials)
        if resumed:
            for proposal in run(make(RANDOM, seed=seed, trials=known)):
                driver.know(proposal.values, outcome(proposal.values))
        later = [p for p in run(driver, outcome) if p.number >= known]
        return np.mean([tight.overrun(costs_of(p.values)) > 0 for p in later])

    rng = np.random.default_rng(0)
    random = np.mean([tight.overrun(costs_of(SPACE.sample(rng))) > 0 for _ in range(2000)])
    assert 0.55 < random < 0.9
    assert np.mean([over(seed) for seed in seeds]) < random - 0.2


KINDS = [
    Objective(kind="pareto", max_macs=60_000),
    Objective(kind="cost", min_accuracy=0.8),
    Objective(kind="weighted", target=30_000.0),
    Objective(),
]


@pytest.mark.parametrize("pair", OPEN)
@pytest.mark.parametrize("objective", KINDS, ids=lambda objective: objective.kind)
def test_every_objective_is_searched(pair, objective):
    if pair[1] == "cmaes" and objective.kind == "pareto":
        with pytest.raises(InputError, match=r'"cmaes" with kind = "pareto"'):
            make(pair, objective=objective)
        return
    proposals = run(make(pair, objective=objective, trials=5), lambda v: outcome_of(v, objective))
    assert len(proposals) == 5


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp"])
@pytest.mark.parametrize("resumed", [False, True])
def test_each_budget_is_a_constraint_of_optuna(sampler, resumed):
    """Timed or not: what is over a budget that is counted has not been timed."""
    objective = Objective(kind="pareto", cost="latency_ms", max_macs=60_000, max_latency_ms=2.0)

    def outcome(values):
        costs = {"macs": float(macs_of(values))}
        if objective.overrun(costs) > 0:
            return Outcome(Status.OVER_BUDGET, costs)
        costs["latency_ms"] = values["filters"] / 10
        over = objective.overrun(costs) > 0
        status = Status.OVER_BUDGET if over else Status.FINISHED
        return Outcome(status, costs, None if over else accuracy_of(values))

    driver = make(("optuna", sampler), objective=objective, trials=12)
    if resumed:
        for proposal in run(make(RANDOM, objective=objective, trials=8), outcome):
            driver.know(proposal.values, outcome(proposal.values))
    proposals = run(driver, outcome)
    known = [outcome(proposal.values) for proposal in proposals]
    trials = [trial for trial in driver._study.trials if trial.state.name == "COMPLETE"][-len(known) :]
    assert len(trials) == len(known) >= 4
    for told, trial in zip(known, trials, strict=True):
        assert set(trial.constraints) == {"max_macs", "max_latency_ms"}
        assert trial.constraints["max_macs"] == pytest.approx(told.costs["macs"] / 60_000 - 1)
        if "latency_ms" in told.costs:
            assert trial.constraints["max_latency_ms"] == pytest.approx(told.costs["latency_ms"] / 2 - 1)
            assert trial.values[1] == told.costs["latency_ms"]
        feasible = all(value <= 0 for value in trial.constraints.values())
        assert feasible == (told.status is Status.FINISHED)


@pytest.mark.parametrize("pair", [("optuna", "tpe"), ("optuna", "cmaes"), ("optuna", "nsga2")])
def test_models_find_few_macs_at_the_accuracy_asked_for(pair):
    objective = Objective(kind="cost", min_accuracy=0.8)

    def good(pair, seed):
        found = run(make(pair, objective=objective, seed=seed, trials=40), lambda v: outcome_of(v, objective))
        return np.mean([macs_of(p.values) < 20_000 and accuracy_of(p.values) >= 0.8 for p in found[20:]])

    model, random = (np.mean([good(other, seed) for seed in range(4)]) for other in (pair, RANDOM))
    assert model > random + 0.1


@pytest.mark.parametrize("pair", OPEN)
def test_a_driver_says_nothing(pair, capfd, caplog):
    verbosity = optuna.logging.get_verbosity()
    handlers = list(logging.getLogger("optuna").handlers)
    run(make(pair, trials=5))
    out, err = capfd.readouterr()
    assert (out, err, caplog.text) == ("", "", "")
    assert optuna.logging.get_verbosity() == verbosity
    assert logging.getLogger("optuna").handlers == handlers


def test_hyperband_halves_by_accuracy():
    proposals = run(make(("keras_tuner", "hyperband"), objective=Objective(), trials=12))
    first = [p for p in proposals if p.epochs == 1]
    second = proposals[9:12]
    ranked = sorted(first, key=lambda p: -accuracy_of(p.values))[:3]
    assert first == proposals[:9]
    assert sorted(identities(second)) == sorted(proposal_key(p.values, 3) for p in ranked)


def test_hyperband_does_not_promote_what_is_over_budget():
    tight = Objective(max_macs=20_000)
    proposals = run(
        make(("keras_tuner", "hyperband"), objective=tight, trials=30), lambda v: outcome_of(v, tight)
    )
    over = [proposal_key(p.values) for p in proposals if macs_of(p.values) > 20_000]
    assert over
    assert len(set(over)) == len(over)


def test_scores_rank_feasible_above_infeasible_and_reach_the_whole_front():
    objective = Objective(kind="pareto", max_macs=100)
    front = [Outcome(Status.FINISHED, {"macs": macs}, macs / 100) for macs in (10, 40, 80, 100)]
    bad = [
        Outcome(Status.FINISHED, {"macs": 90}, 0.2),
        Outcome(Status.DIVERGED, {"macs": 5}),
        Outcome(Status.OVER_BUDGET, {"macs": 150}),
        Outcome(Status.OVER_BUDGET, {"macs": 900}),
    ]
    best = set()
    for weight in np.linspace(0, 1, 21):
        marks = scores(objective, [*front, *bad], float(weight))
        best.add(int(np.argmax(marks)))
        assert all(0 <= mark <= 1 for mark in marks[:6])
        assert 0 > marks[6] > marks[7] > -1
    assert best >= {0, 3}
    assert best <= {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("optuna_", "tpe"), r"driver: received 'optuna_'; did you mean 'optuna'\?"),
        (("optuna", "bayesian"), r"sampler: received 'bayesian'.*Allowed: tpe"),
        (("optuna", "grid"), "dropout: received an interval without step"),
        (("keras_tuner", "grid"), "dropout: received an interval without step"),
        (("optuna", "tpe", {"filters": 8}), r"enqueue\[0\]: depth: missing. Allowed: integers from 1 to 2"),
    ],
)
def test_refusals_come_before_any_training(arguments, message):
    name, sampler, *enqueue = arguments
    with pytest.raises(InputError, match=message):
        make_driver(name, sampler, SPACE, ACCURACY, 0, 5, enqueue=enqueue)


def test_unsearchable_spaces_are_refused():
    with pytest.raises(InputError, match=r"epochs: received None. Allowed with hyperband: at least 1"):
        make_driver("keras_tuner", "hyperband", SPACE, ACCURACY, 0, 5)
    searched = parse_space({"epochs": {"low": 1, "high": 5}})
    with pytest.raises(InputError, match="fix epochs"):
        make_driver("keras_tuner", "hyperband", searched, ACCURACY, 0, 5, epochs=5)
    with pytest.raises(InputError, match="1 unconditional ranges of numbers \\(epochs\\)"):
        make_driver("optuna", "cmaes", searched, ACCURACY, 0, 5)
    with pytest.raises(InputError, match="trials: received 0"):
        make_driver("optuna", "tpe", searched, ACCURACY, 0, 0)


@pytest.mark.parametrize("sampler", ["gp", "cmaes"])
def test_a_missing_extra_names_its_installation(sampler, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match=rf"pip install 'invact\[{sampler}\]'"):
        make_driver("optuna", sampler, SPACE, ACCURACY, 0, 5)


def test_the_contract_loads_no_library():
    code = "import sys, invact.search.drivers, invact.spaces.space; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "invact.spaces.space" in loaded
    assert not {"optuna", "keras_tuner", "tensorflow", "keras", "mlflow"} & set(loaded)
