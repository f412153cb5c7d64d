"""The keys of a claim's TOML file, with the values that each key allows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from invact.arms import arm_text
from invact.config import Seed, StageArms
from invact.data.scale import PixelRange
from invact.reports.summary.reference import Reference
from invact.statistics.sequential.boundaries import ALPHA
from invact.validation import Frozen, points

__all__ = ["ClaimFile", "CurveFile", "TuningFile"]


def _enough(number: int) -> int:
    if number < 2:
        raise ValueError(f"received {number}, which is insufficient. Allowed: at least 2")
    return number


def _looks(values: tuple[int, ...]) -> tuple[int, ...]:
    if len(values) < 2 or values[0] < 2:
        raise ValueError(
            f"received {list(values)}, which is insufficient. Allowed: two or more looks, from 2 runs on"
        )
    if list(values) != sorted(set(values)):
        raise ValueError(f"received {list(values)}. Allowed: increasing numbers of runs")
    return values


def _widths(values: tuple[int, ...]) -> tuple[int, ...]:
    if len(values) < 3:
        raise ValueError(f"received {len(values)} widths. Allowed: at least 3")
    if len(set(values)) < len(values):
        raise ValueError(f"received {list(values)}. Allowed: each width once")
    return values


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


Points = Annotated[float, Field(strict=True, gt=0, lt=100), AfterValidator(points)]


Count = Annotated[int, Field(strict=True, le=1000), AfterValidator(_enough)]


Looks = Annotated[tuple[Annotated[int, Field(strict=True, le=500)], ...], AfterValidator(_looks)]


Widths = Annotated[tuple[Annotated[int, Field(strict=True, ge=1, le=4096)], ...], AfterValidator(_widths)]


Range = tuple[Annotated[float, Field(gt=0, le=100)], Annotated[float, Field(gt=0, le=100)]]


def _ordered(value: Range) -> Range:
    if value[0] >= value[1]:
        raise ValueError(f"received {list(value)}. Allowed: [low, high] with low below high")
    return value


class CurveFile(Frozen):
    """The curve: the treatment at several widths, from which the equivalence ratios are estimated.

    Attributes:
        treatment: numbers of filters of the treatment, well below and above the width at which it is as
            accurate as the control. The widths of the ratios are added, with their runs from the screen.
        control: numbers of filters of the control. They are needed only for parallel lines and the shared
            curve, which are additions.
        seeds: number of runs of each width.
    """

    treatment: Widths
    control: Widths | None = None
    seeds: Count = 4


class TuningFile(Frozen):
    """The tuning: every arm tries the same hyperparameters; validation accuracy selects the best.

    Attributes:
        trials: number of points (learning rate and weight decay) that each arm tries.
        learning_rate: lowest and highest learning rate, searched on a logarithmic scale.
        weight_decay: lowest and highest weight decay, searched on a logarithmic scale. Without it, all trials
            use the weight decay of `config`.
        seeds: number of runs of each point.
    """

    trials: Count
    learning_rate: Annotated[Range, AfterValidator(_ordered)]
    weight_decay: Annotated[Range, AfterValidator(_ordered)] | None = None
    seeds: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1


class ClaimFile(Frozen):
    """The keys of a claim's TOML file.

    Attributes:
        data: the data sets: a name, a path relative to the file, or a list of names and paths.
        split_seed: seed of the split into training and validation images.
        validation_fraction: fraction of the training images that is used for validation.
        pixel_range: pixel values that networks scale to -1 and 1, in all data sets; None derives them from
            the images of each.
        control: the arm that the treatment is compared with; it has the number of filters of `config`. It
            may be a list with one arm for each stage.
        treatment: the arm that must match the control with fewer filters, or a list as for `control`.
        ratios: filters of the treatment divided by filters of the control; tested from the largest to the
            smallest.
        also: further arms, trained with as many filters as the treatment. They are reported but do not change
            the verdict. An entry that is a list has one arm for each stage.
        margin: the non-inferiority margin in points: the largest loss of accuracy that still counts as equal.
            Planned from the pilot unless given.
        margin_cap: the largest margin that the pilot may plan, in points.
        alpha: one-sided error rate.
        method: `sequential` (several looks) or `fixed` (one look).
        looks: for `sequential`, the number of runs of each arm at each look.
        runs: for `fixed`, the number of runs of each arm. Planned from pilot and screen unless given.
        futility: whether `sequential` stops early when success is unlikely.
        power: the power that the number of runs is planned for, if treatment and control are equal.
        pilot: number of runs of the control, and of the placebo at the smallest ratio, in the pilot.
        screen: number of runs of the treatment at each ratio in the screen.
        ladder: whether to test all ratios, from the largest to the smallest, instead of the one ratio that
            the screen selects.
        seed: selects the blocks of seeds.
        curve: the widths from which the equivalence ratios are estimated; without it there are no ratios.
        tuning: the search for each arm's hyperparameters. Without it all arms use those of `config`.
        imports: modules that register the user's own arms and MAC rules.
        recipe: the name of a shipped recipe, or a path relative to the file. `config` has its values when the
            claim is read, so neither a dump nor the registration contains this key.
        reference: published figures of some of the networks. They are only reported.
        config: the network and its recipe, without the activation.
    """

    data: Annotated[tuple[str, ...], BeforeValidator(_one_or_more), Field(min_length=1)]
    split_seed: Seed = 0
    validation_fraction: Annotated[float, Field(strict=True, gt=0, lt=1)] = 1 / 6
    pixel_range: PixelRange | None = None
    control: StageArms = "relu"
    treatment: StageArms = "inverse"
    ratios: Annotated[tuple[Annotated[float, Field(strict=True, gt=0, le=1)], ...], Field(min_length=1)]
    also: tuple[StageArms, ...] = ()
    margin: Points | None = None
    margin_cap: Points = 0.3
    alpha: Annotated[float, Field(strict=True, gt=0, lt=0.5)] = ALPHA
    method: Literal["sequential", "fixed"] = "sequential"
    looks: Looks | None = None
    runs: Count | None = None
    futility: bool = True
    power: Annotated[float, Field(strict=True, gt=0.5, lt=1)] = 0.8
    pilot: Count = 8
    screen: Count = 4
    ladder: bool = False
    seed: Annotated[int, Field(strict=True, ge=0, le=1000)] = 0
    curve: CurveFile | None = None
    tuning: TuningFile | None = None
    imports: tuple[str, ...] = ()
    recipe: str | None = Field(default=None, exclude=True)
    reference: tuple[Reference, ...] = ()
    config: dict[str, Any] = Field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """The values that are registered, JSON-like: all but the published figures, which decide nothing."""
        return self.model_dump(mode="json", exclude={"reference"})

    @property
    def names(self) -> tuple[str, str]:
        """Control and treatment as short texts."""
        return arm_text(self.control), arm_text(self.treatment)

    @property
    def further(self) -> dict[str, StageArms]:
        """The arms of `also` by their short texts."""
        return {arm_text(arm): arm for arm in self.also}

    @model_validator(mode="after")
    def _agree(self) -> ClaimFile:
        if self.looks and self.method != "sequential":
            raise ValueError(f"looks: received {list(self.looks)}. Allowed: only with method 'sequential'")
        if self.runs and self.method == "sequential":
            raise ValueError(f"runs: received {self.runs}. Allowed: only with method 'fixed'")
        return self
