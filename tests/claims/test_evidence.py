import numpy as np
import pandas as pd

from invact.claims.evidence import Results
from invact.claims.file import load_claim


def test_runs_are_read_in_the_order_of_the_seeds_up_to_the_first_gap(write_claim, digits) -> None:
    cell = load_claim(write_claim()).cells()["control"]
    row = {"param.step": "confirmation", "param.key": "control", "config": cell.config.digest()}
    rows = [
        row | {"seed": 2, "status": "FINISHED", "validation_accuracy": 0.9, "test_accuracy": 0.88},
        row | {"seed": 1, "status": "DIVERGED", "validation_accuracy": np.nan, "test_accuracy": 0.3},
        row | {"seed": 0, "status": "FINISHED", "validation_accuracy": 0.95, "test_accuracy": 0.93},
        row | {"seed": 3, "status": "FINISHED", "validation_accuracy": 0.15, "test_accuracy": 0.2},
        row | {"seed": 5, "status": "FINISHED", "validation_accuracy": 0.9, "test_accuracy": 0.91},
        row | {"seed": 4, "status": "FAILED", "validation_accuracy": np.nan, "test_accuracy": np.nan},
        row | {"seed": 0, "param.step": "pilot", "status": "FINISHED", "test_accuracy": 0.5},
        row | {"seed": 0, "config": "other", "status": "FINISHED", "test_accuracy": 0.5},
    ]
    results = Results(pd.DataFrame(rows), digits)
    runs = results.runs("confirmation", cell, range(6))
    # Seed 4 has no result yet, so seed 5 is not used.
    assert runs.test.tolist() == [0.93, 0.3, 0.88, 0.2]
    assert np.isnan(runs.validation[1])
    assert np.delete(runs.validation, 1).tolist() == [0.95, 0.9, 0.15]
    assert len(results.runs("screen", cell, range(6))) == 0
