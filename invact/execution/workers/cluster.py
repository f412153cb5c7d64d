"""Dask clusters: starting one on this machine that only this session can use, or reaching a running one."""

from __future__ import annotations

import contextlib
import gc
import logging
import socket
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from invact.errors import EnvironmentFault, InputError, one_line
from invact.execution.workers.template import METHOD, start_template
from invact.process.spawning import GUARD, check_script, imports_script
from invact.process.streams import tell

__all__ = ["address", "connect", "send"]

SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        # The HTTP servers of the scheduler and the workers know no certificates, so they serve nothing.
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
        # A worker that replaces another one is started in the same way.
        "distributed.worker.multiprocessing-method": METHOD,
        # Dask would look at every worker a hundred times a second, and nobody reads what it finds.
        "distributed.worker.profile.enabled": False,
        "distributed.admin.tick.interval": "1s",
        "distributed.admin.system-monitor.interval": "10s",
    }
)
"""Settings of Dask while a cluster of this machine runs."""

FOLDER = """
import tempfile
def dask_setup(worker):
    tempfile.tempdir = worker.local_directory
"""
"""Dask runs this in each worker, whose temporary files are then removed with it.

TensorFlow writes a file for each function that it translates, and removes it when the interpreter ends. A
forked process ends without this.
"""

START_SECONDS = 60
"""Longest time to wait for the first worker of a cluster."""

ANSWER_SECONDS = 5
"""Longest time to wait for the first bytes of a scheduler."""

CONNECT_SECONDS = 10
"""Longest time to wait for a running scheduler."""


def connect(
    resources: contextlib.ExitStack, scheduler: str | None, workers: int, processors: Collection[int]
) -> Any:
    """Return a Dask client of a running cluster, or of one that is started on this machine.

    Args:
        resources: closes the client, and the cluster that was started.
        scheduler: address of a running cluster; None starts one.
        workers: number of processes to start.
        processors: processors that these processes may use.

    Raises:
        InputError: `scheduler` is not an address.
        EnvironmentFault: the cluster cannot be started or reached, or has no workers.
    """
    from distributed import Client

    if scheduler is None:
        address, security = _start(resources, workers, processors)
    else:
        _reach(scheduler)
        # With None, the client reads its certificates from Dask's configuration.
        address, security = scheduler, None
    seconds = START_SECONDS if scheduler is None else CONNECT_SECONDS
    fault = ""
    try:
        client = Client(address, timeout=seconds, set_as_default=False, security=security)
    # Missing certificates are a TypeError, and wrong ones are an OSError.
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        fault = f"scheduler {address!r}: cannot connect ({one_line(error)})"
    if fault:
        # A client that failed closes when it is collected. During the start of another client, it would wait
        # for that client, and that client for it. The error is raised here, because it would keep the client.
        gc.collect()
        raise EnvironmentFault(fault)
    resources.enter_context(client)
    if scheduler is not None and not address.startswith("tls://"):
        tell(
            f"invact: warning: scheduler {address!r} has no certificates, so anybody who can reach it "
            "can run code in its workers and in this process. Use a tls:// address"
        )
    try:
        client.wait_for_workers(1, timeout=START_SECONDS)
    except TimeoutError:
        raise EnvironmentFault(f"scheduler {address!r}: no worker within {START_SECONDS} s") from None
    return client


def address() -> str:
    """Return the address of the worker that calls this function."""
    from distributed import get_worker

    return str(get_worker().address)


def send(topic: str, message: Any) -> None:
    """Send a message from a worker to the clients that have subscribed to the topic."""
    from distributed import get_worker

    get_worker().log_event(topic, message)


def _start(resources: contextlib.ExitStack, workers: int, processors: Collection[int]) -> tuple[str, Any]:
    """Start a cluster that accepts only the certificates of this session; return its address and these."""
    import dask
    from distributed import LocalCluster, Security

    check_script()
    start_template(resources)
    resources.enter_context(dask.config.set(SETTINGS))
    try:
        security = Security.temporary()
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            security=security,
            # Any free port, because Dask prints a warning if its default port is taken.
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            memory_limit=0,
            silence_logs=logging.CRITICAL,
            # Ctrl-C reaches every process of the terminal, but only the coordinator must handle it.
            preload=[
                "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
                f"from invact.process.processors import pin; pin({set(processors)})",
                FOLDER,
            ],
            env={"TF_CPP_MIN_LOG_LEVEL": "3"},
        )
    except Exception as error:
        hint = f". A script starts workers under `{GUARD}`" if imports_script() else ""
        raise EnvironmentFault(f"workers: cannot start ({one_line(_root(error))}){hint}") from None
    return resources.enter_context(cluster).scheduler_address, security


def _root(error: BaseException) -> BaseException:
    """The first error in a chain of errors. Dask wraps the error of a worker more than once."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def _reach(address: str) -> None:
    # distributed tries to connect for a long time, and prints tracebacks when it is stopped.
    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.scheme not in ("tcp", "tls"):
        raise InputError(f"scheduler: received {address!r}. Allowed: tls://HOST:PORT or tcp://HOST:PORT")
    try:
        with socket.create_connection((host, port), timeout=ANSWER_SECONDS) as connection:
            # A scheduler sends data first. distributed would wait for ever for a server that does not.
            if parts.scheme == "tcp" and not connection.recv(1):
                raise OSError("not a Dask scheduler")
    except OSError as error:
        raise EnvironmentFault(f"scheduler {address!r}: cannot connect ({error.strerror or error})") from None
