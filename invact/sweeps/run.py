"""Running a sweep: a driver searches a space under a budget, and the result is a Pareto front."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from invact.deploy.timer import Timer
from invact.errors import within
from invact.execution.usage import TIME, record_usage
from invact.fronts.pareto import ParetoFront
from invact.measures import MEASURES, in_full
from invact.process.quiet import check_backend
from invact.process.spawning import check_script
from invact.search.pruning import Pruning, saved
from invact.sweeps.complete import complete_front, files_of, find_complete, source_file
from invact.sweeps.file import Sweep, load_sweep
from invact.sweeps.recorded import front_of, keep_winner
from invact.sweeps.reuse import Reuse
from invact.sweeps.warm import WARM, find_earlier
from invact.text import leading
from invact.tracking.store import open_store
from invact.training.results import Status

if TYPE_CHECKING:
    import pandas as pd

    from invact.data.dataset import Dataset

__all__ = ["SweepResult", "run_sweep"]

FEASIBLE = "invact.feasible"
"""The tag of the record that says how much of the space is within the budgets."""


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep.

    Attributes:
        name: the sweep's name.
        run_id: the id of the sweep's parent run in MLflow.
        front: the Pareto front of validation accuracy against MACs, or against the cost of the objective.
        table: one row for each configuration and seed.
        time: where the time of the last session that trained went, in one line; empty if none has.
    """

    name: str
    run_id: str
    front: ParetoFront
    table: pd.DataFrame
    time: str = ""

    def __repr__(self) -> str:
        """Name the sweep, its front and its winner; see `to_pandas` for the runs."""
        told = [f"{len(self.table)} runs", f"{len(self.front.points)} points on the front"]
        told += [str(self.front.winner)] if self.front.winner else []
        return f"SweepResult({self.name!r}: {', '.join(told)})"

    def _repr_html_(self) -> str:
        return self.front._repr_html_()

    def count(self, status: Status) -> int:
        """Count the runs with a status. FAILED runs are tried again when the sweep is run again."""
        return int((self.table["status"] == status).sum())

    def to_pandas(self) -> pd.DataFrame:
        """Return the table of runs; label, MACs and accuracies are the first columns."""
        return leading(self.table, "label", "macs", "validation_accuracy", "test_accuracy")


def run_sweep(
    sweep: Sweep | str | Path,
    *,
    store: str | Path | None = None,
    tracking_uri: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    fresh: bool = False,
    show: bool = True,
) -> SweepResult:
    """Run a sweep, or continue it. Finished runs are not trained again.

    If the record is complete, it is only read; then neither TensorFlow nor MLflow is imported.

    A run that another sweep or confirmation of the store has finished is taken over, if a training would come
    to the same numbers: the configuration, the seed, the data, the versions and variables that decide last
    digits, and the code of the user are the same.

    Args:
        sweep: a sweep, the name of a shipped sweep, or a path.
        store: the folder of the MLflow store, by default `mlruns`.
        tracking_uri: the address of an MLflow tracking server or database, to use instead of a folder.
        workers: number of processes that train, by default one for each core.
        scheduler: the address of a running Dask cluster.
        fresh: whether to train every run, and take over none.
        show: whether to show progress on standard error.

    Raises:
        InputError: the sweep is not valid, or no configuration of the space is within the budget; or a sweep
            of `warm_start` is not in the store, or has no trial in the space.
        EnvironmentFault: the data, the store or the cluster cannot be reached, or Keras uses another backend
            than TensorFlow; or each worker would run the calling script again, see
            `invact.process.spawning.check_script`.
    """
    check_backend()
    if scheduler is None:
        check_script()

    from invact.execution.display.progress import make_progress
    from invact.execution.display.stages import stage, track

    if not isinstance(sweep, Sweep):
        sweep = load_sweep(sweep)
    file = sweep.file
    data = None
    if (ended := find_complete(sweep, store, tracking_uri)) is not None:
        with stage("loading the data", show=show):
            data = sweep.source.load()
        if (complete := complete_front(ended, sweep, data)) is not None:
            front, table = complete
            data.report()
            with make_progress(sweep.runs, len(table), show=show) as progress:
                if file.pruner is not None:
                    progress.message(f"{sweep.name}: {saved(table, sweep.epochs)}")
            return SweepResult(sweep.name, ended.run_id, front, table, ended.tags.get(TIME, ""))

    from invact.execution.coordinator import Coordinator
    from invact.execution.race import Race
    from invact.execution.workers.engine import in_advance, on_demand
    from invact.execution.workers.template import start_template
    from invact.process.quiet import load_tensorflow
    from invact.reports.front import write_front
    from invact.search.gate import Gate
    from invact.search.search import Search

    with contextlib.ExitStack() as resources:
        if scheduler is None and not file.objective.timed:
            # Workers load TensorFlow at the same time as this process, unless networks are timed meanwhile.
            start_template(resources)
        if data is None:
            with stage("loading the data", show=show):
                data = sweep.source.load()
        earlier = find_earlier(sweep, data, store, tracking_uri)
        with stage("loading TensorFlow", show=show):
            load_tensorflow()
        data.report()
        timer = None
        if file.objective.timed:
            timer = resources.enter_context(Timer(file.timing, data, file.imports))
        gate = Gate(sweep.space, file.objective, data, None if timer is None else timer.latency_ms)
        search = Search(
            *(sweep.space, file.objective, gate),
            driver=file.driver,
            sampler=sweep.sampler,
            seed=file.seed,
            trials=file.trials,
            seeds=file.seeds,
            enqueue=file.enqueue,
            race=file.pruner is not None,
        )
        with within(str(sweep.path)), stage("checking the budgets", show=show):
            gate.check(file.seed)
        told = None
        if earlier is not None:
            with within(str(sweep.path)), within("warm_start"):
                told = earlier.told(gate)
            for values, outcome in told.trials:
                search.learn(values, outcome)
        opened = open_store(store, tracking_uri)
        record = resources.enter_context(
            opened.record(
                sweep.name,
                "sweep",
                sweep.identity(data),
                files={
                    **files_of(sweep),
                    **source_file(sweep, data),
                    **({WARM: told.text} if told is not None and told.text else {}),
                },
                params=file.model_dump(mode="json"),
                driver=file.driver,
                data=data,
                imports=file.imports,
                earlier=sweep.earlier_identities(data),
                tags={} if timer is None else {"invact.timed_on": timer.place},
            )
        )
        varied = [f"param.{one.name}" for one in sweep.space.parameters if one.domain.size > 1]
        measures = file.objective.measures or (file.objective.cost,)
        record.show(varied, ["validation_accuracy", *measures, "test_accuracy"])
        table = record.table()
        trials, race = search.resume(table), None
        if file.pruner is not None:
            decisions, begun = record.race()
            trials += search.resume(begun)
            rule = Pruning(file.pruner, file.objective, sweep.epochs, data.validation_count)
            race = Race(record, rule, decisions)
        engine = on_demand(
            *(resources, sweep.source, data),
            workers=workers,
            scheduler=scheduler,
            imports=file.imports,
            reserved=() if timer is None else timer.processors,
        )
        recall = None
        if not fresh:
            reuse = Reuse(opened, record, data.digest, gate.count)
            recall = reuse.recall
        if timer is None and not len(table) and (fresh or reuse.empty):
            # Something must be trained for certain, and timing needs a machine without other work.
            engine = in_advance(resources, engine)
        feasibility = None
        # Not "if the record is new": a session may have been killed before it wrote the share.
        if file.objective.budgets and FEASIBLE not in record.tags:
            feasibility = gate.feasibility(
                file.seed, lambda each: track(each, "checking the budgets", show=show)
            )
            record.summarize({"space/feasible": feasibility.share}, tags={FEASIBLE: str(feasibility)})
        with make_progress(sweep.runs, len(table), mark=search.mark, show=show) as progress:
            if feasibility is not None:
                progress.message(f"{sweep.name}: {feasibility}")
            for line in () if told is None else told.lines:
                progress.message(f"{sweep.name}: warm start: {line}")
            coordinator = Coordinator(
                *(record, progress, engine, table, trials),
                about=f"{sweep.name}: {data.train_count:,} training images",
                measure=file.objective.cost,
                race=race,
                recall=recall,
            )
            coordinator.run(search.propose, search.on_end, ahead=search.ahead)
            time = record_usage(record, coordinator.usage)
            if coordinator.usage.trainings:
                progress.message(f"{sweep.name}: {time}")
            table = record.table()
            if race is not None:
                progress.message(f"{sweep.name}: {saved(table, sweep.epochs)}")
        front = front_of(record, table, sweep.name)
        with tempfile.TemporaryDirectory() as folder:
            write_front(front, Path(folder))
            record.log_folder(Path(folder), "front")
        record.summarize(
            {"front/hypervolume": front.hypervolume, "front/points": len(front.points)},
            # MLflow shows the tag of this name on the page of the run.
            tags={"mlflow.note.content": description(sweep, data, front, time)},
        )
        if front.winner is not None:
            keep_winner(record, front.winner)
    return SweepResult(sweep.name, record.run_id, front, table, time)


def description(sweep: Sweep, data: Dataset, front: ParetoFront, time: str = "") -> str:
    """Describe a sweep, its front and its time in Markdown, for its page in MLflow."""
    file = sweep.file
    budgets = ", ".join(in_full(name, budget) for name, budget in file.objective.budgets.items())
    seeds = f"{len(file.seeds)} seeds" if len(file.seeds) > 1 else f"seed {file.seeds[0]}"
    pruned = "" if file.pruner is None else ", the worse ones stopped early by a pruner"
    about = (
        f"{file.trials} configurations of the space `{file.space}` on {data.name}, {seeds} each, proposed by "
        f"{sweep.sampler} of {file.driver}{pruned}. Objective: {file.objective.kind}"
    )
    points = [(one.label.replace("|", "/"), one.cost, one.accuracy) for one in front.points]
    return "\n".join(
        [
            f"{about}, at most {budgets}." if budgets else f"{about}.",
            "",
            f"| Pareto front | {MEASURES[front.measure].label} | validation accuracy |",
            "| --- | ---: | ---: |",
            *(f"| {label} | {cost:,.6g} | {accuracy:.2%} |" for label, cost, accuracy in points),
            *(["", time] if time else []),
        ]
    )
