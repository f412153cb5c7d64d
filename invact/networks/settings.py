"""The global settings of Keras that invact builds, counts, trains and converts networks with."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["keras_names", "keras_settings"]

FLOATX, EPSILON, DATA_FORMAT = "float32", 1e-7, "channels_last"
"""What Keras itself sets if no file or script says otherwise."""


@dataclass
class _Shared:
    """How many blocks of the process are open, and the settings from before the first of them."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    blocks: int = 0
    before: tuple[Any, ...] = ()


_SHARED = _Shared()


@contextlib.contextmanager
def keras_settings(precision: str = "float32") -> Iterator[None]:
    """Set the global settings of Keras in a block, so that no file and no script changes a network.

    A layer takes `image_data_format`, `floatx`, `epsilon` and the dtype policy from global state when it is
    built, and sometimes when it is called. In the block they are `channels_last`, `float32`, 1e-7 and
    `precision`, whatever `~/.keras/keras.json` and the caller have set. Afterwards they are as before.

    Args:
        precision: the dtype policy. Keras keeps it for each thread.

    Example:
        >>> import keras
        >>> keras.config.set_image_data_format("channels_first")
        >>> with keras_settings():
        ...     keras.config.image_data_format()
        'channels_last'
        >>> keras.config.image_data_format()
        'channels_first'
        >>> keras.config.set_image_data_format("channels_last")
    """
    import keras
    from keras.src.backend.common import global_state

    # Not from `keras.config.dtype_policy`, which chooses a policy if there is none yet.
    policy = global_state.get_global_attribute("dtype_policy")
    _open()
    try:
        keras.config.set_dtype_policy(precision)
        yield
    finally:
        global_state.set_global_attribute("dtype_policy", policy)
        _close()


@contextlib.contextmanager
def keras_names() -> Iterator[None]:
    """Number the layers without a name from the start in a block, whatever was built before it.

    Two networks that are built in two blocks by the same code then have the same names.

    Example:
        >>> import keras
        >>> def name():
        ...     with keras_names():
        ...         return keras.layers.Dense(3).name
        >>> name(), name()
        ('dense', 'dense')
    """
    from keras.src.backend.common import global_state

    counts = global_state.get_global_attribute("object_name_uids")
    global_state.set_global_attribute("object_name_uids", None)
    try:
        yield
    finally:
        global_state.set_global_attribute("object_name_uids", counts)


def _open() -> None:
    import keras

    config = keras.config
    with _SHARED.lock:
        if not _SHARED.blocks:
            _SHARED.before = config.floatx(), config.epsilon(), config.image_data_format()
        _SHARED.blocks += 1
        _set(FLOATX, EPSILON, DATA_FORMAT)


def _close() -> None:
    with _SHARED.lock:
        _SHARED.blocks -= 1
        # These three belong to the process, so the last block of any thread restores them.
        if not _SHARED.blocks:
            _set(*_SHARED.before)


def _set(floatx: str, epsilon: float, data_format: str) -> None:
    import keras

    keras.config.set_floatx(floatx)
    keras.config.set_epsilon(epsilon)
    keras.config.set_image_data_format(data_format)
