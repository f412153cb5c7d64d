"""Functions for the symbolic tensors of Keras, which have a shape but no numbers, and for calls on them."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from invact.cost.composites import fused_parts
from invact.errors import InputError

__all__ = [
    "exact_spec",
    "is_open",
    "is_symbolic",
    "left_as_found",
    "model_arguments",
    "nodes_of",
    "symbolic_leaves",
]


def exact_spec(operation: Any, *args: Any, **kwargs: Any) -> Any:
    """Infer the outputs of a call; avoid open dimensions where the inputs have none."""
    import keras

    outputs = type(operation).compute_output_spec(operation, *args, **kwargs)
    if is_open([tensor.shape for tensor in symbolic_leaves(outputs)]):
        # EinsumDense uses the shape that it was built with; tracing the call uses the shape of the inputs.
        outputs = keras.Operation.compute_output_spec(operation, *args, **kwargs)
    return outputs


@contextlib.contextmanager
def left_as_found(layers: Sequence[Any]) -> Iterator[None]:
    """Make layers infer exact shapes in symbolic calls in the block, and restore the layers after it."""
    before = [(layer, len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in layers]
    patched = [
        (layer, name, method)
        for layer in layers
        for name, method in {"compute_output_spec": exact_spec, **fused_parts(layer)}.items()
        if name not in vars(layer)
    ]
    for layer, name, method in patched:
        # Writing to vars() avoids __setattr__, with which Keras tracks layers and weights.
        vars(layer)[name] = functools.partial(method, layer)
    try:
        yield
    finally:
        for layer, name, _ in patched:
            del vars(layer)[name]
        for layer, inbound, outbound in before:
            del layer._inbound_nodes[inbound:], layer._outbound_nodes[outbound:]


def nodes_of(outputs: Any) -> list[Any]:
    """List the nodes that symbolic tensors depend on; each node comes after the nodes that it needs."""
    ordered: dict[int, Any] = {}
    waiting = [_maker(tensor) for tensor in reversed(symbolic_leaves(outputs))]
    while waiting:
        node = waiting[-1]
        if node is None or id(node) in ordered:
            waiting.pop()
            continue
        missing = [_maker(tensor) for tensor in node.input_tensors]
        missing = [each for each in missing if each is not None and id(each) not in ordered]
        if missing:
            waiting += reversed(missing)
        else:
            ordered[id(node)] = waiting.pop()
    return list(ordered.values())


def _maker(tensor: Any) -> Any:
    history = getattr(tensor, "_keras_history", None)
    if history is None or history.operation is None:
        return None
    return history.operation._inbound_nodes[history.node_index]


def model_arguments(model: Any, input_shape: Sequence[Any] | None) -> tuple[Any, ...]:
    """Create symbolic tensors with a batch of 1 as the arguments of a model, in the structure that it takes.

    Args:
        model: a built model.
        input_shape: shape of the input without the batch, or a list of such shapes. By default it is the
            shape that the model declares or was built with.

    Raises:
        InputError: a dimension is open, or the shapes do not fit the model.
    """
    import keras

    several = input_shape is not None and any(isinstance(shape, list | tuple) for shape in input_shape)
    given = None if input_shape is None else [*map(tuple, input_shape)] if several else [tuple(input_shape)]
    graph = model if isinstance(model, keras.Function) else getattr(model, "_functional", None)
    if graph is not None:
        structure, declared = graph._inputs_struct, [tuple(each.shape[1:]) for each in graph.inputs]
    else:
        parameters = inspect.signature(model.call).parameters.values()
        needed = sum(
            each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD for each in parameters
        )
        # When Keras builds a model, it keeps the shapes of the first argument only.
        structure = next(iter((model._build_shapes_dict or {}).values()), None) if needed < 2 else None
        if structure is not None:
            structure = keras.tree.map_shape_structure(keras.KerasTensor, structure)
        declared = [tuple(each.shape[1:]) for each in symbolic_leaves(structure)]
        if not declared:
            if given is None or len(given) < needed:
                raise _misfit(model, input_shape, f"the {needed} arguments of its call, a list of shapes")
            structure = [keras.KerasTensor((1, *shape)) for shape in given]
            if needed > 1 and not is_open(given):
                return tuple(structure)
            structure = structure if several else structure[0]
            declared = [(None,) * len(shape) for shape in given]
        elif given is not None and len(given) == len(declared):
            # The model accepts other shapes than the one that it was built with.
            declared = [(None,) * len(shape) for shape in declared]
    chosen = declared if given is None else given
    fits = len(chosen) == len(declared) and all(
        len(shape) == len(open_shape)
        and all(o in (None, size) for size, o in zip(shape, open_shape, strict=True))
        for shape, open_shape in zip(chosen, declared, strict=True)
    )
    if not fits or is_open(chosen):
        raise _misfit(model, input_shape, declared[0] if len(declared) == 1 else declared)
    leaves = symbolic_leaves(structure)
    tensors = [keras.KerasTensor((1, *shape), leaf.dtype) for shape, leaf in zip(chosen, leaves, strict=True)]
    return (keras.tree.pack_sequence_as(structure, tensors),)


def _misfit(model: Any, received: Any, wanted: Any) -> InputError:
    return InputError(
        f"model {model.name!r}: input_shape: received {received}. Allowed: numbers that fit {wanted}"
    )


def is_symbolic(leaf: Any) -> bool:
    """Tell whether a value is a symbolic tensor."""
    import keras

    return isinstance(leaf, keras.KerasTensor)


def symbolic_leaves(structure: Any) -> list[Any]:
    """List the symbolic tensors in nested lists, tuples and dictionaries, in the order that Keras uses."""
    import keras

    return [leaf for leaf in keras.tree.flatten(structure) if is_symbolic(leaf)]


def is_open(shapes: Sequence[Sequence[int | None]]) -> bool:
    """Tell whether any dimension of any shape is unknown.

    Example:
        >>> is_open([(1, 8), (1, None)])
        True
    """
    return any(size is None for shape in shapes for size in shape)
