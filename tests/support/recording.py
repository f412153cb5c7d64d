"""Results to record, and how to record one."""

import math

import numpy as np

from invact.config import Config
from invact.cost.count import Cost, LayerCost
from invact.tracking.record import Record
from invact.training.results import Epoch, Scores, Status, TrialResult

COST = Cost(
    (
        LayerCost("conv", "Conv2D", (None, 8, 8, 16), 9_007_199_254, 160, 16, 0),
        LayerCost("dense", "Dense", (None, 10), 10_240, 10_250, 10, 0),
    )
)


BITS = np.random.default_rng(0).random(1_803) < 0.9
SEEN = np.random.default_rng(1).random(301) < 0.9


def a_result(
    config: Config, seed: int = 0, status: Status = Status.FINISHED, **values: object
) -> TrialResult:
    given = {
        "cost": COST,
        "train": Scores(0.1 + seed, 0.3),
        "validation": Scores(0.7, 1 / 3),
        "test": Scores(0.6, math.pi),
        "seconds": 1.25,
        "images_per_second": 1e4 / 3,
        "correct": np.packbits(BITS).tobytes(),
        "validation_correct": np.packbits(SEEN).tobytes(),
    }
    return TrialResult(config, seed, status, **(given | values))


def an_epoch(number: int) -> Epoch:
    return Epoch(number, Scores(number / 10, 2.0 - number / 10), Scores(number / 20, 2.0), 0.5)


def write(
    record: Record, trial: int, config: Config, seed: int = 0, seeds: int = 1, **values: object
) -> tuple[str, TrialResult]:
    run_id = record.start(trial, config, seed, seeds, f"arm {trial}", {"filters": config.filters})
    result = a_result(config, seed, **values)
    record.finish(run_id, result)
    return run_id, result
