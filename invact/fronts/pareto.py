"""Which configurations are worth their cost: the front of validation accuracy against a measure."""
# Accuracy up, cost down. The front is chosen on validation accuracy; test accuracy is only carried along.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.errors import InputError, one_of
from invact.fronts.uncertainty import MARGIN, Uncertainty, uncertainty_of
from invact.measures import MEASURES
from invact.statistics.fronts.dominance import hypervolume, non_dominated
from invact.statistics.fronts.uncertainty import DIGITS
from invact.training.results import Status

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Apart", "ParetoFront", "Point", "hypervolume", "non_dominated", "pareto_front_of"]


@dataclass(frozen=True)
class Point:
    """One configuration that finished on all its seeds.

    Attributes:
        trial: number of the trial that proposed it.
        config: digest of the configuration.
        label: what pictures call it.
        macs: multiply-accumulates, for a batch of one.
        params: parameters.
        filters: filters, over all layers.
        accuracy: on the validation split, mean over the seeds. Selection reads this.
        test_accuracy: on the test set, mean over the seeds; None where it was not measured.
        seeds: number of seeds.
        run_id: MLflow run of the first seed.
        values: the parameters that the sweep varies.
        p_non_dominated: share of the resamples over the seeds in which it is on the front; None with one
            seed, or while it lacks one of the sweep's.
        activation_bytes: the most that its activations take at once; None where it was not measured.
        bytes_moved: read and written in one pass; None where it was not measured.
        latency_ms: of one pass, in milliseconds; None where it was not measured.
        measure: the name of its front's cost axis.
    """

    trial: int
    config: str
    label: str
    macs: int
    params: int
    filters: int
    accuracy: float
    test_accuracy: float | None
    seeds: int
    run_id: str
    values: Mapping[str, Any] = field(default_factory=dict, hash=False)
    p_non_dominated: float | None = None
    activation_bytes: int | None = None
    bytes_moved: int | None = None
    latency_ms: float | None = None
    measure: str = "macs"

    @property
    def cost(self) -> float:
        """Its value on the front's axis.

        Example:
            >>> Point(0, "a", "relu 8", 100, 10, 8, 0.9, None, 1, "r", measure="params").cost
            10
        """
        cost: float = getattr(self, self.measure)
        return cost


@dataclass(frozen=True)
class Apart:
    """One configuration that cannot be compared, and why.

    Attributes:
        status: OVER_BUDGET, DIVERGED or FAILED on one seed at least.
        macs: None when the model was never built; so `params` and `filters`. Other fields are as of `Point`.
    """

    trial: int
    config: str
    label: str
    status: Status
    macs: int | None
    params: int | None
    filters: int | None
    seeds: int
    run_id: str
    values: Mapping[str, Any] = field(default_factory=dict, hash=False)
    activation_bytes: int | None = None
    bytes_moved: int | None = None
    latency_ms: float | None = None
    measure: str = "macs"

    @property
    def cost(self) -> float | None:
        """Its value on the front's axis; None where it was not measured."""
        cost: float | None = getattr(self, self.measure)
        return cost


@dataclass(frozen=True)
class ParetoFront:
    """The outcome of a sweep.

    Attributes:
        name: of the sweep.
        points: the front, by increasing cost (and accuracy).
        dominated: the other finished configurations; also one that equals a point of the front.
        apart: configurations that ran out of the comparison, with their status.
        reference: (accuracy, cost) that bounds the hypervolume.
        hypervolume: of the front.
        budget: the limit of the cost, where there was one.
        uncertainty: what the seeds say about it; None with one seed.
        measure: what the cost is, one of `invact.measures.MEASURES`.
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

    def to_pandas(self) -> pd.DataFrame:
        """Tabulate every configuration: the front, then the dominated, then those apart.

        Returns:
            Columns `on_front, status, trial, config, label, macs, params, filters`, the other measures that
            were measured, `validation_accuracy, test_accuracy, seeds, run_id`, with several seeds
            `p_non_dominated`, then `param.<name>` for each varied parameter.
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
        return pd.DataFrame(rows, columns=[*dtypes, *varied]).astype(dtypes)


# What every table of runs has of a network; and what one may have.
_COSTS = ("macs", "params", "filters")
_SOMETIMES = tuple(name for name in MEASURES if name not in _COSTS)

_DTYPES = {
    "on_front": "bool",
    "status": "str",
    "trial": "int64",
    "config": "str",
    "label": "str",
    # Nullable: a model that was never built has no cost.
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
) -> ParetoFront:
    """Build the front from the table of runs.

    A configuration is compared when all its seeds are FINISHED, by the mean of their validation accuracies.
    Otherwise it is set apart with a status: OVER_BUDGET before DIVERGED before FAILED. A seed that occurs
    twice (tried again, or proposed again) counts once, by its FINISHED row if it has one. A finished seed
    whose validation accuracy is not finite counts as DIVERGED. With several seeds, `uncertainty_of` of the
    compared configurations is added. Of a cost that is timed, a configuration has the median over its seeds.

    Args:
        table: one row for each (config, seed), with columns `trial, config, label, seed, status, macs,
            params, filters, validation_accuracy, test_accuracy, run_id`, that of the measure, and
            `param.<name>` for each varied parameter. May be empty, even without columns.
        name: of the sweep.
        reference: (accuracy, cost) for the hypervolume; accuracy 0 and the largest cost of a compared
            configuration unless given. To compare two sweeps, give both the same.
        budget: the limit of the cost, to be shown.
        margin: between the fronts of two arms, the loss of accuracy that counts as equal, in points.
        attainment: whether to add attainment surfaces, which need the extra `eaf`.
        measure: the cost, one of `invact.measures.MEASURES`.

    Raises:
        InputError: an unknown measure, a column is missing, a status is unknown, a finished run lacks its
            cost, or the margin is out of range.
        EnvironmentFault: the extra is missing.

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
        configurations = [_configuration(rows, measure) for _, rows in runs.groupby("config", sort=False)]
        configurations.sort(key=lambda one: (one.trial, one.config))
        compared = {one.config for one in configurations if isinstance(one, Point)}
        uncertainty = uncertainty_of(runs[runs["config"].isin(compared)], margin, attainment, measure)
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
    # Rounded, so that the order of a sum does not put the dearer of two equal means on the front.
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
            raise InputError(f"table of runs: {column}: received a missing value. Allowed: one in every row")
    unknown = sorted(set(map(str, table["status"])) - set(Status))
    if unknown:
        raise InputError(f"table of runs: status: received {unknown}. Allowed: {', '.join(Status)}")


def _once(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each (config, seed), by increasing seed; all of a config have the same times."""
    unfinished = table["status"] != Status.FINISHED
    ordered = table.assign(unfinished=unfinished).sort_values(["seed", "unfinished"], kind="stable")
    once = ordered.drop_duplicates(["config", "seed"])
    timed = [name for name, one in MEASURES.items() if not one.counted and name in once]
    return once.assign(
        **{name: once[name].astype(float).groupby(once["config"]).transform("median") for name in timed}
    )


def _configuration(rows: pd.DataFrame, measure: str) -> Point | Apart:
    first = rows.iloc[0]
    statuses = set(rows["status"])
    if not np.isfinite(rows.loc[~rows["unfinished"], "validation_accuracy"].astype(float)).all():
        statuses.add(Status.DIVERGED)
    common: dict[str, Any] = {
        "trial": int(rows["trial"].min()),
        "config": str(first["config"]),
        "label": str(first["label"]),
        "seeds": len(rows),
        "run_id": str(first["run_id"]),
        "values": {
            str(column).removeprefix("param."): _plain(first[column])
            for column in rows.columns
            if str(column).startswith("param.")
        },
        "measure": measure,
    }
    # A seed that failed may lack the cost that another seed of the same configuration has.
    known = {column: rows[column].dropna() for column in (*_COSTS, *_SOMETIMES) if column in rows}
    cost: dict[str, Any] = {
        name: (int if _DTYPES[name] == "Int64" else float)(cells.iloc[0]) if len(cells) else None
        for name, cells in known.items()
    }
    for status in (Status.OVER_BUDGET, Status.DIVERGED, Status.FAILED):
        if status in statuses:
            return Apart(status=status, **common, **cost)
    lacking = [name for name in dict.fromkeys((*_COSTS, measure)) if cost[name] is None]
    if lacking:
        config, names = common["config"], ", ".join(lacking)
        raise InputError(f"table of runs: config {config!r} is FINISHED, with a missing cost: {names}")
    test = float(rows["test_accuracy"].astype(float).mean(skipna=False))
    return Point(
        accuracy=float(rows["validation_accuracy"].astype(float).mean()),
        test_accuracy=test if np.isfinite(test) else None,
        **common,
        **cost,
    )


def _plain(value: Any) -> Any:
    """A pandas cell as a plain Python value; a missing one as None."""
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, np.generic):
        value = value.item()
    # NaN, NaT and pandas.NA are the values that do not equal themselves.
    return value if (value == value) is True else None
