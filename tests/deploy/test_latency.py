import functools
import importlib
import os
import sys
import time

import keras
import numpy as np
import pytest

from invact.config import Config
from invact.deploy import latency as latency_module
from invact.deploy.latency import (
    Latencies,
    Latency,
    measure_latency,
    parse_runtime,
    ratios,
    runtime_version,
)
from invact.deploy.runtimes import RUNTIMES, convert
from invact.deploy.stopwatch import Contender, Stopwatch, spare_processors
from invact.errors import EnvironmentFault, InputError
from invact.networks.archives import pack
from invact.networks.build import build_model

# Keras 3.15 converts a TensorFlow variable in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ALL = [f"{kind}:{precision}" for kind, precisions in RUNTIMES.items() for precision in precisions]


@functools.cache
def network(filters: int) -> keras.Model:
    return build_model(Config(filters=filters, depth=1), (28, 28, 1), 10)


@functools.cache
def dense(units: int) -> keras.Model:
    """A network of one layer, which every runtime converts soon; 4,096 units have 16 MiB of weights."""
    return keras.Sequential([keras.Input((1024,)), keras.layers.Dense(units)], name=f"dense{units}")


MODULE = """
import keras

@keras.saving.register_keras_serializable("users_timed")
class Twice(keras.Layer):
    def call(self, x):
        return 2 * x
"""


def test_a_network_is_read_with_the_module_that_registers_its_layers(tmp_path, monkeypatch) -> None:
    from invact.deploy import stopwatch

    (tmp_path / "users_timed.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    inputs = keras.Input((4,))
    archive = pack(keras.Model(inputs, importlib.import_module("users_timed").Twice()(inputs)))
    # As in the process of a stopwatch, which has not imported the module.
    del sys.modules["users_timed"], keras.saving.get_custom_objects()["users_timed>Twice"]
    session = stopwatch._load(Contender("tensorflow", archive, ("users_timed",)), 1)
    assert session(np.ones((1, 4), np.float32)).tolist() == [[2, 2, 2, 2]]


def test_networks_are_timed_side_by_side_on_every_runtime(quick_stopwatch) -> None:
    # The large network has 4,096 times the work, so it is slower on every machine.
    found = measure_latency({"small": dense(1), "large": dense(4096)}, 4, runtime=ALL, rounds=3, memory=False)
    rows = {(row.runtime, row.name): row for row in found.rows}
    assert list(rows) == [(runtime, name) for runtime in ALL for name in ("small", "large")]
    for runtime in ALL:
        small, large = rows[runtime, "small"], rows[runtime, "large"]
        assert (small.ratio, small.ratio_low, small.ratio_high) == (1, 1, 1)
        assert large.ratio > 1
        assert large.ratio_low <= large.ratio <= large.ratio_high
        for row in (small, large):
            assert 0 < row.p50_ms <= row.p90_ms
            assert row.calls >= 3
            assert row.peak_bytes is None
    assert (found.batch, found.threads, len(found.machine) > 0) == (4, 1, True)
    assert found.processors == spare_processors(1)
    assert found.versions == {kind: runtime_version(kind) for kind in RUNTIMES}
    table = found.to_pandas()
    assert table["p50_ms"].tolist() == [row.p50_ms for row in found.rows]


def test_peak_memory_grows_with_the_network(quick_stopwatch) -> None:
    """The large network has a dense layer with 16 MiB of weights; the small one does not."""
    runtimes = ["litert", "onnx"]
    found = measure_latency({"small": dense(1), "large": dense(4096)}, runtime=runtimes, rounds=1)
    peak = {(row.runtime, row.name): row.peak_bytes for row in found.rows}
    for runtime in runtimes:
        assert peak[runtime, "large"] - peak[runtime, "small"] > 16 * 2**20 * 0.9


def test_each_round_is_compared_with_the_same_round_of_the_reference() -> None:
    """The machine becomes half as fast in the middle: the ratio does not change, the medians do."""
    drift = np.repeat([1.0, 2.0], 10)[:, None]
    reference, other = drift * np.full((20, 3), 4.0), drift * np.full((20, 5), 6.0)
    assert ratios(other, reference).tolist() == [1.5] * 20
    row = latency_module._latency("other", "onnx", other, reference, None)
    assert (row.ratio, row.p50_ms, row.calls) == (1.5, 9.0, 100)


def test_turns_rotate_and_every_call_is_counted(monkeypatch) -> None:
    from invact.deploy import stopwatch

    calls = []
    sessions = {name: (lambda images, name=name: calls.append(name)) for name in "abc"}
    monkeypatch.setattr(stopwatch, "_load", lambda contender, threads: sessions[contender.runtime])
    monkeypatch.setattr(stopwatch, "_warm_up", lambda session, images: 2)
    times = stopwatch._race([Contender(name, b"") for name in "abc"], np.zeros(1), 3, 1)
    assert "".join(calls) == "aabbcc" + "bbccaa" + "ccaabb"
    assert [each.shape for each in times] == [(3, 2)] * 3
    assert all((each >= 0).all() for each in times)


def test_a_slow_call_is_one_turn_and_fast_calls_share_a_turn(monkeypatch) -> None:
    from invact.deploy import stopwatch

    monkeypatch.setattr(stopwatch, "WARM_UP", 0.01)
    assert stopwatch._warm_up(lambda images: time.sleep(0.02), np.zeros(1)) == 1
    assert stopwatch._warm_up(lambda images: time.sleep(0.002), np.zeros(1)) in range(2, 6)
    assert stopwatch._warm_up(lambda images: None, np.zeros(1)) == stopwatch.MOST_CALLS


def test_the_process_is_pinned_and_has_the_threads_it_was_given() -> None:
    with Stopwatch(1) as stopwatch:
        assert stopwatch._do(os.sched_getaffinity, 0) == set(stopwatch.processors)
    assert len(stopwatch.processors) == 1


def test_a_dead_process_is_an_error_of_one_line() -> None:
    with Stopwatch(1) as stopwatch, pytest.raises(EnvironmentFault, match="its process died") as error:
        stopwatch._do(os._exit, 9)
    assert "\n" not in str(error.value)


def test_a_damaged_artifact_is_an_error_of_one_line(quick_stopwatch) -> None:
    artifact = convert(dense(1), "onnx", batch=1)[:100]
    with Stopwatch(1) as stopwatch, pytest.raises(InputError, match="artifact: onnx cannot load it"):
        stopwatch.race([Contender("onnx", artifact)], np.zeros((1, 1024), np.float32), 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch": 0}, "batch: received 0"),
        ({"rounds": 0}, "rounds: received 0"),
        ({"threads": 0}, "threads: received 0. Allowed: 1 to"),
        ({"threads": 10**6}, "threads: received 1000000. Allowed: 1 to"),
        ({"runtime": "lite"}, "runtime: received 'lite'; did you mean 'litert'?"),
        ({"runtime": "tensorflow:int8"}, "precision of tensorflow: received 'int8'"),
        ({"runtime": []}, "runtime: received none"),
        ({"model": {}}, "model, runtime: received none"),
    ],
)
def test_bad_arguments_are_an_error_of_one_line(arguments, words) -> None:
    with pytest.raises(InputError) as error:
        measure_latency(**{"model": network(2)} | arguments)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_open_or_unequal_inputs_are_refused() -> None:
    inputs = keras.Input((None, None, 1))
    opened = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs), name="opened")
    with pytest.raises(InputError, match=r"'opened': received \(None, None, 1\)\..*without open dimensions"):
        measure_latency(opened)
    with pytest.raises(InputError, match="'unbuilt': received a model that is not built"):
        measure_latency(keras.Sequential([keras.layers.Dense(3)], name="unbuilt"))
    pair = [keras.Input((3,)), keras.Input((3,))]
    with pytest.raises(InputError, match="received 2 inputs"):
        measure_latency(keras.Model(pair, keras.layers.Add()(pair)))
    with pytest.raises(InputError, match="Allowed: the same shape for all models"):
        measure_latency({"a": network(2), "b": build_model(Config(filters=2), (8, 8, 1), 10)})


def test_runtimes_are_named_with_their_precision() -> None:
    assert [parse_runtime(each) for each in ("onnx", "onnx:float32", "litert:int8")] == [
        ("onnx", "float32"),
        ("onnx", "float32"),
        ("litert", "int8"),
    ]


def test_the_table_names_the_machine() -> None:
    from rich.console import Console

    from invact.cli.latency import latency_tables, latency_values

    rows = [
        Latency("relu", runtime, p50, 2 * p50, 1.0, 1.0, 1.0, 9)
        for runtime, p50 in (("litert", 0.25), ("litert:int8", 0.125))
    ]
    found = Latencies(tuple(rows), 1, 1, (3,), "a processor", {"litert": "ai-edge-litert 2.3"})
    console = Console(width=200, no_color=True)
    with console.capture() as shown:
        for table in latency_tables(found):
            console.print(table)
    text = shown.get()
    assert found.machine in text
    assert "threads: 1, pinned processors: 1" in text
    assert "litert:int8" in text
    values = latency_values(found)
    assert [row["p50_ms"] for row in values["rows"]] == [0.25, 0.125]
