"""Domains: the allowed values of one parameter, and how to draw one with NumPy, Optuna or Keras Tuner."""

# ruff: noqa: D102, N802 - the two protocols repeat method names of Optuna and Keras Tuner.
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from invact.config import Scalar

__all__ = ["Choice", "Domain", "Integers", "KerasTunerHyperParameters", "OptunaTrial", "Reals"]


class OptunaTrial(Protocol):
    """The methods of an Optuna trial that a domain uses; a `FixedTrial` has them too."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...
    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...


class KerasTunerHyperParameters(Protocol):
    """The methods of Keras Tuner's `HyperParameters` that a domain uses."""

    def Choice(self, name: str, values: list[Any], ordered: bool | None = None) -> Any: ...
    def Boolean(self, name: str, default: bool = False) -> Any: ...
    def Fixed(self, name: str, value: Any) -> Any: ...
    def Int(
        self, name: str, min_value: int, max_value: int, step: int | None = None, sampling: str = "linear"
    ) -> Any: ...
    def Float(self, name: str, min_value: float, max_value: float, *, sampling: str = "linear") -> Any: ...
    def conditional_scope(self, parent_name: str, parent_values: list[Any]) -> Any: ...


class Domain(Protocol):
    """The allowed values of one parameter."""

    @property
    def size(self) -> float:
        """Number of values; infinity for an interval."""

    @property
    def bounds(self) -> tuple[Scalar, Scalar]:
        """The smallest and the largest value; of text and of truth values, the first and the last."""

    def __contains__(self, value: object) -> bool: ...
    def __str__(self) -> str: ...

    def values(self) -> Sequence[Scalar]:
        """List the values in order; `size` must be finite."""

    def coerce(self, value: Any) -> Any:
        """Convert a value to the type of this domain: an integer becomes a real in a domain of reals."""

    def sample(self, rng: np.random.Generator) -> Scalar:
        """Draw a value."""

    def suggest(self, name: str, trial: OptunaTrial) -> Scalar:
        """Ask an Optuna trial for a value."""

    def declare(self, name: str, hp: KerasTunerHyperParameters) -> Scalar | None:
        """Ask Keras Tuner for a value; None if the parameter is inactive."""


def _as_real(value: Any) -> Any:
    return float(value) if type(value) is int else value


@dataclass(frozen=True)
class Choice:
    """A list of values of one type. A single value is a constant, and no sampler is asked for it.

    Example:
        >>> "relu" in Choice(("relu", "elu")), True in Choice((0, 1))
        (True, False)
    """

    options: tuple[Scalar, ...]

    @property
    def size(self) -> float:
        """Number of values."""
        return len(self.options)

    @property
    def bounds(self) -> tuple[Scalar, Scalar]:
        """The smallest and the largest value; of text and of truth values, the first and the last."""
        numbers = [option for option in self.options if type(option) in (int, float)]
        ordered = sorted(numbers) if numbers else self.options
        return ordered[0], ordered[-1]

    def __contains__(self, value: object) -> bool:
        # In Python True == 1 == 1.0, but a configuration keeps these values apart.
        return type(value) is type(self.options[0]) and value in self.options

    def __str__(self) -> str:
        return ", ".join(map(repr, self.options))

    def values(self) -> Sequence[Scalar]:
        """List the values in order."""
        return self.options

    def coerce(self, value: Any) -> Any:
        """Convert an integer to a real if the options are reals."""
        return _as_real(value) if isinstance(self.options[0], float) else value

    def sample(self, rng: np.random.Generator) -> Scalar:
        """Draw a value."""
        return self.options[int(rng.integers(len(self.options)))]

    def suggest(self, name: str, trial: OptunaTrial) -> Scalar:
        """Ask an Optuna trial for a value."""
        if len(self.options) == 1:
            return self.options[0]
        value: Scalar = trial.suggest_categorical(name, self.options)
        return value

    def declare(self, name: str, hp: KerasTunerHyperParameters) -> Scalar | None:
        """Ask Keras Tuner for a value."""
        value: Scalar | None
        if len(self.options) == 1:
            value = hp.Fixed(name, self.options[0])
        elif isinstance(self.options[0], bool):  # `hp.Choice` would convert them to 0 and 1.
            value = hp.Boolean(name)
        else:
            value = hp.Choice(name, list(self.options))
        return value


@dataclass(frozen=True)
class Integers:
    """The integers low, low + step, ..., high; with `log` they are drawn uniformly on a logarithmic scale.

    A single value is a constant, and no sampler is asked for it.

    Example:
        >>> list(Integers(4, 16, 4).values())
        [4, 8, 12, 16]
    """

    low: int
    high: int
    step: int = 1
    log: bool = False

    @property
    def size(self) -> float:
        """Number of values."""
        return len(self.values())

    @property
    def bounds(self) -> tuple[Scalar, Scalar]:
        """The smallest and the largest value."""
        return self.low, self.values()[-1]

    def __contains__(self, value: object) -> bool:
        return type(value) is int and value in self.values()

    def __str__(self) -> str:
        return f"integers from {self.low} to {self.high}" + (
            f" in steps of {self.step}" if self.step > 1 else ""
        )

    def values(self) -> Sequence[int]:
        """List the values in order."""
        return range(self.low, self.high + 1, self.step)

    def coerce(self, value: Any) -> Any:
        """Return the value unchanged: a domain of integers converts nothing."""
        return value

    def sample(self, rng: np.random.Generator) -> Scalar:
        """Draw a value."""
        if self.log:
            # An integer stands for the interval that rounds to it. Half intervals at the ends would be drawn
            # too rarely, so the range is wider by 0.5 on both sides.
            ends = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return min(max(round(math.exp(rng.uniform(*ends))), self.low), self.high)
        return self.values()[int(rng.integers(len(self.values())))]

    def suggest(self, name: str, trial: OptunaTrial) -> Scalar:
        """Ask an Optuna trial for a value."""
        if self.size == 1:
            return self.low
        return trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def declare(self, name: str, hp: KerasTunerHyperParameters) -> Scalar | None:
        """Ask Keras Tuner for a value."""
        value: int | None
        if self.size == 1:
            value = hp.Fixed(name, self.low)
            return value
        if not self.log:
            value = hp.Int(name, self.low, self.high, self.step)
            return value
        value = hp.Int(name, self.low, self.high, sampling="log")
        # Keras Tuner returns high + 1 at probability 1, and its Gaussian process proposes this probability.
        return None if value is None else min(value, self.high)


@dataclass(frozen=True)
class Reals:
    """The interval from low to high; with a step, its points low, low + step, ..., high.

    The points are computed in decimal arithmetic: every caller gets the same points, and 0.3 instead of
    0.30000000000000004. A single value is a constant, and no sampler is asked for it.

    Example:
        >>> Reals(0.0, 0.5, 0.1).values()
        (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    def size(self) -> float:
        """Number of values."""
        if self.step is None:
            return math.inf if self.low < self.high else 1
        return int((Decimal(repr(self.high)) - Decimal(repr(self.low))) / Decimal(repr(self.step))) + 1

    def _point(self, index: int) -> float:
        return float(Decimal(repr(self.low)) + index * Decimal(repr(self.step)))

    def _nearest(self, value: float) -> float:
        if self.step is None:
            return min(max(value, self.low), self.high)
        return self._point(min(max(round((value - self.low) / self.step), 0), int(self.size) - 1))

    @property
    def bounds(self) -> tuple[Scalar, Scalar]:
        """The smallest and the largest value."""
        return self.low, self.high if self.step is None else self._point(int(self.size) - 1)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, float) and math.isfinite(value) and self._nearest(value) == value

    def __str__(self) -> str:
        return f"{self.low} to {self.high}" + (f" in steps of {self.step}" if self.step else "")

    def values(self) -> Sequence[float]:
        """List the points in order; an interval without a step has a point only if low equals high."""
        return tuple(map(self._point, range(int(self.size)))) if self.step else (self.low,)

    def coerce(self, value: Any) -> Any:
        """Convert an integer to a real."""
        return _as_real(value)

    def sample(self, rng: np.random.Generator) -> Scalar:
        """Draw a value."""
        if self.step is not None:
            return self._point(int(rng.integers(int(self.size))))
        if self.log:
            return self._nearest(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return self._nearest(float(rng.uniform(self.low, self.high)))

    def suggest(self, name: str, trial: OptunaTrial) -> Scalar:
        """Ask an Optuna trial for a value."""
        if self.size == 1:
            return self.low
        value = trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)
        return self._nearest(float(value))

    def declare(self, name: str, hp: KerasTunerHyperParameters) -> Scalar | None:
        """Ask Keras Tuner for a value."""
        value: float | None
        if self.size == 1:
            value = hp.Fixed(name, self.low)
            return value
        if self.step is not None:  # `hp.Float` loses the last point, because 0.5 // 0.1 is 4.
            value = hp.Choice(name, list(self.values()), ordered=True)
            return value
        value = hp.Float(name, self.low, self.high, sampling="log" if self.log else "linear")
        return None if value is None else self._nearest(value)
