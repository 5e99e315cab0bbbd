"""Classes and regions: into a network's channels and back, and the metrics and losses that go with them."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from brainseg_keras.data.inputs.targets import TARGETS, Target
from brainseg_keras.data.labels import CLASSES, REGIONS, region_masks
from brainseg_keras.errors import InputError
from brainseg_keras.losses import LOSSES, get_loss
from brainseg_keras.metrics import METRICS


def encoded(target, labels):
    return target.encode(target.layers(labels))


LABELS = arrays(np.uint8, (2, 4, 5), elements=st.integers(0, 3))


@settings(deadline=None)
@given(LABELS, st.sampled_from(TARGETS))
def test_what_is_encoded_is_decoded(labels, name):
    target = Target(name)
    truth = target.encode(target.layers(labels))
    assert truth.shape == (*labels.shape, len(target.channels)) and truth.dtype == np.float32
    answer = target.decode(truth)
    np.testing.assert_array_equal(answer, labels > 0 if name == "tumour" else labels)


@settings(deadline=None)
@given(arrays(np.float64, (3, 4, 3), elements=st.floats(0, 1)), st.floats(0.05, 0.95))
def test_regions_lie_inside_each_other_whatever_the_network_says(probabilities, threshold):
    whole, core, enhancing = region_masks(Target("regions").decode(probabilities, threshold)).values()
    assert not (core & ~whole).any() and not (enhancing & ~core).any()
    np.testing.assert_array_equal(whole, probabilities[..., 0] > threshold)


@settings(deadline=None)
@given(arrays(np.float64, (3, 4, 4), elements=st.floats(0.01, 1)), st.floats(0.05, 0.95))
def test_classes_are_tumour_where_background_is_not(probabilities, threshold):
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    labels = Target("classes").decode(probabilities, threshold)
    np.testing.assert_array_equal(labels > 0, 1 - probabilities[..., 0] > threshold)
    inside = labels > 0
    np.testing.assert_array_equal(labels[inside], 1 + probabilities[inside][:, 1:].argmax(axis=-1))


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.75])
def test_what_is_just_as_likely_as_the_threshold_is_no_tumour(name, threshold):
    for chance, tumour in ((threshold, 0), (threshold + 2**-10, 1)):
        answer = {"tumour": [chance], "classes": [1 - chance, chance, 0, 0], "regions": [chance, 0, 0]}[name]
        assert (Target(name).decode(np.array([answer]), threshold) > 0).tolist() == [tumour]
    # Nor is what is just there of an inner region that region.
    if name == "regions":
        assert Target(name).decode(np.array([[0.9, threshold, 0.9], [0.9, 0.9, threshold]]), threshold).tolist() == [
            2,
            1,
        ]


def test_regions_by_hand():
    masks = region_masks(np.array([0, 1, 2, 3]))
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "whole tumour": [False, True, True, True],
        "tumour core": [False, True, False, True],
        "enhancing tumour": [False, False, False, True],
    }
    binary = region_masks(np.array([0, 1]), ("tumour",))
    assert {name: mask.tolist() for name, mask in binary.items()} == {"whole tumour": [False, True]}
    assert list(REGIONS) == list(masks) and len(CLASSES) == 3


@pytest.mark.parametrize("name", TARGETS)
def test_tumour_is_what_is_not_background(name):
    chance = np.array([[0.7, 0.1, 0.2, 0.0], [0.2, 0.1, 0.3, 0.4]])
    expected = {"tumour": chance[..., 0], "classes": [0.3, 0.8], "regions": [0.7, 0.2]}[name]
    given_to_it = chance[..., :3] if name == "regions" else chance
    np.testing.assert_allclose(Target(name).tumour(given_to_it), expected)


def test_binary_data_cannot_teach_classes():
    Target("tumour").check(("tumour",), "x")
    Target("regions").check(CLASSES, "x")
    with pytest.raises(InputError, match=r"lgg\.h5 tells tumour from background alone.*Use --target tumour"):
        Target("classes").check(("tumour",), "lgg.h5")
    with pytest.raises(InputError, match="tumour, classes, regions"):
        Target("organs")


@pytest.mark.parametrize("name", METRICS)
def test_metrics_of_overlapping_regions_count_each_by_itself(name):
    rng = np.random.default_rng(0)
    truth = encoded(Target("regions"), rng.integers(0, 4, (3, 8, 8), np.uint8))
    answer = rng.random(truth.shape).astype("float32")
    together = METRICS[name](num_classes=3, exclusive=False)
    together.update_state(truth, answer)
    alone = []
    for channel in range(3):
        metric = METRICS[name]()
        metric.update_state(truth[..., channel : channel + 1], answer[..., channel : channel + 1])
        alone.append(float(metric.result()))
        one = METRICS[name](num_classes=3, exclusive=False, class_id=channel)
        one.update_state(truth, answer)
        assert float(one.result()) == pytest.approx(alone[-1])
    assert float(together.result()) == pytest.approx(np.mean(alone))


def test_label_numbers_cannot_say_what_overlaps():
    metric = METRICS["dice"](num_classes=3, exclusive=False)
    with pytest.raises(InputError, match="label numbers say one class a pixel"):
        metric.update_state(np.zeros((1, 8, 8, 1)), np.zeros((1, 8, 8, 3)))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["classes", "regions"])
def test_every_loss_falls_from_noise_to_the_truth(loss, name):
    target = Target(name)
    truth = encoded(target, np.random.default_rng(1).integers(0, 4, (2, 16, 16), np.uint8))
    noise = np.full(truth.shape, 1 / truth.shape[-1] if target.exclusive else 0.5, "float32")
    function = get_loss(loss, include_background=not target.exclusive)
    values = [float(function(truth, (1 - share) * noise + share * truth)) for share in (0, 0.3, 0.6, 0.9)]
    assert all(first > second for first, second in itertools.pairwise(values))
    assert np.isfinite(keras.ops.convert_to_numpy(function(truth, noise))).all()
