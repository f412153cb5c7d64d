"""What a worker does: it prepares itself once, and then trains one job after the other."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from invact._version import __version__
from invact.data.shared import shared
from invact.errors import EnvironmentFault
from invact.execution.schedule import HELD
from invact.execution.workers.cluster import address
from invact.execution.workers.rungs import reporter
from invact.tracking.provenance import differences, numerics

if TYPE_CHECKING:
    from invact.config import Config
    from invact.data.dataset import Dataset, Source
    from invact.training.loop import Trainer
    from invact.training.results import TrialResult

__all__ = ["Job", "Setting", "prepare", "train_job"]


@dataclass(frozen=True)
class Job:
    """One training for a worker.

    Attributes:
        key: identifies the job among all pending jobs.
        config: the configuration: network and recipe.
        seed: the training seed.
        keep_model: whether to return the trained network.
        rungs: the epochs after which the training waits for `Engine.answer`.
    """

    key: str
    config: Config
    seed: int
    keep_model: bool = False
    rungs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Setting:
    """The settings that a worker needs in addition to a job.

    Attributes:
        source: the data set to load.
        digest: the digest that it must have.
        imports: modules to import; they register the user's own arms or rules.
        topic: the topic to which epochs are sent.
        numerics: what decides last digits on the coordinator, by name.
    """

    source: Source
    digest: str
    imports: tuple[str, ...]
    topic: str
    numerics: Mapping[str, str]


def prepare(setting: Setting) -> str:
    """Load TensorFlow, the user's modules and the data; return the version of invact.

    Raises:
        EnvironmentFault: numbers would differ from those of the coordinator, or the data differ.
    """
    from invact.process.noise import own_imports, own_warnings
    from invact.process.quiet import load_tensorflow

    own_warnings()
    own_imports()
    if found := differences(setting.numerics, numerics()):
        words = (f"{name}: received {here}. Allowed: {there}" for name, (there, here) in found.items())
        raise EnvironmentFault(f"{'; '.join(words)}, as on the coordinator, because it decides last digits")
    load_tensorflow()
    import tensorflow as tf

    # TensorFlow refuses this once it has started; then an earlier sweep on this cluster has already set it.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    for module in setting.imports:
        importlib.import_module(module)
    _load(setting.source, setting.digest)
    return __version__


@functools.lru_cache(maxsize=2)
def _load(source: Source, digest: str) -> Dataset:
    """Return the data, which the coordinator shares if it is on the same machine."""
    if (mapped := shared(source, digest)) is not None:
        return mapped
    data = source.load()
    if data.digest != digest:
        raise EnvironmentFault(
            f"data {data.name!r}: received digest {data.digest} on this worker. "
            f"Allowed: {digest}, the digest on the coordinator"
        )
    return data


def train_job(job: Job, setting: Setting) -> tuple[str, TrialResult]:
    """Train a job; return the address of this worker and the result."""
    prepare(setting)  # for workers that joined after the check of the engine
    trainer = _trainer()
    try:
        result = trainer.train(
            job.config,
            job.seed,
            _load(setting.source, setting.digest),
            on_epoch=reporter(job.key, job.rungs, setting.topic),
            keep_model=job.keep_model,
        )
    except BaseException:
        # The code of a user may have left anything behind.
        import keras

        trainer.clear()
        keras.backend.clear_session()
        raise
    return address(), result


@functools.cache
def _trainer() -> Trainer:
    """Return the trainer of this worker, whose networks the next jobs use."""
    from invact.training.loop import Trainer

    # Modules stay for ever. Without them, a collection takes milliseconds instead of a fifth of a second.
    gc.collect()
    gc.freeze()
    # When it has too many, a trainer drops half of its networks; the schedule counts on the others.
    return Trainer(2 * HELD)
