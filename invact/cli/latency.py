"""`invact latency`: time networks side by side on this machine, and measure their memory."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invact.cli.options import Imports, Json, Networks, check_formats, echo, show
from invact.process.quiet import load_tensorflow, stdout_to_stderr
from invact.reports.tables import Column, Listing
from invact.text import csv_of

if TYPE_CHECKING:
    from invact.deploy.latency import Latencies

__all__ = ["latency", "latency_tables", "latency_values"]


def latency(
    reference: Networks,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Runtime to use: tensorflow, litert, onnx, litert:int8 or onnx:int8. Repeatable.",
            show_default="tensorflow",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(help="Number of images in one inference.")] = 1,
    threads: Annotated[
        int, typer.Option(help="Number of processor threads. Each is pinned to a processor.")
    ] = 1,
    rounds: Annotated[int, typer.Option(help="Number of turns of each network.")] = 30,
    imports: Imports = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, one row for each network.")] = False,
    as_json: Json = False,
) -> None:
    """Time the inference of networks in turns, on this machine.

    The peak memory of each network is measured too.
    """
    check_formats(as_csv, as_json)
    from invact.cli.catalogue import check_networks, networks_of
    from invact.deploy.latency import check_measurement, measure_latency
    from invact.execution.display.stages import stage

    check_measurement(runtime or ["tensorflow"], batch, threads, rounds)
    check_networks(reference)
    with stdout_to_stderr():
        with stage("loading TensorFlow and building the networks"):
            load_tensorflow()
            networks = networks_of(reference, imports or ())
        found = measure_latency(
            networks.models,
            batch,
            runtime=runtime or ["tensorflow"],
            threads=threads,
            rounds=rounds,
            imports=networks.imports,
            show=True,
        )
    if as_csv:
        echo(csv_of(found.to_pandas()), end="")
        return
    show(as_json, latency_values(found), *latency_tables(found))


def latency_values(found: Latencies) -> dict[str, Any]:
    """Convert latencies to values that JSON can store."""
    return asdict(found)


def latency_tables(found: Latencies) -> list[Listing]:
    """Build the table of latencies for the terminal."""
    where = f"pinned processors: {len(found.processors)}" if found.processors else "not pinned"
    about = ", ".join([found.machine, f"threads: {found.threads}", where, *found.versions.values()])
    rows = [
        (
            row.name,
            row.runtime,
            f"{row.p50_ms:.3f}",
            f"{row.p90_ms:.3f}",
            f"{row.ratio:.2f}",
            f"{row.ratio_low:.2f} to {row.ratio_high:.2f}",
            "" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.1f}",
        )
        for row in found.rows
    ]
    columns = (
        Column("network", "text", shared=True),
        Column("runtime", "text", shared=True),
        *map(Column, ("p50 ms", "p90 ms", "ratio to the first", "its quartiles", "peak MiB")),
    )
    return [Listing(f"time of one inference, batch {found.batch}", columns, tuple(rows), about)]
