"""What one call costs in MACs: a table from the class to the formula, which users extend.

The convention, stated once:

- One multiply-add is one MAC, for a batch of one. Padding taps count, the bias does not.
- A transposed convolution costs each input element times its kernel; the zeros between are not worked on.
- A recurrent layer costs its cell times the steps.
- Elementwise work (activations, normalisation, merging, pooling, resizing, padding) is no MAC. It is reported
  apart, as the number of elements that it writes; within a layer with MACs, as those of its activation.
- Filters are the trained output channels of a layer: `filters` of a convolution, `units` of a dense or
  recurrent layer, channels times multiplier of a depthwise convolution, both of a separable one.
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
"""`rule(layer, input_shapes, output_shapes)` gives the MACs of one call; every shape starts with the batch, 1
unless the model folds another axis into it."""

FilterRule = Callable[[Any], int]
"""`rule(layer)` gives the trained output channels of a layer."""


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
    """What one call of a layer costs.

    Attributes:
        macs: multiply-adds.
        filters: trained output channels.
        elementwise: elements written by work inside that is no multiply-add.
    """

    macs: MacRule
    filters: FilterRule = _no_filters
    elementwise: MacRule = _activated


def _elements(*shapes: Shape) -> int:
    return sum(math.prod(shape) for shape in shapes)


def sites(layer: Any, shape: Shape) -> int:
    """Positions of a batch of images, whichever side the channels are on."""
    import keras

    data_format = layer.data_format or keras.config.image_data_format()
    return shape[0] * math.prod(shape[2:] if data_format == "channels_first" else shape[1:-1])


def _size(weight: Any) -> int:
    return math.prod(weight.shape)


def _new_labels(layer: Any) -> int:
    """Size of the kernel's axes that an EinsumDense adds to its input."""
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
    """The cells of a recurrent layer, or of stacked ones."""
    cell = getattr(layer, "cell", layer)
    return [each for part in cell.cells for each in _cells(part)] if hasattr(cell, "cells") else [cell]


def _steps(
    part: Callable[[Rule], MacRule], layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]
) -> int:
    """Cost of a recurrent layer: of its cells in one step, times the steps."""
    batch, steps, *features = inputs[0]
    total, step = 0, (batch, *features)
    for cell in _cells(layer):
        rule = rule_of(cell)
        if rule is None:
            kind = type(cell).__name__
            raise InputError(
                f"layer {layer.name!r}: no rule for the MACs of its cell {kind}. "
                f"Allowed: register one with invact.register_macs({kind}, rule)"
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
    """Steps of a convolutional recurrent layer times the positions of its state."""
    batch, steps, *_ = inputs[0]
    image = (batch, *outputs[0][2:]) if layer.return_sequences else outputs[0]
    return steps * sites(layer, image)


_REGISTERED: dict[type, Rule] = {}


@functools.cache
def _rules() -> dict[type, Rule]:
    """The table from a layer's class to what one call costs: i are the input shapes, o the output shapes."""
    from keras import layers as kl
    from keras.src.applications.convnext import LayerScale  # which Keras does not export

    from invact.layers import DuplicatedActivation, InverseActivation

    table: dict[type, Rule] = {
        kl.Dense: Rule(lambda layer, i, o: math.prod(i[0][:-1]) * _size(layer.kernel), _units),
        kl.EinsumDense: Rule(lambda layer, i, o: math.prod(i[0]) * _new_labels(layer), _new_labels),
        kl.Dot: Rule(lambda layer, i, o: math.prod(o[0]) * _contracted(layer, i[0])),
        kl.ReversibleEmbedding: Rule(
            # From vectors back to words it is a dense layer; from words to vectors the rank grows.
            lambda layer, i, o: math.prod(o[0]) * i[0][-1] if len(o[0]) == len(i[0]) else 0
        ),
    }
    # Its scores are sums of scaled tanh: query steps x value steps x their depth, three times written.
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
    # Elements that a cell passes through activations in each step: its gates, its state, its output.
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
    # No multiply-adds, though they may have weights.
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
    """Say what a layer class costs, so that `count_macs` accepts it.

    A subclass follows the rule as long as it does not override `call`. A layer made of layers needs no rule
    where it can be followed: its parts are counted.

    Args:
        layer: the class; of a recurrent cell too.
        rule: `rule(layer, input_shapes, output_shapes)` gives the MACs of one call; every shape is a tuple
            of numbers that starts with the batch, 1 unless the model folds another axis into it.
        filters: gives the layer's trained output channels; 0 unless told.
        elementwise: like `rule`, the elements that other work inside writes; those of the layer's
            `activation` unless told.

    Raises:
        InputError: not a layer's class, or it has a rule.

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
    """Find the rule that describes what a layer's `call` computes; None if there is none."""
    for cls in type(layer).__mro__:
        # An overridden `call` computes something else than what the rule describes.
        rule = _REGISTERED.get(cls) or _rules().get(cls)
        if rule and type(layer).call is cls.call:  # type: ignore[attr-defined]
            return rule
    return None
