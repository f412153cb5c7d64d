"""No message, picture of an object, argument or log holds the password of an address."""

import logging
import os
import socket
import threading
import traceback
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import quote

import pytest

from invact.errors import EnvironmentFault, InputError, InvactError, one_line
from invact.tracking import ui
from invact.tracking.backend.mlflow import MlflowRuns, connect
from invact.tracking.backend.opening import without_user
from invact.tracking.store import Store, open_store

SECRET = "s3cr3t/p@ss w"
CODED = quote(SECRET, safe="")
FORMS = ("s3cr3t", "p@ss", "p%40ss")


def hidden(text: str) -> bool:
    return not any(form in text for form in FORMS)


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@pytest.fixture
def port():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield closed.getsockname()[1]


ADDRESSES = [
    "http://ann:{}@127.0.0.1:{port}",
    "https://ann:{}@127.0.0.1:{port}/path?page=1",
    "http://{}@127.0.0.1:{port}",
    "http://ann:{}@127.0.0.1:port",
    "http://ann:{}@[::1",
    "http://127.0.0.1:{port}/?token={}",
    "ftp://ann:{}@host",
    "ann:{}@host",
    "postgresql://ann:{}@127.0.0.1:{port}/runs",
    "postgresql://127.0.0.1:{port}/runs?user=ann&password={}",
    "mysql+pymysql://ann:{}@127.0.0.1:{port}/runs",
    "mssql+pyodbc://ann:{}@host/runs",
    "postgresql+nodriver://ann:{}@host/runs",
    "sqlite://ann:{}@host",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_refused_address_shows_its_password(address, port, capfd, caplog, monkeypatch):
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)
    uri = address.format(CODED, port=port)
    for arguments in ({}, {"folder": "somewhere"}):
        with caplog.at_level(logging.WARNING), pytest.raises((InputError, EnvironmentFault)) as caught:
            open_store(tracking_uri=uri, **arguments)
        assert "\n" not in str(caught.value)
        assert hidden(shown(caught.value))
        assert "***" in str(caught.value)
    assert hidden("".join(capfd.readouterr()) + caplog.text)


class Refusing(BaseHTTPRequestHandler):
    """A server that answers every request with an error that repeats the request."""

    def do_POST(self) -> None:
        self.send_response(400)
        self.end_headers()
        self.wfile.write(f'{{"error_code": "X", "message": "no {SECRET} {dict(self.headers)}"}}'.encode())

    do_GET = do_POST  # noqa: N815 the name that the library calls

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server():
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_no_answer_of_a_server_shows_the_password(server, capfd, invact):
    uri = f"http://ann:{CODED}@127.0.0.1:{server}"
    for call in (lambda: connect(uri), lambda: open_store(tracking_uri=uri)):
        with pytest.raises(EnvironmentFault, match=r"http://ann:\*\*\*@127\.0\.0\.1") as caught:
            call()
        assert hidden(shown(caught.value))
    assert hidden("".join(capfd.readouterr()))
    for command in (["list"], ["front", "x"], ["ui"], ["export", "x"]):
        answer = invact(*command, "--tracking-uri", uri)
        assert (answer.code, answer.err.count("\n")) == (3, 1)
        assert hidden(answer.out + answer.err)


class Failing:
    """A client whose every call fails with a message that holds the password."""

    def __getattr__(self, name: str) -> object:
        def fail(*arguments: object, **options: object) -> None:
            raise OSError(f"{name}: cannot reach {SECRET} or {CODED}")

        return fail


def test_no_operation_of_a_store_shows_the_password():
    store = Store(MlflowRuns(f"http://ann:{CODED}@host", Failing()), None)
    for call in (
        store.records,
        lambda: store.latest("mine"),
        lambda: store.runs.end("0", "FINISHED"),
        lambda: store.runs.read("0", "a.txt"),
        lambda: store.runs.keep("0", {"a": b""}),
        lambda: store.runs.tags("0"),
        store.ui,
    ):
        with pytest.raises(InvactError) as caught:
            call()
        assert "http://ann:***@host" in str(caught.value)
        assert hidden(shown(caught.value))
    assert hidden(repr(store) + str(store))
    assert store.uri == f"http://ann:{CODED}@host", "the address itself is needed to connect"


def test_the_lock_does_not_depend_on_who_opens_the_store():
    assert without_user(f"http://ann:{CODED}@host") == without_user("http://ben@host") == "http://host"


def test_the_server_gets_the_address_in_its_environment(monkeypatch, tmp_path):
    uri = f"postgresql://ann:{CODED}@127.0.0.1:1/runs"
    told = {}

    def sleep(command, env, stdout, **options):
        told.update(command=command, env=env)
        os.write(stdout.fileno(), f"cannot connect to {uri} with {SECRET}".encode())
        return start(["true"], stdout=stdout, **options)

    start = ui.subprocess.Popen
    monkeypatch.setattr(ui.subprocess, "Popen", sleep)
    with pytest.raises(
        EnvironmentFault, match=r"MLflow's server ended with exit code 0: cannot connect"
    ) as caught:
        ui.serve(uri, tmp_path, 0)
    assert hidden(shown(caught.value))
    assert hidden(" ".join(told["command"]))
    assert told["env"]["MLFLOW_BACKEND_STORE_URI"] == uri


def test_one_line_masks_before_it_shortens():
    uri = f"http://ann:{CODED}@host"
    for length in range(480, 520):
        assert hidden(one_line(ValueError("x" * length + SECRET), uri))


def test_the_parser_of_the_command_line_does_not_repeat_it(invact):
    answer = invact("list", f"http://ann:{CODED}@host")
    assert answer.code == 2
    assert "http://ann:***@host" in answer.err
    assert hidden(answer.err)
