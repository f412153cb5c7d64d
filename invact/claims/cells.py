"""The networks of a claim: each arm of the protocol at each of its widths, with its training recipe."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from invact.arms import arm_text
from invact.config import Config
from invact.errors import InputError
from invact.statistics.ratios.local import LEAST_WIDTHS, fits_cubic

if TYPE_CHECKING:
    from invact.claims.keys import ClaimFile

__all__ = [
    "CONTROL",
    "MATCHED",
    "NETWORKS",
    "PLACEBO",
    "TREATMENT",
    "Cell",
    "Hyperparameters",
    "cell_key",
    "cells_of",
    "check_distinct",
    "curve_of",
]

NETWORKS = 400
"""Largest number of networks of a claim: each has its own block of seeds."""
CONTROL, TREATMENT, PLACEBO, MATCHED = "control", "treatment", "placebo", "matched"


@dataclass(frozen=True)
class Hyperparameters:
    """The part of a network's recipe that the tuning selects.

    Attributes:
        learning_rate: peak learning rate of the schedule.
        weight_decay: decoupled weight decay.
    """

    learning_rate: float
    weight_decay: float


@dataclass(frozen=True)
class Cell:
    """One network of the protocol.

    Attributes:
        role: `control`: the control's activation at the full width. `treatment`: the treatment's activation
            at a ratio of that width. `placebo`: the control's activation with the treatment's number of
            filters; it shows the cost of shrinking alone. `matched`: the smallest network with the control's
            activation that has at least the treatment's MACs. Any other role is an arm of `also` with the
            treatment's number of filters.
        ratio: ratio of filters to those of the control; 1 for the control.
        config: the network and its recipe.
        on_curve: whether the network belongs to the curve; its key then has its number of filters.
    """

    role: str
    ratio: float
    config: Config
    on_curve: bool = False

    @property
    def key(self) -> str:
        """The key that names the network in files, for example `treatment 0.5`."""
        if self.on_curve:
            return f"{self.role} {filters_text(self.config.filters)} filters"
        return cell_key(self.role, self.ratio)

    @property
    def label(self) -> str:
        """Short text for tables: role, activation and number of filters."""
        rule = "" if self.config.width_rule == "filters" else ", at least the same MACs"
        arm, filters = arm_text(self.config.activation), filters_text(self.config.filters)
        return f"{self.key}: {arm}, {filters} filters{rule}"


def filters_text(filters: int | tuple[int, ...]) -> str:
    """Write the number of filters, joined by hyphens if there is one for each stage.

    Example:
        >>> filters_text(8), filters_text((8, 16))
        ('8', '8-16')
    """
    return str(filters) if isinstance(filters, int) else "-".join(map(str, filters))


def cell_key(role: str, ratio: float = 1.0) -> str:
    """Make the key of a network of the protocol.

    Example:
        >>> cell_key("treatment", 0.5), cell_key("control")
        ('treatment 0.5', 'control')
    """
    return role if role == CONTROL else f"{role} {ratio:g}"


def cells_of(
    file: ClaimFile, ratios: Iterable[float], tuned_values: Mapping[str, Hyperparameters]
) -> dict[str, Cell]:
    """Every network of the protocol by key, without those of the curve."""
    found = {}
    for role, ratio in [
        (CONTROL, 1.0),
        *((role, ratio) for ratio in ratios for role in (TREATMENT, PLACEBO, MATCHED, *file.further)),
    ]:
        key = cell_key(role, ratio)
        found[key] = Cell(role, ratio, _config(file, role, ratio, tuned_values.get(key)))
    return found


def _config(file: ClaimFile, role: str, ratio: float, hyperparameters: Hyperparameters | None) -> Config:
    values: dict[str, Any] = {"filters": _scaled(file, ratio)}
    if role in (CONTROL, PLACEBO):
        values["activation"] = file.control
    elif role == MATCHED:
        # The closest network is often the smaller one, and then a better treatment is no evidence.
        values |= {"activation": file.control, "width_rule": "macs_at_least", "reference": file.treatment}
    else:
        values["activation"] = file.treatment if role == TREATMENT else file.further[role]
    return _with(file, values, hyperparameters)


def _with(file: ClaimFile, values: Mapping[str, Any], hyperparameters: Hyperparameters | None) -> Config:
    tuned = {} if hyperparameters is None else asdict(hyperparameters)
    return Config.model_validate({**file.config, **values, **tuned})


def _scaled(file: ClaimFile, ratio: float) -> int | tuple[int, ...]:
    width = Config.model_validate(file.config).filters
    scaled = tuple(max(1, round(ratio * each)) for each in (width if isinstance(width, tuple) else (width,)))
    return scaled if isinstance(width, tuple) else scaled[0]


def curve_of(
    file: ClaimFile, ratios: Iterable[float], tuned_values: Mapping[str, Hyperparameters]
) -> dict[str, Cell]:
    """The networks of the curve by key, for example `treatment 9 filters`, without those of the screen.

    Each arm uses the hyperparameters of its own tuning. The treatment is tuned at several widths; a network
    of the curve takes the values of the nearest width on a logarithmic scale.
    """
    if file.curve is None:
        return {}
    found = {}
    full = Config.model_validate(file.config).filters
    screened = {_scaled(file, ratio) for ratio in ratios}
    for role, arm, widths in (
        (CONTROL, file.control, file.curve.control or ()),
        (TREATMENT, file.treatment, file.curve.treatment),
    ):
        for width in widths:
            if role == TREATMENT and width in screened:
                continue
            ratio = width / (full if isinstance(full, int) else full[0])
            near = min(ratios, key=lambda each: max(each / ratio, ratio / each))
            hyperparameters = tuned_values.get(cell_key(role, near))
            values = {"activation": arm, "filters": width}
            cell = Cell(role, ratio, _with(file, values, hyperparameters), on_curve=True)
            found[cell.key] = cell
    return found


def check_distinct(file: ClaimFile) -> None:
    """Refuse ratios that give equal networks, a curve that cannot be fitted, repeated arms, and too much.

    Raises:
        InputError: one of these was found; the message names the key.
    """
    scaled = {_scaled(file, ratio) for ratio in file.ratios}
    if len(scaled) < len(file.ratios):
        raise InputError(
            f"ratios: received {list(file.ratios)}. Allowed: ratios that give different numbers of filters"
        )
    if file.curve is not None and isinstance(Config.model_validate(file.config).filters, tuple):
        raise InputError(
            "curve: received together with a number of filters for each stage. Allowed: one number of filters"
        )
    if file.curve is not None:
        widths = sorted({*file.curve.treatment, *scaled})
        if not fits_cubic(widths):
            raise InputError(
                f"curve.treatment: received {list(file.curve.treatment)}, which gives the widths {widths} "
                f"together with the ratios. Allowed: {LEAST_WIDTHS} or more that are spread over the curve"
            )
    networks = len(cells_of(file, file.ratios, {})) + len(curve_of(file, file.ratios, {}))
    if networks > NETWORKS:
        raise InputError(
            f"ratios, also, curve: received {networks} networks together. Allowed: {NETWORKS} at most"
        )
    for arm in file.also:
        if arm in (file.control, file.treatment) or file.also.count(arm) > 1:
            received = arm if isinstance(arm, str) else list(arm)
            raise InputError(
                f"also: received {received!r}. Allowed: arms other than control and treatment, each once"
                f"{_nested(file)}"
            )


def _nested(file: ClaimFile) -> str:
    """The hint for arms of the stages that are written as if each were an arm of its own."""
    names = [arm for arm in file.also if isinstance(arm, str)]
    if not len(names) == len(file.also) == Config.model_validate(file.config).depth > 1:
        return ""
    return f"; the arms of the {len(names)} stages are a list in the list, also = [{json.dumps(names)}]"
