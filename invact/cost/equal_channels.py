"""The ReLU network of equal channels: what a network with inverse activations saves, and against what."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from invact.cost.rules import rule_of
from invact.cost.trace import Call, Program

__all__ = ["relu_macs"]


def relu_macs(program: Program, macs: Sequence[int]) -> list[int] | None:
    """Count the MACs of the network that has a plain activation wherever a layer doubles the channels.

    Every layer of it reads as many channels as before. What an inverse activation read is then twice as
    wide, so the dense or convolution layers that make it have twice the filters, and whatever lies between
    them (normalisation, pooling, a depthwise convolution, a residual sum with all that goes into it) has
    twice the channels.

    Formula:
        A layer whose input is r times and whose output is s times as wide costs r s times its MACs, a
        depthwise one r. r and s are 1, or 2 per inverse activation that widens the tensor: the input of an
        inverse activation is twice as wide as its output would be.

    Args:
        program: the calls of a model.
        macs: of each call.

    Returns:
        MACs for each call; None if there is no such network, because widening would reach the model's
        inputs or outputs, contradict itself, or change a product of two tensors.

    Example:
        The second layer reads 4 channels in both; the first has 2 filters, and with ReLU it would have 4.

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
        return [
            _widened(call, cost, before, after, kinds)
            for call, cost, (before, after) in zip(program.calls, macs, widths, strict=True)
        ]
    except _NoCounterpartError:
        return None


class _NoCounterpartError(Exception):
    """There is no ReLU network with the same channels."""


class _Groups:
    """Tensors that are equally wide (union-find)."""

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
    """A function from a group to how many times as wide it is."""
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
    # By its rule a layer does what its class says; an overridden `call` does not.
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
