"""The calls that a model makes in inference, one by one, with the shapes of a batch of one."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from invact.errors import InputError, one_line
from invact.macs import Shape, rule_of

if TYPE_CHECKING:
    import keras

__all__ = ["Call", "Program", "list_calls"]


@dataclass(frozen=True)
class Call:
    """One call of a layer, or of an operation of `keras.ops`.

    Attributes:
        name: the layer's name, behind the names of what it is nested in and slashes.
        operation: the layer or operation.
        inputs: the symbolic tensors that it reads; a tensor is the same object wherever it is used.
        outputs: the symbolic tensors that it writes.
        operands: the shapes of all that it computes with, constants and weights passed to it included.
    """

    name: str
    operation: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    operands: tuple[Shape, ...]


@dataclass(frozen=True)
class Program:
    """A model as a straight line of calls, from its inputs to its outputs."""

    inputs: tuple[Any, ...]
    calls: tuple[Call, ...]
    outputs: tuple[Any, ...]


def list_calls(model: keras.Model, input_shape: Sequence[Any] | None = None) -> Program:
    """List the calls that a built model makes for a batch of one.

    The graph of a functional model is walked in the order in which Keras runs it, and those of the models
    nested in it in their place. A layer made of layers (a subclassed model, an attention layer, a wrapper)
    is followed: its `call` runs on symbolic tensors, which needs it to be written with layers and
    `keras.ops`. Shapes are inferred anew, because a layer that is shared has several.

    Args:
        model: built; functional, sequential or subclassed.
        input_shape: where the model leaves dimensions open: the shape of its input without the batch, or
            a list of such shapes, one for each input.

    Raises:
        InputError: not a built model; a dimension is open, or depends on values; shapes do not fit; a layer
            made of layers cannot be followed.

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
            f"model {model.name!r}: not built, so no shapes to count with. Allowed: start it with "
            "keras.Input, build it, or call it on data once"
        )
    arguments = _arguments(model, input_shape)
    walk = _Walk()
    if _graph(model) is None and _followed(model) is None:
        outputs = walk.visit(model, arguments, {}, model.name)
    else:
        outputs = walk.enter(model, arguments, {}, "")
    tensors = tuple(leaf for leaf in keras.tree.flatten(arguments) if _is_symbolic(leaf))
    return Program(tensors, tuple(walk.calls), tuple(_symbolic(outputs)))


class _Walk:
    """A walk along a model; `calls` is what it has passed."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def visit(self, operation: Any, args: Any, kwargs: Any, name: str) -> Any:
        """Pass one call, and return its outputs."""
        if _graph(operation) is not None or _followed(operation) is not None:
            return self.enter(operation, args, kwargs, f"{name}/")
        try:
            outputs = _exact_spec(operation, *args, **kwargs)
        except (ValueError, TypeError) as error:
            raise InputError(f"layer {name!r}: {_reason(error)}") from None
        shapes = [tuple(tensor.shape) for tensor in _symbolic(outputs)]
        if _open(shapes):
            raise InputError(
                f"layer {name!r}: its shape {shapes} depends on the values of its inputs: cannot count"
            )
        inputs = tuple(_symbolic((args, kwargs)))
        self.calls.append(Call(name, operation, inputs, tuple(_symbolic(outputs)), _operands(args, kwargs)))
        return outputs

    def enter(self, operation: Any, args: Any, kwargs: Any, prefix: str) -> Any:
        """Pass all calls inside of a model or a layer made of layers."""
        graph = _graph(operation)
        if graph is not None:
            first = args[0] if args else next(iter(kwargs.values()))
            return self._run_graph(graph, first, prefix)
        return self._follow(operation, _followed(operation), args, kwargs, prefix)

    def _run_graph(self, graph: Any, inputs: Any, prefix: str) -> Any:
        import keras

        if isinstance(inputs, dict) and not isinstance(graph._inputs_struct, dict):
            inputs = [inputs[tensor.name] for tensor in graph.inputs]
        values = {id(x): y for x, y in zip(graph.inputs, keras.tree.flatten(inputs), strict=True)}
        # Keras pins these names for us: the dependency is `keras>=3.15,<3.16`.
        depths = sorted(graph._nodes_by_depth, reverse=True)
        nodes = [node for depth in depths for node in graph._nodes_by_depth[depth]]
        self._run(nodes, values, lambda node: prefix + node.operation.name)
        return keras.tree.pack_sequence_as(graph._outputs_struct, [values[id(x)] for x in graph.outputs])

    def _follow(self, operation: Any, call: Any, args: Any, kwargs: Any, prefix: str) -> Any:
        import keras

        originals = _symbolic((args, kwargs))
        args, kwargs = keras.tree.map_structure(
            lambda leaf: keras.KerasTensor(leaf.shape, leaf.dtype) if _is_symbolic(leaf) else leaf,
            (args, kwargs),
        )
        values = {id(x): y for x, y in zip(_symbolic((args, kwargs)), originals, strict=True)}
        layers = operation._flatten_layers() if isinstance(operation, keras.Layer) else []
        weights = len(getattr(operation, "weights", ()))
        if getattr(operation, "_call_has_training_arg", False):
            kwargs = {"training": False} | kwargs
        with _left_as_found(layers):
            try:
                outputs = call(*args, **kwargs)
            except InputError:
                raise
            except Exception as error:  # whatever a user's code raises
                raise _opaque(operation, prefix, _reason(error)) from None
            nodes = _nodes(outputs)
        if len(getattr(operation, "weights", ())) != weights:
            raise _opaque(operation, prefix, "parts of it were not built before; call the model on data once")
        counts: dict[str, int] = {}

        def name(node: Any) -> str:
            if isinstance(node.operation, keras.Layer):
                return f"{prefix}{node.operation.name}"
            # Keras numbers its operations throughout the process: such a name says nothing.
            kind = type(node.operation).__name__.lower()
            counts[kind] = counts.get(kind, 0) + 1
            return f"{prefix}{kind}" + (f"_{counts[kind] - 1}" if counts[kind] > 1 else "")

        self._run(nodes, values, name)
        return keras.tree.map_structure(
            lambda leaf: values.get(id(leaf), leaf) if _is_symbolic(leaf) else leaf, outputs
        )

    def _run(self, nodes: Sequence[Any], values: dict[int, Any], name: Callable[[Any], str]) -> None:
        import keras

        for node in nodes:
            if node.is_input or any(id(tensor) not in values for tensor in node.input_tensors):
                continue
            args, kwargs = node.arguments.fill_in(values)
            outputs = keras.tree.flatten(self.visit(node.operation, args, kwargs, name(node)))
            values.update((id(x), y) for x, y in zip(node.outputs, outputs, strict=True))


def _graph(operation: Any) -> Any:
    """The graph that a model or a keras.Function runs; None for anything else."""
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


def _followed(operation: Any) -> Callable[..., Any] | None:
    """What to run instead of a call in order to see the calls inside; None for a call that is one piece."""
    import keras
    from keras import layers as kl

    from invact.layers import ChannelDoubling

    if not isinstance(operation, keras.Layer):
        return _attention if type(operation).__name__ == "DotProductAttention" else None
    if rule_of(operation) or isinstance(operation, ChannelDoubling):
        return None
    call = type(operation).call
    if call is kl.TimeDistributed.call:
        return functools.partial(_time_distributed, operation)
    if call is kl.Bidirectional.call:
        return functools.partial(_bidirectional, operation)
    follow: Callable[..., Any] = operation.call
    weightless = (kl.Lambda.call, kl.MelSpectrogram.call)
    weighted = (kl.Attention.call, kl.SpectralNormalization.call)
    if call in weightless + weighted:
        return follow
    parts = {
        id(weight) for layer in operation._flatten_layers(include_self=False) for weight in layer.weights
    }
    if any(id(weight) not in parts for weight in operation.weights):
        return None  # What it does with its own weights is for a rule to say.
    own = type(operation).__module__.startswith("keras.")
    return follow if parts or not own else None


def _attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
    """What `keras.ops.dot_product_attention` computes; masks and biases leave the shapes."""
    from keras import ops

    heads = query.shape[2]
    if key.shape[2] != heads:
        key, value = (ops.repeat(each, heads // each.shape[2], axis=2) for each in (key, value))
    scores = ops.softmax(ops.einsum("btnh,bsnh->bnts", query, key))
    return ops.einsum("bnts,bsnh->btnh", scores, value)


def _attend(layer: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
    """The products inside an attention layer, whichever kernel Keras may fuse them into."""
    if len(query.shape) != 4:
        return type(layer)._compute_attention(layer, query, key, value, *args, **kwargs)
    # Keras infers the shape of its fused kernel from the query, where the value may be wider.
    return _attention(query, key, value), None


def _time_distributed(layer: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
    """All steps at once: the steps as a batch."""
    from keras import ops

    batch, steps = inputs.shape[:2]
    outputs = layer.layer(ops.reshape(inputs, (batch * steps, *inputs.shape[2:])))
    return ops.reshape(outputs, (batch, steps, *outputs.shape[1:]))


def _bidirectional(
    layer: Any, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = None
) -> Any:
    """Both directions and their merging, whichever kernel Keras may fuse them into."""
    from keras import ops

    half = len(initial_state or ()) // 2
    states = (initial_state[:half], initial_state[half:]) if initial_state else (None, None)
    there, back = (
        each(sequences, initial_state=state) if state else each(sequences)
        for each, state in zip((layer.forward_layer, layer.backward_layer), states, strict=True)
    )
    rest: tuple[Any, ...] = ()
    if layer.return_state:
        rest = (*there[1:], *back[1:])
        there, back = there[0], back[0]
    if layer.return_sequences:
        back = ops.flip(back, axis=1)
    if layer.merge_mode is None:
        return (there, back, *rest)
    merged = {
        "concat": lambda: ops.concatenate([there, back], axis=-1),
        "sum": lambda: there + back,
        "ave": lambda: (there + back) / 2,
        "mul": lambda: there * back,
    }[layer.merge_mode]()
    return (merged, *rest) if rest else merged


def _exact_spec(operation: Any, *args: Any, **kwargs: Any) -> Any:
    import keras

    outputs = type(operation).compute_output_spec(operation, *args, **kwargs)
    if _open([tensor.shape for tensor in _symbolic(outputs)]):
        # EinsumDense remembers the shape it was built with; tracing the call asks its inputs.
        outputs = keras.Operation.compute_output_spec(operation, *args, **kwargs)
    return outputs


@contextlib.contextmanager
def _left_as_found(layers: Sequence[Any]) -> Iterator[None]:
    """Let layers answer symbolic calls with exact shapes, and take away all traces of it in the end."""
    from keras import layers as kl

    before = [(layer, len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in layers]
    attention = (kl.MultiHeadAttention._compute_attention, kl.GroupQueryAttention._compute_attention)
    instead = {"compute_output_spec": _exact_spec, "_compute_attention": _attend}
    patched = [
        (vars(layer), name)
        for layer in layers
        for name in instead
        if name not in vars(layer)
        and (name == "compute_output_spec" or getattr(type(layer), name, None) in attention)
    ]
    for layer in layers:
        # Past __setattr__, where Keras keeps track of layers and weights.
        vars(layer).update(
            (name, functools.partial(instead[name], layer)) for own, name in patched if own is vars(layer)
        )
    try:
        yield
    finally:
        for own, name in patched:
            del own[name]
        for layer, inbound, outbound in before:
            del layer._inbound_nodes[inbound:], layer._outbound_nodes[outbound:]


def _nodes(outputs: Any) -> list[Any]:
    """The nodes that lead to symbolic tensors, each after those that it needs."""
    ordered: dict[int, Any] = {}
    waiting = [_maker(tensor) for tensor in reversed(_symbolic(outputs))]
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


def _arguments(model: Any, input_shape: Sequence[Any] | None) -> tuple[Any, ...]:
    """Symbolic tensors of batch 1 to call a model with."""
    import keras

    several = input_shape is not None and any(isinstance(shape, list | tuple) for shape in input_shape)
    given = None if input_shape is None else [*map(tuple, input_shape)] if several else [tuple(input_shape)]
    if isinstance(model, keras.Function) or getattr(model, "_functional", None) is not None:
        graph = model if isinstance(model, keras.Function) else model._functional
        declared = [tuple(tensor.shape[1:]) for tensor in graph.inputs]
        dtypes = [tensor.dtype for tensor in graph.inputs]
        structure = graph._inputs_struct
    else:
        recorded = dict(model._build_shapes_dict or {})
        structure = recorded.get("input_shape", next(iter(recorded.values()), None))
        if structure is not None:
            structure = keras.tree.map_shape_structure(
                lambda shape: keras.KerasTensor((1, *shape[1:])), structure
            )
        declared = [tuple(tensor.shape[1:]) for tensor in _symbolic(structure)]
        parameters = inspect.signature(model.call).parameters.values()
        needed = sum(
            each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD for each in parameters
        )
        if needed > 1 or not declared:
            # Keras keeps the shape of the first argument only, and without a build not even that.
            if given is None or len(given) < needed:
                raise InputError(
                    f"model {model.name!r}: input_shape: received {input_shape}. Allowed: the shapes of its "
                    f"{needed} arguments"
                )
            if _open(given):
                raise _misfit(model, input_shape, "the call")
            tensors = [keras.KerasTensor((1, *shape)) for shape in given]
            return tuple(tensors) if needed > 1 else (tensors if several else tensors[0],)
        dtypes = [keras.config.floatx()] * len(declared)
        if given is not None and len(given) == len(declared):
            # The shape that it was built with is one of many.
            declared = [(None,) * len(shape) for shape in declared]
    chosen = declared if given is None else given
    fits = len(chosen) == len(declared) and all(
        len(shape) == len(open_shape)
        and all(o in (None, size) for size, o in zip(shape, open_shape, strict=True))
        for shape, open_shape in zip(chosen, declared, strict=True)
    )
    if not fits or _open(chosen):
        raise _misfit(model, input_shape, declared[0] if len(declared) == 1 else declared)
    tensors = [keras.KerasTensor((1, *shape), dtype) for shape, dtype in zip(chosen, dtypes, strict=True)]
    return (keras.tree.pack_sequence_as(structure, tensors),)


def _misfit(model: Any, received: Any, wanted: Any) -> InputError:
    return InputError(
        f"model {model.name!r}: input_shape: received {received}. Allowed: numbers that fit {wanted}"
    )


def _opaque(operation: Any, prefix: str, reason: str) -> InputError:
    name, kind = prefix.rstrip("/") or operation.name, type(operation).__name__
    return InputError(
        f"layer {name!r}: the call of {kind} cannot be followed ({reason}). Allowed: layers and keras.ops in "
        f"it, or a rule: invact.register_macs({kind}, rule)"
    )


def _operands(args: Any, kwargs: Mapping[str, Any]) -> tuple[Shape, ...]:
    """Shapes of the arguments in their order: of tensors, arrays, variables and numbers."""
    import keras

    leaves = keras.tree.flatten((args, tuple(kwargs.values())))
    return tuple(tuple(getattr(leaf, "shape", ())) for leaf in leaves if leaf is not None)


def _is_symbolic(leaf: Any) -> bool:
    import keras

    return isinstance(leaf, keras.KerasTensor)


def _symbolic(structure: Any) -> list[Any]:
    import keras

    return [leaf for leaf in keras.tree.flatten(structure) if _is_symbolic(leaf)]


def _open(shapes: Sequence[Sequence[int | None]]) -> bool:
    return any(size is None for shape in shapes for size in shape)


def _reason(error: Exception) -> str:
    """The first line of an error; of one that Keras has wrapped, what is printed bold."""
    text = str(error).strip()
    bold = re.search(r"\x1b\[1m(.*?)\x1b\[0m", text, re.DOTALL)
    first = (bold[1] if bold else text).strip().partition("\n")[0]
    return one_line(ValueError(first)).removeprefix("ValueError: ")
