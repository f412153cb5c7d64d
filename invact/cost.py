"""What a network costs: MACs, parameters and filters, by layer and in total, from the built model.

The convention, stated once:

- One multiply-add is one MAC, for a batch of one. Padding taps count, the bias does not.
- A transposed convolution costs each input element times its kernel; the zeros between are not worked on.
- Elementwise work (activations, normalisation, merging, pooling, rescaling, padding) is reported apart,
  as the number of output elements, and is no MAC.
- Parameters are all weights of a layer, trainable or not, counted at the first call of a shared layer.
- Filters are the trained output channels of a layer, likewise counted once: `filters` of a convolution,
  `units` of a dense layer, channels times multiplier of a depthwise convolution, both of a separable one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from invact.errors import InputError
from invact.macs import Shape, register_macs, rule_of

if TYPE_CHECKING:
    import keras
    import pandas as pd

__all__ = ["Cost", "LayerCost", "count_macs", "register_macs"]


@dataclass(frozen=True)
class LayerCost:
    """What one call of one layer costs, for a batch of one.

    Attributes:
        name: the layer's name; inside a nested model, after the model's name and a slash.
        kind: the layer's class.
        output_shape: of its first output, without the batch.
        macs: multiply-adds.
        params: weights, 0 at a shared layer's later calls.
        filters: trained output channels, 0 at a shared layer's later calls.
        elementwise: output elements of work that is no multiply-add.
    """

    name: str
    kind: str
    output_shape: Shape
    macs: int
    params: int
    filters: int
    elementwise: int


@dataclass(frozen=True)
class Cost:
    """What a model costs, for a batch of one.

    Attributes:
        layers: one entry for each call of a layer, in the order of computation.

    Example:
        >>> conv = LayerCost("conv", "Conv2D", (8, 8, 4), macs=2304, params=40, filters=4, elementwise=0)
        >>> act = LayerCost("act", "ReLU", (8, 8, 4), macs=0, params=0, filters=0, elementwise=256)
        >>> cost = Cost((conv, act))
        >>> cost.macs, cost.params, cost.filters, cost.elementwise
        (2304, 40, 4, 256)
    """

    layers: tuple[LayerCost, ...]

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return sum(layer.macs for layer in self.layers)

    @property
    def params(self) -> int:
        """Weights, trainable or not."""
        return sum(layer.params for layer in self.layers)

    @property
    def filters(self) -> int:
        """Trained output channels, the classifier's included."""
        return sum(layer.filters for layer in self.layers)

    @property
    def elementwise(self) -> int:
        """Output elements of work that is no multiply-add."""
        return sum(layer.elementwise for layer in self.layers)

    def to_pandas(self) -> pd.DataFrame:
        """Return a table with one row for each call of a layer and the fields of `LayerCost` as columns."""
        import pandas as pd

        return pd.DataFrame(list(self.layers), columns=[field.name for field in fields(LayerCost)])


# Calls of keras.ops that multiply and add outside of any layer. Their names are those of Keras' classes.
_UNCOUNTED_OPERATIONS = {
    "Conv", "ConvTranspose", "Correlate", "DepthwiseConv", "Dot", "DotProductAttention", "Einsum", "FFT",
    "FFT2", "IFFT2", "IRFFT", "ISTFT", "Inner", "Kron", "Matmul", "Outer", "RFFT", "STFT", "SeparableConv",
    "Tensordot", "Vdot",
}  # fmt: skip


def count_macs(model: keras.Model, input_shape: Sequence[Any] | None = None) -> Cost:
    """Count the MACs, parameters and filters of a built model, before any training.

    Every call of a layer counts, in nested models too; the shapes are inferred anew from the model's graph
    for a batch of one, because a layer that is shared has several.

    Args:
        model: a functional or Sequential Keras model.
        input_shape: where the model leaves dimensions open: the shape of its input without the batch, or
            a list of such shapes, one for each input.

    Raises:
        InputError: the model has no graph (not built, or subclassed), an open dimension, a layer with
            weights and without a rule, or a call of `keras.ops` that multiplies and adds.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, padding="same")])
        >>> cost = count_macs(model)
        >>> cost.macs == 8 * 8 * 9 * 4
        True
        >>> cost.params, cost.filters
        (40, 4)
    """
    graph = _graph(model)
    if graph is None:
        raise InputError(
            f"model {getattr(model, 'name', model)!r}: no graph to count. Allowed: a functional model, or a "
            "Sequential one that is built (start it with keras.Input)"
        )
    rows: list[LayerCost] = []
    _visit(graph, _input_tensors(model, graph, input_shape), "", rows, set())
    return Cost(tuple(rows))


def _graph(operation: Any) -> Any:
    """The graph behind a model or a keras.Function; None for anything else."""
    import keras

    if isinstance(operation, keras.Sequential):
        return operation._functional
    return operation if isinstance(operation, keras.Function) else None


def _input_tensors(model: Any, graph: Any, input_shape: Sequence[Any] | None) -> list[Any]:
    import keras

    declared = [tuple(tensor.shape[1:]) for tensor in graph.inputs]
    if input_shape is None:
        given = declared
    elif any(isinstance(shape, list | tuple) for shape in input_shape):
        given = [tuple(shape) for shape in input_shape]
    else:
        given = [tuple(input_shape)]
    fits = len(given) == len(declared) and all(
        len(shape) == len(open_shape)
        and all(o in (None, size) for size, o in zip(shape, open_shape, strict=True))
        for shape, open_shape in zip(given, declared, strict=True)
    )
    if not fits or _open(given):
        wanted = declared[0] if len(declared) == 1 else declared
        raise InputError(
            f"model {model.name!r}: input_shape: received {input_shape}. Allowed: numbers that fit {wanted}"
        )
    return [
        keras.KerasTensor((1, *shape), dtype=tensor.dtype)
        for shape, tensor in zip(given, graph.inputs, strict=True)
    ]


def _visit(graph: Any, tensors: Any, prefix: str, rows: list[LayerCost], seen: set[int]) -> Any:
    """Infer shapes along a graph and append what each call costs; `seen` holds counted weights, by id."""
    import keras

    def counted(operation: Any) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            inner = _graph(operation)
            if inner is not None:
                return _visit(
                    inner, (args or tuple(kwargs.values()))[0], f"{prefix}{operation.name}/", rows, seen
                )
            try:
                outputs = operation.compute_output_spec(*args, **kwargs)
                if _open(_shapes(outputs)):
                    # EinsumDense remembers the shape it was built with; tracing the call asks its inputs.
                    outputs = keras.Operation.compute_output_spec(operation, *args, **kwargs)
            except ValueError as error:
                reason = str(error).splitlines()[0]
                raise InputError(f"layer {prefix + operation.name!r}: {reason}") from None
            rows.append(_call_cost(operation, prefix, _shapes((args, kwargs)), _shapes(outputs), seen))
            return outputs

        return call

    # Keras pins these names for us: the dependency is `keras>=3.15,<3.16`.
    return graph._run_through_graph(tensors, operation_fn=counted)


def _shapes(structure: Any) -> list[Any]:
    import keras

    leaves = keras.tree.flatten(structure)
    return [tuple(leaf.shape) for leaf in leaves if isinstance(leaf, keras.KerasTensor)]


def _open(shapes: Sequence[Sequence[int | None]]) -> bool:
    return any(size is None for shape in shapes for size in shape)


def _call_cost(
    operation: Any, prefix: str, inputs: list[Shape], outputs: list[Shape], seen: set[int]
) -> LayerCost:
    import keras

    name, kind = prefix + operation.name, type(operation).__name__
    if _open(outputs):
        raise InputError(
            f"layer {name!r}: its shape {outputs} depends on the values of its inputs: cannot count"
        )
    elements = sum(math.prod(shape) for shape in outputs)
    if not isinstance(operation, keras.Layer):
        if kind in _UNCOUNTED_OPERATIONS or type(operation).__module__.endswith(".linalg"):
            raise InputError(
                f"operation {name!r}: keras.ops.{kind.lower()} multiplies and adds outside of a layer. "
                "Allowed: a layer (for your own, invact.cost.register_macs)"
            )
        return LayerCost(name, kind, outputs[0][1:], 0, 0, 0, elements)

    weights = {id(weight): math.prod(weight.shape) for weight in operation.weights}
    fresh = {key: size for key, size in weights.items() if key not in seen}
    rule = rule_of(operation)
    if rule is None and weights:
        raise InputError(
            f"layer {name!r}: no rule for the MACs of {kind}, which has weights. "
            f"Allowed: register one with invact.cost.register_macs({kind}, rule)"
        )
    macs = rule[0](operation, inputs, outputs) if rule else 0
    filters = rule[1](operation) if rule and fresh else 0
    seen.update(weights)
    return LayerCost(
        name, kind, outputs[0][1:], macs, sum(fresh.values()), filters,
        elements if _touches(operation, macs) else 0,
    )  # fmt: skip


def _touches(layer: Any, macs: int) -> bool:
    """Whether a call does elementwise work in inference."""
    import keras

    if macs:
        return getattr(layer, "activation", None) not in (None, keras.activations.linear)
    kl = keras.layers
    noise = (kl.Dropout, kl.SpatialDropout1D, kl.SpatialDropout2D, kl.SpatialDropout3D)
    noise_too = (kl.AlphaDropout, kl.GaussianDropout, kl.GaussianNoise)
    free = (kl.Flatten, kl.Reshape, kl.Identity, kl.Embedding)
    return not isinstance(layer, noise + noise_too + free)
