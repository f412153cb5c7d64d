"""The functions that replace composite calls, so that the calls inside a layer made of layers are visible."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from invact.cost.rules import rule_of

__all__ = ["followed", "fused_parts"]


def followed(operation: Any) -> Callable[..., Any] | None:
    """Return the function to run instead of a call to see the calls inside it; None if it has no parts."""
    import keras
    from keras import layers as kl

    from invact.layers import ChannelDoubling

    if not isinstance(operation, keras.Layer):
        return _attention if type(operation).__name__ == "DotProductAttention" else None
    if rule_of(operation) or isinstance(operation, ChannelDoubling):
        return None
    call = type(operation).call
    if call is kl.TimeDistributed.call:
        return functools.partial(_time_distributed, operation)
    if call is kl.Bidirectional.call:
        return functools.partial(_bidirectional, operation)
    follow: Callable[..., Any] = operation.call
    weightless = (kl.Lambda.call, kl.MelSpectrogram.call)
    weighted = (kl.Attention.call, kl.SpectralNormalization.call)
    if call in weightless + weighted:
        return follow
    parts = {
        id(weight) for layer in operation._flatten_layers(include_self=False) for weight in layer.weights
    }
    if any(id(weight) not in parts for weight in operation.weights):
        return None  # Only a rule can tell what the layer computes with its own weights.
    own = type(operation).__module__.startswith("keras.")
    return follow if parts or not own else None


def _attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
    """Compute `keras.ops.dot_product_attention` in parts, without masks and biases: they change no shape."""
    from keras import ops

    heads = query.shape[2]
    if key.shape[2] != heads:
        key, value = (ops.repeat(each, heads // each.shape[2], axis=2) for each in (key, value))
    scores = ops.softmax(ops.einsum("btnh,bsnh->bnts", query, key))
    return ops.einsum("bnts,bsnh->btnh", scores, value)


def fused_parts(layer: Any) -> dict[str, Callable[..., Any]]:
    """Return, by name, methods that replace methods in which Keras fuses several products into one kernel."""
    from keras import layers as kl

    fused = (kl.MultiHeadAttention._compute_attention, kl.GroupQueryAttention._compute_attention)
    own = getattr(type(layer), "_compute_attention", None)
    return {"_compute_attention": _attend} if own in fused else {}


def _attend(layer: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
    """Compute the products inside an attention layer one by one, never with a fused kernel."""
    if len(query.shape) != 4:
        return type(layer)._compute_attention(layer, query, key, value, *args, **kwargs)
    # For its fused kernel, Keras infers the output shape from the query, but the value may be wider.
    return _attention(query, key, value), None


def _time_distributed(layer: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
    """Run the inner layer on all steps at once, with the steps as a part of the batch."""
    from keras import ops

    batch, steps = inputs.shape[:2]
    outputs = layer.layer(ops.reshape(inputs, (batch * steps, *inputs.shape[2:])))
    return ops.reshape(outputs, (batch, steps, *outputs.shape[1:]))


def _bidirectional(
    layer: Any, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = None
) -> Any:
    """Run both directions and merge them, never with a fused kernel."""
    from keras import ops

    half = len(initial_state or ()) // 2
    states = (initial_state[:half], initial_state[half:]) if initial_state else (None, None)
    there, back = (
        each(sequences, initial_state=state) if state else each(sequences)
        for each, state in zip((layer.forward_layer, layer.backward_layer), states, strict=True)
    )
    rest: tuple[Any, ...] = ()
    if layer.return_state:
        rest = (*there[1:], *back[1:])
        there, back = there[0], back[0]
    if layer.return_sequences:
        back = ops.flip(back, axis=1)
    if layer.merge_mode is None:
        return (there, back, *rest)
    merged = {
        "concat": lambda: ops.concatenate([there, back], axis=-1),
        "sum": lambda: there + back,
        "ave": lambda: (there + back) / 2,
        "mul": lambda: there * back,
    }[layer.merge_mode]()
    return (merged, *rest) if rest else merged
