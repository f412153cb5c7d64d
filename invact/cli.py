"""The command `invact`: a thin layer over the functions of the same names."""
# Everything heavy is imported inside the commands, so that --help answers at once.

from __future__ import annotations

import json
import signal
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from invact import __version__
from invact.drivers import DRIVERS
from invact.errors import Incomplete, InputError, InvactError
from invact.quiet import load_tensorflow

if TYPE_CHECKING:
    from rich.table import Table

INTERRUPTED = 130

app = typer.Typer(
    name="invact",
    help="Fewer filters at equal accuracy? Search and test activations that keep both signs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Store = Annotated[
    Path | None, typer.Option(help="Folder of the MLflow store [default: mlruns].", metavar="DIR")
]
TrackingUri = Annotated[str | None, typer.Option(help="MLflow tracking server or database instead.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Workers = Annotated[int | None, typer.Option(help="Processes to train with [default: one for each core].")]
Scheduler = Annotated[str | None, typer.Option(help="Address of a Dask cluster that is up.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training images.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Replace a value of the file, e.g. config.batch_size=64."
    ),
]


def main() -> NoReturn:
    """Run the command, and turn every foreseen failure into one line and an exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    # For a user's own modules, as with `python -m`; last, so that no file there hides a library's.
    sys.path.append(str(Path.cwd()))
    try:
        app(standalone_mode=True)
    except InvactError as error:
        # One line, though a path may have line breaks in its name.
        typer.echo(f"invact: {' '.join(str(error).splitlines())}", err=True)
        sys.exit(error.exit_code)
    except SystemExit as end:
        # Typer makes this code of a KeyboardInterrupt, and says nothing.
        if end.code == INTERRUPTED:
            typer.echo("invact: interrupted; what was finished is kept, the same command continues", err=True)
        raise
    sys.exit(0)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"invact {__version__}")
        raise typer.Exit


@app.command()
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
    from invact.report import front_table, front_values
    from invact.results import Status
    from invact.sweep import load_sweep, run_sweep

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
    read = load_sweep(reference, _overrides(changes, settings))
    load_tensorflow()
    result = run_sweep(read, store=store, tracking_uri=tracking_uri, workers=workers, scheduler=scheduler)
    failed = result.count(Status.FAILED)
    _show(
        as_json,
        {"run_id": result.run_id, "failed": failed} | front_values(result.front),
        front_table(result.front),
    )
    if failed:
        raise Incomplete(f"{result.name}: {failed} runs failed; the same command tries them again")


@app.command()
def claim(
    reference: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A shipped claim or a TOML file.")],
    plan: Annotated[
        bool, typer.Option("--plan", help="Show trainings, MACs and hours of each step; train nothing.")
    ] = False,
    margin: Annotated[
        float | None, typer.Option(help="Loss that counts as equal, in accuracy points [default: planned].")
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="One-sided error rate.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="An error rate of 0.025.")] = False,
    method: Annotated[str | None, typer.Option(help="sequential, fixed or anytime.")] = None,
    deviation: Annotated[
        str | None, typer.Option(metavar="REASON", help="Depart from what was registered, and say so.")
    ] = None,
    epochs: Epochs = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    store: Store = None,
    tracking_uri: TrackingUri = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Decide "fewer filters at equal accuracy" by a fixed protocol. The same command again continues."""
    from invact.claim import load_claim, plan_claim, test_claim
    from invact.claim.report import claim_tables, claim_values, plan_tables, plan_values

    changes = {
        "margin": margin,
        "alpha": alpha,
        "strict": strict or None,
        "method": method,
        "config.epochs": epochs,
    }
    values = _overrides(changes, settings)
    if method is not None:
        # The file's looks or pairs are another method's.
        values.setdefault("pairs" if method == "sequential" else "looks", None)
    read = load_claim(reference, values)
    load_tensorflow()
    if plan:
        plans = plan_claim(read, store=store, tracking_uri=tracking_uri, workers=workers)
        _show(as_json, plan_values(read.name, plans), *plan_tables(read.name, plans))
        return
    result = test_claim(
        read,
        deviation=deviation,
        store=store,
        tracking_uri=tracking_uri,
        workers=workers,
        scheduler=scheduler,
    )
    _show(as_json, claim_values(result), *claim_tables(result))


@app.command()
def front(
    name: Annotated[str, typer.Argument(help="A sweep that has run.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where to write.")] = Path(),
    formats: Annotated[
        str, typer.Option("--format", help="Any of csv,json,png,svg,html.")
    ] = "csv,json,png,html",
    driver: Annotated[
        str | None, typer.Option(help="Of several sweeps of that name, the one of this driver.")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="Between two arms' fronts, loss that counts as equal, in points [default: 0.3]."),
    ] = None,
    attainment: Annotated[
        bool, typer.Option("--attainment", help="Add attainment surfaces (extra invact[eaf]).")
    ] = False,
    confirm: Annotated[
        int | None, typer.Option(metavar="K", help="Train the front's points on K fresh seeds.")
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    store: Store = None,
    tracking_uri: TrackingUri = None,
    as_json: Json = False,
) -> None:
    """Export the Pareto front, and confirm it on fresh seeds. The same command again continues."""
    from invact.confirmation import confirmation_table, confirmation_values, write_confirmation
    from invact.report import front_table, front_values, write_front
    from invact.retraining import confirm_front, fresh_seeds
    from invact.sweep import pareto_front

    if confirm is not None:
        fresh_seeds(confirm)
    for option, value in {"--workers": workers, "--scheduler": scheduler}.items():
        if value is not None and confirm is None:
            raise InputError(f"{option}: received {value!r}. Allowed: with --confirm, which trains")
    found = pareto_front(
        name, driver=driver, margin=margin, attainment=attainment, store=store, tracking_uri=tracking_uri
    )
    kinds = [each.strip() for each in formats.split(",")]
    # Before any training, which would be for nothing where the folder cannot be written.
    files = write_front(found, output, kinds)
    values, tables = front_values(found), [front_table(found)]
    failed = 0
    if confirm is not None:
        load_tensorflow()
        confirmed = confirm_front(
            *(name, confirm),
            driver=driver,
            store=store,
            tracking_uri=tracking_uri,
            workers=workers,
            scheduler=scheduler,
        )
        files += write_confirmation(confirmed, output, kinds)
        values |= {"confirmation": confirmation_values(confirmed)}
        tables.append(confirmation_table(confirmed))
        failed = confirmed.failed
    _show(as_json, values | {"files": [str(file) for file in files]}, *tables)
    for file in files:
        typer.echo(f"wrote {file}", err=True)
    if failed:
        raise Incomplete(f"{name}: {failed} runs failed; the same command tries them again")


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="A sweep that has run.")],
    point: Annotated[
        int | None,
        typer.Option(metavar="K", help="Of the front, from 1, by increasing cost [default: the only one]."),
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="Any of keras,litert,onnx,saved_model.")
    ] = "litert",
    precision: Annotated[str, typer.Option(help="float32, or int8 for litert and onnx.")] = "float32",
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where to write.")] = Path(),
    driver: Annotated[
        str | None, typer.Option(help="Of several sweeps of that name, the one of this driver.")
    ] = None,
    store: Store = None,
    tracking_uri: TrackingUri = None,
    as_json: Json = False,
) -> None:
    """Export a network of the front to other runtimes, and check each file on the test images."""
    from invact.export import export_point, export_table, export_values

    exports = export_point(
        *(name, point),
        formats=[each.strip() for each in formats.split(",")],
        precision=precision,
        folder=output,
        driver=driver,
        store=store,
        tracking_uri=tracking_uri,
    )
    _show(as_json, {"name": name, "exports": export_values(exports)}, export_table(name, exports))


@app.command()
def cost(
    reference: Annotated[
        str, typer.Argument(metavar="FILE", help="A sweep, a claim, a configuration, or a .keras model.")
    ],
    input_shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHAPE", help="Of a model's input where it is open, e.g. 224,224,3; once for each input."
        ),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a row for each layer.")] = False,
    as_json: Json = False,
) -> None:
    """Count MACs, parameters, filters, elementwise work and memory by layer."""
    if as_csv and as_json:
        raise InputError("--csv: received --json too. Allowed: one of them")
    load_tensorflow()
    from invact.inspection import cost_csv, cost_tables, cost_values, costs_of

    costs = costs_of(reference, input_shape)
    if as_csv:
        typer.echo(cost_csv(costs), nl=False)
        return
    _show(as_json, cost_values(costs), *cost_tables(costs))


@app.command()
def latency(
    reference: Annotated[
        str, typer.Argument(metavar="FILE", help="A sweep, a claim, a configuration, or a .keras model.")
    ],
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="tensorflow, litert, onnx, litert:int8 or onnx:int8; repeatable."),
    ] = None,
    batch: Annotated[int, typer.Option(help="Images of one inference.")] = 1,
    threads: Annotated[int, typer.Option(help="Processor threads, each pinned.")] = 1,
    rounds: Annotated[int, typer.Option(help="Turns of each network.")] = 30,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a row for each network.")] = False,
    as_json: Json = False,
) -> None:
    """Time the inference of networks in turns, and measure its memory."""
    if as_csv and as_json:
        raise InputError("--csv: received --json too. Allowed: one of them")
    load_tensorflow()
    from invact.inspection import latency_tables, latency_values, models_of
    from invact.latency import measure_latency

    found = measure_latency(
        models_of(reference),
        batch,
        runtime=runtime or ["tensorflow"],
        threads=threads,
        rounds=rounds,
        show=True,
    )
    if as_csv:
        typer.echo(found.to_pandas().to_csv(index=False), nl=False)
        return
    _show(as_json, latency_values(found), *latency_tables(found))


@app.command("list")
def list_(store: Store = None, tracking_uri: TrackingUri = None, as_json: Json = False) -> None:
    """List what is shipped, and where each stands in the store."""
    from invact.inspection import inventory, inventory_tables

    found = inventory(store, tracking_uri)
    _show(as_json, found, *inventory_tables(found))


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = 5000,
    store: Store = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Open MLflow's user interface over the store, on this machine only."""
    from invact.tracking import open_store

    with open_store(store, tracking_uri).ui(port) as server:
        typer.echo(f"{server.url}  (Ctrl-C ends it)")
        server.wait()


def _overrides(changes: Mapping[str, Any], settings: list[str] | None) -> dict[str, Any]:
    """Merge the options that were given with `--set`, whose values are TOML or else text."""
    values = {key: value for key, value in changes.items() if value is not None}
    for setting in settings or ():
        key, equals, text = setting.partition("=")
        if not equals or not all(key.split(".")):
            raise InputError(f"--set: received {setting!r}. Allowed: KEY=VALUE, e.g. config.batch_size=64")
        try:
            values[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[key] = text
    return values


def _show(as_json: bool, values: Mapping[str, Any], *tables: Table) -> None:
    if as_json:
        typer.echo(json.dumps(values, indent=1, allow_nan=False))
        return
    from rich.console import Console

    # A pipe has no width: give every column what it needs.
    console = Console() if sys.stdout.isatty() else Console(width=200, no_color=True)
    for table in tables:
        console.print(table)
