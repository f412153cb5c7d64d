"""The preregistration: the design of a claim, stored and hashed before the first run of the confirmation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from invact.errors import EnvironmentFault, InputError

if TYPE_CHECKING:
    from invact.tracking.record import Record

__all__ = ["Deviation", "Preregistration", "changes_between", "register"]

FILE, DEVIATIONS = "preregistration.json", "deviations.json"
SCHEMA = "invact.preregistration/1"


@dataclass(frozen=True)
class Deviation:
    """A change of the design after the registration.

    Attributes:
        made: time of the change, in UTC.
        reason: reason that the user gave.
        changes: key of the design -> (value before, value now).
        design: the complete design after the change.
    """

    made: str
    reason: str
    changes: Mapping[str, tuple[Any, Any]]
    design: Mapping[str, Any]

    def __str__(self) -> str:
        changes = ", ".join(f"{key}: {was!r} -> {now!r}" for key, (was, now) in self.changes.items())
        return f"{self.made}: {self.reason} ({changes})"


@dataclass(frozen=True)
class Preregistration:
    """The registered design and its later changes.

    Attributes:
        made: time of the registration, in UTC.
        sha256: SHA-256 of the canonical JSON of the registered design.
        registered: the design as it was registered.
        deviations: changes of the design after the registration, in order.
    """

    made: str
    sha256: str
    registered: Mapping[str, Any]
    deviations: tuple[Deviation, ...] = ()

    @property
    def design(self) -> Mapping[str, Any]:
        """The design after the last deviation."""
        return self.deviations[-1].design if self.deviations else self.registered

    def changes(self, settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """The settings of a file that differ from the current design: key -> (was, now)."""
        return changes_between(self.design["settings"], settings)


def changes_between(was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Compare two nested tables: dotted key -> (was, now), where a missing value is None.

    Example:
        >>> changes_between({"alpha": 0.05, "config": {"epochs": 5}}, {"alpha": 0.1, "config": {"epochs": 5}})
        {'alpha': (0.05, 0.1)}
    """
    before, after = _flat(was), _flat(now)
    return {
        key: (before.get(key), after.get(key))
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def sha256(design: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a design: keys sorted, no spaces.

    Example:
        >>> sha256({"b": 1, "a": 2}) == sha256({"a": 2, "b": 1})
        True
    """
    text = json.dumps(design, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def register(record: Record, design: Mapping[str, Any], reason: str = "") -> Preregistration:
    """Store a design in the record: the first as the preregistration, a later one as a deviation from it.

    Args:
        record: record of the claim.
        design: JSON-like values; `settings` are those of the file.
        reason: reason for a deviation.
    """
    # JSON turns tuples into lists and keys into text; the hash must be that of the values read back.
    design = json.loads(json.dumps({"schema": SCHEMA, **design}, allow_nan=False))
    made = datetime.now(UTC).isoformat(timespec="seconds")
    known = read(record)
    if known is None:
        text = json.dumps({"sha256": sha256(design), "registered": made, "design": design}, indent=1)
        record.keep({FILE: text.encode()})
        record.summarize({}, tags={"invact.preregistration": sha256(design), "invact.registered": made})
        return Preregistration(made, sha256(design), design)
    changes = changes_between(known.design, design)
    deviations = (*known.deviations, Deviation(made, reason, changes, design))
    text = json.dumps(
        [
            {"made": one.made, "reason": one.reason, "changes": dict(one.changes), "design": one.design}
            for one in deviations
        ],
        indent=1,
    )
    record.keep({DEVIATIONS: text.encode()})
    record.summarize({}, tags={"invact.deviations": str(len(deviations))})
    return Preregistration(known.made, known.sha256, known.registered, deviations)


def read(record: Record) -> Preregistration | None:
    """Read the preregistration of a record; None before the registration.

    Raises:
        EnvironmentFault: the stored file was changed, so its hash does not match.
    """
    try:
        stored = json.loads(record.read(FILE))
    except InputError:
        return None
    if sha256(stored["design"]) != stored["sha256"]:
        raise EnvironmentFault(
            f"{FILE} of run {record.run_id} was changed after it was registered: its hash does not match"
        )
    try:
        later = json.loads(record.read(DEVIATIONS))
    except InputError:
        later = []
    deviations = tuple(
        Deviation(
            one["made"],
            one["reason"],
            {key: (was, now) for key, (was, now) in one["changes"].items()},
            one["design"],
        )
        for one in later
    )
    return Preregistration(stored["registered"], stored["sha256"], stored["design"], deviations)
