"""The MACs of one call of `keras.ops`: a table from each operation to its formula."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from invact.cost.rules import MacRule, Shape, sites
from invact.errors import InputError

__all__ = ["OPERATIONS", "UNCOUNTED", "VIEWS"]


def _einsum(operation: Any, operands: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    terms = operation.subscripts.replace(" ", "").partition("->")[0].split(",")
    if len(terms) == 1:
        return 0
    if len(terms) > 2:
        raise InputError(
            f"operation {operation.name!r}: received keras.ops.einsum of {len(terms)} tensors, whose MACs "
            "depend on the order of the products. Allowed: two tensors in each einsum"
        )
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, operands, strict=True):
        before, dots, after = term.partition("...")
        sizes |= zip(before, shape, strict=False)
        if after:
            sizes |= zip(after, shape[-len(after) :], strict=True)
        middle = shape[len(before) : len(shape) - len(after)] if dots else ()
        for place, size in enumerate(reversed(middle)):
            # An axis of size 1 is broadcast to the larger size.
            sizes[f".{place}"] = max(size, sizes.get(f".{place}", 1))
    result = operation.subscripts.partition("->")[2] or "".join(terms)
    # A label that is in only one tensor and not in the result is summed before the product.
    alone = {each for each in sizes if sum(each in term for term in terms) == 1 and each not in result}
    return math.prod(size for label, size in sizes.items() if label not in alone)


def _tensordot(operation: Any, operands: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    axes, (left, right) = operation.axes, operands
    if isinstance(axes, int):
        contracted = math.prod(left[len(left) - axes :])
    else:
        first = axes[0]
        contracted = math.prod(left[axis] for axis in ([first] if isinstance(first, int) else first))
    return math.prod(left) * math.prod(right) // max(contracted, 1)


def _product(operation: Any, operands: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Count a product over the last axis of the first tensor; a product with a number is elementwise."""
    return math.prod(outputs[0]) * operands[0][-1] if all(operands[:2]) else 0


OPERATIONS: Mapping[str, MacRule] = MappingProxyType(
    {
        "Conv": lambda op, i, o: sites(op, o[0]) * math.prod(i[1]),
        "ConvTranspose": lambda op, i, o: sites(op, i[0]) * math.prod(i[1]),
        "DepthwiseConv": lambda op, i, o: sites(op, o[0]) * math.prod(i[1]),
        "Dot": _product,
        "Einsum": _einsum,
        "Inner": _product,
        "Matmul": _product,
        "SeparableConv": lambda op, i, o: sites(op, o[0]) * (math.prod(i[1]) + math.prod(i[2])),
        "Tensordot": _tensordot,
        "Vdot": lambda op, i, o: math.prod(i[0]),
    }
)
"""The MAC rule of each operation of `keras.ops`, by the name of the operation's class in Keras."""

# Classes of keras.ops that multiply and add in a way that no rule here describes, or that run a function of
# the user.
UNCOUNTED = {
    "AssociativeScan", "CDist", "Cond", "Corrcoef", "Correlate", "CustomGradient", "ElasticTransform", "FFT",
    "FFT2", "ForiLoop", "GaussianBlur", "IFFT2", "IRFFT", "ISTFT", "JVP", "Map", "RFFT", "SSIM", "STFT",
    "Scan", "SobelEdges", "Switch", "VectorizedMap", "WhileLoop",
}  # fmt: skip

# Operations that only change the shape under which the same memory is read.
VIEWS = {"ExpandDims", "Ravel", "Reshape", "Squeeze", "StopGradient", "View"}
