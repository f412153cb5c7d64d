"""Functions that read the graph of a Keras model: its calls in order, and the call that produced a tensor."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import keras

__all__ = ["Node", "Scope", "graph_of", "name_of", "nodes_in", "producer"]

Scope: TypeAlias = tuple[Any, ...]
"""The calls of the nested models that contain a node of the Keras graph, the outermost first."""

Node: TypeAlias = tuple[Any, Scope]
"""A node of the Keras graph, which is one call of a layer, together with its scope."""


def graph_of(operation: Any) -> Any:
    """Return the graph that a model or a `keras.Function` runs.

    Returns:
        None for anything else, and for a class that overrides `call`, because it may not run the graph.
    """
    import keras

    if isinstance(operation, keras.Sequential):
        return operation._functional if type(operation).call is keras.Sequential.call else None
    if isinstance(operation, keras.Function):
        known = getattr(type(operation), "call", None) in _graph_calls()
        return operation if known else None
    return None


@functools.cache
def _graph_calls() -> set[Any]:
    import keras
    from keras.src.models.functional import Functional

    return {keras.Function.call, Functional.call}


def nodes_in(graph: Any, scope: Scope = ()) -> Iterator[Node]:
    """Yield every call of a graph and of the models nested in it, from input to output."""
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            inner = graph_of(node.operation)
            if inner is not None:
                yield from nodes_in(inner, (*scope, node))
            elif not node.is_input:
                yield node, scope


def name_of(call: Node) -> str:
    """Return the name of a call: the names of the models that contain it, then its layer's, with slashes."""
    node, scope = call
    return "/".join(outer.operation.name for outer in (*scope, node))


def producer(tensor: keras.KerasTensor, scope: Scope) -> Node | None:
    """Return the call that produced a tensor, also across nested models; None for an input of the model."""
    history = tensor._keras_history
    node = history.operation._inbound_nodes[history.node_index]
    inner = graph_of(node.operation)
    if inner is not None:
        return producer(inner.outputs[history.tensor_index], (*scope, node))
    if not node.is_input:
        return node, scope
    if not scope:
        return None
    caller = scope[-1]
    inputs = graph_of(caller.operation).inputs
    position = next(index for index, other in enumerate(inputs) if other is tensor)
    return producer(_arguments(caller, inputs)[position], scope[:-1])


def _arguments(caller: Any, inputs: list[keras.KerasTensor]) -> list[keras.KerasTensor]:
    """List the tensors that a nested model was called with, in the order of its inputs."""
    arguments = caller.arguments
    import keras

    first = arguments.args[0] if arguments.args else arguments.kwargs["inputs"]
    if isinstance(first, dict) and all(other.name in first for other in inputs):
        return [first[other.name] for other in inputs]
    return list(keras.tree.flatten(first))
