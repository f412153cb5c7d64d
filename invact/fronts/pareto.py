"""The Pareto front of a sweep: validation accuracy (higher is better) against cost (lower is better)."""
# Validation accuracy selects the front. Test accuracy is reported but never used for selection.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.errors import InputError, one_of
from invact.fronts.points import Apart, Point, Winner
from invact.fronts.uncertainty import MARGIN, Uncertainty, uncertainty_of
from invact.measures import MEASURES
from invact.statistics.fronts.dominance import hypervolume, non_dominated
from invact.statistics.fronts.uncertainty import DIGITS
from invact.text import html_of, leading
from invact.training.results import Status

if TYPE_CHECKING:
    import pandas as pd

    from invact.fronts.images import Images

__all__ = ["Apart", "ParetoFront", "Point", "hypervolume", "non_dominated", "pareto_front_of", "value_of"]


@dataclass(frozen=True)
class ParetoFront:
    """The front of a sweep, with all its other configurations.

    Attributes:
        name: name of the sweep.
        points: the points of the front, by increasing cost (and accuracy).
        dominated: the other finished configurations, including those that equal a point of the front.
        apart: configurations that are excluded from the comparison, with their status.
        reference: (accuracy, cost) that bounds the hypervolume.
        hypervolume: hypervolume of the front.
        budget: largest cost that was allowed; None without a budget.
        uncertainty: its uncertainty over seeds and images; None with one seed.
        measure: the measure of the cost, one of `invact.measures.MEASURES`.
        budgets: all budgets of the sweep by measure; `budget` is that of `measure`.
        min_accuracy: validation accuracy that the sweep's objective requires, or None. Points below it stay
            on the front, but cannot be the winner.
        winner: what the sweep's objective asks for; None if the objective is not known.
    """

    name: str
    points: tuple[Point, ...]
    dominated: tuple[Point, ...]
    apart: tuple[Apart, ...]
    reference: tuple[float, float]
    hypervolume: float
    budget: float | None = None
    uncertainty: Uncertainty | None = None
    measure: str = "macs"
    budgets: Mapping[str, float] = field(default_factory=dict, hash=False)
    min_accuracy: float | None = None
    winner: Winner | None = None

    def __repr__(self) -> str:
        """Name the sweep and count its configurations.

        Example:
            >>> ParetoFront("none", (), (), (), (0.0, 0.0), 0.0)
            ParetoFront('none': 0 on the front, 0 dominated, 0 apart)
        """
        return f"ParetoFront({self.name!r}: {self._counts()})"

    def _repr_html_(self) -> str:
        told = [self._counts(), *([str(self.winner)] if self.winner else [])]
        return html_of(self.name, told, self.to_pandas())

    def _counts(self) -> str:
        return f"{len(self.points)} on the front, {len(self.dominated)} dominated, {len(self.apart)} apart"

    def to_pandas(self) -> pd.DataFrame:
        """Return all configurations as a table: the front, the dominated ones, then the excluded ones.

        Returns:
            The columns `label, macs, validation_accuracy, test_accuracy, on_front, status, trial, config,
            params, filters`, the other measures with a value, `seeds, run_id`, with several seeds
            `p_non_dominated`, and `param.<name>` for each parameter that the sweep varies.
        """
        import pandas as pd

        groups = (("front", self.points), ("dominated", self.dominated), ("apart", self.apart))
        every = (*self.points, *self.dominated, *self.apart)
        dtypes = {
            column: dtype
            for column, dtype in _DTYPES.items()
            if column not in _SOMETIMES or any(getattr(one, column, None) is not None for one in every)
        }
        dtypes |= {} if self.uncertainty is None else {"p_non_dominated": "float64"}
        rows = [
            {
                **{column: getattr(one, column, None) for column in dtypes},
                "on_front": place == "front",
                "status": str(getattr(one, "status", Status.FINISHED)),
                "validation_accuracy": getattr(one, "accuracy", None),
                **{f"param.{name}": value for name, value in one.values.items()},
            }
            for place, group in groups
            for one in group
        ]
        varied = dict.fromkeys(name for row in rows for name in row if name.startswith("param."))
        table = pd.DataFrame(rows, columns=[*dtypes, *varied]).astype(dtypes)
        return leading(table, "label", "macs", "validation_accuracy", "test_accuracy")


# Every table of runs has the columns of _COSTS; those of _SOMETIMES are optional.
_COSTS = ("macs", "params", "filters")
_SOMETIMES = tuple(name for name in MEASURES if name not in _COSTS)

_DTYPES = {
    "on_front": "bool",
    "status": "str",
    "trial": "int64",
    "config": "str",
    "label": "str",
    # Nullable, because a model that was never built has no cost.
    **dict.fromkeys(_COSTS, "Int64"),
    **{name: "Int64" if MEASURES[name].counted else "float64" for name in _SOMETIMES},
    "validation_accuracy": "float64",
    "test_accuracy": "float64",
    "seeds": "int64",
    "run_id": "str",
}


def pareto_front_of(
    table: pd.DataFrame,
    name: str,
    reference: tuple[float, float] | None = None,
    budget: float | None = None,
    margin: float = MARGIN,
    attainment: bool = False,
    measure: str = "macs",
    images: Images | None = None,
) -> ParetoFront:
    """Build the front from the table of runs.

    A configuration is compared if all its seeds are FINISHED; the mean of their validation accuracies counts.
    Otherwise it is excluded, with the first status that occurs of OVER_BUDGET, DIVERGED, FAILED and PRUNED.
    A seed that occurs twice (tried or proposed again) counts once, by its FINISHED row if it has one. A
    finished seed whose validation accuracy is not finite counts as DIVERGED. The latency of a configuration
    is the median over its seeds. With several seeds, the result includes `uncertainty_of` the compared ones.

    Args:
        table: one row for each (config, seed), with columns `trial, config, label, seed, status, macs,
            params, filters, validation_accuracy, test_accuracy, run_id`, the column of the measure, and
            `param.<name>` for each parameter that the sweep varies. It may be empty, even without columns.
        name: name of the sweep.
        reference: (accuracy, cost) for the hypervolume; accuracy 0 and the largest cost of a compared
            configuration unless given. To compare two sweeps, use the same reference for both.
        budget: largest cost that was allowed; it is only reported.
        margin: non-inferiority margin between the fronts of two arms, in points.
        attainment: whether to add attainment surfaces, which need the extra `eaf`.
        measure: the measure of the cost, one of `invact.measures.MEASURES`.
        images: what is known about the images of both splits, for the uncertainty.

    Raises:
        InputError: the measure, a column, a status or a cost is not known, or the margin is out of range.
        EnvironmentFault: the extra is not installed.

    Example:
        >>> import pandas as pd
        >>> row = dict(trial=0, config="a", label="relu 8", seed=0, status="FINISHED", macs=100, params=10,
        ...            filters=8, validation_accuracy=0.9, test_accuracy=0.8, run_id="r")
        >>> front = pareto_front_of(pd.DataFrame([row, {**row, "config": "b", "macs": 200}]), "tiny")
        >>> [point.config for point in front.points], front.reference, front.hypervolume
        (['a'], (0.0, 200.0), 90.0)
    """
    if measure not in MEASURES:
        raise one_of("measure", measure, MEASURES)
    configurations: list[Point | Apart] = []
    uncertainty = None
    if len(table):
        _check(table, measure)
        runs = _once(table)
        # Plain rows, because pandas needs a millisecond for each group.
        groups: dict[Any, list[dict[Any, Any]]] = {}
        for row in runs.to_dict("records"):
            groups.setdefault(row["config"], []).append(row)
        configurations = [_configuration(rows, measure) for rows in groups.values()]
        configurations.sort(key=lambda one: (one.trial, one.config))
        compared = {one.config for one in configurations if isinstance(one, Point)}
        uncertainty = uncertainty_of(runs[runs["config"].isin(compared)], margin, attainment, measure, images)
    if uncertainty is not None:
        shares = dict(zip(uncertainty.configs, uncertainty.band.p_non_dominated, strict=True))
        configurations = [
            replace(one, p_non_dominated=shares.get(one.config)) if isinstance(one, Point) else one
            for one in configurations
        ]
    points = [one for one in configurations if isinstance(one, Point)]
    accuracy = [point.accuracy for point in points]
    cost = [point.cost for point in points]
    if reference is None:
        reference = (0.0, float(max(cost, default=0)))
    # Rounded, because a rounding error could put the more expensive of two equal points on the front.
    mask = non_dominated(np.round(accuracy, DIGITS), cost)
    by_cost = sorted(zip(points, mask, strict=True), key=lambda pair: (pair[0].cost, -pair[0].accuracy))
    return ParetoFront(
        name=name,
        points=tuple(point for point, on_front in by_cost if on_front),
        dominated=tuple(point for point, on_front in by_cost if not on_front),
        apart=tuple(one for one in configurations if isinstance(one, Apart)),
        reference=reference,
        hypervolume=hypervolume(accuracy, cost, reference),
        budget=budget,
        uncertainty=uncertainty,
        measure=measure,
    )


_COLUMNS = (
    *("trial", "config", "label", "seed", "status", *_COSTS),
    *("validation_accuracy", "test_accuracy", "run_id"),
)


def _check(table: pd.DataFrame, measure: str) -> None:
    required = dict.fromkeys((*_COLUMNS, measure))
    missing = [column for column in required if column not in table.columns]
    if missing:
        raise InputError(f"table of runs: missing {', '.join(missing)}. Required: {', '.join(required)}")
    for column in ("trial", "config"):
        if table[column].isna().any():
            raise InputError(
                f"table of runs: {column}: received a missing value. Allowed: a value in every row"
            )
    unknown = sorted(set(map(str, table["status"])) - set(Status))
    if unknown:
        raise InputError(f"table of runs: status: received {unknown}. Allowed: {', '.join(Status)}")


def _once(table: pd.DataFrame) -> pd.DataFrame:
    """Keep one row for each (config, seed), by increasing seed; all rows of a config get its median time."""
    unfinished = table["status"] != Status.FINISHED
    ordered = table.assign(unfinished=unfinished).sort_values(["seed", "unfinished"], kind="stable")
    once = ordered.drop_duplicates(["config", "seed"])
    timed = [name for name, one in MEASURES.items() if not one.counted and name in once]
    return once.assign(
        **{name: once[name].astype(float).groupby(once["config"]).transform("median") for name in timed}
    )


def _configuration(rows: list[dict[Any, Any]], measure: str) -> Point | Apart:
    first = rows[0]
    statuses = {row["status"] for row in rows}
    accuracies = [_number(row["validation_accuracy"]) for row in rows if not row["unfinished"]]
    if not np.isfinite(accuracies).all():
        statuses.add(Status.DIVERGED)
    common: dict[str, Any] = {
        "trial": int(min(row["trial"] for row in rows)),
        "config": str(first["config"]),
        "label": str(first["label"]),
        "seeds": len(rows),
        "run_id": str(first["run_id"]),
        "values": {
            str(column).removeprefix("param."): value_of(value)
            for column, value in first.items()
            if str(column).startswith("param.")
        },
        "measure": measure,
    }
    # A failed seed may have no cost while another seed of the same configuration has one.
    cost: dict[str, Any] = {}
    for name in (*_COSTS, *_SOMETIMES):
        if name in first:
            known = next((row[name] for row in rows if value_of(row[name]) is not None), None)
            cost[name] = None if known is None else (int if _DTYPES[name] == "Int64" else float)(known)
    for status in (Status.OVER_BUDGET, Status.DIVERGED, Status.FAILED, Status.PRUNED):
        if status in statuses:
            return Apart(status=status, **common, **cost)
    lacking = [name for name in dict.fromkeys((*_COSTS, measure)) if cost[name] is None]
    if lacking:
        config, names = common["config"], ", ".join(lacking)
        raise InputError(f"table of runs: config {config!r} is FINISHED, but has a missing cost: {names}")
    test = float(np.mean([_number(row["test_accuracy"]) for row in rows]))
    return Point(
        accuracy=float(np.mean(accuracies)),
        test_accuracy=test if np.isfinite(test) else None,
        **common,
        **cost,
    )


def _number(value: Any) -> float:
    known = value_of(value)
    return np.nan if known is None else float(known)


def value_of(value: Any) -> Any:
    """Convert a pandas cell to a plain Python value; a missing value becomes None."""
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, np.generic):
        value = value.item()
    # NaN, NaT and pandas.NA are the values that do not equal themselves.
    return value if (value == value) is True else None
