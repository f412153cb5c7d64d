"""The configuration: one network and the recipe that trains it, with the allowed values of every key."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal, NoReturn

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    field_validator,
    model_serializer,
    model_validator,
)

from invact.arms import ARMS
from invact.errors import choices
from invact.validation import Frozen, quantity

__all__ = ["ArmName", "Config", "Scalar", "Seed", "Seeds", "StageArms", "digest"]

Scalar = StrictStr | StrictBool | StrictInt | StrictFloat
"""One value of a parameter of a search space, or of an option of a user's builder."""

BUILDERS = ("cnn", "vgg", "plain", "resnet", "separable", "mlp")
AUGMENTATIONS = ("shift", "flip", "cutout", "crop")

LATER = (
    *("momentum", "nesterov", "label_smoothing", "warmup_epochs", "clip_norm", "ema", "mixup", "cutmix"),
    *("stochastic_depth", "convolutions"),
)
"""Keys of `Config` that are left out of every dump, and so of the digest, when they have their default.

The defaults mean what invact did before it had these keys, so an old digest keeps its meaning.
"""

Filters = Annotated[int, Field(strict=True, ge=1, le=4096)]
Share = Annotated[float, Field(strict=True, ge=0, lt=1)]
Alpha = Annotated[float, Field(strict=True, ge=0, le=100)]


def _arm(name: str) -> str:
    if name not in ARMS:
        raise ValueError(choices(name, ARMS))
    return name


def _distinct(values: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"received {list(values)}. Allowed: each seed once")
    return values


ArmName = Annotated[str, AfterValidator(_arm)]
"""The name of a registered arm."""

StageArms = ArmName | tuple[ArmName, ...]
"""One arm for all stages, or one arm for each stage."""

Seed = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
"""One seed: an integer in [0, 2^31)."""

Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_distinct)]
"""At least one seed; all seeds are different."""


class Config(Frozen):
    """One network and the recipe that trains it.

    A configuration, a seed and a data set determine every number of a run, its times excluded, for the same
    versions of the libraries on the same kind of processor.

    Attributes:
        model: name of a builder in `invact.networks.builders.BUILDERS`, or a user's own builder as
            `package.module:function`.
        activation: one arm for all stages, or a list with one arm for each stage.
        filters: number of filters of the first stage (the builder derives the other stages), or a list with
            one number for each stage.
        depth: number of stages; for `mlp`, number of hidden layers.
        convolutions: number of convolutions in each stage of `plain`, each with its own activation.
        normalization: layer between a convolution and its activation.
        dropout: dropout rate before the classifier, in [0, 1).
        stochastic_depth: probability p in [0, 1) with which an image leaves out the last block of `resnet` in
            training; it leaves out block l of L with probability p l / L. 0 keeps every block.
        width_rule: how the number of filters changes when an activation doubles the channels. `filters` keeps
            the filters as given. `channels` divides them by the arm's multiplicity, so that the next layer
            reads the same number of channels. `macs` and `params` scale them until the MACs or parameters
            are closest to those of the network with the arm `reference`. `macs_at_least` scales them to the
            smallest network that has at least the MACs of the network with the arm `reference`.
        reference: the arm whose network, at `filters`, is the target of the rules `macs`, `macs_at_least` and
            `params`; or a list with one arm for each stage.
        width_target: number of MACs or parameters that the rules `macs` and `params` use as target instead
            of `reference`, for every arm; the network does not exceed it. A text such as `"200k"` is a
            number too.
        options: keyword arguments for a user's own builder.
        optimizer: name of the Keras optimizer. `adam` and `adamw` train identically, because `weight_decay`
            is decoupled for every optimizer; only the digest differs.
        momentum: momentum of `sgd`, in [0, 1).
        nesterov: whether the momentum of `sgd` is Nesterov's.
        learning_rate: highest learning rate of the training.
        schedule: `cosine` decays the learning rate to 0 over the training; `constant` keeps it; `step`
            divides it by 10 after one half and three quarters of the training; `one_cycle` raises it from
            1/25 and lowers it to almost 0. `invact.training.schedules.make_schedule` has the formulas.
        warmup_epochs: length of a linear rise to the learning rate before the schedule begins, in epochs; 0
            means no rise. With `one_cycle`, it is the length of the rise of this schedule, and 0 means 30 %
            of the training.
        weight_decay: decoupled weight decay, as in AdamW.
        clip_norm: largest norm of all gradients together; longer gradients are scaled to it. 0 means that
            there is no limit.
        ema: decay in [0, 1) of an exponential moving average of the weights, with which the network is
            evaluated and stored; 0 means the weights themselves.
        label_smoothing: share in [0, 1) of each label that is spread evenly over all classes in training.
        mixup: parameter alpha of mixup, at most 100; 0 means no mixup.
        cutmix: parameter alpha of CutMix, at most 100; 0 means no CutMix.
        batch_size: images in each training step.
        epochs: passes over the training split.
        augmentation: `none`, or any of `shift`, `flip`, `cutout`, `crop` joined by `+`.
        precision: Keras dtype policy.

    Example:
        >>> Config(filters=8).digest() == Config(filters=16).digest()
        False
        >>> Config(activation=("inverse", "relu")).activations
        ('inverse', 'relu')
    """

    model: str = "cnn"
    activation: StageArms = "relu"
    filters: Filters | tuple[Filters, ...] = 16
    depth: Annotated[int, Field(strict=True, ge=1, le=64)] = 2
    convolutions: Annotated[int, Field(strict=True, ge=1, le=64)] = 1
    normalization: Literal["none", "batch", "layer"] = "none"
    dropout: Share = 0.0
    stochastic_depth: Share = 0.0
    width_rule: Literal["filters", "channels", "macs", "macs_at_least", "params"] = "filters"
    reference: StageArms = "relu"
    width_target: Annotated[int, Field(strict=True, ge=1), BeforeValidator(quantity)] | None = None
    options: dict[str, Scalar] = Field(default_factory=dict)

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    momentum: Share = 0.9
    nesterov: StrictBool = True
    learning_rate: Annotated[float, Field(strict=True, gt=0, le=100)] = 1e-3
    schedule: Literal["cosine", "constant", "step", "one_cycle"] = "cosine"
    warmup_epochs: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 0.0
    weight_decay: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.0
    clip_norm: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 0.0
    ema: Share = 0.0
    label_smoothing: Share = 0.0
    mixup: Alpha = 0.0
    cutmix: Alpha = 0.0
    batch_size: Annotated[int, Field(strict=True, ge=1, le=65536)] = 128
    epochs: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 5
    augmentation: str = "none"
    precision: Literal["float32", "mixed_bfloat16"] = "float32"

    @property
    def activations(self) -> tuple[str, ...]:
        """The arms as a tuple with one arm for each stage."""
        return (self.activation,) * self.depth if isinstance(self.activation, str) else self.activation

    @property
    def references(self) -> tuple[str, ...]:
        """The arms of `reference` as a tuple with one arm for each stage."""
        return (self.reference,) * self.depth if isinstance(self.reference, str) else self.reference

    @property
    def augmentations(self) -> tuple[str, ...]:
        """The names of the augmentations, in the order in which they are applied."""
        return () if self.augmentation == "none" else tuple(self.augmentation.split("+"))

    def digest(self) -> str:
        """Return an identifier of the configuration: 12 hexadecimal digits of the SHA-256 of its JSON."""
        # Keys that are None are left out. A new key that is None by default then changes no digest, and no
        # seed that is derived from a digest.
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
            raise ValueError(f"received {value!r}. Allowed: each augmentation at most once")
        return value

    @model_serializer(mode="wrap")
    def _without_defaults_of_later_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        defaults = {key: type(self).model_fields[key].default for key in LATER}
        return {key: value for key, value in values.items() if key not in LATER or value != defaults[key]}

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Config:
        for key in ("activation", "filters", "reference"):
            value = getattr(self, key)
            if isinstance(value, tuple) and len(value) != self.depth:
                raise ValueError(
                    f"{key}: received {len(value)} values. Allowed: one value for all stages, or a list of "
                    f"{self.depth} values, one for each stage"
                )
        if self.width_target is not None and self.width_rule not in ("macs", "params"):
            raise ValueError(
                f"width_target: received {self.width_target}. Allowed: only with width_rule = "
                '"macs" or "params", whose networks do not exceed it'
            )
        if self.options and self.model in BUILDERS:
            raise ValueError(
                f"options: received {sorted(self.options)}. Allowed: only with a builder of your own, "
                'model = "package.module:function"'
            )
        self._check_recipe()
        return self

    def _check_recipe(self) -> None:
        def refuse(key: str, allowed: str) -> NoReturn:
            raise ValueError(f"{key}: received {getattr(self, key)}. Allowed: {allowed}")

        # A value that has no effect is refused also when it is the default: somebody expects an effect.
        for key in ("momentum", "nesterov"):
            if key in self.model_fields_set and self.optimizer != "sgd":
                refuse(key, 'only with optimizer = "sgd"')
        if "nesterov" in self.model_fields_set and not self.momentum:
            refuse("nesterov", "only with a momentum above 0")
        if self.stochastic_depth and self.model in BUILDERS and self.model != "resnet":
            refuse("stochastic_depth", 'only with model = "resnet" or with a builder of your own')
        if self.convolutions > 1 and self.model in BUILDERS and self.model != "plain":
            refuse("convolutions", '1, or more with model = "plain" or with a builder of your own')
        if self.warmup_epochs >= self.epochs:
            refuse("warmup_epochs", f"less than the {self.epochs} epochs of the training")
        if self.mixup and self.cutmix:
            refuse("mixup", f"one of mixup and cutmix; cutmix is {self.cutmix}")


def digest(values: Any) -> str:
    """Return a short hash of JSON-like values: 12 hexadecimal digits of the SHA-256 of their canonical JSON.

    Canonical JSON has sorted keys and no spaces.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
