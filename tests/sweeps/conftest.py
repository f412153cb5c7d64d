"""Fixtures that the files of this folder share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from invact.execution.workers.engine import Job
from invact.sweeps.file import load_sweep
from invact.sweeps.run import SweepResult, run_sweep


@pytest.fixture
def run(stand_in) -> Callable[..., SweepResult]:
    """Run a sweep whose results are drawn; see `stand_in`."""
    return lambda path, **changes: run_in(path, changes)


@pytest.fixture
def run_trained(quick_stores, quick_pictures, cluster) -> Callable[..., SweepResult]:
    """Run a sweep whose workers train."""
    return lambda path, **changes: run_in(path, changes, scheduler=cluster)


def run_in(path: Path, changes: dict[str, object], **options: object) -> SweepResult:
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    return run_sweep(load_sweep(path, changes), show=False, **options)


@pytest.fixture
def trained(monkeypatch) -> list[tuple[str, int]]:
    """The digest and the seed of each job that an engine receives."""
    from stand_in import StandIn

    from invact.execution.workers.engine import Engine

    jobs: list[tuple[str, int]] = []

    def noting(submit: Callable[..., None]) -> Callable[..., None]:
        def noted(engine: object, job: Job, worker: str) -> None:
            jobs.append((job.config.digest(), job.seed))
            submit(engine, job, worker)

        return noted

    # With `stand_in`, both are the same class.
    for engine in {Engine, StandIn}:
        monkeypatch.setattr(engine, "submit", noting(engine.submit))
    return jobs
