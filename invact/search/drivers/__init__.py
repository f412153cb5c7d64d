"""Drivers, which propose configurations: the `Driver` protocol, `make_driver`, and one module per library.

A driver knows the space and the objective, but no models and no records. Importing this module imports
neither Optuna nor Keras Tuner; `make_driver` imports the library it needs.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from invact.errors import EnvironmentFault, InputError, one_of
from invact.files import install

if TYPE_CHECKING:
    from invact.measures import Costs
    from invact.search.objectives import Objective
    from invact.spaces.space import SearchSpace, Values
    from invact.training.results import Status

__all__ = ["DRIVERS", "LEARNING", "Driver", "Outcome", "Proposal", "check_sampler", "make_driver"]

DRIVERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "optuna": ("tpe", "nsga2", "nsga3", "random", "qmc", "grid", "gp", "cmaes"),
        "keras_tuner": ("random", "bayesian", "hyperband", "grid"),
    }
)
"""The samplers of each driver; the first is the default."""

LEARNING: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"optuna": ("tpe", "nsga2", "nsga3", "gp", "cmaes"), "keras_tuner": ("bayesian",)}
)
"""The samplers whose proposals depend on results that they did not propose. `hyperband` has a fixed plan."""

_EXTRAS = {"gp": "torch", "cmaes": "cmaes"}


@dataclass(frozen=True)
class Proposal:
    """A configuration to try.

    Attributes:
        number: position in the order of proposals, from 0. Results of earlier sessions are counted too.
        values: values of the active parameters of the space.
        epochs: number of epochs that hyperband chose; None if the configuration decides.
    """

    number: int
    values: Values
    epochs: int | None = None


@dataclass(frozen=True)
class Outcome:
    """The result of a proposal.

    Attributes:
        status: how the trial ended.
        costs: costs of the network by measure. They are empty if the model could not be built, and without
            latency if the network was over a counted budget.
        accuracy: mean validation accuracy over the seeds; None if it was not measured. With status PRUNED it
            is the accuracy of the first seed after `epochs` epochs, which must not be taken for a result.
        epochs: with status PRUNED, the number of epochs after which the training stopped.
    """

    status: Status
    costs: Costs
    accuracy: float | None = None
    epochs: int | None = None


class Driver(Protocol):
    """Proposes configurations and receives their results, in any order; several proposals can be pending.

    No configuration is proposed twice. A result of an earlier session counts as one of the trials.
    """

    def learn(self, values: Values, outcome: Outcome) -> None:
        """Receive a result of another search. Call this before the first `know` and the first `ask`.

        It guides the proposals of a sampler in `LEARNING`, and has no effect on the others. It does not count
        as a trial, and the configuration can still be proposed.
        """

    def know(self, values: Values, outcome: Outcome, epochs: int | None = None) -> None:
        """Receive a result of an earlier session. Call this before the first `ask`."""

    def ask(self) -> Proposal | None:
        """Propose a configuration; None if there is none now. If none is pending, the search is over."""

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Receive the result of a pending proposal."""


def make_driver(
    name: str,
    sampler: str,
    space: SearchSpace,
    objective: Objective,
    seed: int,
    trials: int,
    enqueue: Sequence[Values] = (),
    epochs: int | None = None,
) -> Driver:
    """Make a driver.

    Args:
        name: a key of `DRIVERS`.
        sampler: one of the driver's samplers.
        space: the search space.
        objective: the goal of the search and its budgets.
        seed: seed of the sampler. The same seed, results and order of calls give the same proposals.
        trials: most proposals, including results of earlier sessions.
        enqueue: configurations to try first; constants of the space may be left out.
        epochs: with hyperband, the most epochs of a training.

    Raises:
        InputError: a name is unknown, or the sampler cannot search this space for this objective.
        EnvironmentFault: the optional package of the sampler is not installed.

    Example:
        >>> from invact.search.objectives import Objective
        >>> from invact.spaces.space import load_space
        >>> make_driver("optuna", "tpee", load_space("cnn"), Objective(), seed=0, trials=5)
        Traceback (most recent call last):
        ...
        invact.errors.InputError: sampler: received 'tpee'; did you mean 'tpe'? Allowed: tpe, ...
    """
    if name not in DRIVERS:
        raise one_of("driver", name, DRIVERS)
    check_sampler(name, sampler)
    if trials < 1:
        raise InputError(f"trials: received {trials}. Allowed: at least 1")
    _check_fit(sampler, space, objective, epochs)
    module = _EXTRAS.get(sampler)
    if module and importlib.util.find_spec(module) is None:
        raise EnvironmentFault(f"sampler {sampler!r} needs {module}: {install(sampler)}")
    ready = tuple(space.check(values, f"enqueue[{index}]") for index, values in enumerate(enqueue))
    driver: Driver = importlib.import_module(f"invact.search.drivers.{name}").make(
        sampler, space, objective, seed, trials, ready, epochs
    )
    return driver


def check_sampler(driver: str, sampler: str) -> None:
    """Check that a driver has a sampler.

    Raises:
        InputError: the sampler is unknown, or belongs to another driver.

    Example:
        >>> check_sampler("keras_tuner", "tpe")
        Traceback (most recent call last):
        ...
        invact.errors.InputError: sampler: received 'tpe', a sampler of optuna. Allowed: ...
    """
    if sampler in DRIVERS[driver]:
        return
    for other, samplers in DRIVERS.items():
        if sampler in samplers:
            raise InputError(
                f'sampler: received {sampler!r}, a sampler of {other}. Allowed: driver = "{other}", or a '
                f"sampler of {driver}: {', '.join(DRIVERS[driver])}"
            )
    raise one_of("sampler", sampler, DRIVERS[driver])


def _check_fit(sampler: str, space: SearchSpace, objective: Objective, epochs: int | None) -> None:
    if sampler == "grid":
        space.grid()
    if sampler == "cmaes":
        if len(objective.directions) > 1:
            raise InputError(
                f'sampler: received "cmaes" with kind = "{objective.kind}". '
                "Allowed: cmaes with a single objective; for a Pareto front use tpe, nsga2, nsga3 or gp"
            )
        ranges = [
            parameter.name
            for parameter in space.parameters
            if hasattr(parameter.domain, "low") and parameter.domain.size > 1 and not parameter.when
        ]
        if len(ranges) < 2:
            raise InputError(
                f'sampler: received "cmaes" on a space with {len(ranges)} unconditional ranges of numbers '
                f"({', '.join(ranges) or 'none'}). Allowed: at least 2; choices do not count"
            )
    if sampler == "hyperband":
        if epochs is None or epochs < 1:
            raise InputError(f"epochs: received {epochs}. Allowed with hyperband: at least 1")
        searched = [
            p.name for p in space.parameters if p.name == "epochs" and not math.isclose(p.domain.size, 1)
        ]
        if searched:
            raise InputError(
                'sampler: received "hyperband" on a space that searches epochs. Allowed: fix epochs in '
                "the space, because hyperband chooses the epochs of each trial"
            )
