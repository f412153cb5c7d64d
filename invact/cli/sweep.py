"""`invact sweep`: search a space under a budget."""

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
    overrides,
    show,
)
from invact.errors import Incomplete
from invact.quiet import load_tensorflow
from invact.search.drivers import DRIVERS

__all__ = ["sweep"]


def sweep(
    reference: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A shipped sweep or a TOML file.")],
    driver: Annotated[str | None, typer.Option(help="optuna or keras_tuner.")] = None,
    sampler: Annotated[str | None, typer.Option(help="One of the driver's samplers.")] = None,
    trials: Annotated[int | None, typer.Option(help="Configurations in all, finished ones included.")] = None,
    max_macs: Annotated[int | None, typer.Option(help="Budget of multiply-accumulates.")] = None,
    max_params: Annotated[int | None, typer.Option(help="Budget of parameters.")] = None,
    max_activation_bytes: Annotated[
        int | None, typer.Option(help="Budget of peak activation memory, in bytes.")
    ] = None,
    max_bytes_moved: Annotated[int | None, typer.Option(help="Budget of bytes read and written.")] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option(help="Budget of the median time of one inference, in milliseconds.")
    ] = None,
    epochs: Epochs = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the sampler.")] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    store: Store = None,
    tracking_uri: TrackingUri = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Search a space under a budget. The same command again continues."""
    from invact.reports.front import front_table, front_values
    from invact.sweeps.file import load_sweep
    from invact.sweeps.run import run_sweep
    from invact.training.results import Status

    changes = {
        "driver": driver,
        "sampler": sampler,
        "trials": trials,
        "objective.max_macs": max_macs,
        "objective.max_params": max_params,
        "objective.max_activation_bytes": max_activation_bytes,
        "objective.max_bytes_moved": max_bytes_moved,
        "objective.max_latency_ms": max_latency_ms,
        "config.epochs": epochs,
        "seed": seed,
    }
    if driver is not None and sampler is None:
        # The file's sampler is another driver's.
        changes["sampler"] = DRIVERS.get(driver, [""])[0]
    read = load_sweep(reference, overrides(changes, settings))
    load_tensorflow()
    result = run_sweep(read, store=store, tracking_uri=tracking_uri, workers=workers, scheduler=scheduler)
    failed = result.count(Status.FAILED)
    show(
        as_json,
        {"run_id": result.run_id, "failed": failed} | front_values(result.front),
        front_table(result.front),
    )
    if failed:
        raise Incomplete(f"{result.name}: {failed} runs failed; the same command tries them again")
