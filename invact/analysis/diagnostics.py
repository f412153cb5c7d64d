"""A Keras callback that reads the layers of a model before the training and after each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from invact.analysis.readings import Reading, read_layers

__all__ = ["Diagnostics"]


class Diagnostics(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Log dead units, effective rank and gradient norms of each layer, before the training and by epoch.

    Use it with `model.fit`, also without the rest of invact. The training is the same with and without it.
    `read_layers` says what is read. Each epoch costs one more inference of the images, and with labels one
    more training step, outside of the compiled graph.

    The values of an epoch are in the `logs` of Keras, with the keys `dead/LAYER`, `dead_filters/LAYER`,
    `rank/LAYER` and `gradient_norm/LAYER`. So all later callbacks see them, such as `CSVLogger`,
    `EarlyStopping` or autologging of MLflow. In `callbacks=[...]`, put this one first.

    Args:
        images: shape (images, ...), as for `fit`. They are one batch; some hundreds are enough.
        labels: shape (images, ...), as for `fit`; without them, no gradients are read.
        layers: names of the layers to observe; by default those that activate (`read_layers`).

    Attributes:
        history: one `Reading` for each epoch and layer, in order, which `pandas.DataFrame` accepts. Its
            `epoch` is the number of finished epochs: 0 before the training, and so one more than the index
            that Keras and `CSVLogger` count from 0.

    Raises:
        InputError: in `fit`, before the first epoch: see `read_layers`.
        EnvironmentFault: in `fit`: there are labels, and Keras uses another backend than TensorFlow.

    Source:
        Shang et al., ICML 2016, https://arxiv.org/abs/1603.05201 (CReLU); Abbas et al., Loss of plasticity in
        continual deep reinforcement learning, 2023, https://arxiv.org/abs/2303.07507 (dead units and CReLU).

    Example:
        >>> x = np.array([[1.0, -1.0], [2.0, -3.0]])
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.ReLU(name="relu")])
        >>> model.add(keras.layers.Dense(1, name="dense"))
        >>> model.compile("sgd", "mse", run_eagerly=True)
        >>> diagnostics = Diagnostics(x, x[:, :1])
        >>> logs = model.fit(x, x[:, :1], epochs=2, verbose=0, callbacks=[diagnostics]).history
        >>> [(reading.epoch, reading.layer, reading.dead) for reading in diagnostics.history]
        [(0, 'relu', 0.5), (0, 'dense', None), (1, 'relu', 0.5), (1, 'dense', None), (2, 'relu', 0.5), ...]
        >>> sorted(logs)
        ['dead/relu', 'dead_filters/relu', 'gradient_norm/dense', 'loss', 'rank/relu']
    """

    def __init__(self, images: Any, labels: Any = None, *, layers: Sequence[str] | None = None) -> None:
        super().__init__()
        self._images = np.asarray(images)
        self._labels = None if labels is None else np.asarray(labels)
        self._layers = layers
        self.history: list[Reading] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Read the untrained layers; this also refuses wrong input before the first training step."""
        if not self.history:
            self._read(epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Read the layers, and add the values to the logs."""
        for reading in self._read(epoch + 1):
            if logs is not None:
                logs.update(reading.measures)

    def _read(self, epoch: int) -> tuple[Reading, ...]:
        readings = read_layers(self.model, self._images, self._labels, layers=self._layers, epoch=epoch)
        self.history += readings
        return readings
