"""Folded networks answer as the ones they were folded from, for every architecture."""

import keras
import numpy as np
import pytest
from test_models import RECURRENT, both_styles, every_model, narrow, picture

from brainseg_keras.models.folding import fold_batch_norm


def trained(model, sample=None):
    """Scales, offsets and moving statistics as after training, not as at birth, where folding would change nothing."""
    rng = np.random.default_rng(0)
    sample = picture() if sample is None else sample
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
            layer.beta.assign(rng.normal(0, 0.3, layer.beta.shape))
    for _ in range(20):
        model(sample, training=True)
    return model


def norms(model):
    return sum(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)


@every_model
@both_styles
def test_folded_answers_alike_without_norms(name, separable):
    model = trained(narrow(name, separable=separable))
    folded = fold_batch_norm(model)
    np.testing.assert_allclose(np.asarray(folded(picture())), np.asarray(model(picture())), atol=1e-4)
    assert norms(model) > 0
    assert norms(folded) == 0


def at_random(model, seed):
    """Statistics that no image has: nothing is normalized, and a recurrent network's values grow with each step."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.gamma.assign(rng.uniform(0.5, 1.5, shape))
            layer.beta.assign(rng.normal(0, 0.3, shape))
            layer.moving_mean.assign(rng.normal(0, 0.5, shape))
            layer.moving_variance.assign(rng.uniform(0.3, 2, shape))
    return model


def in_float64(model):
    """The same network with the same weights, computed in float64."""
    exact = keras.models.clone_model(
        model, clone_function=lambda layer: layer.__class__.from_config(layer.get_config() | {"dtype": "float64"})
    )
    exact.set_weights(model.get_weights())
    return np.asarray(exact(picture().astype("float64")))


@pytest.mark.parametrize("norm_per_step", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("separable", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", sorted(RECURRENT))
def test_folding_costs_less_than_float32_itself_whatever_the_statistics(name, separable, norm_per_step):
    """Logits of hundreds to thousands here: where two answers differ by 1e-3, it is by the last bits of them."""
    options = {"separable": separable, "norm_per_step": norm_per_step, "classifier_activation": None}
    model = at_random(narrow(name, **options), 1)
    folded = fold_batch_norm(model)
    exact, by_folding = in_float64(model), in_float64(folded)
    by_float32 = np.abs(np.asarray(model(picture())) - exact).max()
    # What is left of folding when all else is exact: its weights, rounded once to float32.
    assert np.abs(by_folding - exact).max() < by_float32
    assert np.abs(by_folding - exact).max() < 5e-5 * np.abs(exact).max()
    # The folded network in use is as near the truth as the one that it was folded from.
    assert np.abs(np.asarray(folded(picture())) - exact).max() < 10 * by_float32


@pytest.mark.parametrize("name", sorted(RECURRENT))
def test_a_kernel_shared_by_several_norms_keeps_them(name):
    model = trained(narrow(name, norm_per_step=True))
    folded = fold_batch_norm(model)
    np.testing.assert_allclose(np.asarray(folded(picture())), np.asarray(model(picture())), atol=1e-4)
    assert 0 < norms(folded) < norms(model)


def test_a_convolution_that_feeds_two_layers_keeps_its_norm():
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(image)
    y = keras.layers.BatchNormalization()(x)
    sample = np.random.default_rng(0).random((2, 8, 8, 3))
    model = trained(keras.Model(image, keras.layers.Add()([x, y])), sample)
    folded = fold_batch_norm(model)
    np.testing.assert_allclose(np.asarray(folded(sample)), np.asarray(model(sample)), atol=1e-4)


def test_transposed_convolution_without_bias_keeps_its_norm_right():
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2DTranspose(5, 2, 2, use_bias=False)(image)
    sample = np.random.default_rng(0).random((2, 8, 8, 3))
    model = trained(keras.Model(image, keras.layers.BatchNormalization()(x)), sample)
    folded = fold_batch_norm(model)
    np.testing.assert_allclose(np.asarray(folded(sample)), np.asarray(model(sample)), atol=1e-4)


def test_the_model_is_left_as_it_was():
    model = trained(narrow("unet"))
    before = [weight.copy() for weight in model.get_weights()]
    fold_batch_norm(model)
    for weight, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)
