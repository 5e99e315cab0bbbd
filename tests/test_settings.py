"""Settings that only some networks and losses take: what takes them, what refuses them, and where they arrive."""

import inspect
import subprocess
import sys

import keras
import pytest
from runs import tiny

from brainseg_keras.data.inputs.targets import Target
from brainseg_keras.data.sources import open_source
from brainseg_keras.errors import InputError
from brainseg_keras.losses import get_loss
from brainseg_keras.registry import ARCHITECTURES, BALANCED, LOSS_OPTIONS, LOSSES, NORMS, UPS
from brainseg_keras.training import TrainingConfig
from brainseg_keras.training.options import LOSS
from brainseg_keras.training.setup import build_network, compile_model, describe_network

#: Decided by the target, by alpha or by Keras.
SHARED = {"include_background", "reduction", "name", "dtype", "apply_class_balancing"}


@pytest.mark.parametrize("name", LOSSES)
def test_every_option_of_a_loss_is_a_setting(name):
    assert set(LOSS_OPTIONS[name]) == set(inspect.signature(LOSSES[name]).parameters) - SHARED
    assert ("apply_class_balancing" in inspect.signature(LOSSES[name]).parameters) == (name in BALANCED)
    assert set(LOSS_OPTIONS[name]) <= TrainingConfig.help().keys()


@pytest.mark.parametrize(("argument", "words"), [("up", UPS), ("norm", NORMS)])
def test_every_word_makes_another_network_of_every_recipe(argument, words):
    for recipe in ARCHITECTURES.values():
        made = {recipe((16, 16, 1), filters=16, depth=1, **{argument: word}).to_json() for word in words}
        assert len(made) == len(words), recipe.__name__


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"architecture": "unet", "recurrence": 3}, "unet takes no recurrence; r2_unet, .* do. Leave --recurrence out"),
        ({"architecture": "unet", "norm_per_step": False}, "unet takes no norm_per_step; .*Leave --norm-per-step out"),
        ({"architecture": "vnet"}, "architecture must be one of unet, .*Received: 'vnet'. Did you mean"),
        ({"loss": "dise"}, "loss must be one of .*Did you mean 'dice'"),
        ({"loss": "dice", "gamma": 2.0}, "The loss dice takes smooth, reduce_over. Received: gamma. Leave --gamma out"),
        ({"loss": "bce", "smooth": 1.0}, "The loss bce takes no options. Received: smooth"),
        (
            {"loss": "bce_dice", "focal_weight": 1.0, "alpha": 0.5},
            "Received: alpha, focal_weight. Leave --alpha, --focal-weight out",
        ),
        ({"up": "bilinear"}, "up is one of nearest_conv, nearest, transposed. Received: 'bilinear'"),
        ({"norm": "layer"}, "norm is one of batch, group, instance, none. Received: 'layer'"),
        ({"reduce_over": "pixel"}, "reduce_over is one of image, batch"),
        ({"recurrence": -1}, "recurrence is a whole number from 0"),
        ({"freeze": "encoder"}, "freeze is about the weights of --init, and none are given. Leave --freeze out"),
        ({"adapt": True}, "adapt is about the weights of --init"),
        ({"init": "lgg", "freeze": "decoder"}, "freeze is one of encoder, backbone"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_cure(settings, words):
    with pytest.raises(InputError, match=words):
        TrainingConfig(**settings)


def test_it_is_refused_before_keras_is_loaded():
    code = (
        "import sys\n"
        "from brainseg_keras.cli import run\n"
        "try:\n"
        "    run(['train', '--architecture', 'unet', '--recurrence', '2'])\n"
        "except SystemExit as end:\n"
        "    print(end.code, *{'keras', 'numpy', 'pandas'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), "Leave --recurrence out" in done.stderr) == (["2"], True)


def test_what_was_given_is_told_apart_from_what_the_recipe_decides():
    given = {"up": "transposed", "recurrence": 3, "norm_per_step": False}
    config = TrainingConfig(architecture="r2_unet", norm="none", loss="focal_tversky", alpha=0.2, gamma=0.5, **given)
    assert config.recipe_arguments == given | {"norm": None, "separable": False, "dropout": 0.0}
    assert config.loss_options == {"alpha": 0.2, "gamma": 0.5}
    assert TrainingConfig().recipe_arguments == {"separable": False, "dropout": 0.0}
    assert TrainingConfig().loss_options == {}


def test_the_recipes_arguments_make_the_network(store):
    plain = tiny(store, architecture="r2_unet", dropout=0.0, filters=2, depth=1)
    changes = {"up": "transposed", "norm": "none", "recurrence": 1}
    config = tiny(store, architecture="r2_unet", dropout=0.0, filters=2, depth=1, **changes)
    spec = describe_network(config, open_source(store))
    assert {name: spec.arguments[name] for name in changes} == changes | {"norm": None}
    network, other = build_network(spec), build_network(describe_network(plain, open_source(store)))
    kinds, others = ({type(layer) for layer in model.layers} for model in (network, other))
    assert keras.layers.Conv2DTranspose in kinds - others
    assert keras.layers.BatchNormalization in others - kinds
    calls = [len(model.get_layer("enc0_1_conv")._inbound_nodes) for model in (network, other)]
    assert calls == [2, 3]


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "dice_focal", "focal_weight": 2.0, "gamma": 1.0},
        {"loss": "tversky", "alpha": 0.1, "beta": 0.9, "smooth": 3.0, "reduce_over": "batch"},
        {"loss": "binary_focal", "alpha": 0.8},
        {"loss": "tversky_focal", "tversky_weight": 2.0, "focal_weight": 1.0, "alpha": 0.2, "gamma": 1.0},
        {"loss": "bce"},
    ],
)
def test_the_options_reach_the_loss(settings):
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(1, 1)])
    compile_model(model, TrainingConfig(**settings), Target())
    options = {name: value for name, value in settings.items() if name in LOSS}
    found = model.loss.get_config()
    assert {name: found[name] for name in options} == options
    # In a focal loss alpha has no effect without.
    changed = {"apply_class_balancing": True} if settings["loss"] == "binary_focal" else {}
    assert found == get_loss(settings["loss"]).get_config() | options | changed


def test_settings_come_back_from_yaml(tmp_path):
    config = TrainingConfig(
        architecture="ar2_unet", recurrence=4, norm_per_step=False, norm="none", alpha=0.2, loss="tversky"
    )
    config.to_yaml(tmp_path / "config.yaml")
    assert TrainingConfig.from_yaml(tmp_path / "config.yaml") == config
