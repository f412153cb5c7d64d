"""The check that a model returns logits, and not what a softmax or a sigmoid makes of them."""

from __future__ import annotations

from typing import Any

from invact.cost.composites import followed
from invact.cost.graph import graph_of, producer
from invact.cost.operations import VIEWS
from invact.cost.trace import list_calls
from invact.errors import InputError

__all__ = ["probabilities"]

_KINDS = {
    "HardSigmoid": "hard_sigmoid",
    "Sigmoid": "sigmoid",
    "Softmax": "softmax",
    "SparseSigmoid": "sparse_sigmoid",
    "Sparsemax": "sparsemax",
}
"""The classes of Keras that turn logits into probabilities, each with the name of its function."""


def probabilities(model: Any) -> str | None:
    """Return the name of the function that turns the logits of a model into probabilities, if one does.

    The function may be a layer, the activation of a layer or an operation of `keras.ops`, also in a nested
    model or in a layer made of layers. A `log_softmax` is allowed, because its softmax is that of the logits.

    Args:
        model: a built model with one output.

    Returns:
        For example `softmax`; None if the model returns logits.

    Example:
        >>> import keras
        >>> inputs = keras.Input((3,))
        >>> probabilities(keras.Model(inputs, keras.ops.softmax(keras.layers.Dense(2)(inputs))))
        'softmax'
        >>> probabilities(keras.Model(inputs, keras.layers.Dense(2)(inputs)))
    """
    return _kind(_last(model))


def _last(model: Any) -> Any:
    """Return the last operation that computes the output of a model; None if it cannot be found."""
    graph = graph_of(model)
    call = producer(graph.outputs[0], ()) if graph is not None else None
    while call is not None and _passes(call[0].operation):
        call = producer(call[0].input_tensors[0], call[1])
    if call is not None and graph_of(call[0].operation) is None and followed(call[0].operation) is None:
        return call[0].operation
    try:
        program = list_calls(model)
    except InputError:
        return None
    made_by = {id(tensor): made for made in program.calls for tensor in made.outputs}
    made = made_by.get(id(program.outputs[0]))
    while made is not None and _passes(made.operation) and made.inputs:
        made = made_by.get(id(made.inputs[0]))
    return None if made is None else made.operation


def _passes(operation: Any) -> bool:
    """Tell whether an operation returns the values of its input in inference."""
    import keras

    kl = keras.layers
    if isinstance(operation, kl.Activation):
        return operation.activation is keras.activations.linear
    if isinstance(operation, keras.Layer):
        return isinstance(operation, (kl.Dropout, kl.Flatten, kl.Identity, kl.Reshape))
    return type(operation).__name__ in {"Cast", "Identity", *VIEWS}


def _kind(operation: Any) -> str | None:
    import keras

    activation = getattr(operation, "activation", None)
    if isinstance(activation, keras.Layer):
        return _kind(activation)
    if activation is not None:
        name = getattr(activation, "__name__", "")
        known = name in _KINDS.values() and activation.__module__.startswith("keras.")
        return name if known else None
    known = type(operation).__module__.startswith("keras.")
    return _KINDS.get(type(operation).__name__) if known else None
