"""The training loss, for labels and for images that belong partly to several classes."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

__all__ = ["count_hits", "training_loss"]


def training_loss(logits: Any, targets: Any, smoothing: float = 0.0) -> tuple[Any, Any]:
    """Return the loss that is reported, and the loss that is minimised; they differ by label smoothing.

    The reported loss is the mean cross-entropy h with the targets. With smoothing s, the minimised loss is
    (1 - s) h + s v, where v is the mean cross-entropy with the uniform distribution over the classes. This is
    the cross-entropy with targets (1 - s) y + s / classes.

    Args:
        logits: shape (n, classes).
        targets: labels, shape (n,), or the shares of the classes of each image, shape (n, classes).
        smoothing: the share s of each target that is spread over all classes.

    References:
        Szegedy et al., Rethinking the Inception architecture, 2015, https://arxiv.org/abs/1512.00567

    Example:
        >>> reported, minimised = training_loss(tf.constant([[0.0, 0.0]]), tf.constant([1]), smoothing=0.5)
        >>> round(float(reported), 4), round(float(minimised), 4)
        (0.6931, 0.6931)
    """
    if targets.shape.rank == 1:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    else:
        losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
    loss = tf.reduce_mean(losses)
    if not smoothing:
        return loss, loss
    uniform = tf.reduce_logsumexp(logits, axis=1) - tf.reduce_mean(logits, axis=1)
    return loss, (1 - smoothing) * loss + smoothing * tf.reduce_mean(uniform)


def count_hits(logits: Any, targets: Any) -> Any:
    """Count the images whose largest logit is that of their class, or of the class with their largest share.

    Args:
        logits: shape (n, classes).
        targets: labels, shape (n,), or the shares of the classes of each image, shape (n, classes).

    Example:
        >>> logits = tf.constant([[0.0, 1.0], [0.0, 1.0]])
        >>> int(count_hits(logits, tf.constant([[0.3, 0.7], [0.6, 0.4]])))
        1
    """
    labels = targets if targets.shape.rank == 1 else tf.argmax(targets, 1, tf.int32)
    return tf.math.count_nonzero(tf.argmax(logits, 1, tf.int32) == labels, dtype=tf.int32)
