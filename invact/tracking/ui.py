"""The user interface: it starts the MLflow server on a store, reachable from this machine only."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from invact.errors import EnvironmentFault, InputError

__all__ = ["HOST", "PORT", "Server", "serve"]

HOST = "127.0.0.1"
PORT = 5000
"""The port of the server, unless a user gives another one."""


@dataclass(frozen=True)
class Server:
    """A running MLflow server.

    Attributes:
        url: the address of the server.
        process: the process of the server; when it is terminated it ends its own workers.
    """

    url: str
    process: subprocess.Popen[bytes]

    def wait(self) -> int:
        """Wait until the server ends and return its exit code."""
        return self.process.wait()

    def stop(self) -> None:
        """Stop the server."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve(uri: str, artifacts: Path | None, port: int = PORT, timeout: float = 60.0) -> Server:
    """Start the MLflow server and return when it answers.

    The server listens on 127.0.0.1 only, because it has no password. It runs no jobs and sends no telemetry.

    Args:
        uri: the address of the store's database.
        artifacts: folder for the files of experiments that are created through the server.
        port: port to listen on; 0 uses any free port.
        timeout: seconds to wait for the first answer.

    Raises:
        InputError: `port` is not between 0 and 65535.
        EnvironmentFault: the port is taken, or the server ended or did not answer.
    """
    port = _free(port)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--no-serve-artifacts"]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    if artifacts is not None:
        command += ["--default-artifact-root", artifacts.as_uri()]
    environment = os.environ | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONWARNINGS": "ignore",
    }
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        server = Server(f"http://{HOST}:{port}", process)
        try:
            _await(server, timeout)
        except BaseException as error:
            server.stop()
            if not isinstance(error, TimeoutError):
                raise
            log.seek(0)
            last = log.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise EnvironmentFault(f"MLflow's server {error}: {last[:300]}") from None
    return server


def _free(port: int) -> int:
    if not 0 <= port <= 65535:
        raise InputError(f"port: received {port}. Allowed: 0 (any free port) to 65535")
    with socket.socket() as probe:
        # The server sets this option too: a port whose last connection is still closing is then free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise EnvironmentFault(f"port {port}: {error.strerror}. Use port 0 for any free port") from None
        return int(probe.getsockname()[1])


def _await(server: Server, timeout: float) -> None:
    # No proxy, because the server is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise TimeoutError(f"ended with exit code {server.process.returncode}")
        with contextlib.suppress(OSError), opener.open(f"{server.url}/health", timeout=5):
            return
        time.sleep(0.1)
    raise TimeoutError(f"did not answer in {timeout:.0f} s")
