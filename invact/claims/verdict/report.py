"""The report of a claim: tables for the terminal, JSON values, and files with figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invact.claims.verdict.reasons import points
from invact.claims.verdict.result import ClaimResult, SetResult, row_of, values_of
from invact.reports.figures.style import quantity
from invact.reports.tables import empty_table

if TYPE_CHECKING:
    from rich.table import Table

    from invact.claims.planning.forecast import ProtocolStep
    from invact.claims.planning.plan import Plan

__all__ = ["claim_tables", "claim_values", "plan_tables", "plan_values", "write_claim"]

SCHEMA = "invact.claim/2"


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
            points(row["difference"]),
            f"{points(row['low'])} to {points(row['high'])}",
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
        "p values for fewer filters: for each data set (Holm-adjusted), and for all of them (the largest)",
    )
    for column in ("ratio", *names, "on all"):
        table.add_column(column, justify="right", no_wrap=True)
    for ratio, over in result.over.items():
        table.add_row(f"{ratio:g}", *(f"{p:.3g}" for p in over.on_which), f"{over.on_all:.3g}")
    return table


def plan_values(
    name: str, plans: Mapping[str, tuple[Plan | None, tuple[ProtocolStep, ...]]]
) -> dict[str, Any]:
    """Convert plans to JSON-like values."""
    return {
        "name": name,
        "data_sets": {
            data: {"plan": values_of(plan), "steps": values_of(steps)}
            for data, (plan, steps) in plans.items()
        },
    }


def plan_tables(name: str, plans: Mapping[str, tuple[Plan | None, tuple[ProtocolStep, ...]]]) -> list[Table]:
    """Make a table of the cost of each step, for each data set."""
    tables = []
    for data, (plan, steps) in plans.items():
        text = (
            "The pilot is not finished: the margin is not fixed yet. Looks are from the file or the default."
        )
        if plan and plan.procedure:
            assert plan.margin is not None
            assert plan.power is not None
            text = (
                f"The pilot is finished: the margin is {100 * plan.margin:.2g} points, with looks at "
                f"{', '.join(map(str, plan.procedure.looks))} pairs. If the arms are equal, the power is "
                f"{plan.power:.0%} and the expected number of pairs is {plan.expected:.1f}."
            )
        elif plan:
            text = "The pilot is finished: there is no assay sensitivity, so no claim is allowed."
        table = empty_table(f"{name} on {data}: plan (nothing was trained)", text)
        for column in ("step", "min. runs", "max. runs", "max. MACs", "max. hours"):
            table.add_column(column, justify="left" if column == "step" else "right", no_wrap=True)
        for step in steps:
            table.add_row(
                step.name, str(step.least), str(step.most), quantity(step.macs), f"{step.hours:.2f}"
            )
        table.add_section()
        table.add_row(
            "total",
            str(sum(step.least for step in steps)),
            str(sum(step.most for step in steps)),
            quantity(sum(step.macs for step in steps)),
            f"{sum(step.hours for step in steps):.2f}",
        )
        tables.append(table)
    return tables


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
            "claim.csv": one.to_pandas().to_csv(index=False).encode(),
            "report.md": _report(result.name, one).encode(),
            "runs.csv": one.table.to_csv(index=False).encode(),
            **_pictures(result, one),
        }
        for name, content in files.items():
            write_atomically(place / name, content)


def _report(name: str, one: SetResult) -> str:
    lines = [f"# {name} on {one.data}: {one.verdict}", ""]
    for reason in one.reasons:
        lines += [reason, ""]
    return "\n".join(lines)


def _pictures(result: ClaimResult, one: SetResult) -> dict[str, bytes]:
    from invact.reports.figures import claim_figure, curve_figure, qq_figure
    from invact.reports.figures.style import picture

    files = {}
    drawn = [ratio for ratio in one.ratios if ratio.rung.non_inferiority]
    if drawn:
        outcomes = [ratio.rung.non_inferiority.outcome for ratio in drawn if ratio.rung.non_inferiority]
        figure = claim_figure(
            [ratio.rung.ratio for ratio in drawn],
            [ratio.differences for ratio in drawn],
            [outcome.estimate for outcome in outcomes if outcome.estimate is not None],
            [outcome.interval for outcome in outcomes if outcome.interval is not None],
            [ratio.rung.verdict for ratio in drawn],
            outcomes[0].margin,
            title=f"{result.name}: fewer filters {one.filters_verdict}",
            level=1 - 2 * result.alpha,
        )
        files["claim.png"] = picture(figure, "png")
        files["qq.png"] = picture(
            qq_figure({f"{ratio.rung.ratio:g} of the filters": ratio.differences for ratio in drawn}), "png"
        )
    if one.curve:
        widths, macs, accuracies, treated = zip(*one.curve.runs, strict=True)
        figure = curve_figure(
            [
                ("Filters of the first stage", widths, accuracies, treated, one.curve.filters),
                ("MACs", macs, accuracies, treated, one.curve.macs),
            ],
            one.curve.arms,
            title=f"{result.name}: width needed for equal accuracy",
        )
        files["curve.png"] = picture(figure, "png")
    return files
