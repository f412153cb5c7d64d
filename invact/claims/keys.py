"""The keys of a claim's TOML file, and what each may hold."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from invact.config import ArmName, Seed
from invact.validation import Frozen

__all__ = ["ClaimFile", "CurveFile", "TuningFile"]


def _enough(number: int) -> int:
    if number < 2:
        raise ValueError(f"received {number}, which is insufficient. Allowed: at least 2")
    return number


def _looks(values: tuple[int, ...]) -> tuple[int, ...]:
    if len(values) < 2 or values[0] < 2:
        raise ValueError(
            f"received {list(values)}, which is insufficient. Allowed: at least two looks, from 2 pairs on"
        )
    if list(values) != sorted(set(values)):
        raise ValueError(f"received {list(values)}. Allowed: increasing")
    return values


def _widths(values: tuple[int, ...]) -> tuple[int, ...]:
    if len(values) < 3:
        raise ValueError(f"received {len(values)} widths. Allowed: at least 3, and 5 for a ratio")
    if len(set(values)) < len(values):
        raise ValueError(f"received {list(values)}. Allowed: each once")
    return values


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


Count = Annotated[int, Field(strict=True, le=10_000), AfterValidator(_enough)]


Looks = Annotated[tuple[Annotated[int, Field(strict=True, le=10_000)], ...], AfterValidator(_looks)]


Widths = Annotated[tuple[Annotated[int, Field(strict=True, ge=1, le=4096)], ...], AfterValidator(_widths)]


Range = tuple[Annotated[float, Field(gt=0, le=100)], Annotated[float, Field(gt=0, le=100)]]


def _ordered(value: Range) -> Range:
    if value[0] >= value[1]:
        raise ValueError(f"received {list(value)}. Allowed: [low, high], low below high")
    return value


class CurveFile(Frozen):
    """The curve: both arms over a range of widths, for the equivalence ratios.

    Attributes:
        control: filters of the control, staggered against those of the treatment, where accuracy still rises.
        treatment: filters of the treatment.
        seeds: runs of each width.
    """

    control: Widths
    treatment: Widths
    seeds: Count = 4


class TuningFile(Frozen):
    """The tuning: the same points of the recipe for every arm, judged on validation alone.

    Attributes:
        trials: points tried for each arm.
        learning_rate: lowest and highest, tried on a logarithmic scale.
        weight_decay: likewise; the file's own value for all unless given.
        seeds: runs of each point.
    """

    trials: Count
    learning_rate: Annotated[Range, AfterValidator(_ordered)]
    weight_decay: Annotated[Range, AfterValidator(_ordered)] | None = None
    seeds: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1


class ClaimFile(Frozen):
    """The keys of a claim's TOML file.

    Attributes:
        data: data sets: a name, a path relative to the file, or a list of them.
        split_seed: decides which training images validate.
        validation_fraction: how many of them.
        control: the arm that the treatment is held against, at the filters of `config`.
        treatment: the arm that is to do with fewer.
        ratios: the treatment's filters over the control's; tested from the largest down.
        also: more arms to train at the treatment's filters, shown beside it and part of no verdict.
        repeat: whether to train the control a second time, as a negative control.
        margin: the loss of accuracy that still counts as equal, in points; planned from the pilot unless
            given.
        margin_cap: the largest margin that may be planned, in points.
        alpha: one-sided error rate; 0.05 unless given.
        strict: an error rate of 0.025.
        method: `sequential`, `fixed` or `anytime`.
        looks: of `sequential`, the pairs at each look; 5, 7, 9, 12, 15 unless the pilot asks for more.
        pairs: of `fixed`, the pairs; of `anytime`, the most; planned from the pilot unless given.
        futility: whether `sequential` stops where success is unlikely.
        power: what the pairs are planned for, were treatment and control equal.
        pilot: seeds of the pilot.
        seed: chooses the blocks of seeds.
        curve: the widths of the equivalence ratios; no ratios without it.
        tuning: the search for each arm's recipe; the recipe of `config` for all without it.
        imports: modules that register the user's own arms and MAC rules.
        config: the network and its recipe, but for the activation.
    """

    data: Annotated[tuple[str, ...], BeforeValidator(_one_or_more), Field(min_length=1)]
    split_seed: Seed = 0
    validation_fraction: Annotated[float, Field(strict=True, gt=0, lt=1)] = 1 / 6
    control: ArmName = "relu"
    treatment: ArmName = "inverse"
    ratios: Annotated[tuple[Annotated[float, Field(strict=True, gt=0, le=1)], ...], Field(min_length=1)]
    also: tuple[ArmName, ...] = ()
    repeat: bool = True
    margin: Annotated[float, Field(strict=True, gt=0, lt=100)] | None = None
    margin_cap: Annotated[float, Field(strict=True, gt=0, lt=100)] = 0.3
    alpha: Annotated[float, Field(strict=True, gt=0, lt=0.5)] | None = None
    strict: bool = False
    method: Literal["sequential", "fixed", "anytime"] = "sequential"
    looks: Looks | None = None
    pairs: Count | None = None
    futility: bool = True
    power: Annotated[float, Field(strict=True, gt=0.5, lt=1)] = 0.8
    pilot: Count = 8
    seed: Annotated[int, Field(strict=True, ge=0, le=20_000)] = 0
    curve: CurveFile | None = None
    tuning: TuningFile | None = None
    imports: tuple[str, ...] = ()
    config: dict[str, Any] = Field(default_factory=dict)

    @property
    def level(self) -> float:
        """The one-sided error rate that is in force."""
        return self.alpha or (0.025 if self.strict else 0.05)

    @model_validator(mode="after")
    def _agree(self) -> ClaimFile:
        if self.strict and self.alpha not in (None, 0.025):
            raise ValueError(f"alpha: received {self.alpha} and strict. Allowed: one of them")
        if self.looks and self.method != "sequential":
            raise ValueError(f"looks: received {list(self.looks)}. Allowed: with method 'sequential' only")
        if self.pairs and self.method == "sequential":
            raise ValueError(f"pairs: received {self.pairs}. Allowed: with method 'fixed' or 'anytime' only")
        return self
