"""The networks of a claim: each arm of the protocol at each of its widths, with the recipe that trains it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from invact.config import Config
from invact.errors import InputError

if TYPE_CHECKING:
    from invact.claims.keys import ClaimFile

__all__ = [
    "CONTROL",
    "MATCHED",
    "PLACEBO",
    "TREATMENT",
    "Cell",
    "Hyperparameters",
    "cell_key",
    "cells_of",
    "check_distinct",
    "curve_of",
]

CONTROL, TREATMENT, PLACEBO, MATCHED = "control", "treatment", "placebo", "matched"


@dataclass(frozen=True)
class Hyperparameters:
    """What the tuning decides for a network.

    Attributes:
        learning_rate: its peak.
        weight_decay: decoupled.
    """

    learning_rate: float
    weight_decay: float


@dataclass(frozen=True)
class Cell:
    """One network of the protocol.

    Attributes:
        role: `control`: the control's activation at the full width. `treatment`: the treatment's at a ratio
            of it. `placebo`: the control's activation at the treatment's filters, for what shrinking alone
            costs. `matched`: the control's activation at the treatment's MACs. Any other: an arm of `also`,
            at the treatment's filters.
        ratio: of filters; 1 for the control.
        config: the network and its recipe.
    """

    role: str
    ratio: float
    config: Config

    @property
    def key(self) -> str:
        """What names it in files: `treatment 0.5`."""
        return cell_key(self.role, self.ratio)

    @property
    def label(self) -> str:
        """A few words for tables: role, activation and filters."""
        rule = "" if self.config.width_rule == "filters" else ", same MACs"
        return f"{self.key}: {self.config.activation}, {filters_text(self.config.filters)} filters{rule}"


def filters_text(filters: int | tuple[int, ...]) -> str:
    return str(filters) if isinstance(filters, int) else "-".join(map(str, filters))


def cell_key(role: str, ratio: float = 1.0) -> str:
    """Name a network of the protocol.

    Example:
        >>> cell_key("treatment", 0.5), cell_key("control")
        ('treatment 0.5', 'control')
    """
    return role if role == CONTROL else f"{role} {ratio:g}"


def cells_of(
    file: ClaimFile, ratios: Iterable[float], recipes: Mapping[str, Hyperparameters]
) -> dict[str, Cell]:
    """Every network of the protocol but the curve's, by key."""
    found = {}
    for role, ratio in [
        (CONTROL, 1.0),
        *((role, ratio) for ratio in ratios for role in (TREATMENT, PLACEBO, MATCHED, *file.also)),
    ]:
        key = cell_key(role, ratio)
        found[key] = Cell(role, ratio, _config(file, role, ratio, recipes.get(key)))
    return found


def _config(file: ClaimFile, role: str, ratio: float, recipe: Hyperparameters | None) -> Config:
    values: dict[str, Any] = {"filters": _scaled(file, ratio)}
    if role in (CONTROL, PLACEBO):
        values["activation"] = file.control
    elif role == MATCHED:
        # The filters at which the control's activation costs the MACs of the treatment at these filters.
        values |= {"activation": file.control, "width_rule": "macs", "reference": file.treatment}
    else:
        values["activation"] = file.treatment if role == TREATMENT else role
    return _with(file, values, recipe)


def _with(file: ClaimFile, values: Mapping[str, Any], recipe: Hyperparameters | None) -> Config:
    tuned = (
        {} if recipe is None else {"learning_rate": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    )
    return Config.model_validate({**file.config, **values, **tuned})


def _scaled(file: ClaimFile, ratio: float) -> int | tuple[int, ...]:
    width = Config.model_validate(file.config).filters
    scaled = tuple(max(1, round(ratio * each)) for each in (width if isinstance(width, tuple) else (width,)))
    return scaled if isinstance(width, tuple) else scaled[0]


def curve_of(
    file: ClaimFile, ratios: Iterable[float], recipes: Mapping[str, Hyperparameters]
) -> dict[str, Cell]:
    """The networks of the curve by key, `control 9 filters`; each arm has the recipe of its own tuning.

    The treatment's was tuned at several widths: the one that is nearest on a logarithmic scale counts.
    """
    if file.curve is None:
        return {}
    found = {}
    full = Config.model_validate(file.config).filters
    for role, arm, widths in (
        (CONTROL, file.control, file.curve.control),
        (TREATMENT, file.treatment, file.curve.treatment),
    ):
        for width in widths:
            ratio = width / (full if isinstance(full, int) else full[0])
            near = min(ratios, key=lambda each: max(each / ratio, ratio / each))
            recipe = recipes.get(cell_key(role, near))
            key = f"{role} {width} filters"
            found[key] = Cell(role, ratio, _with(file, {"activation": arm, "filters": width}, recipe))
    return found


def check_distinct(file: ClaimFile) -> None:
    """Refuse ratios that give the same network, a curve without one width, and arms that say nothing new.

    Raises:
        InputError: names the key.
    """
    scaled = {_scaled(file, ratio) for ratio in file.ratios}
    if len(scaled) < len(file.ratios):
        raise InputError(
            f"ratios: received {list(file.ratios)}. Allowed: each gives another number of filters"
        )
    if file.curve is not None and isinstance(Config.model_validate(file.config).filters, tuple):
        raise InputError("curve: received with filters for each stage. Allowed: with one number of filters")
    for arm in file.also:
        if arm in (file.control, file.treatment) or file.also.count(arm) > 1:
            raise InputError(
                f"also: received {arm!r}. Allowed: arms other than control and treatment, each once"
            )
