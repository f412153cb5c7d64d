"""The pixel range in whole sweeps: derived or set, reported, and kept with networks and old records."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from invact.claims.file import load_claim
from invact.config import Config
from invact.data.dataset import Dataset, load
from invact.deploy.runtimes import convert
from invact.deploy.runtimes import load as load_artifact
from invact.errors import InputError
from invact.networks.archives import unpack
from invact.networks.build import build_model
from invact.sweeps.confirm import confirm_front
from invact.sweeps.file import load_sweep
from invact.sweeps.recorded import SOURCE, data_of, find_sweep
from invact.tracking.store import open_store

# Keras 3.15 converts arrays in ways that NumPy 2 deprecates.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:In the future `np.object` will be defined:FutureWarning"),
]


@pytest.fixture
def standardised(folder: Path, digits: Dataset) -> Path:
    """The digits with mean 0 and standard deviation 1, and a sweep of them."""
    mean, deviation = digits.x_train.mean(), digits.x_train.std()
    images = {name: (getattr(digits, name) - mean) / deviation for name in ("x_train", "x_test")}
    labels = {"y_train": digits.y_train, "y_test": digits.y_test}
    np.savez(folder / "my.npz", **{name: x.astype(np.float32) for name, x in images.items()}, **labels)
    (folder / "space.toml").write_text("[parameters]\nfilters = 2\n")
    path = folder / "my.toml"
    path.write_text(
        'space = "./space.toml"\ndata = "./my.npz"\ntrials = 1\n[config]\nepochs = 1\ndepth = 1\n'
    )
    return path


def scaled(archive: bytes) -> tuple[float, float]:
    layer = unpack(archive).get_layer("scale")
    return layer.scale, layer.offset


def test_a_sweep_reports_and_keeps_the_scale(run, standardised: Path, capfd) -> None:
    data = load(standardised.with_name("my.npz"))
    low, high = data.pixel_range
    assert low == -high == -np.abs(data.x_train).max()
    capfd.readouterr()
    found = run(standardised)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(
        f"invact: warning: data {data.name!r}: the pixels of the training images are floats"
    )
    assert f"networks scale [{low:g}, {high:g}] to [-1, 1]" in line
    record = open_store().latest("my", "sweep")
    run_id = found.front.points[0].run_id
    assert scaled(record.model(run_id)) == (1 / high, 0.0)
    # A range of the user is another record, and nothing is unusual about it.
    other = run(standardised, pixel_range=[-2, 2])
    assert other.run_id != found.run_id
    assert capfd.readouterr().err == ""
    assert scaled(open_store().latest("my", "sweep").model(other.front.points[0].run_id)) == (1 / 2, 0.0)
    source, again = data_of(find_sweep("my", None, None, None), "my")
    assert again.pixel_range == source.pixel_range == (-2.0, 2.0)


def test_a_sweep_of_an_earlier_version_keeps_its_scale(
    run, standardised: Path, stand_in, monkeypatch
) -> None:
    plain = load(standardised.with_name("my.npz")).plain_range
    assert plain[0] == 0
    run(standardised, pixel_range=list(plain))
    # An earlier version did not write the key, and it scaled all data in this way.
    record = open_store().latest("my", "sweep")
    kept = json.loads(record.read(SOURCE))
    assert kept.pop("pixel_range") == list(plain)
    record.keep({SOURCE: json.dumps(kept).encode()})
    source, data = data_of(find_sweep("my", None, None, None), "my")
    assert (data.pixel_range, source.pixel_range, data.digest) == (plain, plain, kept["digest"])
    seen = []
    start = stand_in.__init__
    monkeypatch.setattr(
        stand_in,
        "__init__",
        lambda self, source, data, **more: (seen.append((source, data)), start(self, source, data))[1],
    )
    assert confirm_front("my", 2, show=False).failed == 0
    ((source, data),) = seen
    assert asdict(source)["pixel_range"] == data.pixel_range == plain


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([3, 1], "pixel_range: received [3.0, 1.0]. Allowed: [low, high] with low below high"),
        ([1, 1], "pixel_range: received [1.0, 1.0]"),
        ([0], "pixel_range"),
        ([0, 1, 2], "pixel_range"),
        (255, "pixel_range: received 255"),
        (["0", "1"], "pixel_range.0: received '0'"),
        ([0, float("inf")], "pixel_range.1: received inf"),
    ],
)
def test_a_range_that_is_none_is_refused(value: object, words: str) -> None:
    for reader, name in ((load_sweep, "digits"), (load_claim, "digits_claim")):
        with pytest.raises(InputError) as error:
            reader(name, {"pixel_range": value})
        assert words in str(error.value)
        assert str(error.value).isprintable()


def test_every_data_set_of_a_claim_gets_the_range() -> None:
    claim = load_claim("digits_claim", {"pixel_range": [0, 20], "data": ["digits", "mnist"]})
    assert [source.pixel_range for source in claim.sources] == [(0.0, 20.0)] * 2


@pytest.mark.parametrize("runtime", ["litert", "onnx"])
def test_an_int8_network_reads_pixels_with_both_signs(runtime: str, standardised: Path) -> None:
    data = load(standardised.with_name("my.npz"))
    model = build_model(Config(activation="inverse", filters=8), data.input_shape, 10, data.pixel_range)
    artifact = convert(model, runtime, "int8", calibration=data.x_train[:100])
    found = load_artifact(artifact, runtime)(data.x_test)
    plain = np.asarray(model(data.x_test))
    assert np.abs(found - plain).mean() < 0.02 * np.abs(plain).max()
    assert np.mean(found.argmax(1) == plain.argmax(1)) > 0.9
