"""The budget gate, which computes the cost of a network before training and rejects it if it is too high."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from invact.errors import InputError
from invact.measures import Costs, in_full
from invact.networks.widths import network_cost, width_slack
from invact.seeding import derive_seed
from invact.spaces.domains import Choice

if TYPE_CHECKING:
    from invact.config import Config, Scalar
    from invact.cost.count import Cost
    from invact.data.dataset import Dataset
    from invact.search.objectives import Objective
    from invact.spaces.parameters import Parameter
    from invact.spaces.space import SearchSpace

__all__ = ["Feasibility", "Gate", "small_configurations"]

MOST_BUILDS = 100
"""Most networks to build when looking for one within the budgets; also the size of a sample of the space."""

MOST_TIMED = 6
"""Most networks to time; each takes about a second."""


@dataclass(frozen=True)
class Feasibility:
    """How much of a search space is within the budgets, estimated from a random sample.

    Attributes:
        sampled: number of configurations drawn at random from the space.
        within: number of these that are within all counted budgets (all budgets except latency).
        timed: number of these that were timed; 0 without a latency budget.
        fast: number of the timed configurations that are within the latency budget.
    """

    sampled: int
    within: int
    timed: int = 0
    fast: int = 0

    @property
    def share(self) -> float:
        """The estimated share of the space that is within all budgets.

        Example:
            >>> Feasibility(100, 40, timed=8, fast=4).share
            0.2
        """
        return self.within / self.sampled * (self.fast / self.timed if self.timed else 1)

    def __str__(self) -> str:
        """Describe the share in one line, with an exact binomial interval (Clopper and Pearson, 1934).

        Example:
            >>> print(Feasibility(100, 40))
            about 40% of the space is within the budgets (40 of 100 sampled; 95 % interval 30% to 50%)
        """
        from scipy.stats import binomtest

        ends = binomtest(self.within, self.sampled).proportion_ci()
        counted = f"{self.within} of {self.sampled} sampled; 95 % interval {ends.low:.0%} to {ends.high:.0%}"
        timed = f"; of these {self.fast} of {self.timed} that were timed" if self.timed else ""
        return f"about {self.share:.0%} of the space is within the budgets ({counted}{timed})"


@dataclass(frozen=True)
class Gate:
    """Decides before training whether a configuration is within the budgets.

    Attributes:
        space: the search space.
        objective: the objective with its budgets.
        data: the data set; its image shape and number of classes decide the shapes of the networks.
        latency_ms: measures the latency of a configuration's network; None if neither a budget nor the
            objective uses latency.
    """

    space: SearchSpace
    objective: Objective
    data: Dataset
    latency_ms: Callable[[Config], float] | None = None

    def costs(self, config: Config) -> tuple[Cost, Costs]:
        """Count the cost of a configuration, and time its network if latency matters.

        Returns:
            The cost by layer, and the known measures. Latency is missing if the configuration is over a
            counted budget, because it is then rejected anyway.
        """
        cost = self.count(config)
        counted: dict[str, float] = dict(cost.counted)
        if self.latency_ms is None or self.objective.overrun(counted) > 0:
            return cost, counted
        return cost, counted | {"latency_ms": self.latency_ms(config)}

    def known(self, config: Config, costs: Costs) -> dict[str, float]:
        """Return the values for the table of runs that are known before training, by column.

        The columns are the costs; `slack_<measure>`, the unused part of each budget, relative to the budget;
        `overrun`, the largest excess, if there is a budget; and `width_slack`, if the width rule aims at a
        cost.
        """
        slack = self.objective.slack(costs)
        known = dict(costs) | {f"slack_{name}": each for name, each in slack.items()}
        if slack:
            known["overrun"] = self.objective.overrun(costs)
        width = width_slack(config, self.data.input_shape, self.data.classes)
        return known if width is None else known | {"width_slack": width}

    def check(self) -> None:
        """Refuse a space in which no configuration is within the budgets.

        Raises:
            InputError: no configuration was found within the budgets; the message gives the cost of the
                smallest network.
        """
        objective = self.objective
        within: list[tuple[int, Config]] = []
        costs: list[Costs] = []
        for values in itertools.islice(small_configurations(self.space), MOST_BUILDS):
            config = self.space.config(values)
            counted = self.count(config).counted
            costs.append(counted)
            if objective.overrun(counted) <= 0:
                within.append((counted["bytes_moved"], config))
                if "latency_ms" not in objective.budgets:
                    break
        if within:
            # Networks that move fewer bytes are usually faster, so these are timed first. Without a latency
            # budget one network is still timed, to find out now if timing fails.
            quick = sorted(within, key=lambda pair: pair[0])[:MOST_TIMED]
            costs = [self.costs(config)[1] for _, config in quick]
            if any(objective.overrun(each) <= 0 for each in costs):
                return
        smallest = min(costs, key=objective.overrun)
        received = ", ".join(f"max_{name} {value:,}" for name, value in objective.budgets.items())
        named = ", ".join(in_full(name, smallest[name]) for name in objective.budgets if name in smallest)
        raise InputError(
            f"objective: received {received}. Allowed: at least the cost of the smallest network of "
            f"{self.space.source}: {named}"
        )

    def feasibility(self, seed: int, watch: Callable[[list[Config]], Iterable[Config]] = iter) -> Feasibility:
        """Estimate how much of the space is within the budgets, from configurations drawn at random.

        Args:
            seed: seed of the random draws.
            watch: wraps the list of configurations to show progress.
        """
        rng = np.random.default_rng(derive_seed("feasibility", seed))
        drawn = [self.space.config(self.space.sample(rng)) for _ in range(MOST_BUILDS)]
        within = [
            config for config in watch(drawn) if self.objective.overrun(self.count(config).counted) <= 0
        ]
        if "latency_ms" not in self.objective.budgets:
            return Feasibility(len(drawn), len(within))
        timed = within[:MOST_TIMED]
        fast = sum(self.objective.overrun(self.costs(config)[1]) <= 0 for config in watch(timed))
        return Feasibility(len(drawn), len(within), len(timed), fast)

    def count(self, config: Config) -> Cost:
        """Count the cost of a configuration by layer."""
        return network_cost(config, self.data.input_shape, self.data.classes)


def small_configurations(space: SearchSpace) -> Iterator[dict[str, Scalar]]:
    """Yield the candidates for the smallest network of a space.

    The structure (arm, depth, width rule, ...) takes all its values; every other parameter, such as the
    filters, takes its first value.
    """
    structure = {"model", "activation", "depth", "width_rule", "reference", "normalization"}

    def least(parameter: Parameter) -> Parameter:
        if parameter.name.split(".")[0] in structure:
            return parameter
        return replace(parameter, domain=Choice((parameter.domain.bounds[0],)))

    return replace(space, parameters=tuple(map(least, space.parameters))).grid()
