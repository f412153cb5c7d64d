"""The budget gate: what a network costs is known before any training, and decides whether there is one."""

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
"""How many networks to build at most in search of one within the budgets, and to sample a space."""

MOST_TIMED = 6
"""How many networks to time at most, each of which takes about a second."""


@dataclass(frozen=True)
class Feasibility:
    """How much of a search space is within the budgets, by a sample.

    Attributes:
        sampled: configurations drawn, each evenly over the space.
        within: how many are within the budgets that are counted.
        timed: how many of those were timed; 0 without a budget of time.
        fast: how many of those are within it.
    """

    sampled: int
    within: int
    timed: int = 0
    fast: int = 0

    @property
    def share(self) -> float:
        """Estimated share of the space that is within all budgets.

        Example:
            >>> Feasibility(100, 40, timed=8, fast=4).share
            0.2
        """
        return self.within / self.sampled * (self.fast / self.timed if self.timed else 1)

    def __str__(self) -> str:
        """Say it in one line, with an exact binomial interval (Clopper and Pearson, 1934).

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
    """What decides before any training whether a configuration is within the budgets.

    Attributes:
        space: what is searched.
        objective: its budgets.
        data: the data set, for the networks' shapes.
        latency_ms: times the network of a configuration; None where no budget or objective asks for it.
    """

    space: SearchSpace
    objective: Objective
    data: Dataset
    latency_ms: Callable[[Config], float] | None = None

    def costs(self, config: Config) -> tuple[Cost, Costs]:
        """Count what a configuration costs; time it too where that decides.

        Returns:
            The cost by layer, and all measures known: latency only of what is within the counted budgets.
        """
        cost = self._count(config)
        counted: dict[str, float] = dict(cost.counted)
        if self.latency_ms is None or self.objective.overrun(counted) > 0:
            return cost, counted
        return cost, counted | {"latency_ms": self.latency_ms(config)}

    def known(self, config: Config, costs: Costs) -> dict[str, float]:
        """What the table of runs says of a configuration before any training, by column.

        Its costs; `slack_<measure>`, what each budget leaves over, relative to it; `overrun`, the largest
        excess, where there is a budget; `width_slack`, where the width rule aims at a cost.
        """
        slack = self.objective.slack(costs)
        known = dict(costs) | {f"slack_{name}": each for name, each in slack.items()}
        if slack:
            known["overrun"] = self.objective.overrun(costs)
        width = width_slack(config, self.data.input_shape, self.data.classes)
        return known if width is None else known | {"width_slack": width}

    def check(self) -> None:
        """Refuse a space of which no configuration is within the budgets.

        Raises:
            InputError: says what the smallest network costs.
        """
        objective = self.objective
        within: list[tuple[int, Config]] = []
        costs: list[Costs] = []
        for values in itertools.islice(small_configurations(self.space), MOST_BUILDS):
            config = self.space.config(values)
            counted = self._count(config).counted
            costs.append(counted)
            if objective.overrun(counted) <= 0:
                within.append((counted["bytes_moved"], config))
                if "latency_ms" not in objective.budgets:
                    break
        if within:
            # The fewer bytes a network moves, the sooner it has done so, as a rule. Where time has no budget
            # one is timed all the same: what cannot be timed at all is found out now.
            quick = sorted(within, key=lambda pair: pair[0])[:MOST_TIMED]
            costs = [self.costs(config)[1] for _, config in quick]
            if any(objective.overrun(each) <= 0 for each in costs):
                return
        smallest = min(costs, key=objective.overrun)
        received = ", ".join(f"max_{name} {value:,}" for name, value in objective.budgets.items())
        named = ", ".join(in_full(name, smallest[name]) for name in objective.budgets if name in smallest)
        raise InputError(
            f"objective: received {received}. Allowed: at least the smallest network of "
            f"{self.space.source}: {named}"
        )

    def feasibility(self, seed: int, watch: Callable[[list[Config]], Iterable[Config]] = iter) -> Feasibility:
        """Estimate how much of the space is within the budgets, from configurations drawn at random.

        Args:
            seed: of the draws.
            watch: shows progress along what it is given.
        """
        rng = np.random.default_rng(derive_seed("feasibility", seed))
        drawn = [self.space.config(self.space.sample(rng)) for _ in range(MOST_BUILDS)]
        within = [
            config for config in watch(drawn) if self.objective.overrun(self._count(config).counted) <= 0
        ]
        if "latency_ms" not in self.objective.budgets:
            return Feasibility(len(drawn), len(within))
        timed = within[:MOST_TIMED]
        fast = sum(self.objective.overrun(self.costs(config)[1]) <= 0 for config in watch(timed))
        return Feasibility(len(drawn), len(within), len(timed), fast)

    def _count(self, config: Config) -> Cost:
        return network_cost(config, self.data.input_shape, self.data.classes)


def small_configurations(space: SearchSpace) -> Iterator[dict[str, Scalar]]:
    """Yield what could be the space's smallest network: least filters, with every arm, depth and rule."""
    structure = {"model", "activation", "depth", "width_rule", "reference", "normalization"}

    def least(parameter: Parameter) -> Parameter:
        if parameter.name.split(".")[0] in structure:
            return parameter
        return replace(parameter, domain=Choice((parameter.domain.bounds[0],)))

    return replace(space, parameters=tuple(map(least, space.parameters))).grid()
