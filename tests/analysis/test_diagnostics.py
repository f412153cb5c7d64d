import csv

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers as kl

from invact.analysis import Diagnostics, dead_share, effective_rank, gradient_norms, read_layers
from invact.errors import InputError
from invact.layers import InverseActivation
from invact.seeding import keras_seed

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 6, 6, 1)).astype(np.float32)
Y = np.arange(40) % 3
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network():
    with keras_seed(0):
        model = keras.Sequential(
            [
                keras.Input((6, 6, 1)),
                kl.Conv2D(4, 3, name="conv"),
                kl.BatchNormalization(name="norm"),
                InverseActivation(name="inverse"),
                kl.Dropout(0.3, name="drop"),
                kl.Flatten(),
                kl.Dense(5, "relu", name="hidden"),
                kl.Dense(3, name="logits"),
            ]
        )
    # Tracing takes longer than a few eager steps.
    model.compile(keras.optimizers.Adam(0.01), LOSS, run_eagerly=True)
    return model


def fitted(model, *callbacks, epochs=2):
    how = {"batch_size": 20, "shuffle": False, "verbose": 0}
    return model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **how)


def outputs_of(model, name):
    """The outputs of a layer in inference, by the functional model that Keras documents for this."""
    part = keras.Model(model.inputs[0], model.get_layer(name).output)
    return keras.ops.convert_to_numpy(part(X[:16]))


def test_the_table_and_the_logs_hold_what_the_pure_functions_return(tmp_path):
    model, diagnostics = network(), Diagnostics(X[:16], Y[:16])
    history = fitted(model, diagnostics, keras.callbacks.CSVLogger(tmp_path / "epochs.csv"))
    table = pd.DataFrame(diagnostics.history)
    assert table["epoch"].tolist() == [epoch for epoch in range(3) for _ in range(5)]
    last = table[table["epoch"] == 2].set_index("layer")
    assert last.index.tolist() == ["conv", "norm", "inverse", "hidden", "logits"]
    assert last["gradient_norm"].dropna().to_dict() == gradient_norms(model, X[:16], Y[:16])
    for name, units, multiplicity in (("inverse", 8, 2), ("hidden", 5, 1)):
        values, row = outputs_of(model, name), last.loc[name]
        assert row["units"] == values.shape[-1] == units
        assert row["dead"] == dead_share(values)
        assert row["dead_filters"] == dead_share(values, multiplicity)
        assert row["rank"] == pytest.approx(effective_rank(values), rel=1e-5)
    assert (
        last.loc[["conv", "norm", "logits"], ["units", "dead", "dead_filters", "rank"]].isna().all(axis=None)
    )
    with (tmp_path / "epochs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    measures = {key: value for row in diagnostics.history if row.epoch for key, value in row.measures.items()}
    assert len(measures) == 2 * 3 + 4
    for epoch, row in enumerate(rows, start=1):
        for reading in diagnostics.history:
            if reading.epoch == epoch:
                for key, value in reading.measures.items():
                    assert float(row[key]) == value == history.history[key][epoch - 1]


def test_the_training_is_the_same_with_and_without():
    models = network(), network()
    losses = [
        fitted(model, *callbacks, epochs=1).history["loss"]
        for model, callbacks in zip(models, ([], [Diagnostics(X[:16], Y[:16])]), strict=True)
    ]
    assert losses[0] == losses[1]
    for one, other in zip(*(model.variables for model in models), strict=True):
        np.testing.assert_array_equal(np.asarray(one.value), np.asarray(other.value))
    assert not any("call" in vars(layer) for layer in models[1].layers)


def test_epochs_go_on_when_a_training_goes_on():
    model, diagnostics = network(), Diagnostics(X[:2])
    fitted(model, diagnostics, epochs=1)
    model.fit(X, Y, initial_epoch=1, epochs=2, verbose=0, callbacks=[diagnostics])
    assert list(dict.fromkeys(reading.epoch for reading in diagnostics.history)) == [0, 1, 2]
    assert {reading.layer for reading in diagnostics.history} == {"inverse", "hidden"}
    assert all(reading.gradient_norm is None for reading in diagnostics.history)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = kl.Dense(3, name="dense")
        self.inner = keras.Sequential([keras.Input((3,)), kl.ReLU(name="relu")], name="inner")

    def call(self, x):
        return self.inner(self.dense(x))


def test_nested_and_subclassed_models_are_read():
    model = Subclassed()
    model(np.zeros((1, 2)))
    model.dense.set_weights([np.array([[1, -1, 0], [0, 0, 1]]), np.zeros(3)])
    model.compile("sgd", "mse")
    x = np.array([[1.0, 1.0], [2.0, -1.0]])
    dense, relu = read_layers(model, x, np.zeros((2, 3)))
    assert (dense.layer, relu.layer) == ("dense", "inner/relu")
    assert dense.rank is None
    assert dense.gradient_norm > 0
    assert (relu.units, relu.dead, relu.gradient_norm) == (3, pytest.approx(1 / 3), None)


def test_the_named_layers_are_observed_and_a_recurrent_one_by_its_outputs():
    model = keras.Sequential(
        [keras.Input((4, 2)), kl.SimpleRNN(3, return_sequences=True, name="steps"), kl.Flatten(name="flat")]
    )
    x = RNG.standard_normal((5, 4, 2))
    (steps,) = read_layers(model, x)
    assert (steps.layer, steps.units) == ("steps", 3)
    (flat,) = read_layers(model, x, layers=["flat"], epoch=7)
    assert (flat.layer, flat.units, flat.epoch) == ("flat", 12, 7)


def test_channels_first():
    inverse = InverseActivation(axis=1, name="inverse")
    model = keras.Sequential([keras.Input((2, 3, 3)), inverse])
    x = np.stack([np.ones((4, 3, 3)), -np.ones((4, 3, 3))], axis=1)
    (reading,) = read_layers(model, x)
    assert (reading.units, reading.dead, reading.dead_filters) == (4, 0.5, 0)


def test_an_output_without_channels_is_one_unit():
    model = keras.Sequential([keras.Input((1,)), kl.Reshape((), name="scalar")])
    (reading,) = read_layers(model, np.array([[0.0], [2.0]]), layers=["scalar"])
    assert (reading.units, reading.dead, reading.rank) == (1, 0, 1)


@pytest.mark.parametrize(
    ("arguments", "layers", "message"),
    [
        ((X[:1],), None, r"images: received shape \(1, 6, 6, 1\). Allowed: .* at least 2 images"),
        ((Y,), None, r"images: received shape \(40,\)"),
        ((X[:4], Y[:3]), None, r"labels: received shape \(3,\). Allowed: 4 labels"),
        ((X,), ["hiden"], "layers: received 'hiden'; did you mean 'hidden'"),
    ],
)
def test_wrong_input_is_refused_before_any_training(arguments, layers, message):
    model = network()
    before = model.get_weights()
    with pytest.raises(InputError, match=message):
        fitted(model, Diagnostics(*arguments, layers=layers))
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_failing_layer_leaves_no_trace():
    class Failing(kl.Layer):
        def call(self, x):
            raise RuntimeError("not today")

        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape, x.dtype)

    model = keras.Sequential([keras.Input((2,)), kl.ReLU(), Failing()])
    with pytest.raises(RuntimeError, match="not today"):
        read_layers(model, np.ones((2, 2)))
    assert not any("call" in vars(layer) for layer in model.layers)
