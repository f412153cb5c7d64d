"""The keys of a sweep's pruner, and the `Pruning`, which applies its rule to the sweep's objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from invact.errors import InputError
from invact.search.halving import Arrival, SuccessiveHalving, noise
from invact.tracking.decisions import Decision
from invact.training.results import Status
from invact.validation import Frozen

if TYPE_CHECKING:
    import pandas as pd

    from invact.execution.agenda import Trial
    from invact.search.objectives import Objective
    from invact.spaces.space import SearchSpace

__all__ = ["Pruner", "Pruning", "check_pruner", "saved", "shorthand"]


class Pruner(Frozen):
    """Which trainings of a sweep stop early.

    Attributes:
        kind: the rule, asynchronous successive halving; see `invact.search.halving.SuccessiveHalving`.
        first: epoch of the first rung. At a rung, a training stops if too many others are better there.
        eta: each rung is `eta` times as late as the one before, and about one of `eta` trainings goes on.
        slack: difference of accuracy, a fraction, that counts as equal in a comparison of accuracy and cost;
            None takes `invact.search.halving.noise` of the number of validation images.

    Example:
        >>> rule = Pruner(first=2).rule(20, images=10_000)
        >>> rule.rungs, rule.slack
        ((2, 6, 18), 0.005)
    """

    kind: Literal["successive_halving"] = "successive_halving"
    first: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 1
    eta: Annotated[int, Field(strict=True, ge=2, le=100)] = 3
    slack: Annotated[float, Field(strict=True, ge=0, lt=1)] | None = None

    def rule(self, epochs: int, images: int) -> SuccessiveHalving:
        """Return the rule for trainings of a number of epochs, measured on a number of validation images."""
        slack = noise(images) if self.slack is None else self.slack
        return SuccessiveHalving(epochs=epochs, first=self.first, eta=self.eta, slack=slack)


def shorthand(value: object) -> object:
    """Convert the short form of the key `pruner`: the name of a kind, or "none".

    Example:
        >>> shorthand("successive_halving"), shorthand("none"), shorthand({"eta": 4})
        ({'kind': 'successive_halving'}, None, {'eta': 4})
    """
    if value == "none":
        return None
    return {"kind": value} if isinstance(value, str) else value


def check_pruner(pruner: Pruner, sampler: str, space: SearchSpace, epochs: int) -> None:
    """Check that a pruner fits the rest of a sweep.

    Args:
        pruner: the pruner.
        sampler: the sampler of the driver.
        space: the search space.
        epochs: epochs of a whole training.

    Raises:
        InputError: the sampler stops trainings itself, the space searches epochs, or the first rung is not
            before the last epoch.
    """
    received = f'pruner: received "{pruner.kind}"'
    if sampler == "hyperband":
        raise InputError(
            f'{received} with sampler = "hyperband". Allowed: another sampler, or pruner = "none", because '
            "hyperband decides itself how many epochs a configuration gets"
        )
    if any(each.name == "epochs" and (each.domain.size > 1 or each.when) for each in space.parameters):
        raise InputError(
            f"{received} on a space that searches epochs. Allowed: fix epochs in the space or in [config], "
            "because only trainings of equal length can be compared at a rung"
        )
    if "first" in pruner.model_fields_set and pruner.first >= epochs:
        raise InputError(f"pruner.first: received {pruner.first}. Allowed: less than the {epochs} epochs")


@dataclass(frozen=True)
class Pruning:
    """The `invact.execution.race.Referee` of a sweep.

    With the kinds `pareto` and `cost`, trainings compete in accuracy and cost, because the winner of `cost`
    is a point of the front. With the other kinds they compete in the objective's value.

    Attributes:
        pruner: the keys of the file.
        objective: the goal of the search.
        epochs: epochs of a whole training.
        images: number of validation images.
    """

    pruner: Pruner
    objective: Objective
    epochs: int
    images: int

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs at whose end is decided; never the last epoch."""
        return self.pruner.rule(self.epochs, self.images).rungs

    def decide(self, earlier: Sequence[Decision], trial: Trial, epoch: int, accuracy: float) -> Decision:
        """Decide whether a trial goes on; see `invact.execution.race.Referee`."""
        rule = self.pruner.rule(self.epochs, self.images)
        if epoch == self.epochs:
            # More seeds are a longer training, in which the last epoch of the first seed is a rung.
            rule = replace(rule, epochs=epoch + 1, first=epoch)
        cost = None
        if self.objective.kind in ("pareto", "cost"):
            cost = float(trial.known[self.objective.cost])
            value = float(accuracy)
        else:
            (value,) = map(float, self.objective.values(accuracy, trial.known))
        arrivals = [
            Arrival(one.trial, epoch, one.accuracy, one.cost) for one in earlier if one.epoch == epoch
        ]
        goes_on = rule.goes_on(arrivals, Arrival(trial.number, epoch, value, cost))
        return Decision(len(earlier), trial.number, epoch, value, cost, bool(goes_on))


def saved(table: pd.DataFrame, epochs: int) -> str:
    """Say in one line how many configurations of a table of runs were pruned, and what this saved.

    Args:
        table: the table of runs of a sweep.
        epochs: epochs of a whole training.

    Example:
        >>> import pandas as pd
        >>> statuses = ["FINISHED", "PRUNED", "OVER_BUDGET"]
        >>> saved(pd.DataFrame({"trial": [0, 1, 2], "status": statuses, "epochs": [9, 1, 0]}), 9)
        '1 of 2 configurations were pruned, which saved 8 of 18 epochs (44%)'
    """
    trained = table[~table["status"].isin([Status.OVER_BUDGET, Status.FAILED])]
    pruned = trained[trained["status"] == Status.PRUNED]
    total = epochs * len(trained)
    left = int(epochs * len(pruned) - pruned["epochs"].sum())
    share = f" ({left / total:.0%})" if total else ""
    few, every = pruned["trial"].nunique(), trained["trial"].nunique()
    return f"{few} of {every} configurations were pruned, which saved {left:,} of {total:,} epochs{share}"
