"""The contract suite of builders: what the networks of every builder must do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest

from invact.config import Config
from invact.cost.count import count_macs
from invact.layers import ChannelDoubling
from invact.networks.archives import pack, unpack
from invact.networks.build import build_model
from invact.networks.check import check_model

if TYPE_CHECKING:
    from invact.config import Scalar
    from invact.cost.rules import Shape

__all__ = ["BuilderContract"]


class BuilderContract:
    """What the networks of every builder promise; subclass it as `Test...` and set `builder`.

    A network takes images of any shape in `shapes`, as integers or reals, and returns finite logits in
    float32, also in mixed precision. The configuration and Keras' seed decide its weights. It uses the arm
    and the filters of each stage, each inverse activation sees both signs, and its MACs can be counted. It
    can be saved and loaded.

    Attributes:
        builder: `package.module:function`, or a name in `invact.networks.builders.BUILDERS`.
        options: keywords of a builder of your own.
        shapes: shapes of images, (height, width, channels); the first one is used in most tests.
        depths: numbers of stages that are built with every shape.
        deepest: a number of stages that is built with the first shape only, with one filter. With 6, pools
            that halve an image of 8 x 8 pixels would leave nothing of it.
        names_layers: whether the builder names each layer, so that two networks of one configuration are the
            same in Keras' `get_config` too.

    Example:
        >>> class TestNarrow(BuilderContract):
        ...     builder = "cnn"
        ...     shapes = ((8, 8, 1),)
        >>> TestNarrow().test_each_stage_has_its_own_arm()
        >>> print(*[name for name in dir(TestNarrow) if name.startswith("test")])
        test_a_saved_network_loads_and_is_the_same
        test_each_stage_has_its_own_arm
        test_each_stage_has_its_own_filters
        test_every_inverse_activation_sees_both_signs
        test_logits_are_float32_in_mixed_precision
        test_networks_are_built_for_every_image_and_depth
        test_the_deepest_network_is_built
        test_the_seed_decides_the_weights
    """

    # Keras 3.15 converts arrays in two ways that NumPy 2 deprecates.
    pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

    builder: str = ""
    options: Mapping[str, Scalar] = {}
    shapes: Sequence[Shape] = ((8, 8, 1), (28, 28, 1), (32, 32, 3))
    depths: Sequence[int] = (1, 2, 3)
    deepest: int = 6
    names_layers: bool = False

    def build(
        self, shape: Shape | None = None, classes: int = 10, maximum: float = 255.0, **keys: Any
    ) -> keras.Model:
        """Return a network of the builder.

        Args:
            shape: of the images; the first of `shapes` unless given.
            classes: the number of logits.
            maximum: the largest pixel value.
            **keys: fields of `Config`.
        """
        if not self.builder:
            raise NotImplementedError(f"{type(self).__name__}: set `builder` to the name of a builder")
        config = Config(model=self.builder, options=dict(self.options), **keys)
        return build_model(config, shape or self.shapes[0], classes, (0, maximum))

    def inverse_layers(self, depth: int) -> int:
        """Return how many inverse activations a network of `depth` stages has: one each unless overridden."""
        return depth

    def images(self, count: int, shape: Shape | None = None, maximum: int = 255) -> Any:
        """Return random images, shape (count, height, width, channels), integers from 0 to `maximum`."""
        sizes = (count, *(shape or self.shapes[0]))
        return np.random.default_rng(0).integers(0, maximum + 1, sizes, dtype=np.uint8)

    def test_networks_are_built_for_every_image_and_depth(self) -> None:
        """Logits are finite, differ between the classes, and are not the output of a softmax."""
        for shape in self.shapes:
            for depth in self.depths:
                network = self.build(shape, 7, activation="inverse", filters=3, depth=depth)
                logits = np.asarray(network(self.images(2, shape)))
                assert logits.shape == (2, 7), (shape, depth)
                assert np.isfinite(logits).all(), (shape, depth)
                assert np.ptp(logits, axis=-1).min() > 0, (shape, depth)
                sums = logits.sum(axis=-1)
                assert np.abs(sums - 1).max() > 1e-3, f"{shape}, {depth}: the outputs are probabilities"

    def test_the_deepest_network_is_built(self) -> None:
        """A network may have more stages than its images can be halved."""
        assert self.build(filters=1, depth=self.deepest, classes=3).output_shape == (None, 3)

    def test_a_saved_network_loads_and_is_the_same(self) -> None:
        """A network that was saved computes the same logits and costs the same."""
        keys: dict[str, Any] = {"activation": "inverse", "normalization": "batch", "dropout": 0.5}
        network = self.build(maximum=16, classes=4, filters=2, depth=self._depth, **keys)
        loaded = unpack(pack(network))
        images = self.images(3, maximum=16)
        np.testing.assert_array_equal(loaded(images), network(images))
        assert count_macs(loaded) == count_macs(network)

    def test_logits_are_float32_in_mixed_precision(self) -> None:
        """The inner layers compute in bfloat16, and Keras' policy is the same as before."""
        before = keras.config.dtype_policy()
        network = self.build(
            activation="inverse", normalization="batch", precision="mixed_bfloat16", depth=self._depth
        )
        assert keras.config.dtype_policy() == before
        assert network(self.images(1)).dtype == "float32"
        inner = [layer for layer in network._flatten_layers() if isinstance(layer, ChannelDoubling)]
        assert inner, "the network has no inverse activation"
        assert {layer.compute_dtype for layer in inner} == {"bfloat16"}

    def test_the_seed_decides_the_weights(self) -> None:
        """The same configuration and seed give the same network, another seed gives other weights."""

        def seeded(seed: int) -> keras.Model:
            keras.utils.set_random_seed(seed)
            return self.build(activation="inverse_elu", normalization="batch", dropout=0.1, depth=self._depth)

        networks = [seeded(seed) for seed in (0, 0, 1)]
        first, again, other = (network.get_weights() for network in networks)
        assert len(first) == len(again)
        for left, right in zip(first, again, strict=True):
            np.testing.assert_array_equal(left, right)
        assert any(not np.array_equal(left, right) for left, right in zip(first, other, strict=True))
        if self.names_layers:
            assert networks[0].get_config() == networks[1].get_config()

    def test_each_stage_has_its_own_filters(self) -> None:
        """More filters in any one stage are more MACs and more parameters, as the width rules need."""
        plain = count_macs(self.build(filters=(4,) * self._depth, depth=self._depth))
        for stage in range(self._depth):
            filters = tuple(8 if other == stage else 4 for other in range(self._depth))
            wider = count_macs(self.build(filters=filters, depth=self._depth))
            assert wider.macs > plain.macs, f"filters {filters}"
            assert wider.params > plain.params, f"filters {filters}"

    def test_each_stage_has_its_own_arm(self) -> None:
        """An inverse arm in one stage makes inverse activations in that stage, and in no other."""
        counts = []
        for stage in range(self._depth):
            arms = tuple("inverse" if other == stage else "relu" for other in range(self._depth))
            network = self.build(activation=arms, filters=2, depth=self._depth)
            counts.append(len(check_model(network).doubled))
            assert counts[-1] > 0, f"activation {arms}"
        assert sum(counts) == self.inverse_layers(self._depth)

    @pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
    def test_every_inverse_activation_sees_both_signs(self, normalization: str) -> None:
        """No activation stands before an inverse one; see `invact.networks.check.check_model`."""
        depth = max(self.depths)
        network = self.build(activation="inverse", filters=2, depth=depth, normalization=normalization)
        checked = check_model(network)
        assert checked.problems == ()
        assert len(checked.doubled) == self.inverse_layers(depth)

    @property
    def _depth(self) -> int:
        return min(2, max(self.depths))
