"""The list of all calls that a model makes in inference, with the shapes for a batch of one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from invact.cost.composites import followed
from invact.cost.graph import graph_of
from invact.cost.rules import Shape
from invact.cost.symbolic import (
    exact_spec,
    is_open,
    is_symbolic,
    left_as_found,
    model_arguments,
    nodes_of,
    symbolic_leaves,
)
from invact.errors import InputError, one_line

if TYPE_CHECKING:
    import keras

__all__ = ["Call", "Program", "list_calls"]


@dataclass(frozen=True)
class Call:
    """One call of a layer, or of an operation of `keras.ops`.

    Attributes:
        name: name of the layer; the names of the models and layers that contain it come first, with slashes.
        operation: the layer or operation.
        inputs: the symbolic tensors that the call reads; a tensor is the same object in all calls.
        outputs: the symbolic tensors that the call writes.
        operands: the shapes of all arguments of the call, including constants and weights.
        arguments: the positional and the keyword arguments of the call.
    """

    name: str
    operation: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    operands: tuple[Shape, ...]
    arguments: tuple[Any, Any] = ((), {})


@dataclass(frozen=True)
class Program:
    """A model as a sequence of calls, from its inputs to its outputs."""

    inputs: tuple[Any, ...]
    calls: tuple[Call, ...]
    outputs: tuple[Any, ...]


def list_calls(model: keras.Model, input_shape: Sequence[Any] | None = None) -> Program:
    """List the calls that a built model makes for a batch of one.

    The calls of a functional model are listed in the order in which Keras runs them; a nested model is
    replaced by its own calls. A layer made of layers (a subclassed model, an attention layer, a wrapper) is
    followed: its `call` runs on symbolic tensors, so it must be written with layers and `keras.ops`. Shapes
    are inferred again for each call, because the calls of a shared layer can have different shapes.

    Args:
        model: a built model; functional, sequential or subclassed.
        input_shape: needed if the model has open dimensions: the shape of the input without the batch, or
            a list of such shapes with one for each input.

    Raises:
        InputError: the model is not a built model; a dimension is open or depends on values; the shapes do
            not fit; or a layer made of layers cannot be followed.

    Example:
        >>> import keras
        >>> inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="dense")], name="inner")
        >>> program = list_calls(keras.Sequential([keras.Input((4,)), inner, keras.layers.ReLU(name="act")]))
        >>> [(call.name, call.outputs[0].shape) for call in program.calls]
        [('inner/dense', (1, 3)), ('act', (1, 3))]
    """
    import keras

    if not isinstance(model, keras.Model | keras.Function):
        raise InputError(f"model: received {type(model).__name__}. Allowed: a Keras model")
    if isinstance(model, keras.Model) and not model.built:
        raise InputError(
            f"model {model.name!r}: not built, so its shapes are unknown. Allowed: start it with "
            "keras.Input, build it, or call it on data once"
        )
    arguments = model_arguments(model, input_shape)
    walk = _Walk()
    if graph_of(model) is None and followed(model) is None:
        outputs = walk.visit(model, arguments, {}, model.name)
    else:
        outputs = walk.enter(model, arguments, {}, "")
    tensors = tuple(leaf for leaf in keras.tree.flatten(arguments) if is_symbolic(leaf))
    return Program(tensors, tuple(walk.calls), tuple(symbolic_leaves(outputs)))


class _Walk:
    """A walk through a model that collects its calls in `calls`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def visit(self, operation: Any, args: Any, kwargs: Any, name: str) -> Any:
        """Add one call, or the calls inside it, and return its outputs."""
        if graph_of(operation) is not None or followed(operation) is not None:
            return self.enter(operation, args, kwargs, f"{name}/")
        try:
            outputs = exact_spec(operation, *args, **kwargs)
        except (ValueError, TypeError) as error:
            raise InputError(f"layer {name!r}: {_reason(error)}") from None
        shapes = [tuple(tensor.shape) for tensor in symbolic_leaves(outputs)]
        if is_open(shapes):
            raise InputError(
                f"layer {name!r}: cannot be counted, because its output shape {shapes} depends on the values "
                "of its inputs"
            )
        inputs = tuple(symbolic_leaves((args, kwargs)))
        self.calls.append(
            Call(
                *(name, operation, inputs, tuple(symbolic_leaves(outputs))),
                *(_operands(args, kwargs), (args, kwargs)),
            )
        )
        return outputs

    def enter(self, operation: Any, args: Any, kwargs: Any, prefix: str) -> Any:
        """Add all calls inside a model or a layer made of layers, and return its outputs."""
        graph = graph_of(operation)
        if graph is not None:
            first = args[0] if args else next(iter(kwargs.values()))
            return self._run_graph(graph, first, prefix)
        return self._follow(operation, followed(operation), args, kwargs, prefix)

    def _run_graph(self, graph: Any, inputs: Any, prefix: str) -> Any:
        import keras

        if isinstance(inputs, dict) and not isinstance(graph._inputs_struct, dict):
            inputs = [inputs[tensor.name] for tensor in graph.inputs]
        values = {id(x): y for x, y in zip(graph.inputs, keras.tree.flatten(inputs), strict=True)}
        # These names are private in Keras; the dependency `keras>=3.15,<3.16` keeps them stable.
        depths = sorted(graph._nodes_by_depth, reverse=True)
        nodes = [node for depth in depths for node in graph._nodes_by_depth[depth]]
        self._run(nodes, values, lambda node: prefix + node.operation.name)
        return keras.tree.pack_sequence_as(graph._outputs_struct, [values[id(x)] for x in graph.outputs])

    def _follow(self, operation: Any, call: Any, args: Any, kwargs: Any, prefix: str) -> Any:
        import keras

        originals = symbolic_leaves((args, kwargs))
        args, kwargs = keras.tree.map_structure(
            lambda leaf: keras.KerasTensor(leaf.shape, leaf.dtype) if is_symbolic(leaf) else leaf,
            (args, kwargs),
        )
        values = {id(x): y for x, y in zip(symbolic_leaves((args, kwargs)), originals, strict=True)}
        layers = operation._flatten_layers() if isinstance(operation, keras.Layer) else []
        weights = len(getattr(operation, "weights", ()))
        if getattr(operation, "_call_has_training_arg", False):
            kwargs = {"training": False} | kwargs
        with left_as_found(layers):
            try:
                outputs = call(*args, **kwargs)
            except InputError:
                raise
            except Exception as error:  # the code of a user can raise any error
                raise _opaque(operation, prefix, _reason(error)) from None
            nodes = nodes_of(outputs)
        if len(getattr(operation, "weights", ())) != weights:
            raise _opaque(operation, prefix, "some of its parts are not built; call the model on data once")
        counts: dict[str, int] = {}

        def name(node: Any) -> str:
            if isinstance(node.operation, keras.Layer):
                return f"{prefix}{node.operation.name}"
            # Keras numbers its operations across the whole process, so the name that it gives depends on
            # models that were built earlier.
            kind = type(node.operation).__name__.lower()
            counts[kind] = counts.get(kind, 0) + 1
            return f"{prefix}{kind}" + (f"_{counts[kind] - 1}" if counts[kind] > 1 else "")

        self._run(nodes, values, name)
        return keras.tree.map_structure(
            lambda leaf: values.get(id(leaf), leaf) if is_symbolic(leaf) else leaf, outputs
        )

    def _run(self, nodes: Sequence[Any], values: dict[int, Any], name: Callable[[Any], str]) -> None:
        import keras

        for node in nodes:
            if node.is_input or any(id(tensor) not in values for tensor in node.input_tensors):
                continue
            args, kwargs = node.arguments.fill_in(values)
            outputs = keras.tree.flatten(self.visit(node.operation, args, kwargs, name(node)))
            values.update((id(x), y) for x, y in zip(node.outputs, outputs, strict=True))


def _opaque(operation: Any, prefix: str, reason: str) -> InputError:
    name, kind = prefix.rstrip("/") or operation.name, type(operation).__name__
    return InputError(
        f"layer {name!r}: the call of {kind} cannot be followed ({reason}). Allowed: a call that uses only "
        f"layers and keras.ops, or a rule that is registered with invact.register_macs({kind}, rule)"
    )


def _operands(args: Any, kwargs: Mapping[str, Any]) -> tuple[Shape, ...]:
    """Return the shapes of all arguments in order: tensors, arrays, variables and numbers."""
    import keras

    leaves = keras.tree.flatten((args, tuple(kwargs.values())))
    return tuple(tuple(getattr(leaf, "shape", ())) for leaf in leaves if leaf is not None)


def _reason(error: Exception) -> str:
    """Return the first line of an error. Keras wraps errors and prints the original message in bold."""
    text = str(error).strip()
    bold = re.search(r"\x1b\[1m(.*?)\x1b\[0m", text, re.DOTALL)
    first = (bold[1] if bold else text).strip().partition("\n")[0]
    return one_line(ValueError(first)).removeprefix("ValueError: ")
