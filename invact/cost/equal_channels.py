"""The MACs of the ReLU network of equal channels, the reference for the share of MACs that is saved."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from invact.cost.axes import axis_read, axis_written, grown_axis
from invact.cost.rules import rule_of
from invact.cost.trace import Call, Program

__all__ = ["relu_macs"]


def relu_macs(program: Program, macs: Sequence[int]) -> list[int] | None:
    """Count the MACs of the ReLU network of equal channels, for each call.

    This network has a plain activation in place of each layer that doubles the channels, and every layer
    reads as many channels as in the given network. The input of each replaced activation must then be twice
    as wide. So the dense or convolution layers that produce this input have twice the filters. All tensors
    between these layers and the activation have twice the channels: those of a normalisation, a pooling, a
    depthwise convolution, or a residual sum with all its terms.

    Formula:
        If the input of a layer becomes r times as wide and its output s times, the layer costs r s times its
        MACs. A depthwise convolution costs r times its MACs. The factors r and s are powers of 2: the input
        of an inverse activation is widened by twice the factor of its output, and a tensor that feeds no
        inverse activation keeps the factor 1.

    Args:
        program: the calls of a model.
        macs: the MACs of each call.

    Returns:
        The MACs of each call in the ReLU network. None if there is no such network: the model's inputs or
        outputs would become wider, one tensor would need two different widths, a product of two tensors would
        change, or the axis that is doubled is not the axis of the channels that a layer before it makes.

    Example:
        The second layer reads 4 channels in both networks. The first layer has 2 filters; with ReLU it has 4.

        >>> import keras
        >>> from invact.cost.trace import list_calls
        >>> from invact.layers import InverseActivation
        >>> layers = [keras.Input((3,)), keras.layers.Dense(2), InverseActivation(), keras.layers.Dense(5)]
        >>> relu_macs(list_calls(keras.Sequential(layers)), [6, 0, 20])
        [12, 0, 20]
    """
    kinds = _kinds()
    groups = _Groups()
    doubled: list[tuple[int, int]] = []
    for call in program.calls:
        if isinstance(call.operation, kinds["doubling"]):
            doubled.append((id(call.inputs[0]), id(call.outputs[0])))
        elif not _is(call, kinds["mixing"]):
            groups.tie([id(tensor) for tensor in (*call.inputs, *call.outputs)])
    above: dict[int, set[int]] = {}
    for before, after in doubled:
        above.setdefault(groups.find(before), set()).add(groups.find(after))
    try:
        width = _widths(above)
        widths = [
            (width(groups.find(id(call.inputs[0]))), width(groups.find(id(call.outputs[0]))))
            if call.inputs
            else (1, 1)
            for call in program.calls
        ]
        if any(width(groups.find(id(tensor))) != 1 for tensor in (*program.inputs, *program.outputs)):
            return None
        _check_axes(program, lambda tensor: width(groups.find(id(tensor))))
        return [
            _widened(call, cost, before, after, kinds)
            for call, cost, (before, after) in zip(program.calls, macs, widths, strict=True)
        ]
    except _NoCounterpartError:
        return None


class _NoCounterpartError(Exception):
    """There is no ReLU network of equal channels."""


class _Groups:
    """Groups of tensors that must have equal widths, as a union-find structure."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}

    def find(self, tensor: int) -> int:
        while (parent := self._parents.get(tensor, tensor)) != tensor:
            self._parents[tensor] = self._parents.get(parent, parent)
            tensor = parent
        return tensor

    def tie(self, tensors: Sequence[int]) -> None:
        for tensor in tensors[1:]:
            self._parents[self.find(tensor)] = self.find(tensors[0])


def _widths(above: dict[int, set[int]]) -> Any:
    """Return a function from a group to the factor by which the group becomes wider."""
    known: dict[int, int] = {}
    open_groups: set[int] = set()

    def width(group: int) -> int:
        if group not in known:
            if group in open_groups:
                raise _NoCounterpartError
            open_groups.add(group)
            wanted = {2 * width(after) for after in above.get(group, ())}
            if len(wanted) > 1:
                raise _NoCounterpartError
            known[group] = wanted.pop() if wanted else 1
        return known[group]

    return width


def _check_axes(program: Program, width: Callable[[Any], int]) -> None:
    """Refuse a network in which a tensor would have to become wider along an axis that no filters widen."""
    kinds = _kinds()
    axes: dict[int, int] = {}
    for call in program.calls:
        output = call.outputs[0]
        wide = [axes.get(id(tensor)) for tensor in call.inputs]
        if isinstance(call.operation, kinds["doubling"]):
            layer: Any = call.operation
            # The axis counts from the end if it is negative.
            doubled = layer.axis % len(output.shape)
            fits, axis = wide[0] in (None, doubled), doubled
        elif _is(call, kinds["mixing"]):
            fits = wide[0] in (None, axis_read(call.operation, len(call.inputs[0].shape)))
            axis = axis_written(call.operation, len(output.shape))
        elif any(known is not None for known in wide):
            grown = grown_axis(call, wide, width(output))
            fits, axis = grown is not None, grown or 0
        else:
            continue
        if not fits:
            raise _NoCounterpartError
        if width(output) != 1:
            axes[id(output)] = axis


def _widened(call: Call, macs: int, before: int, after: int, kinds: dict[str, tuple[type, ...]]) -> int:
    if not macs or before == after == 1:
        return macs
    if _is(call, kinds["separable"]):
        depthwise: int = math.prod(call.operation.depthwise_kernel.shape)
        pointwise: int = math.prod(call.operation.pointwise_kernel.shape)
        return macs // (depthwise + pointwise) * before * (depthwise + pointwise * after)
    if _is(call, kinds["mixing"]):
        return macs * before * after
    if _is(call, kinds["depthwise"]):
        return macs * before
    raise _NoCounterpartError


def _is(call: Call, classes: tuple[type, ...]) -> bool:
    # A subclass with an overridden `call` has no rule, and may compute something else than its class.
    return isinstance(call.operation, classes) and rule_of(call.operation) is not None


@functools.cache
def _kinds() -> dict[str, tuple[type, ...]]:
    from keras import layers as kl

    from invact.layers import ChannelDoubling

    separable = (kl.SeparableConv1D, kl.SeparableConv2D)
    convolutions = (kl.Conv1D, kl.Conv2D, kl.Conv3D)
    transposed = (kl.Conv1DTranspose, kl.Conv2DTranspose, kl.Conv3DTranspose)
    return {
        "doubling": (ChannelDoubling,),
        "mixing": (kl.Dense, kl.EinsumDense, kl.Embedding, *convolutions, *transposed, *separable),
        "separable": separable,
        "depthwise": (kl.DepthwiseConv1D, kl.DepthwiseConv2D),
    }
