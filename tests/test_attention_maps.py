"""Attention maps: at each level's size, in [0, 1], and what the network is when every gate is open."""

import keras
import numpy as np
import pytest

from brainseg_keras import attention_maps, build_model, build_unet, load_pretrained
from brainseg_keras.errors import InputError

GATED = ("attention_unet", "attention_res_unet", "ar2_unet", "mod_r2au_net")
IMAGES = np.random.default_rng(0).uniform(0, 2, (2, 32, 48, 3)).astype("float32")


def network(name, **options):
    keras.utils.set_random_seed(1)
    return build_model(name, input_shape=(32, 48, 3), filters=4, depth=2, **options)


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("name", GATED)
def test_each_level_has_a_map_of_its_size_and_the_answer_stays(name, separable):
    model = network(name, separable=separable)
    found = attention_maps(model).predict_on_batch(IMAGES)
    assert set(found) == {"mask", "dec0_att", "dec1_att"}
    np.testing.assert_allclose(found["mask"], model.predict_on_batch(IMAGES), atol=1e-6)
    for level in (0, 1):
        alpha = found[f"dec{level}_att"]
        assert alpha.shape == (2, 32 >> level, 48 >> level, 1)
        assert alpha.min() >= 0 and alpha.max() <= 1 and alpha.std() > 0


@pytest.mark.parametrize("name", GATED)
def test_a_map_is_what_the_skip_is_multiplied_by(name):
    model = network(name)
    gated = model.get_layer("dec0_att_gated")
    skip, _ = gated.input
    probe = keras.Model(model.inputs, [skip, gated.output])
    before, after = probe.predict_on_batch(IMAGES)
    alpha = attention_maps(model).predict_on_batch(IMAGES)["dec0_att"]
    np.testing.assert_allclose(after, before * alpha, rtol=1e-5, atol=1e-6)


def open_every_gate(model):
    """Let psi be 1 everywhere: its last layer before the sigmoid answers 50 whatever comes."""
    names = {layer.name for layer in model.layers}
    for alpha in [name for name in names if name.endswith("_att_alpha")]:
        gate = alpha.removesuffix("_alpha")
        last = model.get_layer(f"{gate}_psi_norm" if f"{gate}_psi_norm" in names else f"{gate}_psi_conv")
        if last.name.endswith("_norm"):
            last.gamma.assign(np.zeros(last.gamma.shape))
            last.beta.assign(np.full(last.beta.shape, 50.0))
        else:
            last.set_weights([np.zeros_like(last.get_weights()[0]), np.full_like(last.get_weights()[1], 50.0)])


@pytest.mark.parametrize("gate", ["same_scale", "same_scale_plain", "half_width"])
def test_open_gates_of_the_same_scale_are_no_gates(gate):
    keras.utils.set_random_seed(2)
    gated = build_unet((32, 48, 3), 1, filters=4, depth=2, block="res", gate=gate)
    plain = build_unet((32, 48, 3), 1, filters=4, depth=2, block="res", gate=None)
    for layer in plain.layers:
        layer.set_weights(gated.get_layer(layer.name).get_weights())
    assert np.abs(gated.predict_on_batch(IMAGES) - plain.predict_on_batch(IMAGES)).max() > 1e-4
    open_every_gate(gated)
    np.testing.assert_allclose(gated.predict_on_batch(IMAGES), plain.predict_on_batch(IMAGES), atol=1e-6)
    assert (attention_maps(gated).predict_on_batch(IMAGES)["dec1_att"] == 1).all()


def test_an_open_coarse_gate_is_its_output_convolution_on_the_skip():
    keras.utils.set_random_seed(3)
    model = build_unet((32, 48, 3), 1, filters=4, depth=2, block="res", gate="coarse")
    open_every_gate(model)
    for level in (0, 1):
        skip, _ = model.get_layer(f"dec{level}_att_gated").input
        convolution = model.get_layer(f"dec{level}_att_out_conv")
        probe = keras.Model(model.inputs, [skip, convolution.output])
        before, after = probe.predict_on_batch(IMAGES)
        np.testing.assert_allclose(after, np.asarray(convolution(before)), rtol=1e-4, atol=1e-5)


def test_a_file_and_shipped_weights_can_be_looked_at(tmp_path):
    model = network("attention_unet")
    model.save(tmp_path / "m.keras")
    read = keras.saving.load_model(tmp_path / "m.keras", compile=False)
    first, second = (attention_maps(m).predict_on_batch(IMAGES) for m in (model, read))
    np.testing.assert_allclose(first["dec1_att"], second["dec1_att"], atol=1e-6)
    assert len(attention_maps(load_pretrained("lgg")).outputs) == 5


@pytest.mark.parametrize("name", ["unet", "res_unet", "r2_unet"])
def test_a_network_without_gates_is_refused(name):
    with pytest.raises(InputError, match=r"has no attention gates\. .*such as attention_unet"):
        attention_maps(network(name))


def test_half_precision_gives_maps_in_single_precision():
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        maps = attention_maps(network("attention_res_unet")).predict_on_batch(IMAGES)
    finally:
        keras.config.set_dtype_policy(policy)
    assert maps["dec0_att"].dtype == np.float32
