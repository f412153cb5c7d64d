"""What the layers of Keras cost in MACs: a table from the class to the formula, which users extend."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from invact.errors import InputError

if TYPE_CHECKING:
    import keras

__all__ = ["FilterRule", "MacRule", "Shape", "register_macs", "rule_of"]

Shape = tuple[int, ...]

MacRule = Callable[[Any, Sequence[Shape], Sequence[Shape]], int]
"""`rule(layer, input_shapes, output_shapes)` gives the MACs of one call; every shape starts with batch 1."""

FilterRule = Callable[[Any], int]
"""`rule(layer)` gives the trained output channels of a layer."""


def _sites(layer: Any, shape: Shape) -> int:
    """Spatial positions of a tensor of images, whichever side the channels are on."""
    return math.prod(shape[2:] if layer.data_format == "channels_first" else shape[1:-1])


def _new_labels(layer: Any) -> int:
    """Size of the kernel's axes that an EinsumDense adds to its input."""
    inputs, rest = layer.equation.split(",")
    sizes = zip(rest.split("->")[0], layer.kernel.shape, strict=True)
    return math.prod(size for label, size in sizes if label not in inputs)


def _attention(layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    query, value, *key = inputs
    depth = (key[0] if key else value)[-1]
    return query[-2] * value[-2] * (depth + value[-1])


def _nothing(layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    return 0


def _no_filters(layer: Any) -> int:
    return 0


_REGISTERED: dict[type, tuple[MacRule, FilterRule]] = {}


@functools.cache
def _rules() -> dict[type, tuple[MacRule, FilterRule]]:
    """The table from a layer's class to its MACs and filters."""
    from keras import layers as kl

    table: dict[type, tuple[MacRule, FilterRule]] = {
        kl.Dense: (lambda layer, i, o: math.prod(i[0][:-1]) * math.prod(layer.kernel.shape), _units),
        kl.EinsumDense: (lambda layer, i, o: math.prod(i[0]) * _new_labels(layer), _new_labels),
        kl.Dot: (lambda layer, i, o: math.prod(o[0]) * _contracted(layer, i[0]), _no_filters),
        kl.Attention: (_attention, _no_filters),
        kl.AdditiveAttention: (_attention, _no_filters),
    }
    for conv in (kl.Conv1D, kl.Conv2D, kl.Conv3D):
        table[conv] = (
            lambda layer, i, o: _sites(layer, o[0]) * math.prod(layer.kernel.shape),
            lambda layer: layer.filters,
        )
    for transpose in (kl.Conv1DTranspose, kl.Conv2DTranspose, kl.Conv3DTranspose):
        table[transpose] = (
            lambda layer, i, o: _sites(layer, i[0]) * math.prod(layer.kernel.shape),
            lambda layer: layer.filters,
        )
    for depthwise in (kl.DepthwiseConv1D, kl.DepthwiseConv2D):
        table[depthwise] = (
            lambda layer, i, o: _sites(layer, o[0]) * math.prod(layer.kernel.shape),
            lambda layer: math.prod(layer.kernel.shape[-2:]),
        )
    for separable in (kl.SeparableConv1D, kl.SeparableConv2D):
        table[separable] = (
            lambda layer, i, o: (
                _sites(layer, o[0])
                * (math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape))
            ),
            lambda layer: math.prod(layer.depthwise_kernel.shape[-2:]) + layer.filters,
        )
    # Weights that no multiply-add reads.
    for plain in (
        kl.BatchNormalization,
        kl.Embedding,
        kl.GroupNormalization,
        kl.LayerNormalization,
        kl.Normalization,
        kl.PReLU,
        kl.RMSNormalization,
    ):
        table[plain] = (_nothing, _no_filters)
    return table


def _units(layer: Any) -> int:
    units: int = layer.units
    return units


def _contracted(layer: Any, shape: Shape) -> int:
    axis = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    return shape[axis]


def register_macs(layer: type, rule: MacRule, filters: FilterRule = _no_filters) -> None:
    """Say what a layer class costs, so that `count_macs` accepts it.

    A subclass follows the rule as long as it does not override `call`. A layer without weights needs no
    rule: its work is elementwise.

    Args:
        layer: the class.
        rule: `rule(layer, input_shapes, output_shapes)` gives the MACs of one call; every shape is a tuple
            of numbers that starts with the batch, 1.
        filters: gives the layer's trained output channels; 0 unless told.

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
    _REGISTERED[layer] = (rule, filters)


def rule_of(layer: keras.Layer) -> tuple[MacRule, FilterRule] | None:
    """Find the rule that describes what a layer's `call` computes; None if there is none."""
    for cls in type(layer).__mro__:
        # An overridden `call` computes something else than what the rule describes.
        rule = _REGISTERED.get(cls) or _rules().get(cls)
        if rule and type(layer).call is cls.call:  # type: ignore[attr-defined]
            return rule
    return None
