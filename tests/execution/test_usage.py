import json
from dataclasses import replace

import numpy as np
import pytest
from recording import COST, a_result

from invact.config import Config
from invact.execution.usage import SIZE, Usage, line_of, record_usage, sgemm_peak
from invact.process.processors import processor
from invact.tracking.store import open_store
from invact.training.results import Times


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INVACT_CACHE", str(tmp_path))
    return tmp_path / "peak.json"


def test_a_line_names_where_the_time_went_and_the_share_of_the_peak(cache) -> None:
    cache.write_text(json.dumps({processor(): 1e6}))
    result = replace(
        a_result(Config()), seconds=30.0, images_per_second=1000.0, times=Times(1.0, 6.0, 30.0, 3.0)
    )
    usage = replace(Usage().after(result).after(result), workers=2, seconds=40.0, capacity=80.0)
    # Six operations for each MAC, image and epoch.
    gflops = 2 * 6 * COST.macs * 30_000 / 40 / 1e9
    assert usage.gflops == pytest.approx(gflops)
    assert line_of(usage) == (
        "time: 2 trainings in 0:40 on 2 workers: 75 % training, 15 % tracing, 2 % building, 8 % evaluation, "
        f"0 % other; {gflops:.3g} GFLOP/s, {100 * gflops / 2e6:.2g} % of the 2 x 1000000 GFLOP/s that sgemm "
        "reaches on this machine"
    )


def test_the_peak_is_that_of_a_product(cache) -> None:
    peak = sgemm_peak()
    assert json.loads(cache.read_text()) == {processor(): peak}
    assert 2 * SIZE**3 / (peak * 1e9) < 60, "one product takes less than a minute"


def test_the_highest_peak_is_kept_because_the_machine_may_be_busy(cache, monkeypatch) -> None:
    cache.write_text(json.dumps({"another": 5.0}))
    measured = iter([3.0, 2.0, 4.0])
    monkeypatch.setattr("invact.execution.usage._measured", lambda: next(measured))
    assert [sgemm_peak() for _ in range(3)] == [3.0, 3.0, 4.0]
    assert json.loads(cache.read_text()) == {"another": 5.0, processor(): 4.0}


@pytest.mark.parametrize("content", ["", "[]", '{"a": "b"}'])
def test_a_damaged_file_is_replaced(cache, monkeypatch, content: str) -> None:
    cache.write_text(content)
    monkeypatch.setattr("invact.execution.usage._measured", lambda: 3.5)
    assert sgemm_peak() == 3.5
    assert json.loads(cache.read_text())[processor()] == 3.5


def test_a_session_that_trains_nothing_keeps_the_line_of_the_last_one(cache, tmp_path, quick_stores) -> None:
    with open_store(tmp_path / "store").record("a", "sweep", "1") as record:
        assert record_usage(record, Usage()) == ""
        line = record_usage(record, replace(Usage().after(a_result(Config())), workers=1, seconds=2.0))
        assert line.startswith("time: 1 training in 0:02 on 1 worker: ")
        assert record_usage(record, Usage()) == line


def test_the_sum_of_two_is_that_of_all() -> None:
    one = Usage(1, 1, 2.0, 2.0, Times(0.1, 0.2, 0.3, 0.4), 5.0)
    two = Usage(2, 3, 4.0, 12.0, Times(1.0, 2.0, 3.0, 4.0), 50.0)
    assert one + two == Usage(3, 3, 6.0, 14.0, Times(*np.add((0.1, 0.2, 0.3, 0.4), (1, 2, 3, 4))), 55.0)
