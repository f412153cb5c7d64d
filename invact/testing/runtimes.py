"""The contract suite of runtimes: an artifact computes the same logits as the Keras model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest

from invact.arms import SHIPPED, get_arm
from invact.config import Config
from invact.data.dataset import Dataset, load
from invact.networks.archives import unpack
from invact.networks.build import build_model
from invact.training.loop import train

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from invact.deploy.runtimes import Session
    from invact.training.results import TrialResult

__all__ = ["NETWORKS", "RuntimeContract", "network", "network_of_arms", "trained"]

NETWORKS: tuple[Mapping[str, Any], ...] = (
    {"model": "cnn", "activation": "relu_duplicated"},
    {"model": "resnet", "activation": "inverse", "normalization": "batch", "stochastic_depth": 0.4},
    {"model": "separable", "activation": "relu"},
    {"model": "mlp", "activation": "linear_negated"},
)
"""Fields of `Config`: the networks that every runtime must run."""


def network(**keys: Any) -> keras.Model:
    """Return a small network for digits, with the weights of one seed.

    Args:
        **keys: fields of `Config`.

    Example:
        >>> network(model="mlp").output_shape
        (None, 10)
    """
    data = _digits()
    keras.utils.set_random_seed(3)
    model = build_model(Config(filters=3, depth=2, **keys), data.input_shape, data.classes, data.pixel_range)
    rng = np.random.default_rng(3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # Fresh ones do nothing, and folding them wrongly would not be noticed.
            layer.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in layer.get_weights()])
    return model


def network_of_arms(*names: str) -> keras.Model:
    """Return a network for digits in which one convolution feeds several arms, whose outputs are in a row.

    Args:
        *names: names of arms.

    Example:
        >>> network_of_arms("relu", "inverse").output_shape  # Images of 6 x 6, with 2 and with 4 channels.
        (None, 216)
    """
    keras.utils.set_random_seed(3)
    image = keras.Input(_digits().input_shape)
    scaled = keras.layers.Rescaling(2 / _digits().pixel_range[1], offset=-1.0)(image)
    x = keras.layers.Conv2D(2, 3, name="conv")(scaled)
    outputs = [keras.layers.Flatten()(get_arm(name).layer(None)(x)) for name in names]
    return keras.Model(image, keras.layers.Concatenate()(outputs) if len(outputs) > 1 else outputs[0])


@functools.cache
def _digits() -> Dataset:
    return load("digits")


@functools.cache
def trained() -> tuple[TrialResult, ...]:
    """Return two of `NETWORKS` after ten epochs on digits; they are trained once in a process."""
    recipe: dict[str, Any] = {"epochs": 10, "batch_size": 32, "learning_rate": 1e-2}
    configs = [Config(filters=8, depth=2, **recipe, **keys) for keys in NETWORKS[1:3]]
    return tuple(train(config, 0, _digits(), keep_model=True) for config in configs)


class RuntimeContract:
    """What every runtime promises; subclass it as `Test...` and set `runtime`.

    An artifact computes the same logits as the Keras model that it was converted from, for any number of
    images or for the number that it was converted for, as integers or reals. Images of another shape and
    damaged artifacts raise an error. In int8 a trained network predicts the same classes, but for a few. A
    runtime prints nothing.

    Attributes:
        runtime: an object with the functions `preload()`, `convert(model, batch, calibration)` and
            `load(artifact, threads)`; see `invact.deploy.runtimes`.
        precisions: the precisions that the runtime can run.
        fixes_batch: whether an artifact that was converted for a number of images refuses any other number.

    Example:
        >>> from invact.deploy.runtimes import tensorflow
        >>> class TestTensorFlow(RuntimeContract):
        ...     runtime = tensorflow
        ...     fixes_batch = False
        >>> print(*[name for name in dir(TestTensorFlow) if name.startswith("test")])
        test_a_damaged_artifact_is_refused
        test_a_fixed_batch_computes_the_same_and_refuses_other_images
        test_an_artifact_computes_the_same_as_its_model
        test_every_arm_is_computed_in_every_precision
        test_int8_predicts_the_same_classes
    """

    # Keras 3.15 converts arrays in two ways that NumPy 2 deprecates.
    pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

    runtime: Any = None
    precisions: Sequence[str] = ("float32",)
    fixes_batch: bool = True

    def convert(
        self,
        model: keras.Model,
        precision: str = "float32",
        *,
        batch: int | None = None,
        calibration: NDArray[Any] | None = None,
    ) -> bytes:
        """Return the artifact of a model.

        Args:
            model: of one input and one output.
            precision: one of `precisions`.
            batch: how many images the artifact takes at a time; None for any number.
            calibration: images for int8, (n, *input_shape); other precisions ignore them.
        """
        images = calibration if precision == "int8" else None
        content: bytes = self._given().convert(model, batch, images)
        return content

    def load(self, artifact: bytes, threads: int = 1) -> Session:
        """Return a session that runs an artifact on some threads."""
        session: Session = self._given().load(artifact, threads)
        return session

    @pytest.mark.parametrize("keys", NETWORKS, ids=lambda keys: "-".join(map(str, keys.values())))
    def test_an_artifact_computes_the_same_as_its_model(
        self, keys: Mapping[str, Any], capfd: pytest.CaptureFixture[str]
    ) -> None:
        """One artifact takes any number of images of any type, in any memory order, and prints nothing."""
        digits = _digits()
        model = network(**keys)
        capfd.readouterr()
        session = self.load(self.convert(model))
        for count in (1, 7, 1):
            images = digits.x_test[:count]
            expected = np.asarray(model(images.astype(np.float32), training=False))
            for given in (images, images.astype(np.float32), images[:, :, ::-1].copy()[:, :, ::-1]):
                found = np.asarray(session(given))
                assert (found.dtype.name, found.shape) == ("float32", (count, digits.classes))
                np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        first = session(digits.x_test[:1])
        kept = first.copy()
        session(digits.x_test[1:2])
        np.testing.assert_array_equal(first, kept, "the second call overwrote the result of the first")
        assert capfd.readouterr() == ("", "")

    def test_every_arm_is_computed_in_every_precision(self) -> None:
        """A network that contains every arm of invact is converted, and each arm has its values."""
        images = _digits().x_train[:50]
        model = network_of_arms(*SHIPPED)
        widths = [get_arm(name).multiplicity for name in SHIPPED]
        expected = np.asarray(model(images.astype(np.float32), training=False))
        ends = np.cumsum(widths)[:-1] * (expected.shape[1] // sum(widths))
        for precision in self.precisions:
            artifact = self.convert(model, precision, calibration=images)
            found = self.load(artifact)(images)
            # One scale of 8 bits serves all arms, because their values are joined.
            tolerance = 1e-4 if precision == "float32" else 0.05 * np.abs(expected).max()
            pairs = zip(np.split(found, ends, 1), np.split(expected, ends, 1), strict=True)
            for name, (values, right) in zip(SHIPPED, pairs, strict=True):
                words = f"{name} in {precision}"
                np.testing.assert_allclose(values, right, atol=tolerance, rtol=1e-4, err_msg=words)

    def test_a_fixed_batch_computes_the_same_and_refuses_other_images(self) -> None:
        """An artifact for 3 images equals one for any number; images that do not fit raise an error."""
        digits = _digits()
        model = network(**NETWORKS[1])
        for precision in self.precisions:
            calibration = digits.x_train[:20]
            fixed = self.load(self.convert(model, precision, batch=3, calibration=calibration), threads=2)
            free = self.load(self.convert(model, precision, calibration=calibration))
            scale = np.abs(free(digits.x_test)).max()
            # In int8, 20 images are filled up to 21, which may change a scale by a little.
            tolerance = 1e-4 if precision == "float32" else 0.05 * scale
            np.testing.assert_allclose(fixed(digits.x_test[:3]), free(digits.x_test[:3]), atol=tolerance)
            assert self._refuses(fixed, digits.x_test[:3, :5])
            if self.fixes_batch:
                assert self._refuses(fixed, digits.x_test[:4])

    def test_int8_predicts_the_same_classes(self, capfd: pytest.CaptureFixture[str]) -> None:
        """A trained network in int8 predicts as in float32 for 97 % of the images, and is as accurate."""
        if "int8" not in self.precisions:
            pytest.skip("this runtime has no int8")
        digits = _digits()
        for result in trained():
            model = unpack(result.model)
            plain = np.asarray(model(digits.x_test.astype(np.float32), training=False)).argmax(axis=1)
            capfd.readouterr()
            artifact = self.convert(model, "int8", calibration=digits.x_train[:200])
            found = self.load(artifact)(digits.x_test).argmax(axis=1)
            assert capfd.readouterr() == ("", "")
            assert result.test is not None
            assert np.mean(found == plain) >= 0.97, result.config.model
            assert np.mean(found == digits.y_test) >= result.test.accuracy - 0.02, result.config.model
        assert artifact != self.convert(model, calibration=digits.x_train[:200])

    def test_a_damaged_artifact_is_refused(self, capfd: pytest.CaptureFixture[str]) -> None:
        """Bytes of another kind, and the first half of an artifact, raise an error; nothing is printed."""
        whole = self.convert(network())
        capfd.readouterr()
        for damaged in (b"", b"PK\x03\x04 another kind of file", whole[: len(whole) // 2]):
            assert self._refuses(self.load, damaged)
        assert capfd.readouterr() == ("", "")

    def is_refusal(self, error: Exception) -> bool:
        """Say whether an error is a proper refusal: any is, because invact turns it into an InputError."""
        return True

    def _refuses(self, call: Callable[[Any], object], argument: Any) -> bool:
        try:
            call(argument)
        except Exception as error:
            return self.is_refusal(error)
        return False

    def _given(self) -> Any:
        if self.runtime is None:
            raise NotImplementedError(f"{type(self).__name__}: set `runtime` to a module or an object")
        return self.runtime
