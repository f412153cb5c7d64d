"""The file of a claim: its keys, and the claim that was read from it and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invact.claims.cells import Cell, Hyperparameters, cells_of, check_distinct, curve_of
from invact.claims.keys import ClaimFile
from invact.config import Config, digest
from invact.data.augmentation import check_augmentations
from invact.data.dataset import Source
from invact.errors import InputError, within
from invact.files import beside, find, read_toml
from invact.validation import check_name, import_all, override, validate

if TYPE_CHECKING:
    from invact.cost.count import Cost
    from invact.data.dataset import Dataset

__all__ = ["Claim", "identity_of", "load_claim"]


BLOCKS = ("tuning", "pilot", "confirmation", "repeat", "curve")
BLOCK = 10_000


@dataclass(frozen=True)
class Claim:
    """A claim that was read and checked.

    Attributes:
        name: the file's stem; names the experiment in MLflow.
        path: the file.
        file: its values, with the overrides in them.
        sources: where the data come from, one for each data set.
    """

    name: str
    path: Path
    file: ClaimFile
    sources: tuple[Source, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """The ratios of filters, from the easiest down."""
        return tuple(sorted(self.file.ratios, reverse=True))

    def seeds(self, block: str, count: int) -> tuple[int, ...]:
        """The first seeds of a block; the blocks of a claim have none in common.

        Example:
            >>> load_claim("digits_claim").seeds("confirmation", 3)
            (20000, 20001, 20002)
        """
        start = (len(BLOCKS) * self.file.seed + BLOCKS.index(block)) * BLOCK
        return tuple(range(start, start + count))

    def cells(self, recipes: Mapping[str, Hyperparameters] | None = None) -> dict[str, Cell]:
        """Every network of the protocol by key, with the recipes that the tuning found in them."""
        return cells_of(self.file, self.ratios, recipes or {})

    def costs(self, data: Dataset) -> dict[str, Cost]:
        """Build every network of the protocol once, the curve's too, and count what each costs, by key.

        Raises:
            InputError: a network cannot be built; it is refused before any training.
        """
        from invact.cost.count import count_macs
        from invact.networks.build import build_model

        cells = self.cells() | curve_of(self.file, self.ratios, {})
        with within(str(self.path)):
            return {
                key: count_macs(build_model(cell.config, data.input_shape, data.classes, data.maximum))
                for key, cell in cells.items()
            }


def load_claim(reference: str | Path, overrides: Mapping[str, Any] | None = None) -> Claim:
    """Read and check a claim.

    Args:
        reference: a shipped claim's name, or a path to a TOML file.
        overrides: values that replace the file's, by dotted key: `{"config.epochs": 3}`.

    Raises:
        InputError: names the file, the key, what was received and what is allowed.

    Example:
        >>> load_claim("digits_claim", {"margin": 0})
        Traceback (most recent call last):
        ...
        invact.errors.InputError: ...digits_claim.toml: margin: received 0. Allowed: greater than 0
    """
    path = find("sweeps", reference)
    values = override(read_toml(path), overrides or {})
    if "space" in values:
        raise InputError(f"{path}: this is a sweep. Allowed: a claim (for a sweep: invact sweep {reference})")
    imports = values.get("imports")
    # First, as they may register the arms that it names; what is no list of texts is refused below.
    if isinstance(imports, list):
        with within(str(path)):
            import_all(name for name in imports if isinstance(name, str))
    file = validate(ClaimFile, values, str(path))
    with within(str(path)):
        if len(set(file.data)) < len(file.data):
            raise InputError(f"data: received {list(file.data)}. Allowed: each once")
        with within("config"):
            for key in ("activation", "width_rule", "reference", "width_target"):
                if key in file.config:
                    raise InputError(
                        f"{key}: received {file.config[key]!r}. Allowed: nothing, the claim decides it"
                    )
            for name in file.data:
                check_augmentations(validate(Config, file.config, "values").augmentations, name)
        check_distinct(file)
        return Claim(
            name=check_name(path.stem),
            path=path,
            file=file,
            sources=tuple(
                Source(beside(path, name), file.split_seed, file.validation_fraction) for name in file.data
            ),
        )


def identity_of(data: str) -> str:
    # What is trained and tested may change until it is registered: it is still this claim.
    return digest({"data": data})
