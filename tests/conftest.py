"""Fixtures that several files share: one cluster, one data set, and the command in this process."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

import pytest
from filelock import FileLock
from hypothesis import settings

from invact.data.dataset import Dataset, load

if TYPE_CHECKING:
    from stand_in import StandIn


def pytest_configure() -> None:
    """Set what TensorFlow and Dask read when they are loaded."""
    os.environ |= {
        # One thread makes numbers reproducible, as in workers.
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
        # Dask observes its own processes, which takes five percent of a processor for each of them.
        "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false",
        "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "10s",
        "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
    }


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests that fork in one process of the test run: one server and one cluster are enough."""
    for item in items:
        if isinstance(item, pytest.Function) and (
            {"cluster", "quick_stopwatch"} & {*item.fixturenames} or hasattr(item.module, "warm")
        ):
            item.add_marker(pytest.mark.xdist_group("warm"))


def pytest_collection_finish() -> None:
    """Keep the imported modules out of garbage collection, which would look through them a thousand times."""
    gc.collect()
    gc.freeze()


# How long an example takes says more of the machine's other work than of the code.
settings.register_profile("invact", deadline=None)
settings.load_profile("invact")

collect_ignore = ["support"]
SPACE = """
[parameters]
activation = { choices = ["relu", "inverse"] }
filters = { low = 2, high = 5 }
"""
SWEEP = """
space = "space.toml"
data = "digits"
trials = 3
{more}
[config]
depth = 1
epochs = 1
batch_size = 64
{config}
"""


class Answer(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """Two workers that all tests share, as `--scheduler` would reach them; they can import `users`."""
    import warm
    from distributed import LocalCluster

    warm.context()
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        memory_limit=0,
        silence_logs=logging.CRITICAL,
    ) as local:
        yield local.scheduler_address


@pytest.fixture
def no_template(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps and claims start no template in advance, which most tests would stop before it is needed."""
    monkeypatch.setattr("invact.execution.workers.template.start_template", lambda resources: None)


@pytest.fixture
def pictures() -> None:
    """The test draws its pictures; see `quick_pictures`."""


@pytest.fixture
def quick_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are blank, because drawing them takes half of the time of a sweep that draws its results.

    The tests of `reports` draw them, and so do tests with the fixture `pictures`.
    """
    if "pictures" in request.fixturenames:
        return
    from matplotlib.figure import Figure

    from invact.reports import figures, front
    from invact.reports.figures import confirmation

    def blank(*arguments: object, **options: object) -> Figure:
        return Figure(figsize=(1, 1))

    drawn = {
        front: ("front_figure", "gap_figure"),
        confirmation: ("confirmation_figure",),
        figures: ("claim_figure", "qq_figure", "curve_figure"),
    }
    for module, names in drawn.items():
        for name in names:
            monkeypatch.setattr(module, name, blank)
    page = SimpleNamespace(to_html=lambda **options: "<html></html>")
    monkeypatch.setattr(front, "interactive_front", lambda shown: page)


@pytest.fixture
def stand_in(
    monkeypatch: pytest.MonkeyPatch, quick_stores: None, quick_pictures: None, no_template: None
) -> type[StandIn]:
    """Sweeps, confirmations and claims draw their results instead of training; `truth` may be replaced."""
    from stand_in import StandIn

    monkeypatch.setattr("invact.execution.workers.engine.Engine", StandIn)
    # Nothing uses the processor, so the share of its peak says nothing.
    monkeypatch.setattr("invact.execution.usage.sgemm_peak", lambda: 100.0)
    monkeypatch.setattr(StandIn, "truth", StandIn.truth)
    monkeypatch.setattr(StandIn, "slots", StandIn.slots)
    return StandIn


@pytest.fixture
def forbid_engines(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function after which every start of an engine is a failure."""
    from stand_in import StandIn

    from invact.execution.workers.engine import Engine

    def forbid() -> None:
        for engine in (Engine, StandIn):
            monkeypatch.setattr(engine, "__enter__", lambda self: pytest.fail("an engine was started"))

    return forbid


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a new store, which all processes share because MLflow takes seconds to make one."""
    from invact.tracking.backend.database import create

    own = tmp_path_factory.getbasetemp()
    database = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "empty" / "mlflow.db"
    database.parent.mkdir(exist_ok=True)
    with FileLock(database.with_suffix(".lock")):
        if not database.exists():
            create(database)
    return database


@pytest.fixture(scope="session")
def latest_schema() -> str:
    """The revision of the tables, for which MLflow loads all its migrations each time a store is opened."""
    from invact.tracking.backend.mlflow import latest_schema

    return latest_schema()


@pytest.fixture
def quick_stores(empty_store: Path, latest_schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """New stores are copies of the empty one. The tests of `tracking` make a real one."""
    monkeypatch.setattr("mlflow.store.db.utils._get_latest_schema_revision", lambda: latest_schema)
    monkeypatch.setattr(
        "invact.tracking.backend.database.create", functools.partial(shutil.copy, empty_store)
    )


@pytest.fixture
def quick_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopwatch forks its process from the server of `warm`."""
    import warm

    start = SimpleNamespace(get_context=lambda method: warm.context())
    monkeypatch.setattr("invact.deploy.stopwatch.multiprocessing", start)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(folder: Path) -> Callable[..., Path]:
    """Write `name.toml`: a sweep of a tiny space, with more keys and values of its configuration."""

    def write_sweep(name: str = "tiny", more: str = "", config: str = "", space: str = SPACE) -> Path:
        (folder / "space.toml").write_text(space)
        path = folder / f"{name}.toml"
        path.write_text(SWEEP.format(more=more, config=config))
        return path

    return write_sweep


@pytest.fixture
def invact(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    quick_stores: None,
    no_template: None,
) -> Iterator[Callable[..., Answer]]:
    """Run the command in this process."""
    from invact.cli.main import main

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["invact", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfd.readouterr()
        return Answer(end.value.code or 0, out, err)

    with contextlib.ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        monkeypatch.setattr(sys, "path", [*sys.path])
        yield run


@pytest.fixture
def write_claim(folder: Path) -> Callable[..., Path]:
    """Write `tiny_claim.toml`, a claim on tiny networks, with other keys, more tables and configuration."""
    keys = {"data": '"digits"', "ratios": "[0.5, 0.75]", "looks": "[2, 3]", "pilot": "3", "margin": "3"}
    network = {"filters": "8", "depth": "1", "epochs": "2", "batch_size": "64", "learning_rate": "1e-2"}

    def write(more: str = "", config: dict[str, str] | None = None, **changes: str | None) -> Path:
        def lines(values: dict[str, str | None]) -> str:
            return "\n".join(f"{key} = {value}" for key, value in values.items() if value is not None)

        path = folder / "tiny_claim.toml"
        path.write_text(f"{lines(keys | changes)}\n{more}\n[config]\n{lines(network | (config or {}))}\n")
        return path

    return write
