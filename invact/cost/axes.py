"""The axis along which a tensor becomes wider if the layers before it have more filters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from invact.cost.symbolic import exact_spec, symbolic_leaves
from invact.cost.trace import Call

__all__ = ["axis_read", "axis_written", "channel_axis", "grown_axis"]


def channel_axis(layer: Any, rank: int) -> int:
    """Return the axis of the channels of a layer's inputs and outputs, for tensors of a rank.

    Example:
        >>> import keras
        >>> channel_axis(keras.layers.Dense(2), 3)
        2
        >>> channel_axis(keras.layers.Conv2D(2, 3, data_format="channels_first"), 4)
        1
    """
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1


def axis_written(layer: Any, rank: int) -> int:
    """Return the axis that grows with the filters of a layer in its outputs, which have this rank.

    Example:
        >>> import keras
        >>> axis_written(keras.layers.EinsumDense("abc,cd->abd", (None, 2)), 3)
        2
    """
    equation = getattr(layer, "equation", None)
    if equation is None:
        return channel_axis(layer, rank)
    inputs, _, rest = equation.partition(",")
    output = rest.partition("->")[2]
    new = [label for label in output if label.isalpha() and label not in inputs]
    # Counted from the end, because an ellipsis at the start stands for several axes.
    return rank - len(output) + output.index(new[-1]) if new else -1


def axis_read(layer: Any, rank: int) -> int:
    """Return the axis that a layer sums over in its inputs, which have this rank.

    Example:
        >>> import keras
        >>> axis_read(keras.layers.EinsumDense("abc,cd->abd", (None, 2)), 3)
        2
    """
    equation = getattr(layer, "equation", None)
    if equation is None:
        return channel_axis(layer, rank)
    inputs, _, rest = equation.partition(",")
    summed = [label for label in inputs if label.isalpha() and label not in rest.partition("->")[2]]
    return rank - len(inputs) + inputs.index(summed[-1]) if summed else -1


def grown_axis(call: Call, axes: Sequence[int | None], factor: int) -> int | None:
    """Return the axis of a call's output that grows if its inputs become wider.

    Args:
        call: a call with one output.
        axes: for each input, the axis along which it becomes wider; None if it does not.
        factor: how many times as wide the inputs become.

    Returns:
        None if no axis of the output, or more than one, becomes `factor` times as wide.
    """
    import keras

    if type(call.operation).__name__ == "Reshape" and (kept := _kept_axis(call, axes[0])) is not None:
        return kept
    wider = {
        id(tensor): keras.KerasTensor(
            tuple(size * (factor if at == axis else 1) for at, size in enumerate(tensor.shape)), tensor.dtype
        )
        for tensor, axis in zip(call.inputs, axes, strict=True)
    }
    args, kwargs = keras.tree.map_structure(lambda leaf: wider.get(id(leaf), leaf), call.arguments)
    try:
        (output,) = symbolic_leaves(exact_spec(call.operation, *args, **kwargs))
    except Exception:  # a shape that the operation refuses; Keras raises many classes
        return None
    before, after = call.outputs[0].shape, output.shape
    if len(before) != len(after):
        return None
    grown = [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    return grown[0] if len(grown) == 1 and after[grown[0]] == factor * before[grown[0]] else None


def _kept_axis(call: Call, axis: int | None) -> int | None:
    """Return the axis of a reshaped tensor that is the same axis of its input, if there is one.

    The shape that a network reshapes to is a constant, which another network would have in another size.
    """
    before, after = call.inputs[0].shape, call.outputs[0].shape
    for at, size in enumerate(after):
        if axis and size == before[axis] and math.prod(after[:at]) == math.prod(before[:axis]):
            return at
    return None
