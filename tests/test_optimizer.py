"""The norm that the optimizer keeps, against gradients taken by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from brainseg_keras.training.optimizer import MeasuredAdam, adam_of

X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)])


def norm_by_hand(model):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(X) - Y) ** 2)
    return float(tf.linalg.global_norm(tape.gradient(loss, model.trainable_variables)))


@pytest.mark.parametrize("scaled", [False, True])
def test_the_norm_is_that_of_the_true_gradients(scaled):
    """Also behind the loss scale of float16, which multiplies every gradient by thousands."""
    model = network()
    expected, optimizer = norm_by_hand(model), MeasuredAdam(1e-2)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer, loss="mse")
    model.fit(X, Y, batch_size=8, verbose=0)
    assert float(adam_of(model).gradient_norm) == pytest.approx(expected, rel=1e-4)
    second = norm_by_hand(model)
    model.fit(X, Y, batch_size=8, verbose=0)
    assert float(adam_of(model).gradient_norm) == pytest.approx(0.9 * expected + 0.1 * second, rel=1e-4)


@pytest.mark.parametrize(("decay", "reference"), [(None, keras.optimizers.Adam), (0.1, keras.optimizers.AdamW)])
def test_it_steps_as_keras_own(decay, reference):
    ours, theirs = network(), network()
    ours.compile(MeasuredAdam(1e-2, weight_decay=decay), loss="mse")
    theirs.compile(reference(1e-2, weight_decay=decay), loss="mse")
    for model in (ours, theirs):
        model.fit(X, Y, batch_size=4, epochs=3, shuffle=False, verbose=0)
    for own, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)


def test_it_is_saved_and_goes_on(tmp_path):
    model = network()
    model.compile(MeasuredAdam(1e-2, weight_decay=0.1), loss="mse")
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert float(adam_of(again).gradient_norm) == float(adam_of(model).gradient_norm) > 0
    assert again.optimizer.weight_decay == 0.1
