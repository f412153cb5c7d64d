"""An independent MAC counter, from the convolutions and products in the HLO before XLA optimises it."""

import math
import re

import keras

_ARRAY = r"\w+\[([\d,]*)\]\S*"
_CONVOLUTION = re.compile(rf"= {_ARRAY} convolution\({_ARRAY} \S+, {_ARRAY} \S+\)(.*)")
_DOT = re.compile(rf"= {_ARRAY} dot\({_ARRAY} \S+, {_ARRAY} \S+\)(.*)")


def _dims(text):
    return [int(size) for size in text.split(",") if size]


def hlo_text(model, *shapes):
    """Return the HLO of a call with a batch of one; the default shapes are those that the model declares."""
    import tensorflow as tf

    inputs = keras.tree.flatten(model.inputs) if hasattr(model, "inputs") and model.inputs else None
    shapes = shapes or [tensor.shape[1:] for tensor in inputs]
    dtypes = [tensor.dtype for tensor in inputs] if inputs else ["float32"] * len(shapes)
    function = tf.function(
        lambda *images: model(list(images) if len(images) > 1 else images[0], training=False),
        jit_compile=True,
    )
    specs = [tf.TensorSpec((1, *shape), dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
    return function.experimental_get_compiler_ir(*specs)(stage="hlo")


def hlo_macs(model, *shapes):
    """Count the multiply-adds in the HLO of a call."""
    text = hlo_text(model, *shapes)
    total = 0
    for output, left, right, rest in _CONVOLUTION.findall(text):
        images, kernel, _ = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", rest).groups()
        taps = math.prod(size for size, label in zip(_dims(right), kernel, strict=True) if label != "o")
        if "lhs_dilate" in rest:
            # A transposed convolution applies the whole kernel once at each input position.
            left_sizes = zip(_dims(left), images, strict=True)
            total += math.prod(_dims(right)) * math.prod(s for s, label in left_sizes if label != "f")
        else:
            total += math.prod(_dims(output)) * taps
    for output, left, _, rest in _DOT.findall(text):
        axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", rest)
        contracted = [_dims(left)[axis] for axis in _dims(axes[1])] if axes else []
        total += math.prod(_dims(output)) * math.prod(contracted)
    assert len(_CONVOLUTION.findall(text)) == text.count(" convolution(")
    assert len(_DOT.findall(text)) == text.count(" dot(")
    return total
