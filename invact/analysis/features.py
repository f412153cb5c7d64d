"""Measures of the features of a layer: arrays of activations in, numbers out."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from invact.errors import InputError

__all__ = ["dead_share", "effective_rank"]


def dead_share(activations: ArrayLike, multiplicity: int = 1) -> float:
    """Return the share of the units of a layer that are zero for all given images.

    A unit is one output channel. It is dead if its activation is exactly 0 for all images and at all
    positions. A number that is not finite is not 0. Only an activation that returns exact zeros, such as
    ReLU, can have dead units.

    With a multiplicity above 1, the share is that of the filters instead. An inverse activation makes two
    units of each filter. One of them is dead if the filter always has the same sign; nothing is lost then,
    because the other unit keeps the value. The filter is dead only if both units are.

    Args:
        activations: the outputs of the activation; shape (images, ..., channels).
        multiplicity: number of units of each filter: 2 for an inverse activation. With n filters, the units
            of filter i are the channels i, i + n, ..., as concatenation makes them.

    Returns:
        A fraction, from 0 to 1.

    Raises:
        InputError: the array has less than two axes or no elements, or the channels are no multiple of the
            multiplicity.

    Example:
        >>> inverse = [[3.0, 0.0, 0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 2.0, 0.0, 0.0, 0.0]]
        >>> dead_share(inverse), dead_share(inverse, multiplicity=2)
        (0.5, 0.333...)
    """
    values = _of_channels(activations, "activations")
    channels = values.shape[-1]
    if multiplicity < 1 or channels % multiplicity:
        raise InputError(
            f"multiplicity: received {multiplicity}. Allowed: a divisor of the number of channels, {channels}"
        )
    alive = (values != 0).any(axis=tuple(range(values.ndim - 1)))
    return float((~alive.reshape(multiplicity, -1).any(axis=0)).mean())


def effective_rank(features: ArrayLike) -> float:
    """Return the effective rank of the features of a layer: in how many directions they vary, in effect.

    Each position of each image is one sample, and each channel is one feature. The mean of each feature is
    subtracted first, because a constant says nothing about an image. Without this, features without negative
    values, such as those of ReLU, would have a lower rank than others only because of their mean.

    Formula:
        exp(- sum p_k log p_k) with p_k = s_k / sum s, where s are the singular values of the centred matrix
        of shape (samples, channels). It is 0 if the features are constant.

    Args:
        features: outputs of a layer; shape (images, ..., channels).

    Returns:
        From 1 (one direction) to the number of channels (all directions vary equally); 0 for constant
        features; NaN if a feature is not finite.

    Raises:
        InputError: the array has less than two axes or no elements.

    Source:
        Roy and Vetterli, The effective rank: a measure of effective dimensionality, EUSIPCO 2007. They do not
        centre the matrix.

    Example:
        >>> effective_rank([[1, 0], [-1, 0], [0, 1], [0, -1]]), effective_rank([[1, 2], [2, 4], [3, 6]])
        (2.0, 1.0)
    """
    values = _of_channels(features, "features").astype(np.float64)
    if not np.isfinite(values).all():
        return float("nan")
    matrix = values.reshape(-1, values.shape[-1])
    # Without the first difference, the rounding of the mean would make constant features vary.
    matrix = matrix - matrix[0]
    matrix = matrix - matrix.mean(axis=0)
    matrix = matrix if len(matrix) >= matrix.shape[1] else matrix.T
    # The squares of the singular values, at a fraction of the time of a singular value decomposition.
    squares = np.linalg.eigvalsh(matrix.T @ matrix)
    if squares[-1] <= 0:
        return 0.0
    singular = np.sqrt(squares[squares > squares[-1] * len(squares) * np.finfo(np.float64).eps])
    shares = singular / singular.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _of_channels(values: ArrayLike, name: str) -> NDArray[np.floating]:
    array: NDArray[np.floating] = np.asarray(values)
    if array.ndim < 2 or not array.size:
        raise InputError(f"{name}: received shape {array.shape}. Allowed: (images, ..., channels), not empty")
    return array
