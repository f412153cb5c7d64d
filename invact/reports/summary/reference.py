"""Published figures: the `[[reference]]` tables of a sweep or a claim, which a report shows beside ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from invact.config import Config, Scalar
from invact.errors import InputError, one_of
from invact.spaces.domains import Choice, Domain
from invact.spaces.parameters import FIELDS
from invact.spaces.space import SearchSpace
from invact.validation import Frozen

__all__ = ["FIGURES", "Reference", "check_among", "check_in_space", "flat_values"]

FIGURES = ("validation_accuracy", "test_accuracy", "validation_loss", "test_loss")


def _some(where: dict[str, Scalar]) -> dict[str, Scalar]:
    if not where:
        raise ValueError("received no key. Allowed: at least one, such as { activation = 'inverse' }")
    return where


def _named(source: str) -> str:
    if not source.strip():
        raise ValueError(
            f"received {source!r}. Allowed: who published the figures, such as 'author, one run'"
        )
    return source


def _percent(value: float) -> float:
    if value <= 1:
        raise ValueError(
            f"received {value:g}, percent or fraction? Allowed: percent above 1; the fraction {value:g} is "
            f"{100 * value:g} percent"
        )
    return value


Percent = Annotated[float, Field(strict=True, gt=0, le=100, allow_inf_nan=False), AfterValidator(_percent)]

Loss = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


class Reference(Frozen):
    """One `[[reference]]` table. It has no effect on any training or verdict.

    Attributes:
        where: the values by which its configurations are found: parameters of the search space, or `arm`,
            `ratio` and `data` of a claim. The name of a per-stage parameter means all its stages.
        source: who published the figures, in a few words.
        validation_accuracy: published validation accuracy, in percent.
        test_accuracy: published test accuracy, in percent.
        validation_loss: published validation loss, the mean cross-entropy in nats.
        test_loss: published test loss, the mean cross-entropy in nats.

    Raises:
        InputError: a value is wrong, or there is no figure.

    Example:
        >>> found = Reference(where={"activation": "inverse"}, source="author", test_accuracy=94.33)
        >>> found.figures, found.matches({"activation": "inverse", "filters": 8})
        ({'test_accuracy': 0.9433}, True)
    """

    where: Annotated[dict[str, Scalar], AfterValidator(_some)]
    source: Annotated[str, AfterValidator(_named)]
    validation_accuracy: Percent | None = None
    test_accuracy: Percent | None = None
    validation_loss: Loss | None = None
    test_loss: Loss | None = None

    @model_validator(mode="after")
    def _has_a_figure(self) -> Reference:
        if not self.figures:
            raise ValueError(f"received no figure. Allowed: one or more of {', '.join(FIGURES)}")
        return self

    @property
    def figures(self) -> dict[str, float]:
        """The published figures by name: accuracies as fractions, losses in nats."""
        found = {name: getattr(self, name) for name in FIGURES}
        # Rounded, because 55.1 / 100 is not the float that 0.551 is.
        return {
            name: round(value / 100, 10) if name.endswith("accuracy") else value
            for name, value in found.items()
            if value is not None
        }

    def matches(self, values: Mapping[str, Any]) -> bool:
        """Return whether a configuration has all values of `where`."""
        return all(name in values and values[name] == value for name, value in self.where.items())


def _defaults() -> dict[str, Any]:
    return {name: Config.model_fields[name].default for name in FIELDS}


def flat_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Write a configuration as the flat values that `where` names; keys that it lacks have their defaults.

    A list gives one value for each stage, and one for the whole list if all stages are equal.

    Args:
        config: JSON-like values of a `Config`.

    Example:
        >>> values = flat_values({"activation": ["inverse", "inverse"], "filters": [4, 8]})
        >>> values["activation"], values["activation.2"], values["filters.2"], "filters" in values
        ('inverse', 'inverse', 8, False)
        >>> flat_values({})["augmentation"]
        'none'
    """
    values = _defaults() | dict(config)
    options: Mapping[str, Any] = values.pop("options", {})
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if not isinstance(value, list | tuple):
            flat[name] = value
            continue
        flat |= {f"{name}.{stage}": one for stage, one in enumerate(value, 1)}
        if len(set(value)) == 1:
            flat[name] = value[0]
    return {**flat, **options}


def check_in_space(references: Sequence[Reference], space: SearchSpace, source: str = "reference") -> None:
    """Refuse a reference that no configuration of a search space can match.

    Args:
        references: the references.
        space: the search space, with the file's `config` fixed in it.
        source: name of the list of references, for error messages.

    Raises:
        InputError: a parameter is unknown, a value is outside its domain, or the values exclude each other.

    Example:
        >>> from invact.spaces.space import parse_space
        >>> space = parse_space({"activation": {"choices": ["relu", "inverse"]}})
        >>> author = Reference(where={"activation": "inverze"}, source="author", test_accuracy=94.33)
        >>> check_in_space([author], space)
        Traceback (most recent call last):
        ...
        invact.errors.InputError: reference.0.where.activation: received 'inverze'; did you mean ...
    """
    defaults = _defaults()
    for number, reference in enumerate(references):
        where = f"{source}.{number}.where"
        wanted: dict[str, set[Scalar]] = {}
        for name, value in reference.where.items():
            stages = [one for one in space.parameters if one.name.rpartition(".")[0] == name]
            found = [one for one in space.parameters if one.name == name] or stages
            if not found:
                if defaults.get(name) is None:
                    known = [one.name for one in space.parameters]
                    others = [key for key, default in defaults.items() if default is not None]
                    raise one_of(where, name, dict.fromkeys([*known, *others]))
                _inside(Choice((defaults[name],)), value, f"{where}.{name}")
                continue
            for one in found:
                _inside(one.domain, value, f"{where}.{name}")
                # The first stage is always active. A later one need not be, unless it is named itself.
                if one is found[0] or one.name in reference.where:
                    same: set[Scalar] = {one.domain.coerce(value)}
                    wanted[one.name] = wanted.get(one.name, same) & same
        if not _possible(space, wanted):
            raise InputError(
                f"{where}: received {dict(reference.where)}. Allowed: values that one configuration of the "
                "space can have together"
            )


def _inside(domain: Domain, value: Scalar, where: str) -> None:
    if domain.coerce(value) in domain:
        return
    if isinstance(domain, Choice) and isinstance(value, str):
        raise one_of(where, value, map(str, domain.options))
    raise InputError(f"{where}: received {value!r}. Allowed: {domain}")


def _possible(space: SearchSpace, wanted: Mapping[str, set[Scalar]]) -> bool:
    """Return whether one configuration can have all these parameters, each with one of its values."""
    left, active = dict(wanted), list(wanted)
    # A parameter is active only if its parents are, so the list grows by parents while it is read.
    for name in active:
        for condition in space[name].when:
            parent = condition.parent
            before = left[parent] if parent in left else set(space[parent].domain.values())
            left[parent] = before & set(condition.values)
            active.append(parent)
    return all(left.values())


def check_among(
    references: Sequence[Reference], networks: Iterable[Mapping[str, Scalar]], source: str = "reference"
) -> None:
    """Refuse a reference that none of some networks matches.

    Args:
        references: the references.
        networks: the values of each network by which `where` can find it; all have the same keys.
        source: name of the list of references, for error messages.

    Raises:
        InputError: a key is unknown, or no network has the values.

    Example:
        >>> networks = [{"arm": "control", "ratio": 1.0}, {"arm": "treatment", "ratio": 0.5}]
        >>> check_among([Reference(where={"arm": "controll"}, source="author", test_loss=0.2)], networks)
        Traceback (most recent call last):
        ...
        invact.errors.InputError: reference.0.where.arm: received 'controll'; did you mean 'control'? ...
    """
    every = list(networks)
    for number, reference in enumerate(references):
        where = f"{source}.{number}.where"
        for name, value in reference.where.items():
            if name not in every[0]:
                raise one_of(where, name, every[0])
            known = list(dict.fromkeys(one[name] for one in every))
            if value not in known:
                # The nearest text helps, but no number is near another one.
                if isinstance(value, str):
                    raise one_of(f"{where}.{name}", value, map(str, known))
                allowed = ", ".join(map(repr, known))
                raise InputError(f"{where}.{name}: received {value!r}. Allowed: {allowed}")
        if not any(map(reference.matches, every)):
            raise InputError(
                f"{where}: received {dict(reference.where)}. Allowed: values that one network of the claim "
                "has together"
            )
