"""What every registered model must pass: nothing here names an architecture but the table of golden rows."""

import inspect
import json
import math
import re
from pathlib import Path

import keras
import numpy as np
import pytest

from brainseg_keras import BlockStyle, build_model, build_unet, list_models
from brainseg_keras.errors import InputError
from brainseg_keras.models.complexity import count_flops, layer_calls
from brainseg_keras.models.names import parse
from brainseg_keras.registry import ARCHITECTURES, RECURRENT

#: architecture: (input of the count, total parameters, logits of the formula-filled narrow network).
GOLDEN = {
    "unet": ((256, 256, 3), 34_540_737, (-0.305411, -1.135764, -0.663017)),
    "attention_unet": ((128, 128, 1), 8_120_421, (-0.431483, 0.171549, 1.483905)),
    "res_unet": ((256, 256, 3), 1_210_513, (-0.278151, -0.56067, -0.178653)),
    "attention_res_unet": ((128, 128, 3), 39_090_377, (-1.4778, -2.289611, -0.563024)),
    "r2_unet": ((256, 256, 3), 39_105_089, (4.089766, -4.192597, 17.795824)),
    "ar2_unet": ((256, 256, 3), 39_811_989, (-7.174111, -28.370459, -6.795135)),
    "mod_r2au_net": ((256, 256, 3), 21_301_889, (-0.297735, -3.162721, 4.776305)),
}
TRAINABLE = {"unet": 34_527_041, "r2_unet": 39_091_393, "mod_r2au_net": 21_289_925}
GATED = {"attention_unet", "attention_res_unet", "ar2_unet", "mod_r2au_net"}
NARROW = {"input_shape": (32, 48, 3), "filters": 4, "depth": 2}

ROOT = Path(__file__).resolve().parent.parent
#: The count of the one recipe whose reference is separable.
SEPARABLE = {"attention_res_unet": 11_264_356}

every_model = pytest.mark.parametrize("name", list_models())
both_styles = pytest.mark.parametrize("separable", [False, True], ids=["plain", "separable"])


def narrow(name, **changes):
    return build_model(name, **NARROW | changes)


def fill(model, scale=0.4):
    """Give every weight values that follow from its place alone."""
    for number, weight in enumerate(model.weights):
        indices = np.arange(math.prod(weight.shape), dtype="float64").reshape(weight.shape)
        values = scale * np.sin(1.7 * indices + number)
        if weight.path.endswith(("moving_variance", "gamma")):
            values = 1 + 0.5 * np.abs(values)
        weight.assign(values)
    return model


def picture(shape=(2, 32, 48, 3)):
    return np.cos(0.11 * np.arange(math.prod(shape))).reshape(shape).astype("float32")


def trainable_parameters(model):
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def test_golden_rows_cover_the_registry():
    assert set(GOLDEN) == set(list_models()) == set(ARCHITECTURES)


@every_model
def test_default_arguments_give_the_published_count(name):
    shape, expected, _ = GOLDEN[name]
    model = build_model(name, input_shape=shape)
    assert model.count_params() == expected
    if name in TRAINABLE:
        assert trainable_parameters(model) == TRAINABLE[name]


def test_readme_has_these_counts():
    rows = re.findall(
        r"^\| `(\w+)` \| .+? \| ([\d,]+) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {name: int(count.replace(",", "")) for name, count in rows} == {n: row[1] for n, row in GOLDEN.items()}


@pytest.mark.parametrize(
    "script",
    [script for script in sorted((ROOT / "examples").glob("*.py")) if script.stem != "compare_architectures"],
    ids=lambda path: path.stem,
)
def test_examples_name_the_width_and_the_count_of_their_recipe(script):
    text, name = script.read_text(encoding="utf-8"), script.stem
    (command,) = re.findall(rf"python examples/{script.name} --data \S+ --filters (\d+)", text)
    (told,) = re.findall(r"width of the first level; \w+: (\d+)", text)
    assert int(command) == int(told) == inspect.signature(ARCHITECTURES[name]).parameters["filters"].default
    counts = {int(number.replace(",", "")) for number in re.findall(r"\d+,\d{3},\d{3}", text)}
    assert counts == {GOLDEN[name][1], SEPARABLE.get(name, GOLDEN[name][1])}


@every_model
def test_formula_filled_network_gives_its_golden_logits(name):
    """Any change of graph, order of weights or arithmetic shows here."""
    logits = np.asarray(fill(narrow(name, classifier_activation=None))(picture()))
    found = logits.mean(), logits[0, 0, 0, 0], logits[1, 20, 31, 0]
    assert found == pytest.approx(GOLDEN[name][2], abs=5e-5, rel=1e-4)


@pytest.mark.parametrize(("name", "count"), SEPARABLE.items())
def test_separable_network_has_the_published_count(name, count):
    assert build_model(name, input_shape=GOLDEN[name][0], separable=True).count_params() == count


def test_published_relatives_are_reached_through_build_unet():
    attention = build_unet(gate="half_width")
    assert trainable_parameters(attention) == 34_878_573
    recurrent = build_unet(block="recurrent_res", gate="half_width")
    assert trainable_parameters(recurrent) == 39_442_925
    assert recurrent.count_params() == 39_458_549


def test_mod_r2au_net_costs_what_its_authors_say():
    assert count_flops(build_model("mod_r2au_net"), 256) == pytest.approx(212, rel=0.001)


def test_flops_are_twice_the_multiplications_of_each_call():
    image = keras.Input((8, 8, 3))
    shared = keras.layers.Conv2D(3, 3, padding="same")
    model = keras.Model(image, shared(shared(image)))
    assert len(list(layer_calls(model))) >= 2
    assert count_flops(model, None) == pytest.approx(2 * 2 * 8 * 8 * 9 * 3 * 3 / 1e9)
    separable = keras.Model(image, keras.layers.SeparableConv2D(5, 3, padding="same")(image))
    assert count_flops(separable, None) == pytest.approx(2 * 8 * 8 * (9 * 3 + 3 * 5) / 1e9)
    transposed = keras.Model(image, keras.layers.Conv2DTranspose(5, 2, strides=2)(image))
    assert count_flops(transposed, None) == pytest.approx(2 * 8 * 8 * 4 * 3 * 5 / 1e9)


def test_recipes_share_one_signature():
    signatures = {}
    for name, recipe in ARCHITECTURES.items():
        parameters = inspect.signature(recipe).parameters.values()
        signatures[name] = [(p.name, p.kind, p.annotation) for p in parameters]
    common = signatures["unet"]
    for name, parameters in signatures.items():
        extra = [p for p in parameters if p not in common]
        assert [p for p in parameters if p in common] == common
        assert [p[0] for p in extra] == (["recurrence", "norm_per_step"] if name in RECURRENT else [])


@every_model
@both_styles
@pytest.mark.parametrize(("channels", "classes"), [(1, 1), (3, 4), (4, 1)])
def test_shapes_range_and_classes(name, separable, channels, classes):
    model = narrow(name, input_shape=(32, 48, channels), num_classes=classes, separable=separable)
    output = np.asarray(model(picture((2, 32, 48, channels))))
    assert output.shape == (2, 32, 48, classes)
    assert output.dtype == np.float32
    assert 0 <= output.min() <= output.max() <= 1
    if classes > 1:
        np.testing.assert_allclose(output.sum(axis=-1), 1, rtol=1e-5)


@every_model
def test_sizes_may_be_left_open(name):
    fixed, open_ = fill(narrow(name)), fill(narrow(name, input_shape=(None, None, 3)))
    images = picture()
    np.testing.assert_allclose(np.asarray(open_(images)), np.asarray(fixed(images)), atol=1e-6)
    assert open_(images[:, :16, :24]).shape == (2, 16, 24, 1)


@every_model
@both_styles
def test_layers_are_stock_and_named_for_their_place(name, separable):
    model = narrow(name, separable=separable)
    names = [layer.name for layer in model.layers]
    assert names[0] == "image"
    assert names[-1] == "mask"
    assert "logits" in names
    assert all(layer.__class__.__module__.startswith("keras.") for layer in model.layers)
    beginnings = ("enc0_", "enc1_", "enc2_", "dec0_", "dec1_", "logits")
    assert all(layer_name.startswith(beginnings) for layer_name in names[1:-1]), names
    assert {found.block for found in map(parse, names) if found} == {"enc0", "enc1", "enc2", "dec0", "dec1"}
    gates = {layer_name for layer_name in names if layer_name.endswith("_att_alpha")}
    assert gates == ({"dec0_att_alpha", "dec1_att_alpha"} if name in GATED else set())


@every_model
@both_styles
def test_every_variable_has_a_gradient(name, separable):
    import tensorflow as tf

    model = fill(narrow(name, separable=separable))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(picture(), training=True) - 0.3))
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    dead = [w.path for w, g in zip(model.trainable_weights, gradients, strict=True) if g is None]
    assert not dead
    assert all(np.isfinite(g).all() for g in gradients)
    kernels = [g for w, g in zip(model.trainable_weights, gradients, strict=True) if w.path.endswith("kernel")]
    assert all(np.abs(g).max() > 0 for g in kernels)


@every_model
def test_same_seed_same_network(name):
    outputs = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        outputs.append(np.asarray(narrow(name)(picture())))
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert (outputs[0] != outputs[2]).any()


@every_model
@both_styles
def test_config_json_and_file_round_trips(name, separable, tmp_path):
    model = fill(narrow(name, separable=separable))
    expected = np.asarray(model(picture()))
    again = [
        keras.Model.from_config(json.loads(json.dumps(model.get_config()))),
        keras.models.model_from_json(model.to_json()),
    ]
    for copy in again:
        copy.set_weights(model.get_weights())
    model.save(tmp_path / "model.keras")
    again.append(keras.saving.load_model(tmp_path / "model.keras"))
    for copy in again:
        np.testing.assert_allclose(np.asarray(copy(picture())), expected, atol=1e-6)


@every_model
def test_weights_argument_loads_both_kinds_of_file(name, tmp_path):
    model = fill(narrow(name))
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    for file in ("model.keras", "model.weights.h5"):
        np.testing.assert_array_equal(
            np.asarray(narrow(name, weights=tmp_path / file)(picture())), np.asarray(model(picture()))
        )
    with pytest.raises(InputError, match="does not fit"):
        narrow(name, filters=5, weights=tmp_path / "model.keras")
    with pytest.raises(InputError, match="no file"):
        narrow(name, weights=tmp_path / "absent.keras")
    (tmp_path / "broken.keras").write_bytes(b"PK\x03\x04 no model")
    with pytest.raises(InputError, match="cannot be read"):
        narrow(name, weights=tmp_path / "broken.keras")


@every_model
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_keeps_a_float32_mask_near_the_float32_one(name, policy):
    expected = np.asarray(fill(narrow(name), scale=0.1)(picture()))
    keras.config.set_dtype_policy(policy)
    try:
        model = fill(narrow(name), scale=0.1)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("logits").compute_dtype == policy.removeprefix("mixed_")
    output = model(picture())
    assert output.dtype == "float32"
    assert all(weight.dtype == "float32" for weight in model.weights)
    np.testing.assert_allclose(np.asarray(output), expected, atol=0.05)


@pytest.mark.parametrize("name", sorted(RECURRENT))
def test_recurrence_repeats_one_kernel(name):
    once, thrice = narrow(name, recurrence=1), narrow(name, recurrence=3)
    assert [w.shape for w in once.weights] == [w.shape for w in thrice.weights]
    assert count_flops(thrice, None) > 1.5 * count_flops(once, None)
    per_step = narrow(name, recurrence=3, norm_per_step=True)
    assert len(per_step.weights) > len(thrice.weights)
    kernels = [[w for w in m.weights if w.path.endswith("kernel")] for m in (thrice, per_step)]
    assert len(kernels[0]) == len(kernels[1])


@every_model
def test_separable_is_smaller(name):
    plain, separable = narrow(name, filters=16), narrow(name, filters=16, separable=True)
    assert separable.count_params() < 0.75 * plain.count_params()


@every_model
def test_logits_and_other_heads(name):
    logits = fill(narrow(name, classifier_activation=None))
    mask = fill(narrow(name))
    values = np.asarray(logits(picture()))
    np.testing.assert_allclose(1 / (1 + np.exp(-values)), np.asarray(mask(picture())), atol=1e-6)
    nested = narrow(name, num_classes=3, classifier_activation="sigmoid")
    assert nested.get_layer("mask").activation is keras.activations.sigmoid


@every_model
def test_left_out_norm_and_dropout_are_left_out(name):
    kinds = {type(layer) for layer in narrow(name, norm=None, dropout=0.0).layers}
    assert keras.layers.BatchNormalization not in kinds
    assert keras.layers.SpatialDropout2D not in kinds
    model = narrow(name, norm="group", dropout=0.5)
    assert {keras.layers.GroupNormalization, keras.layers.SpatialDropout2D} <= {type(layer) for layer in model.layers}
    silent, loud = np.asarray(model(picture())), np.asarray(model(picture(), training=True))
    assert (silent != loud).any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"input_shape": (250, 256, 3)}, r"height must be a multiple of 16.*Pad to 256 or crop to 240"),
        ({"input_shape": (256, 256)}, "input_shape must be"),
        ({"input_shape": (256, 256, 0)}, "channels must be"),
        ({"num_classes": 0}, "num_classes must be"),
        ({"filters": [8, 16], "depth": 2}, r"depth \+ 1 = 3"),
        ({"filters": -1}, "filters must be"),
        ({"depth": 0}, "depth must be"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"norm": "layer"}, "norm must be"),
        ({"activation": "rellu"}, "activation must be"),
        ({"up": "bilinear"}, "up"),
        ({"classifier_activation": "softmax"}, "1 everywhere"),
        ({"weights": "model.h5"}, r"\.weights\.h5 or \.keras"),
        ({"filter": 8}, "Did you mean 'filters'"),
    ],
)
def test_messages_say_what_came_and_the_cure(arguments, words):
    with pytest.raises(InputError, match=words):
        build_model("unet", **arguments)
    assert issubclass(InputError, ValueError)


def test_unknown_architecture_names_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'mod_r2au_net'"):
        build_model("mod_r2aunet")


def test_functions_stand_for_block_gate_and_up():
    def block(x, filters, style, *, name):
        return keras.layers.Conv2D(filters, 3, padding="same", name=f"{name}_mine")(x)

    def gate(skip, upsampled, coarse, filters, style, *, name):
        assert skip.shape[1:] == (*upsampled.shape[1:3], filters)
        assert coarse.shape[1] * 2 == skip.shape[1]
        return keras.layers.Rescaling(0.5, name=f"{name}_half")(skip)

    model = build_unet((32, 32, 1), filters=4, depth=2, block=block, gate=gate, up="transposed")
    names = [layer.name for layer in model.layers]
    assert {"enc0_mine", "dec1_mine", "dec0_att_half"} <= set(names)
    assert BlockStyle() == BlockStyle(False, "batch", "relu", 0.0)
