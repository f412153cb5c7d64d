"""Filter pairing: whether the filters of a layer come in pairs of opposite sign, against random filters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import integrate, special

from invact.analysis.tree import layers_by_name, numbers_of
from invact.errors import InputError, within

__all__ = ["LayerPairing", "RandomPairing", "filter_pairing", "opposite_cosines", "random_pairing"]

_LEVELS = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class RandomPairing:
    """The cosine of a random filter to its most opposite one, in a layer of random filters.

    Attributes:
        mean: the expected cosine.
        quantiles: the quantiles of the cosine of one filter at 5 %, 50 % and 95 %.
    """

    mean: float
    quantiles: tuple[float, float, float]


@dataclass(frozen=True)
class LayerPairing:
    """How opposite the filters of one layer are.

    Attributes:
        name: name of the layer; in a nested model, the name of the model and a slash come first.
        cosines: for each filter, its cosine to its most opposite filter in the layer.
        reference: the same for a layer of as many random filters of the same shape.

    Example:
        >>> layer = LayerPairing("conv", (-0.9, -0.9, -0.6), RandomPairing(-0.6, (-0.9, -0.6, -0.3)))
        >>> f"{layer.mean:.2f} {layer.strength:.2f}"
        '-0.80 0.50'
    """

    name: str
    cosines: tuple[float, ...]
    reference: RandomPairing

    @property
    def mean(self) -> float:
        """Mean of the cosines; -1 if every filter has its exact opposite in the layer."""
        return float(np.mean(self.cosines))

    @property
    def strength(self) -> float:
        """The mean on a scale where random filters have 0 and a layer of exact opposites has 1.

        Formula:
            (r - m) / (r + 1) for the mean m and the expected cosine r of random filters. It is negative if
            the filters are less opposite than random ones.
        """
        return (self.reference.mean - self.mean) / (self.reference.mean + 1)


def opposite_cosines(kernel: ArrayLike) -> NDArray[np.float64]:
    """Return, for each filter of a layer, the cosine to its most opposite filter in the layer.

    Formula:
        c_i = min over j != i of (w_i . w_j) / (|w_i| |w_j|), where w_i is filter i as a vector. A filter of
        zeros is orthogonal to all others.

    Args:
        kernel: the weights without the bias; shape (..., channels_in, filters), at least 2 filters.

    Returns:
        Shape (filters,), from -1 (there is an exact opposite) to 1.

    Raises:
        InputError: the kernel has another shape, or values that are not finite.

    Source:
        Shang et al., Understanding and Improving Convolutional Neural Networks via Concatenated Rectified
        Linear Units, ICML 2016, section 2, https://arxiv.org/abs/1603.05201

    Example:
        >>> opposite_cosines([[1, -2, 0], [0, 0, 5]]).tolist()
        [-1.0, -1.0, 0.0]
    """
    weights = np.asarray(kernel, dtype=np.float64)
    if weights.ndim < 2 or weights.shape[-1] < 2 or not weights.size:
        raise InputError(
            f"kernel: received shape {weights.shape}. Allowed: (..., channels_in, filters), 2 filters or more"
        )
    if not np.isfinite(weights).all():
        raise InputError("kernel: received values that are not finite. Allowed: finite numbers")
    weights = weights.reshape(-1, weights.shape[-1])
    norms = np.linalg.norm(weights, axis=0)
    directions = weights / np.where(norms > 0, norms, 1)
    cosines = directions.T @ directions
    np.fill_diagonal(cosines, np.inf)
    nearest: NDArray[np.float64] = cosines.min(axis=0).clip(-1, 1)
    return nearest


def random_pairing(weights: int, filters: int) -> RandomPairing:
    """Return the distribution of `opposite_cosines` for filters with independent Gaussian weights.

    Formula:
        The direction of a Gaussian filter of d weights is uniform, so its cosine to another one is 2 b - 1,
        where b has the beta distribution with both parameters (d - 1) / 2. For a given filter, the cosines
        to the n - 1 others are independent, so P(minimum > x) = P(2 b - 1 > x)^(n - 1). This is exact.

    Args:
        weights: d, number of weights of one filter, at least 2. A filter of one weight has only a sign.
        filters: n, number of filters of the layer, at least 2.

    Raises:
        InputError: one of the numbers is less than 2.

    Source:
        Muirhead, Aspects of Multivariate Statistical Theory, 1982, section 1.5 (spherical distributions)

    Example:
        >>> reference = random_pairing(weights=3, filters=5)
        >>> f"{reference.mean:.3f}"  # The cosine is uniform for d = 3, so the mean is -1 + 2 / n.
        '-0.600'
    """
    for name, received in {"weights": weights, "filters": filters}.items():
        if received < 2:
            raise InputError(f"{name}: received {received}. Allowed: at least 2")
    half, others = (weights - 1) / 2, filters - 1
    low, median, high = (
        2 * float(special.betaincinv(half, half, -math.expm1(math.log1p(-level) / others))) - 1
        for level in _LEVELS
    )

    def survival(cosine: float) -> float:
        return float(special.betaincc(half, half, (1 + cosine) / 2) ** others)

    # In many dimensions this is a step at the median, which the quadrature must not miss.
    above, _ = integrate.quad(survival, -1, 1, points=(median,))
    return RandomPairing(above - 1, (low, median, high))


def filter_pairing(model: keras.Model) -> tuple[LayerPairing, ...]:
    """Measure how opposite the filters are in each convolution and each dense layer of a model.

    These layers are left out: grouped, depthwise and separable convolutions, because their filters read
    different channels; transposed convolutions; layers with one filter, which has no other one; and layers
    whose filters have one weight. Biases do not count, nor does a normalisation that follows.

    Args:
        model: a built Keras model; nested models are included.

    Returns:
        One entry for each layer, in the order of the layers.

    Raises:
        InputError: this is no built Keras model, or the weights of a layer are not finite.

    Example:
        >>> import numpy as np
        >>> dense = keras.layers.Dense(4, name="dense")
        >>> model = keras.Sequential([keras.Input((2,)), dense, keras.layers.Dense(1)])
        >>> dense.set_weights([np.array([[1, -1, 0, 0], [0, 0, 1, -1]]), np.zeros(4)])
        >>> [(layer.name, layer.mean, layer.strength) for layer in filter_pairing(model)]
        [('dense', -1.0, 1.0)]
    """
    found = []
    for name, layer in layers_by_name(model).items():
        kernel = _kernel_of(layer)
        if kernel is None:
            continue
        with within(f"layer {name!r}"):
            cosines = opposite_cosines(kernel)
        reference = random_pairing(kernel.size // len(cosines), len(cosines))
        found.append(LayerPairing(name, tuple(cosines.tolist()), reference))
    return tuple(found)


def _kernel_of(layer: keras.Layer) -> NDArray[np.float32] | None:
    """Return the kernel of a layer whose filters all read the same channels; None for any other layer."""
    kl = keras.layers
    if not isinstance(layer, (kl.Conv1D, kl.Conv2D, kl.Conv3D, kl.Dense)) or getattr(layer, "groups", 1) != 1:
        return None
    kernel = numbers_of(layer.kernel)
    filters = kernel.shape[-1]
    return kernel if filters > 1 and kernel.size > filters else None
