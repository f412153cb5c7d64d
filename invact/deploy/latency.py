"""Latency: the time and the peak memory of one inference of a network on this machine.

MACs are not time: an inverse activation adds no MACs, but it reads and writes memory. Networks that are
compared are timed in turns, in one process that is pinned to processors. The ratio of two networks is the
median of the ratios of their turns.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.deploy.stopwatch import Contender, Stopwatch, spare_processors
from invact.errors import InputError
from invact.execution.display.stages import track
from invact.process.processors import processor
from invact.process.quiet import check_backend
from invact.process.spawning import check_script
from invact.text import html_of

if TYPE_CHECKING:
    import keras
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["Latencies", "Latency", "measure_latency", "parse_runtime", "runtime_version"]

PACKAGES = {
    "tensorflow": ("tensorflow",),
    "litert": ("ai-edge-litert", "tensorflow"),
    "onnx": ("onnxruntime",),
}
"""The packages that can run the networks of a runtime. The first one that is installed is used."""


@dataclass(frozen=True)
class Latency:
    """The time and the memory of one network.

    Attributes:
        name: the network's name.
        runtime: the runtime that ran the network, followed by `:int8` if the network is quantised.
        p50_ms: median time of a call, in milliseconds, over all calls.
        p90_ms: 90th percentile of the time of a call, in milliseconds, over all calls.
        ratio: time relative to the first network on the same runtime. In each round, the median of this
            network's turn is divided by the median of the first network's turn; the ratio is the median over
            the rounds. It is 1 for the first network.
        ratio_low: lower quartile of the ratios of the rounds.
        ratio_high: upper quartile of the ratios of the rounds.
        calls: number of calls that were timed.
        peak_bytes: growth of the peak resident memory of a separate process, in bytes, from the loaded
            runtime to the end of a few calls; None if memory was not measured.
    """

    name: str
    runtime: str
    p50_ms: float
    p90_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    calls: int
    peak_bytes: int | None = None


@dataclass(frozen=True)
class Latencies:
    """The latencies of several networks that were timed side by side, and the machine they ran on.

    Attributes:
        rows: one row for each runtime and network.
        batch: number of images in one call.
        threads: number of processor threads.
        processors: numbers of the processors that the process was pinned to; empty if the system cannot pin.
        machine: name of the processor.
        versions: name and version of each runtime's library, by runtime.
    """

    rows: tuple[Latency, ...]
    batch: int
    threads: int
    processors: tuple[int, ...]
    machine: str
    versions: Mapping[str, str]

    def __repr__(self) -> str:
        """Give the median time of each network, and the machine."""
        times = [f"{row.name} ({row.runtime}) {row.p50_ms:.3f} ms" for row in self.rows]
        return f"Latencies({', '.join(times)}; {self.machine})"

    def _repr_html_(self) -> str:
        about = f"{self.machine}, batch {self.batch}, threads {self.threads}"
        return html_of("Latencies", [about], self.to_pandas())

    def to_pandas(self) -> pd.DataFrame:
        """Return a table: one row for each runtime and network, with the fields of `Latency` as columns."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows])


def measure_latency(
    model: keras.Model | Mapping[str, keras.Model],
    batch: int = 1,
    *,
    runtime: str | Sequence[str] = "tensorflow",
    threads: int = 1,
    rounds: int = 30,
    memory: bool = True,
    calibration: NDArray[Any] | None = None,
    imports: Sequence[str] = (),
    show: bool = False,
) -> Latencies:
    """Time the inference of networks, in turns: A B, B A, A B, ...

    A separate process is pinned to as many processors as there are threads. It loads all networks and calls
    each network until it is warm. Then each network has one turn in each round, in rotating order. A turn
    lasts at least ten milliseconds or one call. The result has the median and the 90th percentile of single
    calls, and the ratio to the first network, which is the median of the ratios of the rounds. The ratio
    stays valid if the machine's speed drifts.

    Args:
        model: a built Keras model, or several models by name.
        batch: number of images in one call.
        runtime: `tensorflow`, `litert`, `onnx`, `litert:int8` or `onnx:int8`, or several of them.
        threads: number of processor threads.
        rounds: number of turns of each network.
        memory: whether to measure peak memory too, in a fresh process for each network.
        calibration: images for int8. By default they are random: this lowers accuracy, but not speed.
        imports: modules that register the user's own layers.
        show: whether to show progress on standard error.

    Raises:
        InputError: an argument is not valid, or a runtime cannot run a model.
        EnvironmentFault: a runtime's extra is missing, or the process would run the calling script again, see
            `invact.process.spawning.check_script`; or Keras uses another backend than TensorFlow.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
        >>> found = measure_latency(model, runtime="litert", rounds=3, memory=False)
        >>> [(row.runtime, row.ratio, row.p50_ms <= row.p90_ms) for row in found.rows]
        [('litert', 1.0, True)]
    """
    check_backend()
    check_script()
    import keras

    from invact.deploy.runtimes import convert

    models = {model.name: model} if isinstance(model, keras.Model) else dict(model)
    runtimes = [runtime] if isinstance(runtime, str) else list(runtime)
    check_measurement(runtimes, batch, threads, rounds)
    if not models or not runtimes:
        raise InputError("model, runtime: received none. Allowed: at least one of each")
    shapes = {name: _input_shape(name, one) for name, one in models.items()}
    if len(set(shapes.values())) > 1:
        raise InputError(f"model: received input shapes {shapes}. Allowed: the same shape for all models")
    shape = next(iter(shapes.values()))
    # Random pixels, because a runtime may compute zeros faster; a fixed seed, so that all calls are equal.
    pixels = np.random.default_rng(0).integers(0, 256, (max(batch, 32), *shape)).astype(np.float32)
    images = pixels[:batch]
    scale = pixels if calibration is None else calibration
    contenders: dict[tuple[str, str], Contender] = {}
    for each, name in track(list(itertools.product(runtimes, models)), "converting", show=show):
        kind, precision = parse_runtime(each)
        artifact = convert(models[name], kind, precision, batch=batch, calibration=scale)
        contenders[each, name] = Contender(kind, artifact)
    with Stopwatch(threads, imports) as stopwatch:
        times = dict(zip(contenders, stopwatch.race(list(contenders.values()), images, rounds), strict=True))
    peaks = {}
    if memory:
        for pair in track(list(contenders), "memory", show=show):
            with Stopwatch(threads, imports) as fresh:
                peaks[pair] = fresh.peak_bytes(contenders[pair], images)
    first = next(iter(models))
    return Latencies(
        rows=tuple(
            _latency(name, each, taken, times[each, first], peaks.get((each, name)))
            for (each, name), taken in times.items()
        ),
        batch=batch,
        threads=threads,
        processors=stopwatch.processors,
        machine=processor(),
        versions={kind: runtime_version(kind) for kind, _ in map(parse_runtime, runtimes)},
    )


def _input_shape(name: str, model: keras.Model) -> tuple[int, ...]:
    inputs: Any = getattr(model, "inputs", None) or ()
    if len(inputs) != 1:
        received = (
            f"{len(inputs)} inputs" if inputs else "a model that is not built, or is not made of layers"
        )
        raise InputError(f"model {name!r}: received {received}. Allowed: a built model with one input")
    shape = tuple(inputs[0].shape[1:])
    if None in shape:
        raise InputError(f"model {name!r}: received {shape}. Allowed: an input without open dimensions")
    return shape


def ratios(times: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide each round's median by the reference's median of the same round; shape (rounds,).

    Example:
        >>> ratios(np.array([[2.0, 4.0], [3.0, 3.0]]), np.array([[2.0], [3.0]])).tolist()
        [1.5, 1.0]
    """
    quotient: NDArray[np.float64] = np.median(times, axis=1) / np.median(reference, axis=1)
    return quotient


def _latency(
    name: str,
    runtime: str,
    times: NDArray[np.float64],
    reference: NDArray[np.float64],
    peak_bytes: int | None,
) -> Latency:
    low, middle, high = np.quantile(ratios(times, reference), [0.25, 0.5, 0.75])
    p50, p90 = np.quantile(times, [0.5, 0.9])
    return Latency(
        name,
        runtime,
        float(p50),
        float(p90),
        float(middle),
        float(low),
        float(high),
        times.size,
        peak_bytes,
    )


def check_measurement(runtimes: Iterable[str], batch: int = 1, threads: int = 1, rounds: int = 30) -> None:
    """Check the arguments of `measure_latency` that need no network, without loading a runtime.

    Raises:
        InputError: an argument is not valid.
        EnvironmentFault: a runtime's extra is missing.

    Example:
        >>> check_measurement(["litert"], batch=0)
        Traceback (most recent call last):
        ...
        invact.errors.InputError: batch: received 0. Allowed: 1 or more
    """
    from invact.deploy.runtimes import require

    for key, value in {"batch": batch, "rounds": rounds}.items():
        if value < 1:
            raise InputError(f"{key}: received {value}. Allowed: 1 or more")
    for each in runtimes:
        require(*parse_runtime(each))
    spare_processors(threads)


def parse_runtime(text: str) -> tuple[str, str]:
    """Split a text into the runtime and the precision that it names.

    Example:
        >>> parse_runtime("litert:int8"), parse_runtime("onnx")
        (('litert', 'int8'), ('onnx', 'float32'))
    """
    kind, _, precision = text.partition(":")
    return kind, precision or "float32"


def runtime_version(kind: str) -> str:
    """Return the name and version of the library that runs a runtime's networks, without loading it.

    Example:
        >>> runtime_version("tensorflow").startswith("tensorflow 2.")
        True
    """
    for package in PACKAGES[kind]:
        try:
            return f"{package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            continue
    return f"{PACKAGES[kind][-1]} of unknown version"
