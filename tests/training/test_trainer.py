"""The seeds of one configuration share a network, and every number is that of a network of its own."""

import gc
import itertools
import json
import pickle
import threading
import zipfile
from collections.abc import Iterator
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
from invact.training import loop
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


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The digests of the configurations that were compiled."""
    digests: list[str] = []

    class Counted(loop.Compiled):
        def __init__(self, config, *rest):
            digests.append(config.digest())
            super().__init__(config, *rest)

    monkeypatch.setattr(loop, "Compiled", Counted)
    return digests


def check(trainer: Trainer, config: Config, data: Dataset, seeds: tuple[int, ...]) -> None:
    """Train seeds one after another, and compare each with a training of its own."""
    alone = {seed: numbers(train(config, seed, data)) for seed in sorted({*seeds})}
    assert len({pickle.dumps(each) for each in alone.values()}) == len(alone)
    for seed in seeds:
        assert numbers(trainer.train(config, seed, data)) == alone[seed], seed


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
    data: Dataset, compiled: list[str], values: dict[str, object]
) -> None:
    config = changed(TINY, **values)
    check(Trainer(), config, data, (3, 1, 3))
    assert compiled == [config.digest()] * 3, "two alone, and one for all seeds"


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
def test_every_kind_of_network_can_be_shared(
    data: Dataset, compiled: list[str], values: dict[str, object]
) -> None:
    config = changed(TINY, **values)
    check(Trainer(), config, data, (3, 1, 3))
    assert len(compiled) == 3


def test_a_users_network_is_shared(data: Dataset, compiled: list[str]) -> None:
    config = changed(TINY, model="users:build", activation="users_softplus")
    check(Trainer(), config, data, (3, 1))
    assert len(compiled) == 3


@pytest.mark.parametrize("builder", ["noise", "graph_noise", "constant", "width", "closure"])
def test_a_network_with_other_state_is_compiled_for_each_seed(
    data: Dataset, compiled: list[str], builder: str
) -> None:
    config = changed(TINY, model=f"stateful:{builder}", epochs=1)
    check(Trainer(), config, data, (3, 1))
    assert len(compiled) == 4


def test_code_of_python_in_a_graph_is_run_for_each_seed(data: Dataset, compiled: list[str]) -> None:
    config = changed(TINY, model="users:recorder", epochs=1)
    check(Trainer(), config, data, (3, 1))
    assert len(compiled) == 4


def test_a_diverged_seed_leaves_nothing_to_the_next_one(data: Dataset, compiled: list[str]) -> None:
    config = changed(TINY, normalization="batch", dropout=0.1)
    trainer = Trainer()
    spoiled = replace(data, x_train=np.full_like(data.x_train, np.nan))
    assert trainer.train(config, 0, spoiled).status is Status.DIVERGED
    check(trainer, config, data, (1,))
    assert len(compiled) == 2


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_in_the_middle_leaves_nothing_to_the_next_seed(
    data: Dataset, compiled: list[str], error: type[BaseException]
) -> None:
    def fail(epoch: object) -> None:
        raise error

    trainer = Trainer()
    trainer.train(TINY, 0, data)
    with pytest.raises(error):
        trainer.train(TINY, 1, data, on_epoch=fail)
    check(trainer, TINY, data, (1, 2))
    assert len(compiled) == 4, "the first network is not used again after the error"


def test_other_images_of_the_same_shape_share_a_network_and_other_shapes_do_not(
    data: Dataset, compiled: list[str]
) -> None:
    trainer = Trainer()
    trainer.train(TINY, 0, data)
    check(trainer, TINY, replace(data, x_train=data.x_train[::-1].copy()), (0,))
    assert len(compiled) == 2
    check(trainer, TINY, replace(data, x_train=data.x_train[:200], y_train=data.y_train[:200]), (0,))
    check(trainer, TINY, replace(data, pixel_range=(0.0, 20.0)), (0,))
    assert len(compiled) == 6


def test_the_networks_that_were_used_last_are_kept(data: Dataset, compiled: list[str]) -> None:
    first, second, third = (changed(TINY, epochs=1, filters=filters) for filters in (1, 2, 3))
    trainer = Trainer(2)
    for config in (first, second, first, third, first, second):
        trainer.train(config, len(compiled), data)
    assert compiled == [each.digest() for each in (first, second, third, first, second)]
    trainer.train(second, 0, data)
    assert len(compiled) == 5
    trainer.clear()
    trainer.train(second, 0, data)
    assert len(compiled) == 6


def test_dropped_networks_are_freed(data: Dataset) -> None:
    def graphs() -> int:
        gc.collect()
        # The type is compared because isinstance triggers warnings of objects of some libraries.
        return sum(type(each).__name__ == "WhileBodyFuncGraph" for each in gc.get_objects())

    before = graphs()
    trainer = Trainer(1)
    for filters in (1, 2, 3):
        trainer.train(changed(TINY, epochs=1, filters=filters, activation="inverse"), 0, data)
    assert graphs() == before + 1
    trainer.clear()
    assert graphs() == before


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


def test_times_are_told_and_equal_no_numbers(data: Dataset) -> None:
    result = train(TINY, 0, data)
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
