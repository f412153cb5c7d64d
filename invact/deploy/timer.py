"""The timer: it measures the latency of a configuration's network once on a machine, and stores it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field

from invact._version import __version__
from invact.config import Config, digest
from invact.deploy.latency import parse_runtime, ratios, runtime_version
from invact.deploy.runtimes import convert, require
from invact.deploy.stopwatch import Contender, Stopwatch
from invact.errors import EnvironmentFault, InputError, within
from invact.files import cache_folder, write_atomically
from invact.networks.widths import network_cost, network_key
from invact.process.processors import processor
from invact.tracking.backend.lock import exclusive
from invact.tracking.provenance import environment
from invact.validation import Frozen

if TYPE_CHECKING:
    from invact.data.dataset import Dataset

__all__ = ["Timer", "Timing"]

ROUNDS = 20
"""Number of turns of a network and of the reference."""

CALIBRATION = 100
"""Number of training images that set the scales of an int8 network."""


def _runtime(name: str) -> str:
    try:
        require(*parse_runtime(name))
    except InputError as error:
        raise ValueError(str(error).partition(": ")[2]) from None
    except EnvironmentFault:
        pass  # A file must be readable without the extra; `Timer` reports it when it is needed.
    return name


class Timing(Frozen):
    """How networks are timed in a sweep.

    Attributes:
        runtime: `tensorflow`, `litert`, `onnx`, `litert:int8` or `onnx:int8`.
        batch: number of images in one inference.
        threads: number of processor threads of one inference.

    Example:
        >>> Timing(runtime="litert").batch
        1
    """

    runtime: Annotated[str, AfterValidator(_runtime)] = "tensorflow"
    batch: Annotated[int, Field(strict=True, ge=1, le=4096)] = 1
    threads: Annotated[int, Field(strict=True, ge=1, le=1024)] = 1


class Timer:
    """A context manager that times networks for one data set, each network once on a machine.

    Every network runs in turns with one reference, the network of `Config()`. The latency of a network is the
    latency of the reference, as measured first on this machine, times the median ratio of their turns. So
    latencies are comparable even if they were measured at different times and beside other work. They are
    stored in `latency.json`, by processor, runtime, version, batch, threads, network and the environment
    variables that choose how TensorFlow computes. The file is in the folder `$INVACT_CACHE`, by default
    `~/.cache/invact`.

    Args:
        timing: how networks are timed.
        data: the data set, for the shape of the images and for the images that set the scales of int8.
        imports: modules that register the user's own arms.

    Raises:
        InputError: there are more threads than processors.
        EnvironmentFault: the runtime's extra is missing, or the file is damaged.
    """

    def __init__(self, timing: Timing, data: Dataset, imports: tuple[str, ...] = ()) -> None:
        self._kind, self._precision = parse_runtime(timing.runtime)
        require(self._kind, self._precision)
        self._timing = timing
        self._data = data
        self._stopwatch = Stopwatch(timing.threads, imports)
        images = np.resize(data.x_train, (timing.batch, *data.x_train.shape[1:]))
        self._images = images.astype(np.float32)
        self._known: dict[str, float] = {}
        self._path = cache_folder() / "latency.json"
        self._setting = [
            *(processor(), runtime_version(self._kind), __version__),
            *(timing.runtime, timing.batch, timing.threads),
            # Without such a variable, the key is that of the versions before it was recorded.
            *([variables] if (variables := environment()) else []),
        ]
        self._reference: Contender | None = None

    def __enter__(self) -> Timer:
        with self._shared():
            pass
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopwatch.__exit__(kind, error, trace)

    @property
    def processors(self) -> tuple[int, ...]:
        """The processors that must stay free of other work."""
        return self._stopwatch.processors

    @property
    def place(self) -> str:
        """A description of the machine and the runtime that time the networks."""
        timing, version = self._timing, runtime_version(self._kind)
        return f"{processor()}, {timing.threads} threads, {version}, {timing.runtime}, batch {timing.batch}"

    def latency_ms(self, config: Config) -> float:
        """Return the time of one inference of a configuration's network, in milliseconds.

        The network is timed if the file does not contain its latency.

        Raises:
            InputError: the runtime cannot run the network.
            EnvironmentFault: the process of the stopwatch died, or the file cannot be written.
        """
        key = self._key(config)
        if key not in self._known:
            self._measure(key, config)
        return self._known[key]

    def _measure(self, key: str, config: Config) -> None:
        reference = Config()
        self._reference = self._reference or self._contender(reference)
        with within(f"latency of {config.model!r}"):
            contender = self._contender(config)
        standard, times = self._stopwatch.race([self._reference, contender], self._images, ROUNDS)
        with self._shared() as known:
            anchor = known.setdefault(self._key(reference), float(np.median(standard)))
            known.setdefault(key, anchor * float(np.median(ratios(times, standard))))

    def _contender(self, config: Config) -> Contender:
        from invact.networks.build import build_model
        from invact.seeding import keras_draws

        data = self._data
        with keras_draws(0):  # The weights of the next model must not depend on which networks were timed.
            model = build_model(config, data.input_shape, data.classes, data.pixel_range)
        scale = data.x_train[:CALIBRATION] if self._precision == "int8" else None
        artifact = convert(model, self._kind, self._precision, batch=self._timing.batch, calibration=scale)
        # The module of a user's builder may register layers.
        module, colon, _ = config.model.partition(":")
        return Contender(self._kind, artifact, (module,) if colon else ())

    def _key(self, config: Config) -> str:
        shape, classes = self._data.input_shape, self._data.classes
        # The costs are part of the key, because a user's own model may change without a new name.
        counted = network_cost(config, shape, classes).counted
        return digest([*self._setting, network_key(config, shape, classes), counted])

    @contextlib.contextmanager
    def _shared(self) -> Iterator[dict[str, float]]:
        """Yield the latencies that all processes of this machine measured; write additions to the file."""
        with exclusive(self._path.with_suffix(".lock"), f"the reading of {self._path}", timeout=60):
            known = _read(self._path)
            before = len(known)
            yield known
            if len(known) > before:
                write_atomically(self._path, json.dumps(known, indent=0).encode())
        self._known = known


def _read(path: Path) -> dict[str, float]:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, float) for value in found.values()):
        raise EnvironmentFault(
            f"{path}: not a file of latencies. Allowed: remove it; the latencies are measured again"
        )
    return found
