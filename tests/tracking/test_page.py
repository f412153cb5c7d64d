"""The page of a record in MLflow shows accuracy and costs: in a real browser, with a real server."""

import json
import os
import shutil

import pytest
from recording import write

from invact.cli.ui import newest
from invact.config import Config
from invact.tracking.page import address_of, server_of, tag_of, view_of


def test_the_view_state_is_a_tag_of_the_experiment(store) -> None:
    with store.record("mine", "sweep", "abc") as record:
        record.show(["param.filters"], ["validation_accuracy", "latency_ms"])
    tags = store.runs.client.get_experiment(record.experiment).tags
    assert json.loads(tags[tag_of(record.run_id)]) == {
        "orderByKey": "metrics.`validation/final_accuracy`",
        "orderByAsc": False,
        "selectedColumns": [
            "metrics.`validation/final_accuracy`",
            "metrics.`cost/latency_ms`",
            "params.`param.filters`",
        ],
        "runsExpanded": {record.run_id: True},
    }
    assert record.page() == address_of(server_of(store.runs.uri), record.experiment, record.run_id)
    assert record.page("https://host/x/").startswith("https://host/x/#/experiments/")


def test_the_newest_records_are_listed_once(store) -> None:
    for name, identity in (("a", "1"), ("a", "2"), ("b", "1")):
        with store.record(name, "sweep", identity) as record:
            pass
    listed = newest(store.records())
    assert [one.name for one in listed] == ["b", "a"]
    assert (listed[0].run_id, listed[0].experiment) == (record.run_id, record.experiment)
    assert [one.identity for one in listed] == ["1", "2"]
    assert len(newest(store.records(), most=1)) == 1


def test_a_browser_shows_accuracy_and_macs_of_every_configuration(store) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        if os.environ.get("CI"):
            pytest.fail("no chromium on the machine")
        pytest.skip("no chromium on the machine")
    from playwright.sync_api import sync_playwright

    with store.record("mine", "sweep", "abc") as record:
        record.show(["param.filters"], ["validation_accuracy", "macs"])
        write(record, 0, Config(filters=8))
        write(record, 1, Config(filters=16))
    with store.ui(0) as server, sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = window.new_page(viewport={"width": 1500, "height": 900})
        page.goto(record.page(server.url))
        page.get_by_role("columnheader", name="cost/macs").first.wait_for(timeout=60_000)
        page.get_by_role("gridcell", name="9007209494").first.wait_for(timeout=60_000)
        shown = page.inner_text("body")
        window.close()
    for text in ("validation/final_accuracy", "0.7", "0 arm 0", "1 arm 1", "param.filters"):
        assert text in shown
    assert "3 matching runs" in shown, "the runs of the configurations, and their parent"


def test_a_view_state_is_short() -> None:
    """MLflow allows 5,000 characters in a tag of an experiment."""
    assert len(view_of("a" * 32, [f"param.{'x' * 40}{i}" for i in range(50)], ["macs"])) < 5000
