"""Runtimes that run a network for inference: TensorFlow, LiteRT and ONNX Runtime, one module each.

Each module has three functions, which import its libraries only when they are called:

- `preload()` imports the libraries that `load` needs.
- `convert(model, batch, calibration) -> bytes` returns the artifact, in int8 if there are calibration images.
- `load(artifact, threads) -> Session` makes an artifact ready to run.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from invact.errors import EnvironmentFault, InputError, InvactError, one_line, one_of
from invact.files import install
from invact.networks.settings import keras_settings
from invact.process.quiet import same_logging

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RUNTIMES", "Session", "convert", "load", "preload", "require"]

Session: TypeAlias = "Callable[[NDArray[Any]], NDArray[np.float32]]"
"""A function from raw images, (n, *input_shape), to logits, (n, classes)."""

RUNTIMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"tensorflow": ("float32",), "litert": ("float32", "int8"), "onnx": ("float32", "int8")}
)
"""The precisions that each runtime can run."""

# LiteRT needs no extra, because TensorFlow contains a copy of it.
_NEEDS = {"onnx": ("onnxruntime", "tf2onnx", "onnx")}


def require(runtime: str, precision: str = "float32") -> None:
    """Check that a runtime and its precision exist, and that the runtime's extra is installed.

    Raises:
        InputError: the runtime does not exist, or does not have the precision.
        EnvironmentFault: a library is missing; the message names the extra.

    Example:
        >>> require("tensorflow", "int8")
        Traceback (most recent call last):
        ...
        invact.errors.InputError: precision of tensorflow: received 'int8'. Allowed: float32
    """
    if runtime not in RUNTIMES:
        raise one_of("runtime", runtime, RUNTIMES)
    if precision not in RUNTIMES[runtime]:
        raise one_of(f"precision of {runtime}", precision, RUNTIMES[runtime])
    missing = [name for name in _NEEDS.get(runtime, ()) if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvironmentFault(f"{runtime} needs {' and '.join(missing)}: {install(runtime)}")


def convert(
    model: Any,
    runtime: str,
    precision: str = "float32",
    *,
    batch: int | None = None,
    calibration: NDArray[Any] | None = None,
) -> bytes:
    """Convert a built Keras model into an artifact that a runtime can load.

    The artifact for `tensorflow` is a `.keras` archive. It has no fixed batch: its session is compiled for
    each batch size. `int8` is post-training quantisation of weights and activations to 8 bits. Their scales
    come from their values on the calibration images. Inputs and outputs stay float32. The global settings of
    Keras do not change the artifact.

    Args:
        model: a model with one input and one output that computes in float32.
        runtime: a key of `RUNTIMES`.
        precision: a precision of the runtime.
        batch: the number of images that the artifact takes at a time; None allows any number.
        calibration: raw images, (n, *input_shape), for `int8`. A few hundred are enough.

    Raises:
        InputError: an argument is not valid, or the runtime cannot run the model.
        EnvironmentFault: a library is missing; the message names the extra.
    """
    module = _module(runtime, precision)
    if batch is not None and batch < 1:
        raise InputError(f"batch: received {batch}. Allowed: 1 or more, or None for any")
    _check_model(model, runtime)
    images = _checked(calibration, tuple(model.input_shape[1:])) if precision == "int8" else None
    try:
        with same_logging(), keras_settings():
            content: bytes = module.convert(model, batch, images)
    except InvactError:
        raise
    except Exception as error:
        raise InputError(
            f"model {model.name!r}: cannot be converted for {runtime} ({one_line(error)})"
        ) from None
    return content


def load(artifact: bytes, runtime: str, *, threads: int = 1) -> Session:
    """Load an artifact, ready to run. A call of the session does nothing but run the network.

    Only one thread of the caller may use a session at a time. The first call with a new number of images
    takes longer.

    Args:
        artifact: the result of `convert`, of any precision.
        runtime: the runtime that the artifact was converted for.
        threads: number of processor threads. TensorFlow's threads belong to the process and can be set only
            before it has run anything; later values are ignored. Load in a fresh process to be sure.

    Raises:
        InputError: an argument is not valid, or the artifact is damaged. A session raises it for images that
            do not fit.
        EnvironmentFault: a library is missing; the message names the extra.
    """
    module = _module(runtime)
    if threads < 1:
        raise InputError(f"threads: received {threads}. Allowed: 1 or more")
    try:
        run: Session = module.load(artifact, threads)
    except InvactError:
        raise
    except Exception as error:
        raise InputError(f"artifact: {runtime} cannot load it ({one_line(error)})") from None

    def session(images: NDArray[Any]) -> NDArray[np.float32]:
        try:
            return run(images)
        except Exception as error:
            shape = np.shape(images)
            raise InputError(
                f"images: received shape {shape}, which do not fit ({one_line(error)})"
            ) from None

    return session


def preload(runtime: str) -> None:
    """Import a runtime's libraries, so that later measurements do not contain the import.

    Raises:
        InputError: the runtime does not exist.
        EnvironmentFault: a library is missing; the message names the extra.
    """
    _module(runtime).preload()


def _module(runtime: str, precision: str = "float32") -> ModuleType:
    require(runtime, precision)
    return importlib.import_module(f"{__name__}.{runtime}")


def _check_model(model: Any, runtime: str) -> None:
    inputs = getattr(model, "inputs", None) or ()
    if len(inputs) != 1 or len(model.outputs) != 1:
        raise InputError(
            f"model {model.name!r}: received {len(inputs)} inputs. Allowed: one input and one output"
        )
    dtypes = {layer.compute_dtype for layer in model.layers} - {"float32"}
    if dtypes and runtime != "tensorflow":
        raise InputError(
            f"model {model.name!r}: computes in {', '.join(sorted(dtypes))}. Allowed for {runtime}: float32"
        )


def _checked(calibration: NDArray[Any] | None, shape: tuple[int, ...]) -> NDArray[Any]:
    received = None if calibration is None else np.shape(calibration)
    if calibration is None or not received or not received[0] or received[1:] != shape:
        sizes = ", ".join(map(str, shape))
        raise InputError(f"calibration: received {received}. Allowed with int8: images of shape (n, {sizes})")
    return calibration
