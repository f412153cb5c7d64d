"""The same list of trainings as a user of each library writes it; `benchmarks.peers` starts the scripts.

Each script imports only the libraries that it names, so that it runs in a virtual environment without invact.
It trains each configuration of the list once and writes one line of JSON for each, when its result is known.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ACTIVATIONS = ("relu", "inverse")
BATCH = 128
RATE = 1e-3
PROCESSES = 2


@dataclass(frozen=True)
class Task:
    """What a script does.

    Attributes:
        folder: the folder of the data, of the results and of the MLflow store.
        filters: the numbers of filters of the first stage; the list has each with each activation.
        epochs: passes over the training images.
        seed: seed of Keras.
        prune: whether the library's own pruner stops trainings, by accuracy alone.
    """

    folder: Path
    filters: tuple[int, ...]
    epochs: int
    seed: int
    prune: bool = False

    @property
    def configurations(self) -> list[dict[str, Any]]:
        """The list, in the order of the filters."""
        return [{"activation": one, "filters": count} for count in self.filters for one in ACTIVATIONS]

    def arguments(self) -> list[str]:
        """The command line that gives this task."""
        filters = ",".join(map(str, self.filters))
        words = [str(self.folder), "--filters", filters, "--epochs", str(self.epochs)]
        return [*words, "--seed", str(self.seed), *(["--prune"] if self.prune else [])]

    def note(self, configuration: Mapping[str, Any], scores: Mapping[str, float], epochs: int) -> None:
        """Write the result of a configuration; a short line is appended in one piece by several processes."""
        line = json.dumps({**configuration, **scores, "epochs": epochs, "at": time.time()})
        with (self.folder / "results.jsonl").open("a") as file:
            file.write(line + "\n")

    def arrays(self) -> tuple[Any, ...]:
        """Images in [-1, 1] as float32, and labels: of the training, validation and test split."""
        with np.load(self.folder / "data.npz") as data:
            splits = ("train", "validation", "test")
            scale = data["highest"].item() / 2
            images = [data[f"x_{split}"].astype(np.float32) / scale - 1 for split in splits]
            return tuple(zip(images, (data[f"y_{split}"] for split in splits), strict=True))

    @property
    def uri(self) -> str:
        """The address of the MLflow store."""
        return f"sqlite:///{self.folder}/mlflow.db"


def network(activation: str, filters: int, shape: tuple[int, ...], classes: int) -> Any:
    """The compiled network: two convolutions with twice the filters in the second, and a classifier."""
    import keras
    import tensorflow as tf

    x = inputs = keras.Input(shape)
    for count in (filters, 2 * filters):
        x = keras.layers.Conv2D(count, 3, padding="same", kernel_initializer="he_normal")(x)
        act = tf.nn.relu if activation == "relu" else lambda x: tf.nn.crelu(x, axis=-1)
        doubled = count if activation == "relu" else 2 * count
        x = keras.layers.Lambda(act, output_shape=(*x.shape[1:-1], doubled))(x)
        x = keras.layers.MaxPooling2D(2, padding="same")(x)
    model = keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.Flatten()(x)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(RATE), loss, metrics=["accuracy"])
    return model


def on_epoch(call: Callable[[int, dict[str, float]], None]) -> Any:
    """A Keras callback that calls a function with the number of each epoch, from 1, and its scores."""
    import keras

    return keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: call(epoch + 1, dict(logs)))


def fit(task: Task, configuration: Mapping[str, Any], data: tuple[Any, ...], callbacks: list[Any]) -> Any:
    """Train one configuration with `model.fit` and write its result."""
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(task.seed)
    train, validation, test = data
    model = network(**configuration, shape=train[0].shape[1:], classes=10)
    history = model.fit(
        *train,
        batch_size=BATCH,
        epochs=task.epochs,
        validation_data=validation,
        callbacks=callbacks,
        verbose=0,
    )
    loss, accuracy = model.evaluate(*test, batch_size=1000, verbose=0)
    scores = {"validation_accuracy": history.history["val_accuracy"][-1], "test_accuracy": accuracy}
    task.note(configuration, scores, task.epochs)
    return {**scores, "test_loss": loss}


def one_thread() -> None:
    """Give TensorFlow one thread, for scripts that train in several processes."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def journal(task: Task) -> Any:
    """A storage for several processes. With SQLite, two processes may take the same waiting trial."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(f"{task.folder}/optuna.journal"))


def optuna_study(task: Task, storage: Any = None) -> None:
    """Optuna with `model.fit` on arrays, and MLflow with a run for each trial and its scores by epoch."""
    import mlflow
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mlflow.set_tracking_uri(task.uri)
    mlflow.set_experiment("peers")
    data = task.arrays()

    def objective(trial: Any) -> float:
        configuration = {
            "activation": trial.suggest_categorical("activation", ACTIVATIONS),
            "filters": trial.suggest_categorical("filters", task.filters),
        }

        def log(epoch: int, scores: dict[str, float]) -> None:
            mlflow.log_metrics(scores, step=epoch)
            if task.prune:
                trial.report(scores["val_accuracy"], epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned

        with mlflow.start_run():
            mlflow.log_params(configuration)
            scores = fit(task, configuration, data, [on_epoch(log)])
            mlflow.log_metrics(scores)
        return scores["validation_accuracy"]

    def stop(study: Any, trial: Any) -> None:
        if not study.get_trials(states=(optuna.trial.TrialState.WAITING,)):
            study.stop()

    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    study = optuna.create_study(
        study_name="peers", direction="maximize", storage=storage, load_if_exists=True, pruner=pruner
    )
    if storage is None:
        for configuration in task.configurations:
            study.enqueue_trial(configuration)
    study.optimize(objective, callbacks=[stop])


def optuna_script(task: Task) -> None:
    """Optuna in one process that uses all processors."""
    optuna_study(task)


def optuna_processes(task: Task) -> None:
    """Optuna in two processes of one thread, with one storage."""
    import mlflow
    import optuna

    study = optuna.create_study(study_name="peers", direction="maximize", storage=journal(task))
    for configuration in task.configurations:
        study.enqueue_trial(configuration)
    # Two processes that create the database of MLflow at once break it.
    mlflow.set_tracking_uri(task.uri)
    mlflow.set_experiment("peers")
    command = [sys.executable, __file__, "optuna_worker", *task.arguments()]
    workers = [subprocess.Popen(command) for _ in range(PROCESSES)]
    codes = [worker.wait() for worker in workers]
    if any(codes):
        sys.exit(f"a process of Optuna failed: exit codes {codes}")


def optuna_worker(task: Task) -> None:
    """One of the processes of `optuna_processes`."""
    one_thread()
    optuna_study(task, journal(task))


def keras_tuner_script(task: Task) -> None:
    """Keras Tuner's grid search in one process that uses all processors, with MLflow's autologging."""
    import keras
    import keras_tuner
    import mlflow

    mlflow.set_tracking_uri(task.uri)
    mlflow.set_experiment("peers")
    mlflow.tensorflow.autolog(log_models=False, log_datasets=False)
    data = task.arrays()

    class Model(keras_tuner.HyperModel):
        def build(self, hp: Any) -> Any:
            activation, filters = hp.Choice("activation", ACTIVATIONS), hp.Choice("filters", task.filters)
            return network(activation, filters, data[0][0].shape[1:], 10)

        def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
            keras.utils.set_random_seed(task.seed)
            with mlflow.start_run():
                history = model.fit(*args, **kwargs)
            scores = {"validation_accuracy": history.history["val_accuracy"][-1]}
            scores["test_accuracy"] = model.evaluate(*data[2], batch_size=1000, verbose=0)[1]
            task.note(hp.values, scores, task.epochs)
            return history

    tuner = keras_tuner.GridSearch(
        Model(), objective="val_accuracy", directory=task.folder, project_name="tuner", seed=task.seed + 1
    )
    train, validation, _ = data
    tuner.search(*train, batch_size=BATCH, epochs=task.epochs, validation_data=validation, verbose=0)


def ray_script(task: Task) -> None:
    """Ray Tune with Optuna's search on two workers of one processor, and its logger for MLflow."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    ray.init(num_cpus=PROCESSES, include_dashboard=False, log_to_driver=False)

    def train(configuration: dict[str, Any], data: tuple[Any, ...]) -> None:
        one_thread()
        report = on_epoch(lambda epoch, scores: tune.report({**scores, "epoch": epoch}))
        fit(task, configuration, data, [report])

    scheduler = ASHAScheduler(max_t=task.epochs, grace_period=1, reduction_factor=3) if task.prune else None
    logger = MLflowLoggerCallback(tracking_uri=task.uri, experiment_name="peers")
    tune.Tuner(
        tune.with_parameters(train, data=task.arrays()),
        param_space={
            "activation": tune.choice(ACTIVATIONS),
            "filters": tune.choice(task.filters),
        },
        tune_config=tune.TuneConfig(
            metric="val_accuracy",
            mode="max",
            num_samples=len(task.configurations),
            search_alg=OptunaSearch(points_to_evaluate=task.configurations),
            scheduler=scheduler,
        ),
        run_config=tune.RunConfig(storage_path=str(task.folder / "ray"), callbacks=[logger], verbose=0),
    ).fit()


SCRIPTS: Mapping[str, Callable[[Task], None]] = {
    "optuna": optuna_script,
    "optuna_processes": optuna_processes,
    "optuna_worker": optuna_worker,
    "keras_tuner": keras_tuner_script,
    "ray": ray_script,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("script", choices=SCRIPTS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--filters", required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prune", action="store_true")
    given = parser.parse_args()
    filters = tuple(map(int, given.filters.split(",")))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    SCRIPTS[given.script](Task(given.folder, filters, given.epochs, given.seed, given.prune))


if __name__ == "__main__":
    main()
