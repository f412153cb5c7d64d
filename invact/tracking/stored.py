"""Reading what a store holds: a value that is damaged is an error of one line that names the run."""

from __future__ import annotations

import io
import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.config import Config
from invact.errors import EnvironmentFault
from invact.training.results import Status
from invact.validation import validate

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "bits_of",
    "config_of",
    "counts_of",
    "damaged",
    "number_of",
    "object_of",
    "started",
    "status_of",
    "text_in",
    "whole_number",
]

WHOLE = 2**63

_WORDS = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a JSON object",
}


def damaged(run_id: str, what: str, received: object, allowed: str) -> EnvironmentFault:
    """Return the error for a stored value that invact did not write.

    Args:
        run_id: id of the run that has the value.
        what: the place of the value, such as a tag or a file.
        received: the value; None if there is none.
        allowed: what is allowed.

    Example:
        >>> print(damaged("81a0", "tag 'invact.seed'", "x", "a whole number"))
        run 81a0: tag 'invact.seed': received 'x'. Allowed: a whole number
    """
    shown = "nothing" if received is None else repr(received)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return EnvironmentFault(f"run {run_id}: {what}: received {shown}. Allowed: {allowed}")


def text_in(run: Any, tag: str) -> str:
    """Return a tag of an MLflow run.

    Raises:
        EnvironmentFault: the run does not have the tag, or its value is not text.
    """
    value = run.data.tags.get(tag)
    if not isinstance(value, str):
        raise damaged(run.info.run_id, f"tag {tag!r}", value, "text")
    return value


def whole_number(run: Any, tag: str) -> int:
    """Return a tag of an MLflow run that is a whole number.

    Raises:
        EnvironmentFault: the tag is missing, or is not a whole number from 0 to 2^63 - 1.
    """
    value = run.data.tags.get(tag)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        number = int(value)
        if number < WHOLE:
            return number
    raise damaged(run.info.run_id, f"tag {tag!r}", value, "a whole number")


def status_of(run: Any, tag: str) -> Status:
    """Return the status in a tag of an MLflow run.

    Raises:
        EnvironmentFault: the tag is missing, or is no status.
    """
    value = run.data.tags.get(tag)
    try:
        return Status(value)
    except ValueError:
        raise damaged(run.info.run_id, f"tag {tag!r}", value, ", ".join(Status)) from None


def number_of(run: Any, metric: str, *, whole: bool) -> float:
    """Return a metric of an MLflow run; NaN if the run does not have it.

    Args:
        run: the MLflow run.
        metric: the name of the metric.
        whole: whether the metric must be a whole number or NaN.

    Raises:
        EnvironmentFault: the metric is no number, or no whole number.
    """
    value = run.data.metrics.get(metric, math.nan)
    if not isinstance(value, int | float):
        raise damaged(run.info.run_id, f"metric {metric!r}", value, "a number")
    if whole and not math.isnan(value) and not (float(value).is_integer() and 0 <= value < WHOLE):
        raise damaged(run.info.run_id, f"metric {metric!r}", value, "a whole number")
    return value


def object_of(run_id: str, what: str, content: object, /, **kinds: type) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        run_id: id of the run that has the text.
        what: the place of the text, such as a tag or a file.
        content: the text, as text or in UTF-8.
        kinds: keys that the object must have, with the types of their values, from `str` to `dict`.

    Raises:
        EnvironmentFault: the text is not a JSON object, or one of the keys is missing or has another type.

    Example:
        >>> object_of("81a0", "file 'a.json'", b'{"seeds": [0, 1]}', seeds=list)
        {'seeds': [0, 1]}
    """
    try:
        found = json.loads(content) if isinstance(content, str | bytes) else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise damaged(run_id, what, content, "a JSON object")
    for key, kind in kinds.items():
        if not isinstance(found.get(key), kind):
            raise damaged(run_id, f"{what}: {key}", found.get(key), _WORDS[kind])
    return found


def counts_of(run_id: str, what: str, content: object) -> dict[Status, int]:
    """Read the number of runs with each status.

    Raises:
        EnvironmentFault: the text is not a JSON object of statuses and whole numbers.
    """
    found = object_of(run_id, what, content)
    if all(name in Status.__members__ and type(number) is int for name, number in found.items()):
        return {Status(name): number for name, number in found.items()}
    raise damaged(run_id, what, content, f"the number of runs for each of {', '.join(Status)}")


def config_of(run_id: str, content: object) -> Config:
    """Read a configuration from its JSON.

    Raises:
        InputError: it is no configuration, or names an activation that is not registered.
        EnvironmentFault: the text is not a JSON object.
    """
    return validate(Config, object_of(run_id, "configuration", content), f"run {run_id}: configuration")


def bits_of(run_id: str, what: str, content: bytes) -> NDArray[np.uint8]:
    """Read the bytes of an array of bits, with eight bits in each.

    Raises:
        EnvironmentFault: the content is not an array of this kind in NumPy's format.
    """
    allowed = "an array of bytes in NumPy's format .npy"
    try:
        found = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception:  # NumPy raises many types of exceptions on a damaged file.
        raise damaged(run_id, what, content[:20], allowed) from None
    if not isinstance(found, np.ndarray) or found.dtype != np.uint8 or found.ndim != 1:
        raise damaged(run_id, what, content[:20], allowed)
    return found


def started(run: Any) -> datetime:
    """Return the time at which an MLflow run was begun.

    Raises:
        EnvironmentFault: the run has no start, or one in no year that exists.
    """
    try:
        return datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise damaged(run.info.run_id, "start time", run.info.start_time, "milliseconds since 1970") from None
