"""Weights of one run into another: what is kept, what is new, what stays frozen, and what is refused."""

import dataclasses
import io
import json
import shutil

import keras
import numpy as np
import pytest
from commands import here
from rich.console import Console
from runs import tiny

from brainseg_keras import attention_res_unet, load_pretrained
from brainseg_keras.data.inputs.targets import Target
from brainseg_keras.data.phantom.brats import NIFTI_FOLDERS, write_brats_phantom
from brainseg_keras.data.roles import Roles
from brainseg_keras.errors import InputError
from brainseg_keras.models.names import is_encoder, is_head
from brainseg_keras.models.weights import stored_weights
from brainseg_keras.spec import NetworkSpec
from brainseg_keras.training import TrainingConfig, resume, train
from brainseg_keras.training.initial import freeze, frozen_layers, take_initial
from brainseg_keras.training.origin import network_settings
from brainseg_keras.training.scoring import Scorer
from brainseg_keras.training.setup import build_network, compile_model, describe_network, load_data, open_data

QUIET = Console(file=io.StringIO())


def spec_like(run, channels, target="tumour", **arguments):
    """The network of a run, for other channels and another target."""
    spec, target = run.read_record().spec, Target(target)
    depth = len(channels) * (2 * arguments.pop("context", 0) + 1)
    shapes = {"input_shape": [32, 32, depth], "num_classes": len(target.channels)}
    if target.name == "regions":
        shapes["classifier_activation"] = "sigmoid"
    context = (depth // len(channels) - 1) // 2
    everything = {**spec.arguments, **shapes, **arguments}
    return dataclasses.replace(spec, channels=channels, target=target, context=context, arguments=everything)


def started(run, spec, init=None, adapt=True):
    """The network of a description with a run's weights; also how it was before, what fits and what is said."""
    model = build_network(spec)
    before = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    fit, said = take_initial(model, spec, init or str(run.path), adapt=adapt)
    return model, before, fit, said


def assert_equal(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, other)


# ---- what fits


@pytest.mark.parametrize(
    ("channels", "origins", "words"),
    [
        (("FLAIR",), [1], "FLAIR kept"),
        (("T2", "T1ce", "FLAIR", "T1"), [None, 2, 1, 0], "T1ce, FLAIR, T1 kept, T2 as the mean of the old"),
        (("FLAIR", "T1ce", "T1"), [1, 2, 0], "FLAIR, T1ce, T1 kept"),
    ],
)
def test_channels_take_their_kernels_by_name(finished, channels, origins, words):
    stored = stored_weights(finished.best)
    model, before, fit, said = started(finished, spec_like(finished, channels))
    kernel, bias = stored["enc0_1_conv"]
    expected = [
        kernel[:, :, 0] / 3 + kernel[:, :, 1] / 3 + kernel[:, :, 2] / 3 if o is None else kernel[:, :, o]
        for o in origins
    ]
    found, kept_bias = model.get_layer("enc0_1_conv").get_weights()
    for index, origin in enumerate(origins):
        np.testing.assert_allclose(found[:, :, index], expected[index], atol=0 if origin is not None else 1e-7)
    np.testing.assert_array_equal(kept_bias, bias)
    assert (fit.mixed, fit.new) == (("enc0_1_conv",), ())
    for name in fit.kept:
        assert_equal(model.get_layer(name).get_weights(), stored[name])
    assert set(fit.kept) == before.keys() - {"enc0_1_conv"}
    assert said == f"Weights of {finished.path}: {len(before) - 1} layers kept; enc0_1_conv by channel ({words})."


def test_another_target_has_a_new_head_and_nothing_else(finished):
    stored = stored_weights(finished.best)
    model, before, fit, said = started(finished, spec_like(finished, ("T1", "FLAIR", "T1ce"), "regions"))
    assert (fit.mixed, fit.new) == ((), ("logits",))
    assert_equal(model.get_layer("logits").get_weights(), before["logits"])
    for name in fit.kept:
        assert_equal(model.get_layer(name).get_weights(), stored[name])
    assert said.endswith("; logits new.")


def test_neighboring_slices_keep_the_kernels_of_their_place(finished, tmp_path):
    """From a network without context: the slice itself keeps its kernels, those above and below get the mean."""
    kernel = stored_weights(finished.best)["enc0_1_conv"][0]
    model, *_ = started(finished, spec_like(finished, ("FLAIR", "T1"), context=1))
    found = model.get_layer("enc0_1_conv").get_weights()[0]
    for index, expected in enumerate([None, None, kernel[:, :, 1], kernel[:, :, 0], None, None]):
        expected = kernel.mean(axis=2) if expected is None else expected
        np.testing.assert_array_equal(found[:, :, index], expected)


@pytest.mark.parametrize("separable", [False, True])
def test_every_layer_that_sees_the_image_is_adapted(separable, tmp_path):
    old = attention_res_unet((32, 32, 2), filters=4, depth=1, separable=separable)
    old.save(tmp_path / "old.keras")
    arguments = {"input_shape": [32, 32, 1], "num_classes": 1, "filters": 4, "depth": 1, "separable": separable}
    spec = NetworkSpec(("T2",), architecture="attention_res_unet", arguments=arguments)
    model = build_network(spec)
    fit, said = take_initial(model, spec, str(tmp_path / "old.keras"), adapt=True)
    assert (fit.mixed, fit.new) == (("enc0_1_conv", "enc0_shortcut_conv"), ())
    for name in fit.mixed:
        for found, before in zip(model.get_layer(name).get_weights(), old.get_layer(name).get_weights(), strict=True):
            expected = before.mean(axis=2, keepdims=True) if before.ndim == 4 else before
            np.testing.assert_array_equal(found, expected)
    # Nothing says what the two channels were.
    assert "enc0_1_conv, enc0_shortcut_conv by channel (T2 as the mean of the old)" in said


# ---- what is refused


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"channels": ("FLAIR",)},
            "the channels T1, FLAIR, T1ce and the target tumour; this run has the channels FLAIR and .*Give --adapt",
        ),
        # As many, and others: without a word FLAIR would be taken for T1.
        ({"channels": ("FLAIR", "T1", "T1ce")}, "this run has the channels FLAIR, T1, T1ce and the target tumour"),
        ({"channels": ("T1", "FLAIR", "T1ce"), "target": "regions"}, "and the target regions. Give --adapt"),
        ({"channels": ("T1", "FLAIR", "T1ce"), "context": 1}, "T1ce with context 1 and the target"),
    ],
)
def test_other_channels_and_targets_want_adapt(finished, changes, words):
    with pytest.raises(InputError, match=words):
        started(finished, spec_like(finished, **changes), adapt=False)


@pytest.mark.parametrize("adapt", [False, True])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"filters": 8}, "--filters 4"),
        ({"depth": 1}, "--depth 2"),
        ({"norm": None}, "no --norm"),
        ({"separable": True}, "no --separable"),
    ],
)
def test_another_architecture_is_refused_with_what_it_was_made_with(finished, changes, words, adapt):
    spec = spec_like(finished, ("T1", "FLAIR", "T1ce"), **changes)
    with pytest.raises(
        InputError, match=rf"is another network: \d+ of \d+ layers .*Give what it was made with: {words}\.$"
    ):
        started(finished, spec, adapt=adapt)


def test_weights_of_which_nothing_is_known(finished, tmp_path):
    lone = shutil.copy(finished.best, tmp_path / "lone.keras")
    same = spec_like(finished, ("T1", "FLAIR", "T1ce"))
    assert started(None, same, init=lone, adapt=False)[3] == f"Weights of {lone}: 29 layers kept."
    with pytest.raises(InputError, match=r"lone\.keras has another number of channels or classes; .*Give --adapt"):
        started(None, spec_like(finished, ("FLAIR",)), init=lone, adapt=False)
    with pytest.raises(InputError, match="Give the --architecture, --filters and --depth that it was made with"):
        started(None, spec_like(finished, ("FLAIR",), filters=3), init=lone)
    with pytest.raises(InputError, match="there is no file"):
        started(None, same, init=str(tmp_path))


@pytest.mark.parametrize("init", ["absent.keras", "folder"])
def test_weights_that_are_not_there_are_missed_before_the_data_are(init, tmp_path):
    (tmp_path / "folder").mkdir()
    code, _, err = here("train", "--data", str(tmp_path / "nowhere"), "--init", str(tmp_path / init))
    assert code == 2 and f"Error: --init: there is no file {tmp_path / init}" in err and "name: lgg." in err


def test_a_refused_start_writes_nothing(finished, store, tmp_path):
    code, _, err = here(
        "train", "--data", str(store), "--init", str(finished.path), "--filters=8", "-o", str(tmp_path / "run")
    )
    assert code == 2 and "is another network" in err and "Traceback" not in err
    assert not (tmp_path / "run").exists()


# ---- settings


def test_what_is_left_open_is_as_the_weights_have_it(finished, tmp_path):
    config = TrainingConfig.from_given(init=str(finished.path), dropout=0.3)
    assert (config.architecture, config.filters, config.depth, config.size) == ("res_unet", 4, 2, 32)
    assert (config.dropout, config.batch_size) == (0.3, TrainingConfig().batch_size)
    (tmp_path / "config.yaml").write_text(f"init: {finished.best}\nsize: 64\n")
    config = TrainingConfig.from_yaml(tmp_path / "config.yaml", filters=8)
    assert (config.architecture, config.filters, config.size) == ("res_unet", 8, 64)
    assert TrainingConfig.from_given(init="lone.weights.h5") == TrainingConfig(init="lone.weights.h5")


def test_settings_of_a_network_make_it_again(store):
    given = {"architecture": "r2_unet", "recurrence": 1, "norm_per_step": True, "norm": "none", "up": "nearest"}
    config = tiny(store, **given, separable=True, clahe=2.0, inner_tissue=True, context=1)
    source = open_data(config, Roles(), QUIET)
    spec = describe_network(config, source)
    again = TrainingConfig(data=config.data, **network_settings(spec))
    assert describe_network(again, source) == spec


# ---- what is frozen


def of_encoder(model):
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights and is_encoder(layer.name)}


def frozen_in(model):
    return [layer.name for layer in model.layers if layer.weights and not layer.trainable]


def test_parts_of_a_network(finished):
    model, _, fit, _ = started(finished, spec_like(finished, ("T1", "FLAIR", "T1ce"), "regions"))
    encoder, backbone = (frozen_layers(model, part, fit) for part in ("encoder", "backbone"))
    weighted = [layer.name for layer in model.layers if layer.weights]
    assert encoder == tuple(name for name in weighted if name.startswith("enc"))
    assert backbone == tuple(name for name in weighted if name != "logits")
    assert frozen_layers(model, None, fit) == ()
    assert [name for name in ("logits", "logits_norm", "mask", "dec0_1_conv", "image") if is_head(name)] == [
        "logits",
        "logits_norm",
        "mask",
    ]
    # Kernels that were put together by channel have to learn.
    model, _, fit, _ = started(finished, spec_like(finished, ("FLAIR",)))
    assert frozen_layers(model, "encoder", fit) == encoder[1:] and encoder[0] == "enc0_1_conv"


def test_an_average_leaves_frozen_layers_alone(finished, store):
    """Also the statistics of their normalizations, when those of the others are measured anew."""
    config = tiny(store, init=str(finished.path), freeze="encoder")
    source = open_data(config, Roles(), QUIET)
    spec = describe_network(config, source)
    model = build_network(spec)
    fit, _ = take_initial(model, spec, config.init, adapt=False)
    frozen = frozen_layers(model, config.freeze, fit)
    freeze(model, frozen)
    compile_model(model, config, spec.target)
    model.optimizer.build(model.trainable_variables)
    scorer = Scorer(spec, load_data(config, spec, source, QUIET), averaged=True, frozen=frozen)
    scorer.score(model, step=3)
    for name in frozen:
        assert_equal(scorer.plain.get_layer(name).get_weights(), model.get_layer(name).get_weights())
    (_, _, ours, _), (_, _, theirs, _) = (m.get_layer("dec0_1_norm").get_weights() for m in (scorer.plain, model))
    assert not np.array_equal(ours, theirs)
    assert frozen_in(scorer.plain) == []


@pytest.mark.slow
def test_a_frozen_run_leaves_kernels_and_statistics_bit_for_bit_also_when_resumed(finished, store, tmp_path, caplog):
    before = of_encoder(keras.saving.load_model(finished.best))
    rest = stored_weights(finished.best)
    said = io.StringIO()
    config = tiny(store, epochs=1, init=str(finished.path), freeze="encoder")
    run = train(config, output=tmp_path / "run", console=Console(file=said, width=300))
    assert f"Weights of {finished.path}: {len(rest)} layers kept." in said.getvalue()
    assert f"{len(before)} layers frozen" in said.getvalue()
    assert run.read_info()["frozen"] == list(before)

    def check():
        last, best = keras.saving.load_model(run.last), keras.saving.load_model(run.best)
        for model in (last, best):
            for name, weights in of_encoder(model).items():
                assert_equal(weights, before[name])
        for name in ("dec0_1_conv", "dec0_1_norm", "logits"):
            assert not np.array_equal(last.get_layer(name).get_weights()[0], rest[name][0])
        assert (frozen_in(last), frozen_in(best)) == (list(before), [])

    check()
    resume(run.path, overrides={"epochs": 2}, console=QUIET)
    check()
    run.last.write_bytes(b"damaged")
    resume(run.path, overrides={"epochs": 3}, console=QUIET)
    assert "Going on from" in caplog.text
    check()
    run.info.write_text(json.dumps(run.read_info() | {"frozen": []}))
    with pytest.raises(InputError, match=r"last\.keras and .*run\.json differ in the layers that are frozen"):
        resume(run.path, overrides={"epochs": 4})


@pytest.mark.slow
def test_a_kill_within_the_first_epoch_begins_again_from_the_same_weights(finished, store, tmp_path):
    config = tiny(store, epochs=1, init=str(finished.path), freeze="encoder")
    run = train(config, output=tmp_path / "run", console=QUIET)
    whole = keras.saving.load_model(run.last)
    run.last.unlink()
    info = run.read_info()
    del info["progress"]
    run.info.write_text(json.dumps(info))
    resume(run.path, console=QUIET)
    again = keras.saving.load_model(run.last)
    assert_equal(again.get_weights(), whole.get_weights())
    assert frozen_in(again) == frozen_in(whole) == info["frozen"]


@pytest.mark.slow
def test_from_lgg_to_four_sequences_and_three_regions(finished, tmp_path):
    data = write_brats_phantom(tmp_path / "data", patients=8, slices=6, size=48, layouts=(NIFTI_FOLDERS,))
    command = ["train", "--data", str(data), "--init", str(finished.path), "--target=regions", "--epochs=1"]
    code, _, err = here(*command, "-o", str(tmp_path / "run"))
    assert code == 2 and "Give --adapt" in err and not (tmp_path / "run").exists()
    code, _, err = here(*command, "--adapt", "--freeze=backbone", "--batch-size=4", "-o", str(tmp_path / "run"))
    assert code == 0, err
    assert "enc0_1_conv by channel (" in err and "T2 as the mean of the old" in err and "logits new" in err
    before, last = stored_weights(finished.best), keras.saving.load_model(tmp_path / "run" / "last.keras")
    assert last.output_shape[-1] == 3
    for layer in last.layers:
        if layer.weights and layer.name not in ("enc0_1_conv", "logits"):
            assert_equal(layer.get_weights(), before[layer.name])
    code, _, err = here("evaluate", "--model", str(tmp_path / "run"), "--data", str(data), "--split=val")
    assert code == 0, err


@pytest.mark.slow
def test_from_the_shipped_weights_to_the_phantom(phantom, tmp_path):
    """As the documentation shows it: what the network is made of comes with the weights."""
    command = ["train", "--init=lgg", "--freeze=encoder", "--data", str(phantom), "--size=32", "--epochs=1"]
    code, _, err = here(*command, "--batch-size=4", "--precision=float32", "-o", str(tmp_path / "run"))
    assert code == 0, err
    shipped, last = load_pretrained("lgg"), keras.saving.load_model(tmp_path / "run" / "last.keras")
    for name, weights in of_encoder(last).items():
        assert_equal(weights, shipped.get_layer(name).get_weights())
    changed = [np.array_equal(a, b) for a, b in zip(last.get_weights(), shipped.get_weights(), strict=True)]
    assert not all(changed)
