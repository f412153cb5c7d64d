import functools
import logging
import subprocess
import sys

import numpy as np
import optuna
import pytest
import scipy.optimize
from optuna.samplers import GPSampler

from invact.errors import EnvironmentFault, InputError
from invact.search.drivers import DRIVERS, Outcome, make_driver
from invact.search.drivers.keras_tuner import scores
from invact.search.drivers.ledger import Ledger, proposal_key
from invact.search.objectives import Objective
from invact.spaces.space import parse_space
from invact.testing.drivers import (
    BUDGET,
    EPOCHS,
    FINITE,
    MIXED,
    DriverContract,
    accuracy_of,
    costs_of,
    drive,
    keys_of,
    outcome_of,
)
from invact.training.results import Status


class Shipped(DriverContract):
    """The contract for one driver and sampler of invact."""

    pair = ("", "")

    @pytest.fixture(autouse=True)
    def _check_that_optunas_logging_stays_the_same(self):
        logger = logging.getLogger("optuna")
        before = optuna.logging.get_verbosity(), [*logger.handlers]
        yield
        assert (optuna.logging.get_verbosity(), [*logger.handlers]) == before

    def make(self, space, objective, seed, trials, enqueue, epochs):
        return make_driver(*self.pair, space, objective, seed, trials, enqueue, epochs)


class TestOptunaTPE(Shipped):
    pair = ("optuna", "tpe")


class TestOptunaNSGA2(Shipped):
    pair = ("optuna", "nsga2")


class TestOptunaNSGA3(Shipped):
    pair = ("optuna", "nsga3")


class TestOptunaRandom(Shipped):
    pair = ("optuna", "random")
    learns = False


class TestOptunaQMC(Shipped):
    pair = ("optuna", "qmc")
    learns = False


class TestOptunaCMAES(Shipped):
    pair = ("optuna", "cmaes")
    kinds = ("accuracy", "cost", "weighted")
    exhausts = False  # CMA-ES needs two ranges, and FINITE has one.

    def test_a_pareto_search_is_refused_by_name(self):
        with pytest.raises(InputError, match=r'"cmaes" with kind = "pareto"'):
            self.fresh(5, Objective(kind="pareto", max_macs=60_000))


# PyTorch takes seconds to import, so all tests that need it run in one process.
torch = pytest.mark.xdist_group("torch")


@torch
class TestOptunaGP(Shipped):
    pair = ("optuna", "gp")
    trials = 6

    @pytest.fixture(autouse=True)
    def _search_less_for_the_best_proposal(self, monkeypatch):
        search = GPSampler._optimize_acqf

        def less(sampler, *arguments):
            sampler._n_preliminary_samples, sampler._n_local_search = 64, 4
            return search(sampler, *arguments)

        monkeypatch.setattr(GPSampler, "_optimize_acqf", less)


class TestKerasTunerRandom(Shipped):
    pair = ("keras_tuner", "random")
    learns = False


class TestKerasTunerBayesian(Shipped):
    pair = ("keras_tuner", "bayesian")
    trials = 6

    @pytest.fixture(autouse=True)
    def _search_less_for_the_best_proposal(self, monkeypatch):
        less = functools.partial(scipy.optimize.minimize, options={"maxiter": 1})
        monkeypatch.setattr("scipy.optimize.minimize", less)

    # The random oracle ends in the same code of the driver. This one needs a second for each proposal.
    @pytest.mark.slow
    def test_a_finite_space_is_proposed_completely(self):
        super().test_a_finite_space_is_proposed_completely()


class TestKerasTunerHyperband(Shipped):
    pair = ("keras_tuner", "hyperband")
    exhausts = False  # It repeats configurations with more epochs.
    chooses_epochs = True
    learns = False

    def test_a_resumed_search_is_the_same_search(self):
        whole = drive(self.fresh(12))
        driver = self.fresh(12)
        for proposal in whole[:8]:
            driver.know(proposal.values, outcome_of(proposal.values), proposal.epochs)
        assert drive(driver) == whole[8:]


class Grid(Shipped):
    space = FINITE
    learns = False

    @pytest.mark.parametrize("resumed", [False, True])
    def test_a_grid_covers_everything_once(self, resumed):
        expected = sorted(map(proposal_key, FINITE.grid()))
        assert len(expected) == FINITE.size() == 19
        before = drive(self.fresh(100), steps=6) if resumed else []
        driver = self.fresh(100, enqueue=[{"filters": 6, "normalization": "batch"}])
        for proposal in before:
            driver.know(proposal.values, outcome_of(proposal.values))
        assert sorted(keys_of(before + drive(driver))) == expected
        assert driver.ask() is None


class TestOptunaGrid(Grid):
    pair = ("optuna", "grid")


class TestKerasTunerGrid(Grid):
    pair = ("keras_tuner", "grid")
    seeded = False


def test_every_sampler_is_under_the_contract():
    suites = [each for each in [*Shipped.__subclasses__(), *Grid.__subclasses__()] if each is not Grid]
    expected = [(driver, sampler) for driver, samplers in DRIVERS.items() for sampler in samplers]
    assert sorted(suite.pair for suite in suites) == sorted(expected)


def make(pair, space=MIXED, objective=BUDGET, seed=0, trials=12, **options):
    return make_driver(*pair, space, objective, seed, trials, epochs=EPOCHS, **options)


@pytest.mark.parametrize("kind", ["accuracy", "pareto"])
def test_tpe_itself_avoids_configurations_it_has_tried(kind, monkeypatch):
    monkeypatch.setattr(Ledger, "unseen", lambda ledger: pytest.fail("TPE was overruled"))
    tables = {name: {"choices": [4, 8, 16, 32]} for name in ("filters", "batch_size", "epochs")}
    objective = Objective(kind=kind, max_macs=60_000)
    proposals = drive(make(("optuna", "tpe"), parse_space(tables), objective, trials=30))
    assert len(set(keys_of(proposals))) == len(proposals) == 30


@functools.cache
def share_over(space, objective):
    """The share of random configurations that are over the budget."""
    rng = np.random.default_rng(0)
    return np.mean([objective.overrun(costs_of(space.sample(rng))) > 0 for _ in range(1000)])


RANDOM = ("optuna", "random")
MODELS = [("optuna", "tpe"), ("optuna", "nsga2"), ("optuna", "nsga3"), ("optuna", "cmaes")]
GAUSSIAN = [("optuna", "gp"), ("keras_tuner", "bayesian")]
# A Gaussian process takes seconds for a proposal in more dimensions.
PLAIN = parse_space(
    {
        "depth": 2,
        "filters": {"low": 4, "high": 64, "log": True},
        "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    }
)


@pytest.mark.parametrize(
    ("pair", "resumed"),
    [
        *((pair, False) for pair in MODELS),
        *((pair, True) for pair in [*MODELS, GAUSSIAN[1]]),
        pytest.param(GAUSSIAN[0], True, marks=torch),
    ],
)
def test_models_leave_the_region_over_budget(pair, resumed):
    tight = Objective(max_macs=20_000)
    known, trials, seeds = (25, 28, range(1)) if pair in GAUSSIAN else (20, 40, range(3))
    space = PLAIN if pair in GAUSSIAN else MIXED

    def outcome(values):
        return outcome_of(values, tight)

    def over(seed):
        # The first trials come from the sampler itself, or are known from a random search.
        driver = make(pair, space, objective=tight, seed=seed, trials=trials)
        if resumed:
            for proposal in drive(make(RANDOM, space, seed=seed, trials=known)):
                driver.know(proposal.values, outcome(proposal.values))
        later = [p for p in drive(driver, outcome) if p.number >= known]
        return np.mean([tight.overrun(costs_of(p.values)) > 0 for p in later])

    random = share_over(space, tight)
    assert 0.55 < random < 0.9
    assert np.mean([over(seed) for seed in seeds]) < random - 0.2


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", pytest.param("gp", marks=torch)])
@pytest.mark.parametrize("resumed", [False, True])
def test_each_budget_is_a_constraint_of_optuna(sampler, resumed):
    """A network that is over a counted budget has no latency, because it was not timed."""
    objective = Objective(kind="pareto", cost="latency_ms", max_macs=60_000, max_latency_ms=2.0)

    def outcome(values):
        costs = {"macs": float(costs_of(values)["macs"])}
        if objective.overrun(costs) > 0:
            return Outcome(Status.OVER_BUDGET, costs)
        costs["latency_ms"] = values["filters"] / 10
        over = objective.overrun(costs) > 0
        status = Status.OVER_BUDGET if over else Status.FINISHED
        return Outcome(status, costs, None if over else accuracy_of(values))

    # The first four trials are random; a Gaussian process takes a second for each of the others.
    few = 10 if resumed else 6
    driver = make(("optuna", sampler), objective=objective, trials=few if sampler == "gp" else 12)
    if resumed:
        for proposal in drive(make(RANDOM, objective=objective, trials=8), outcome):
            driver.know(proposal.values, outcome(proposal.values))
    proposals = drive(driver, outcome)
    known = [outcome(proposal.values) for proposal in proposals]
    trials = [trial for trial in driver._study.trials if trial.state.name == "COMPLETE"][-len(known) :]
    assert len(trials) == len(known) >= 2
    for told, trial in zip(known, trials, strict=True):
        assert set(trial.constraints) == {"max_macs", "max_latency_ms"}
        assert trial.constraints["max_macs"] == pytest.approx(told.costs["macs"] / 60_000 - 1)
        if "latency_ms" in told.costs:
            assert trial.constraints["max_latency_ms"] == pytest.approx(told.costs["latency_ms"] / 2 - 1)
            assert trial.values[1] == told.costs["latency_ms"]
        feasible = all(value <= 0 for value in trial.constraints.values())
        assert feasible == (told.status is Status.FINISHED)


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize(
    ("sampler", "kind"),
    [
        (sampler, kind)
        for sampler in ("tpe", "random", "qmc", "nsga2")
        for kind in ("accuracy", "pareto", "cost")
    ]
    + [("cmaes", "accuracy"), ("cmaes", "weighted"), pytest.param("gp", "pareto", marks=torch)],
)
def test_optuna_is_told_that_a_trial_was_pruned_and_where(sampler, kind, resumed):
    """A sampler that reads only complete trials gets the worst accuracy of a result, with the true cost."""
    extra = {"cost": {"min_accuracy": 0.8}, "weighted": {"target": 30_000.0}}.get(kind, {})
    objective = Objective(kind=kind, max_macs=10**9, **extra)
    reads, several = sampler in ("tpe", "random", "qmc"), kind == "pareto"
    trials = iter(range(100))

    def outcome(values):
        costs = costs_of(values)
        pruned = next(trials) % 2
        return Outcome(Status.PRUNED, costs, 0.97, 3) if pruned else Outcome(Status.FINISHED, costs, 0.5)

    driver = make(("optuna", sampler), objective=objective, trials=5)
    if resumed:
        for proposal in drive(make(RANDOM, objective=objective, trials=4), steps=4):
            driver.know(proposal.values, outcome(proposal.values))
    drive(driver, outcome)
    study = driver._study
    told = [trial for trial in study.trials if trial.state.name != "FAIL"]
    assert len(told) == 5
    pruned = [trial for trial in told if trial.state.name == "PRUNED"]
    assert len(pruned) == (2 if reads else 0)
    for trial in pruned:
        value = {"accuracy": [0.97], "cost": [costs_of(trial.params)["macs"]], "pareto": []}[kind]
        assert trial.intermediate_values == dict(zip([3], value, strict=False))
        assert set(trial.constraints) == {"max_macs"}, "whether it reaches an accuracy is not known"
    for trial in told:
        if trial not in pruned and kind in ("accuracy", "pareto"):
            assert trial.values[0] == 0.5
            assert not several or trial.values[1] == costs_of(trial.params)["macs"]


@torch
def test_before_the_first_result_a_pruned_trial_has_no_worst_accuracy():
    driver = make(("optuna", "gp"), objective=Objective(kind="pareto"), trials=4)
    for _ in range(2):
        proposal = driver.ask()
        driver.tell(proposal, Outcome(Status.PRUNED, costs_of(proposal.values), 0.6, 1))
    assert {trial.state.name for trial in driver._study.trials} == {"PRUNED"}


def test_tpe_prefers_what_came_farther_among_pruned_trials():
    """With one parameter and no other results, TPE proposes near the trial that was pruned last."""
    space = parse_space({"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}})
    near = []
    for seed in range(10):
        driver = make(("optuna", "tpe"), space=space, objective=Objective(), seed=seed, trials=10)
        # Of nine trials, TPE takes one for good.
        for index, rate in enumerate(np.geomspace(1e-4, 1e-1, 9)):
            epochs = 9 if index == 6 else 1
            known = Outcome(Status.PRUNED, {"macs": 1}, 0.9 if epochs == 1 else 0.2, epochs)
            driver.know(space.check({"learning_rate": float(rate)}, "known"), known)
        near.append(abs(np.log10(driver.ask().values["learning_rate"]) - np.log10(1e-4 * 10**2.25)))
    assert np.median(near) < 0.5


def test_keras_tuner_scores_a_pruned_trial_as_the_worst_feasible_one():
    for objective in (Objective(), Objective(kind="pareto"), Objective(kind="cost", min_accuracy=0.5)):
        known = [
            Outcome(Status.FINISHED, {"macs": 20}, 0.6),
            Outcome(Status.PRUNED, {"macs": 30}, 0.99, 3),
            Outcome(Status.PRUNED, {"macs": 30}, 0.1, 3),
            Outcome(Status.FINISHED, {"macs": 10}, 0.7),
        ]
        first, *pruned, last = scores(objective, known, 0.5)
        assert pruned == [0.0, 0.0]
        assert min(first, last) >= 0


@functools.cache
def share_good(pair):
    """The share of cheap and accurate configurations in the second half of a search."""
    objective = Objective(kind="cost", min_accuracy=0.8)

    def good(values):
        return costs_of(values)["macs"] < 20_000 and accuracy_of(values) >= 0.8

    searches = [
        drive(make(pair, objective=objective, seed=seed, trials=40), lambda v: outcome_of(v, objective))
        for seed in range(4)
    ]
    return np.mean([good(proposal.values) for found in searches for proposal in found[20:]])


@pytest.mark.parametrize("pair", [("optuna", "tpe"), ("optuna", "cmaes"), ("optuna", "nsga2")])
def test_models_find_few_macs_at_the_accuracy_asked_for(pair):
    assert share_good(pair) > share_good(RANDOM) + 0.1


def test_hyperband_halves_by_accuracy():
    proposals = drive(make(("keras_tuner", "hyperband"), objective=Objective(), trials=12))
    first = [p for p in proposals if p.epochs == 1]
    second = proposals[9:12]
    ranked = sorted(first, key=lambda p: -accuracy_of(p.values))[:3]
    assert first == proposals[:9]
    assert sorted(keys_of(second)) == sorted(proposal_key(p.values, 3) for p in ranked)


def test_hyperband_never_promotes_a_network_over_budget():
    tight = Objective(max_macs=20_000)
    proposals = drive(
        make(("keras_tuner", "hyperband"), objective=tight, trials=30), lambda v: outcome_of(v, tight)
    )
    over = [proposal_key(p.values) for p in proposals if costs_of(p.values)["macs"] > 20_000]
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
        (("optuna", "bayesian"), r"sampler: received 'bayesian', a sampler of keras_tuner.*of optuna: tpe"),
        (("optuna", "grid"), "dropout: received an interval without step"),
        (("keras_tuner", "grid"), "dropout: received an interval without step"),
        (("optuna", "tpe", {"filters": 8}), r"enqueue\[0\]: depth: missing. Allowed: integers from 1 to 2"),
    ],
)
def test_bad_arguments_are_refused_when_a_driver_is_made(arguments, message):
    name, sampler, *enqueue = arguments
    with pytest.raises(InputError, match=message):
        make_driver(name, sampler, MIXED, BUDGET, 0, 5, enqueue=enqueue)


def test_unsearchable_spaces_are_refused():
    with pytest.raises(InputError, match=r"epochs: received None. Allowed with hyperband: at least 1"):
        make_driver("keras_tuner", "hyperband", MIXED, BUDGET, 0, 5)
    searched = parse_space({"epochs": {"low": 1, "high": 5}})
    with pytest.raises(InputError, match="fix epochs"):
        make_driver("keras_tuner", "hyperband", searched, BUDGET, 0, 5, epochs=5)
    with pytest.raises(InputError, match="1 unconditional ranges of numbers \\(epochs\\)"):
        make_driver("optuna", "cmaes", searched, BUDGET, 0, 5)
    with pytest.raises(InputError, match="trials: received 0"):
        make_driver("optuna", "tpe", searched, BUDGET, 0, 0)


@pytest.mark.parametrize("sampler", ["gp", "cmaes"])
def test_a_missing_extra_names_its_installation(sampler, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match=rf"pip install .*\[{sampler}\]'"):
        make_driver("optuna", sampler, MIXED, BUDGET, 0, 5)


def test_the_module_of_drivers_loads_no_library():
    code = "import sys, invact.search.drivers, invact.spaces.space; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "invact.spaces.space" in loaded
    assert not {"optuna", "keras_tuner", "tensorflow", "keras", "mlflow"} & set(loaded)
