"""The training of one configuration with one seed: the function `train`, and the `Trainer` of many seeds."""

from __future__ import annotations

import gc
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from tensorflow.python.eager import context

from invact.networks.archives import pack
from invact.networks.saving import check_saved, is_users
from invact.networks.settings import keras_names, keras_settings
from invact.process.quiet import check_backend
from invact.seeding import derive_seed, keras_draws, keras_seed
from invact.training.compiled import Compiled, key_of, tensors_of
from invact.training.gradients import released_gradients
from invact.training.results import Epoch, Status, Times, TrialResult

if TYPE_CHECKING:
    from invact.config import Config
    from invact.data.dataset import Dataset

__all__ = ["Trainer", "train"]

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

    The seed decides every source of randomness. Batch order, augmentation, mixup and CutMix depend only on
    the seed, so two arms trained with the same seed see the same batches. Initialisation, dropout and
    stochastic depth depend on the seed and the configuration. With one thread, as in invact's workers, the
    same arguments give bit-identical numbers on one machine. The global settings of Keras do not change them;
    see `keras_settings`.

    The loop reads the training and validation splits. The test set is read once, after the last epoch, with
    the last weights; no epoch is selected. With `config.ema`, the averages of the weights are evaluated and
    returned, and the training goes on with the weights themselves.

    The training loss and accuracy are those of the augmented images, while the weights change. The loss does
    not contain label smoothing. For mixed images, the loss is the cross-entropy with the shares of the
    classes, and the right class is the one with the largest share.

    Nothing stays in memory after the call. For many seeds of one configuration, a `Trainer` is faster.

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
        >>> config = Config(model="mlp", filters=32, depth=1, epochs=1, batch_size=32, learning_rate=1e-2)
        >>> result = train(config, 0, load("digits"))
        >>> result.status, len(result.epochs), result.test.accuracy > 0.5
        (<Status.FINISHED: 'FINISHED'>, 1, True)
    """
    return Trainer(0).train(config, seed, data, on_epoch=on_epoch, keep_model=keep_model)


class Trainer:
    """Trains as `train` does, and keeps the last networks, whose further seeds are then trained sooner.

    The seeds of one configuration share one traced network (see `invact.training.compiled`). Its numbers are
    bit-identical to those of `train`, also after a training that diverged. A network that was in use when an
    error or an interruption occurred is not used again.

    Args:
        networks: the number of networks that are kept. When there are more, the half that was used last
            stays.

    Example:
        >>> from invact.config import Config
        >>> from invact.data.dataset import load
        >>> config = Config(model="mlp", filters=2, depth=1, epochs=1)
        >>> data, trainer = load("digits"), Trainer()
        >>> results = [trainer.train(config, seed, data) for seed in (0, 1)]
        >>> results[1].test == train(config, 1, data).test
        True
        >>> trainer.clear()
    """

    def __init__(self, networks: int = 8) -> None:
        self._networks = networks
        self._kept: OrderedDict[tuple[Any, ...], Compiled] = OrderedDict()

    def train(
        self,
        config: Config,
        seed: int,
        data: Dataset,
        *,
        on_epoch: Callable[[Epoch], bool | None] | None = None,
        keep_model: bool = False,
    ) -> TrialResult:
        """Train one configuration with one seed; arguments, result and errors are those of `train`."""
        check_backend()
        if keep_model:
            with _ONE_AT_A_TIME, keras_settings():
                # Before the seed is set, because reading a network may draw from Keras' generators.
                check_saved(config, data.input_shape, data.classes)
        with _ONE_AT_A_TIME, keras_settings(), released_gradients():
            # Taken out, so that an error in the training leaves no network behind that is half trained.
            kept = self._kept.pop(key_of(config, data), None)
            arguments = (config, seed, data, on_epoch, keep_model)
            result = self._train(kept, *arguments) if kept else None
            if result is None:
                # With the seed set once more, if the kept network cannot be used for another seed.
                result = self._train(None, *arguments)
        assert result is not None
        return result

    def clear(self) -> None:
        """Drop all networks, and free their memory."""
        with _ONE_AT_A_TIME:
            self._kept.clear()
            _free()

    def _train(
        self,
        network: Compiled | None,
        config: Config,
        seed: int,
        data: Dataset,
        on_epoch: Callable[[Epoch], bool | None] | None,
        keep_model: bool,
    ) -> TrialResult | None:
        """Train with a kept network, or with a new one; return None if the kept one cannot be used."""
        tensors = tensors_of(data)
        with keras_names(), _seeded(config, seed):
            if network is None:
                network = Compiled(config, data, tensors)
            elif not network.restart(tensors):
                return None
            result = _fit(network, tensors, config, seed, data, on_epoch, keep_model)
        if self._networks:
            self._keep(key_of(config, data), network)
        return result

    def _keep(self, key: tuple[Any, ...], network: Compiled) -> None:
        self._kept[key] = network
        if len(self._kept) > self._networks:
            # Half of them at once, because what frees memory makes the others optimise their graphs again.
            while len(self._kept) > max(1, self._networks // 2):
                self._kept.popitem(last=False)
            _free()


def _free() -> None:
    """Free the memory of networks that were dropped."""
    # Networks contain cycles of references, which Python would collect much later.
    gc.collect()
    # TensorFlow keeps what it has made to call their functions, almost 1 MB for each network.
    context.context().clear_kernel_cache()


def _seeded(config: Config, seed: int) -> AbstractContextManager[None]:
    # When its own seed is set, TensorFlow forgets the optimised graphs of all networks. The builders and arms
    # of invact draw from Keras alone.
    number = derive_seed("initialisation", seed, config.digest())
    return keras_seed(number) if is_users(config) else keras_draws(number)


def _fit(
    network: Compiled,
    tensors: tuple[Any, Any],
    config: Config,
    seed: int,
    data: Dataset,
    on_epoch: Callable[[Epoch], bool | None] | None,
    keep_model: bool,
) -> TrialResult:
    epochs: list[Epoch] = []
    images, evaluating = 0, 0.0
    error, pruned = "", False
    for number in range(1, config.epochs + 1):
        order = np.random.default_rng([derive_seed("order", seed), number]).permutation(len(data.x_train))
        start = time.perf_counter()
        scores, taken = network.epoch(tensors, seed, number, order)
        seconds = time.perf_counter() - start
        images += taken * network.batch
        start = time.perf_counter()
        with network.averaged():
            validation, seen = network.evaluate(data.x_validation, data.y_validation)
        evaluating += time.perf_counter() - start
        epochs.append(Epoch(number, scores, validation, seconds))
        answer = None if on_epoch is None else on_epoch(epochs[-1])
        if not np.isfinite(scores.loss):
            error = f"the training loss was {scores.loss} in epoch {number}"
            break
        if not np.isfinite(validation.loss):
            error = f"the validation loss was {validation.loss} after epoch {number}"
            break
        if answer is not None and not answer and number < config.epochs:
            pruned = True
            break
    test, correct, archive = None, None, b""
    if not pruned:
        with network.averaged():
            start = time.perf_counter()
            test, correct = network.evaluate(data.x_test, data.y_test)
            evaluating += time.perf_counter() - start
            archive = pack(network.model) if keep_model else b""
    seconds = sum(epoch.seconds for epoch in epochs)
    return TrialResult(
        config=config,
        seed=seed,
        status=Status.PRUNED if pruned else Status.DIVERGED if error else Status.FINISHED,
        cost=network.cost,
        epochs=tuple(epochs),
        train=epochs[-1].train,
        validation=epochs[-1].validation,
        test=test,
        seconds=seconds,
        images_per_second=images / seconds,
        correct=b"" if correct is None else np.packbits(correct).tobytes(),
        validation_correct=np.packbits(seen).tobytes(),
        model=archive,
        error=error,
        times=Times(network.build, network.trace, seconds, evaluating),
    )
