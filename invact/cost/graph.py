"""The graph of a Keras model: its calls in order, and which call made a tensor."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import keras

__all__ = ["Node", "Scope", "graph_of", "name_of", "nodes_in", "producer"]

Scope: TypeAlias = tuple[Any, ...]
"""The calls of the nested models around a node of Keras' graph, the outermost first."""

Node: TypeAlias = tuple[Any, Scope]
"""A node of Keras' graph, which is one call of a layer, and its scope."""


def graph_of(operation: Any) -> Any:
    """The graph that a model or a keras.Function runs; None for anything else, an overridden `call` too."""
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
    """Yield every call of the model and of the models nested in it, from input to output."""
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            inner = graph_of(node.operation)
            if inner is not None:
                yield from nodes_in(inner, (*scope, node))
            elif not node.is_input:
                yield node, scope


def name_of(call: Node) -> str:
    """Name a call: its layer, behind the names of the models that it is nested in."""
    node, scope = call
    return "/".join(outer.operation.name for outer in (*scope, node))


def producer(tensor: keras.KerasTensor, scope: Scope) -> Node | None:
    """Find the call that made a tensor, through the borders of nested models; None for the model's input."""
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
    """List what a nested model was called with, in the order of its inputs."""
    arguments = caller.arguments
    import keras

    first = arguments.args[0] if arguments.args else arguments.kwargs["inputs"]
    if isinstance(first, dict) and all(other.name in first for other in inputs):
        return [first[other.name] for other in inputs]
    return list(keras.tree.flatten(first))
