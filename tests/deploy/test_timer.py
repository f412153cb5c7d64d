import json
from pathlib import Path

import numpy as np
import pytest

from invact.config import Config
from invact.data.dataset import Dataset
from invact.deploy.stopwatch import Stopwatch
from invact.deploy.timer import CALIBRATION, Timer, Timing
from invact.errors import EnvironmentFault, InputError
from invact.validation import validate

# Keras 3.15 converts a TensorFlow variable in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LITERT = Timing(runtime="litert")
SMALL, LARGE = Config(filters=2, depth=1), Config(filters=128, depth=2)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INVACT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "latency.json"


@pytest.fixture
def races(monkeypatch) -> list[int]:
    """The number of networks in each call of `race`, which has fewer rounds."""
    monkeypatch.setattr("invact.deploy.timer.ROUNDS", 5)
    seen, race = [], Stopwatch.race
    monkeypatch.setattr(
        Stopwatch,
        "race",
        lambda self, contenders, *rest: (seen.append(len(contenders)), race(self, contenders, *rest))[1],
    )
    return seen


def test_a_network_is_timed_once_whatever_its_recipe(digits: Dataset, races, cache, quick_stopwatch) -> None:
    with Timer(LITERT, digits) as timer:
        small, large = timer.latency_ms(SMALL), timer.latency_ms(LARGE)
        assert 0 < small < large
        again = Config(filters=4, depth=1, activation="relu", width_rule="filters", epochs=9)
        assert timer.latency_ms(SMALL.model_copy(update={"epochs": 50, "learning_rate": 0.5})) == small
        assert timer.latency_ms(again) > 0
    assert races == [2, 2, 2]
    # Another process of this machine finds their latencies, and that of the reference, in the file.
    assert set(json.loads(cache.read_text()).values()) >= {small, large}
    with Timer(LITERT, digits) as timer:
        assert (timer.latency_ms(SMALL), timer.latency_ms(LARGE)) == (small, large)
    assert len(races) == 3


def test_a_latency_is_the_references_times_the_ratio(digits: Dataset, monkeypatch) -> None:
    """The machine is half as fast for the second network, so both networks have the same latency."""
    speed = iter([1.0, 2.0])

    def race(self, contenders, images, rounds):
        slow = next(speed)
        return [np.full((rounds, 4), 3.0 * slow), np.full((rounds, 2), 6.0 * slow)]

    monkeypatch.setattr(Stopwatch, "race", race)
    monkeypatch.setattr("invact.deploy.timer.convert", lambda *arguments, **options: b"")
    with Timer(LITERT, digits) as timer:
        assert timer.latency_ms(SMALL) == 6.0
        assert timer.latency_ms(LARGE) == 6.0
        # The latency of the reference was measured with the first network.
        assert timer.latency_ms(Config()) == 3.0


def test_another_setting_is_measured_again(digits: Dataset, monkeypatch) -> None:
    converted, raced = [], []

    def convert(model, kind, precision, batch, calibration):
        converted.append((kind, precision, batch, None if calibration is None else len(calibration)))
        return b""

    def race(self, contenders, images, rounds):
        raced.append((len(contenders), images.shape))
        return [np.ones((rounds, 1)) for _ in contenders]

    monkeypatch.setattr("invact.deploy.timer.convert", convert)
    monkeypatch.setattr(Stopwatch, "race", race)
    for timing in (LITERT, Timing(runtime="litert", batch=4), Timing(runtime="litert:int8"), LITERT):
        with Timer(timing, digits) as timer:
            assert timer.latency_ms(SMALL) == 1
    settings = [("litert", "float32", 1, None), ("litert", "float32", 4, None)]
    settings.append(("litert", "int8", 1, CALIBRATION))
    # The reference and the network.
    assert converted == [setting for setting in settings for _ in range(2)]
    assert raced == [(2, (1, 8, 8, 1)), (2, (4, 8, 8, 1)), (2, (1, 8, 8, 1))]


def test_a_variable_that_changes_how_tensorflow_computes_is_another_setting(
    digits: Dataset, monkeypatch
) -> None:
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    keys = set()
    for value in (None, "0", "1"):
        if value is not None:
            monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", value)
        with Timer(LITERT, digits) as timer:
            keys.add(timer._key(SMALL))
            assert len(timer._setting) == 6 + (value is not None), "old latencies are still found"
    assert len(keys) == 3


def test_the_place_names_machine_and_runtime(digits: Dataset) -> None:
    with Timer(Timing(runtime="onnx", batch=2), digits) as timer:
        assert "1 threads, onnxruntime" in timer.place
        assert timer.place.endswith("onnx, batch 2")
        assert len(timer.processors) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": "b"}', "\0"])
def test_a_damaged_file_is_named_in_one_line(digits: Dataset, cache, content) -> None:
    cache.parent.mkdir()
    cache.write_text(content)
    with pytest.raises(EnvironmentFault, match=r"latency.json: not a file of latencies. Allowed: remove it"):
        Timer(LITERT, digits).__enter__()
    assert cache.read_text() == content


def test_a_folder_that_cannot_be_created_is_an_error_of_one_line(
    digits: Dataset, monkeypatch, tmp_path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("INVACT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(EnvironmentFault, match="Not a directory"):
        Timer(LITERT, digits).__enter__()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"runtime": "tensorflo"}, "runtime: received 'tensorflo'; did you mean 'tensorflow'?"),
        ({"runtime": "onnx:int4"}, "runtime: received 'int4'"),
        ({"batch": 0}, "batch: received 0"),
        ({"threads": 0}, "threads: received 0"),
        ({"thread": 1}, "thread: unknown key, received 'thread'; did you mean 'threads'?"),
    ],
)
def test_bad_settings_name_the_key(values, words) -> None:
    with pytest.raises(InputError) as error:
        validate(Timing, values, "f.toml")
    assert words in str(error.value)


def test_a_missing_extra_is_named_when_it_is_needed(digits: Dataset, monkeypatch) -> None:
    timing = Timing(runtime="onnx")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert Timing(runtime="onnx") == timing
    with pytest.raises(EnvironmentFault, match=r"pip install .*\[onnx\]'"):
        Timer(timing, digits)
