"""Whole trainings with the options of the recipe, against loops that are written by hand."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
import users
from helpers import numbers

from invact.config import Config
from invact.data.augmentation import augment
from invact.data.dataset import Dataset
from invact.data.mixing import mix
from invact.networks.build import build_model
from invact.seeding import derive_seed, keras_seed
from invact.training.loop import train

# Keras 3.15 converts TensorFlow variables with a method that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def scores(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    logits = np.asarray(model(images), np.float64)
    cross = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]
    return (logits.argmax(1) == labels).mean(), cross.mean()


def test_a_training_with_all_options_agrees_with_a_loop_by_hand(digits: Dataset, tmp_path) -> None:
    data = replace(digits, x_train=digits.x_train[:200], y_train=digits.y_train[:200])
    config = Config(
        filters=3,
        depth=1,
        normalization="batch",
        activation="inverse",
        batch_size=64,
        optimizer="sgd",
        momentum=0.8,
        nesterov=False,
        learning_rate=0.1,
        epochs=3,
        schedule="step",
        warmup_epochs=1,
        clip_norm=0.5,
        ema=0.7,
        label_smoothing=0.1,
        mixup=0.3,
        weight_decay=0.1,
    )
    result = train(config, 5, data, keep_model=True)

    with keras_seed(derive_seed("initialisation", 5, config.digest())):
        model = build_model(config, data.input_shape, data.classes, data.pixel_range)
    weights = model.trainable_variables
    kernels = [weight.name == "kernel" for weight in weights]
    smooth = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    plain = keras.losses.CategoricalCrossentropy(from_logits=True)
    # Three steps of warm-up; of the other six, three at the full rate, two at a tenth, one at a hundredth.
    rates = [0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001]
    speeds = [np.zeros(weight.shape) for weight in weights]
    averages: list[np.ndarray] = []
    for epoch in (1, 2, 3):
        order = np.random.default_rng([derive_seed("order", 5), epoch]).permutation(200)[:192]
        losses, hits = [], 0
        for step, batch in enumerate(order.reshape(3, 64)):
            images, shares = mix(
                *(data.x_train[batch], data.y_train[batch].astype(np.int32), data.classes),
                *(0.3, 0.0, derive_seed("augmentation", 5), epoch, step),
            )
            with tf.GradientTape() as tape:
                logits = model(images, training=True)
                loss = smooth(shares, logits)
            gradients = [np.asarray(each, float) for each in tape.gradient(loss, weights)]
            losses.append(float(plain(shares, logits)))
            hits += (np.argmax(logits, 1) == np.argmax(shares, 1)).sum()
            norm = np.sqrt(sum(np.square(each).sum() for each in gradients))
            rate = rates[3 * (epoch - 1) + step]
            for place, weight in enumerate(weights):
                old = np.asarray(weight.value, float) * (1 - 0.1 * rate * kernels[place])
                gradient = gradients[place] * min(1.0, 0.5 / norm)
                speeds[place] = 0.8 * speeds[place] - rate * gradient
                weight.assign(old + speeds[place])
            raw = [np.asarray(weight.value, float) for weight in weights]
            averages = [0.7 * a + 0.3 * w for a, w in zip(averages, raw, strict=True)] if averages else raw
        found = result.epochs[epoch - 1]
        assert found.train.loss == pytest.approx(np.mean(losses), rel=1e-4)
        assert found.train.accuracy == pytest.approx(hits / 192)
        for weight, average in zip(weights, averages, strict=True):
            weight.assign(average)
        accuracy, loss = scores(model, data.x_validation, data.y_validation)
        assert found.validation.accuracy == pytest.approx(accuracy, abs=1.5 / len(data.y_validation))
        assert found.validation.loss == pytest.approx(loss, rel=1e-4)
        if epoch < 3:
            for weight, each in zip(weights, raw, strict=True):
                weight.assign(each)
    assert any(np.abs(a - w).max() > 1e-3 for a, w in zip(averages, raw, strict=True))
    (tmp_path / "model.keras").write_bytes(result.model)
    stored = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    # The trainable weights are averages, and the moving statistics are those of the training.
    for one, other in zip(stored.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    assert result.test is not None
    accuracy, loss = scores(stored, data.x_test, data.y_test)
    assert result.test.accuracy == pytest.approx(accuracy, abs=1.5 / len(data.y_test))
    assert result.test.loss == pytest.approx(loss, rel=1e-4)


def test_the_mixed_batches_depend_only_on_the_seed(digits: Dataset) -> None:
    users.seen.clear()
    config = Config(
        model="users:recorder",
        activation="elu",
        filters=2,
        depth=1,
        epochs=1,
        augmentation="crop+cutout",
        cutmix=1.0,
    )
    train(config, 1, digits)
    order = np.random.default_rng([derive_seed("order", 1), 1]).permutation(digits.train_count)
    seed = derive_seed("augmentation", 1)
    assert len(users.seen) == digits.train_count // 128
    for step, batch in enumerate(users.seen):
        index = order[128 * step : 128 * (step + 1)]
        images = augment(digits.x_train[index], ("crop", "cutout"), seed, 1, step)
        labels = digits.y_train[index].astype(np.int32)
        expected, _ = mix(images, labels, digits.classes, 0.0, 1.0, seed, 1, step)
        np.testing.assert_array_equal(batch, expected.numpy() / np.float32(8) - 1)


def test_the_seed_decides_every_number_of_the_options(digits: Dataset) -> None:
    config = Config(
        model="resnet",
        filters=3,
        depth=1,
        epochs=1,
        batch_size=256,
        stochastic_depth=0.5,
        mixup=0.2,
        ema=0.5,
        schedule="one_cycle",
        augmentation="crop",
    )
    first = train(config, 3, digits)
    keras.utils.set_random_seed(99)
    assert numbers(train(config, 3, digits)) == numbers(first)
