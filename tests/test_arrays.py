"""Arrays in a person's hands: whatever shape a scan has, one mask; and words for the shapes that are none."""

import numpy as np
import pytest
from scans import CHANNELS, SHAPE, brightness_model, disc, overlap, slice_of

import brainseg_keras
from brainseg_keras import Predictor, preprocess_input
from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.errors import InputError
from brainseg_keras.spec import NetworkSpec

WHOLE = np.stack([np.stack([slice_of(SHAPE, disc())] * 3, axis=-1)] * 2)


@pytest.fixture(scope="module")
def predictor():
    return Predictor(brightness_model()).adapted(preprocessing=Preprocessing(64), channels=CHANNELS)


@pytest.fixture(scope="module")
def single():
    return Predictor(
        brainseg_keras.res_unet((32, 32, 1), filters=2, depth=1),
        spec=NetworkSpec(("T2",), preprocessing=Preprocessing(32)),
    )


def test_a_volume_and_a_slice_have_masks_of_their_own_shape(predictor):
    volume, lone = predictor(WHOLE), predictor(WHOLE[0])
    assert volume.shape == WHOLE.shape[:-1]
    assert lone.shape == SHAPE
    assert overlap(lone > 0, disc()) > 0.9
    # Two slices alike have the intensities of one.
    np.testing.assert_array_equal(volume, [lone, lone])
    np.testing.assert_array_equal(predictor(WHOLE.tolist()), volume)


def test_of_one_channel_the_axis_may_be_absent(single):
    volume = np.random.default_rng(0).random((3, 40, 50))
    expected = single(volume[..., np.newaxis])
    assert expected.shape == volume.shape
    np.testing.assert_array_equal(single(volume), expected)
    np.testing.assert_array_equal(single(volume[0]), single(volume[0][..., np.newaxis]))
    assert single(volume[0]).shape == (40, 50)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (WHOLE[0, :, :, 0], r"shape \(slices, height, width, 3\).*T1, FLAIR, T1ce\. Received: \("),
        (WHOLE[..., :2], r"shape \(slices, height, width, 3\)"),
        (WHOLE[:0], r"Received: \(0, "),
        (WHOLE[np.newaxis], r"shape \(slices, height, width, 3\)"),
        (WHOLE.astype(str), r"Images are numbers\. Received: an array of <U"),
        (WHOLE[:, :8, :8], "The array has 8 x 8 pixels"),
        (np.where(WHOLE > 100, np.nan, WHOLE), "The array holds NaN"),
        (np.ones(WHOLE.shape), "nothing to see"),
    ],
)
def test_other_arrays_are_refused_in_words(images, message, predictor):
    with pytest.raises(InputError, match=message):
        predictor(images)


@pytest.mark.parametrize("method", ["probabilities", "both_ways", "attention"])
@pytest.mark.parametrize("images", [WHOLE[0], WHOLE[..., :1]])
def test_the_methods_want_slices_with_channels(method, images, predictor):
    with pytest.raises(InputError, match=r"Received: \("):
        getattr(predictor, method)(images)


def test_preprocess_input_is_what_a_network_sees():
    images = np.full((1, 20, 20, 1), 10.0)
    images[:, 5:15, 5:15] = 60
    # Background 10 becomes 0, tissue 60 becomes 1.
    np.testing.assert_allclose(preprocess_input(images), (images - 10) / 50, atol=1e-6)
    assert preprocess_input(images[:, :, :16], size=32).shape == (1, 32, 32, 1)
    with pytest.raises(InputError, match=r"Received: \(20, 20\)"):
        preprocess_input(images[0, :, :, 0])
