import keras
import numpy as np
import pytest
from keras import layers as kl

from invact.analysis import gradient_norms
from invact.errors import EnvironmentFault, InputError
from invact.layers import InverseActivation


def drawn(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def compiled(*layers, loss="mse", shape=(3,)):
    model = keras.Sequential([keras.Input(shape), *layers])
    model.compile("sgd", loss)
    return model


def test_norms_of_an_inverse_network_agree_with_the_chain_rule():
    model = compiled(
        kl.Dense(4, bias_initializer="random_normal", name="hidden"),
        InverseActivation(name="inverse"),
        kl.Dense(2, name="outputs"),
    )
    x, y = drawn(6, 3), drawn(6, 2)
    w, b, v, c = (weight.astype(float) for weight in model.get_weights())
    z = x @ w + b
    both = np.concatenate([np.maximum(z, 0), np.maximum(-z, 0)], axis=1)
    error = 2 * (both @ v + c - y) / y.size
    back = error @ v.T
    inner = back[:, :4] * (z > 0) - back[:, 4:] * (z < 0)
    expected = {
        "hidden": np.sqrt(((x.T @ inner) ** 2).sum() + (inner.sum(axis=0) ** 2).sum()),
        "outputs": np.sqrt(((both.T @ error) ** 2).sum() + (error.sum(axis=0) ** 2).sum()),
    }
    assert gradient_norms(model, x, y) == pytest.approx(expected, rel=1e-4)


def test_a_dead_filter_has_no_gradient_behind_relu_but_behind_an_inverse_activation():
    x, y = np.abs(drawn(5, 3)), drawn(5, 1)
    norms = {}
    for activation in (kl.ReLU(), InverseActivation()):
        model = compiled(kl.Dense(2, kernel_initializer=keras.initializers.Constant(-1), name="dead"))
        model = compiled(model, activation, kl.Dense(1))
        norms[type(activation).__name__] = gradient_norms(model, x, y)[f"{model.layers[0].name}/dead"]
    assert norms["ReLU"] == 0 < norms["InverseActivation"]


def test_regularisers_and_losses_of_layers_are_part_of_the_loss():
    plain = compiled(kl.Dense(2, name="dense"), loss="mse")
    x, w = drawn(4, 3), plain.layers[0].get_weights()
    y = x @ w[0]  # The error is zero, so the rest is the gradient of the regularisers.
    assert gradient_norms(plain, x, y)["dense"] == pytest.approx(0, abs=1e-5)
    l2 = compiled(kl.Dense(2, kernel_regularizer=keras.regularizers.L2(0.5), name="dense"))
    l2.layers[0].set_weights(w)
    assert gradient_norms(l2, x, y)["dense"] == pytest.approx(np.linalg.norm(w[0]), rel=1e-4)
    # Keras divides the loss of the outputs, 0.5 sum y^2, by the number of images.
    active = compiled(kl.Dense(2, activity_regularizer=keras.regularizers.L2(0.5), name="dense"))
    active.layers[0].set_weights(w)
    expected = np.sqrt((((x.T @ y) / 4) ** 2).sum() + (y.mean(axis=0) ** 2).sum())
    assert gradient_norms(active, x, y)["dense"] == pytest.approx(expected, rel=1e-4)


def test_the_model_runs_as_in_training_and_is_left_as_it_is():
    model = compiled(
        kl.Conv2D(3, 3, name="conv"),
        kl.BatchNormalization(name="norm"),
        InverseActivation("elu"),
        kl.Dropout(0.5, seed=1),
        kl.Flatten(),
        kl.Dense(4, name="logits"),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        shape=(6, 6, 1),
    )
    model.get_layer("norm").set_weights([drawn(3), drawn(3), 50 + np.zeros(3), np.ones(3)])
    x, y = drawn(8, 6, 6, 1), np.arange(8) % 4
    before = [np.asarray(variable.value) for variable in model.variables]
    first, again = gradient_norms(model, x, y), gradient_norms(model, x, y)
    assert first == again
    assert [*first] == ["conv", "norm", "logits"]
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(np.asarray(variable.value), value)
    # With the moving mean of 50, every unit of the normalisation would be far below zero, and with it the
    # gradient of the logits would hardly depend on the images.
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, tf.constant(y), model(x, training=True))
    layers = ["conv", "norm", "logits"]
    weights = [[weight.value for weight in model.get_layer(name).trainable_weights] for name in layers]
    gradients = tape.gradient(loss, weights)
    expected = {
        name: float(tf.linalg.global_norm(group)) for name, group in zip(layers, gradients, strict=True)
    }
    assert first == pytest.approx(expected, rel=1e-4)


def test_weights_that_do_not_train_or_do_not_matter():
    inputs = keras.Input((3,))
    frozen = kl.Dense(3, trainable=False, name="frozen")(inputs)
    model = keras.Model(inputs, kl.Dense(1, name="outputs")(frozen * 0))
    model.compile("sgd", "mse")
    norms = gradient_norms(model, drawn(4, 3), np.zeros((4, 1)))
    assert norms == {"outputs": 0}


def test_words_have_gradients_too():
    model = keras.Sequential([keras.Input((2,)), kl.Embedding(5, 3, name="words"), kl.Flatten(), kl.Dense(1)])
    model.compile("sgd", "mse")
    norms = gradient_norms(model, np.array([[0, 1], [1, 1]]), np.ones((2, 1)))
    assert norms["words"] > 0


def test_a_model_without_a_loss_is_refused():
    model = keras.Sequential([keras.Input((3,)), kl.Dense(1)], name="plain")
    with pytest.raises(InputError, match=r"'plain' is not compiled. Allowed: call compile with a loss"):
        gradient_norms(model, drawn(2, 3), drawn(2, 1))


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(EnvironmentFault, match="received 'jax'"):
        gradient_norms(None, None, None)
