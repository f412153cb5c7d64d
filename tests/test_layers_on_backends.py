from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from invact.analysis import filter_pairing, read_layers
from invact.layers import DuplicatedActivation, InverseActivation

# Keras copies its variables with numpy.array, which TensorFlow does not yet support in NumPy 2 style.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def other_backends(tmp_path_factory):
    """Start both backends at the same time, because most of their time is importing."""
    folder = tmp_path_factory.mktemp("backends")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 6, 3)).astype(np.float32)
    x[0, :2] = 0.0
    np.savez(folder / "given.npz", x=x, g=rng.standard_normal((4, 6, 6)).astype(np.float32))
    model = keras.Sequential([keras.Input((6, 3)), keras.layers.Conv1D(4, 1)])
    model.add(InverseActivation())
    model.add(DuplicatedActivation("elu"))
    model.save(folder / "given.keras")
    np.save(folder / "model_output.npy", model(x))
    readings = [(row.units, row.dead, row.dead_filters, row.rank) for row in read_layers(model, x)]
    np.save(folder / "readings.npy", readings)
    np.save(folder / "cosines.npy", [layer.cosines for layer in filter_pairing(model)])
    processes = {
        backend: subprocess.Popen(
            [sys.executable, Path(__file__).parent / "support" / "layers_on_backend.py", folder],
            env={
                **os.environ,
                "KERAS_BACKEND": backend,
                "PYTHONPATH": str(Path(__file__).parents[1]),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for backend in ("jax", "torch")
        if importlib.util.find_spec(backend)
    }
    yield folder, processes
    for process in processes.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_compute_the_same(backend, other_backends):
    folder, processes = other_backends
    if backend not in processes:
        pytest.skip(f"{backend} is not installed")
    _, stderr = processes[backend].communicate(timeout=240)
    assert processes[backend].returncode == 0, stderr
    given = np.load(folder / "given.npz")
    x, g = given["x"], given["g"]
    results = np.load(folder / f"{backend}.npz")

    a, b = np.split(g, 2, -1)
    magnitude = np.abs(x)
    cases = {  # f, f', and the second derivative of f^3; the derivatives are for x != 0
        "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0, lambda x: 6 * np.maximum(x, 0)),
        "leaky_relu": (
            lambda x: np.where(x > 0, x, 0.2 * x),
            lambda x: np.where(x > 0, 1, 0.2),
            lambda x: np.where(x > 0, 6 * x, 6 * 0.008 * x),
        ),
        "elu": (
            lambda x: np.where(x > 0, x, np.expm1(x)),
            lambda x: np.where(x > 0, 1, np.exp(x)),
            lambda x: np.where(
                x > 0, 6 * x, 6 * np.expm1(x) * np.exp(2 * x) + 3 * np.expm1(x) ** 2 * np.exp(x)
            ),
        ),
        "linear": (lambda x: x, np.ones_like, lambda x: 6 * x),
    }
    smooth = magnitude > 0
    for name, (f, slope, curvature) in cases.items():
        close = {"rtol": 1e-4, "atol": 1e-5}
        np.testing.assert_allclose(results[f"{name}_output"], np.concatenate([f(x), f(-x)], -1), **close)
        first = a * slope(x) - b * slope(-x)
        np.testing.assert_allclose(results[f"{name}_gradient"][smooth], first[smooth], **close)
        second = a * curvature(x) + b * curvature(-x)
        np.testing.assert_allclose(results[f"{name}_second"][smooth], second[smooth], **close)
        assert results[f"{name}_kept"] <= x.size
    assert (results["relu_gradient"][~smooth] == 0).all()
    np.testing.assert_array_equal(results["first"][:, :6, :, 0], np.maximum(x, 0))
    np.testing.assert_array_equal(results["first"][:, 6:, :, 0], np.maximum(-x, 0))
    np.testing.assert_array_equal(results["whole"], [[1, 200, 0, 255, 0, 0, 0, 0]])
    np.testing.assert_array_equal(results["lowest"], [[-128, 127, 128, -127]])
    assert results["dtype"] == "bfloat16"
    assert results["falls"]
    assert results["loads"]
    for name in ("readings", "cosines"):
        np.testing.assert_allclose(results[name], np.load(folder / f"{name}.npy"), rtol=1e-4)
    # The other process loaded the model with no import other than `invact.layers`.
    np.testing.assert_allclose(results["loaded"], np.load(folder / "model_output.npy"), rtol=1e-5, atol=1e-6)
