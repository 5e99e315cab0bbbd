"""Losses: which masks, predictions, weights and options they take, what they refuse, and their config."""

import inspect
import re

import keras
import numpy as np
import pytest
from keras import ops
from test_losses import NAMES, OPTIONS, PIXELS, sample

from brainseg_keras import losses
from brainseg_keras.errors import InputError
from brainseg_keras.losses import LOSSES, get_loss


@pytest.mark.parametrize("name", NAMES)
def test_kinds_of_masks(name):
    y, p = sample(10)
    expected = float(get_loss(name)(y, p))
    function = getattr(losses, name + "_loss")
    for mask in (y[..., 0], y.astype("uint8"), y.astype(bool), y[..., 0].astype(bool), y.astype("int64")):
        assert float(get_loss(name)(mask, p)) == pytest.approx(expected)
        assert float(ops.mean(function(mask, p))) == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
def test_class_numbers_are_one_hot(name):
    rng = np.random.default_rng(0)
    labels, p = rng.integers(0, 3, (2, 4, 5)).astype("uint8"), sample(11, (2, 4, 5, 3))[1]
    expected = float(get_loss(name)(np.eye(3, dtype="float32")[labels], p))
    assert float(get_loss(name)(labels, p)) == pytest.approx(expected)
    assert float(get_loss(name)(labels[..., None], p)) == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
def test_volumes(name):
    y, p = sample(12, (2, 3, 4, 5, 1))
    flat = float(get_loss(name)(y.reshape(2, 12, 5, 1), p.reshape(2, 12, 5, 1)))
    assert float(get_loss(name)(y, p)) == pytest.approx(flat, rel=1e-6)


@pytest.mark.parametrize(
    ("truth", "answer"),
    [
        ((2, 8, 8, 1), (2, 8, 9, 1)),  # another width
        ((3, 8, 8, 1), (2, 8, 8, 1)),  # another batch
        ((2, 8, 8, 2), (2, 8, 8, 3)),  # other channels
        ((8, 8), (2, 8, 8, 1)),
        ((2, 8, 8), (2, 8, 8)),
        ((2, 8, 8, 1, 1), (2, 8, 8, 1)),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_wrong_shapes_are_refused(name, truth, answer):
    with pytest.raises(InputError, match=r"Received: y_true.shape=\(.*y_pred.shape="):
        get_loss(name)(np.zeros(truth, "float32"), np.zeros(answer, "float32"))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dice", {"smooth": 0}, "smooth must be above 0"),
        ("dice", {"reduce_over": "pixel"}, "reduce_over must be 'image' or 'batch'"),
        ("jaccard", {"smooth": -1}, "smooth must be above 0"),
        ("tversky", {"alpha": -0.1}, "alpha must be 0 or more"),
        ("tversky", {"alpha": 0, "beta": 0}, "alpha . beta must be above 0 .*Received: alpha . beta=0"),
        ("focal_tversky", {"gamma": 0}, "gamma must be above 0"),
        ("binary_focal", {"alpha": 1.5}, "alpha must be between 0 and 1"),
        ("binary_focal", {"gamma": -1}, "gamma must be 0 or more"),
        ("binary_focal", {"apply_class_balancing": "yes"}, "apply_class_balancing must be True or False"),
        ("dice_focal", {"alpha": -1}, "alpha must be between 0 and 1"),
        ("dice_focal", {"focal_weight": -1}, "focal_weight must be 0 or more"),
        ("bce_dice", {"bce_weight": -1}, "bce_weight must be 0 or more"),
        ("tversky_focal", {"tversky_weight": -1}, "tversky_weight must be 0 or more"),
        ("tversky_focal", {"alpha": 0, "beta": 0}, "alpha . beta must be above 0"),
        ("bce", {"gamma": 1}, "the options of loss 'bce' are include_background.*Received: gamma"),
        ("bce_dice", {"color": 1}, "the options of loss 'bce_dice' are bce_weight.*Received: color"),
        ("dise", {}, "loss must be one of binary_focal, bce, dice, .*Did you mean 'dice'"),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises(InputError, match=message):
        get_loss(name, **options)


@pytest.mark.parametrize("name", NAMES)
def test_functions_and_classes_do_the_same_unless_told(name):
    function = inspect.signature(getattr(losses, name + "_loss")).parameters
    own = inspect.signature(LOSSES[name]).parameters
    shared = [option for option in function if option in own]
    assert "include_background" in shared
    assert {option: function[option].default for option in shared} == {option: own[option].default for option in shared}
    # Of several channels, too, where the background counts.
    y, p = sample(16, (2, 4, 5, 3))
    for options in ({}, {"include_background": False}):
        values = getattr(losses, name + "_loss")(y, p, **options)
        assert float(ops.mean(values)) == pytest.approx(float(LOSSES[name](**options)(y, p)), rel=1e-6)
    assert float(LOSSES[name]()(y, p)) != pytest.approx(float(LOSSES[name](include_background=False)(y, p)), rel=1e-4)


WRONG = {
    "smooth": (0, -2.0),
    "reduce_over": ("pixel", None),
    "alpha": (-0.5,),
    "beta": (-0.5,),
    "gamma": (-1.0,),
    "dice_weight": (-1.0,),
    "focal_weight": (-1.0,),
    "bce_weight": (-1.0,),
    "tversky_weight": (-1.0,),
}


@pytest.mark.parametrize("name", NAMES)
def test_functions_refuse_what_the_classes_refuse(name):
    """And say what they got, also of an option that they hand on to another loss."""
    function, (y, p) = getattr(losses, name + "_loss"), sample(15)
    options = [option for option in inspect.signature(function).parameters if option in WRONG]
    assert "reduce_over" in options
    for option in options:
        for value in WRONG[option]:
            for refuse in (lambda **wrong: function(y, p, **wrong), LOSSES[name]):
                if refuse is LOSSES[name] and option not in inspect.signature(refuse).parameters:
                    continue
                with pytest.raises(InputError, match=re.escape(f"{option} must be")) as refused:
                    refuse(**{option: value})
                assert f"Received: {option}={value!r}." in str(refused.value)


@pytest.mark.parametrize("name", NAMES)
def test_sample_weights(name):
    y, p = sample(13, (2, 4, 5, 1))
    first, second = (float(get_loss(name)(y[i : i + 1], p[i : i + 1])) for i in range(2))
    for weights in (np.array([3.0, 0.5]), np.array([[3.0], [0.5]]), np.array([3.0, 0.5])[:, None, None, None]):
        expected = (3 * first + 0.5 * second) / 2
        assert float(get_loss(name)(y, p, sample_weight=weights)) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(InputError, match="one sample weight per image"):
        get_loss(name)(y, p, sample_weight=np.ones((2, 4, 5)))
    if name not in PIXELS:
        with pytest.raises(InputError, match="Use reduce_over='image'"):
            get_loss(name, reduce_over="batch")(y, p, sample_weight=np.ones(2))


@pytest.mark.parametrize("name", NAMES)
def test_config_round_trip(name):
    y, p = sample(14)
    options = OPTIONS[name] | {"include_background": False, "reduction": "sum", "name": "mine", "dtype": "float64"}
    loss = LOSSES[name](**options)
    config = loss.get_config()
    assert {key: config[key] for key in options} == options
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss)
    assert again.get_config() == config
    assert float(again(y, p)) == float(loss(y, p))


def test_registered_names_are_ours():
    for cls in LOSSES.values():
        assert keras.saving.get_registered_name(cls) == f"brainseg_keras>{cls.__name__}"
        assert not hasattr(keras.losses, cls.__name__)
        assert cls().name not in {"dice", "tversky", "binary_focal_crossentropy"}
    assert len({cls().name for cls in LOSSES.values()}) == len(LOSSES)
