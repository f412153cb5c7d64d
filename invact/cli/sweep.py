"""`invact sweep`: search a space of networks under a budget."""

from __future__ import annotations

from typing import Annotated

import typer

from invact.cli.options import (
    Epochs,
    Json,
    Scheduler,
    Settings,
    Store,
    TrackingUri,
    Workers,
    in_file,
    named,
    number,
    overrides,
    show,
    show_pages,
)
from invact.errors import Incomplete
from invact.process.quiet import stdout_to_stderr
from invact.search.drivers import DRIVERS

__all__ = ["sweep"]


def sweep(
    reference: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="Name of a shipped sweep, or path of a TOML file.")
    ],
    driver: Annotated[
        str | None, in_file("Library that proposes configurations: optuna or keras_tuner.", "NAME")
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Sampler of the driver, for example tpe or random.",
            show_default="the file's value, or the first sampler of --driver",
        ),
    ] = None,
    pruner: Annotated[
        str | None, in_file("Rule that stops trainings early: successive_halving, or none.", "NAME")
    ] = None,
    trials: Annotated[int | None, in_file("Total number of configurations. Finished ones count too.")] = None,
    max_macs: Annotated[
        str | None, in_file("Budget of multiply-accumulates (MACs), for example 200k.", "NUMBER")
    ] = None,
    max_params: Annotated[str | None, in_file("Budget of parameters.", "NUMBER")] = None,
    max_activation_bytes: Annotated[
        str | None, in_file("Budget of peak activation memory, in bytes.", "NUMBER")
    ] = None,
    max_bytes_moved: Annotated[
        str | None, in_file("Budget of bytes that one inference reads and writes.", "NUMBER")
    ] = None,
    max_latency_ms: Annotated[
        float | None, in_file("Budget of the median time of one inference, in milliseconds.")
    ] = None,
    epochs: Epochs = None,
    seed: Annotated[int | None, in_file("Seed of the sampler.")] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Train every run; take over no finished run of another sweep."),
    ] = False,
    store: Store = None,
    tracking_uri: TrackingUri = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Search a space of networks under a budget. The result is a Pareto front.

    If the command is interrupted, run it again to continue.
    """
    # The libraries that train and draw are imported after the check of the input, so that a mistake is
    # answered at once.
    from invact.data.sources import locate
    from invact.sweeps.file import load_sweep

    options = {
        "driver": ("--driver", driver),
        "sampler": ("--sampler", sampler),
        "pruner": ("--pruner", pruner),
        "trials": ("--trials", trials),
        "objective.max_macs": ("--max-macs", number(max_macs)),
        "objective.max_params": ("--max-params", number(max_params)),
        "objective.max_activation_bytes": ("--max-activation-bytes", number(max_activation_bytes)),
        "objective.max_bytes_moved": ("--max-bytes-moved", number(max_bytes_moved)),
        "objective.max_latency_ms": ("--max-latency-ms", max_latency_ms),
        "config.epochs": ("--epochs", epochs),
        "seed": ("--seed", seed),
    }
    changes = overrides({key: value for key, (_, value) in options.items()}, settings)
    if driver is not None and sampler is None:
        # The sampler in the file belongs to the driver in the file.
        changes.setdefault("sampler", DRIVERS.get(driver, [""])[0])
    given = {key: option for key, (option, value) in options.items() if value is not None}
    with stdout_to_stderr(), named(changes, given):
        read = load_sweep(reference, changes)
        locate(read.source.name)
    from invact.reports.front import front_table, front_values
    from invact.sweeps.run import run_sweep
    from invact.training.results import Status

    with stdout_to_stderr():
        result = run_sweep(
            read, store=store, tracking_uri=tracking_uri, workers=workers, scheduler=scheduler, fresh=fresh
        )
    failed = result.count(Status.FAILED)
    pruned = {} if read.file.pruner is None else {"pruned": result.count(Status.PRUNED)}
    show(
        as_json,
        {"run_id": result.run_id, "failed": failed, "time": result.time}
        | pruned
        | front_values(result.front),
        front_table(result.front),
    )
    show_pages(result.name, [result.run_id], store, tracking_uri)
    if failed:
        raise Incomplete(f"{result.name}: {failed} runs failed; the same command tries them again")
