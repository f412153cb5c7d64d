"""The runs of one configuration or arm, and the row that they make."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from invact.arms import arm_text
from invact.errors import EnvironmentFault, InputError, InvactError, one_line
from invact.fronts.confirmation import mean_over
from invact.fronts.pareto import value_of
from invact.reports.summary.reference import Reference, flat_values
from invact.reports.summary.rows import Difference, Row
from invact.statistics.sequential.course import CONFIRMATION
from invact.tracking.reader import SETTINGS
from invact.tracking.stored import damaged, object_of
from invact.training.results import Status
from invact.validation import validate

__all__ = ["Run", "finite", "references_of", "row_of", "undamaged"]

Run = Mapping[Any, Any]
"""One row of the table of runs."""


@contextlib.contextmanager
def undamaged(run_id: str) -> Iterator[None]:
    """Say in one line that a file of a record is damaged, instead of raising an error of Python."""
    try:
        yield
    except InputError as error:
        # The user's own file was checked when the record began.
        raise EnvironmentFault(f"run {run_id}: {error}") from None
    except InvactError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise damaged(run_id, "its files", one_line(error), "values that invact has written") from None


def references_of(settings: Mapping[str, Any]) -> list[Reference]:
    """Read the published figures from the settings of a record; those of older versions have none."""
    return [
        validate(Reference, one, f"file {SETTINGS!r}: reference.{number}")
        for number, one in enumerate(settings.get("reference", ()))
    ]


def row_of(
    runs: Sequence[Run],
    trained: Sequence[Run],
    failures: Mapping[str, int],
    values: Mapping[str, Any],
    references: Sequence[Reference],
    named: Mapping[str, Any] | None = None,
    difference: Difference | None = None,
) -> Row:
    """Make a row.

    Args:
        runs: all runs of the configuration.
        trained: those that count for the means.
        failures: the numbers of those that do not.
        values: the values of the row.
        references: the references of the record.
        named: the values by which references find the row; those of the configuration unless given, without
            those of parameters that are not active in it.
        difference: the comparison of the claim.
    """
    first = runs[0]
    config = object_of(first["run_id"], "configuration", first["config_json"])
    arms = config.get("activation", "")
    costs: dict[str, Any] = {
        name: next((int(cost) for run in runs if (cost := finite(run[name])) is not None), None)
        for name in ("filters", "macs", "params")
    }
    means: dict[str, Any] = {
        name: mean_over(score for run in trained if (score := finite(run[column])) is not None)
        for name, column in (
            ("validation", "validation_accuracy"),
            ("test", "test_accuracy"),
            ("loss", "test_loss"),
        )
    }
    if named is None:
        inactive = {
            name[6:] for name, cell in first.items() if name[:6] == "param." and value_of(cell) is None
        }
        named = {name: value for name, value in flat_values(config).items() if name not in inactive}
    return Row(
        label=str(first["label"]).removeprefix(f"{CONFIRMATION}: ") or f"trial {first['trial']}",
        activation=arm_text(arms if isinstance(arms, str) else [*map(str, arms)]),
        trial=int(first["trial"]),
        config=str(first["config"]),
        **costs,
        runs=len(trained),
        failures=dict(failures),
        pruned=sum(run["status"] == Status.PRUNED for run in runs),
        **means,
        values=dict(values),
        difference=difference,
        references=tuple(one for one in references if one.matches(named)),
    )


def finite(cell: Any) -> float | None:
    """Convert a cell of the table to a finite number; any other one becomes None."""
    value = value_of(cell)
    return value if isinstance(value, int | float) and math.isfinite(value) else None
