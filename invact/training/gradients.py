"""The gradient functions that TensorFlow registers for one graph each, and never removes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from tensorflow.python.framework import ops
from tensorflow.python.ops import custom_gradient

__all__ = ["released_gradients"]


@contextlib.contextmanager
def released_gradients() -> Iterator[None]:
    """Remove, after the block, the gradient functions that this thread has registered in it.

    When a function with a gradient of its own (`tf.custom_gradient`) is called in a graph, TensorFlow
    registers the gradient under a new name for the life of the process. It keeps the whole graph in memory,
    but it is used only while gradients are derived in this graph. The optimizers of Keras and the inverse
    activation call such functions.

    Two threads must not be in such a block at once.

    Example:
        >>> import keras, tensorflow as tf
        >>> from invact.layers import InverseActivation
        >>> before = len(ops.gradient_registry.list())
        >>> with released_gradients():
        ...     traced = tf.function(InverseActivation()).get_concrete_function(tf.zeros((1, 2)))
        >>> len(ops.gradient_registry.list()) - before
        0
    """
    names: list[str] = []
    generate, thread = custom_gradient.generate_name, threading.get_ident()

    def remembered() -> str:
        name: str = generate()
        if threading.get_ident() == thread:
            names.append(name)
        return name

    custom_gradient.generate_name = remembered
    try:
        yield
    finally:
        custom_gradient.generate_name = generate
        for name in names:
            ops.gradient_registry._registry.pop(name, None)
