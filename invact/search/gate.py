"""The budget gate, which computes the cost of a network before training and rejects it if it is too high."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from invact.errors import InputError, within
from invact.measures import Costs, in_full
from invact.networks.widths import network_cost, width_slack
from invact.search.small import lowered, neighbours, small_part, smallest
from invact.seeding import derive_seed

if TYPE_CHECKING:
    from invact.config import Config, Scalar
    from invact.cost.count import Cost
    from invact.data.dataset import Dataset
    from invact.search.objectives import Objective
    from invact.spaces.space import SearchSpace, Values

__all__ = ["Feasibility", "Gate"]

MOST_BUILDS = 100
"""Most small networks of a space to build one by one, and the size of a sample of the space. If the sample
has no network within the budgets, as many again are built around its best one."""

MOST_TIMED = 6
"""Most networks to time; each takes about a second."""


@dataclass(frozen=True)
class Feasibility:
    """How much of a search space is within the budgets, estimated from a random sample.

    With a latency budget, the share is the product of two shares: that of the sample which is within the
    counted budgets (all budgets except latency), and that of the timed configurations which are fast enough.

    Attributes:
        sampled: number of configurations drawn at random from the space.
        within: number of these that are within all counted budgets.
        timed: number of these that were timed, in the order of the draws; None without a latency budget.
        fast: number of the timed configurations that are within the latency budget.
    """

    sampled: int
    within: int
    timed: int | None = None
    fast: int = 0

    @property
    def share(self) -> float:
        """The estimated share of the space that is within all budgets.

        Example:
            >>> Feasibility(100, 40, timed=8, fast=4).share
            0.2
        """
        return self.within / self.sampled * (self.fast / self.timed if self.timed else 1)

    @property
    def interval(self) -> tuple[float, float]:
        """A 95 % interval of the share, which covers the true share at least that often.

        Formula:
            The interval of a share is exact (Clopper and Pearson, 1934). With a latency budget, each of the
            two shares has a 97.5 % interval. By Bonferroni's inequality, both contain their true shares in at
            least 95 % of the cases, and then the products of the lower and of the upper ends contain the
            product.

        Example:
            >>> print(*(f"{end:.3f}" for end in Feasibility(100, 40, timed=8, fast=4).interval))
            0.037 0.450
        """
        if self.timed is None:
            return _ends(self.within, self.sampled, 0.95)
        counted, timed = _ends(self.within, self.sampled, 0.975), _ends(self.fast, self.timed, 0.975)
        return counted[0] * timed[0], counted[1] * timed[1]

    def __str__(self) -> str:
        """Describe the share, its interval and the counts that both come from, in one line.

        Example:
            >>> print(Feasibility(100, 40))
            about 40% of the space is within the budgets (95 % interval 30% to 50%; 40 of 100 sampled)
        """
        counts = f"{self.within} of {self.sampled} sampled"
        if self.timed is not None:
            counts += f" are within the counted budgets, {self.fast} of {self.timed} timed are fast enough"
        low, high = self.interval
        ends = f"95 % interval {low:.0%} to {high:.0%}"
        return f"about {self.share:.0%} of the space is within the budgets ({ends}; {counts})"


def _ends(count: int, total: int, confidence: float) -> tuple[float, float]:
    """Return the interval of Clopper and Pearson, from quantiles of beta distributions."""
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, count, total - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - tail, count + 1, total - count)) if count < total else 1.0
    return low, high


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

    def check(self, seed: int = 0) -> None:
        """Refuse a space in which no configuration is within the budgets.

        If the small networks of the space are few, they decide. If they are many, the gate looks at the
        configurations that `feasibility` draws, each with the fewest filters, and then changes single
        parameters of the best one. If latency matters, it also times one network with each activation, to
        find out before any training that the runtime cannot run it.

        Args:
            seed: seed of the random draws. If this method finds no configuration within the budgets,
                `feasibility` with the same seed finds none either.

        Raises:
            InputError: no configuration was found within the budgets, or the runtime cannot run a network.
                The message gives the cost of the smallest network, and says how many networks were looked at
                unless it is certain that none is smaller.
        """
        seen, certain = self._look(seed)
        fitting = [each for each in seen if self._overrun(each) <= 0]
        if fitting and self.latency_ms is None:
            return
        if not fitting:
            which = "the smallest network" if certain else f"the smallest of {len(seen)} networks"
            raise self._refusal(which, seen, "" if certain else " that were looked at")
        timed: list[_Seen] = []
        for config in self._to_time(fitting, seed):
            with within("activation " + " and ".join(dict.fromkeys(config.activations))):
                timed.append(_Seen(config, self.costs(config)[1]))
        if min(map(self._overrun, timed)) > 0:
            raise self._refusal(f"the fastest of {len(timed)} networks", timed, " that were timed")

    def _look(self, seed: int) -> tuple[list[_Seen], bool]:
        """Count networks until one is within the budgets; also tell whether no other network is smaller."""
        part = small_part(self.space)
        if part.size() <= MOST_BUILDS:
            return list(self._until_within(part.grid())), True
        known: set[tuple[tuple[str, Scalar], ...]] = set()

        def new(candidates: Iterable[Values]) -> Iterator[Values]:
            for values in candidates:
                if (key := tuple(sorted(values.items()))) not in known:
                    known.add(key)
                    yield values

        draws = (lowered(part, values) for values in self._drawn(seed))
        seen = list(self._until_within(new(itertools.chain([smallest(part)], draws))))
        best = min(seen, key=self._overrun)
        while self._overrun(best) > 0 and len(seen) < 2 * MOST_BUILDS:
            near = itertools.islice(new(neighbours(part, best.values)), 2 * MOST_BUILDS - len(seen))
            seen += self._until_within(near)
            if self._overrun(better := min(seen, key=self._overrun)) >= self._overrun(best):
                break
            best = better
        return seen, False

    def _until_within(self, candidates: Iterable[Values]) -> Iterator[_Seen]:
        """Count networks; if latency does not matter, stop at the first one that is within the budgets."""
        for values in candidates:
            config = self.space.config(values)
            seen = _Seen(config, self.count(config).counted, values)
            yield seen
            if self._overrun(seen) <= 0 and self.latency_ms is None:
                return

    def _overrun(self, seen: _Seen) -> float:
        return self.objective.overrun(seen.costs)

    def _to_time(self, fitting: list[_Seen], seed: int) -> Iterator[Config]:
        """Yield one network of each kind, and with a budget of latency others, until one is fast enough."""
        # Networks that move fewer bytes are usually faster.
        quick = [each.config for each in sorted(fitting, key=lambda each: each.costs["bytes_moved"])]
        first = list(_one_of_each(quick))
        yield from first
        if "latency_ms" not in self.objective.budgets:
            return
        drawn = (self.space.config(values) for values in self._drawn(seed))
        affordable = (each for each in drawn if self.objective.overrun(self.count(each).counted) <= 0)
        rest = itertools.chain(quick[:MOST_TIMED], itertools.islice(affordable, MOST_TIMED))
        # The costs of the yielded networks are known by now, so that none is timed again.
        if all(map(self._slow, first)):
            for config in rest:
                if config not in first:
                    yield config
                    if not self._slow(config):
                        return

    def _slow(self, config: Config) -> bool:
        return self.objective.overrun(self.costs(config)[1]) > 0

    def _refusal(self, which: str, seen: Sequence[_Seen], how: str) -> InputError:
        least = min(seen, key=self._overrun).costs
        budgets = self.objective.budgets
        received = ", ".join(f"max_{name} {value:,}" for name, value in budgets.items())
        named = ", ".join(in_full(name, least[name]) for name in budgets if name in least)
        return InputError(
            f"objective: received {received}. Allowed: at least the cost of {which} of "
            f"{self.space.source}{how}: {named}"
        )

    def _drawn(self, seed: int) -> list[dict[str, Scalar]]:
        rng = np.random.default_rng(derive_seed("feasibility", seed))
        return [self.space.sample(rng) for _ in range(MOST_BUILDS)]

    def feasibility(self, seed: int, watch: Callable[[list[Config]], Iterable[Config]] = iter) -> Feasibility:
        """Estimate how much of the space is within the budgets, from configurations drawn at random.

        Args:
            seed: seed of the random draws.
            watch: wraps the list of configurations to show progress.
        """
        drawn = [self.space.config(values) for values in self._drawn(seed)]
        fitting = [
            config for config in watch(drawn) if self.objective.overrun(self.count(config).counted) <= 0
        ]
        if "latency_ms" not in self.objective.budgets:
            return Feasibility(len(drawn), len(fitting))
        timed = fitting[:MOST_TIMED]
        fast = sum(not self._slow(config) for config in watch(timed))
        return Feasibility(len(drawn), len(fitting), len(timed), fast)

    def count(self, config: Config) -> Cost:
        """Count the cost of a configuration by layer."""
        return network_cost(config, self.data.input_shape, self.data.classes)


@dataclass(frozen=True)
class _Seen:
    """A configuration with its costs, and its values in the space."""

    config: Config
    costs: Costs
    values: Values = field(default_factory=dict)


def _one_of_each(configs: Iterable[Config]) -> Iterator[Config]:
    """Yield the first configuration, and those that bring another builder, arm or kind of layer."""
    known: set[tuple[str, object]] = set()
    for config in configs:
        new = {("activation", arm) for arm in config.activations}
        new |= {(name, getattr(config, name)) for name in ("model", "normalization", "precision")}
        if new - known:
            yield config
        known |= new
