import keras
import numpy as np
import pytest
import tensorflow as tf

from invact.training.losses import count_hits, training_loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("mixed", [False, True])
def test_the_losses_are_those_of_keras(smoothing: float, mixed: bool) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 5, (32, 7)).astype(np.float32)
    labels = rng.integers(0, 7, 32).astype(np.int32)
    shares = np.eye(7, dtype=np.float32)[labels]
    if mixed:
        kept = rng.random((32, 1), np.float32)
        shares = kept * shares + (1 - kept) * shares[::-1]
    reported, minimised = training_loss(
        tf.constant(logits), tf.constant(shares if mixed else labels), smoothing
    )
    for found, amount in ((reported, 0.0), (minimised, smoothing)):
        expected = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=amount)(
            shares, logits
        )
        assert float(found) == pytest.approx(float(expected), rel=1e-5)
    hits = (logits.argmax(1) == shares.argmax(1)).sum()
    assert count_hits(tf.constant(logits), tf.constant(shares if mixed else labels)) == hits


def test_without_smoothing_one_loss_is_reported_and_minimised() -> None:
    reported, minimised = training_loss(tf.constant([[1.0, 2.0]]), tf.constant([0]))
    assert reported is minimised
