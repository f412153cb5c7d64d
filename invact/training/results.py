"""What one training returns: values that travel between processes, and one row of the table of runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from invact.config import Config
    from invact.cost.count import Cost

__all__ = ["Epoch", "Scores", "Status", "TrialResult"]


class Status(StrEnum):
    """How a trial ended."""

    FINISHED = "FINISHED"
    OVER_BUDGET = "OVER_BUDGET"
    """Decided from the built model, before any training."""
    DIVERGED = "DIVERGED"
    """A loss was not finite; what was measured until then is kept."""
    FAILED = "FAILED"
    """An error; not a result, and tried again when the sweep is continued."""


@dataclass(frozen=True)
class Scores:
    """Accuracy, a fraction in [0, 1], and mean cross-entropy in nats, on one split."""

    accuracy: float
    loss: float


@dataclass(frozen=True)
class Epoch:
    """What one epoch measured.

    Attributes:
        number: from 1.
        train: running means over the epoch's augmented batches, as the weights changed.
        validation: measured at the epoch's end.
        seconds: the epoch's training, without validation.
    """

    number: int
    train: Scores
    validation: Scores
    seconds: float


@dataclass(frozen=True)
class TrialResult:
    """One training of one configuration with one seed.

    Attributes:
        config: what was trained.
        seed: the training seed, part of the run's identity.
        status: how it ended.
        cost: MACs, parameters and filters of the built model; None if it could not be built.
        epochs: one entry for each completed epoch.
        train: the last epoch's running means.
        validation: the final weights on the validation split. Selection reads this.
        test: the final weights on the test set. Verdicts read this, selection never does.
        seconds: wall time of the training loop.
        images_per_second: training images over `seconds`.
        correct: one bit for each test image, in order, first image in the highest bit (`numpy.packbits`).
        model: the trained network as the bytes of a `.keras` archive, where asked for.
        error: one line, for FAILED and DIVERGED.
    """

    config: Config
    seed: int
    status: Status
    cost: Cost | None = None
    epochs: tuple[Epoch, ...] = ()
    train: Scores | None = None
    validation: Scores | None = None
    test: Scores | None = None
    seconds: float = 0.0
    images_per_second: float = 0.0
    correct: bytes = field(default=b"", repr=False)
    model: bytes = field(default=b"", repr=False)
    error: str = ""

    def test_correct(self, count: int) -> NDArray[np.bool_]:
        """Unpack `correct` for a test set of `count` images; shape (count,).

        Example:
            >>> from invact.config import Config
            >>> bits = np.packbits([True, False, True]).tobytes()
            >>> TrialResult(Config(), 0, Status.FINISHED, correct=bits).test_correct(3)
            array([ True, False,  True])
        """
        return np.unpackbits(np.frombuffer(self.correct, np.uint8), count=count).astype(bool)
