"""Mixup and CutMix in the TensorFlow graph; their random draws depend on (seed, epoch, step) only."""

from __future__ import annotations

from invact.data.augmentation import Tensor, batch_key, rectangle

__all__ = ["mix"]


def mix(
    images: Tensor,
    labels: Tensor,
    classes: int,
    mixup: float,
    cutmix: float,
    seed: int | Tensor,
    epoch: int | Tensor,
    step: int | Tensor,
) -> tuple[Tensor, Tensor]:
    """Mix each image of a batch, and its label, with the next image of the batch; the last with the first.

    Each image draws its own share s from Beta(alpha, alpha). With x' the next image and y' its label:

    - `mixup` with alpha: the image s x + (1 - s) x' and the label s y + (1 - s) y'.
    - `cutmix` with alpha: a rectangle of x is replaced by that of x'. Its sides are those of the image times
      sqrt(1 - s), rounded down. Its centre can be any pixel, and the border may clip it. The label is
      s y + (1 - s) y' with s the part of the pixels that x keeps.

    The batches of a training are in random order already, so the next image is a random partner.

    Args:
        images: stored pixels, shape (n, height, width, channels), any number type.
        labels: shape (n,), int32.
        classes: number of classes.
        mixup: alpha of mixup; 0 means no mixup.
        cutmix: alpha of CutMix; 0 means no CutMix.
        seed: 0 to 2^63 - 1. `augment` with the same seed draws other numbers.
        epoch: number of the epoch, below 2^31.
        step: number of the batch in the epoch, below 2^32.

    Returns:
        The images, in float32 after mixup, and the shares of the classes, shape (n, classes). If both alphas
        are 0, the images and the labels as they were given.

    References:
        Zhang et al., mixup, 2017, https://arxiv.org/abs/1710.09412
        Yun et al., CutMix, 2019, https://arxiv.org/abs/1905.04899

    Example:
        >>> import numpy as np
        >>> images, labels = np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 2], np.int32)
        >>> _, shares = mix(images, labels, 3, mixup=0.2, cutmix=0, seed=0, epoch=1, step=0)
        >>> [round(float(share), 6) for share in shares.numpy().sum(1)], float(shares.numpy()[:, 1].sum())
        ([1.0, 1.0], 0.0)
    """
    import tensorflow as tf

    images, labels = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
    if not mixup and not cutmix:
        return images, labels
    kept, centres = _draw(tf.shape(images)[0], mixup or cutmix, batch_key(seed, epoch, step))
    others = tf.roll(images, -1, axis=0)
    if mixup:
        # The scaling of pixels to [-1, 1] is affine, so mixed pixels are mixed inputs of the network.
        share = kept[:, tf.newaxis, tf.newaxis, tf.newaxis]
        images = share * tf.cast(images, tf.float32) + (1 - share) * tf.cast(others, tf.float32)
    else:
        height, width = images.shape[1:3]
        sides = [tf.cast(side * tf.sqrt(1 - kept), tf.int32)[:, tf.newaxis] for side in (height, width)]
        inside = rectangle(centres, (height, width), sides)
        images = tf.where(inside[..., tf.newaxis], others, images)
        kept = 1 - tf.reduce_mean(tf.cast(inside, tf.float32), axis=(1, 2))
    shares = tf.one_hot(labels, classes)
    return images, kept[:, tf.newaxis] * shares + (1 - kept[:, tf.newaxis]) * tf.roll(shares, -1, axis=0)


def _draw(count: Tensor, alpha: float, key: Tensor) -> tuple[Tensor, Tensor]:
    """Draw shares from Beta(alpha, alpha), shape (count,), and two uniform numbers for each image."""
    import tensorflow as tf

    seed, batch = tf.unstack(key)
    # No key of `augment` has a negative part.
    uniform = tf.random.stateless_uniform(
        tf.stack([4, count]), tf.stack([tf.bitwise.invert(seed), batch]), alg="philox"
    )
    other = tf.stack([tf.bitwise.invert(seed), tf.bitwise.invert(batch)])
    gamma = tf.random.stateless_gamma(tf.stack([2, count]), other, alpha + 1.0)
    # A draw G from Gamma(alpha + 1) and a uniform U give G U^(1 / alpha), a draw from Gamma(alpha), and two
    # of them give X / (X + Y), a draw from Beta(alpha, alpha). Logarithms keep small X and Y apart from 0.
    logs = tf.math.log(gamma)
    power = tf.math.log1p(-uniform[0]) - tf.math.log1p(-uniform[1])
    return tf.sigmoid(logs[0] - logs[1] + power / alpha), uniform[2:]
