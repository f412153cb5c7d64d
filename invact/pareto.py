"""Which configurations are worth their MACs: the front of validation accuracy against cost."""
# Accuracy up, MACs down. The front is chosen on validation accuracy; test accuracy is only carried along.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.bands import MARGIN, Uncertainty, uncertainty_of
from invact.errors import InputError
from invact.results import Status
from invact.statistics.uncertainty import DIGITS

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Apart", "ParetoFront", "Point", "hypervolume", "non_dominated", "pareto_front_of"]


def non_dominated(accuracy: ArrayLike, macs: ArrayLike) -> NDArray[np.bool_]:
    """Mark the points that no other point dominates.

    One point dominates another when it is no less accurate, no more costly, and better in one of the two.
    Of equal points the first is kept. A point that is not finite is never marked. O(n log n).

    Args:
        accuracy: shape (n,), to maximise.
        macs: shape (n,), to minimise.

    Returns:
        Mask, shape (n,).

    Raises:
        InputError: the shapes differ.

    Example:
        >>> non_dominated([0.9, 0.8, 0.95, 0.9], [100, 200, 300, 100]).tolist()
        [True, False, True, False]
    """
    gain, cost = _pair(accuracy, macs)
    mask = np.zeros(len(gain), dtype=bool)
    known = np.flatnonzero(np.isfinite(gain) & np.isfinite(cost))
    # Cheapest first, then most accurate, then as received: a point stands when it beats all before it.
    order = known[np.lexsort((known, -gain[known], cost[known]))]
    best_before = np.maximum.accumulate(np.concatenate(([-np.inf], gain[order])))[:-1]
    mask[order[gain[order] > best_before]] = True
    return mask


def hypervolume(accuracy: ArrayLike, macs: ArrayLike, reference: tuple[float, float]) -> float:
    """Area that the points dominate, up to a reference point; larger is better.

    With the front sorted by MACs m_1 < ... < m_k and m_{k+1} that of the reference, the area is
    sum_i (accuracy_i - accuracy_reference) (m_{i+1} - m_i). Points that do not dominate the reference add
    nothing.

    Args:
        accuracy: fractions, shape (n,).
        macs: shape (n,).
        reference: (accuracy, MACs) of the worst point that counts.

    Returns:
        Area, in accuracy fractions times MACs.

    Raises:
        InputError: the shapes differ, or the reference is not finite.

    Source: Zitzler and Thiele, IEEE Transactions on Evolutionary Computation 3, 1999.

    Example:
        >>> hypervolume([0.5, 0.75], [100, 200], reference=(0.0, 300))
        125.0
    """
    gain, cost = _pair(accuracy, macs)
    if not np.isfinite(reference).all():
        raise InputError(f"reference: received {reference}. Allowed: two finite numbers, (accuracy, MACs)")
    inside = non_dominated(gain, cost) & (gain > reference[0]) & (cost < reference[1])
    order = np.flatnonzero(inside)[np.argsort(cost[inside])]
    widths = np.diff(np.append(cost[order], reference[1]))
    return float(np.sum((gain[order] - reference[0]) * widths))


def _pair(accuracy: ArrayLike, macs: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    gain, cost = np.asarray(accuracy, dtype=float), np.asarray(macs, dtype=float)
    if gain.ndim != 1 or gain.shape != cost.shape:
        raise InputError(
            f"accuracy, macs: received shapes {gain.shape} and {cost.shape}. Allowed: equal, (n,)"
        )
    return gain, cost


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


@dataclass(frozen=True)
class Apart:
    """One configuration that cannot be compared, and why.

    Attributes:
        status: OVER_BUDGET, DIVERGED or FAILED on one seed at least.
        macs: None when the model was never built; so `params` and `filters`.
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


@dataclass(frozen=True)
class ParetoFront:
    """The outcome of a sweep.

    Attributes:
        name: of the sweep.
        points: the front, by increasing MACs (and accuracy).
        dominated: the other finished configurations; also one that equals a point of the front.
        apart: configurations that ran out of the comparison, with their status.
        reference: (accuracy, MACs) that bounds the hypervolume.
        hypervolume: of the front.
        budget: the limit in MACs, where there was one.
        uncertainty: what the seeds say about it; None with one seed.
    """

    name: str
    points: tuple[Point, ...]
    dominated: tuple[Point, ...]
    apart: tuple[Apart, ...]
    reference: tuple[float, float]
    hypervolume: float
    budget: int | None = None
    uncertainty: Uncertainty | None = None

    def to_pandas(self) -> pd.DataFrame:
        """Tabulate every configuration: the front, then the dominated, then those apart.

        Returns:
            Columns `on_front, status, trial, config, label, macs, params, filters, validation_accuracy,
            test_accuracy, seeds, run_id`, with several seeds `p_non_dominated`, then `param.<name>` for each
            varied parameter.
        """
        import pandas as pd

        dtypes = _DTYPES | ({} if self.uncertainty is None else {"p_non_dominated": "float64"})
        groups = (("front", self.points), ("dominated", self.dominated), ("apart", self.apart))
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


_DTYPES = {
    "on_front": "bool",
    "status": "str",
    "trial": "int64",
    "config": "str",
    "label": "str",
    # Nullable: a model that was never built has no cost.
    "macs": "Int64",
    "params": "Int64",
    "filters": "Int64",
    "validation_accuracy": "float64",
    "test_accuracy": "float64",
    "seeds": "int64",
    "run_id": "str",
}


def pareto_front_of(
    table: pd.DataFrame,
    name: str,
    reference: tuple[float, float] | None = None,
    budget: int | None = None,
    margin: float = MARGIN,
    attainment: bool = False,
) -> ParetoFront:
    """Build the front from the table of runs.

    A configuration is compared when all its seeds are FINISHED, by the mean of their validation accuracies.
    Otherwise it is set apart with a status: OVER_BUDGET before DIVERGED before FAILED. A seed that occurs
    twice (tried again, or proposed again) counts once, by its FINISHED row if it has one. A finished seed
    whose validation accuracy is not finite counts as DIVERGED. With several seeds, `uncertainty_of` of the
    compared configurations is added.

    Args:
        table: one row for each (config, seed), with columns `trial, config, label, seed, status, macs,
            params, filters, validation_accuracy, test_accuracy, run_id`, and `param.<name>` for each
            varied parameter. May be empty, even without columns.
        name: of the sweep.
        reference: (accuracy, MACs) for the hypervolume; accuracy 0 and the largest MACs of a compared
            configuration unless given. To compare two sweeps, give both the same.
        budget: the limit in MACs, to be shown.
        margin: between the fronts of two arms, the loss of accuracy that counts as equal, in points.
        attainment: whether to add attainment surfaces, which need the extra `eaf`.

    Raises:
        InputError: a column is missing, a status is unknown, a finished run lacks its cost, or the margin is
            out of range.
        EnvironmentFault: the extra is missing.

    Example:
        >>> import pandas as pd
        >>> row = dict(trial=0, config="a", label="relu 8", seed=0, status="FINISHED", macs=100, params=10,
        ...            filters=8, validation_accuracy=0.9, test_accuracy=0.8, run_id="r")
        >>> front = pareto_front_of(pd.DataFrame([row, {**row, "config": "b", "macs": 200}]), "tiny")
        >>> [point.config for point in front.points], front.reference, front.hypervolume
        (['a'], (0.0, 200.0), 90.0)
    """
    configurations: list[Point | Apart] = []
    uncertainty = None
    if len(table):
        _check(table)
        runs = _once(table)
        configurations = [_configuration(rows) for _, rows in runs.groupby("config", sort=False)]
        configurations.sort(key=lambda one: (one.trial, one.config))
        compared = {one.config for one in configurations if isinstance(one, Point)}
        uncertainty = uncertainty_of(runs[runs["config"].isin(compared)], margin, attainment)
    if uncertainty is not None:
        shares = dict(zip(uncertainty.configs, uncertainty.band.p_non_dominated, strict=True))
        configurations = [
            replace(one, p_non_dominated=shares.get(one.config)) if isinstance(one, Point) else one
            for one in configurations
        ]
    points = [one for one in configurations if isinstance(one, Point)]
    accuracy = [point.accuracy for point in points]
    macs = [point.macs for point in points]
    if reference is None:
        reference = (0.0, float(max(macs, default=0)))
    # Rounded, so that the order of a sum does not put the dearer of two equal means on the front.
    mask = non_dominated(np.round(accuracy, DIGITS), macs)
    by_macs = sorted(zip(points, mask, strict=True), key=lambda pair: (pair[0].macs, -pair[0].accuracy))
    return ParetoFront(
        name=name,
        points=tuple(point for point, on_front in by_macs if on_front),
        dominated=tuple(point for point, on_front in by_macs if not on_front),
        apart=tuple(one for one in configurations if isinstance(one, Apart)),
        reference=reference,
        hypervolume=hypervolume(accuracy, macs, reference),
        budget=budget,
        uncertainty=uncertainty,
    )


_COLUMNS = (
    *("trial", "config", "label", "seed", "status", "macs", "params", "filters"),
    *("validation_accuracy", "test_accuracy", "run_id"),
)


def _check(table: pd.DataFrame) -> None:
    missing = [column for column in _COLUMNS if column not in table.columns]
    if missing:
        raise InputError(f"table of runs: missing {', '.join(missing)}. Required: {', '.join(_COLUMNS)}")
    for column in ("trial", "config"):
        if table[column].isna().any():
            raise InputError(f"table of runs: {column}: received a missing value. Allowed: one in every row")
    unknown = sorted(set(map(str, table["status"])) - set(Status))
    if unknown:
        raise InputError(f"table of runs: status: received {unknown}. Allowed: {', '.join(Status)}")


def _once(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each (config, seed), by increasing seed."""
    unfinished = table["status"] != Status.FINISHED
    ordered = table.assign(unfinished=unfinished).sort_values(["seed", "unfinished"], kind="stable")
    return ordered.drop_duplicates(["config", "seed"])


def _configuration(rows: pd.DataFrame) -> Point | Apart:
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
    }
    # A seed that failed may lack the cost that another seed of the same configuration has.
    known = {column: rows[column].dropna() for column in ("macs", "params", "filters")}
    cost: dict[str, Any] = {name: int(cells.iloc[0]) if len(cells) else None for name, cells in known.items()}
    for status in (Status.OVER_BUDGET, Status.DIVERGED, Status.FAILED):
        if status in statuses:
            return Apart(status=status, **common, **cost)
    if None in cost.values():
        raise InputError(f"table of runs: config {common['config']!r} is FINISHED, with a missing cost")
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
