"""The result types of one training, which processes exchange and which become a row of the table of runs."""

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
    """How a run or a trial ended."""

    FINISHED = "FINISHED"
    OVER_BUDGET = "OVER_BUDGET"
    """The built model is over a budget; it was not trained."""
    DIVERGED = "DIVERGED"
    """A loss was not finite; the values measured before are kept."""
    PRUNED = "PRUNED"
    """The pruner of the sweep stopped the run, or did not start it. This is a result without test scores."""
    FAILED = "FAILED"
    """An error occurred. This is not a result; the run is tried again when the sweep continues."""


@dataclass(frozen=True)
class Scores:
    """Scores on one split: accuracy, a fraction in [0, 1], and loss, the mean cross-entropy in nats."""

    accuracy: float
    loss: float


@dataclass(frozen=True)
class Epoch:
    """The measurements of one epoch.

    Attributes:
        number: number of the epoch, from 1.
        train: means over the augmented batches of the epoch, measured while the weights change.
        validation: scores on the validation split at the end of the epoch.
        seconds: training time of the epoch, without validation.
    """

    number: int
    train: Scores
    validation: Scores
    seconds: float


@dataclass(frozen=True)
class TrialResult:
    """The result of one run: one configuration trained with one seed.

    Attributes:
        config: the configuration that was trained.
        seed: the training seed, part of the identity of the run.
        status: how the run ended.
        cost: MACs, parameters and filters of the built model; None if it could not be built.
        epochs: one entry for each completed epoch.
        train: scores of the last epoch on its training batches, see `Epoch.train`.
        validation: scores of the final weights on the validation split. Selection reads these.
        test: scores of the final weights on the test set. Verdicts read these; selection never does.
        seconds: wall time of the training loop, without validation.
        images_per_second: number of training images divided by `seconds`.
        correct: one bit for each test image, 1 if it was classified correctly; the first image is the highest
            bit of the first byte (`numpy.packbits`).
        validation_correct: the same for the validation images.
        model: the trained network as the bytes of a `.keras` archive; empty if it was not requested.
        error: one line that describes the error, for FAILED and DIVERGED.
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
    validation_correct: bytes = field(default=b"", repr=False)
    model: bytes = field(default=b"", repr=False)
    error: str = ""

    def __repr__(self) -> str:
        """Give the status, the seed, the validation accuracy and the MACs.

        Example:
            >>> from invact.config import Config
            >>> TrialResult(Config(), 3, Status.FINISHED, validation=Scores(0.9712, 0.1))
            TrialResult(FINISHED, seed 3, validation 97.12%)
        """
        told = [str(self.status), f"seed {self.seed}"]
        told += [] if self.validation is None else [f"validation {self.validation.accuracy:.2%}"]
        told += [] if self.cost is None else [f"{self.cost.macs:,} MACs"]
        return f"TrialResult({', '.join([*told, *filter(None, [self.error])])})"

    def test_correct(self, count: int) -> NDArray[np.bool_]:
        """Unpack `correct` for a test set of `count` images; shape (count,).

        Example:
            >>> from invact.config import Config
            >>> bits = np.packbits([True, False, True]).tobytes()
            >>> TrialResult(Config(), 0, Status.FINISHED, correct=bits).test_correct(3)
            array([ True, False,  True])
        """
        return np.unpackbits(np.frombuffer(self.correct, np.uint8), count=count).astype(bool)
