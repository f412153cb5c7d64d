"""`invact claim`: test "fewer filters at equal accuracy" by a protocol that is fixed in advance."""

from __future__ import annotations

import json
from pathlib import Path
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
    echo,
    in_file,
    named,
    overrides,
    show,
    show_pages,
)
from invact.process.quiet import load_tensorflow, stdout_to_stderr

__all__ = ["claim"]


def claim(
    reference: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="Name of a shipped claim, or path of a TOML file.")
    ],
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Show the trainings, MACs and hours of every possible course, and train nothing."
        ),
    ] = False,
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Show the stored report, also that of a claim by an older version, and train nothing.",
        ),
    ] = False,
    margin: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS",
            help="Non-inferiority margin, in points: the largest loss of accuracy that counts as equal.",
            show_default="the file's value, or planned from the pilot",
        ),
    ] = None,
    alpha: Annotated[float | None, in_file("One-sided error rate.")] = None,
    method: Annotated[str | None, in_file("Statistical test: sequential or fixed.", "NAME")] = None,
    deviation: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Continue although the claim differs from its registration. The report prints the reason.",
        ),
    ] = None,
    epochs: Epochs = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    store: Store = None,
    tracking_uri: TrackingUri = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Test "fewer filters at equal accuracy" by a fixed protocol.

    If the command is interrupted, run it again to continue.
    """
    if report:
        show_reports(as_json, Path(reference).stem, store, tracking_uri)
        return
    # The libraries that train are imported after the check of the input, so that a mistake is answered at
    # once.
    from invact.claims.file import load_claim
    from invact.data.sources import locate

    options = {
        "margin": ("--margin", margin),
        "alpha": ("--alpha", alpha),
        "method": ("--method", method),
        "config.epochs": ("--epochs", epochs),
    }
    values = overrides({key: value for key, (_, value) in options.items()}, settings)
    if method is not None:
        # The looks or runs in the file belong to the method in the file.
        values.setdefault("runs" if method == "sequential" else "looks", None)
    given = {key: option for key, (option, value) in options.items() if value is not None}
    with stdout_to_stderr(), named(values, given):
        read = load_claim(reference, values)
        for source in read.sources:
            locate(source.name)
    from invact.claims.planning.forecast import plan_claim
    from invact.claims.run import run_claim
    from invact.claims.verdict.report import claim_tables, claim_values, plan_tables, plan_values
    from invact.execution.display.stages import stage

    if plan:
        with stdout_to_stderr():
            with stage("loading TensorFlow"):
                load_tensorflow()
            plans = plan_claim(read, store=store, tracking_uri=tracking_uri, workers=workers)
        show(as_json, plan_values(read.name, plans), *plan_tables(read.name, plans))
        return
    with stdout_to_stderr():
        result = run_claim(
            read,
            deviation=deviation,
            store=store,
            tracking_uri=tracking_uri,
            workers=workers,
            scheduler=scheduler,
        )
    show(as_json, claim_values(result), *claim_tables(result))
    show_pages(result.name, [one.run_id for one in result.sets], store, tracking_uri)


def show_reports(as_json: bool, name: str, store: Path | None, tracking_uri: str | None) -> None:
    """Print the stored reports of a claim: as Markdown, or all numbers as JSON."""
    from invact.claims.verdict.report import read_reports
    from invact.tracking.store import open_store

    found = read_reports(open_store(store, tracking_uri, read_only=True), name)
    if as_json:
        echo(json.dumps([values for _, values in found], indent=1, allow_nan=False))
    else:
        echo("\n".join(text for text, _ in found).rstrip())
