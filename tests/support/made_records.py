"""Records of sweeps and claims whose results are known, without a training."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recording import a_result

from invact.config import Config, digest
from invact.data.dataset import Dataset
from invact.tracking.store import open_store
from invact.training.results import Scores, Status

SWEEP = {"data": "digits", "trials": 3, "seeds": [0, 1, 2]}
CLAIM = {"data": ["digits"], "ratios": [0.5], "pilot": 3, "screen": 2}
PILOT = {"values": {"margin": 0.02, "looks": [2, 3]}}

Made = tuple[int, Config, int, Mapping[str, Any]]
"""Trial, configuration and seed of a run, and what it came to: see `scored` and `ended`."""


def scored(validation: float, test: float = 0.9, loss: float = 0.25) -> dict[str, Any]:
    """What a run came to that finished with these scores."""
    return {"validation": Scores(validation, loss), "test": Scores(test, loss)}


def ended(status: Status) -> dict[str, Any]:
    """What a run came to that has no scores."""
    return {"status": status, "validation": None, "test": None, "error": "why"}


def make_sweep(
    folder: Path, data: Dataset | None, runs: Iterable[Made], status: str = "FINISHED", **settings: Any
) -> str:
    """Record the sweep `mine` over activations, and return the id of its parent run."""
    files = {"settings.json": json.dumps(SWEEP | settings)}
    record = open_store(folder).record("mine", "sweep", "1", files, driver="optuna", data=data)
    for trial, config, seed, values in runs:
        label = f"{config.activation}, filters {config.filters}"
        run_id = record.start(trial, config, seed, 3, label, {"activation": config.activation})
        record.finish(run_id, a_result(config, seed, **values))
    record.close(status)
    return record.run_id


def make_claim(
    folder: Path,
    runs: Iterable[tuple[str, str, float, Config, int, Mapping[str, Any]]],
    files: Mapping[str, Any],
    scratch: Path,
    **settings: Any,
) -> str:
    """Record the claim `tested`, from step, role, ratio, configuration, seed and result of each run."""
    kept = {"settings.json": json.dumps(CLAIM | settings)}
    trials: dict[object, int] = {}
    with open_store(folder).record("tested", "claim", digest({"data": "digits"}), kept) as record:
        for step, role, ratio, config, seed, values in runs:
            trial = trials.setdefault((step, role, ratio), len(trials))
            key = role if role == "control" else f"{role} {ratio:g}"
            varied = {"step": step, "key": key, "role": role, "ratio": ratio}
            run_id = record.start(trial, config, seed, 1, f"{step}: {key}: {config.activation}", varied)
            record.finish(run_id, a_result(config, seed, **values))
        if "pilot.json" in files:
            record.keep({"pilot.json": json.dumps(files["pilot.json"]).encode()})
        if "claim.json" in files:
            scratch.mkdir(exist_ok=True)
            (scratch / "claim.json").write_text(json.dumps(files["claim.json"]))
            record.log_folder(scratch, "verdict")
    return record.run_id


def a_test(
    estimate: float, low: float | None, high: float | None, n: int = 3, margin: float = 0.0
) -> dict[str, Any]:
    """The outcome of a comparison, as `claim.json` has it."""
    interval = None if low is None else [low, high]
    return {"estimate": None if low is None else estimate, "interval": interval, "n": n, "margin": margin}


def a_verdict(**changes: Any) -> dict[str, Any]:
    """A `claim.json` with one ratio and a curve; keyword arguments replace values of the data set."""
    rung = {
        "ratio": 0.5,
        "non_inferiority": a_test(-0.001, -0.004, 0.002, margin=0.02),
        "placebo": a_test(0.03, 0.01, 0.05),
        "matched": None,
    }
    found = {
        "verdict": "INCONCLUSIVE",
        "filters_verdict": "SUPPORTED",
        "ratios": [{"rung": rung, "also": {"abs": a_test(0.004, -0.001, 0.009), "elu": None}}],
        "curve": {
            "filters": {"estimate": 0.676, "low": 0.557, "high": None},
            "macs": {"estimate": None, "low": None, "high": None},
        },
    }
    return {"schema": "invact.claim/3", "data_sets": [found | changes]}
