"""The costs of a built model, for each layer and in total: MACs, weights and memory.

The module `invact.cost.rules` defines MACs, elementwise work and filters. The other costs are:

- Parameters: all weights of a layer, trainable or not. A shared layer counts them at its first call only.
- Bytes written: the size of the outputs of each call, in the dtype of each output. A view (reshape, flatten,
  dropout in inference) writes nothing. Values that a call writes and reads inside itself are not counted.
- Bytes moved: the size of the inputs, weights and outputs of each call, each counted once. This is the
  traffic with memory when no cache holds any of them. A view moves nothing.
- Activation bytes: the size of all tensors that are alive during a call. These are the tensors that are
  written already and are still to be read, and the inputs and outputs of the call
  (`invact.cost.liveness`). Weights and temporary values inside a call are not included.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from invact.cost.equal_channels import relu_macs
from invact.cost.liveness import BufferUse, live_bytes
from invact.cost.operations import OPERATIONS, UNCOUNTED, VIEWS
from invact.cost.rules import Shape, register_macs, rule_of
from invact.cost.trace import Call, Program, list_calls
from invact.errors import InputError
from invact.measures import MEASURES
from invact.text import html_of

if TYPE_CHECKING:
    import keras
    import pandas as pd

__all__ = ["Cost", "LayerCost", "count_macs", "register_macs"]


@dataclass(frozen=True)
class LayerCost:
    """The costs of one call of one layer, for a batch of one.

    Attributes:
        name: name of the layer; in a nested model, the name of the model and a slash come first.
        kind: name of the layer's class.
        output_shape: shape of the first output, without the batch.
        macs: number of multiply-adds.
        params: number of weights; 0 at the later calls of a shared layer.
        filters: number of trained output channels; 0 at the later calls of a shared layer.
        elementwise: number of elements that work other than multiply-adds writes.
        bytes_written: bytes of the outputs.
        bytes_moved: bytes of the inputs, weights and outputs.
        activation_bytes: bytes of all tensors that are alive during the call.
        relu_macs: number of multiply-adds of the call in the ReLU network of equal channels
            (`invact.cost.equal_channels.relu_macs`); None if there is no such network.
    """

    name: str
    kind: str
    output_shape: Shape
    macs: int
    params: int
    filters: int
    elementwise: int
    bytes_written: int = 0
    bytes_moved: int = 0
    activation_bytes: int = 0
    relu_macs: int | None = None


@dataclass(frozen=True)
class Cost:
    """The costs of a model, for a batch of one.

    Attributes:
        layers: one entry for each call of a layer, in the order in which the calls run.

    Example:
        >>> conv = LayerCost("conv", "Conv2D", (8, 8, 4), 2304, 40, 4, 0, 1024, 1440, 1280, relu_macs=4608)
        >>> act = LayerCost("act", "InverseActivation", (8, 8, 8), 0, 0, 0, 512, 2048, 3072, 3072, 0)
        >>> cost = Cost((conv, act))
        >>> cost.macs, cost.params, cost.filters, cost.elementwise
        (2304, 40, 4, 512)
        >>> cost.bytes_written, cost.bytes_moved, cost.activation_bytes, cost.saved
        (3072, 4512, 3072, 0.5)
    """

    layers: tuple[LayerCost, ...]

    def __repr__(self) -> str:
        """Give the totals.

        Example:
            >>> conv = LayerCost("conv", "Conv2D", (8, 8, 4), 2304, 40, 4, 0)
            >>> Cost((conv, conv))
            Cost(4,608 MACs, 80 parameters, 8 filters, 2 layers)
        """
        return f"Cost({self._totals()})"

    def _repr_html_(self) -> str:
        return html_of("Cost", [self._totals()], self.to_pandas())

    def _totals(self) -> str:
        sizes = f"{self.macs:,} MACs, {self.params:,} parameters, {self.filters:,} filters"
        return f"{sizes}, {len(self.layers)} layers"

    @property
    def macs(self) -> int:
        """Number of multiply-adds."""
        return sum(layer.macs for layer in self.layers)

    @property
    def params(self) -> int:
        """Number of weights, trainable or not."""
        return sum(layer.params for layer in self.layers)

    @property
    def filters(self) -> int:
        """Number of trained output channels, including those of the classifier."""
        return sum(layer.filters for layer in self.layers)

    @property
    def elementwise(self) -> int:
        """Number of elements that work other than multiply-adds writes."""
        return sum(layer.elementwise for layer in self.layers)

    @property
    def bytes_written(self) -> int:
        """Bytes of the outputs of all calls."""
        return sum(layer.bytes_written for layer in self.layers)

    @property
    def bytes_moved(self) -> int:
        """Bytes of the inputs, weights and outputs of all calls, as a proxy for memory traffic."""
        return sum(layer.bytes_moved for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """Peak activation memory: the largest number of bytes that are alive during any call."""
        return max((layer.activation_bytes for layer in self.layers), default=0)

    @property
    def counted(self) -> dict[str, int]:
        """The values, by name, of all measures in `invact.measures.MEASURES` that are counted.

        Example:
            >>> Cost(()).counted
            {'macs': 0, 'params': 0, 'activation_bytes': 0, 'bytes_moved': 0}
        """
        return {name: getattr(self, name) for name, measure in MEASURES.items() if measure.counted}

    @property
    def relu_macs(self) -> int | None:
        """Number of multiply-adds of the ReLU network of equal channels; None if there is no such network."""
        macs = [layer.relu_macs for layer in self.layers]
        return None if None in macs else sum(filter(None, macs))

    @property
    def saved(self) -> float | None:
        """Share of multiply-adds saved, relative to the ReLU network of equal channels: 1 - macs / relu_macs.

        None if there is no such network, or if it has no MACs.
        """
        return 1 - self.macs / self.relu_macs if self.relu_macs else None

    def to_pandas(self) -> pd.DataFrame:
        """Return a table with one row for each call of a layer and the fields of `LayerCost` as columns."""
        import pandas as pd

        table = pd.DataFrame(list(self.layers), columns=[field.name for field in fields(LayerCost)])
        return table.astype({"relu_macs": "Int64"})


def count_macs(model: keras.Model, input_shape: Sequence[Any] | None = None) -> Cost:
    """Count the costs of a built model, before any training: MACs, weights and memory of each layer.

    Every call of every layer counts, also in nested models. A layer made of layers is followed into its parts
    (see `invact.cost.trace.list_calls`).

    Args:
        model: a built Keras model; functional, sequential or subclassed.
        input_shape: needed if the model has open dimensions: the shape of the input without the batch, or
            a list of such shapes with one for each input.

    Raises:
        InputError: the model is not built; it has an open dimension; it has a layer with weights but
            without a rule, a layer made of layers that cannot be followed, or a call of `keras.ops` that
            multiplies but has no rule.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, padding="same")])
        >>> cost = count_macs(model)
        >>> cost.macs == 8 * 8 * 9 * 4
        True
        >>> cost.params, cost.filters
        (40, 4)
        >>> cost.activation_bytes == 4 * 8 * 8 * (1 + 4)  # the image and the four maps, in float32
        True
    """
    program = list_calls(model, input_shape)
    counts: list[tuple[int, int]] = [_work(call) for call in program.calls]
    live = _live(program)
    relu: Sequence[int | None] = relu_macs(program, [macs for macs, _ in counts]) or [None] * len(counts)
    rows: list[LayerCost] = []
    seen: set[int] = set()
    for call, (macs, elementwise), alive, wide in zip(program.calls, counts, live, relu, strict=True):
        variables = getattr(call.operation, "weights", ())
        weights = {id(weight): math.prod(weight.shape) for weight in variables}
        written = 0 if _is_view(call.operation) else _bytes(call.outputs)
        fresh = sum(size for key, size in weights.items() if key not in seen)
        rule = rule_of(call.operation) if fresh else None
        seen.update(weights)
        rows.append(
            LayerCost(
                call.name,
                type(call.operation).__name__,
                tuple(call.outputs[0].shape[1:]),
                macs,
                fresh,
                rule.filters(call.operation) if rule else 0,
                elementwise,
                written,
                written + _bytes((*call.inputs, *variables)) if written else 0,
                alive,
                wide,
            )
        )
    rest = {id(weight): weight for weight in getattr(model, "weights", ()) if id(weight) not in seen}
    if rest:
        # These are weights that a layer made of layers has in addition to its parts, and weights of layers
        # that no call reaches.
        size = sum(math.prod(weight.shape) for weight in rest.values())
        rows.append(LayerCost("other weights", type(model).__name__, (), 0, size, 0, 0, relu_macs=0))
    return Cost(tuple(rows))


def _work(call: Call) -> tuple[int, int]:
    """Return the MACs of a call, and the number of elements that its other work writes."""
    import keras

    operation, kind = call.operation, type(call.operation).__name__
    outputs = [tuple(tensor.shape) for tensor in call.outputs]
    inputs = [tuple(tensor.shape) for tensor in call.inputs]
    elements = 0 if _is_view(operation) else sum(map(math.prod, outputs))
    if not isinstance(operation, keras.Layer):
        if kind in UNCOUNTED or type(operation).__module__.endswith(".linalg"):
            raise InputError(
                f"operation {call.name!r}: no rule for the MACs of {kind} in keras.ops. Allowed: put it in a "
                "layer of your own, and register a rule for that layer with invact.register_macs"
            )
        count = OPERATIONS.get(kind)
        macs = count(operation, call.operands, outputs) if count else 0
        return macs, 0 if macs else elements
    rule = rule_of(operation)
    if rule is not None:
        return rule.macs(operation, inputs, outputs), rule.elementwise(operation, inputs, outputs)
    if operation.weights:
        raise InputError(
            f"layer {call.name!r}: no rule for the MACs of {kind}, which has weights. "
            f"Allowed: register a rule with invact.register_macs({kind}, rule)"
        )
    return 0, elements


def _live(program: Program) -> list[int]:
    """Return the bytes that are alive during each call; a view shares the buffer of its input."""
    buffers: dict[int, Hashable] = {}

    def names(tensors: Sequence[Any]) -> list[Hashable]:
        return [buffers.setdefault(id(tensor), id(tensor)) for tensor in tensors]

    steps = []
    for call in program.calls:
        reads = names(call.inputs)
        if _is_view(call.operation) and call.inputs:
            buffers[id(call.outputs[0])] = reads[0]
        writes = names(call.outputs)
        sizes = {name: _bytes([tensor]) for name, tensor in zip(writes, call.outputs, strict=True)}
        steps.append(BufferUse(frozenset(reads), sizes))
    inputs: dict[Hashable, int] = {id(tensor): _bytes([tensor]) for tensor in program.inputs}
    return live_bytes(inputs, steps, frozenset(names(program.outputs)))


def _bytes(tensors: Sequence[Any]) -> int:
    return sum(math.prod(tensor.shape) * _width(tensor.dtype) for tensor in tensors)


@functools.cache
def _width(dtype: str) -> int:
    import ml_dtypes  # noqa: F401 registers bfloat16 and similar types with NumPy
    import numpy as np

    # Text has no fixed width, and a network does not compute with it.
    return 0 if dtype == "string" else np.dtype(dtype).itemsize


def _is_view(operation: Any) -> bool:
    """Tell whether an operation, in inference, returns its input unchanged or only with another shape."""
    import keras

    if not isinstance(operation, keras.Layer):
        return type(operation).__name__ in VIEWS
    kl = keras.layers
    noise = (kl.Dropout, kl.SpatialDropout1D, kl.SpatialDropout2D, kl.SpatialDropout3D)
    noise_too = (kl.AlphaDropout, kl.GaussianDropout, kl.GaussianNoise)
    return isinstance(
        operation, (*noise, *noise_too, kl.ActivityRegularization, kl.Flatten, kl.Reshape, kl.Identity)
    )
