"""Deep supervision: heads that teach lower levels of the decoder, and of which nothing is left in best.keras."""

import dataclasses
import io
import json
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from runs import tiny, train_and_interrupt

from brainseg_keras import build_model, list_models
from brainseg_keras.data.roles import Roles
from brainseg_keras.errors import InputError
from brainseg_keras.inference import Predictor
from brainseg_keras.losses import get_loss
from brainseg_keras.models.supervision import SupervisedModel, supervise
from brainseg_keras.training import RunFolder, TrainingConfig, resume, train
from brainseg_keras.training.initial import take_initial
from brainseg_keras.training.precision import dtype_policy
from brainseg_keras.training.scoring import Scorer
from brainseg_keras.training.setup import build_network, compile_model, describe_network, load_data, open_data

QUIET = Console(file=io.StringIO())


def narrow(name, **changes):
    return build_model(name, **{"input_shape": (32, 48, 3), "filters": 4, "depth": 3} | changes)


def picture(shape=(2, 32, 48, 3)):
    return np.random.default_rng(0).random(shape).astype("float32")


def names_of(layers):
    return [layer.name for layer in layers]


# ---- the heads


@pytest.mark.parametrize("separable", [False, True], ids=["plain", "separable"])
@pytest.mark.parametrize("name", list_models())
def test_every_network_gets_heads_that_share_its_layers_and_change_nothing(name, separable):
    network = narrow(name, separable=separable, dropout=0.1)
    before, kept = network.to_json(), names_of(network.layers)
    model = supervise(network)
    assert model.output_shape == [(None, 32, 48, 1), (None, 16, 24, 1)]
    heads = [layer for layer in model.layers if layer.name not in kept]
    assert names_of(heads) == ["aux1_logits", "aux1_mask"]
    assert all(type(layer).__module__.startswith("keras.") for layer in heads)
    # In the same order: states of the network's generators and names of frozen layers are read by it.
    assert [layer.name for layer in model.layers if layer.name in kept] == kept
    assert all(model.get_layer(layer) is network.get_layer(layer) for layer in kept)
    assert network.to_json() == before == model.network.to_json()
    np.testing.assert_array_equal(model(picture())[0], network(picture()))


@pytest.mark.parametrize("name", ["unet", "ar2_unet"])
def test_an_answer_teaches_its_own_level_and_those_below(name):
    moved = gradient_names(supervise(narrow(name, depth=4)), picture(), np.ones((2, 8, 12, 1), "float32"), output=2)
    assert not any(path.startswith(("dec0", "dec1", "logits", "aux1")) for path in moved)
    assert all(any(path.startswith(part) for path in moved) for part in ("enc0", "enc4", "dec3", "dec2", "aux2"))


def gradient_names(model, x, truth, output):
    """Layers whose weights one of the answers moves."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x, training=True)[output] - truth) ** 2)
    weights = model.trainable_variables
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    return {
        weight.path.split("/")[0] for weight, gradient in zip(weights, gradients, strict=True) if gradient is not None
    }


@pytest.mark.parametrize(("depth", "levels"), [(2, [0, 1]), (3, [0, 1]), (4, [0, 1, 2]), (5, [0, 1, 2, 3])])
def test_the_lowest_level_of_the_decoder_is_left_out_unless_it_is_the_only_one(depth, levels):
    shapes = supervise(narrow("unet", input_shape=(32, 32, 1), filters=1, depth=depth)).output_shape
    assert shapes == [(None, 32 // 2**level, 32 // 2**level, 1) for level in levels]


@pytest.mark.parametrize("target", ["classes", "regions"])
def test_a_head_answers_as_the_network_does(target):
    more = {"classifier_activation": "sigmoid"} if target == "regions" else {}
    model = supervise(narrow("res_unet", num_classes=3, **more))
    answers = model.predict(picture(), verbose=0)
    sums = [answer.sum(axis=-1) for answer in answers]
    assert [answer.shape[-1] for answer in answers] == [3, 3]
    assert all(np.allclose(total, 1, atol=1e-5) == (target == "classes") for total in sums)


def test_networks_without_a_lower_level_are_refused():
    with pytest.raises(InputError, match=r"Received: 'unet' with 1 of a decoder's levels. Give it a depth of 2"):
        supervise(narrow("unet", depth=1))
    plain = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(1, 1)], name="mine")
    with pytest.raises(InputError, match=r"needs a U-Net of this package.*Received: 'mine' with 0"):
        supervise(plain)
    with pytest.raises(InputError, match=r"with depth=1 there is none. Give --depth 2 or more"):
        TrainingConfig(deep_supervision=True, depth=1)
    with pytest.raises(InputError, match=r"freeze=backbone leaves as it is.*or give --freeze encoder"):
        TrainingConfig(deep_supervision=True, init="lgg", freeze="backbone")


# ---- the loss


def test_the_loss_by_hand():
    """One tumour pixel of 8 x 8: a quarter of a pixel of level 1 and a sixteenth of one of level 2."""
    model = supervise(narrow("unet", input_shape=(16, 16, 1), filters=1, depth=4))
    model.compile("sgd", loss=keras.losses.MeanSquaredError())
    truth = np.zeros((1, 8, 8, 1), "float32")
    truth[0, 3, 5] = 1
    answers = [np.zeros((1, side, side, 1), "float32") for side in (8, 4, 2)]
    expected = 4 / 7 * 1 / 64 + 2 / 7 * 0.25**2 / 16 + 1 / 7 * 0.0625**2 / 4
    assert float(model.compute_loss(y=truth, y_pred=answers)) == pytest.approx(expected)
    answers[1][0, 1, 2], answers[2][0, 0, 1] = 0.25, 0.0625
    assert float(model.compute_loss(y=truth, y_pred=answers)) == pytest.approx(4 / 7 / 64)


def test_an_answer_of_the_shares_costs_nothing():
    model = supervise(narrow("unet"))
    model.compile("sgd", loss=get_loss("tversky_focal"))
    truth = (np.random.default_rng(0).random((2, 32, 48, 1)) > 0.7).astype("float32")
    shares = truth.reshape(2, 16, 2, 24, 2, 1).mean(axis=(2, 4))
    assert float(model.compute_loss(y=truth, y_pred=[truth, shares])) == pytest.approx(0, abs=1e-6)
    assert float(model.compute_loss(y=truth, y_pred=[truth, np.round(shares)])) > 0.01


def test_metrics_are_of_the_full_resolution_alone():
    model = supervise(narrow("res_unet"))
    model.compile("sgd", loss=get_loss("dice"), metrics=[keras.metrics.MeanSquaredError(name="error")])
    x, truth = picture(), np.ones((2, 32, 48, 1), "float32")
    found = model.evaluate(x, truth, verbose=0, return_dict=True)
    answers = model.predict(x, verbose=0)
    assert set(found) == {"loss", "error"}
    assert found["error"] == pytest.approx(((answers[0] - 1) ** 2).mean(), rel=1e-5)
    losses = [float(get_loss("dice")(np.ones_like(answer), answer)) for answer in answers]
    assert found["loss"] == pytest.approx((losses[0] + losses[1] / 2) / 1.5, rel=1e-5)


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_reaches_heads_and_the_scale_of_the_loss(precision):
    with dtype_policy(precision):
        network = narrow("unet", filters=2, depth=2)
    model = supervise(network)
    model.compile("adam", loss=get_loss("dice_focal"), jit_compile=False)
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (precision == "mixed_float16")
    assert model.get_layer("aux1_logits").compute_dtype == network.get_layer("logits").compute_dtype != "float32"
    assert {tensor.dtype for tensor in model.outputs} == {"float32"}
    assert np.isfinite(model.fit(picture(), np.ones((2, 32, 48, 1)), verbose=0).history["loss"]).all()


def test_it_comes_back_from_its_file_with_its_optimizer(tmp_path):
    model = supervise(narrow("r2_unet", dropout=0.2, filters=2, depth=2, recurrence=1))
    model.compile("adam", loss=get_loss("dice_focal"), jit_compile=False)
    model.fit(picture(), np.ones((2, 32, 48, 1)), verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, SupervisedModel) and names_of(again.layers) == names_of(model.layers)
    for ours, theirs in zip(again.variables, model.variables, strict=True):
        assert ours.path.split("/")[-1] == theirs.path.split("/")[-1] and ours.shape == theirs.shape
    x, truth = picture(), np.ones((2, 32, 48, 1), "float32")
    ours, theirs = (float(one.compute_loss(y=truth, y_pred=one(x))) for one in (again, model))
    assert ours == pytest.approx(theirs, rel=1e-6) and int(again.optimizer.iterations) == 1


# ---- a run


@pytest.fixture(scope="module")
def supervised(store, tmp_path_factory):
    """A run of two epochs; read it, do not write to it."""
    return train(tiny(store, deep_supervision=True), output=tmp_path_factory.mktemp("made") / "run", console=QUIET)


def test_best_is_the_plain_network_and_last_has_the_heads(supervised, finished):
    info, plain = supervised.read_info(), finished.read_info()
    assert info["config"]["deep_supervision"] is True and info["arguments"] == plain["arguments"]
    assert info["parameters"] == plain["parameters"]
    best, last = (keras.saving.load_model(path) for path in (supervised.best, supervised.last))
    other = keras.saving.load_model(finished.best)
    assert type(best) is type(other) and best.get_config() == other.get_config()
    assert isinstance(last, SupervisedModel) and len(last.outputs) == 2
    # Trained otherwise than without.
    assert not np.array_equal(best.get_weights()[0], other.get_weights()[0])
    assert set(pd.read_csv(supervised.history)) == set(pd.read_csv(finished.history))


def test_what_is_scored_is_the_average_of_the_networks_own_weights(store):
    """Each average has a number of its own, also those of the head, which come in between."""
    config = tiny(store, deep_supervision=True)
    source = open_data(config, Roles(), QUIET)
    spec = describe_network(config, source)
    model = compile_model(build_network(spec), config, spec.target)
    model.optimizer.build(model.trainable_variables)
    numbers = {weight.path: number / 1000 for number, weight in enumerate(model.trainable_variables)}
    for number, average in zip(numbers.values(), model.optimizer._model_variables_moving_average, strict=True):
        average.assign(np.full(average.shape, number, "float32"))
    scorer = Scorer(spec, load_data(config, spec, source, QUIET), averaged=True, supervised=True)
    scorer.score(model, step=1)
    assert len(numbers) == len(scorer.plain.trainable_variables) + 2
    for weight in scorer.plain.trainable_variables:
        np.testing.assert_allclose(weight, np.full(weight.shape, numbers[weight.path]), rtol=1e-6)


def test_what_takes_a_network_takes_both_files(supervised, tmp_path):
    images = np.random.default_rng(0).integers(0, 200, (2, 40, 40, 3)).astype("uint8")
    last = Predictor(supervised.last)
    kept = keras.saving.load_model(supervised.last).network
    alone = Predictor(kept).adapted(preprocessing=last.spec.preprocessing, channels=last.spec.channels)
    np.testing.assert_allclose(last.probabilities(images), alone.probabilities(images), atol=1e-5)
    assert Predictor(supervised.path).probabilities(images).shape == last.probabilities(images).shape


def test_weights_of_last_start_another_run_without_its_heads(supervised):
    spec, last = supervised.read_record().spec, keras.saving.load_model(supervised.last)
    network = build_network(spec)
    fit, _ = take_initial(network, spec, str(supervised.last), adapt=False)
    assert (fit.mixed, fit.new, fit.other) == ((), (), ())
    for name in fit.kept:
        for ours, theirs in zip(network.get_layer(name).get_weights(), last.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_settings_that_fit_another_network_than_last_are_refused(supervised, tmp_path):
    run = RunFolder(shutil.copytree(supervised.path, tmp_path / "run"))
    config = TrainingConfig.from_yaml(run.config)
    dataclasses.replace(config, deep_supervision=False).to_yaml(run.config)
    with pytest.raises(InputError, match=r"config\.yaml and .*run\.json differ in deep_supervision"):
        resume(run.path, overrides={"epochs": 3})


@pytest.mark.slow
def test_a_run_that_was_stopped_within_an_epoch_goes_on_bit_for_bit(supervised, store, tmp_path):
    """With an average, dropout and the sums of loss and metrics."""
    steps = supervised.read_info()["progress"]["step"]
    config = tiny(store, deep_supervision=True)
    stopped = train_and_interrupt(config, tmp_path / "run", after=steps // 2 + 2)
    assert json.loads((stopped / "run.json").read_text())["progress"]["step"] == steps // 2 + 2
    run = resume(stopped, console=QUIET)
    for file in ("best", "last"):
        ours, theirs = (keras.saving.load_model(getattr(one, file)).get_weights() for one in (run, supervised))
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine, other)
    columns = ["epoch", "loss", "dice", "val_loss", "val_dice"]
    pd.testing.assert_frame_equal(pd.read_csv(run.history)[columns], pd.read_csv(supervised.history)[columns])


@pytest.mark.slow
def test_frozen_layers_and_a_damaged_last(supervised, finished, store, tmp_path, caplog):
    config = tiny(store, epochs=1, deep_supervision=True, init=str(finished.path), freeze="encoder")
    run = train(config, output=tmp_path / "run", console=QUIET)
    before = keras.saving.load_model(finished.best)
    for more in (2, 3):
        last = keras.saving.load_model(run.last)
        assert [layer.name for layer in last.layers if layer.weights and not layer.trainable] == run.read_info()[
            "frozen"
        ]
        for name in run.read_info()["frozen"]:
            for ours, theirs in zip(
                last.get_layer(name).get_weights(), before.get_layer(name).get_weights(), strict=True
            ):
                np.testing.assert_array_equal(ours, theirs)
        assert not np.array_equal(
            last.get_layer("dec1_1_conv").get_weights()[0], before.get_layer("dec1_1_conv").get_weights()[0]
        )
        if more == 3:
            run.last.write_bytes(b"damaged")
        resume(run.path, overrides={"epochs": more}, console=QUIET)
    assert "Going on from" in caplog.text
    assert isinstance(keras.saving.load_model(run.last), SupervisedModel)
