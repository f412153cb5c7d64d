"""`invact claim`: decide "fewer filters at equal accuracy" by a fixed protocol."""

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
from invact.quiet import load_tensorflow

__all__ = ["claim"]


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
    from invact.claims.file import load_claim
    from invact.claims.planning.forecast import plan_claim
    from invact.claims.run import run_claim
    from invact.claims.verdict.report import claim_tables, claim_values, plan_tables, plan_values

    changes = {
        "margin": margin,
        "alpha": alpha,
        "strict": strict or None,
        "method": method,
        "config.epochs": epochs,
    }
    values = overrides(changes, settings)
    if method is not None:
        # The file's looks or pairs are another method's.
        values.setdefault("pairs" if method == "sequential" else "looks", None)
    read = load_claim(reference, values)
    load_tensorflow()
    if plan:
        plans = plan_claim(read, store=store, tracking_uri=tracking_uri, workers=workers)
        show(as_json, plan_values(read.name, plans), *plan_tables(read.name, plans))
        return
    result = run_claim(
        read,
        deviation=deviation,
        store=store,
        tracking_uri=tracking_uri,
        workers=workers,
        scheduler=scheduler,
    )
    show(as_json, claim_values(result), *claim_tables(result))
