"""A warm start: the sampler of a sweep is told the trials of earlier sweeps before it proposes any."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invact.errors import BuildError, InputError, within
from invact.measures import MEASURES
from invact.search.drivers import Outcome
from invact.spaces.parameters import FIELDS
from invact.sweeps.recorded import SOURCE
from invact.tracking.stored import config_of, damaged
from invact.training.results import Status

if TYPE_CHECKING:
    import pandas as pd

    from invact.config import Config, Scalar
    from invact.data.dataset import Dataset
    from invact.measures import Costs
    from invact.search.gate import Gate
    from invact.spaces.space import SearchSpace, Values
    from invact.sweeps.file import Sweep
    from invact.tracking.record import Record

__all__ = ["WARM", "Told", "WarmStart", "find_earlier", "values_in"]

WARM = "warm_start.json"
"""The file of the record that has the trials which the sampler was told."""


@dataclass(frozen=True)
class Told:
    """The trials that a sampler is told.

    Attributes:
        trials: the values in the search space, and the result under the budgets of the sweep.
        lines: one line for each earlier sweep, on how many of its trials are told.
        text: the file `WARM` with the trials; empty if the record has it.
    """

    trials: Sequence[tuple[Values, Outcome]]
    lines: Sequence[str]
    text: str


@dataclass(frozen=True)
class WarmStart:
    """The earlier sweeps of a warm start.

    Attributes:
        records: their records, by name. Empty if `kept` is known.
        kept: the record of the sweep itself, if its first run has begun. Then the trials are those of its
            file, however the earlier sweeps have grown.
    """

    records: dict[str, Record]
    kept: Record | None = None

    def told(self, gate: Gate) -> Told:
        """Return the trials to tell.

        A trial is told if its configuration is one of the search space. Its result is judged by the budgets
        of the sweep: it is over budget, or it has the accuracy of its record. A trial that failed, or that
        was not trained and is within the budgets, is not told. Nor is one whose configuration an earlier
        sweep of the list has.

        Raises:
            InputError: no trial can be told.
            EnvironmentFault: the record of the sweep is damaged.
        """
        if self.kept is not None:
            return Told(list(_read(self.kept, gate.space)), [], "")
        trials: dict[str, tuple[Values, Outcome]] = {}
        lines = []
        for name, record in self.records.items():
            table = record.table()
            groups = [rows for _, rows in table.groupby("trial")]
            found, outside = _trials(groups, gate)
            trials = found | trials
            lines.append(_line(name, len(found), len(groups), outside))
        if not trials:
            raise InputError(f"{'; '.join(lines)}. Allowed: a sweep with trials in this search space")
        every = [
            {"values": values, "status": one.status, "costs": dict(one.costs), "accuracy": one.accuracy}
            for values, one in trials.values()
        ]
        sources = {name: record.run_id for name, record in self.records.items()}
        return Told(list(trials.values()), lines, json.dumps({"sweeps": sources, "trials": every}, indent=1))


def find_earlier(
    sweep: Sweep, data: Dataset, store: str | Path | None, tracking_uri: str | None
) -> WarmStart | None:
    """Find the earlier sweeps that `warm_start` names, each in its newest record with another identity.

    Returns:
        None if the sweep has no warm start.

    Raises:
        InputError: there is no such sweep (the message names the nearest), or it has other data, whose
            accuracies do not compare.
        EnvironmentFault: the store cannot be reached.
    """
    if not sweep.file.warm_start:
        return None

    from invact.tracking.store import open_store

    identity = sweep.identity(data)
    with within(str(sweep.path)), within("warm_start"):
        opened = open_store(store, tracking_uri, read_only=True)
        try:
            own = opened.latest(sweep.name, "sweep", identity=identity)
        except InputError:
            own = None
        if own is not None and len(own.table()):
            return WarmStart({}, own)
        records = {}
        for name in sweep.file.warm_start:
            records[name] = record = opened.latest(name, "sweep", apart=identity)
            source = record.json(SOURCE, name=str, digest=str)
            if data.digest != source["digest"] and sweep.source.name != source["name"]:
                raise InputError(
                    f"received {name!r}, a sweep on {source['name']!r}. Allowed: a sweep on "
                    f"{sweep.source.name!r}, because accuracies on other data do not compare; its best "
                    "configurations can be in enqueue"
                )
        return WarmStart(records)


def values_in(space: SearchSpace, config: Config) -> tuple[dict[str, Scalar], str]:
    """Find the values of a search space that make a configuration.

    Args:
        space: the search space.
        config: the configuration.

    Returns:
        The values of the active parameters, and an empty text. If the space does not have the configuration,
        the name of a parameter that the space lacks, or whose value it forbids, is the text.

    Example:
        >>> from invact.config import Config
        >>> from invact.spaces.space import parse_space
        >>> space = parse_space({"filters": {"low": 4, "high": 8}, "depth": 2})
        >>> values_in(space, Config(filters=6)), values_in(space, Config(filters=16))[1]
        (({'filters': 6, 'depth': 2}, ''), 'filters')
        >>> values_in(space, Config(filters=6, dropout=0.5))[1]
        'dropout'
    """
    values: dict[str, Scalar] = {}
    for parameter in space.parameters:
        if not parameter.active(values):
            continue
        name, domain = parameter.name, parameter.domain
        key, _, stage = name.rpartition(".")
        if not key:
            value = getattr(config, name) if name in FIELDS else config.options.get(name)
        else:
            every = getattr(config, key)
            value = every[int(stage) - 1] if isinstance(every, tuple) and int(stage) <= len(every) else None
        if value is None or isinstance(value, tuple) or (value := domain.coerce(value)) not in domain:
            return values, key or name
        values[name] = value
    made, wanted = (one.model_dump() | one.options for one in (space.config(values), config))
    different = [name for name in wanted | made if name != "options" and made.get(name) != wanted.get(name)]
    return values, next(iter(different), "")


def _trials(
    groups: Sequence[pd.DataFrame], gate: Gate
) -> tuple[dict[str, tuple[Values, Outcome]], Counter[str]]:
    """Return the trials to tell by the digest of their configuration, and what keeps others out."""
    found: dict[str, tuple[Values, Outcome]] = {}
    outside: Counter[str] = Counter()
    for rows in groups:
        first = rows.iloc[0]
        try:
            config = config_of(first["run_id"], first["config_json"])
        except InputError:  # an arm that is not registered here
            outside["activation"] += 1
            continue
        values, reason = values_in(gate.space, config)
        if reason:
            outside[reason] += 1
        elif (outcome := _judged(config, rows, gate)) is not None:
            found[config.digest()] = values, outcome
    return found, outside


def _judged(config: Config, rows: pd.DataFrame, gate: Gate) -> Outcome | None:
    """Return the result of a trial under the budgets of the sweep; None if it has none."""
    try:
        costs = _costs(config, rows, gate)
    except BuildError:
        return None
    statuses = set(rows["status"])
    if gate.objective.overrun(costs) > 0:
        return Outcome(Status.OVER_BUDGET, costs)
    if Status.FAILED not in statuses and Status.DIVERGED in statuses:
        return Outcome(Status.DIVERGED, costs)
    if statuses != {Status.FINISHED} or rows["validation_accuracy"].isna().any():
        return None
    return Outcome(Status.FINISHED, costs, float(rows["validation_accuracy"].mean()))


def _costs(config: Config, rows: pd.DataFrame, gate: Gate) -> Costs:
    counted = [name for name, measure in MEASURES.items() if measure.counted]
    known = {name: float(rows[name].dropna().iloc[0]) for name in counted if rows[name].notna().any()}
    # A latency of another machine says nothing about this one.
    return known if {*gate.objective.measures} <= {*known} else gate.costs(config)[1]


def _line(name: str, told: int, total: int, outside: Counter[str]) -> str:
    line = f"{told} of {total} trials of {name!r} are told"
    if outside:
        reasons = ", ".join(f"{parameter} {count}" for parameter, count in outside.most_common())
        line += f"; {outside.total()} have a value that this search space lacks or forbids ({reasons})"
    if rest := total - told - outside.total():
        line += f"; {rest} have no result under these budgets"
    return line


def _read(record: Record, space: SearchSpace) -> Iterator[tuple[Values, Outcome]]:
    what = f"file {WARM!r}"
    try:
        kept: dict[str, Any] = record.json(WARM, trials=list)
    except InputError:
        raise damaged(record.run_id, what, None, "the trials that the sampler was told") from None
    for trial in kept["trials"]:
        try:
            values = space.check(trial["values"], what)
            yield values, Outcome(Status(trial["status"]), trial["costs"], trial["accuracy"])
        except (InputError, KeyError, TypeError, ValueError):
            raise damaged(record.run_id, what, trial, "a trial of this search space") from None
