"""The claim that is read from its file and checked, with its seeds, its networks and their costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invact.claims.cells import NETWORKS, Cell, Hyperparameters, cells_of, check_distinct, curve_of
from invact.claims.keys import ClaimFile
from invact.config import Config, Scalar, StageArms, digest
from invact.data.augmentation import check_augmentations
from invact.data.dataset import Source
from invact.errors import InputError, within
from invact.files import beside, find, read_toml
from invact.recipes import read_recipe
from invact.reports.summary.reference import check_among
from invact.statistics.sequential.course import CONFIRMATION, PILOT, SCREEN
from invact.validation import check_name, import_all, override, validate

if TYPE_CHECKING:
    from invact.cost.count import Cost
    from invact.data.dataset import Dataset

__all__ = ["Claim", "identity_of", "load_claim"]


STEPS = ("tuning", PILOT, SCREEN, CONFIRMATION, "curve")
BLOCK = 1000
"""Seeds of one network in one step; more than any step needs."""

_SET_BY_THE_CLAIM = {
    "activation": "cannot be set in a claim; use `control` and `treatment`",
    **dict.fromkeys(
        ("width_rule", "reference", "width_target"),
        "cannot be set in a claim; the claim sets it for each network",
    ),
}


@dataclass(frozen=True)
class Claim:
    """A claim that was read from its file and checked.

    Attributes:
        name: stem of the file name, which is also the name of the MLflow experiment.
        path: path of the file.
        file: values of the file, with the overrides applied; `config` has the values of the recipe.
        sources: where the data come from, one source for each data set.
    """

    name: str
    path: Path
    file: ClaimFile
    sources: tuple[Source, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """The ratios of filters, from the largest (the easiest) to the smallest."""
        return tuple(sorted(self.file.ratios, reverse=True))

    def seeds(self, step: str, key: str, count: int) -> tuple[int, ...]:
        """The first `count` seeds of a network in a step. No seed belongs to two networks or two steps.

        Example:
            >>> claim = load_claim("digits_claim")
            >>> claim.seeds("pilot", "control", 2), claim.seeds("confirmation", "treatment 0.5", 2)
            ((400000, 400001), (1205000, 1205001))
        """
        block = (len(STEPS) * self.file.seed + STEPS.index(step)) * NETWORKS + self._networks.index(key)
        return tuple(range(block * BLOCK, block * BLOCK + count))

    @cached_property
    def _networks(self) -> tuple[str, ...]:
        return (*self.cells(), *curve_of(self.file, self.ratios, {}))

    def cells(self, tuned_values: Mapping[str, Hyperparameters] | None = None) -> dict[str, Cell]:
        """Every network of the protocol by key, with the hyperparameters that the tuning selected."""
        return cells_of(self.file, self.ratios, tuned_values or {})

    def costs(self, data: Dataset) -> dict[str, Cost]:
        """Build every network of the protocol and of the curve once, and count the cost of each, by key.

        Raises:
            InputError: a network cannot be built, or cannot be saved. This is found before any training.
        """
        from invact.cost.count import count_macs
        from invact.networks.build import build_model
        from invact.networks.saving import check_saved
        from invact.networks.settings import keras_settings

        cells = self.cells() | curve_of(self.file, self.ratios, {})
        with within(str(self.path)), keras_settings():
            for cell in cells.values():
                check_saved(cell.config, data.input_shape, data.classes)
            return {
                key: count_macs(build_model(cell.config, data.input_shape, data.classes, data.pixel_range))
                for key, cell in cells.items()
            }


def load_claim(reference: str | Path, overrides: Mapping[str, Any] | None = None) -> Claim:
    """Read and check a claim.

    Args:
        reference: name of a shipped claim, or path of a TOML file.
        overrides: values that replace those of the file, by dotted key: `{"config.epochs": 3}`.

    Raises:
        InputError: a value is wrong; the message names the file, the key, the value and the allowed values.

    Example:
        >>> load_claim("digits_claim", {"margin": 0})
        Traceback (most recent call last):
        ...
        invact.errors.InputError: ...digits_claim.toml: margin: received 0. Allowed: greater than 0
    """
    path = find("sweeps", reference)
    values = override(read_toml(path), overrides or {})
    if "space" in values:
        raise InputError(
            f"{path}: this is a sweep. Allowed: a claim (to run the sweep: invact sweep {reference})"
        )
    imports = values.get("imports")
    # Imported first, because these modules may register arms that the file names. Validation refuses a wrong
    # type of `imports` below.
    if isinstance(imports, list):
        with within(str(path)):
            import_all(name for name in imports if isinstance(name, str))
    file = validate(ClaimFile, values, str(path))
    with within(str(path)):
        if len(set(file.data)) < len(file.data):
            raise InputError(f"data: received {list(file.data)}. Allowed: each data set once")
        recipe = read_recipe(file.recipe, path).without(file.config)
        file = file.model_copy(update={"config": {**recipe.values, **file.config}})
        with recipe.blamed():
            for key, reason in _SET_BY_THE_CLAIM.items():
                if key in file.config:
                    raise InputError(f"config: {key}: {reason}")
            network = validate(Config, file.config, "config")
            for name in file.data:
                check_augmentations(network.augmentations, name)
        file = _for_stages(file, network.depth)
        check_distinct(file)
        cells = cells_of(file, file.ratios, {}).values()
        networks: list[dict[str, Scalar]] = [
            {"arm": cell.role, "ratio": cell.ratio, "data": name} for cell in cells for name in file.data
        ]
        check_among(file.reference, networks)
        return Claim(
            name=check_name(path.stem),
            path=path,
            file=file,
            sources=tuple(
                Source(beside(path, name), file.split_seed, file.validation_fraction, file.pixel_range)
                for name in file.data
            ),
        )


def _for_stages(file: ClaimFile, depth: int) -> ClaimFile:
    """Check that each list of arms has one for each stage, and write a list of equal arms as this arm.

    Two files that mean the same claim then have the same settings, networks and earlier pilots.
    """

    def checked(key: str, arm: StageArms) -> StageArms:
        if isinstance(arm, str):
            return arm
        if len(arm) != depth:
            raise InputError(
                f"{key}: received {list(arm)}. Allowed: one arm for all stages, or a list of {depth} arms, "
                "one for each stage"
            )
        return arm if len(set(arm)) > 1 else arm[0]

    arms: dict[str, Any] = {key: checked(key, getattr(file, key)) for key in ("control", "treatment")}
    arms["also"] = tuple(checked(f"also.{place}", arm) for place, arm in enumerate(file.also))
    return file.model_copy(update=arms)


def identity_of(data: str) -> str:
    """Digest that identifies the record of a claim on one data set, together with the claim's name.

    Example:
        >>> identity_of("digits") == identity_of("digits")
        True
    """
    # The settings are left out because they may change until the registration; it is still the same claim.
    return digest({"data": data})
