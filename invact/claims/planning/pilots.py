"""The earlier pilots of a claim: those in the store with the same data, arms and network."""
# Who repeats a pilot until its margin looks good must not be able to hide the other pilots.

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from invact.config import Config, digest
from invact.validation import validate

if TYPE_CHECKING:
    from invact.claims.file import Claim
    from invact.data.dataset import Dataset
    from invact.tracking.record import Record
    from invact.tracking.store import Store

__all__ = ["Pilot", "earlier_pilots"]

TAG = "invact.pilot"
NETWORK = {"model", "filters", "depth", "convolutions", "normalization", "dropout", "options"}
"""The keys of `config` that describe the network. The others describe its training."""


@dataclass(frozen=True)
class Pilot:
    """Another pilot in the store with the same data, arms and network, before that of this claim.

    Attributes:
        claim: name of its claim.
        run_id: its parent run in MLflow.
        started: time of its start, in UTC.
    """

    claim: str
    run_id: str
    started: str


def earlier_pilots(store: Store, record: Record, claim: Claim, data: Dataset) -> tuple[Pilot, ...]:
    """Tag the record of a pilot, and list the pilots before it with the same data, arms and network.

    The test images identify the data, so another split does not hide a pilot. Another recipe does not hide
    one either, such as another number of epochs. Runs that were deleted in MLflow are listed too, as long as
    `mlflow gc` has not removed them.

    Args:
        store: the store with the record.
        record: record of the claim on the data set.
        claim: the claim.
        data: the data set.
    """
    file = claim.file
    network = validate(Config, file.config, "config").model_dump(mode="json", include=NETWORK)
    images = hashlib.sha256(data.x_test.tobytes() + data.y_test.tobytes()).hexdigest()
    same = digest([images, file.control, file.treatment, network])
    record.summarize({}, tags={TAG: same})
    listed = store.tagged(TAG, same)
    (own,) = [started for _, run_id, started in listed if run_id == record.run_id]
    return tuple(
        Pilot(name, run_id, started.isoformat(timespec="seconds"))
        for name, run_id, started in listed
        if run_id != record.run_id and started <= own
    )
