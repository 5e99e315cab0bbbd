"""Grad-CAM against differences, and the one maker of maps for networks with and without gates."""

import keras
import numpy as np
import pytest

from brainseg_keras import build_model
from brainseg_keras.errors import InputError
from brainseg_keras.inference.explanation import Explainer, GradCam

IMAGES = np.random.default_rng(0).uniform(0, 2, (2, 32, 48, 3)).astype("float32")


def network(name="res_unet", **options):
    keras.utils.set_random_seed(1)
    return build_model(name, input_shape=(32, 48, 3), filters=4, depth=2, **options)


@pytest.mark.parametrize("num_classes", [1, 4])
def test_grad_cam_against_differences(num_classes):
    """Raise one channel of the features everywhere by a little, look at the chosen logits, and weigh by hand."""
    model = network(num_classes=num_classes)
    features = model.get_layer("dec1_up").input
    values, answer = keras.Model(model.inputs, [features, model.output]).predict_on_batch(IMAGES)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    head = keras.Model([*copy.inputs, copy.get_layer("dec1_up").input], copy.get_layer("mask").input)
    chosen = answer > 0.5 if num_classes == 1 else (answer[..., :1] < 0.5) & (np.arange(num_classes) > 0)
    assert chosen.any()
    weights = np.zeros((2, values.shape[-1]))
    for channel in range(values.shape[-1]):
        step = np.zeros_like(values)
        step[..., channel] = 1e-2
        up, down = (head.predict_on_batch([IMAGES, values + sign * step]) for sign in (1, -1))
        pixels = values.shape[1] * values.shape[2]
        weights[:, channel] = ((up - down) * chosen).sum(axis=(1, 2, 3)) / (2e-2 * pixels)
    expected = np.maximum((values * weights[:, None, None]).sum(axis=-1), 0)
    expected /= np.maximum(expected.max(axis=(1, 2), keepdims=True), 1e-12)
    np.testing.assert_allclose(GradCam(model)(IMAGES), expected, atol=0.02)


def test_grad_cam_is_0_where_nothing_was_called_tumour():
    model = network()
    logits = model.get_layer("logits")
    logits.set_weights([np.zeros_like(logits.get_weights()[0]), np.full(1, -9.0)])
    assert (GradCam(model)(IMAGES) == 0).all()


def test_grad_cam_follows_the_weights_and_leaves_the_model_as_it_was(tmp_path):
    model = network()
    look = GradCam(model)
    before = look(IMAGES)
    model.save(tmp_path / "model.keras")
    model.set_weights([weight + 0.1 for weight in model.get_weights()])
    assert not np.allclose(look(IMAGES), before)
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(GradCam(again)(IMAGES), before, atol=1e-5)


def test_each_network_has_maps_at_their_levels_sizes():
    gated, plain = Explainer(network("ar2_unet"))(IMAGES), Explainer(network("unet"))(IMAGES)
    assert {name: maps.shape for name, maps in gated.items()} == {"dec0_att": (2, 32, 48), "dec1_att": (2, 16, 24)}
    assert {name: maps.shape for name, maps in plain.items()} == {"grad_cam": (2, 8, 12)}
    for maps in (*gated.values(), *plain.values()):
        assert maps.min() >= 0 and maps.max() <= 1


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(InputError, match=r"no layer 'conv9'.*enc0"):
        GradCam(network(), layer="conv9")
