"""The rows of a claim on one data set: one for each arm of its confirmation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.errors import InputError
from invact.fronts.confirmation import Mean
from invact.reports.summary.rows import Difference, Recorded, Row
from invact.reports.summary.runs import Run, references_of, row_of, undamaged
from invact.statistics.sequential.course import CONFIRMATION, Network, Rules, confirmation_arm
from invact.statistics.sequential.failures import Runs
from invact.statistics.sequential.procedure import Procedure
from invact.tracking.stored import object_of
from invact.training.results import Status

if TYPE_CHECKING:
    from invact.tracking.reader import RecordReader
    from invact.tracking.store import RecordInfo

__all__ = ["read_claim"]

VERDICT, FIXED = "verdict/claim.json", "pilot.json"
"""Files of a claim's record: its result, and what pilot and screen have fixed."""

ROLES = ("treatment", "placebo", "matched")

SCHEMA = "invact.claim/3"
"""The schema of `VERDICT` whose comparisons can be read. From older results, only the verdicts are read."""


def read_claim(reader: RecordReader, info: RecordInfo, settings: Mapping[str, Any], data: str) -> Recorded:
    """Read the record of a claim on one data set.

    Args:
        reader: reads the record.
        info: its entry in the list of records.
        settings: the values of the claim's file.
        data: name or path of the data set, as the file has it.

    Raises:
        EnvironmentFault: a value is damaged.
    """
    fixed, stored = (_if_stored(reader, name) for name in (FIXED, VERDICT))
    table: Sequence[Run] = reader.table().to_dict("records")
    with undamaged(info.run_id):
        found = stored["data_sets"][0] if stored else {}
        verdicts = {"filters": found["filters_verdict"], "macs": found["verdict"]} if found else {}
        tested = bool(stored) and stored["schema"] == SCHEMA
        differences, ratios = (_differences(found), _ratios(found)) if tested else ({}, {})
        references, values = references_of(settings), {"data": data}
        groups: dict[int, list[Run]] = {}
        for run in table:
            if run.get("param.step") == CONFIRMATION:
                groups.setdefault(run["trial"], []).append(run)
        rows = []
        for runs in groups.values():
            network = (str(runs[0]["param.role"]), float(runs[0]["param.ratio"]))
            ended = [run for run in runs if run["status"] != Status.FAILED]
            failed = _failed(table, network, runs[0]["config"], settings, fixed)
            trained = [run for run, out in zip(ended, failed, strict=True) if not out]
            diverged = sum(run["status"] == Status.DIVERGED for run in ended)
            failures = {
                "diverged": diverged,
                "collapsed": len(ended) - len(trained) - diverged,
                "failed": len(runs) - len(ended),
            }
            arm = dict(zip(("arm", "ratio"), network, strict=True))
            row = row_of(runs, trained, failures, arm, references, values | arm, differences.get(network))
            rows.append(row)
    rows.sort(key=_order)
    notes = []
    if not verdicts:
        notes.append(f"not finished: there is no verdict yet (runs so far: {len(table)})")
    elif not tested:
        notes.append("an older version of invact made this claim; its comparisons are only in its own report")
    place = (info.name, info.kind, Path(data).stem, info.run_id)
    return Recorded(*place, tuple(rows), tuple(notes), verdicts, ratios)


def _order(row: Row) -> tuple[bool, float, int, int]:
    """The control first; then from the largest ratio, the treatment before the arms it is compared with."""
    arm, ratio = row.values["arm"], row.values["ratio"]
    place = ROLES.index(arm) if arm in ROLES else len(ROLES)
    return arm != "control", -ratio, place, row.trial


def _if_stored(reader: RecordReader, name: str) -> dict[str, Any]:
    """Read a file of the record; an empty object if there is none yet."""
    try:
        content = reader.read(name)
    except InputError:
        return {}
    return object_of(reader.run_id, f"file {name!r}", content)


def _failed(
    table: Sequence[Run],
    network: Network,
    config: str,
    settings: Mapping[str, Any],
    fixed: Mapping[str, Any],
) -> list[bool]:
    """Return for each run of a network in the confirmation whether it has failed, as the claim judges it.

    Runs that stopped with an error are left out, because a claim runs them again with the same seed.
    """

    def runs_of(step: str, one: Network) -> Runs:
        mine = [
            run
            for run in table
            if (run["param.step"], run["param.role"], run["param.ratio"]) == (step, *one)
            and run["config"] == config
            and run["status"] != Status.FAILED
        ]
        seen = [math.nan if run["status"] == Status.DIVERGED else run["validation_accuracy"] for run in mine]
        return Runs(seen, [run["test_accuracy"] for run in mine])

    failed: list[bool]
    if not fixed:
        # Without a fence, only runs that diverged have failed.
        failed = np.isnan(runs_of(CONFIRMATION, network).validation).tolist()
        return failed
    margin, looks = fixed["values"]["margin"], tuple(fixed["values"]["looks"])
    rules = Rules(
        ratios=tuple(sorted(settings["ratios"], reverse=True)),
        macs_ratios={},
        margin=margin,
        cap=margin,
        procedure=Procedure(looks),
        pilot=settings["pilot"],
        screen=settings["screen"],
    )
    failed = confirmation_arm(rules, runs_of, network, margin, rules.procedure).failed.tolist()
    return failed


def _differences(found: Mapping[str, Any]) -> dict[Network, Difference]:
    """The comparisons of the treatment: with the control, and with the other arms at the same ratio."""
    differences = {}
    for one in found["ratios"]:
        rung, ratio = one["rung"], float(one["rung"]["ratio"])
        tests = {"treatment": rung["non_inferiority"], "placebo": rung["placebo"], "matched": rung["matched"]}
        for role, test in (tests | one["also"]).items():
            if test is not None and test["interval"] is not None:
                other = "control" if role == "treatment" else f"{role} {ratio:g}"
                differences[role, ratio] = Difference(
                    f"treatment {ratio:g} - {other}",
                    Mean(float(test["estimate"]), *map(float, test["interval"])),
                    int(test["n"]),
                    float(test["margin"]),
                )
    return differences


def _ratios(found: Mapping[str, Any]) -> dict[str, Mean]:
    """The equivalence ratios, if the claim has a curve that identifies them."""
    return {
        name: Mean(float(one["estimate"]), one["low"], one["high"])
        for name, one in ((name, (found["curve"] or {}).get(name)) for name in ("filters", "macs"))
        if one is not None and one["estimate"] is not None
    }
