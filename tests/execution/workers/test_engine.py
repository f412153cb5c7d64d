import contextlib
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dask
import psutil
import pytest
import warm
from distributed import Security
from helpers import free, numbers

from invact.config import Config
from invact.data.dataset import Dataset, Source
from invact.errors import EnvironmentFault, InputError
from invact.execution.workers.engine import Engine, EpochDone, Job, JobDone
from invact.tracking.provenance import numerics
from invact.training.loop import train
from invact.training.results import Status

# Keras 3.15 converts TensorFlow variables with a method that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

DIGITS = Source("digits")
TINY = Config(filters=3, depth=1, epochs=2, batch_size=64)
HARD = Config(
    activation="inverse",
    filters=3,
    depth=2,
    epochs=3,
    augmentation="shift",
    dropout=0.2,
    normalization="batch",
)


def events(engine: Engine, count: int = 1, seconds: float = 120) -> list[EpochDone | JobDone]:
    """Wait for `count` jobs to end."""
    seen, deadline = [], time.monotonic() + seconds
    while sum(isinstance(event, JobDone) for event in seen) < count:
        assert time.monotonic() < deadline, seen
        if (event := engine.next_event(timeout=1)) is not None:
            seen.append(event)
    return seen


def ended(seen: list[EpochDone | JobDone]) -> dict[str, JobDone]:
    return {event.key: event for event in seen if isinstance(event, JobDone)}


@pytest.fixture(scope="module")
def engine(cluster: str, digits: Dataset) -> Iterator[Engine]:
    with Engine(DIGITS, digits, scheduler=cluster) as engine:
        yield engine


def test_workers_give_the_same_bits_as_this_process(engine: Engine, digits: Dataset) -> None:
    jobs = [Job("a", TINY, 0, keep_model=True), Job("b", HARD, 1), Job("c", TINY, 1)]
    first, second = (worker.address for worker in engine.workers())
    engine.submit(jobs[0], first)
    engine.submit(jobs[1], second)
    assert engine.pending == 2
    trains = [(worker.address, worker.trains) for worker in engine.workers()]
    assert trains == [(first, TINY.digest()), (second, HARD.digest())]
    done = ended(events(engine, 2))
    engine.submit(jobs[2], first)
    done |= ended(events(engine))
    assert engine.pending == 0
    # Each job was trained on the worker that was chosen for it.
    found = [(worker.address, worker.trains, worker.held) for worker in engine.workers()]
    assert found == [(first, "", (TINY.digest(),)), (second, "", (HARD.digest(),))]
    for job in jobs:
        here = train(job.config, job.seed, digits)
        assert numbers(done[job.key].result) == numbers(here)
        assert done[job.key].result.cost == here.cost
        assert done[job.key].result.model[:2] == (b"PK" if job.keep_model else b"")


def test_every_worker_is_free_before_the_first_job(engine: Engine) -> None:
    assert [worker.trains for worker in engine.workers()] == ["", ""]
    assert engine.next_event(timeout=0.01) is None


def test_an_error_in_a_users_model_is_a_failed_result_and_other_jobs_continue(
    engine: Engine, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    broken = Config(model="users:fails", depth=1, epochs=1, options={"flag": str(flag)})
    engine.submit(Job("broken", broken, 0), free(engine))
    engine.submit(Job("whole", TINY, 0), free(engine))
    done = ended(events(engine, 2))
    failed = done["broken"].result
    assert failed.status is Status.FAILED
    assert failed.error == "model 'users:fails': ValueError: the user's fault in two lines"
    assert (failed.config, failed.seed, failed.epochs) == (broken, 0, ())
    assert done["whole"].result.status is Status.FINISHED


def test_imports_register_a_users_arm_on_the_workers(cluster: str, digits: Dataset) -> None:
    import users  # noqa: F401 registers the arm in this process, for Config

    with Engine(DIGITS, digits, scheduler=cluster, imports=("users",)) as engine:
        engine.submit(
            Job("a", Config(activation="users_softplus", filters=2, depth=1, epochs=1), 0), free(engine)
        )
        assert ended(events(engine))["a"].result.status is Status.FINISHED
    with pytest.raises(EnvironmentFault, match=r"worker tcp.*no_such_module"):
        Engine(DIGITS, digits, scheduler=cluster, imports=("no_such_module",)).__enter__()


def test_a_worker_with_other_data_is_refused(cluster: str, digits: Dataset) -> None:
    with pytest.raises(EnvironmentFault) as fault:
        Engine(DIGITS, replace(digits, digest="0" * 12), scheduler=cluster).__enter__()
    line = str(fault.value)
    assert f"received digest {digits.digest} on this worker. Allowed: 000000000000, " in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "name", ["python", "tensorflow", "keras", "numpy", "TF_ENABLE_ONEDNN_OPTS", "NVIDIA_TF32_OVERRIDE"]
)
def test_a_worker_that_would_compute_other_digits_is_refused(
    cluster: str, digits: Dataset, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = numerics()
    monkeypatch.setattr("invact.execution.workers.engine.numerics", lambda: here | {name: "9.9"})
    with pytest.raises(EnvironmentFault) as fault:
        Engine(DIGITS, digits, scheduler=cluster).__enter__()
    line = str(fault.value)
    assert f": {name}: received {here.get(name, 'unset')}. Allowed: 9.9, as on the coordinator" in line
    assert line.startswith("worker tcp://")
    assert "\n" not in line


@pytest.mark.parametrize("workers", [0, -1, 10**12])
def test_an_invalid_number_of_workers_is_refused(digits: Dataset, workers: int) -> None:
    with pytest.raises(InputError, match=f"workers: received {workers}. Allowed: 1 to 1024"):
        Engine(DIGITS, digits, workers=workers)


def test_a_killed_worker_is_replaced_and_closing_does_not_wait(digits: Dataset) -> None:
    warm.context()
    config = Config(filters=3, depth=1, epochs=40, batch_size=32)
    with Engine(DIGITS, digits, workers=1) as engine:
        (victim,) = engine._client.run(os.getpid).values()
        engine.submit(Job("a", config, 0), free(engine))
        while not isinstance(event := engine.next_event(timeout=60), EpochDone):
            assert event is None
        assert event.epoch.number < 40, "epochs stream before the end"
        os.kill(victim, signal.SIGKILL)
        seen = events(engine)
        result = ended(seen)["a"].result
        (replacement,) = engine._client.run(os.getpid).values()
        engine.submit(Job("long", config.model_copy(update={"epochs": 100_000}), 0), free(engine))
        while not isinstance(engine.next_event(timeout=60), EpochDone):
            pass
    deadline = time.monotonic() + 30
    while Path(f"/proc/{replacement}").exists():
        assert time.monotonic() < deadline, "the worker is still running"
        time.sleep(0.1)
    assert replacement != victim
    assert result.status is Status.FINISHED
    assert numbers(result) == numbers(train(config, 0, digits))
    # The job started again, so some epochs were reported twice, with the same numbers.
    told = [event.epoch for event in seen if isinstance(event, EpochDone)]
    assert 1 in [epoch.number for epoch in told]
    for epoch in told:
        again = result.epochs[epoch.number - 1]
        assert (epoch.train, epoch.validation) == (again.train, again.validation)


def listening(pid: int) -> set[int]:
    """The TCP ports on which a process listens."""
    found = psutil.Process(pid).net_connections(kind="tcp")
    return {each.laddr.port for each in found if each.status == psutil.CONN_LISTEN}


def answer(port: int, context: ssl.SSLContext | None, request: bytes = b"") -> bytes:
    """What a server sends first; empty if it closes the connection, or refuses the certificate."""
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        try:
            connection = plain if context is None else stack.enter_context(context.wrap_socket(plain))
            connection.sendall(request)
            return connection.recv(1000)
        except (ssl.SSLError, ConnectionError):
            return b""


def test_only_the_session_can_talk_to_a_local_cluster(digits: Dataset, capfd) -> None:
    warm.context()
    known = listening(os.getpid())
    with Engine(DIGITS, digits, workers=1) as engine:
        (pid,) = engine._client.run(os.getpid).values()
        ports = (listening(os.getpid()) - known) | listening(pid)
        ((worker, about),) = engine._client.scheduler_info()["workers"].items()
        addresses = (engine._client.scheduler.address, worker, about["nanny"])
        assert all(address.startswith("tls://127.0.0.1:") for address in addresses)
        trusted = {int(address.rpartition(":")[2]) for address in addresses}
        # The other two are the HTTP servers of the scheduler and of the worker.
        assert trusted < ports
        assert (len(trusted), len(ports)) == (3, 5)
        session, other = engine._client.security, Security.temporary()
        for port in trusted:
            assert answer(port, session.get_connection_args("client")["ssl_context"])
        nobody = ssl.create_default_context()
        nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
        stranger = other.get_connection_args("client")["ssl_context"]
        stranger.verify_mode = ssl.CERT_NONE
        for port in trusted:
            assert answer(port, None, bytes(8)) == answer(port, nobody) == answer(port, stranger) == b""
        # An HTTP server knows no certificates, so it tells nothing.
        for port in ports - trusted:
            for place in ("/health", "/info/main/workers.html", "/json/counts.json", "/metrics", "/status"):
                head = answer(port, None, f"GET {place} HTTP/1.0\r\n\r\n".encode()).split(b"\r\n")[0]
                assert head.endswith(b"404 Not Found")
        engine.submit(Job("a", TINY, 0), free(engine))
        assert ended(events(engine))["a"].result.status is Status.FINISHED
    assert capfd.readouterr() == ("", "")


def test_a_cluster_without_certificates_gets_a_warning(cluster: str, digits: Dataset, capfd) -> None:
    with Engine(DIGITS, digits, scheduler=cluster):
        words = capfd.readouterr().err
    assert words.startswith(f"invact: warning: scheduler '{cluster}' has no certificates")
    assert words.count("\n") == 1


def test_a_failed_start_is_reported_in_one_line(digits: Dataset, capfd, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        dask.config.set({"temporary-directory": str(tmp_path / "file")}),
        pytest.raises(EnvironmentFault, match=r"^workers: cannot start \(.*Not a directory.*\)") as fault,
    ):
        Engine(DIGITS, digits, workers=1).__enter__()
    assert "\n" not in str(fault.value)
    assert capfd.readouterr() == ("", "")


def test_workers_that_end_while_they_start_are_reported_in_one_line(tmp_path: Path) -> None:
    # The check accepts a call inside an `if`, and each worker comes to the call again.
    (tmp_path / "script.py").write_text(
        "import types\n"
        "from invact.errors import EnvironmentFault\n"
        "from invact.execution.workers.engine import Engine\n"
        "if Engine:\n"
        "    try:\n"
        "        Engine(None, types.SimpleNamespace(digest=''), workers=2).__enter__()\n"
        "    except EnvironmentFault as fault:\n"
        "        print(fault)\n"
    )
    done = warm.run([tmp_path / "script.py"])
    assert done.stderr == ""
    assert done.stdout.startswith("workers: cannot start (")
    assert done.stdout.endswith('A script starts workers under `if __name__ == "__main__":`\n')


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_scheduler_and_a_worker_that_were_started_separately_with_certificates(
    digits: Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    security = Security.temporary()
    pems = {"ca-file": security.tls_ca_file, "cert": security.tls_client_cert, "key": security.tls_client_key}
    for name, content in pems.items():
        (tmp_path / name).write_text(content)
    paths = {name: str(tmp_path / name) for name in pems}
    options = [text for name, path in paths.items() for text in (f"--tls-{name}", path)]
    address = f"tls://127.0.0.1:{free_port()}"
    scheduler = ["-m", "distributed.cli.dask_scheduler", "--no-dashboard", "--host", address, *options]
    worker = ["-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny"]
    worker += options
    log, processes = tmp_path / "log", []
    try:
        for command in (scheduler, worker):
            processes.append(warm.start(command, tmp_path / "out", log, cwd=tmp_path))
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))).close()
                break
            except OSError:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
        with pytest.raises(EnvironmentFault, match=r"scheduler 'tls:.*: cannot connect \(.*\)$"):
            Engine(DIGITS, digits, scheduler=address).__enter__()
        names = {"ca-file": "ca-file", "client.cert": "cert", "client.key": "key"}
        own = {f"distributed.comm.tls.{key}": paths[name] for key, name in names.items()}
        with (
            dask.config.set(own),
            Engine(DIGITS, digits, scheduler=address) as engine,
        ):
            engine.submit(Job("a", TINY, 0), free(engine))
            result = ended(events(engine))["a"].result
        assert capfd.readouterr() == ("", "")
        assert numbers(result) == numbers(train(TINY, 0, digits))
        assert all(process.is_alive() for process in processes), "the engine stopped the cluster"
    finally:
        for process in reversed(processes):
            process.terminate()
            process.join(timeout=30)


def test_an_address_without_a_server_is_reported_in_one_line() -> None:
    code = (
        "import sys\n"
        "from invact.data.dataset import Source\n"
        "from invact.execution.workers.engine import Engine\n"
        "from invact.errors import EnvironmentFault\n"
        "source = Source('digits')\n"
        "try: Engine(source, source.load(), scheduler=sys.argv[1]).__enter__()\n"
        "except EnvironmentFault as fault: print(fault)"
    )
    address = f"tcp://127.0.0.1:{free_port()}"
    done = warm.run(["-c", code, address])
    assert done.stderr == ""
    assert done.stdout == f"scheduler {address!r}: cannot connect (Connection refused)\n"


@pytest.mark.parametrize("hangs_up", [True, False])
def test_an_address_of_another_server_is_reported_in_one_line(
    digits: Dataset, hangs_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("invact.execution.workers.cluster.ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        if hangs_up:
            threading.Thread(target=lambda: server.accept()[0].close()).start()
        with pytest.raises(EnvironmentFault, match=r"cannot connect \((not a Dask scheduler|timed out)\)$"):
            Engine(DIGITS, digits, scheduler=address).__enter__()


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "nonsense://x:1", "tcp://[", "", "tcp://a:99999", "tcp://:80"]
)
def test_an_invalid_address_is_refused(digits: Dataset, address: str) -> None:
    with pytest.raises(
        InputError, match=r"scheduler: received .*\. Allowed: tls://HOST:PORT or tcp://HOST:PORT"
    ):
        Engine(DIGITS, digits, scheduler=address).__enter__()
