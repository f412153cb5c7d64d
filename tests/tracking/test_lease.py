"""Only the process that holds the lease of a record writes it."""

import json
import os
import socket
import time

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording import a_result, write

from invact.config import Config
from invact.errors import EnvironmentFault
from invact.tracking import lease as lease_module
from invact.tracking.lease import TAG, Lease, may_take
from invact.tracking.store import open_store


def held(**changes: object) -> str:
    mine = {
        "token": "t",
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "began": psutil.Process().create_time(),
        "expires": time.time() + 60,
    }
    return json.dumps(mine | changes)


@pytest.mark.parametrize(
    ("changes", "free"),
    [
        ({}, False),
        ({"host": "elsewhere"}, False),
        ({"expires": 0.0}, True),
        ({"host": "elsewhere", "expires": 0.0}, True),
        ({"pid": 2**22 + 1}, True),
        ({"began": 0.0}, True),  # the number of a process that has ended was given to another
    ],
)
def test_a_lease_is_free_if_it_expired_or_its_process_ended(changes: dict[str, object], free: bool) -> None:
    assert (may_take(held(**changes), socket.gethostname(), time.time()) is None) == free


@pytest.mark.parametrize("tag", ["", "{}", "[1]", "no JSON", "null"])
def test_a_tag_that_is_no_lease_is_free(tag: str) -> None:
    assert may_take(tag, socket.gethostname(), time.time()) is None


@given(st.text())
def test_any_text_in_the_tag_is_read(text: str) -> None:
    assert may_take(text, "here", 0.0) is None


def taken(store, run_id: str, **changes: object) -> None:
    store.runs.log(run_id, tags={TAG: held(token="other", host="elsewhere", **changes)})


def test_a_record_that_another_machine_writes_is_refused_and_not_changed(store) -> None:
    with store.record("mine", "sweep", "a") as record:
        run_id = record.run_id
    taken(store, run_id)
    before = store.runs.client.get_run(run_id).to_dictionary()
    with pytest.raises(
        EnvironmentFault, match=r"sweep mine is being run by process \d+ on elsewhere\. If that"
    ):
        store.record("mine", "sweep", "a")
    assert store.runs.client.get_run(run_id).to_dictionary() == before
    taken(store, run_id, expires=0.0)
    store.record("mine", "sweep", "a").close()


def test_every_write_after_a_takeover_is_refused(store) -> None:
    record = store.record("mine", "sweep", "a")
    run_id, result = record.start(0, Config(), 0, 2, "x", {}), a_result(Config())
    taken(store, record.run_id)
    before = record._search()
    for attempt in (
        lambda: record.start(1, Config(), 0, 1, "x", {}),
        lambda: record.finish(run_id, result),
        lambda: record.finish_trial(0),
        lambda: record.log_model(run_id, b"x"),
        lambda: record.keep({"x": b"x"}),
        lambda: record.summarize({"x": 1.0}),
        record.close,
    ):
        with pytest.raises(EnvironmentFault, match=r"sweep mine was taken over by process \d+ on elsewhere"):
            attempt()
    assert record._search() == before
    assert json.loads(store.runs.tags(record.run_id)[TAG])["token"] == "other", "it stays with its holder"


def test_a_lease_is_renewed_until_it_is_released(store, monkeypatch) -> None:
    monkeypatch.setattr(lease_module, "SECONDS", 0.2)
    run_id = store.runs.begin(store.runs.experiment("mine", None), "x", {})
    lease = Lease(store.runs, run_id, "it")
    first = json.loads(store.runs.tags(run_id)[TAG])["expires"]
    deadline = time.monotonic() + 20
    while json.loads(store.runs.tags(run_id)[TAG])["expires"] == first:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    lease.release()
    assert store.runs.tags(run_id)[TAG] == ""


def test_of_two_processes_that_write_at_once_the_later_one_wins(store, monkeypatch) -> None:
    """The first one finds the token of the second when it reads again."""
    run_id = store.runs.begin(store.runs.experiment("mine", None), "x", {})
    runs = type(store.runs.opened())("http://server", store.runs.client)
    monkeypatch.setattr(lease_module.time, "sleep", lambda seconds: taken(store, run_id))
    with pytest.raises(EnvironmentFault, match="taken over by process"):
        Lease(runs, run_id, "it")


@pytest.mark.slow
def test_one_server_under_two_names_has_one_lease(store) -> None:
    with store.ui(0) as server:
        one = open_store(tracking_uri=server.url)
        other = open_store(tracking_uri=server.url.replace("127.0.0.1", "localhost"))
        with one.record("mine", "sweep", "a") as record:
            with pytest.raises(EnvironmentFault, match="sweep mine is being run by process"):
                other.record("mine", "sweep", "a")
            write(record, 0, Config())
        with other.record("mine", "sweep", "a") as again:
            assert again.run_id == record.run_id
            assert again.table()["seed"].tolist() == [0]
