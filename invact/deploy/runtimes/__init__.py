"""What runs a network in inference: TensorFlow, LiteRT and ONNX Runtime, one module each.

Such a module has three functions, that import its libraries only when they are called:

- `preload()` imports what `load` needs;
- `convert(model, batch, calibration) -> bytes`, the artifact; in int8 where there are calibration images;
- `load(artifact, threads) -> Session`.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from invact.errors import EnvironmentFault, InputError, InvactError, one_line, one_of
from invact.quiet import same_logging

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RUNTIMES", "Session", "convert", "load", "preload", "require"]

Session: TypeAlias = "Callable[[NDArray[Any]], NDArray[np.float32]]"
"""Images, (n, *input_shape), raw as the network takes them -> logits, (n, classes)."""

RUNTIMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"tensorflow": ("float32",), "litert": ("float32", "int8"), "onnx": ("float32", "int8")}
)
"""Runtime -> the precisions it can run."""

# LiteRT is in TensorFlow as well, so that it needs no extra.
_NEEDS = {"onnx": ("onnxruntime", "tf2onnx", "onnx")}


def require(runtime: str, precision: str = "float32") -> None:
    """Refuse a runtime or a precision that there is not, and a runtime whose extra is missing.

    Raises:
        InputError: no such runtime, or it has no such precision.
        EnvironmentFault: a library is missing; names the extra.

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
        raise EnvironmentFault(f"{runtime} needs {' and '.join(missing)}: pip install 'invact[{runtime}]'")


def convert(
    model: Any,
    runtime: str,
    precision: str = "float32",
    *,
    batch: int | None = None,
    calibration: NDArray[Any] | None = None,
) -> bytes:
    """Convert a built Keras model into what a runtime loads.

    For `tensorflow` that is a `.keras` archive, which has no batch of its own: its session is compiled for
    each batch that it meets. `int8` is post-training quantisation of weights and activations to 8 bits,
    scaled to what they are on the calibration images; what comes in and goes out stays float32.

    Args:
        model: of one input and one output, computing in float32.
        runtime: one of `RUNTIMES`.
        precision: one of the runtime's.
        batch: how many images the artifact takes at a time; any number unless given.
        calibration: images, (n, *input_shape), raw as the model takes them; for `int8`. Some hundred do.

    Raises:
        InputError: a bad argument, or a model that the runtime cannot run.
        EnvironmentFault: a library is missing; names the extra.
    """
    module = _module(runtime, precision)
    if batch is not None and batch < 1:
        raise InputError(f"batch: received {batch}. Allowed: 1 or more, or None for any")
    _check_model(model, runtime)
    images = _checked(calibration, tuple(model.input_shape[1:])) if precision == "int8" else None
    try:
        with same_logging():
            content: bytes = module.convert(model, batch, images)
    except InvactError:
        raise
    except Exception as error:
        raise InputError(
            f"model {model.name!r}: cannot be converted for {runtime} ({one_line(error)})"
        ) from None
    return content


def load(artifact: bytes, runtime: str, *, threads: int = 1) -> Session:
    """Load an artifact, ready to run: a session spends its time on the network alone.

    A session is made for one thread of the caller. The first call with another number of images than before
    takes longer.

    Args:
        artifact: of `convert`, of any precision.
        runtime: the one that it was converted for.
        threads: processor threads to compute with. TensorFlow's are those of the process, so they can be
            set only before it has run anything, and are left alone after that: to be sure of them, load in
            a fresh process.

    Raises:
        InputError: a bad argument, or the artifact is damaged. A session raises it for images that do not
            fit.
        EnvironmentFault: a library is missing; names the extra.
    """
    module = _module(runtime)
    if threads < 1:
        raise InputError(f"threads: received {threads}. Allowed: 1 or more")
    try:
        run: Session = module.load(artifact, threads)
    except InvactError:
        raise
    except Exception as error:
        raise InputError(f"artifact: not one that {runtime} can load ({one_line(error)})") from None

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
    """Import a runtime's libraries, so that what comes after does not pay for them.

    Raises:
        InputError: no such runtime.
        EnvironmentFault: a library is missing; names the extra.
    """
    _module(runtime).preload()


def _module(runtime: str, precision: str = "float32") -> ModuleType:
    require(runtime, precision)
    return importlib.import_module(f"{__name__}.{runtime}")


def _check_model(model: Any, runtime: str) -> None:
    inputs = getattr(model, "inputs", None) or ()
    if len(inputs) != 1 or len(model.outputs) != 1:
        raise InputError(f"model {model.name!r}: received {len(inputs)} inputs. Allowed: one, and one output")
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
