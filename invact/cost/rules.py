"""The MAC convention, and the table from each layer class to the MACs of one call, which users can extend.

All counts of invact follow this convention:

- One MAC is one multiply-add. Counts are for a batch of one, in inference.
- A convolution costs its whole kernel at each output position. Kernel taps that fall on the padding count.
  The bias does not count, and dilation does not change the count.
- A transposed convolution costs its whole kernel at each input position. The zeros that its strides insert
  between the input elements do not count.
- A recurrent layer costs the MACs of its cell in one step times the number of steps.
- Elementwise work has no MACs: activations, normalisation, merging (such as adding), pooling, resizing and
  padding. It is reported separately, as the number of elements that it writes. For a layer with MACs, this
  is the number of elements that pass its activation functions.
- Filters are the trained output channels of a layer: the `filters` of a convolution, the `units` of a dense
  or recurrent layer, input channels times `depth_multiplier` for a depthwise convolution, and the sum of the
  depthwise and the pointwise filters for a separable convolution.

MACs of one call, where "kernel" is the number of weights of the kernel, without the bias:

    Dense                   positions * kernel; the positions are all axes but the last
    EinsumDense             input elements * size of the kernel axes that the input does not have
    Conv, DepthwiseConv     output positions * kernel
    SeparableConv           output positions * (depthwise kernel + pointwise kernel)
    ConvTranspose           input positions * kernel
    SimpleRNN, GRU, LSTM    steps * (kernel + recurrent kernel); stacked cells are added up
    ConvLSTM                steps * positions of the state * (kernel + recurrent kernel)
    Dot                     output elements * size of the contracted axis
    AdditiveAttention       query steps * value steps * depth of the value
    ReversibleEmbedding     0 from words to vectors; in reverse, as a dense layer
    Embedding               0

A layer without weights and without a rule costs no MACs. A layer made of layers, such as an attention layer,
costs the MACs of its parts (`invact.cost.trace`). A layer with weights of its own needs a rule.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from invact.errors import InputError

if TYPE_CHECKING:
    import keras

__all__ = ["FilterRule", "MacRule", "Rule", "Shape", "register_macs", "rule_of", "sites"]

Shape = tuple[int, ...]

MacRule = Callable[[Any, Sequence[Shape], Sequence[Shape]], int]
"""`rule(layer, input_shapes, output_shapes)` returns the MACs of one call. Every shape starts with the batch,
which is 1 unless the model folds another axis into it."""

FilterRule = Callable[[Any], int]
"""`rule(layer)` returns the number of trained output channels of a layer."""


def _nothing(layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    return 0


def _no_filters(layer: Any) -> int:
    return 0


def _activated(layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    import keras

    linear = getattr(layer, "activation", None) in (None, keras.activations.linear)
    return 0 if linear else _elements(*outputs)


@dataclass(frozen=True)
class Rule:
    """The functions that count the costs of one call of a layer.

    Attributes:
        macs: returns the number of multiply-adds.
        filters: returns the number of trained output channels.
        elementwise: returns the number of elements that work other than multiply-adds writes in the layer.
    """

    macs: MacRule
    filters: FilterRule = _no_filters
    elementwise: MacRule = _activated


def _elements(*shapes: Shape) -> int:
    return sum(math.prod(shape) for shape in shapes)


def sites(layer: Any, shape: Shape) -> int:
    """Return the number of positions in a batch of images, for channels first or last."""
    import keras

    data_format = layer.data_format or keras.config.image_data_format()
    return shape[0] * math.prod(shape[2:] if data_format == "channels_first" else shape[1:-1])


def _size(weight: Any) -> int:
    return math.prod(weight.shape)


def _new_labels(layer: Any) -> int:
    """Return the product of the sizes of the kernel axes of an EinsumDense that its input does not have."""
    inputs, rest = layer.equation.split(",")
    sizes = zip(rest.split("->")[0], layer.kernel.shape, strict=True)
    return math.prod(size for label, size in sizes if label not in inputs)


def _contracted(layer: Any, shape: Shape) -> int:
    axis = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    return shape[axis]


def _units(layer: Any) -> int:
    units: int = layer.units
    return units


def _filters(layer: Any) -> int:
    filters: int = layer.filters
    return filters


def _cells(layer: Any) -> list[Any]:
    """List the cells of a recurrent layer, including stacked cells."""
    cell = getattr(layer, "cell", layer)
    return [each for part in cell.cells for each in _cells(part)] if hasattr(cell, "cells") else [cell]


def _steps(
    part: Callable[[Rule], MacRule], layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]
) -> int:
    """Return the cost of all cells of a recurrent layer in one step, times the number of steps."""
    batch, steps, *features = inputs[0]
    total, step = 0, (batch, *features)
    for cell in _cells(layer):
        rule = rule_of(cell)
        if rule is None:
            kind = type(cell).__name__
            raise InputError(
                f"layer {layer.name!r}: no rule for the MACs of its cell {kind}. "
                f"Allowed: register a rule with invact.register_macs({kind}, rule)"
            )
        size = getattr(cell, "output_size", None) or cell.state_size
        output = (batch, size if isinstance(size, int) else size[0])
        total += part(rule)(cell, [step], [output])
        step = output
    return steps * total


def _of_cells(layer: Any) -> int:
    rules = [(cell, rule_of(cell)) for cell in _cells(layer)]
    return sum(rule.filters(cell) for cell, rule in rules if rule)


def _conv_steps(layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Return the number of steps of a convolutional recurrent layer, times the positions of its state."""
    batch, steps, *_ = inputs[0]
    image = (batch, *outputs[0][2:]) if layer.return_sequences else outputs[0]
    return steps * sites(layer, image)


_REGISTERED: dict[type, Rule] = {}


@functools.cache
def _rules() -> dict[type, Rule]:
    """Return the rule of each layer class. In each rule, i are the input shapes and o the output shapes."""
    from keras import layers as kl
    from keras.src.applications.convnext import LayerScale  # Keras does not export it

    from invact.layers import DuplicatedActivation, InverseActivation

    table: dict[type, Rule] = {
        kl.Dense: Rule(lambda layer, i, o: math.prod(i[0][:-1]) * _size(layer.kernel), _units),
        kl.EinsumDense: Rule(lambda layer, i, o: math.prod(i[0]) * _new_labels(layer), _new_labels),
        kl.Dot: Rule(lambda layer, i, o: math.prod(o[0]) * _contracted(layer, i[0])),
        kl.ReversibleEmbedding: Rule(
            # In reverse, from vectors to words, it is a dense layer and keeps the rank. From words to vectors
            # the rank grows.
            lambda layer, i, o: math.prod(o[0]) * i[0][-1] if len(o[0]) == len(i[0]) else 0
        ),
    }
    # The MACs are those of the product of scores and values. The scores are sums of scaled tanh: add, tanh
    # and scale each write query steps x value steps x depth elements. The softmax writes the scores.
    table[kl.AdditiveAttention] = Rule(
        lambda layer, i, o: math.prod(i[0][:-1]) * i[1][-2] * i[1][-1],
        elementwise=lambda layer, i, o: math.prod(i[0][:-1]) * i[1][-2] * (3 * i[0][-1] + 1),
    )
    for conv in (kl.Conv1D, kl.Conv2D, kl.Conv3D):
        table[conv] = Rule(lambda layer, i, o: sites(layer, o[0]) * _size(layer.kernel), _filters)
    for transpose in (kl.Conv1DTranspose, kl.Conv2DTranspose, kl.Conv3DTranspose):
        table[transpose] = Rule(lambda layer, i, o: sites(layer, i[0]) * _size(layer.kernel), _filters)
    for depthwise in (kl.DepthwiseConv1D, kl.DepthwiseConv2D):
        table[depthwise] = Rule(
            lambda layer, i, o: sites(layer, o[0]) * _size(layer.kernel),
            lambda layer: math.prod(layer.kernel.shape[-2:]),
        )
    for separable in (kl.SeparableConv1D, kl.SeparableConv2D):
        table[separable] = Rule(
            lambda layer, i, o: (
                sites(layer, o[0]) * (_size(layer.depthwise_kernel) + _size(layer.pointwise_kernel))
            ),
            lambda layer: math.prod(layer.depthwise_kernel.shape[-2:]) + layer.filters,
        )
    # The number of activation functions of a cell, for its gates, its state and its output. Each of them
    # writes one element for each unit in each step.
    for cell, activations in {kl.SimpleRNNCell: 1, kl.GRUCell: 3, kl.LSTMCell: 5}.items():
        table[cell] = Rule(
            lambda layer, i, o: i[0][0] * (_size(layer.kernel) + _size(layer.recurrent_kernel)),
            _units,
            functools.partial(lambda times, layer, i, o: times * _elements(*o), activations),
        )
    for recurrent in (kl.RNN, kl.SimpleRNN, kl.GRU, kl.LSTM):
        table[recurrent] = Rule(
            functools.partial(_steps, lambda rule: rule.macs),
            _of_cells,
            functools.partial(_steps, lambda rule: rule.elementwise),
        )
    for conv_recurrent in (kl.ConvLSTM1D, kl.ConvLSTM2D, kl.ConvLSTM3D):
        table[conv_recurrent] = Rule(
            lambda layer, i, o: (
                _conv_steps(layer, i, o) * (_size(layer.cell.kernel) + _size(layer.cell.recurrent_kernel))
            ),
            _filters,
            lambda layer, i, o: _conv_steps(layer, i, o) * 5 * layer.filters,
        )
    # These layers have no multiply-adds, although they may have weights.
    for plain in (
        DuplicatedActivation,
        InverseActivation,
        LayerScale,
        kl.BatchNormalization,
        kl.GroupNormalization,
        kl.LayerNormalization,
        kl.Normalization,
        kl.PReLU,
        kl.RMSNormalization,
    ):
        table[plain] = Rule(_nothing, elementwise=lambda layer, i, o: _elements(*o))
    table[kl.Embedding] = Rule(_nothing, elementwise=_nothing)
    return table


def register_macs(
    layer: type,
    rule: MacRule,
    filters: FilterRule = _no_filters,
    elementwise: MacRule = _activated,
) -> None:
    """Register the MAC rule of a layer class, so that `count_macs` accepts the layer.

    The rule also applies to a subclass that does not override `call`. A layer made of layers needs no rule if
    it can be followed, because its parts are counted.

    Args:
        layer: class of the layer or of the recurrent cell.
        rule: `rule(layer, input_shapes, output_shapes)` returns the MACs of one call. Every shape is a tuple
            of numbers that starts with the batch, which is 1 unless the model folds another axis into it.
        filters: `filters(layer)` returns the number of trained output channels; by default 0.
        elementwise: has the arguments of `rule` and returns the number of elements that other work in the
            layer writes; by default the elements that pass the layer's `activation`.

    Raises:
        InputError: `layer` is not a subclass of `keras.Layer`, or has a rule already.

    Example:
        >>> register_macs(int, lambda layer, inputs, outputs: 0)
        Traceback (most recent call last):
        ...
        invact.errors.InputError: register_macs: received <class 'int'>. Allowed: a subclass of keras.Layer
    """
    import keras

    if not (isinstance(layer, type) and issubclass(layer, keras.Layer)):
        raise InputError(f"register_macs: received {layer!r}. Allowed: a subclass of keras.Layer")
    if layer in _rules() or layer in _REGISTERED:
        raise InputError(f"register_macs: {layer.__name__} has a rule already")
    _REGISTERED[layer] = Rule(rule, filters, elementwise)


def rule_of(layer: keras.Layer) -> Rule | None:
    """Return the rule that describes the `call` of a layer; None if there is none."""
    for cls in type(layer).__mro__:
        # The rule of a base class does not describe a `call` that a subclass overrides.
        rule = _REGISTERED.get(cls) or _rules().get(cls)
        if rule and type(layer).call is cls.call:  # type: ignore[attr-defined]
            return rule
    return None
