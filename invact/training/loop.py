"""The function `train`, which trains one configuration with one seed and returns a result."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from invact.cost.count import count_macs
from invact.data.augmentation import augment
from invact.networks.archives import pack
from invact.networks.build import build_model
from invact.networks.saving import check_saved
from invact.networks.settings import keras_settings
from invact.process.quiet import check_backend
from invact.seeding import derive_seed, keras_seed
from invact.training.optimizers import make_optimizer
from invact.training.results import Epoch, Scores, Status, TrialResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from invact.config import Config
    from invact.data.dataset import Dataset

__all__ = ["train"]

EVALUATION_BATCH = 1000

# Keras keeps its seed and its settings in global state, so a process runs one training at a time.
_ONE_AT_A_TIME = threading.Lock()


def train(
    config: Config,
    seed: int,
    data: Dataset,
    *,
    on_epoch: Callable[[Epoch], bool | None] | None = None,
    keep_model: bool = False,
) -> TrialResult:
    """Train one configuration with one seed, and measure it.

    The seed decides every source of randomness. Batch order and augmentation depend only on the seed, so two
    arms trained with the same seed see the same batches. Initialisation and dropout depend on the seed and
    the configuration. With one thread, as in invact's workers, the same arguments give bit-identical numbers
    on one machine. The global settings of Keras do not change them; see `keras_settings`.

    The loop reads the training and validation splits. The test set is read once, after the last epoch, with
    the last weights; no epoch is selected.

    Args:
        config: the network and its recipe.
        seed: the run's seed, >= 0.
        data: the data set, already split.
        on_epoch: called after each epoch, in the thread that called `train`. If it returns False, the
            training ends; None and True let it go on.
        keep_model: whether to return the trained network.

    Returns:
        A result with status FINISHED, DIVERGED if a loss was not finite, or PRUNED if `on_epoch` ended the
        training before its last epoch. A PRUNED result has the curve and the validation scores of its last
        epoch; it has neither test scores nor a network, because the test set was not read.

    Raises:
        InputError: a user's own builder cannot be found.
        BuildError: the configuration's network cannot be built for these data, or cannot be saved although
            `keep_model` is set.
        EnvironmentFault: Keras uses another backend than TensorFlow.

    Example:
        >>> from invact.config import Config
        >>> from invact.data.dataset import load
        >>> config = Config(filters=8, epochs=1, batch_size=32, learning_rate=1e-2)
        >>> result = train(config, 0, load("digits"))
        >>> result.status, len(result.epochs), result.test.accuracy > 0.5
        (<Status.FINISHED: 'FINISHED'>, 1, True)
    """
    check_backend()
    if keep_model:
        with _ONE_AT_A_TIME, keras_settings():
            # Before the seed is set, because reading a network may draw from Keras' generators.
            check_saved(config, data.input_shape, data.classes)
    with (
        _ONE_AT_A_TIME,
        keras_settings(),
        keras_seed(derive_seed("initialisation", seed, config.digest())),
    ):
        model = build_model(config, data.input_shape, data.classes, data.pixel_range)
        return _fit(model, config, seed, data, on_epoch, keep_model)


def _fit(
    model: Any,
    config: Config,
    seed: int,
    data: Dataset,
    on_epoch: Callable[[Epoch], bool | None] | None,
    keep_model: bool,
) -> TrialResult:
    cost = count_macs(model)
    batch = min(config.batch_size, len(data.x_train))
    steps = len(data.x_train) // batch
    run_epoch = _epoch_function(model, config, seed, data, batch, steps)
    evaluate = _evaluation_function(model, data)
    epochs: list[Epoch] = []
    images = 0
    error, pruned = "", False
    for number in range(1, config.epochs + 1):
        order = np.random.default_rng([derive_seed("order", seed), number]).permutation(len(data.x_train))
        batches = tf.constant(order[: steps * batch].reshape(steps, batch), tf.int32)
        start = time.perf_counter()
        accuracy, loss, taken = (value.numpy().item() for value in run_epoch(tf.constant(number), batches))
        seconds = time.perf_counter() - start
        images += taken * batch
        validation, seen = evaluate(data.x_validation, data.y_validation)
        epochs.append(Epoch(number, Scores(accuracy, loss), validation, seconds))
        answer = None if on_epoch is None else on_epoch(epochs[-1])
        if not np.isfinite(loss):
            error = f"the training loss was {loss} in epoch {number}"
            break
        if not np.isfinite(validation.loss):
            error = f"the validation loss was {validation.loss} after epoch {number}"
            break
        if answer is not None and not answer and number < config.epochs:
            pruned = True
            break
    test, correct = (None, None) if pruned else evaluate(data.x_test, data.y_test)
    seconds = sum(epoch.seconds for epoch in epochs)
    return TrialResult(
        config=config,
        seed=seed,
        status=Status.PRUNED if pruned else Status.DIVERGED if error else Status.FINISHED,
        cost=cost,
        epochs=tuple(epochs),
        train=epochs[-1].train,
        validation=epochs[-1].validation,
        test=test,
        seconds=seconds,
        images_per_second=images / seconds,
        correct=b"" if correct is None else np.packbits(correct).tobytes(),
        validation_correct=np.packbits(seen).tobytes(),
        model=pack(model) if keep_model and not pruned else b"",
        error=error,
    )


def _epoch_function(model: Any, config: Config, seed: int, data: Dataset, batch: int, steps: int) -> Any:
    # A graph loop over tensors in memory, because the autotune thread of tf.data would delay the end of every
    # epoch. The tensors are arguments, because TensorFlow never frees a tensor that such a graph captures.
    images, labels = tf.constant(data.x_train), tf.constant(data.y_train, tf.int32)
    weights = model.trainable_variables
    optimizer = make_optimizer(config, steps)
    optimizer.build(weights)
    order_seed = derive_seed("augmentation", seed)
    low, high = data.pixel_range
    background = min(max(0.0, low), high)

    @tf.function  # type: ignore[untyped-decorator]
    def run_epoch(images: Any, labels: Any, epoch: Any, order: Any) -> Any:
        total, hits, step = tf.constant(0.0), tf.constant(0), tf.constant(0)
        while step < steps and tf.math.is_finite(total):
            index = order[step]
            inputs, targets = tf.gather(images, index), tf.gather(labels, index)
            inputs = augment(inputs, config.augmentations, order_seed, epoch, step, background)
            with tf.GradientTape() as tape:
                logits = model(inputs, training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
                loss = tf.reduce_mean(losses)
                objective = tf.add_n([loss, *model.losses])
            optimizer.apply(tape.gradient(objective, weights), weights)
            total += loss
            hits += tf.math.count_nonzero(tf.argmax(logits, 1, tf.int32) == targets, dtype=tf.int32)
            step += 1
        # A diverged loop stops early, so the means are over the steps that were run.
        return (
            tf.cast(hits, tf.float64) / tf.cast(step * batch, tf.float64),
            total / tf.cast(step, tf.float32),
            step,
        )

    # Traced here, so that the seconds of an epoch contain only training.
    run_epoch.get_concrete_function(
        images, labels, tf.TensorSpec((), tf.int32), tf.TensorSpec((steps, batch), tf.int32)
    )
    return functools.partial(run_epoch, images, labels)


def _evaluation_function(
    model: Any, data: Dataset
) -> Callable[[NDArray[Any], NDArray[Any]], tuple[Scores, NDArray[np.bool_]]]:
    images_spec = tf.TensorSpec((None, *data.input_shape), data.x_test.dtype)

    @tf.function(input_signature=(images_spec, tf.TensorSpec((None,), tf.int32)))  # type: ignore[untyped-decorator]
    def measure(images: Any, labels: Any) -> Any:
        logits = model(images, training=False)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return losses, tf.argmax(logits, 1, tf.int32) == labels

    def evaluate(images: NDArray[Any], labels: NDArray[Any]) -> tuple[Scores, NDArray[np.bool_]]:
        # TensorFlow warns of functions that calls trace often, and it takes those of all networks for one.
        measure.get_concrete_function()
        slices = [slice(at, at + EVALUATION_BATCH) for at in range(0, len(images), EVALUATION_BATCH)]
        parts = [measure(images[part], labels[part].astype(np.int32)) for part in slices]
        losses = np.concatenate([loss.numpy() for loss, _ in parts])
        correct = np.concatenate([hit.numpy() for _, hit in parts])
        return Scores(float(correct.mean()), float(losses.mean(dtype=np.float64))), correct

    return evaluate
