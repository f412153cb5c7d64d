"""Configurations: the values that decide one training, and the reading of TOML files with helpful errors."""

from __future__ import annotations

import copy
import hashlib
import importlib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from invact.arms import ARMS
from invact.errors import InputError, choices, one_line, one_of

__all__ = [
    "ArmName",
    "Config",
    "Frozen",
    "Scalar",
    "Seed",
    "Seeds",
    "beside",
    "check_name",
    "digest",
    "find",
    "import_all",
    "override",
    "read_toml",
    "shipped",
    "validate",
]

Scalar = StrictStr | StrictBool | StrictInt | StrictFloat
"""A value of a parameter."""

BUILDERS = ("cnn", "vgg", "resnet", "separable", "mlp")
AUGMENTATIONS = ("shift", "flip", "cutout")

_Model = TypeVar("_Model", bound=BaseModel)

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


class Frozen(BaseModel):
    """Base of everything read from a file: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Config(Frozen):
    """One network and the recipe that trains it. With a seed and a data set it decides every number.

    Attributes:
        model: a builder of `invact.models.BUILDERS`, or a user's own as `package.module:function`.
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


def validate(cls: type[_Model], values: object, source: str) -> _Model:
    """Make a model of the values, or explain in one line what is wrong with them.

    Args:
        cls: the pydantic model.
        values: what was read.
        source: the file or the option that the values come from.

    Raises:
        InputError: names the source, the key, what was received and what is allowed.

    Example:
        >>> validate(Config, {"epochs": 0}, "my.toml")
        Traceback (most recent call last):
        ...
        invact.errors.InputError: my.toml: epochs: received 0. Allowed: greater than or equal to 1
        >>> validate(Config, {"epoch": 3}, "my.toml")
        Traceback (most recent call last):
        ...
        invact.errors.InputError: my.toml: epoch: unknown key, received 'epoch'; did you mean 'epochs'? ...
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{source}: {_explain(cls, values, error)}") from None


def _explain(cls: type[BaseModel], values: object, error: ValidationError) -> str:
    details = [(_path(values, detail["loc"]), detail) for detail in error.errors(include_url=False)]
    first = details[0][0][:1]
    path, detail = max((item for item in details if item[0][:1] == first), key=lambda item: len(item[0]))
    key = ".".join(text if (text := str(part)).isprintable() else repr(part) for part in path)
    if detail["type"] == "extra_forbidden":
        allowed = _fields(cls, path[:-1])
        return f"{key}: unknown key, {choices(path[-1], allowed)}"
    if detail["type"] == "value_error":
        text = str(detail["ctx"]["error"])
        return f"{key}: {text}" if key else text
    if detail["type"] == "missing":
        return f"{key}: missing key"
    if detail["type"] == "literal_error":
        names = re.findall(r"'(\w+)'", detail["ctx"]["expected"])
        return f"{key}: {choices(detail['input'], names)}"
    # A union fails once for each member: all that would have been accepted is worth saying.
    expected = dict.fromkeys(
        other["msg"].removeprefix("Input should be ").replace("valid tuple", "list")
        for where, other in details
        if where == path
    )
    return f"{key}: received {detail['input']!r}. Allowed: {', or '.join(expected)}"


def _path(values: object, location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Drop from pydantic's location the names of union members, which no user has written."""
    path: list[int | str] = []
    for depth, part in enumerate(location):
        if isinstance(values, Mapping) and part in values:
            values = values[part]
        elif isinstance(values, list | tuple) and isinstance(part, int) and part < len(values):
            values = values[part]
        elif not (isinstance(values, Mapping) and depth == len(location) - 1):
            continue
        path.append(part)
    return tuple(path)


def _fields(cls: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        annotation = cls.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        cls = annotation
    return list(cls.model_fields)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        InputError: the file cannot be read, or does not parse (with line and column).
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}") from None


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def check_name(name: str, what: str = "name") -> str:
    """Return a name that is safe as a file's and as an experiment's, or refuse it.

    Raises:
        InputError: empty, over 64 characters, or with anything but letters, digits, `_`, `.` and `-`.

    Example:
        >>> check_name("../x")
        Traceback (most recent call last):
        ...
        invact.errors.InputError: name: received '../x'. Allowed: 1 to 64 letters, ...
    """
    if not _NAME.fullmatch(name):
        received = repr(name if len(name) <= 80 else name[:77] + "...")
        raise InputError(
            f'{what}: received {received}. Allowed: 1 to 64 letters, digits, "_", "." and "-", '
            "starting with a letter or digit"
        )
    return name


def _shelf(kind: str) -> Path:
    package = Path(__file__).parent
    # In a wheel the folder lies inside the package, in a checkout beside it.
    return next(
        (folder for folder in (package / kind, package.parent / kind) if folder.is_dir()), package / kind
    )


def shipped(kind: str) -> list[str]:
    """Name the files that come with invact.

    Args:
        kind: `search_spaces` or `sweeps`.

    Example:
        >>> "cnn" in shipped("search_spaces")
        True
    """
    return sorted(path.stem for path in _shelf(kind).glob("*.toml"))


def find(kind: str, reference: str | Path, folder: Path | None = None) -> Path:
    """Find the TOML file that a user means: a path is taken as a path, a bare name is a shipped one.

    Args:
        kind: `search_spaces` or `sweeps`.
        reference: a bare name, or a path (it has a separator or ends in `.toml`).
        folder: what a relative path is relative to; the current folder unless given.

    Raises:
        InputError: no such file, or no such shipped name (names the nearest).

    Example:
        >>> find("search_spaces", "cnn").name
        'cnn.toml'
    """
    text = str(reference)
    if "\0" in text:
        raise InputError(f"{kind}: received {text!r}. Allowed: a name or a path without NUL")
    if isinstance(reference, Path) or text.endswith(".toml") or "/" in text or os.sep in text:
        path = (folder or Path()) / reference
        try:
            found = path.is_file()
        except OSError:
            found = False
        if not found:
            raise InputError(f"{text!r}: no such file")
        return path
    if text not in shipped(kind):
        raise one_of(kind, text, shipped(kind))
    return _shelf(kind) / f"{text}.toml"


def beside(file: Path, reference: str) -> str:
    """Resolve a path that a file names: relative to that file. A bare name stays as it is.

    Example:
        >>> beside(Path("/here/my.toml"), "digits")
        'digits'
        >>> beside(Path("/here/my.toml"), "images/my.npz")
        '/here/images/my.npz'
    """
    is_path = "/" in reference or os.sep in reference or Path(reference).suffix
    return str(file.parent.absolute() / reference) if is_path else reference


def override(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Replace values of nested tables by dotted key.

    Raises:
        InputError: a part of the key is not a table.

    Example:
        >>> override({"trials": 20, "config": {"epochs": 5}}, {"config.epochs": 2})
        {'trials': 20, 'config': {'epochs': 2}}
    """
    result = copy.deepcopy(dict(values))
    for key, value in changes.items():
        *tables, last = key.split(".")
        table: Any = result
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise InputError(f"{key}: received a key of {name!r}. Allowed: {name!r} is not a table")
        table[last] = value
    return result


def import_all(modules: Iterable[str]) -> None:
    """Import the user's modules, which register arms and MAC rules.

    Raises:
        InputError: one cannot be imported.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise InputError(f"imports: {module!r}: {one_line(error)}") from None
