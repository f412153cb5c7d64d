"""The report of a claim: tables for the terminal, JSON values, and files with figures."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.claims.verdict.reasons import FLAGGED, points
from invact.claims.verdict.result import ClaimResult, SetResult, row_of, values_of
from invact.errors import InputError
from invact.reports.figures.style import quantity
from invact.reports.tables import empty_table
from invact.text import csv_of

if TYPE_CHECKING:
    from rich.table import Table

    from invact.claims.planning.forecast import Forecast
    from invact.tracking.store import Store

__all__ = [
    "claim_tables",
    "claim_values",
    "plan_tables",
    "plan_values",
    "read_reports",
    "write_claim",
]

SCHEMA = "invact.claim/3"


def claim_values(result: ClaimResult) -> dict[str, Any]:
    """Convert a result to JSON-like values: every number except the table of runs."""
    return {
        "schema": SCHEMA,
        "name": result.name,
        "verdict": str(result.verdict),
        "filters_verdict": str(result.filters_verdict),
        "alpha": result.alpha,
        "over_data_sets": values_of(dict(result.over)),
        "data_sets": [
            values_of(one) | {"ladder": [values_of(row_of(ratio)) for ratio in one.ratios]}
            for one in result.sets
        ],
    }


def claim_tables(result: ClaimResult) -> list[Table]:
    """Make a table of ratios for each data set, with the reasons below; differences are in points."""
    return [_table(result.name, one) for one in result.sets] + ([_over(result)] if result.over else [])


def _table(name: str, one: SetResult) -> Table:
    text = "\n".join(one.reasons)
    table = empty_table(f"{name} on {one.data}: {one.verdict} (fewer filters: {one.filters_verdict})", text)
    columns = ("ratio", "filters", "MACs", "params", "looks", "difference", "interval", "images", "p (adj.)")
    for column in (*columns, "fewer filters", "fewer MACs"):
        table.add_column(column, justify="left" if "fewer" in column else "right", no_wrap=True)
    for ratio in one.ratios:
        row = row_of(ratio)
        population = (row["population_low"], row["population_high"])
        table.add_row(
            f"{row['ratio']:g}",
            *(f"{row[key]:.3f}" for key in ("filters_ratio", "macs_ratio", "params_ratio")),
            row["looks"],
            "" if row["difference"] is None else points(row["difference"]),
            "" if row["low"] is None else f"{points(row['low'])} to {points(row['high'])}",
            "" if None in population else " to ".join(map(points, population)),
            f"{row['p_adjusted']:.3g}",
            row["verdict"],
            row["macs_verdict"] or "saves none",
        )
    return table


def _over(result: ClaimResult) -> Table:
    names = [one.data for one in result.sets]
    table = empty_table(
        f"{result.name} over {len(names)} data sets: {result.verdict} (fewer filters: "
        f"{result.filters_verdict})",
        "p values: on each data set (adjusted by the graphical procedure), and on all of them (the largest)",
    )
    for column in ("fewer", *names, "on all"):
        table.add_column(column, justify="right", no_wrap=True)
    for claim, over in result.over.items():
        table.add_row(claim, *(f"{over.on_which[name]:.3g}" for name in names), f"{over.on_all:.3g}")
    return table


def plan_values(name: str, plans: Mapping[str, Forecast]) -> dict[str, Any]:
    """Convert forecasts to JSON-like values."""
    return {"name": name, "data_sets": {data: values_of(found) for data, found in plans.items()}}


def plan_tables(name: str, plans: Mapping[str, Forecast]) -> list[Table]:
    """Make a table of the cost of every possible course, for each data set."""
    tables = []
    for data, found in plans.items():
        table = empty_table(f"{name} on {data}: plan (nothing was trained)", "\n".join(_planned(found)))
        steps = list(dict.fromkeys(step for path in found.paths for step in path.trainings))
        table.add_column("course", justify="left", no_wrap=True)
        for column in (*steps, "total", "of plain", "MACs", "hours"):
            table.add_column(column, justify="right", no_wrap=True)
        for path in found.paths:
            table.add_row(
                path.name,
                *(f"{path.trainings.get(step, 0):.0f}" for step in steps),
                f"{path.total:.0f}",
                f"{path.total / found.plain:.0%}",
                quantity(path.macs),
                f"{path.hours:.2f}",
            )
        tables.append(table)
    return tables


def _planned(found: Forecast) -> list[str]:
    plan, margin = found.plan, f"{100 * found.margin:.2g}"
    if plan.assay is not None and plan.margin is None:
        return ["The pilot is finished: there is no assay sensitivity, so no claim is allowed."]
    source = "from pilot and screen" if found.measured else "assumed until the pilot is finished"
    lines = [
        f"Margin {margin} and standard deviation {100 * found.spread:.2g} points of accuracy, {source}.",
        f"Mean trainings, beside a plain design of {found.plain} (30 runs of three arms at each ratio).",
    ]
    if plan.procedure and plan.power is not None:
        lines.append(
            f"Looks at {', '.join(map(str, plan.procedure.looks))} runs. If the arms are equal, the power of "
            f"all runs is {plan.power:.0%}; one test needs {plan.needed} runs for {found.power:.0%}."
        )
    if found.best < found.power:
        lines.append(
            f"Caution: the test set is too small for this margin. Even if runs differ by half an image "
            f"only, the power is {found.best:.0%}."
        )
    lines += [
        f"Caution: at ratio {ratio:g} the matched arm has {excess:.1%} more MACs than the treatment."
        for ratio, excess in found.excess.items()
        if excess > FLAGGED
    ]
    return lines


def write_claim(result: ClaimResult, folder: Path) -> None:
    """Write `claim.json`, and for each data set its table, its report, its runs and its figures.

    With several data sets, the files of each are in a folder named after the data set.
    """
    from invact.files import write_atomically

    text = json.dumps(claim_values(result), indent=1, allow_nan=False)
    write_atomically(folder / "claim.json", text.encode())
    for one in result.sets:
        place = folder if len(result.sets) == 1 else folder / Path(one.data).stem
        files = {
            "claim.csv": csv_of(one.to_pandas()).encode(),
            "report.md": _report(result.name, one).encode(),
            "runs.csv": csv_of(one.table).encode(),
            **_pictures(result, one),
        }
        for name, content in files.items():
            write_atomically(place / name, content)


def read_reports(store: Store, name: str) -> list[tuple[str, dict[str, Any]]]:
    """Read the stored reports of a claim, also of a claim that this version cannot continue.

    Args:
        store: the store.
        name: name of the claim.

    Returns:
        For each data set, newest record first: the report as Markdown, and the values of `claim.json`.

    Raises:
        InputError: there is no such claim, or no report of it.
    """
    identities = dict.fromkeys(one.identity for one in store.records(name) if one.kind == "claim")
    # Without an identity, `latest` refuses the name and suggests a similar one.
    records = [store.latest(name, "claim", identity=one) for one in identities or (None,)]
    found: list[tuple[str, dict[str, Any]]] = []
    for record in records:
        # A claim that was interrupted before its end has no report.
        with contextlib.suppress(InputError):
            report, values = (record.read(f"verdict/{file}") for file in ("report.md", "claim.json"))
            found.append((report.decode(), json.loads(values)))
    if not found:
        raise InputError(f"name: received {name!r}, which has no report. Allowed: a claim that has ended")
    return found


def _report(name: str, one: SetResult) -> str:
    lines = [f"# {name} on {one.data}: {one.verdict}", ""]
    for reason in one.reasons:
        lines += [reason, ""]
    return "\n".join(lines)


def _pictures(result: ClaimResult, one: SetResult) -> dict[str, bytes]:
    from invact.reports.figures import claim_figure, curve_figure, qq_figure
    from invact.reports.figures.style import picture

    files = {}
    drawn = [ratio for ratio in one.ratios if ratio.rung.non_inferiority.n]
    if drawn:
        outcomes = [ratio.rung.non_inferiority for ratio in drawn]
        figure = claim_figure(
            [ratio.rung.ratio for ratio in drawn],
            [ratio.control for ratio in drawn],
            [ratio.treatment for ratio in drawn],
            [outcome.estimate for outcome in outcomes],
            [outcome.interval for outcome in outcomes],
            [ratio.rung.verdict for ratio in drawn],
            outcomes[0].margin,
            title=f"{result.name}: fewer filters {one.filters_verdict}",
            levels=[outcome.taken[-1].level for outcome in outcomes],
        )
        files["claim.png"] = picture(figure, "png")
        residuals = {
            f"{role}, {ratio.rung.ratio:g} of the filters": np.asarray(values) - np.mean(values)
            for ratio in drawn
            for role, values in (("treatment", ratio.treatment), ("control", ratio.control))
        }
        files["qq.png"] = picture(qq_figure(residuals), "png")
    if one.curve:
        width, cost, level = one.curve.control
        # The control's runs of the pilot are its level, so they belong in the picture as well.
        runs = [*one.curve.runs, *((width, cost, accuracy, False) for accuracy in level)]
        filters, macs, accuracies, treated = zip(*runs, strict=True)
        figure = curve_figure(
            [
                ("Filters of the first stage", filters, accuracies, treated, one.curve.filters),
                ("MACs", macs, accuracies, treated, one.curve.macs),
            ],
            one.curve.arms,
            title=f"{result.name}: width needed for equal accuracy",
        )
        files["curve.png"] = picture(figure, "png")
    return files
