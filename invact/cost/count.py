"""What a network costs, by layer and in total, from the built model: MACs, weights, memory.

What counts as a MAC, an elementwise operation and a filter is said in `invact.cost.rules`. Beyond that:

- Parameters are all weights of a layer, trainable or not, counted at the first call of a shared layer.
- Bytes written are those of each call's outputs, in their own dtype. A view (reshape, flatten, dropout in
  inference) writes none, and what a call writes and reads again inside itself is not counted.
- Bytes moved are those of a call's inputs, weights and outputs, each once: what a call exchanges with memory
  when nothing of it is in a cache. A view moves none.
- Activation memory is what is alive during a call: tensors written and still to be read, the call's own
  inputs and outputs included (`invact.cost.liveness`). Weights and the inside of a call are not in it.
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
        elementwise: elements written by work that is no multiply-add.
        bytes_written: of its outputs.
        bytes_moved: of its inputs, weights and outputs.
        activation_bytes: of all tensors that are alive during the call.
        relu_macs: multiply-adds of the call in the ReLU network of equal channels
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
    """What a model costs, for a batch of one.

    Attributes:
        layers: one entry for each call of a layer, in the order of computation.

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
        """Elements written by work that is no multiply-add."""
        return sum(layer.elementwise for layer in self.layers)

    @property
    def bytes_written(self) -> int:
        """Bytes of all outputs of all calls."""
        return sum(layer.bytes_written for layer in self.layers)

    @property
    def bytes_moved(self) -> int:
        """Bytes of the inputs, weights and outputs of all calls: a proxy of memory traffic."""
        return sum(layer.bytes_moved for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """Peak activation memory: the most bytes that are alive during any call."""
        return max((layer.activation_bytes for layer in self.layers), default=0)

    @property
    def counted(self) -> dict[str, int]:
        """Every measure of `invact.measures.MEASURES` that is counted, by name.

        Example:
            >>> Cost(()).counted
            {'macs': 0, 'params': 0, 'activation_bytes': 0, 'bytes_moved': 0}
        """
        return {name: getattr(self, name) for name, measure in MEASURES.items() if measure.counted}

    @property
    def relu_macs(self) -> int | None:
        """Multiply-adds of the ReLU network of equal channels; None if there is no such network."""
        macs = [layer.relu_macs for layer in self.layers]
        return None if None in macs else sum(filter(None, macs))

    @property
    def saved(self) -> float | None:
        """Share of multiply-adds saved against the ReLU network of equal channels: 1 - macs / relu_macs."""
        return 1 - self.macs / self.relu_macs if self.relu_macs else None

    def to_pandas(self) -> pd.DataFrame:
        """Return a table with one row for each call of a layer and the fields of `LayerCost` as columns."""
        import pandas as pd

        table = pd.DataFrame(list(self.layers), columns=[field.name for field in fields(LayerCost)])
        return table.astype({"relu_macs": "Int64"})


def count_macs(model: keras.Model, input_shape: Sequence[Any] | None = None) -> Cost:
    """Count what a built model costs, before any training: MACs, weights, memory, layer by layer.

    Every call of a layer counts, in nested models too; a layer made of layers is followed
    (`invact.cost.trace.list_calls` says how).

    Args:
        model: a built Keras model; functional, sequential or subclassed.
        input_shape: where the model leaves dimensions open: the shape of its input without the batch, or
            a list of such shapes, one for each input.

    Raises:
        InputError: the model is not built, has an open dimension, a layer with weights and without a rule,
            a layer made of layers that cannot be followed, or a call of `keras.ops` without a rule.

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
        # Of layers made of layers, beside those of their parts, and of layers that no call reaches.
        size = sum(math.prod(weight.shape) for weight in rest.values())
        rows.append(LayerCost("other weights", type(model).__name__, (), 0, size, 0, 0, relu_macs=0))
    return Cost(tuple(rows))


def _work(call: Call) -> tuple[int, int]:
    """MACs of a call, and the elements that its other work writes."""
    import keras

    operation, kind = call.operation, type(call.operation).__name__
    outputs = [tuple(tensor.shape) for tensor in call.outputs]
    inputs = [tuple(tensor.shape) for tensor in call.inputs]
    elements = 0 if _is_view(operation) else sum(map(math.prod, outputs))
    if not isinstance(operation, keras.Layer):
        if kind in UNCOUNTED or type(operation).__module__.endswith(".linalg"):
            raise InputError(
                f"operation {call.name!r}: keras.ops has no rule for the MACs of {kind}. Allowed: a layer of "
                "your own around it, with invact.register_macs"
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
            f"Allowed: register one with invact.register_macs({kind}, rule)"
        )
    return 0, elements


def _live(program: Program) -> list[int]:
    """Bytes alive during each call; a view has its input's buffer."""
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
    import ml_dtypes  # noqa: F401 tells NumPy of bfloat16 and its kin
    import numpy as np

    # Text has no fixed width, and no part in a network's arithmetic.
    return 0 if dtype == "string" else np.dtype(dtype).itemsize


def _is_view(operation: Any) -> bool:
    """Whether an operation, in inference, gives back its input: as it is, or in another shape."""
    import keras

    if not isinstance(operation, keras.Layer):
        return type(operation).__name__ in VIEWS
    kl = keras.layers
    noise = (kl.Dropout, kl.SpatialDropout1D, kl.SpatialDropout2D, kl.SpatialDropout3D)
    noise_too = (kl.AlphaDropout, kl.GaussianDropout, kl.GaussianNoise)
    return isinstance(
        operation, (*noise, *noise_too, kl.ActivityRegularization, kl.Flatten, kl.Reshape, kl.Identity)
    )
