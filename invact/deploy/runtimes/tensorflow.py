"""The runtime TensorFlow: it runs the Keras model, compiled into one graph for each batch size."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.networks.archives import pack, unpack
from invact.networks.settings import keras_settings
from invact.process.quiet import load_tensorflow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from invact.deploy.runtimes import Session

__all__ = ["convert", "load", "preload"]


def preload() -> None:
    """Import TensorFlow and Keras."""
    load_tensorflow()
    import keras  # noqa: F401


def convert(model: Any, batch: int | None, calibration: NDArray[Any] | None) -> bytes:
    """Save the model as a `.keras` archive; see `invact.deploy.runtimes.convert`."""
    return pack(model)


def load(artifact: bytes, threads: int) -> Session:
    """Load a `.keras` archive; see `invact.deploy.runtimes.load`."""
    load_tensorflow()
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # TensorFlow has already run, so its threads are fixed.
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    model = unpack(artifact, "artifact")
    (image,) = model.inputs
    compute = tf.function(lambda images: model(images, training=False), autograph=False)
    graphs: dict[tuple[int, ...], Any] = {}

    def session(images: NDArray[Any]) -> NDArray[np.float32]:
        tensor = tf.convert_to_tensor(np.asarray(images, image.dtype))
        graph = graphs.get(images.shape)
        if graph is None:
            spec = tf.TensorSpec(images.shape, image.dtype)
            with keras_settings():
                graph = graphs[images.shape] = compute.get_concrete_function(spec)
        logits: NDArray[np.float32] = graph(tensor).numpy()
        return logits

    return session
