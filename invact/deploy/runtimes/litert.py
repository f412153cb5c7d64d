"""The runtime LiteRT, formerly TensorFlow Lite, from its own package or from TensorFlow's copy of it."""

from __future__ import annotations

import importlib.util
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.deploy.runtimes.exporting import batches, exported
from invact.process.quiet import load_tensorflow, silent_stderr

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from invact.deploy.runtimes import Session

__all__ = ["convert", "load", "preload"]


def preload() -> None:
    """Import LiteRT's interpreter."""
    _interpreter_class()


def convert(model: Any, batch: int | None, calibration: NDArray[Any] | None) -> bytes:
    """Convert with TensorFlow's converter; see `invact.deploy.runtimes.convert`."""
    load_tensorflow()
    import tensorflow as tf

    # Only LiteRT's own operations: TensorFlow's operations need a library that the package does not contain.
    kinds = tf.lite.OpsSet
    options: dict[str, Any] = {"target_spec": {"supported_ops": [kinds.TFLITE_BUILTINS]}}
    if calibration is not None:
        options = {
            "target_spec": {"supported_ops": [kinds.TFLITE_BUILTINS_INT8]},
            "optimizations": [tf.lite.Optimize.DEFAULT],
            "representative_dataset": lambda: ([part] for part in batches(calibration, batch)),
        }
    return exported(model, "litert", ".tflite", batch, **options)


def load(artifact: bytes, threads: int) -> Session:
    """Load a `.tflite` file; see `invact.deploy.runtimes.load`."""
    with silent_stderr(), warnings.catch_warnings():  # LiteRT prints the name of its delegate.
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated", UserWarning)
        interpreter = _interpreter_class()(model_content=artifact, num_threads=threads)
        interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    index, dtype, shape = source["index"], source["dtype"], tuple(source["shape"])

    def session(images: NDArray[Any]) -> NDArray[np.float32]:
        nonlocal shape
        if images.shape != shape:
            interpreter.resize_tensor_input(index, images.shape, strict=True)
            interpreter.allocate_tensors()
            shape = images.shape
        interpreter.set_tensor(index, np.asarray(images, dtype))
        interpreter.invoke()
        logits: NDArray[np.float32] = interpreter.get_tensor(target["index"])
        return logits

    return session


def _interpreter_class() -> Any:
    if importlib.util.find_spec("ai_edge_litert") is not None:
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter
    load_tensorflow()
    import tensorflow as tf

    return tf.lite.Interpreter
