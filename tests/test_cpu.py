"""The faster steps on CPUs learn what the plain ones learn."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from brainseg_keras import attention_unet, r2_unet
from brainseg_keras.training import cpu, speed_up

IMAGES = np.random.default_rng(0).normal(2, 3, (3, 24, 40, 3)).astype("float32")
TRUTH = (np.random.default_rng(1).random((3, 24, 40, 1)) > 0.7).astype("float32")
NETWORKS = {
    "gates": lambda: attention_unet((24, 40, 3), filters=16, depth=2),
    "one normalization for all steps": lambda: r2_unet((24, 40, 3), filters=16, depth=2),
    "separable": lambda: attention_unet((24, 40, 3), filters=16, depth=2, separable=True),
}


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """A processor that has both parts replaced, whatever this one is."""
    monkeypatch.setattr(cpu, "read_cpuinfo", lambda: "flags : avx2")


def step(model: keras.Model) -> tuple[float, list[np.ndarray], list[np.ndarray]]:
    """Loss, gradients and moving averages of a step of training."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(keras.losses.binary_crossentropy(TRUTH, model(IMAGES, training=True)))
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    return float(loss), [gradient.numpy() for gradient in gradients], [v.numpy() for v in model.non_trainable_variables]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_is_the_same(network):
    keras.utils.set_random_seed(0)
    model = NETWORKS[network]()
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    assert speed_up(twin)
    loss, gradients, averages = step(model)
    fast_loss, fast_gradients, fast_averages = step(twin)
    assert fast_loss == pytest.approx(loss, rel=1e-5)
    largest = max(np.abs(gradient).max() for gradient in gradients)
    for variable, slow, fast in zip(model.trainable_variables, gradients, fast_gradients, strict=True):
        np.testing.assert_allclose(fast, slow, rtol=1e-3, atol=1e-4 * largest, err_msg=variable.path)
    assert len(averages) == len(fast_averages) > 0
    for variable, slow, fast in zip(model.non_trainable_variables, averages, fast_averages, strict=True):
        np.testing.assert_allclose(fast, slow, rtol=1e-4, atol=1e-5, err_msg=variable.path)
    # In use nothing is replaced: the same weights give the same numbers.
    twin.set_weights(model.get_weights())
    np.testing.assert_array_equal(twin(IMAGES, training=False), model(IMAGES, training=False))


@settings(deadline=None, max_examples=15)
@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 70),
    width=st.integers(1, 150),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    seed=st.integers(0, 99),
)
def test_gradient_of_a_kernel(batch, height, width, channels, seed):
    """By its definition, in float64: what each weight met, times what came back."""
    random = np.random.default_rng(seed)
    images, received = (random.normal(size=(batch, height, width, count)) for count in channels)
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)])
    expected = np.empty((3, 3, *channels))
    for down in range(3):
        for right in range(3):
            met = padded[:, down : down + height, right : right + width]
            expected[down, right] = np.tensordot(met, received, axes=([0, 1, 2], [0, 1, 2]))
    found = cpu._kernel_gradient(tf, tf.constant(images, "float32"), tf.constant(received, "float32"))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.sqrt(batch * height * width) * 10)


def test_large_slices_are_summed_in_chunks():
    """Of ones every sum is the number of pixels that an offset leaves inside."""
    ones = tf.ones((2, 100, 120, 1))
    found = cpu._kernel_gradient(tf, ones, ones)[..., 0, 0]
    inside = np.outer([99, 100, 99], [119, 120, 119])
    np.testing.assert_array_equal(found, 2.0 * inside)


def test_what_is_frozen_stays():
    model = attention_unet((24, 40, 3), filters=16, depth=2)
    speed_up(model)
    for layer in model.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    before = [variable.numpy() for variable in model.non_trainable_variables]
    _, _, after = step(model)
    assert all((one == other).all() for one, other in zip(before, after, strict=True))


def test_its_file_has_stock_layers(tmp_path):
    model = attention_unet((24, 40, 3), filters=16, depth=2)
    plain = model.to_json()
    speed_up(model)
    assert model.to_json() == plain
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(IMAGES), model(IMAGES))
    assert all(type(layer).__module__.startswith("keras.") for layer in again.layers)


def test_a_wide_processor_keeps_its_own_gradient(monkeypatch):
    monkeypatch.setattr(cpu, "read_cpuinfo", lambda: "flags : avx2 avx512f amx_bf16")
    model = attention_unet((24, 40, 3), filters=16, depth=2)
    assert speed_up(model)
    replaced = {type(layer).__name__ for layer in model.layers if "convolution_op" in vars(layer)}
    normalizations = [layer for layer in model.layers if type(layer) is keras.layers.BatchNormalization]
    assert not replaced and all("call" in vars(layer) for layer in normalizations)
