"""Configurations: the values that decide one training, and the reading of TOML files with helpful errors."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)

from invact.arms import ARMS
from invact.errors import choices
from invact.validation import Frozen

__all__ = ["ArmName", "Config", "Scalar", "Seed", "Seeds", "digest"]

Scalar = StrictStr | StrictBool | StrictInt | StrictFloat
"""A value of a parameter."""

BUILDERS = ("cnn", "vgg", "resnet", "separable", "mlp")
AUGMENTATIONS = ("shift", "flip", "cutout")


Filters = Annotated[int, Field(strict=True, ge=1, le=4096)]


def _arm(name: str) -> str:
    if name not in ARMS:
        raise ValueError(choices(name, ARMS))
    return name


def _distinct(values: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"received {list(values)}. Allowed: each once")
    return values


ArmName = Annotated[str, AfterValidator(_arm)]
"""The name of a registered arm."""

Seed = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
"""A seed."""

Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_distinct)]
"""Seeds, no two of them the same."""


class Config(Frozen):
    """One network and the recipe that trains it. With a seed and a data set it decides every number.

    Attributes:
        model: a builder of `invact.networks.builders.BUILDERS`, or a user's own as `package.module:function`.
        activation: an arm for all stages, or one for each stage.
        filters: filters of the first stage (the builder derives the others), or of each stage.
        depth: number of stages; for `mlp`, of hidden layers.
        normalization: what stands between a convolution and its activation.
        dropout: rate before the classifier, in [0, 1).
        width_rule: how filters follow when an activation doubles the channels. `filters`: the same
            filters; `channels`: filters divided by the multiplicity, hence the same channels; `macs` and
            `params`: the filter count whose MACs or parameters come closest to those of `reference`.
        reference: the arm whose network at `filters` is the reference of `macs` and `params`.
        width_target: what `macs` and `params` aim at instead, for every arm alike, and do not exceed.
        options: keywords of a user's own builder.
        optimizer: Keras optimizer.
        learning_rate: its peak.
        schedule: `cosine` decays to 0 over the training, `constant` does not.
        weight_decay: decoupled, as in AdamW.
        batch_size: images a step.
        epochs: passes over the training split.
        augmentation: `none`, or any of `shift`, `flip`, `cutout` joined by `+`.
        precision: Keras dtype policy.

    Example:
        >>> Config(filters=8).digest() == Config(filters=16).digest()
        False
        >>> Config(activation=("inverse", "relu")).activations
        ('inverse', 'relu')
    """

    model: str = "cnn"
    activation: ArmName | tuple[ArmName, ...] = "relu"
    filters: Filters | tuple[Filters, ...] = 16
    depth: Annotated[int, Field(strict=True, ge=1, le=64)] = 2
    normalization: Literal["none", "batch", "layer"] = "none"
    dropout: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.0
    width_rule: Literal["filters", "channels", "macs", "params"] = "filters"
    reference: ArmName = "relu"
    width_target: Annotated[int, Field(strict=True, ge=1)] | None = None
    options: dict[str, Scalar] = Field(default_factory=dict)

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: Annotated[float, Field(strict=True, gt=0, le=100)] = 1e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.0
    batch_size: Annotated[int, Field(strict=True, ge=1, le=65536)] = 128
    epochs: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 5
    augmentation: str = "none"
    precision: Literal["float32", "mixed_bfloat16"] = "float32"

    @property
    def activations(self) -> tuple[str, ...]:
        """The arm of each stage, `depth` of them."""
        return (self.activation,) * self.depth if isinstance(self.activation, str) else self.activation

    @property
    def augmentations(self) -> tuple[str, ...]:
        """The augmentations, in the order in which they are applied."""
        return () if self.augmentation == "none" else tuple(self.augmentation.split("+"))

    def digest(self) -> str:
        """Identify the configuration: 12 hexadecimal digits of the SHA-256 of its canonical JSON."""
        # Without what is not set: a new key leaves the digests, and the seeds they go into, as they were.
        return digest(self.model_dump(mode="json", exclude_none=True))

    @field_validator("model")
    @classmethod
    def _known_model(cls, value: str) -> str:
        if value not in BUILDERS and not re.fullmatch(r"[\w.]+:\w+", value):
            raise ValueError(choices(value, [*BUILDERS, "package.module:function"]))
        return value

    @field_validator("augmentation")
    @classmethod
    def _known_augmentations(cls, value: str) -> str:
        names = value.split("+")
        for name in names if value != "none" else ():
            if name not in AUGMENTATIONS:
                raise ValueError(choices(name, ["none", *AUGMENTATIONS]))
        if len(set(names)) != len(names):
            raise ValueError(f"received {value!r}. Allowed: each augmentation once")
        return value

    @model_validator(mode="after")
    def _one_value_per_stage(self) -> Config:
        for key in ("activation", "filters"):
            value = getattr(self, key)
            if isinstance(value, tuple) and len(value) != self.depth:
                raise ValueError(
                    f"{key}: received {len(value)} values. Allowed: one, or {self.depth}, one for each stage"
                )
        if self.width_target is not None and self.width_rule not in ("macs", "params"):
            raise ValueError(
                f'width_target: received {self.width_target}. Allowed: with width_rule = "macs" or "params"'
            )
        if self.options and self.model in BUILDERS:
            raise ValueError(
                f"options: received {sorted(self.options)}. Allowed: with a builder of your own only"
            )
        return self


def digest(values: Any) -> str:
    """Hash JSON-like values: 12 hexadecimal digits of the SHA-256 of their canonical JSON.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
