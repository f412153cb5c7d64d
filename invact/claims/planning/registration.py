"""The preregistration: the design of a claim, stored and hashed before its first run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from invact.claims.keys import ClaimFile
from invact.claims.planning.pilots import Pilot
from invact.errors import EnvironmentFault, InputError, one_line
from invact.tracking.stored import object_of

if TYPE_CHECKING:
    from invact.tracking.record import Record

__all__ = ["Deviation", "Preregistration", "changes_between", "completed", "fix", "read", "register"]

FILE, FIXED, DEVIATIONS = "preregistration.json", "pilot.json", "deviations.json"
SCHEMA = "invact.preregistration/2"
HASH, FIXED_HASH, DEVIATIONS_HASH = "invact.preregistration", "invact.pilot_fixed", "invact.deviations"
PART = "invact.design."
LONGEST = 4000
"""Longest part of a design that a tag holds; MLflow limits the length of tags."""


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
        pilots: the earlier pilots that the store knew at the registration.
        fixed: what pilot and screen have fixed by the rules; None before the end of the screen.
        deviations: changes of the design after the registration, in order.
    """

    made: str
    sha256: str
    registered: Mapping[str, Any]
    pilots: tuple[Pilot, ...] = ()
    fixed: Mapping[str, Any] | None = None
    deviations: tuple[Deviation, ...] = ()

    @property
    def design(self) -> Mapping[str, Any]:
        """The design after the last deviation."""
        return self.deviations[-1].design if self.deviations else self.registered

    def changes(self, settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """The settings of a file that differ from the current design: key -> (was, now).

        A key that the registered file did not have, because a later version introduced it, counts with its
        default value.
        """
        was, now = (completed(each, ClaimFile) for each in (self.design["settings"], settings))
        return changes_between(was, now)


def completed(settings: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Add the default values of the keys of a model that JSON-like settings lack, also in inner tables.

    Example:
        >>> from invact.claims.keys import TuningFile
        >>> completed({"trials": 2, "learning_rate": [1e-3, 1e-2]}, TuningFile)["seeds"]
        1
    """
    found = dict(settings)
    for key, field in model.model_fields.items():
        if key in found:
            inner = [kind for kind in (field.annotation, *get_args(field.annotation)) if _is_model(kind)]
            if inner and isinstance(found[key], Mapping):
                found[key] = completed(found[key], inner[0])
        elif not field.is_required():
            found[key] = to_jsonable_python(field.get_default(call_default_factory=True))
    return found


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


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


def _canonical(values: Any) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256(values: Any) -> str:
    """SHA-256 of the canonical JSON of a design: keys sorted, no spaces.

    Example:
        >>> sha256({"b": 1, "a": 2}) == sha256({"a": 2, "b": 1})
        True
    """
    return hashlib.sha256(_canonical(values).encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _part(value: Any) -> str:
    text = _canonical(value)
    return text if len(text) <= LONGEST else sha256(value)


def register(
    record: Record, design: Mapping[str, Any], reason: str = "", pilots: tuple[Pilot, ...] = ()
) -> Preregistration:
    """Store a design in the record: the first as the preregistration, a later one as a deviation from it.

    Args:
        record: record of the claim.
        design: JSON-like values; `settings` are those of the file.
        reason: reason for a deviation.
        pilots: the earlier pilots in the store.
    """
    # JSON turns tuples into lists and keys into text; the hash must be that of the values read back.
    design = json.loads(json.dumps({"schema": SCHEMA, **design}, allow_nan=False))
    known = read(record)
    if known is None:
        made = _now()
        listed = [[one.claim, one.run_id, one.started] for one in pilots]
        stored = {"sha256": sha256(design), "registered": made, "pilots": listed, "design": design}
        record.keep({FILE: json.dumps(stored, indent=1).encode()})
        parts = {f"{PART}{key}": _part(value) for key, value in design.items()}
        record.summarize({}, tags={HASH: sha256(design), "invact.registered": made, **parts})
        return Preregistration(made, sha256(design), design, pilots)
    was, now = (
        {**each, "settings": completed(each["settings"], ClaimFile)} for each in (known.design, design)
    )
    return _deviate(record, known, reason, changes_between(was, now), design)


def _deviate(
    record: Record,
    known: Preregistration,
    reason: str,
    changes: Mapping[str, tuple[Any, Any]],
    design: Mapping[str, Any],
) -> Preregistration:
    deviations = (*known.deviations, Deviation(_now(), reason, changes, design))
    listed = [
        {"made": one.made, "reason": one.reason, "changes": dict(one.changes), "design": one.design}
        for one in deviations
    ]
    record.keep({DEVIATIONS: json.dumps(listed, indent=1).encode()})
    record.summarize({}, tags={DEVIATIONS_HASH: sha256(json.loads(json.dumps(listed)))})
    return replace(known, deviations=deviations)


def fix(
    record: Record, known: Preregistration, values: Mapping[str, Any], reason: str | None = None
) -> Preregistration:
    """Store what pilot and screen have fixed, or check that it equals what is stored.

    Args:
        record: record of the claim.
        known: the registration.
        values: JSON-like values that the rules give for the runs of pilot and screen.
        reason: reason for a deviation; with it, other values replace those stored and are listed.

    Raises:
        EnvironmentFault: the values differ from those stored, and there is no reason.
    """
    values = json.loads(json.dumps(values, allow_nan=False))
    changes = {} if known.fixed is None else changes_between(known.fixed, values)
    if known.fixed is not None and not changes:
        return known
    if changes:
        if reason is None:
            key, (was, now) = next(iter(changes.items()))
            raise EnvironmentFault(
                f"{FIXED} of run {record.run_id}: {key}: received {now!r} from the runs, fixed {was!r}. "
                'Allowed: the runs of the pilot and the screen unchanged, or --deviation "REASON"'
            )
        named = {f"{FIXED}: {key}": change for key, change in changes.items()}
        known = _deviate(record, known, reason, named, known.design)
    record.keep({FIXED: json.dumps({"fixed": _now(), "values": values}, indent=1).encode()})
    record.summarize({}, tags={FIXED_HASH: sha256(values)})
    return replace(known, fixed=values)


def read(record: Record) -> Preregistration | None:
    """Read the preregistration of a record; None before the registration.

    Raises:
        EnvironmentFault: the stored file differs from what MLflow recorded at its creation.
        InputError: the claim was registered by a version of invact that paired the seeds of the arms.
    """
    tags = record.tags
    stored = _stored(record, FILE, tags.get(HASH), design=dict)
    if stored is None:
        return None
    design = stored["design"]
    if design.get("schema") != SCHEMA:
        raise InputError(
            f"{FILE} of run {record.run_id}: received {design.get('schema')!r}, with pairs of seeds. "
            f"Allowed: {SCHEMA!r}. --report prints the report; a new file name starts a new claim"
        )
    object_of(record.run_id, f"file {FILE!r}", json.dumps(stored), registered=str, sha256=str, pilots=list)
    if not stored["sha256"] == sha256(design) == tags.get(HASH):
        parts = {key.removeprefix(PART): value for key, value in tags.items() if key.startswith(PART)}
        raise EnvironmentFault(
            f"{FILE} of run {record.run_id} was changed after it was registered: {_difference(parts, design)}"
        )
    fixed = _stored(record, FIXED, tags.get(FIXED_HASH), values=dict)
    listed = _stored(record, DEVIATIONS, tags.get(DEVIATIONS_HASH))
    for name, values, tag in (
        (FIXED, None if fixed is None else fixed["values"], FIXED_HASH),
        (DEVIATIONS, listed, DEVIATIONS_HASH),
    ):
        if values is not None and sha256(values) != tags.get(tag):
            raise EnvironmentFault(
                f"{name} of run {record.run_id} was changed: its hash does not match the tag {tag}"
            )
    return Preregistration(
        stored["registered"],
        stored["sha256"],
        design,
        tuple(Pilot(*one) for one in stored["pilots"]),
        None if fixed is None else fixed["values"],
        tuple(
            Deviation(
                one["made"],
                one["reason"],
                {key: (was, now) for key, (was, now) in one["changes"].items()},
                one["design"],
            )
            for one in listed or []
        ),
    )


def _stored(record: Record, name: str, tag: str | None, /, **kinds: type) -> Any:
    """Read a file of the record; None if there is none and no tag says that there was one."""
    try:
        content = record.read(name)
        found = json.loads(content)
    except InputError:
        if tag is None:
            return None
        raise EnvironmentFault(
            f"{name} of run {record.run_id} is missing: a tag holds its hash, {tag[:12]}"
        ) from None
    except ValueError as error:
        raise EnvironmentFault(f"{name} of run {record.run_id} is not JSON: {one_line(error)}") from None
    if kinds or found is None:
        object_of(record.run_id, f"file {name!r}", content, **kinds)
    return found


def _difference(parts: Mapping[str, str], design: Mapping[str, Any]) -> str:
    """Describe the first difference between the tags of the registration and the stored design."""
    for key in sorted({*parts, *design}):
        if parts.get(key) == _part(design.get(key)):
            continue
        try:
            was = json.loads(parts[key])
        except (KeyError, ValueError):
            return f"{key} differs from the hash that was recorded"
        changes = changes_between({key: was}, {key: design.get(key)})
        name, (before, after) = next(iter(changes.items()))
        return f"{name}: received {after!r}, registered {before!r}"
    return "its hash does not match the tag of the run"
