"""The check that every inverse layer of a model has an input with both signs.

The output of a ReLU has one sign only. Behind it, one half of an inverse activation is always zero: the
channels double, but they carry no more information.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

from invact.cost.axes import axis_written
from invact.cost.graph import Node, Scope, graph_of, name_of, nodes_in, producer
from invact.errors import InputError
from invact.layers import ChannelDoubling

__all__ = ["Doubling", "ModelCheck", "NonLinearInput", "OtherAxis", "check_model"]


_Array: TypeAlias = NDArray[np.float64]

# Layers whose trained weights mix channels or positions. Their output has both signs, unless they have an
# activation.
_MIXING = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Embedding,
    *(
        getattr(keras.layers, name)
        for name in dir(keras.layers)
        if "Conv" in name and not name.startswith("ConvLSTM")
    ),
)

# These layers are treated as affine. Some of them divide by a number that depends on the input, but this
# number is positive, so no sign is lost.
_SCALING = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.RMSNormalization,
    keras.layers.UnitNormalization,
)


# Operations of keras.ops that move no axis.
_ELEMENTWISE = {"Add", "Cast", "Divide", "Multiply", "Negative", "Subtract", "TrueDivide"}


@dataclass(frozen=True)
class Doubling:
    """One call of a layer that doubles its channels.

    Attributes:
        layer: name of the call.
        channels_in: number of channels before the doubling; None if it is open.
        channels_out: number of channels after the doubling; None if it is open.
    """

    layer: str
    channels_in: int | None
    channels_out: int | None

    def __str__(self) -> str:
        return f"{self.layer}: {self.channels_in} -> {self.channels_out} channels"


@dataclass(frozen=True)
class NonLinearInput:
    """A doubling layer whose input may have lost a sign.

    Attributes:
        layer: name of the call of the doubling layer.
        source: name of the non-linear call that feeds it.
    """

    layer: str
    source: str

    def __str__(self) -> str:
        return f"{self.layer}: its input is non-linear already, because of {self.source}"


@dataclass(frozen=True)
class OtherAxis:
    """A doubling layer that doubles another axis than that of the channels.

    Attributes:
        layer: name of the call of the doubling layer.
        axis: the axis that it doubles.
        source: name of the call that makes the channels.
        channels: the axis of these channels.
    """

    layer: str
    axis: int
    source: str
    channels: int

    def __str__(self) -> str:
        made = f"{self.source} makes channels on axis {self.channels}"
        return f"{self.layer}: doubles axis {self.axis}, but {made}"


@dataclass(frozen=True)
class ModelCheck:
    """The result of `check_model`.

    Attributes:
        doubled: one entry for each call of a doubling layer, from input to output.
        problems: one entry for each pair of a doubling layer and a non-linear layer that feeds it, and one
            for each pair of a doubling layer and a layer that makes its channels on another axis.
    """

    doubled: tuple[Doubling, ...]
    problems: tuple[NonLinearInput | OtherAxis, ...]

    def __str__(self) -> str:
        problems = [f"problem: {problem}" for problem in self.problems] or ["no problems"]
        return "\n".join([*map(str, self.doubled or ["no doubling layers"]), *problems])


def check_model(model: keras.Model) -> ModelCheck:
    """Find all doubling layers, those whose input is already non-linear, and those that double a wrong axis.

    The check walks backwards from each doubling layer through the layers that feed it:

    - It stops without a problem at the model's input, and at a layer whose trained weights mix channels or
      positions (a dense layer or a convolution with a linear activation).
    - It continues through other affine layers and through normalisations, to all their inputs.
    - Every other layer is a problem.

    A doubling layer doubles the channels of the dense layer or the convolution that feeds it. If it doubles
    another axis, such as the height, this is a problem too.

    If the class of a layer is not known, the check runs the layer on random numbers: f is affine if
    f(x + y) + f(0) = f(x) + f(y).

    Args:
        model: a built functional or sequential model; nested models are included.

    Raises:
        InputError: the model is not built; the model, or a layer that contains a doubling layer, has no graph
            to follow; a hidden layer doubles its channels in its `activation`, where Keras infers a wrong
            shape; or a layer cannot be run on numbers.

    Example:
        >>> from invact.layers import InverseActivation
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, "relu", name="dense")])
        >>> model.add(InverseActivation(name="inverse"))
        >>> print(check_model(model))
        inverse: 4 -> 8 channels
        problem: inverse: its input is non-linear already, because of dense
    """
    if not isinstance(model, keras.Model):
        raise InputError(f"model: received {type(model).__name__}. Allowed: a Keras model")
    graph = graph_of(model)
    if graph is None:
        raise InputError(_unreachable(model))
    doubled: list[Doubling] = []
    problems: dict[NonLinearInput | OtherAxis, None] = {}
    reached: set[int] = set()
    for call in nodes_in(graph):
        node, scope = call
        doubling = _doubling(node.operation)
        if doubling is None:
            continue
        reached.add(id(doubling))
        name, shape = name_of(call), node.input_tensors[0].shape
        before = [(tensor, scope) for tensor in node.input_tensors]
        if doubling is not node.operation:
            if not isinstance(node.operation, (*_MIXING, keras.layers.Activation)):
                raise InputError(
                    f"layer {name!r}: received activation={doubling.name!r}, which doubles the channels. "
                    "Allowed: this activation as a layer of its own"
                )
            if scope or not any(node.outputs[0] is output for output in graph.outputs):
                raise InputError(
                    f"layer {name!r} doubles its channels in `activation`, but Keras infers its output shape "
                    "without the doubling. Allowed: a layer of its own for the activation"
                )
            shape = node.outputs[0].shape
            before = before if isinstance(node.operation, keras.layers.Activation) else []
        channels = shape[doubling.axis]
        doubled.append(Doubling(name, channels, doubling.compute_output_shape(shape)[doubling.axis]))
        problems |= {NonLinearInput(name, source): None for source in _sources(before)}
        axis = doubling.axis % len(shape)
        problems |= {OtherAxis(name, axis, *made): None for made in _makers(before) if made[1] != axis}
    for layer in model._flatten_layers():
        if isinstance(layer, ChannelDoubling) and id(layer) not in reached:
            raise InputError(f"layer {layer.name!r} is inside a layer whose graph cannot be followed")
    return ModelCheck(tuple(doubled), tuple(problems))


def _unreachable(model: keras.Model) -> str:
    if isinstance(model, keras.Sequential) and not model.built:
        return f"model {model.name!r} is not built. Allowed: start it with keras.Input, or call build"
    kind = type(model).__name__
    return (
        f"model {model.name!r}: received {kind}, which has no graph. Allowed: functional or sequential models"
    )


def _doubling(layer: Any) -> ChannelDoubling | None:
    activation = getattr(layer, "activation", None)
    candidates = (layer, activation)
    return next((item for item in candidates if isinstance(item, ChannelDoubling)), None)


def _sources(tensors: list[tuple[keras.KerasTensor, Scope]]) -> Iterator[str]:
    """Walk backwards from tensors; on each path, yield the name of the first non-linear call."""
    waiting = list(reversed(tensors))
    seen: set[tuple[int, ...]] = set()
    while waiting:
        call = producer(*waiting.pop())
        if call is None or (key := tuple(id(node) for node in (*call[1], call[0]))) in seen:
            continue
        seen.add(key)
        node, scope = call
        if not _is_affine(call):
            yield name_of(call)
        elif not _renews_signs(node):
            waiting += [(tensor, scope) for tensor in reversed(node.input_tensors)]


def _makers(tensors: list[tuple[keras.KerasTensor, Scope]]) -> Iterator[tuple[str, int]]:
    """Walk backwards from tensors; yield each call that makes their channels, and the axis of these."""
    waiting = list(reversed(tensors))
    seen: set[tuple[int, ...]] = set()
    while waiting:
        tensor, scope = waiting.pop()
        call = producer(tensor, scope)
        if call is None or (key := tuple(id(node) for node in (*call[1], call[0]))) in seen:
            continue
        seen.add(key)
        node, inner = call
        if isinstance(node.operation, _MIXING):
            yield name_of(call), axis_written(node.operation, len(tensor.shape))
        elif _keeps_axes(node):
            waiting += [(before, inner) for before in reversed(node.input_tensors)]


def _keeps_axes(node: Any) -> bool:
    """Tell whether each axis of the output of a call is certainly the same axis of its inputs."""
    layer = node.operation
    own = not type(layer).__module__.startswith("keras.")
    if own or isinstance(layer, (keras.layers.Permute, keras.layers.Reshape)):
        return False
    if not isinstance(layer, keras.Layer) and type(layer).__name__ not in _ELEMENTWISE:
        return False
    ranks = {len(tensor.shape) for tensor in (*node.input_tensors, *node.outputs)}
    return len(ranks) == 1


def _is_affine(call: Node) -> bool:
    node, _ = call
    layer = node.operation
    if _doubling(layer) is not None or isinstance(layer, keras.layers.RNN):
        return False
    if isinstance(layer, _SCALING):
        return True
    activation = getattr(layer, "activation", None)
    if isinstance(layer, _MIXING):
        return activation in (None, keras.activations.linear) or _probe_affine(
            lambda x: activation(x[0]), [(1, 64, 64)], layer, name_of(call)
        )
    return _probe_affine(_function(node), _shapes(node), layer, name_of(call))


def _renews_signs(node: Any) -> bool:
    """Tell whether an affine call mixes channels or positions with trained weights."""
    if isinstance(node.operation, _MIXING):
        return True
    if isinstance(node.operation, _SCALING) or not getattr(node.operation, "weights", ()):
        return False
    return _mixes(_function(node), _shapes(node))


def _function(node: Any) -> Callable[[list[Any]], Any]:
    """Return a function that computes the call from values of its input tensors, in inference."""

    def function(values: list[Any]) -> Any:
        named = {id(tensor): value for tensor, value in zip(node.input_tensors, values, strict=True)}
        args, kwargs = node.arguments.fill_in(named)
        if "training" in kwargs:
            kwargs["training"] = False
        return node.operation(*args, **kwargs)

    return function


def _shapes(node: Any) -> list[tuple[int, ...]]:
    # One sample. An open size becomes 16, which is large enough for usual kernels and pools.
    return [
        (tensor.shape[0] or 1, *(size or 16 for size in tensor.shape[1:])) for tensor in node.input_tensors
    ]


def _numbers(function: Callable[[list[Any]], Any], values: list[_Array]) -> _Array:
    outputs = keras.tree.flatten(function([keras.ops.convert_to_tensor(v, "float32") for v in values]))
    arrays = [keras.ops.convert_to_numpy(keras.ops.cast(output, "float32")) for output in outputs]
    return np.concatenate([np.ravel(array).astype(np.float64) for array in arrays])


def _probe_affine(
    function: Callable[[list[Any]], Any], shapes: list[tuple[int, ...]], layer: Any, name: str
) -> bool:
    """Test whether f(x + y) + f(0) = f(x) + f(y) for random x and y of several magnitudes."""
    rng = np.random.default_rng(0)
    # The tolerance allows for the rounding of a sum of a few thousand products in the layer's precision.
    tolerance = 2.0**-4 if str(getattr(layer, "compute_dtype", "")).endswith("16") else 2.0**-12
    try:
        for size in (0.1, 1.0, 1e3):
            x, y = ([size * rng.standard_normal(shape) for shape in shapes] for _ in range(2))
            both = [a + b for a, b in zip(x, y, strict=True)]
            zero = [np.zeros(shape) for shape in shapes]
            terms = [_numbers(function, values) for values in (both, zero, x, y)]
            scale = max(np.abs(term).max(initial=0.0) for term in terms)
            error = np.abs(terms[0] + terms[1] - terms[2] - terms[3]).max(initial=0.0)
            if not error <= tolerance * scale:
                return False
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"layer {name!r}: cannot tell whether it is affine: {reason}") from error
    return True


def _mixes(function: Callable[[list[Any]], Any], shapes: list[tuple[int, ...]]) -> bool:
    """Test whether one output depends both on an input element and on a neighbour of this element."""
    base = _numbers(function, [np.zeros(shape) for shape in shapes])

    def reach(position: tuple[int, ...]) -> Any:
        values = [np.zeros(shape) for shape in shapes]
        values[0][position] = 1.0
        return _numbers(function, values) != base

    centre = tuple(size // 2 for size in shapes[0])
    neighbours = [
        (*centre[:axis], centre[axis] - 1, *centre[axis + 1 :])
        for axis in range(1, len(centre))
        if centre[axis]
    ]
    return any(bool((reach(centre) & reach(other)).any()) for other in neighbours)
