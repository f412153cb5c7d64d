"""The seeds of one configuration share a network, and every number is that of a network of its own."""

import functools
import gc
import itertools
import json
import pickle
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import tensorflow as tf
import users  # noqa: F401 registers an arm
import warm
from helpers import numbers
from tensorflow.python.framework import ops

from invact.config import Config
from invact.data.dataset import Dataset
from invact.layers import InverseActivation
from invact.training.gradients import released_gradients
from invact.training.loop import Trainer, train
from invact.training.results import Status, Times, TrialResult

# Keras 3.15 converts TensorFlow variables with a method that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TINY = Config(model="mlp", filters=3, depth=1, epochs=2, batch_size=128, learning_rate=1e-2)


def changed(config: Config, **values: object) -> Config:
    return Config.model_validate(config.model_dump() | values)


@pytest.fixture(scope="module")
def data(digits: Dataset) -> Dataset:
    """A part of the digits, as floats so that a pixel can be NaN."""
    images = {"x_train": digits.x_train[:256], "x_validation": digits.x_validation, "x_test": digits.x_test}
    floats = {name: each.astype(np.float32) for name, each in images.items()}
    return replace(digits, **floats, y_train=digits.y_train[:256])


class Counted(Trainer):
    """A trainer that lists the configurations that it compiles."""

    def __init__(self, networks: int = 8) -> None:
        super().__init__(networks)
        self.compiled: list[Config] = []

    def _train(self, network, config, *rest):
        if network is None:
            self.compiled.append(config)
        return super()._train(network, config, *rest)


@pytest.fixture(scope="module")
def alone(data: Dataset) -> Callable[[int], TrialResult]:
    """Train `TINY` with a network of its own; several tests compare with one training."""
    return functools.cache(lambda seed: train(TINY, seed, data))


def check(trainer: Trainer, data: Dataset, alone: dict[int, TrialResult], seeds: tuple[int, ...]) -> None:
    """Train seeds one after another, and compare each with a training of its own."""
    expected = {seed: numbers(result) for seed, result in alone.items()}
    assert len({pickle.dumps(each) for each in expected.values()}) == len(expected)
    for seed in seeds:
        assert numbers(trainer.train(alone[seed].config, seed, data)) == expected[seed], seed


def check_shared(config: Config, data: Dataset) -> None:
    """The first training of a trainer compiles the network, so it is a training of its own."""
    trainer = Counted()
    first = trainer.train(config, 3, data)
    check(trainer, data, {3: first, 1: train(config, 1, data)}, (1, 3))
    assert trainer.compiled == [config]


@pytest.mark.parametrize(
    "values",
    [
        {"model": "cnn", "activation": "inverse", "normalization": "batch", "dropout": 0.3}
        | {"augmentation": "shift+cutout", "precision": "mixed_bfloat16", "optimizer": "sgd"},
        {"dropout": 0.2, "optimizer": "adamw", "schedule": "constant", "weight_decay": 0.01},
    ],
    ids=["cnn", "mlp"],
)
def test_seeds_that_share_a_network_have_the_numbers_of_networks_of_their_own(
    data: Dataset, values: dict[str, object]
) -> None:
    check_shared(changed(TINY, **values), data)


def every_kind() -> Iterator[dict[str, object]]:
    """Each builder with each normalisation and precision; the other values take turns."""
    arms = itertools.cycle(["relu", "inverse", "elu", "relu_duplicated", "linear_negated"])
    rates, augmentations = itertools.cycle([0.0, 0.4]), itertools.cycle(["none", "shift", "flip+cutout"])
    optimizers = itertools.cycle(
        itertools.product(["adam", "sgd", "adamw"], ["cosine", "constant"], [0, 0.1])
    )
    for model, normalization, precision in itertools.product(
        ["cnn", "vgg", "plain", "resnet", "separable", "mlp"],
        ["none", "batch", "layer"],
        ["float32", "mixed_bfloat16"],
    ):
        optimizer, schedule, decay = next(optimizers)
        yield {
            "model": model,
            "normalization": normalization,
            "precision": precision,
            "activation": next(arms),
            "dropout": next(rates),
            "augmentation": next(augmentations),
            "optimizer": optimizer,
            "schedule": schedule,
            "weight_decay": float(decay),
        }


@pytest.mark.slow
@pytest.mark.parametrize("values", list(every_kind()), ids=lambda values: "-".join(map(str, values.values())))
def test_every_kind_of_network_can_be_shared(data: Dataset, values: dict[str, object]) -> None:
    check_shared(changed(TINY, **values), data)


def test_a_users_network_is_shared(data: Dataset) -> None:
    check_shared(changed(TINY, model="users:build", activation="users_softplus"), data)


STATEFUL = ("noise", "graph_noise", "constant", "width", "closure")


# The recorder runs code of Python in a graph.
@pytest.mark.parametrize("model", [*(f"stateful:{name}" for name in STATEFUL), "users:recorder"])
def test_a_network_with_other_state_is_compiled_for_each_seed(data: Dataset, model: str) -> None:
    config, trainer = changed(TINY, model=model, epochs=1), Counted()
    first = trainer.train(config, 3, data)
    check(trainer, data, {3: first, 1: train(config, 1, data)}, (1,))
    assert trainer.compiled == [config, config]


def test_a_diverged_seed_leaves_nothing_to_the_next_one(data: Dataset) -> None:
    config, trainer = changed(TINY, normalization="batch", dropout=0.1), Counted()
    spoiled = replace(data, x_train=np.full_like(data.x_train, np.nan))
    assert trainer.train(config, 0, spoiled).status is Status.DIVERGED
    check(trainer, data, {1: train(config, 1, data)}, (1,))
    assert trainer.compiled == [config]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_in_the_middle_leaves_nothing_to_the_next_seed(
    data: Dataset, alone: Callable[[int], TrialResult], error: type[BaseException]
) -> None:
    def fail(epoch: object) -> None:
        raise error

    trainer = Counted()
    trainer.train(TINY, 0, data)
    with pytest.raises(error):
        trainer.train(TINY, 1, data, on_epoch=fail)
    check(trainer, data, {seed: alone(seed) for seed in (1, 2)}, (1, 2))
    assert len(trainer.compiled) == 2, "the first network is not used again after the error"


def test_other_images_of_the_same_shape_share_a_network_and_other_shapes_do_not(data: Dataset) -> None:
    trainer = Counted()
    trainer.train(TINY, 0, data)
    other = replace(data, x_train=data.x_train[::-1].copy())
    check(trainer, other, {0: train(TINY, 0, other)}, (0,))
    assert len(trainer.compiled) == 1
    trainer.train(TINY, 0, replace(data, x_train=data.x_train[:200], y_train=data.y_train[:200]))
    assert len(trainer.compiled) == 2
    trainer.train(TINY, 0, replace(data, pixel_range=(0.0, 20.0)))
    assert len(trainer.compiled) == 3


def test_the_networks_that_were_used_last_are_kept_and_the_others_are_freed(data: Dataset) -> None:
    def graphs() -> int:
        gc.collect()
        # The type is compared because isinstance triggers warnings of objects of some libraries.
        return sum(type(each).__name__ == "WhileBodyFuncGraph" for each in gc.get_objects())

    # The networks of other tests are left out of every look through all objects.
    gc.freeze()
    first, second, third = (
        changed(TINY, epochs=1, filters=filters, activation="inverse") for filters in (1, 2, 3)
    )
    trainer = Counted(2)
    for config in (first, second, first):
        trainer.train(config, 0, data)
    assert trainer.compiled == [first, second]
    assert graphs() == 2
    for config in (third, first, third):
        trainer.train(config, 0, data)
    assert trainer.compiled == [first, second, third, first]
    assert graphs() == 2
    trainer.clear()
    assert graphs() == 0
    trainer.train(first, 0, data)
    assert len(trainer.compiled) == 5


def test_a_kept_network_is_saved_as_a_new_one_would_be(data: Dataset) -> None:
    config = changed(TINY, model="users:build", epochs=1)
    trainer = Trainer()
    trainer.train(config, 0, data)
    results = [trainer.train(config, 1, data, keep_model=True), train(config, 1, data, keep_model=True)]

    def written(result: TrialResult) -> object:
        # The ids are addresses in memory.
        text = zipfile.ZipFile(BytesIO(result.model)).read("config.json")
        return json.loads(text, object_hook=lambda each: each | {"shared_object_id": 0})["config"]

    assert written(results[0]) == written(results[1])


def test_times_are_told_and_equal_no_numbers(alone: Callable[[int], TrialResult]) -> None:
    result = alone(1)
    times = result.times
    assert times is not None
    assert times.train == result.seconds
    assert min(times.build, times.trace, times.train, times.evaluate) > 0
    assert times.total == pytest.approx(times.build + times.trace + times.train + times.evaluate)
    assert replace(result, times=Times()) == result
    assert TrialResult(TINY, 0, Status.FAILED).times is None


def test_gradients_that_other_threads_register_stay() -> None:
    def trace() -> None:
        tf.function(InverseActivation()).get_concrete_function(tf.zeros((1, 2)))

    before = set(ops.gradient_registry.list())
    with released_gradients():
        other = threading.Thread(target=trace)
        other.start()
        other.join()
        trace()
    assert len(set(ops.gradient_registry.list()) - before) == 1


GROWTH = """
import gc, sys
import keras, psutil, tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
from invact.config import Config
from invact.data.dataset import load
from invact.training.loop import Trainer
gc.collect(); gc.freeze()
trainer, data, here = Trainer(), load("digits"), psutil.Process()
arms = ["relu", "inverse", "elu"]
for number in range(300):
    more = {"normalization": "batch"} if number % 2 else {"dropout": 0.1}
    config = Config(filters=1 + number, depth=1, model="mlp", activation=arms[number % 3], epochs=1, **more)
    trainer.train(config, 0, data)
    if number % 20 == 19:
        print(number + 1, here.memory_info().rss // 2**20, len(gc.get_objects()), flush=True)
"""


@pytest.mark.slow
def test_memory_grows_by_less_than_half_a_megabyte_for_each_configuration() -> None:
    done = warm.run(["-c", GROWTH], timeout=1800)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    memory, objects = ({int(line[0]): int(line[at]) for line in lines} for at in (1, 2))
    assert memory[300] - memory[100] < 100, done.stdout
    # The rest is memory of TensorFlow, in C++.
    assert objects[300] < 1.1 * objects[100], done.stdout
