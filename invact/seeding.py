"""Seeds: independent ones for each purpose of a run, and Keras' own sources of randomness for a block."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
from collections.abc import Iterator

import numpy as np

__all__ = ["derive_seed", "keras_draws", "keras_seed"]


def derive_seed(*parts: str | int) -> int:
    """Derive an independent seed in [0, 2^31) for one purpose from a run's seed.

    Example:
        >>> derive_seed("order", 0) == derive_seed("order", 0)
        True
        >>> derive_seed("order", 0) == derive_seed("order", 1)
        False
    """
    hashed = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(hashed[:4], "big") >> 1


@contextlib.contextmanager
def keras_seed(seed: int) -> Iterator[None]:
    """Let the seed decide all that Keras draws in a block; Python's and NumPy's generators stay as they were.

    Example:
        >>> import keras
        >>> def weight():
        ...     with keras_seed(3):
        ...         return float(keras.initializers.HeNormal()((2, 2))[0, 0])
        >>> weight() == weight()
        True
    """
    import keras

    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    keras.utils.set_random_seed(seed)
    try:
        with keras_draws(seed):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


@contextlib.contextmanager
def keras_draws(seed: int) -> Iterator[None]:
    """Let the seed decide what initialisers and dropout draw in a block, and leave all other state alone.

    Keras takes their seeds from the module `random`, of which other threads draw too, Dask's at any time;
    the same seed would give other weights. In the block it takes them from a generator of its own.
    """
    from keras.src.random import seed_generator

    source = seed_generator.python_random
    seed_generator.python_random = random.Random(seed)
    try:
        yield
    finally:
        seed_generator.python_random = source
