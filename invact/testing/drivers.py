"""The contract suite of drivers: what every driver of a search must do."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pytest

from invact.errors import InputError
from invact.search.drivers import Driver, Outcome, Proposal
from invact.search.drivers.ledger import Key, proposal_key
from invact.search.objectives import Objective
from invact.spaces.space import parse_space
from invact.training.results import Status

if TYPE_CHECKING:
    from invact.measures import Costs
    from invact.spaces.space import SearchSpace, Values

__all__ = [
    "BUDGET",
    "EPOCHS",
    "FINITE",
    "MIXED",
    "SINGLE",
    "DriverContract",
    "accuracy_of",
    "costs_of",
    "drive",
    "keys_of",
    "outcome_of",
]

MIXED = parse_space(
    {
        "model": "cnn",
        "depth": {"low": 1, "high": 2},
        "activation": {"choices": ["relu", "inverse"], "per_stage": True},
        "filters": {"low": 4, "high": 64, "log": True},
        "dropout": {"low": 0.0, "high": 0.5, "when": {"depth": 2}},
        "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    }
)
"""A space of every kind of parameter: a constant, choices, integers, intervals and a condition."""

FINITE = parse_space(
    {
        "filters": {"low": 4, "high": 7, "log": True},
        "normalization": {"choices": ["none", "batch"]},
        "dropout": {"choices": [0.0, 0.2, 0.4], "when": {"normalization": "none"}},
        "augmentation": {"choices": ["none", "flip"], "when": {"normalization": "none", "filters": 4}},
    }
)
"""A space of 19 configurations, some of its parameters conditional."""

SINGLE = parse_space(
    {
        "filters": {"low": 4, "high": 7},
        "batch_size": {"low": 8, "high": 64, "log": True},
        "depth": {"low": 1, "high": 1},
        "epochs": {"low": 2, "high": 2, "log": True},
        "learning_rate": {"low": 1e-3, "high": 1e-3, "log": True},
        "dropout": {"low": 0.5, "high": 0.5, "step": 0.1},
        "weight_decay": {"low": 0.25, "high": 0.25, "when": {"depth": 1}},
    }
)
"""A space of two ranges, and of ranges of every kind whose two ends are equal."""

BUDGET = Objective(max_macs=60_000)
"""The objective of most tests: the best accuracy within a budget that about half of `MIXED` exceeds."""

EPOCHS = 9
"""The largest number of epochs that a driver may ask for."""

_OBJECTIVES = {
    "accuracy": Objective(),
    "pareto": Objective(kind="pareto", max_macs=60_000),
    "cost": Objective(kind="cost", min_accuracy=0.8),
    "weighted": Objective(kind="weighted", target=30_000.0),
}


def costs_of(values: Values) -> Costs:
    """Return the costs that the suite gives a configuration: MACs and parameters, equal to each other.

    Example:
        >>> costs_of({"filters": 8, "depth": 2, "activation.1": "inverse", "activation.2": "relu"})["macs"]
        24000
    """
    doubled = sum(values.get(f"activation.{stage}") == "inverse" for stage in (1, 2))
    macs = int(1000 * _number(values, "filters") * (_number(values, "depth", 1) + doubled))
    return {"macs": macs, "params": macs}


def accuracy_of(values: Values) -> float:
    """Return the accuracy that the suite gives a configuration, at most 0.9.

    Example:
        >>> accuracy_of({"filters": 8, "dropout": 0.2})
        0.9
    """
    misses = [math.log2(_number(values, "filters")) - 3, _number(values, "dropout", 0.2) - 0.2]
    if "learning_rate" in values:
        misses.append(math.log10(_number(values, "learning_rate")) + 2.5)
    return 0.9 - 0.02 * sum(miss**2 for miss in misses)


def outcome_of(values: Values, objective: Objective = BUDGET) -> Outcome:
    """Return the result of a configuration: over the budget, or finished with `accuracy_of`.

    Example:
        >>> outcome_of({"filters": 64, "depth": 2}).status
        <Status.OVER_BUDGET: 'OVER_BUDGET'>
    """
    costs = costs_of(values)
    if objective.overrun(costs) > 0:
        return Outcome(Status.OVER_BUDGET, costs)
    return Outcome(Status.FINISHED, costs, accuracy_of(values))


def drive(
    driver: Driver, outcome: Callable[[Values], Outcome] = outcome_of, steps: int = 1000
) -> list[Proposal]:
    """Ask for one proposal at a time and tell its result, until the driver has no more.

    Args:
        driver: is asked and told.
        outcome: from the values of a proposal to its result.
        steps: the largest number of proposals.
    """
    proposals: list[Proposal] = []
    while len(proposals) < steps and (proposal := driver.ask()) is not None:
        proposals.append(proposal)
        driver.tell(proposal, outcome(proposal.values))
    return proposals


def _pruned(costs: Costs, accuracy: float = 0.75) -> Outcome:
    return Outcome(Status.PRUNED, costs, accuracy, epochs=1)


def keys_of(proposals: Sequence[Proposal]) -> list[Key]:
    """Return what identifies each proposal: its values and its epochs."""
    return [proposal_key(proposal.values, proposal.epochs) for proposal in proposals]


def _number(values: Values, name: str, default: float | None = None) -> float:
    value = values.get(name, default)
    assert isinstance(value, int | float), f"{name} is {value!r} in {values}"
    return value


class DriverContract:
    """What every driver promises; subclass it as `Test...` and override `make`.

    A driver proposes valid configurations, numbers them from 0, never repeats one and stops after `trials`.
    The seed, the results and the order of the calls decide its proposals. Several proposals may be pending,
    and their results arrive in any order. Enqueued configurations come first. Results that are known from
    before count as trials; those of another search only guide the proposals. Failures do not stop a search,
    and a driver neither prints nor logs. A pruned trial is a trial like every other, and its accuracy at a
    rung is never taken for a result.

    Attributes:
        space: what most tests search; `FINITE` for a driver that cannot search an interval.
        trials: proposals in the longer tests; 6 is enough for a driver that needs a second for each.
        kinds: kinds of `Objective` that the driver can search; `make` raises InputError for the others.
        seeded: whether another seed gives other proposals.
        exhausts: whether the driver proposes every configuration of a finite space before it stops.
        chooses_epochs: whether every proposal says how many epochs to train.
        compares_rungs: whether the driver, in a search for a front, ranks pruned trials among each other by
            their accuracy at the rung.
        learns: whether results of another search change the proposals.

    Example:
        >>> from invact.search.drivers import make_driver
        >>> class TestRandom(DriverContract):
        ...     def make(self, space, objective, seed, trials, enqueue, epochs):
        ...         return make_driver("optuna", "random", space, objective, seed, trials, enqueue, epochs)
        >>> TestRandom().test_the_same_seed_gives_the_same_proposals()
        >>> print(*[name for name in dir(TestRandom) if name.startswith("test")])
        test_a_finite_space_is_proposed_completely
        test_a_range_with_one_value_is_a_constant
        test_a_search_without_any_accuracy_ends
        test_an_accuracy_at_a_rung_is_no_result
        test_another_seed_gives_other_proposals
        test_each_kind_of_objective_is_searched
        test_enqueued_configurations_come_first_and_once
        test_failures_do_not_end_a_search
        test_known_results_count_as_trials_and_are_not_repeated
        test_learned_results_guide_a_search
        test_learned_results_neither_count_as_trials_nor_block_a_configuration
        test_nothing_is_printed_or_logged
        test_proposals_are_valid_and_numbered_and_differ
        test_pruned_trials_count_and_are_not_repeated
        test_several_proposals_may_be_pending
        test_the_same_seed_gives_the_same_proposals
    """

    space: SearchSpace = MIXED
    trials: int = 12
    kinds: Sequence[str] = ("accuracy", "pareto", "cost", "weighted")
    seeded: bool = True
    exhausts: bool = True
    chooses_epochs: bool = False
    compares_rungs: bool = False
    learns: bool = True

    def make(
        self,
        space: SearchSpace,
        objective: Objective,
        seed: int,
        trials: int,
        enqueue: Sequence[Values],
        epochs: int | None,
    ) -> Driver:
        """Return a fresh driver; override it.

        Args:
            space: what is searched.
            objective: what the search looks for.
            seed: the seed of everything random.
            trials: the largest number of proposals, known results included.
            enqueue: complete configurations to propose first.
            epochs: the largest number of epochs of a training.

        Raises:
            InputError: the driver cannot search this objective.
        """
        raise NotImplementedError(f"{type(self).__name__}: override make() so that it returns a driver")

    def fresh(
        self,
        trials: int,
        objective: Objective = BUDGET,
        *,
        space: SearchSpace | None = None,
        seed: int = 0,
        enqueue: Sequence[Values] = (),
    ) -> Driver:
        """Call `make` with defaults: the space of the suite, with nothing enqueued."""
        return self.make(space or self.space, objective, seed, trials, enqueue, EPOCHS)

    def test_proposals_are_valid_and_numbered_and_differ(self) -> None:
        """Each proposal is a configuration of the space, and no two are the same."""
        proposals = drive(self.fresh(self.trials))
        assert [proposal.number for proposal in proposals] == list(range(self.trials))
        assert len(set(keys_of(proposals))) == self.trials
        for proposal in proposals:
            assert self.space.contains(proposal.values), proposal
            assert self.space.config(proposal.values).filters == proposal.values["filters"]
            assert (proposal.epochs is not None) == self.chooses_epochs
            assert proposal.epochs is None or 1 <= proposal.epochs <= EPOCHS

    def test_the_same_seed_gives_the_same_proposals(self) -> None:
        """A search can be repeated."""
        first, again = (drive(self.fresh(2 * self.trials // 3 + 1)) for _ in range(2))
        assert first == again

    def test_another_seed_gives_other_proposals(self) -> None:
        """The seed has an effect."""
        first, other = (keys_of(drive(self.fresh(4, seed=seed))) for seed in (0, 1))
        assert (first != other) == self.seeded

    @pytest.mark.parametrize("status", [Status.OVER_BUDGET, Status.FAILED, Status.DIVERGED, Status.PRUNED])
    def test_a_search_without_any_accuracy_ends(self, status: Status) -> None:
        """A driver goes on to the last trial when no configuration has an accuracy."""
        costs = {"macs": 10**9, "params": 10**9}
        outcome = _pruned(costs) if status is Status.PRUNED else Outcome(status, costs)
        assert len(drive(self.fresh(7), lambda values: outcome)) == 7

    def test_failures_do_not_end_a_search(self) -> None:
        """A driver goes on after five trials in a row that failed, without any costs."""
        driver = self.fresh(9)
        drive(driver, lambda values: Outcome(Status.FAILED, {}), steps=5)
        assert len(drive(driver)) == 4

    def test_several_proposals_may_be_pending(self) -> None:
        """Up to four proposals wait for their results, which arrive last proposal first."""
        trials = self.trials + 1
        driver = self.fresh(trials)
        pending = [driver.ask() for _ in range(4)]
        told: list[Proposal] = []
        while pending:
            proposal = pending.pop()
            assert proposal is not None, f"no proposal after {len(told)} results"
            assert self.space.contains(proposal.values), proposal
            driver.tell(proposal, outcome_of(proposal.values))
            told.append(proposal)
            while len(pending) < 3 and (following := driver.ask()) is not None:
                pending.append(following)
        assert sorted(proposal.number for proposal in told) == list(range(trials))
        assert len(set(keys_of(told))) == trials
        assert driver.ask() is None

    def test_enqueued_configurations_come_first_and_once(self) -> None:
        """A configuration that is enqueued twice is proposed once."""
        rng = np.random.default_rng(3)
        wanted = [self.space.sample(rng) for _ in range(2)]
        proposals = drive(self.fresh(5, enqueue=[*wanted, wanted[0]]))
        assert [proposal.values for proposal in proposals[:2]] == wanted
        assert len(set(keys_of(proposals))) == len(proposals) == 5

    def test_a_finite_space_is_proposed_completely(self) -> None:
        """When all is proposed the search ends, instead of repeating a configuration."""
        if not self.exhausts:
            pytest.skip("this driver does not propose every configuration of a finite space")
        proposals = drive(self.fresh(100, space=FINITE))
        assert sorted(keys_of(proposals)) == sorted(map(proposal_key, FINITE.grid()))

    def test_a_range_with_one_value_is_a_constant(self) -> None:
        """A range whose ends are equal is never searched, whatever its kind."""
        constants = {parameter.name for parameter in SINGLE.parameters if parameter.domain.size == 1}
        driver = self.fresh(4, space=SINGLE)
        known = SINGLE.check({"filters": 5, "batch_size": 16}, "known")
        driver.know(known, outcome_of(known), EPOCHS if self.chooses_epochs else None)
        proposals = drive(driver)
        assert len(proposals) == 3
        for proposal in proposals:
            assert SINGLE.contains(proposal.values), proposal
            assert {name: proposal.values[name] for name in constants} == {
                name: known[name] for name in constants
            }

    def test_known_results_count_as_trials_and_are_not_repeated(self) -> None:
        """A search that is resumed goes on where it stopped."""
        known = 2 * self.trials // 3
        before = drive(self.fresh(self.trials), steps=known)
        driver = self.fresh(self.trials)
        for proposal in before:
            driver.know(proposal.values, outcome_of(proposal.values), proposal.epochs)
        rest = drive(driver)
        assert [proposal.number for proposal in rest] == list(range(known, self.trials))
        assert not set(keys_of(rest)) & set(keys_of(before))

    def test_pruned_trials_count_and_are_not_repeated(self) -> None:
        """Every second trial is pruned. A search that is resumed knows these trials, too."""
        objective = _OBJECTIVES["pareto" if "pareto" in self.kinds else "accuracy"]
        outcomes: dict[Key, Outcome] = {}

        def outcome(values: Values) -> Outcome:
            found = _pruned(costs_of(values)) if len(outcomes) % 2 else outcome_of(values, objective)
            return outcomes.setdefault(proposal_key(values), found)

        before = drive(self.fresh(6, objective), outcome, steps=4)
        driver = self.fresh(6, objective)
        for proposal in before:
            driver.know(proposal.values, outcomes[proposal_key(proposal.values)], proposal.epochs)
        every = [*before, *drive(driver, outcome)]
        assert [proposal.number for proposal in every] == list(range(6))
        assert len(set(keys_of(every))) == 6

    @pytest.mark.parametrize("resumed", [False, True])
    def test_an_accuracy_at_a_rung_is_no_result(self, resumed: bool) -> None:
        """Two searches that differ only in the accuracies at which trials were pruned are the same search."""
        if self.compares_rungs:
            pytest.skip("this driver compares pruned trials by their accuracy at the rung")
        objective = _OBJECTIVES["pareto" if "pareto" in self.kinds else "accuracy"]

        def search(accuracy: float) -> list[Proposal]:
            def outcome(values: Values) -> Outcome:
                good = accuracy_of(values) > 0.87
                return outcome_of(values, objective) if good else _pruned(costs_of(values), accuracy)

            driver = self.fresh(self.trials, objective)
            rng = np.random.default_rng(0)
            for _ in range(self.trials - 2 if resumed else 0):
                known = self.space.sample(rng)
                driver.know(known, outcome(known), EPOCHS if self.chooses_epochs else None)
            return drive(driver, outcome)

        assert search(0.1) == search(0.99)

    def test_learned_results_guide_a_search(self) -> None:
        """Results of another search change what is proposed, or nothing at all."""
        rng = np.random.default_rng(5)
        proposals = []
        for learned in ([], [self.space.sample(rng) for _ in range(6)]):
            driver = self.fresh(self.trials)
            for values in learned:
                driver.learn(values, outcome_of(values))
            proposals.append(drive(driver, steps=2))
        assert (proposals[0] != proposals[1]) == self.learns

    def test_learned_results_neither_count_as_trials_nor_block_a_configuration(self) -> None:
        """The search goes on to its last trial, and can propose what another search has tried."""
        known = SINGLE.check({"filters": 5, "batch_size": 16}, "known")
        wanted = SINGLE.check({"filters": 6, "batch_size": 32}, "enqueue")
        driver = self.fresh(4, space=SINGLE, enqueue=[wanted])
        for values in (wanted, known):
            driver.learn(values, outcome_of(values))
        driver.know(known, outcome_of(known), EPOCHS if self.chooses_epochs else None)
        proposals = drive(driver)
        assert [proposal.number for proposal in proposals] == [1, 2, 3]
        assert proposals[0].values == wanted
        keys = keys_of(proposals)
        assert len({*keys, proposal_key(known, EPOCHS if self.chooses_epochs else None)}) == 4

    @pytest.mark.parametrize("kind", _OBJECTIVES)
    def test_each_kind_of_objective_is_searched(self, kind: str) -> None:
        """A driver searches each of `kinds` and refuses every other one."""
        objective = _OBJECTIVES[kind]
        if kind not in self.kinds:
            with pytest.raises(InputError):
                self.fresh(5, objective)
            return
        assert len(drive(self.fresh(5, objective), lambda values: outcome_of(values, objective))) == 5

    def test_nothing_is_printed_or_logged(
        self, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """A driver leaves the terminal and the log to invact."""
        drive(self.fresh(5))
        out, err = capfd.readouterr()
        assert (out, err, caplog.text) == ("", "", "")
