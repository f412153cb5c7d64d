"""Sweeps: from a search space, a budget and a driver to a Pareto front."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from invact.augmentation import check
from invact.bands import MARGIN
from invact.config import (
    Config,
    Frozen,
    Scalar,
    Seed,
    Seeds,
    beside,
    check_name,
    digest,
    find,
    import_all,
    override,
    read_toml,
    validate,
)
from invact.data import Source
from invact.drivers import DRIVERS
from invact.errors import InputError, one_of, within
from invact.objectives import Objective
from invact.pareto import ParetoFront, pareto_front_of
from invact.results import Status
from invact.spaces import SearchSpace, load_space
from invact.timer import Timer, Timing

if TYPE_CHECKING:
    import pandas as pd

    from invact.data import Dataset
    from invact.record import Record

__all__ = ["Sweep", "SweepResult", "load_sweep", "pareto_front", "run_sweep"]

SETTINGS, SOURCE = "settings.json", "source.json"
"""Files of the record: what the sweep's file and the overrides came to, and where the data are."""


class SweepFile(Frozen):
    """The keys of a sweep's TOML file.

    Attributes:
        space: a shipped search space's name, or a path relative to the file.
        data: a data set's name, or a path relative to the file.
        split_seed: decides which training images validate.
        validation_fraction: how many of them.
        objective: what to search for, and the budgets.
        timing: how networks are timed, where the objective asks for latency.
        driver: `optuna` or `keras_tuner`.
        sampler: one of the driver's; its default unless given.
        trials: how many configurations in all, those over budget included.
        seed: the sampler's.
        seeds: the training seeds; each configuration is trained once with each.
        imports: modules that register the user's own arms and MAC rules.
        config: values of `Config` that are the same for all trials.
        enqueue: configurations to try first.
    """

    space: str
    data: str
    split_seed: Seed = 0
    validation_fraction: Annotated[float, Field(strict=True, gt=0, lt=1)] = 1 / 6
    objective: Objective = Objective()
    timing: Timing = Timing()
    driver: str = "optuna"
    sampler: str | None = None
    trials: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 20
    seed: Seed = 0
    seeds: Seeds = (0,)
    imports: tuple[str, ...] = ()
    config: dict[str, Any] = Field(default_factory=dict)
    enqueue: tuple[dict[str, Scalar], ...] = ()


@dataclass(frozen=True)
class Sweep:
    """A sweep that was read and checked.

    Attributes:
        name: the file's stem; names the experiment in MLflow.
        path: the file.
        file: its values, with the overrides in them.
        space: the search space, with the file's `config` fixed in it.
        source: where the data come from.
        sampler: the driver's sampler.
    """

    name: str
    path: Path
    file: SweepFile
    space: SearchSpace
    source: Source
    sampler: str

    def identity(self, data: Dataset) -> str:
        """Hash what decides the results: all but the name and the number of trials.

        Running a sweep of the same name and identity continues it.
        """
        settings = self.file.model_dump(mode="json", exclude={"space", "data", "config", "trials"})
        space = repr(self.space.parameters)
        return digest(settings | {"space": space, "data": data.digest, "sampler": self.sampler})


@dataclass(frozen=True)
class SweepResult:
    """What a sweep found.

    Attributes:
        name: the sweep's.
        run_id: its parent run in MLflow.
        front: the Pareto front of validation accuracy against MACs.
        table: one row for each (configuration, seed).
    """

    name: str
    run_id: str
    front: ParetoFront
    table: pd.DataFrame

    def count(self, status: Status) -> int:
        """Count the runs that ended so. FAILED ones are tried again when the sweep is run again."""
        return int((self.table["status"] == status).sum())

    def to_pandas(self) -> pd.DataFrame:
        """Return a copy of the table of runs."""
        return self.table.copy()


def load_sweep(reference: str | Path, overrides: Mapping[str, Any] | None = None) -> Sweep:
    """Read and check a sweep.

    Args:
        reference: a shipped sweep's name, or a path to a TOML file.
        overrides: values that replace the file's, by dotted key: `{"config.epochs": 3}`.

    Raises:
        InputError: names the file, the key, what was received and what is allowed.

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
        raise InputError(f"{path}: this is a claim. Allowed: a sweep (for a claim: invact claim {reference})")
    file = validate(SweepFile, values, str(path))
    with within(str(path)):
        if file.driver not in DRIVERS:
            raise one_of("driver", file.driver, DRIVERS)
        if file.sampler is not None and file.sampler not in DRIVERS[file.driver]:
            raise one_of(f"sampler of {file.driver}", file.sampler, DRIVERS[file.driver])
        import_all(file.imports)
        space = load_space(file.space, path.parent).fix(**file.config)
        for parameter in space.parameters:
            if parameter.name == "augmentation":
                for value in parameter.domain.values():
                    check(Config(augmentation=str(value)).augmentations, file.data)
        for number, queued in enumerate(file.enqueue):
            space.check(queued, f"enqueue.{number}")
        return Sweep(
            name=check_name(path.stem),
            path=path,
            file=file,
            space=space,
            source=Source(beside(path, file.data), file.split_seed, file.validation_fraction),
            sampler=file.sampler or DRIVERS[file.driver][0],
        )


def run_sweep(
    sweep: Sweep | str | Path,
    *,
    store: str | Path | None = None,
    tracking_uri: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    show: bool = True,
) -> SweepResult:
    """Run a sweep, or continue it: what is finished is not trained again.

    Args:
        sweep: a sweep, a shipped sweep's name, or a path.
        store: the folder of the MLflow store; `mlruns` unless given.
        tracking_uri: an MLflow tracking server or database instead.
        workers: processes to train with; one for each core unless given.
        scheduler: the address of a Dask cluster that is up already.
        show: whether to show progress on standard error.

    Raises:
        InputError: bad input, or no configuration of the space is within the budget.
        EnvironmentFault: the data, the store or the cluster is out of reach.
    """
    from invact.coordinator import Coordinator
    from invact.engine import Engine
    from invact.gate import Gate
    from invact.progress import make_progress, track
    from invact.report import write_front
    from invact.search import Search
    from invact.tracking import open_store

    if not isinstance(sweep, Sweep):
        sweep = load_sweep(sweep)
    file = sweep.file
    data = sweep.source.load()
    with contextlib.ExitStack() as resources:
        timer = None
        if file.objective.timed:
            timer = resources.enter_context(Timer(file.timing, data, file.imports))
        gate = Gate(sweep.space, file.objective, data, None if timer is None else timer.latency_ms)
        search = Search(sweep, gate)
        with within(str(sweep.path)):
            gate.check()
        record = resources.enter_context(
            open_store(None if store is None else Path(store), tracking_uri).record(
                sweep.name,
                "sweep",
                sweep.identity(data),
                files={
                    sweep.path.name: sweep.path.read_text(encoding="utf-8"),
                    SETTINGS: file.model_dump_json(indent=1),
                    SOURCE: json.dumps(asdict(sweep.source) | {"digest": data.digest}, indent=1),
                },
                params=file.model_dump(mode="json"),
                driver=file.driver,
                data=data,
                tags={} if timer is None else {"invact.timed_on": timer.place},
            )
        )
        unfinished = search.resume(record.table())
        if unfinished or search.started < file.trials:
            feasibility = None
            if file.objective.budgets and not record.resumed:
                feasibility = gate.feasibility(file.seed, lambda each: track(each, "space", show=show))
                record.summarize({"space/feasible": feasibility.share})
            runs, done = file.trials * len(file.seeds), search.started * len(file.seeds)
            with (
                make_progress(runs, done, show=show) as progress,
                Engine(
                    sweep.source,
                    data,
                    workers=workers,
                    scheduler=scheduler,
                    imports=file.imports,
                    reserved=() if timer is None else timer.processors,
                ) as engine,
            ):
                progress.message(f"{sweep.name}: {engine.slots} workers, {data!r}")
                if feasibility is not None:
                    progress.message(f"{sweep.name}: {feasibility}")
                search.run(Coordinator(engine, record, progress), record, unfinished)
        table = record.table()
        front = front_of(record, table, sweep.name)
        with tempfile.TemporaryDirectory() as folder:
            write_front(front, Path(folder))
            record.log_folder(Path(folder), "front")
        record.summarize({"front/hypervolume": front.hypervolume, "front/points": len(front.points)})
    return SweepResult(sweep.name, record.run_id, front, table)


def pareto_front(
    name: str,
    *,
    driver: str | None = None,
    margin: float | None = None,
    attainment: bool = False,
    store: str | Path | None = None,
    tracking_uri: str | None = None,
) -> ParetoFront:
    """Read the front of a sweep from its record; the newest sweep of that name, finished or not.

    Args:
        name: the sweep's name.
        driver: of several sweeps of that name, the newest with this driver.
        margin: between the fronts of two activations, the loss of accuracy that counts as equal, in points;
            0.3 unless given.
        attainment: whether to add attainment surfaces, which need the extra `eaf` and several seeds.
        store: the folder of the MLflow store; `mlruns` unless given.
        tracking_uri: an MLflow tracking server or database instead.

    Raises:
        InputError: there is no such sweep (names the nearest), or its seeds are too few for what is asked.
        EnvironmentFault: the store is out of reach, or the extra is missing.
    """
    record = find_sweep(name, driver, store, tracking_uri)
    front = front_of(record, record.table(), name, MARGIN if margin is None else margin, attainment)
    if attainment and front.uncertainty is None:
        raise InputError(f"attainment: insufficient: {name!r} has one seed. Allowed: two or more finished")
    if margin is not None and (front.uncertainty is None or not front.uncertainty.gaps):
        allowed = "with two values of `activation`, each finished on the same three seeds or more"
        raise InputError(
            f"margin: received {margin:g}, and {name!r} has no fronts to compare. Allowed: {allowed}"
        )
    return front


def find_sweep(name: str, driver: str | None, store: str | Path | None, tracking_uri: str | None) -> Record:
    """Find the newest record of a sweep; see `pareto_front`."""
    from invact.tracking import open_store

    check_name(name)
    if tracking_uri is None and not (folder := Path("mlruns" if store is None else store)).exists():
        # Looking makes no store.
        raise InputError(
            f"store: received {str(folder)!r}, which is not there. Allowed: where sweeps have run"
        )
    return open_store(None if store is None else Path(store), tracking_uri).latest(name, "sweep", driver)


def front_of(
    record: Record, table: pd.DataFrame, name: str, margin: float = MARGIN, attainment: bool = False
) -> ParetoFront:
    """Build the front of a sweep's record from its table of runs; see `pareto_front`."""
    objective = json.loads(record.read(SETTINGS))["objective"]
    measure = objective.get("cost", "macs")
    budget = objective.get(f"max_{measure}")
    # With a budget the reference is the same however far the sweep has come.
    reference = (0.0, float(budget)) if budget else None
    return pareto_front_of(table, name, reference, budget, margin, attainment, measure=measure)
