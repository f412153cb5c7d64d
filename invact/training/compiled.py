"""The `Compiled` network of a configuration, which is traced once, and whose state each seed sets anew."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from invact.cost.count import Cost, count_macs
from invact.data.augmentation import augment
from invact.data.mixing import mix
from invact.networks.build import build_model
from invact.seeding import derive_seed
from invact.training.losses import count_hits, training_loss
from invact.training.optimizers import averaged_weights, make_optimizer
from invact.training.results import Scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from invact.config import Config
    from invact.data.dataset import Dataset

__all__ = ["Compiled", "key_of", "tensors_of"]

EVALUATION_BATCH = 1000

STATEFUL = frozenset(
    {"Assert", "AssignAddVariableOp", "AssignSubVariableOp", "AssignVariableOp", "If", "PartitionedCall"}
    | {"ReadVariableOp", "StatefulPartitionedCall", "While"}
)
"""Stateful operations whose only state is that of variables. Others may keep numbers that no copy reaches."""


def key_of(config: Config, data: Dataset) -> tuple[Any, ...]:
    """Return what decides the traced functions: the configuration, and the shapes and types of the images."""
    images = (data.x_train.shape, data.x_train.dtype.str, data.x_test.dtype.str)
    return config.digest(), images, data.classes, data.pixel_range


def tensors_of(data: Dataset) -> tuple[Any, Any]:
    """Return the training images and labels of a data set as tensors."""
    return tf.constant(data.x_train), tf.constant(data.y_train, tf.int32)


class Compiled:
    """A network with its optimizer and its traced functions, for one seed after another.

    Tracing and the optimisation of a graph take several times as long as the training of a small network.
    They do not depend on the seed, because everything that does is in a variable or an argument: the weights,
    the statistics of batch normalisation, the state of the optimizer and of the random generators of dropout
    are variables, and the seed of the augmentation is an argument.

    All methods are called within `keras_settings`, and with Keras seeded for the initialisation.

    Args:
        config: the configuration; its network is built and traced here.
        data: the data set that decides the shapes; its images are not kept.
        tensors: its training images and labels, from `tensors_of`.

    Attributes:
        model: the network.
        cost: its cost.
        batch: images in each training step.
        build: seconds of building and counting, for the current seed.
        trace: seconds of tracing and of optimising the graph of the training, for the current seed.

    Raises:
        InputError: a user's own builder cannot be found.
        BuildError: the network cannot be built for these data.
    """

    def __init__(self, config: Config, data: Dataset, tensors: tuple[Any, Any]) -> None:
        start = time.perf_counter()
        self._config = config
        self._network = data.input_shape, data.classes, data.pixel_range
        self.model = self._built()
        self._description = _describe(self.model)
        self.cost: Cost = count_macs(self.model)
        self.batch = min(config.batch_size, len(data.x_train))
        self.steps = len(data.x_train) // self.batch
        self._optimizer = make_optimizer(config, self.steps)
        self._optimizer.build(self.model.trainable_variables)
        # It does not depend on the seed: an optimizer draws no random numbers, and reads no weights so far.
        self._start = [variable.value.numpy() for variable in self._optimizer.variables]
        self.build = time.perf_counter() - start
        start = time.perf_counter()
        self._run_epoch = self._traced_epoch(data)
        self._measure = self._traced_measure(data)
        self._optimise(tensors)
        self.trace = time.perf_counter() - start
        self._reusable: bool | None = None

    def restart(self, tensors: tuple[Any, Any]) -> bool:
        """Set the state of a fresh network for the current seed of Keras; the argument is that of the class.

        The network is built once more, because only that draws the same random numbers as the first one, and
        its variables are copied.

        Returns:
            False if the network cannot be shared between seeds. Its state is then undefined. Reasons are
            random or Python operations in its graph, state outside its own variables, and another structure
            for another seed. Only a user's own code causes them.
        """
        start = time.perf_counter()
        if self._reusable is None:
            self._reusable = self._description is not None and self._has_all_state()
        if not self._reusable:
            return False
        fresh = self._built()
        ours, theirs = self.model.variables, fresh.variables
        if _describe(fresh) != self._description or list(map(_kind, ours)) != list(map(_kind, theirs)):
            return False
        for variable, other in zip(ours, theirs, strict=True):
            variable.value.assign(other.value, read_value=False)
        for variable, value in zip(self._optimizer.variables, self._start, strict=True):
            variable.value.assign(value, read_value=False)
        self.build = time.perf_counter() - start
        start = time.perf_counter()
        self._optimise(tensors)
        self.trace = time.perf_counter() - start
        return True

    def epoch(
        self, tensors: tuple[Any, Any], seed: int, number: int, order: NDArray[Any]
    ) -> tuple[Scores, int]:
        """Train for one epoch.

        Args:
            tensors: images and labels, from `tensors_of`.
            seed: the seed of the run.
            number: number of the epoch, from 1.
            order: a permutation of the images.

        Returns:
            The means over the batches, and the number of steps that were run. After a loss that is not
            finite, no further step is run.
        """
        batches = order[: self.steps * self.batch].reshape(self.steps, self.batch)
        return self._run(tensors, derive_seed("augmentation", seed), number, self.steps, batches)

    def evaluate(self, images: NDArray[Any], labels: NDArray[Any]) -> tuple[Scores, NDArray[np.bool_]]:
        """Return the scores of the current weights, and whether each image is classified correctly."""
        slices = [slice(at, at + EVALUATION_BATCH) for at in range(0, len(images), EVALUATION_BATCH)]
        parts = [
            self._measure(tf.constant(images[part]), tf.constant(labels[part], tf.int32)) for part in slices
        ]
        losses = np.concatenate([loss.numpy() for loss, _ in parts])
        correct = np.concatenate([hit.numpy() for _, hit in parts])
        return Scores(float(correct.mean()), float(losses.mean(dtype=np.float64))), correct

    def averaged(self) -> AbstractContextManager[None]:
        """Give the network the averages of its weights in a block, if the configuration asks for them."""
        return averaged_weights(self._optimizer, self.model.trainable_variables)

    def _run(
        self, tensors: tuple[Any, Any], seed: int, number: int, steps: int, order: NDArray[Any]
    ) -> tuple[Scores, int]:
        values = (tf.constant(value, kind) for value, kind in zip((seed, number, steps), _KINDS, strict=True))
        results = self._run_epoch(*tensors, *values, tf.constant(order, tf.int32))
        accuracy, loss, taken = (value.numpy().item() for value in results)
        return Scores(accuracy, loss), taken

    def _optimise(self, tensors: tuple[Any, Any]) -> None:
        # TensorFlow optimises a graph at its first call. This call runs no step, so it changes nothing.
        self._run(tensors, 0, 0, 0, np.zeros((self.steps, self.batch), np.int32))

    def _built(self) -> Any:
        return build_model(self._config, *self._network)

    def _traced_epoch(self, data: Dataset) -> Any:
        # A graph loop over tensors in memory, because the autotune thread of tf.data would delay the end of
        # every epoch. The tensors are arguments, because TensorFlow never frees a tensor that such a graph
        # captures.
        model, optimizer, config, batch = self.model, self._optimizer, self._config, self.batch
        weights = model.trainable_variables
        low, high = data.pixel_range
        background = min(max(0.0, low), high)

        @tf.function  # type: ignore[untyped-decorator]
        def run_epoch(images: Any, labels: Any, seed: Any, epoch: Any, steps: Any, order: Any) -> Any:
            def goes_on(total: Any, hits: Any, step: Any) -> Any:
                return (step < steps) & tf.math.is_finite(total)

            def run_step(total: Any, hits: Any, step: Any) -> Any:
                index = order[step]
                inputs, targets = tf.gather(images, index), tf.gather(labels, index)
                inputs = augment(inputs, config.augmentations, seed, epoch, step, background)
                inputs, targets = mix(
                    inputs, targets, data.classes, config.mixup, config.cutmix, seed, epoch, step
                )
                with tf.GradientTape() as tape:
                    logits = model(inputs, training=True)
                    loss, smoothed = training_loss(logits, targets, config.label_smoothing)
                    objective = tf.add_n([smoothed, *model.losses])
                optimizer.apply(tape.gradient(objective, weights), weights)
                return total + loss, hits + count_hits(logits, targets), step + 1

            start = (tf.constant(0.0), tf.constant(0), tf.constant(0))
            # Written out, because TensorFlow takes longer to translate a loop of Python.
            total, hits, step = tf.while_loop(goes_on, run_step, start)
            # A diverged loop stops early, so the means are over the steps that were run.
            return (
                tf.cast(hits, tf.float64) / tf.cast(step * batch, tf.float64),
                total / tf.cast(step, tf.float32),
                step,
            )

        return run_epoch.get_concrete_function(
            tf.TensorSpec(data.x_train.shape, data.x_train.dtype),
            tf.TensorSpec(data.y_train.shape, tf.int32),
            *(tf.TensorSpec((), kind) for kind in _KINDS),
            tf.TensorSpec((self.steps, batch), tf.int32),
        )

    def _traced_measure(self, data: Dataset) -> Any:
        model = self.model

        @tf.function  # type: ignore[untyped-decorator]
        def measure(images: Any, labels: Any) -> Any:
            logits = model(images, training=False)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            return losses, tf.argmax(logits, 1, tf.int32) == labels

        return measure.get_concrete_function(
            tf.TensorSpec((None, *data.input_shape), data.x_test.dtype), tf.TensorSpec((None,), tf.int32)
        )

    def _has_all_state(self) -> bool:
        """Tell whether both functions keep state in variables of the model and the optimizer alone."""
        variables = (*self.model.variables, *self._optimizer.variables)
        known = {id(variable.value.handle) for variable in variables}
        for function in (self._run_epoch, self._measure):
            if not {id(tensor) for tensor, _ in function.graph.captures} <= known:
                return False
            if not all(map(_is_stateless, _operations(function))):
                return False
        return True


_KINDS = (tf.int64, tf.int32, tf.int32)
"""The types of the seed of the augmentation, the number of the epoch and the number of steps."""


def _describe(model: Any) -> str | None:
    """Write down all that Keras saves of a model except its weights; None if it cannot be saved."""
    try:
        return json.dumps(keras.saving.serialize_keras_object(model), sort_keys=True)
    except Exception:  # the code of a user can raise any error
        return None


def _kind(variable: Any) -> tuple[Any, ...]:
    return variable.path, tuple(variable.shape), variable.dtype, variable.trainable


def _operations(function: Any) -> Iterator[str]:
    """Yield the type of each operation of a traced function, also of the functions that it calls."""
    graph = function.graph.as_graph_def()
    for nodes in (graph.node, *(inner.node_def for inner in graph.library.function)):
        yield from {node.op for node in nodes}


def _is_stateless(operation: str) -> bool:
    if operation in STATEFUL or operation.startswith("Stateless"):
        return True
    known = op_def_registry.get(operation)
    # A name without a definition is that of a function, whose operations are listed too.
    return known is None or not known.is_stateful
