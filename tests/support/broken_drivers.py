"""A driver that keeps its contract, and drivers that break it, each in one way."""

from dataclasses import replace

from invact.errors import InputError
from invact.search.drivers import Proposal
from invact.search.drivers.ledger import Ledger, proposal_key
from invact.training.results import Status


class Driver:
    """A sound driver: random configurations."""

    def __init__(self, space, objective, seed, trials, enqueue):
        self.ledger = Ledger(space, seed, trials, enqueue)

    def learn(self, values, outcome):
        pass

    def know(self, values, outcome, epochs=None):
        self.ledger.record(proposal_key(values, epochs))

    def ask(self):
        if self.ledger.exhausted:
            return None
        values = self.ledger.dequeue() or self.ledger.unseen()
        return None if values is None else self.ledger.propose(values)

    def tell(self, proposal, outcome):
        pass


class Repeats(Driver):
    def ask(self):
        proposal = super().ask()
        self.first = getattr(self, "first", proposal)
        return proposal and replace(proposal, values=self.first.values)


class CountsFromOne(Driver):
    def ask(self):
        proposal = super().ask()
        return proposal and replace(proposal, number=proposal.number + 1)


class LeavesTheSpace(Driver):
    def ask(self):
        proposal = super().ask()
        return proposal and replace(proposal, values=proposal.values | {"filters": 1})


class NeverEnds(Driver):
    def __init__(self, space, objective, seed, trials, enqueue):
        super().__init__(space, objective, seed, 10**6, enqueue)


class IgnoresTheSeed(Driver):
    def __init__(self, space, objective, seed, trials, enqueue):
        super().__init__(space, objective, 0, trials, enqueue)


class HasNoSeed(Driver):
    made = 0

    def __init__(self, space, objective, seed, trials, enqueue):
        HasNoSeed.made += 1
        super().__init__(space, objective, self.made, trials, enqueue)


class EndsAfterAFailure(Driver):
    failed = False

    def ask(self):
        return None if self.failed else super().ask()

    def tell(self, proposal, outcome):
        self.failed = outcome.status is Status.FAILED


class WaitsForResults(Driver):
    pending = False

    def ask(self):
        if self.pending:
            return None
        self.pending = True
        return super().ask()

    def tell(self, proposal, outcome):
        self.pending = False


class ForgetsTheQueue(Driver):
    def __init__(self, space, objective, seed, trials, enqueue):
        super().__init__(space, objective, seed, trials, ())


class ForgetsKnownResults(Driver):
    def know(self, values, outcome, epochs=None):
        pass


class CountsWhatItLearns(Driver):
    def learn(self, values, outcome):
        self.ledger.count += 1


class NeverProposesWhatItLearns(Driver):
    def learn(self, values, outcome):
        self.ledger._seen.add(proposal_key(values))


class IsMovedByWhatItLearns(Driver):
    """It declares that it learns nothing."""

    def learn(self, values, outcome):
        self.ledger.unseen()


class RepeatsASmallSpace(Driver):
    def ask(self):
        proposal = super().ask()
        if proposal is None and not self.ledger.exhausted:
            return Proposal(self.ledger.record(("again", None)), {}, None)
        return proposal


class TakesARungForTheEnd(Driver):
    """A good accuracy changes what it proposes next, whatever the status is."""

    def tell(self, proposal, outcome):
        if (outcome.accuracy or 0) > 0.95:
            self.ledger.unseen()


class ForgetsPrunedTrials(Driver):
    def know(self, values, outcome, epochs=None):
        if outcome.status is not Status.PRUNED:
            super().know(values, outcome, epochs)


class Prints(Driver):
    def ask(self):
        print("asked")
        return super().ask()


class RefusesAPareto(Driver):
    def __init__(self, space, objective, seed, trials, enqueue):
        if objective.kind == "pareto":
            raise InputError("kind: received 'pareto'. Allowed: accuracy")
        super().__init__(space, objective, seed, trials, enqueue)


DRIVERS = [
    (Repeats, "test_proposals_are_valid_and_numbered_and_differ"),
    (CountsFromOne, "test_proposals_are_valid_and_numbered_and_differ"),
    (LeavesTheSpace, "test_proposals_are_valid_and_numbered_and_differ"),
    (NeverEnds, "test_proposals_are_valid_and_numbered_and_differ"),
    (LeavesTheSpace, "test_a_range_with_one_value_is_a_constant"),
    (HasNoSeed, "test_the_same_seed_gives_the_same_proposals"),
    (IgnoresTheSeed, "test_another_seed_gives_other_proposals"),
    (EndsAfterAFailure, "test_a_search_without_any_accuracy_ends"),
    (EndsAfterAFailure, "test_failures_do_not_end_a_search"),
    (WaitsForResults, "test_several_proposals_may_be_pending"),
    (ForgetsTheQueue, "test_enqueued_configurations_come_first_and_once"),
    (CountsWhatItLearns, "test_learned_results_neither_count_as_trials_nor_block_a_configuration"),
    (NeverProposesWhatItLearns, "test_learned_results_neither_count_as_trials_nor_block_a_configuration"),
    (IsMovedByWhatItLearns, "test_learned_results_guide_a_search"),
    (RepeatsASmallSpace, "test_a_finite_space_is_proposed_completely"),
    (ForgetsKnownResults, "test_known_results_count_as_trials_and_are_not_repeated"),
    (NeverEnds, "test_each_kind_of_objective_is_searched"),
    (ForgetsPrunedTrials, "test_pruned_trials_count_and_are_not_repeated"),
    (TakesARungForTheEnd, "test_an_accuracy_at_a_rung_is_no_result"),
    (Prints, "test_nothing_is_printed_or_logged"),
]
