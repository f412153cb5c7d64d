"""The `Lease`: a tag in a record that names the one process which may write the record.

A file lock binds the processes of one machine that spell the address of a store alike. The lease is a part of
the record, so it also binds processes on other machines, and those that reach one server by two names.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from invact.errors import EnvironmentFault, InvactError

if TYPE_CHECKING:
    from invact.tracking.backend.mlflow import MlflowRuns

__all__ = ["SECONDS", "Holder", "Lease", "may_take"]

TAG = "invact.lease"

SECONDS = 60.0
"""How long a lease lasts if it is not renewed. It is renewed four times as often."""

SETTLE = 0.3
"""Seconds between writing a lease to a server and reading it again. If two processes write at once, the later
one wins. A store in a folder needs no such time, because the lock of its file lets in one process only."""


@dataclass(frozen=True)
class Holder:
    """The process that may write a record.

    Attributes:
        token: identifies this lease among all leases.
        pid: the process.
        host: name of its machine.
        began: start of the process in seconds since 1970; it tells two processes with one number apart.
        expires: end of the lease in seconds since 1970, by the clock of the holder.
    """

    token: str
    pid: int
    host: str
    began: float
    expires: float

    def __str__(self) -> str:
        return f"{self.pid} on {self.host}"


def may_take(tag: str, host: str, now: float) -> Holder | None:
    """Return the holder that forbids taking a lease, or None if it may be taken.

    A lease is free if it has expired, if the text is not one, or if its process has ended on this machine.

    Args:
        tag: the text of the tag; empty if there is none.
        host: name of this machine.
        now: seconds since 1970.

    Example:
        >>> holder = Holder("t", 1, "elsewhere", 0.0, expires=100.0)
        >>> may_take(json.dumps(asdict(holder)), "here", now=99.0) == holder
        True
        >>> may_take(json.dumps(asdict(holder)), "here", now=101.0) is None
        True
    """
    try:
        holder = Holder(**json.loads(tag))
        if holder.expires <= now:
            return None
        return None if holder.host == host and not _alive(holder) else holder
    except (TypeError, ValueError):
        return None


def _alive(holder: Holder) -> bool:
    try:
        return bool(abs(psutil.Process(holder.pid).create_time() - holder.began) < 1)
    except psutil.Error:
        return False


class Lease:
    """The right to write one record, which a thread renews until `release`.

    Args:
        runs: the store.
        run_id: id of the parent run of the record.
        what: the record, for messages.

    Raises:
        EnvironmentFault: another process holds the lease.
    """

    def __init__(self, runs: MlflowRuns, run_id: str, what: str) -> None:
        self._runs = runs
        self._run_id = run_id
        self._what = what
        self._token = uuid.uuid4().hex
        self._ended = threading.Event()
        self._refuse_if(may_take(self._tag(), socket.gethostname(), time.time()))
        self._write()
        if not runs.uri.startswith("sqlite:"):
            # Another process may have read the free lease at the same moment.
            time.sleep(SETTLE)
            self.check()
        self._thread = threading.Thread(target=self._renew, name="invact-lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Check that this process still holds the lease. The record calls it before each write.

        Raises:
            EnvironmentFault: another process has taken the lease, because this one did not renew it in time.
        """
        tag = self._tag()
        with contextlib.suppress(TypeError, ValueError):
            holder = Holder(**json.loads(tag))
            if holder.token == self._token:
                return
            raise EnvironmentFault(
                f"{self._what} was taken over by process {holder}, so this process stops; "
                "finished runs are kept"
            )
        raise EnvironmentFault(f"{self._what}: the tag {TAG!r} was changed, so this process stops")

    def release(self) -> None:
        """End the lease; after this another process may take it at once."""
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(InvactError):
            self.check()
            self._runs.log(self._run_id, tags={TAG: ""})

    def _tag(self) -> str:
        return self._runs.tags(self._run_id).get(TAG, "")

    def _write(self) -> None:
        process = psutil.Process()
        holder = Holder(
            *(self._token, os.getpid(), socket.gethostname(), process.create_time(), time.time() + SECONDS)
        )
        self._runs.log(self._run_id, tags={TAG: json.dumps(asdict(holder))})

    def _renew(self) -> None:
        while not self._ended.wait(SECONDS / 4):
            # A store that cannot be reached now may be reached at the next turn.
            with contextlib.suppress(InvactError):
                self.check()
                self._write()

    def _refuse_if(self, holder: Holder | None) -> None:
        if holder is not None:
            until = time.strftime("%H:%M:%S", time.localtime(holder.expires))
            raise EnvironmentFault(
                f"{self._what} is being run by process {holder}. If that process has ended, try again after "
                f"{until}"
            )
