"""Fixtures that the files of this folder share."""

import shutil
from pathlib import Path

import pytest

from invact.execution.engine import Engine
from invact.sweeps.file import load_sweep
from invact.sweeps.run import SweepResult, run_sweep


@pytest.fixture
def run(cluster, empty_store):
    def run(path: Path, **changes: object) -> SweepResult:
        if not Path("mlruns").exists():
            Path("mlruns").mkdir()
            shutil.copy(empty_store, "mlruns")
        changes = {key.replace("__", "."): value for key, value in changes.items()}
        return run_sweep(load_sweep(path, changes), scheduler=cluster, show=False)

    return run


@pytest.fixture
def trained(monkeypatch) -> list[tuple[str, int]]:
    """The digest and the seed of each job that the engine receives."""
    jobs, submit = [], Engine.submit
    monkeypatch.setattr(
        Engine,
        "submit",
        lambda engine, job: (jobs.append((job.config.digest(), job.seed)), submit(engine, job)),
    )
    return jobs
