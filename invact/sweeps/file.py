"""The keys of a sweep's file, and the function that reads and checks the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from invact.config import Config, Scalar, Seed, Seeds
from invact.data.augmentation import check_augmentations
from invact.data.dataset import Source
from invact.data.scale import PixelRange
from invact.deploy.timer import Timing
from invact.errors import InputError, one_of, within
from invact.files import beside, find, read_toml
from invact.recipes import read_recipe
from invact.reports.summary.reference import Reference, check_in_space
from invact.search.drivers import DRIVERS, LEARNING, check_sampler
from invact.search.objectives import Objective
from invact.search.pruning import Pruner, check_pruner, shorthand
from invact.spaces.space import SearchSpace, load_space
from invact.sweeps.identity import earlier_identity, identity_of
from invact.validation import Frozen, check_name, import_all, override, validate

if TYPE_CHECKING:
    from invact.data.dataset import Dataset

__all__ = ["Sweep", "SweepFile", "load_sweep"]

_ELSEWHERE = {"space", "data", "config", "trials", "pixel_range", "sampler", "reference"}
"""Keys that are no part of the identity: the space, the data or the sampler contain what they decide, and
`trials` and `reference` decide no result."""


class SweepFile(Frozen):
    """The keys of a sweep's TOML file.

    Attributes:
        space: the name of a shipped search space, or a path relative to the file.
        data: the name of a data set, or a path relative to the file.
        split_seed: the seed that chooses the training images used for validation.
        validation_fraction: the share of the training images used for validation.
        pixel_range: the pixel values that networks scale to -1 and 1; None derives them from the images.
        objective: what the search optimizes, and the budgets.
        timing: how networks are timed, if the objective uses latency.
        driver: the library that proposes configurations, `optuna` or `keras_tuner`.
        sampler: a sampler of the driver, by default the driver's first.
        pruner: which trainings stop early; None lets every training come to its end.
        trials: the total number of configurations. Configurations over budget count too.
        seed: the seed of the sampler.
        seeds: the training seeds. Each configuration is trained once with each seed.
        imports: modules that register the user's own arms and MAC rules.
        recipe: the name of a shipped recipe, or a path relative to the file. `config` has its values when the
            sweep is read, so no dump and no identity contains this key.
        config: values of `Config` that are the same for all trials.
        enqueue: configurations to try first.
        warm_start: names of earlier sweeps on the same data, whose trials the sampler is told first.
        reference: published figures of some of the configurations. They are only reported.
    """

    space: str
    data: str
    split_seed: Seed = 0
    validation_fraction: Annotated[float, Field(strict=True, gt=0, lt=1)] = 1 / 6
    pixel_range: PixelRange | None = None
    objective: Objective = Objective()
    timing: Timing = Timing()
    driver: str = "optuna"
    sampler: str | None = None
    pruner: Annotated[Pruner | None, BeforeValidator(shorthand)] = None
    trials: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 20
    seed: Seed = 0
    seeds: Seeds = (0,)
    imports: tuple[str, ...] = ()
    recipe: str | None = Field(default=None, exclude=True)
    config: dict[str, Any] = Field(default_factory=dict)
    enqueue: tuple[dict[str, Scalar], ...] = ()
    warm_start: tuple[str, ...] = ()
    reference: tuple[Reference, ...] = ()


@dataclass(frozen=True)
class Sweep:
    """A sweep that was read and checked.

    Attributes:
        name: the stem of the file's name. The experiment in MLflow has this name.
        path: the path of the file.
        file: the values of the file, after the overrides; `config` has those values of the recipe that count.
        space: the search space; the values of the file's `config` are fixed in it.
        source: where the data come from.
        sampler: the sampler of the driver.
        epochs: the largest number of epochs of a training.
    """

    name: str
    path: Path
    file: SweepFile
    space: SearchSpace
    source: Source
    sampler: str
    epochs: int

    @property
    def runs(self) -> int:
        """Number of runs of the whole sweep: one for each configuration and seed."""
        return self.file.trials * len(self.file.seeds)

    def identity(self, data: Dataset) -> str:
        """Hash everything that affects the results; the name and the number of trials do not.

        A sweep with the same name and identity as a recorded one continues it. The digest of the data covers
        the split and the pixel range. The timing has no effect unless the search uses latency. The versions
        of the libraries are not part of the identity: each run keeps its own.
        """
        left_out = {*_ELSEWHERE, "split_seed", "validation_fraction"}
        if not self.file.objective.timed:
            left_out.add("timing")
        settings = self.file.model_dump(mode="json", exclude=left_out, exclude_defaults=True)
        return identity_of(settings, self.space, self.sampler, data.digest)

    def earlier_identities(self, data: Dataset) -> tuple[str, ...]:
        """The identities under which earlier versions of invact may have recorded this sweep."""
        every = self.file.model_dump(mode="json", exclude=_ELSEWHERE)
        settings = self.file.model_dump(mode="json", exclude=_ELSEWHERE, exclude_defaults=True)
        found = earlier_identity(every, settings, self.space, self.sampler, data.digest)
        return () if found is None else (found,)


def load_sweep(reference: str | Path, overrides: Mapping[str, Any] | None = None) -> Sweep:
    """Read and check a sweep.

    Args:
        reference: the name of a shipped sweep, or the path of a TOML file.
        overrides: values that replace values of the file, by dotted key: `{"config.epochs": 3}`.

    Raises:
        InputError: the sweep is not valid. The message names the file, the key, and the received and allowed
            values.

    Example:
        >>> load_sweep("digits", {"trials": 4}).file.trials
        4
        >>> load_sweep("digits", {"trails": 4})
        Traceback (most recent call last):
        ...
        invact.errors.InputError: ...digits.toml: trails: unknown key, received 'trails'; did you mean ...
    """
    path = find("sweeps", reference)
    values = override(read_toml(path), overrides or {})
    if "ratios" in values:
        raise InputError(
            f"{path}: this is a claim. Allowed: a sweep (run a claim with: invact claim {reference})"
        )
    file = validate(SweepFile, values, str(path))
    with within(str(path)):
        if file.driver not in DRIVERS:
            raise one_of("driver", file.driver, DRIVERS)
        if file.sampler is not None:
            check_sampler(file.driver, file.sampler)
        sampler = file.sampler or DRIVERS[file.driver][0]
        for name in file.warm_start:
            check_name(name, "warm_start")
        if file.warm_start and sampler not in LEARNING[file.driver]:
            raise InputError(
                f"warm_start: received {list(file.warm_start)} with sampler = {sampler!r}, which reads no "
                f"results of others. Allowed with {file.driver}: {', '.join(LEARNING[file.driver])}"
            )
        import_all(file.imports)
        space = load_space(file.space, path.parent)
        # What the space has, a recipe does not fix; a recipe has values for most of what a sweep searches.
        parameters = {key for one in space.parameters for key in (one.name, one.name.rpartition(".")[0])}
        recipe = read_recipe(file.recipe, path).without({*file.config, *parameters})
        file = file.model_copy(update={"config": {**recipe.values, **file.config}})
        with recipe.blamed():
            space = space.fixed(file.config, "config.")
            for parameter in space.parameters:
                if parameter.name == "augmentation":
                    for value in parameter.domain.values():
                        check_augmentations(Config(augmentation=str(value)).augmentations, file.data)
        for number, queued in enumerate(file.enqueue):
            space.check(queued, f"enqueue.{number}")
        check_in_space(file.reference, space)
        epochs = space.longest
        if file.pruner is not None:
            check_pruner(file.pruner, sampler, space, epochs)
        return Sweep(
            name=check_name(path.stem),
            path=path,
            file=file,
            space=space,
            source=Source(
                beside(path, file.data), file.split_seed, file.validation_fraction, file.pixel_range
            ),
            sampler=sampler,
            epochs=epochs,
        )
