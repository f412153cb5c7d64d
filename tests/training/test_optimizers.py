import keras
import numpy as np
import pytest
import tensorflow as tf

from invact.config import Config
from invact.training.optimizers import averaged_weights, make_optimizer

START = (np.arange(15, dtype=np.float32).reshape(5, 3) / 7, np.ones(3, np.float32))


def gradients(steps: int) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(0)
    return [[rng.normal(0, 2, each.shape).astype(np.float32) for each in START] for _ in range(steps)]


def steps_of(config: Config, slopes: list[list[np.ndarray]]):
    """Yield the optimizer and its variables after each step."""
    variables = [
        keras.Variable(each, name=name) for each, name in zip(START, ("kernel", "bias"), strict=True)
    ]
    optimizer = make_optimizer(config, len(slopes))
    optimizer.build(variables)
    for slope in slopes:
        optimizer.apply([tf.constant(each) for each in slope], variables)
        yield optimizer, variables


def numbers(variables) -> list[np.ndarray]:
    return [variable.value.numpy() for variable in variables]


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.9, False), (0.5, True), (0.0, None)])
def test_momentum_is_that_of_its_paper(momentum: float, nesterov: bool | None) -> None:
    """Sutskever et al. step from x, with the gradient at x + m v for Nesterov; Keras stores x + m v."""
    options = {"optimizer": "sgd", "schedule": "constant", "learning_rate": 0.05, "epochs": 1}
    if (momentum, nesterov) != (0.9, True):  # which is the default
        options |= {"momentum": momentum} | ({} if nesterov is None else {"nesterov": nesterov})
    slopes = gradients(6)
    places, speeds = list(START), [np.zeros_like(each) for each in START]
    for slope, (_, variables) in zip(slopes, steps_of(Config(**options), slopes), strict=True):
        speeds = [momentum * v - 0.05 * each for v, each in zip(speeds, slope, strict=True)]
        places = [x + v for x, v in zip(places, speeds, strict=True)]
        for found, x, v in zip(numbers(variables), places, speeds, strict=True):
            np.testing.assert_allclose(found, x + momentum * v if nesterov else x, rtol=1e-5, atol=1e-6)


def test_the_norm_of_all_gradients_together_is_limited() -> None:
    slopes = [[scale * each for each in gradients(1)[0]] for scale in (1.0, 1e-3, 1e4)]
    config = Config(
        optimizer="sgd", momentum=0.0, schedule="constant", learning_rate=1.0, clip_norm=2.0, epochs=1
    )
    before = list(START)
    for slope, (_, variables) in zip(slopes, steps_of(config, slopes), strict=True):
        norm = np.sqrt(sum(np.square(each, dtype=np.float64).sum() for each in slope))
        scale = min(1.0, 2.0 / norm)
        after = numbers(variables)
        for found, was, each in zip(after, before, slope, strict=True):
            np.testing.assert_allclose(found, was - scale * each, rtol=1e-5, atol=1e-6)
        before = after


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_the_averages_are_exponential_and_the_weights_come_back(name: str) -> None:
    config = Config(optimizer=name, ema=0.8, learning_rate=0.1, weight_decay=0.1)
    plain = Config(optimizer=name, learning_rate=0.1, weight_decay=0.1)
    slopes = gradients(6)
    averages: list[np.ndarray] = []
    for (optimizer, variables), (_, others) in zip(
        steps_of(config, slopes), steps_of(plain, slopes), strict=True
    ):
        raw = numbers(variables)
        # The averages do not change the training.
        assert [each.tobytes() for each in raw] == [each.tobytes() for each in numbers(others)]
        averages = [0.8 * a + 0.2 * w for a, w in zip(averages, raw, strict=True)] if averages else raw
        with averaged_weights(optimizer, variables):
            for found, expected in zip(numbers(variables), averages, strict=True):
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
        assert [each.tobytes() for each in numbers(variables)] == [each.tobytes() for each in raw]


def test_without_averages_the_weights_stay() -> None:
    for optimizer, variables in steps_of(Config(), gradients(2)):
        raw = numbers(variables)
        with averaged_weights(optimizer, variables):
            assert [each.tobytes() for each in numbers(variables)] == [each.tobytes() for each in raw]
