import gc
import math
import random
import threading
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
import users
from helpers import numbers

from invact.config import Config
from invact.data.dataset import Dataset
from invact.errors import InputError
from invact.networks.build import build_model
from invact.seeding import derive_seed, keras_seed
from invact.training.loop import Trainer, train
from invact.training.optimizers import make_optimizer
from invact.training.results import Epoch, Status, TrialResult

# Keras 3.15 converts TensorFlow variables with a method that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TINY = Config(filters=3, depth=1, epochs=2, batch_size=64)


def weights(archive: bytes, folder) -> keras.Model:
    (folder / "model.keras").write_bytes(archive)
    return keras.saving.load_model(folder / "model.keras", compile=False)


def changed(config: Config, **values: object) -> Config:
    return Config.model_validate(config.model_dump() | values)


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    """Trains `TINY` several times with one network, which changes no number (see `test_trainer`)."""
    return Trainer()


@pytest.fixture(scope="module")
def tiny(trainer: Trainer, digits: Dataset) -> tuple[TrialResult, list[Epoch]]:
    """The result of `TINY` with seed 0, and the epochs that were told."""
    told: list[Epoch] = []
    return trainer.train(TINY, 0, digits, on_epoch=told.append), told


def test_the_seed_decides_every_number(digits: Dataset) -> None:
    config = changed(
        TINY, augmentation="shift+cutout", dropout=0.3, normalization="batch", activation="inverse"
    )
    trainer = Trainer()
    first, other = (trainer.train(config, seed, digits) for seed in (3, 4))
    keras.utils.set_random_seed(99)
    np.random.random(7)  # noqa: NPY002
    assert numbers(train(config, 3, digits)) == numbers(first)
    assert all(a.train != b.train for a, b in zip(first.epochs, other.epochs, strict=True))
    assert first.correct != other.correct


@pytest.mark.parametrize(
    ("optimizer", "schedule"), [("adam", "cosine"), ("adamw", "constant"), ("sgd", "cosine")]
)
def test_weights_agree_with_a_simple_keras_loop(
    digits: Dataset, tmp_path, optimizer: str, schedule: str
) -> None:
    data = replace(digits, x_train=digits.x_train[:200], y_train=digits.y_train[:200])
    config = changed(
        TINY, optimizer=optimizer, schedule=schedule, weight_decay=0.1, learning_rate=0.01, epochs=2
    )
    result = train(config, 5, data, keep_model=True)

    initialisation = derive_seed("initialisation", 5, config.digest())
    with keras_seed(initialisation):
        model = build_model(config, data.input_shape, data.classes, data.pixel_range)
    classes = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD}
    momentum = {"momentum": 0.9, "nesterov": True} if optimizer == "sgd" else {}
    byhand = classes[optimizer](0.01, weight_decay=0.1, **momentum)
    byhand.exclude_from_weight_decay([v for v in model.trainable_variables if v.name != "kernel"])
    model.compile(byhand, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    step = 0
    for epoch in (1, 2):
        order = np.random.default_rng([derive_seed("order", 5), epoch]).permutation(200)[:192]
        losses = []
        for batch in order.reshape(3, 64):
            if schedule == "cosine":
                byhand.learning_rate = 0.01 * (1 + math.cos(math.pi * step / 6)) / 2
            losses.append(float(model.train_on_batch(data.x_train[batch], data.y_train[batch])))
            step += 1
            model.reset_metrics()
        assert result.epochs[epoch - 1].train.loss == pytest.approx(np.mean(losses), rel=1e-4)
    for trained, expected in zip(
        weights(result.model, tmp_path).get_weights(), model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(trained, expected, rtol=1e-3, atol=1e-5)


def test_epochs_are_reported_in_order_and_equal_those_of_the_result(tiny) -> None:
    result, told = tiny
    assert tuple(told) == result.epochs
    assert [epoch.number for epoch in told] == [1, 2]
    assert result.validation == told[-1].validation
    assert result.train == told[-1].train
    assert result.seconds == sum(epoch.seconds for epoch in told)
    assert result.images_per_second == pytest.approx(2 * 1088 / result.seconds)


def test_a_training_that_is_stopped_is_the_begin_of_the_whole_one(digits: Dataset) -> None:
    """The schedule is that of the full length, so the curve is the same; the test set is not read."""
    config = changed(TINY, epochs=4, schedule="cosine", dropout=0.2, augmentation="shift")
    trainer = Trainer()
    whole = trainer.train(config, 0, digits, on_epoch=lambda epoch: None)
    pruned = trainer.train(config, 0, digits, on_epoch=lambda epoch: epoch.number < 2, keep_model=True)
    assert (whole.status, pruned.status) == (Status.FINISHED, Status.PRUNED)
    curves = [[(epoch.train, epoch.validation) for epoch in each.epochs] for each in (whole, pruned)]
    assert curves[1] == curves[0][:2]
    assert (pruned.train, pruned.validation) == curves[0][1]
    assert (pruned.test, pruned.correct, pruned.model, pruned.error) == (None, b"", b"", "")
    seen = np.unpackbits(np.frombuffer(pruned.validation_correct, np.uint8), count=digits.validation_count)
    assert seen.mean() == pruned.validation.accuracy
    assert pruned.images_per_second == pytest.approx(2 * 1088 / pruned.seconds)


def test_an_answer_after_the_last_epoch_changes_nothing(digits: Dataset, trainer: Trainer, tiny) -> None:
    stopped = trainer.train(TINY, 0, digits, on_epoch=lambda epoch: epoch.number < 2)
    assert numbers(stopped) == numbers(tiny[0])


def test_training_does_not_change_the_random_state_of_the_caller(digits: Dataset) -> None:
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    train(changed(TINY, epochs=1), 0, digits)
    assert random.getstate() == python
    after = np.random.get_state()  # noqa: NPY002
    assert after[0] == legacy[0]
    np.testing.assert_array_equal(after[1], legacy[1])


def test_other_threads_that_draw_random_numbers_do_not_change_the_result(digits: Dataset) -> None:
    # Threads of Dask draw random numbers when they connect, in the process that trains.
    config = changed(TINY, epochs=1, dropout=0.2, depth=2, width_rule="macs", activation="inverse")
    alone = train(config, 0, digits)
    stop = threading.Event()

    def draw() -> None:
        while not stop.is_set():
            random.random()

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        assert numbers(train(config, 0, digits)) == numbers(alone)
    finally:
        stop.set()
        thread.join()


def test_a_diverged_training_stops_and_keeps_its_measurements(digits: Dataset) -> None:
    config = changed(TINY, epochs=20, learning_rate=100.0, optimizer="sgd", activation="elu", depth=3)
    result = train(config, 0, digits)
    assert result.status is Status.DIVERGED
    assert 1 <= len(result.epochs) < 20
    assert not math.isfinite(result.epochs[-1].train.loss + result.epochs[-1].validation.loss)
    assert f"epoch {len(result.epochs)}" in result.error
    assert "\n" not in result.error
    assert result.train.accuracy > 0.02, "the mean is over the steps that were run, not over all steps"
    assert result.test is not None
    assert 0 <= result.test.accuracy <= 1
    assert result.test_correct(digits.test_count).mean() == result.test.accuracy


def test_arms_share_batches_and_augmentation_but_not_weights(digits: Dataset, tmp_path) -> None:
    data = replace(digits, x_train=digits.x_train[:256], y_train=digits.y_train[:256])
    batches, starts = {}, {}
    for arm, seed in [("relu", 1), ("elu", 1), ("relu", 2)]:
        users.seen.clear()
        config = Config(
            model="users:recorder",
            activation=arm,
            filters=2,
            depth=1,
            epochs=2,
            augmentation="shift+cutout",
            learning_rate=1e-12,
        )
        result = train(config, seed, data, keep_model=seed == 1)
        batches[arm, seed] = np.stack(users.seen)
        if seed == 1:
            starts[arm] = weights(result.model, tmp_path).get_weights()[0]
    assert batches["relu", 1].shape == (2 * 2, 128, 8, 8, 1)
    np.testing.assert_array_equal(batches["relu", 1], batches["elu", 1])
    assert not np.array_equal(batches["relu", 1], batches["relu", 2])
    assert not np.array_equal(batches["relu", 1][:2], batches["relu", 1][2:]), "each epoch has its own order"
    assert not np.array_equal(starts["relu"], starts["elu"])


@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_adam_and_adamw_train_identically_under_two_digests(decay: float) -> None:
    rng = np.random.default_rng(0)
    start = rng.normal(size=(5, 3)).astype(np.float32)
    slopes = rng.normal(size=(4, 2, 5, 3)).astype(np.float32)
    ends = {}
    for name in ("adam", "adamw", "sgd"):
        optimizer = make_optimizer(Config(optimizer=name, weight_decay=decay, learning_rate=0.1), 2)
        weights = [keras.Variable(start, name=each) for each in ("kernel", "bias")]
        optimizer.build(weights)
        for gradients in slopes:
            optimizer.apply([tf.constant(each) for each in gradients], weights)
        ends[name] = [weight.numpy().tobytes() for weight in weights]
    assert ends["adam"] == ends["adamw"] != ends["sgd"]
    digests = {Config(optimizer=name, weight_decay=decay).digest() for name in ends}
    assert len(digests) == 3


def test_the_test_set_does_not_affect_training(digits: Dataset, trainer: Trainer, tiny) -> None:
    rng = np.random.default_rng(0)
    corrupt = replace(
        digits,
        x_test=rng.integers(0, 255, digits.x_test[:17].shape, np.uint8),
        y_test=rng.permutation(digits.y_test)[:17],
    )
    honest, blind = tiny[0], trainer.train(TINY, 0, corrupt)
    assert numbers(replace(honest, test=None, correct=b"")) == numbers(replace(blind, test=None, correct=b""))
    assert honest.test != blind.test
    assert honest.validation_correct == blind.validation_correct


def test_the_answers_to_each_image_have_the_accuracies(digits: Dataset, tiny) -> None:
    found = tiny[0]
    for bits, count, scores in (
        (found.correct, digits.test_count, found.test),
        (found.validation_correct, digits.validation_count, found.validation),
    ):
        assert np.unpackbits(np.frombuffer(bits, np.uint8), count=count).mean() == scores.accuracy


def test_validation_images_are_not_trained_on(digits: Dataset, trainer: Trainer, tiny) -> None:
    blank = replace(digits, x_validation=np.zeros_like(digits.x_validation))
    seen, unseen = tiny[0], trainer.train(TINY, 0, blank)
    assert [epoch.train for epoch in seen.epochs] == [epoch.train for epoch in unseen.epochs]
    assert seen.correct == unseen.correct
    assert seen.validation != unseen.validation


@pytest.fixture(scope="module")
def kept(digits: Dataset) -> dict[str, TrialResult]:
    """Results with their networks, by precision."""
    configs = {
        precision: changed(TINY, activation="inverse", precision=precision, learning_rate=0.02)
        for precision in ("float32", "mixed_bfloat16")
    }
    return {precision: train(config, 0, digits, keep_model=True) for precision, config in configs.items()}


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_the_returned_model_accepts_raw_pixels_and_gives_the_same_predictions(
    digits: Dataset, tmp_path, kept: dict[str, TrialResult], precision: str
) -> None:
    result = kept[precision]
    model = weights(result.model, tmp_path)
    assert digits.x_test.dtype == np.uint8
    logits = model.predict(digits.x_test, verbose=0)
    assert logits.dtype == np.float32
    correct = logits.argmax(1) == digits.y_test
    # The rounding of bfloat16 depends on the batch size.
    allowed = 0 if precision == "float32" else 4
    assert (correct != result.test_correct(digits.test_count)).sum() <= allowed
    assert result.test is not None
    assert result.test_correct(digits.test_count).mean() == result.test.accuracy
    assert result.test.accuracy > 0.2
    shifted = logits - logits.max(1, keepdims=True)
    cross = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(shifted)), digits.y_test]
    assert result.test.loss == pytest.approx(float(cross.mean()), rel=1e-5 if not allowed else 1e-2)
    if precision == "mixed_bfloat16":
        assert {layer.compute_dtype for layer in model.layers} >= {"bfloat16"}
        assert result.test.loss != kept["float32"].test.loss


def test_no_model_is_returned_by_default(tiny) -> None:
    assert tiny[0].model == b""


def test_a_batch_larger_than_the_training_set_is_the_whole_training_set(digits: Dataset) -> None:
    result = train(changed(TINY, batch_size=65536, epochs=1), 0, digits)
    assert result.status is Status.FINISHED
    assert result.images_per_second == pytest.approx(digits.train_count / result.seconds)
    assert 0 <= result.train.accuracy <= 1
    assert math.isfinite(result.train.loss)


def test_a_users_own_builder_gets_its_options(digits: Dataset) -> None:
    small = Config(model="users:build", filters=2, depth=1, epochs=1, options={"hidden": 3})
    result = train(small, 0, digits)
    assert result.status is Status.FINISHED
    assert result.cost.params == (9 * 2 + 2) + (72 * 3 + 3) + (3 * 10 + 10)


def test_a_configuration_that_cannot_be_built_is_refused(digits: Dataset) -> None:
    with pytest.raises(InputError, match="no such function, received 'bild'; did you mean 'build'"):
        train(Config(model="users:bild", depth=1), 0, digits)


def test_seeds_of_different_purposes_are_independent() -> None:
    seeds = {derive_seed(purpose, seed) for purpose in ("order", "augmentation") for seed in range(1000)}
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_no_images_stay_in_memory_after_a_training(digits) -> None:
    """A worker trains hundreds of networks, so images that stay in memory would fill it."""
    config = Config(filters=2, depth=1, epochs=1, batch_size=561)
    # Everything before the training is left out of the two looks through all objects.
    gc.freeze()
    train(config, 0, digits)
    keras.backend.clear_session()
    gc.collect()
    assert _images(digits) == 0
    held = tf.constant(digits.x_train)
    assert _images(digits) == 1, held.shape


def _images(data) -> int:
    # The type is compared because isinstance triggers warnings of objects of some libraries.
    tensor = type(tf.constant(0))
    return sum(type(each) is tensor and each.shape == data.x_train.shape for each in gc.get_objects())
