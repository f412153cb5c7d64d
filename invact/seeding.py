"""Seeds: derive an independent seed for each purpose, and control the randomness of Keras in a block."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
from collections.abc import Iterator

import numpy as np

__all__ = ["derive_seed", "keras_draws", "keras_seed"]


def derive_seed(*parts: str | int) -> int:
    """Derive a seed in [0, 2^31) from the parts, for example from a purpose and the seed of a run.

    Different parts give independent seeds.

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
    """Make all random numbers of Keras in a block depend on the seed alone.

    The global generators of Python and NumPy are restored after the block.

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
    """Make initialisers and dropout in a block depend on the seed alone, without changing any other state.

    Keras takes their seeds from the module `random`. Other threads use that module too, for example those of
    Dask, so the same seed could give different weights. In the block, Keras uses a separate generator.
    """
    from keras.src.random import seed_generator

    source = seed_generator.python_random
    seed_generator.python_random = random.Random(seed)
    try:
        yield
    finally:
        seed_generator.python_random = source
