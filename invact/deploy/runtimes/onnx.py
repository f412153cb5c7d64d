"""The runtime ONNX Runtime on the processor; its own tools quantise, with one scale for each filter."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.deploy.runtimes.exporting import batches, exported
from invact.process.quiet import load_tensorflow, silent_stderr

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from invact.deploy.runtimes import Session

__all__ = ["convert", "load", "preload"]

FATAL = 4
"""Severity from which ONNX Runtime logs. It also raises its errors, so the log would repeat them."""


def preload() -> None:
    """Import ONNX Runtime."""
    import onnxruntime  # noqa: F401


def convert(model: Any, batch: int | None, calibration: NDArray[Any] | None) -> bytes:
    """Convert the model's TensorFlow graph; see `invact.deploy.runtimes.convert`."""
    load_tensorflow()
    _teach_erfc()
    content = exported(model, "onnx", ".onnx", batch)
    _check_operations(content)
    load(content, 1)  # tf2onnx does not check what it made.
    return content if calibration is None else _quantized(content, calibration, batch)


def load(artifact: bytes, threads: int) -> Session:
    """Load an `.onnx` file; see `invact.deploy.runtimes.load`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL
    runner = onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
    (source,), (target,) = runner.get_inputs(), runner.get_outputs()
    feed, wanted = source.name, [target.name]

    def session(images: NDArray[Any]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = runner.run(wanted, {feed: np.asarray(images, np.float32)})[0]
        return logits

    return session


@functools.cache
def _teach_erfc() -> None:
    """Let tf2onnx convert erfc(x), which Keras' GELU uses and ONNX does not have, as 1 - erf(x)."""
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, context: Any, node: Any, **options: Any) -> None:
            """Replace the node; ONNX has Erf since version 9 of its operations."""
            shape, dtype = context.get_shape(node.output[0]), context.get_dtype(node.output[0])
            context.remove_node(node.name)
            one = context.make_const(f"{node.name}_one", np.array(1, np.float32))
            erf = context.make_node("Erf", [node.input[0]])
            context.make_node(
                "Sub",
                [one.output[0], erf.output[0]],
                outputs=node.output,
                name=node.name,
                shapes=[shape],
                dtypes=[dtype],
            )


def _check_operations(content: bytes) -> None:
    import onnx

    graph = onnx.load_from_string(content).graph
    kinds = {node.op_type for node in graph.node if node.domain in ("", "ai.onnx")}
    if missing := sorted(kind for kind in kinds if not onnx.defs.has(kind)):
        raise ValueError(f"ONNX has no operation {' or '.join(missing)}")


def _quantized(content: bytes, calibration: NDArray[Any], batch: int | None) -> bytes:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # it has no types
        def __init__(self, name: str) -> None:
            self._feeds = ({name: part} for part in batches(calibration, batch))

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(self._feeds, None)

    with tempfile.TemporaryDirectory() as folder, silent_stderr():
        plain, ready, quantized = (Path(folder) / f"{name}.onnx" for name in ("plain", "ready", "quantized"))
        plain.write_bytes(content)
        # This step folds normalizations into convolutions, so that both become one integer operation.
        # Symbolic shapes would need SymPy, and only attention uses them.
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        name = onnx.load(ready).graph.input[0].name
        quantize_static(
            ready,
            quantized,
            Reader(name),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            # Weights use 7 bits: processors without VNNI add two products in 16 bits, and 8 bits overflow.
            reduce_range=True,
        )
        return quantized.read_bytes()
